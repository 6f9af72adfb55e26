/* Softmax statistics: maximum and sum of e^(logit - maximum) of a row. What its variants share.
 *
 * Each vocabulary share has its own (max, sum), over 16 virtual lanes counted from the share's start; then
 * the tree over shares merges pairs: M = max(a, b), sum = fma(sum_a, e^(max_a - M), sum_b e^(max_b - M)). So
 * a rank needs nobody else's maximum to begin. A logit of -inf counts nothing; a share without any is
 * (-FLT_MAX, 0). Shapes: logits [m, vocab] f32, out_max [m], out_sum [m].
 *
 * Owner: all memory is the caller's. Thread: rows are independent. Units: elements. Errors: none; shares
 * are asserted. Source: own design, after Milakov & Gimelshein 2018. */
#ifndef GW_KERNELS_CPU_SOFTMAX_STATS_H
#define GW_KERNELS_CPU_SOFTMAX_STATS_H

#include <assert.h>
#include <float.h>

#include "kernels/cpu/device.h"
#include "kernels/cpu/simd_c.h"
#include "kernels/vmath.h"

struct gw_softmax_job {
    const float *logits;
    uint32_t vocab, shares;
    float *out_max, *out_sum;
};

struct gw_softmax_part {
    float max, sum;
};

static inline uint32_t gw_share_start(uint32_t vocab, uint32_t shares, uint32_t share)
{
    return (uint32_t)((uint64_t)share * vocab / shares);
}

static inline struct gw_softmax_part gw_softmax_merge(struct gw_softmax_part a, struct gw_softmax_part b)
{
    float max = gw_max_c(a.max, b.max);
    float sum = fmaf(a.sum, gw_expf(a.max - max), b.sum * gw_expf(b.max - max));
    return (struct gw_softmax_part){.max = max, .sum = sum};
}

/* One share in plain C. */
static inline struct gw_softmax_part gw_share_stats_c(const float *logits, uint32_t len)
{
    float lanes[GW_LANES];
    for (int i = 0; i < GW_LANES; i++) lanes[i] = -FLT_MAX;
    for (uint32_t i = 0; i < len; i++) lanes[i % GW_LANES] = gw_max_c(lanes[i % GW_LANES], logits[i]);
    float max = gw_fold_max_c(lanes);
    for (int i = 0; i < GW_LANES; i++) lanes[i] = 0.0f;
    for (uint32_t i = 0; i < len; i++) lanes[i % GW_LANES] += gw_expf(logits[i] - max);
    return (struct gw_softmax_part){.max = max, .sum = gw_fold_sum_c(lanes)};
}

/* Rows [first, last) with the variant's way to do one share. */
static inline void gw_softmax_rows(const struct gw_softmax_job *job, size_t first, size_t last,
                                   struct gw_softmax_part (*share)(const float *logits, uint32_t len))
{
    struct gw_softmax_part parts[GW_SHARES_MAX];
    for (size_t row = first; row < last; row++) {
        const float *logits = job->logits + row * job->vocab;
        for (uint32_t i = 0; i < job->shares; i++) {
            uint32_t start = gw_share_start(job->vocab, job->shares, i);
            parts[i] = share(logits + start, gw_share_start(job->vocab, job->shares, i + 1) - start);
        }
        for (uint32_t step = 1; step < job->shares; step *= 2)
            for (uint32_t i = 0; i + step < job->shares; i += 2 * step)
                parts[i] = gw_softmax_merge(parts[i], parts[i + step]);
        job->out_max[row] = parts[0].max + 0.0f; /* a denormal or -0 becomes 0 */
        job->out_sum[row] = parts[0].sum;
    }
}

#endif
