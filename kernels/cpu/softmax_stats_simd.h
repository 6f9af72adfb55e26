/* Softmax statistics of one share in 16 lanes, for the instruction set that the including file is compiled for.
 *
 * Owner: all memory is the caller's. Thread: safe. Units: elements. Errors: none. Source:
 * kernels/cpu/softmax_stats.h. */
#ifndef GW_KERNELS_CPU_SOFTMAX_STATS_SIMD_H
#define GW_KERNELS_CPU_SOFTMAX_STATS_SIMD_H

#include "kernels/cpu/simd.h"
#include "kernels/cpu/softmax_stats.h"

static struct gw_softmax_part gw_share_stats16(const float *logits, uint32_t len)
{
    gw_v16 max16 = gw_set16(-FLT_MAX);
    for (uint32_t i = 0; i < len; i += 16) {
        uint32_t n = gw_block_lanes(len, i);
        max16 = gw_first16(gw_max16(max16, gw_load16(logits, GW_F32, i, n)), n, max16);
    }
    float max = gw_fold_max16(max16);
    gw_v16 sum16 = gw_set16(0.0f);
    for (uint32_t i = 0; i < len; i += 16) {
        uint32_t n = gw_block_lanes(len, i);
        gw_v16 e = gw_expf16(gw_sub16(gw_load16(logits, GW_F32, i, n), gw_set16(max)));
        sum16 = gw_first16(gw_add16(sum16, e), n, sum16);
    }
    return (struct gw_softmax_part){.max = max, .sum = gw_fold_sum16(sum16)};
}

#endif
