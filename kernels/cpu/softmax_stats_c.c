#include "kernels/cpu/softmax_stats.h"

#include "kernels/cpu/variants.h"

static struct gw_softmax_part share_stats(const float *logits, uint32_t len)
{
    float lanes[GW_LANES];
    for (int i = 0; i < GW_LANES; i++) lanes[i] = -FLT_MAX;
    for (uint32_t i = 0; i < len; i++) lanes[i % GW_LANES] = gw_max_c(lanes[i % GW_LANES], logits[i]);
    float max = gw_fold_max_c(lanes);
    for (int i = 0; i < GW_LANES; i++) lanes[i] = 0.0f;
    for (uint32_t i = 0; i < len; i++) lanes[i % GW_LANES] += gw_expf(logits[i] - max);
    return (struct gw_softmax_part){.max = max, .sum = gw_fold_sum_c(lanes)};
}

static void rows(const void *arg, void *scratch, size_t first, size_t last)
{
    (void)scratch;
    gw_softmax_rows(arg, first, last, share_stats);
}

void gw_cpu_softmax_stats_c(struct gw_device *dev, const float *logits, uint32_t m, uint32_t vocab,
                            uint32_t shares, float *out_max, float *out_sum)
{
    assert(shares >= 1 && shares <= GW_SHARES_MAX);
    struct gw_softmax_job job = {logits, vocab, shares, out_max, out_sum};
    gw_device_parallel(dev, rows, &job, m, 40.0 * vocab);
}
