/* RoPE of one head, and what comes before it, in 16 lanes, for the instruction set that the including file is compiled for.
 *
 * Owner: all memory is the caller's. Thread: safe. Units: elements. Errors: none. Source:
 * kernels/cpu/rope_append.h. */
#ifndef GW_KERNELS_CPU_ROPE_APPEND_SIMD_H
#define GW_KERNELS_CPU_ROPE_APPEND_SIMD_H

#include "kernels/cpu/rope_append.h"
#include "kernels/cpu/simd.h"

static void gw_rope_rotate16(void *out, enum gw_dtype type, const float *x, const float *cos_sin,
                             uint32_t half)
{
    for (uint32_t i = 0; i < half; i += 16) {
        uint32_t n = gw_block_lanes(half, i);
        gw_v16 a = gw_load16(x, GW_F32, i, n), b = gw_load16(x, GW_F32, half + i, n), c, s;
        gw_unzip16(cos_sin + 2 * (size_t)i, n, &c, &s);
        gw_store16(out, type, i, n, gw_fms16(a, c, gw_mul16(b, s)));
        gw_store16(out, type, half + i, n, gw_fma16(b, c, gw_mul16(a, s)));
    }
}

static void gw_rope_prepare16(float *x, const float *bias, const float *norm, float eps, uint32_t len)
{
    gw_v16 sum = gw_set16(0.0f);
    for (uint32_t i = 0; bias && i < len; i += 16) {
        uint32_t n = gw_block_lanes(len, i);
        gw_store16(x, GW_F32, i, n, gw_add16(gw_load16(x, GW_F32, i, n), gw_load16(bias, GW_F32, i, n)));
    }
    if (!norm) return;
    for (uint32_t i = 0; i < len; i += 16) {
        gw_v16 v = gw_load16(x, GW_F32, i, gw_block_lanes(len, i));
        sum = gw_fma16(v, v, sum);
    }
    gw_v16 inverse = gw_set16(gw_rms_inverse(gw_fold_sum16(sum), len, eps));
    for (uint32_t i = 0; i < len; i += 16) {
        uint32_t n = gw_block_lanes(len, i);
        gw_v16 v = gw_mul16(gw_load16(x, GW_F32, i, n), inverse);
        gw_store16(x, GW_F32, i, n, gw_mul16(v, gw_load16(norm, GW_F32, i, n)));
    }
}

static void gw_rope_store16(void *out, enum gw_dtype type, const float *x, uint32_t len)
{
    for (uint32_t i = 0; i < len; i += 16) {
        uint32_t n = gw_block_lanes(len, i);
        gw_store16(out, type, i, n, gw_load16(x, GW_F32, i, n));
    }
}

#endif
