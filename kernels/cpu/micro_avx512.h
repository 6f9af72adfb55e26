/* The frame of a 6 x 64 micro-kernel: accumulators in registers, `step` does one step of k for all of them.
 * `rows` is a constant in each instance (gw_micro_dispatch), so that the arrays become registers.
 *
 * Owner: registers. Thread: safe. Units: elements. Errors: none. Source: own design. */
#ifndef GW_KERNELS_CPU_MICRO_AVX512_H
#define GW_KERNELS_CPU_MICRO_AVX512_H

#include "kernels/cpu/matmul.h"
#include "kernels/cpu/simd.h"

struct gw_micro_acc {
    __m512 v[GW_MICRO_ROWS][4];
};

/* Columns of quarter j that exist. */
GW_INLINE __mmask16 gw_quarter_mask(uint32_t cols, uint32_t j)
{
    uint32_t from = 16 * j;
    uint32_t left = cols <= from ? 0 : cols - from;
    return gw_lanes_mask(left < 16 ? left : 16);
}

GW_INLINE void gw_micro_load(struct gw_micro_acc *acc, const float *y, size_t y_stride, const uint32_t rows,
                             uint32_t cols, bool first)
{
#pragma GCC unroll 6
    for (uint32_t r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (uint32_t j = 0; j < 4; j++)
            acc->v[r][j] = first ? _mm512_setzero_ps()
                                 : _mm512_maskz_loadu_ps(gw_quarter_mask(cols, j), y + r * y_stride + 16 * j);
}

GW_INLINE void gw_micro_store(const struct gw_micro_acc *acc, float *y, size_t y_stride, const uint32_t rows,
                              uint32_t cols)
{
#pragma GCC unroll 6
    for (uint32_t r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (uint32_t j = 0; j < 4; j++)
            _mm512_mask_storeu_ps(y + r * y_stride + 16 * j, gw_quarter_mask(cols, j), acc->v[r][j]);
}

/* acc[r] += x[r] * w for 64 columns; x: one f32 per row of the panel. */
GW_INLINE void gw_micro_fma(struct gw_micro_acc *acc, const float *x, const __m512 w[4], const uint32_t rows)
{
#pragma GCC unroll 6
    for (uint32_t r = 0; r < rows; r++) {
        __m512 xr = _mm512_set1_ps(x[r * GW_PANEL_STRIDE]);
#pragma GCC unroll 4
        for (uint32_t j = 0; j < 4; j++) acc->v[r][j] = _mm512_fmadd_ps(xr, w[j], acc->v[r][j]);
    }
}

typedef void gw_micro_rows_fn(float *y, size_t y_stride, const uint32_t rows, uint32_t cols,
                              const void *panel, const void *w, uint32_t steps, bool first);

GW_INLINE void gw_micro_dispatch(gw_micro_rows_fn *body, float *y, size_t y_stride, uint32_t rows,
                                 uint32_t cols, const void *panel, const void *w, uint32_t steps, bool first)
{
    switch (rows) {
    case 1: body(y, y_stride, 1, cols, panel, w, steps, first); return;
    case 2: body(y, y_stride, 2, cols, panel, w, steps, first); return;
    case 3: body(y, y_stride, 3, cols, panel, w, steps, first); return;
    case 4: body(y, y_stride, 4, cols, panel, w, steps, first); return;
    case 5: body(y, y_stride, 5, cols, panel, w, steps, first); return;
    default: body(y, y_stride, 6, cols, panel, w, steps, first);
    }
}

#endif
