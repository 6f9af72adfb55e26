/* Keyed random numbers: what a sampler draws for (seed, branch, position, token id), without any state.
 *
 * A 64-bit mix of the first three is the start of a splitmix64 stream, of which each token id takes its own
 * element. u = (52 bits + 1/2) / 2^52 lies in (0, 1) and is exact; -ln(-ln u) is a Gumbel variate, and the id
 * with the largest logit + variate is a draw from the softmax (the Gumbel-max trick).
 *
 * Owner: plain values. Thread: any. Errors: none. Source: Gumbel 1954; splitmix64, Steele et al. 2014. */
#ifndef GW_KERNELS_KEYED_RANDOM_H
#define GW_KERNELS_KEYED_RANDOM_H

#include "base/hash.h"
#include "kernels/vmath.h"

#define GW_KEYED_STEP 0x9E3779B97F4A7C15u /* splitmix64's */
#define GW_KEYED_BITS 52
#define GW_LN2        0.6931471805599453

/* Start of the stream of one draw. */
static inline uint64_t gw_keyed_stream(uint64_t seed, uint32_t branch, uint32_t position)
{
    return gw_mix64(gw_mix64(gw_mix64(seed) + branch) + position);
}

/* gw_mix64, for devices too. */
GW_BOTH static inline uint64_t gw_keyed_mix(uint64_t x)
{
    x += GW_KEYED_STEP;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

/* GW_KEYED_BITS random bits for one id. */
GW_BOTH static inline uint64_t gw_keyed_bits(uint64_t stream, uint32_t id)
{
    return gw_keyed_mix(stream + id * GW_KEYED_STEP) >> (64 - GW_KEYED_BITS);
}

GW_BOTH static inline double gw_gumbel(uint64_t bits)
{
    double u = ((double)bits + 0.5) * 0x1p-52;
    return -gw_log(-gw_log(u));
}

/* What the draw compares: logit / temperature + Gumbel variate. The product is exact in f64, so a rank needs nobody else's
 * largest logit to give its tokens' scores. */
GW_BOTH static inline double gw_keyed_score(float logit, float inverse, uint64_t stream, uint32_t id)
{
    return (double)logit * (double)inverse + gw_gumbel(gw_keyed_bits(stream, id));
}

/* Most ids cannot win, and two logarithms each are too dear to find out. With c = 2^52 - 1 - bits,
 *
 *     -ln(-ln u) <= -ln(1 - u) = -ln((c + 1/2) / 2^52) <= (52 - shift) ln 2   if c >= 2^shift,
 *
 * so an id of logit z stays below `best` if c >= 2^shift for shift = 53 - floor((best - z) / ln 2): what is left over
 * is at least one ln 2, far more than f32 rounds away. (best - z) / ln 2 is clamped to [1, 53]; a shift of 52 excludes
 * nobody. z and best may be relative to any common value. */
#define GW_GUMBEL_STEPS_MAX 53.0f
#define GW_GUMBEL_STEPS_MIN 1.0f

GW_BOTH static inline uint8_t gw_gumbel_shift(float z, float best)
{
    float steps = (best - z) * (float)(1 / GW_LN2);
    steps = steps < GW_GUMBEL_STEPS_MAX ? steps : GW_GUMBEL_STEPS_MAX; /* NaN too */
    steps = steps > GW_GUMBEL_STEPS_MIN ? steps : GW_GUMBEL_STEPS_MIN;
    return (uint8_t)(53 - (int)steps);
}

GW_BOTH static inline bool gw_gumbel_hopeless(uint64_t bits, uint8_t shift)
{
    return (((UINT64_C(1) << GW_KEYED_BITS) - 1 - bits) >> shift) != 0;
}

#endif
