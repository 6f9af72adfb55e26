/* A register of 8 pairs of bf16 as two of f32: the odd elements by masking, the even ones by a shuffle of bytes (a shift would take
 * the multiply-adds' ports).
 *
 * Owner: constants. Thread: safe. Units: elements. Errors: none. Source: own design. */
#ifndef GW_KERNELS_CPU_PAIRS_AVX2_H
#define GW_KERNELS_CPU_PAIRS_AVX2_H

#include "kernels/cpu/simd.h"

/* Which bits are the odd elements', and which bytes make the even ones. */
struct gw_pairs {
    _Alignas(32) uint32_t odd[8];
    int8_t even[32];
};

#define GW_PAIRS_EVENS -1, -1, 0, 1, -1, -1, 4, 5, -1, -1, 8, 9, -1, -1, 12, 13
#define GW_PAIRS_ODDS  0xFFFF0000u, 0xFFFF0000u, 0xFFFF0000u, 0xFFFF0000u
static const struct gw_pairs gw_pairs_avx2 = {.odd = {GW_PAIRS_ODDS, GW_PAIRS_ODDS},
                                              .even = {GW_PAIRS_EVENS, GW_PAIRS_EVENS}};

GW_INLINE __m256 gw_take_odd(const float *w, const void *constants)
{
    const struct gw_pairs *c = constants;
    return _mm256_and_ps(_mm256_load_ps(w), _mm256_load_ps((const float *)c->odd));
}

GW_INLINE __m256 gw_take_even(const float *w, const void *constants)
{
    const struct gw_pairs *c = constants;
    __m256i order = _mm256_loadu_si256((const __m256i_u *)c->even);
    return _mm256_castsi256_ps(_mm256_shuffle_epi8(_mm256_castps_si256(_mm256_load_ps(w)), order));
}

#endif
