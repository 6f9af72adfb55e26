#include "kernels/cpu/softmax_stats.h"

#include "kernels/cpu/variants.h"

static void rows(const void *arg, void *scratch, size_t first, size_t last)
{
    (void)scratch;
    gw_softmax_rows(arg, first, last, gw_share_stats_c);
}

void gw_cpu_softmax_stats_c(struct gw_device *dev, const float *logits, uint32_t m, uint32_t vocab,
                            uint32_t shares, float *out_max, float *out_sum)
{
    assert(shares >= 1 && shares <= GW_SHARES_MAX);
    struct gw_softmax_job job = {logits, vocab, shares, out_max, out_sum};
    gw_device_parallel(dev, rows, &job, m, 40.0 * vocab);
}
