/* Filling the panel of a micro-kernel that multiplies in f32, for the instruction set that the including file is
 * compiled for.
 *
 * Owner: all memory is the caller's. Thread: safe. Units: elements. Errors: none. Source: kernels/cpu/matmul.h. */
#ifndef GW_KERNELS_CPU_MATMUL_FILL_H
#define GW_KERNELS_CPU_MATMUL_FILL_H

#include "kernels/cpu/matmul.h"
#include "kernels/cpu/simd.h"

/* bf16, widened. Rows of the panel have room for 16 words behind k: whole registers are stored, zeros behind the
 * last. */
static inline void gw_fill_bf16_16(void *panel, const void *x, size_t x_stride, uint32_t rows, uint32_t k_len)
{
    for (uint32_t r = 0; r < rows; r++) {
        float *to = (float *)panel + (size_t)r * GW_PANEL_STRIDE;
        const uint16_t *from = (const uint16_t *)x + r * x_stride;
        uint32_t i = 0;
        for (; i + 16 <= k_len; i += 16) gw_put16(to + i, gw_load16(from, GW_BF16, i, 16));
        gw_put16(to + i, gw_load16(from, GW_BF16, i, k_len - i));
    }
}

#endif
