#include "kernels/cpu/softmax_stats.h"

#include "kernels/cpu/simd_avx512.h"
#include "kernels/cpu/variants.h"

static struct gw_softmax_part share_stats(const float *logits, uint32_t len)
{
    __m512 max16 = _mm512_set1_ps(-FLT_MAX);
    for (uint32_t i = 0; i < len; i += 16) {
        __mmask16 mask = gw_lanes_mask(len - i < 16 ? len - i : 16);
        max16 = _mm512_mask_max_ps(max16, mask, max16, gw_load16(logits, GW_F32, i, mask));
    }
    float max = gw_fold_max16(max16);
    __m512 sum16 = _mm512_setzero_ps();
    for (uint32_t i = 0; i < len; i += 16) {
        __mmask16 mask = gw_lanes_mask(len - i < 16 ? len - i : 16);
        __m512 e = gw_expf16(_mm512_sub_ps(gw_load16(logits, GW_F32, i, mask), _mm512_set1_ps(max)));
        sum16 = _mm512_mask_add_ps(sum16, mask, sum16, e);
    }
    return (struct gw_softmax_part){.max = max, .sum = gw_fold_sum16(sum16)};
}

static void rows(const void *arg, void *scratch, size_t first, size_t last)
{
    (void)scratch;
    gw_softmax_rows(arg, first, last, share_stats);
}

void gw_cpu_softmax_stats_avx512(struct gw_device *dev, const float *logits, uint32_t m, uint32_t vocab,
                                 uint32_t shares, float *out_max, float *out_sum)
{
    assert(shares >= 1 && shares <= GW_SHARES_MAX);
    struct gw_softmax_job job = {logits, vocab, shares, out_max, out_sum};
    gw_device_parallel(dev, rows, &job, m, 1.0 * vocab);
}
