/* The frame of an AVX2 micro-kernel. 16 registers do not hold 6 x 64 sums: a tile is walked in parts of `width`
 * registers of columns, each part over all steps of k, so that the additions of one (row, column) keep their order.
 * `rows` and `width` are constants in each instance (gw_micro_dispatch), so that the array becomes registers.
 *
 *     rows    width  registers of sums
 *     1       8      8    a whole tile: what is bound by reading w reads it in order
 *     2, 3    4      8, 12
 *     4 .. 6  2      8 .. 12, + 2 of w + x
 *
 * 8 sums at least: two fused multiply-adds a cycle, each 4 cycles long.
 *
 * Owner: registers. Thread: safe. Units: elements; width: registers of 8 columns. Errors: none. Source: own
 * design. */
#ifndef GW_KERNELS_CPU_MICRO_AVX2_H
#define GW_KERNELS_CPU_MICRO_AVX2_H

#include "kernels/cpu/matmul.h"
#include "kernels/cpu/simd.h"

#define GW_MICRO_WIDTH_MAX 8u

struct gw_micro_acc {
    __m256 v[GW_MICRO_ROWS][GW_MICRO_WIDTH_MAX];
};

GW_INLINE void gw_micro_zero(struct gw_micro_acc *acc, const uint32_t rows, const uint32_t width)
{
#pragma GCC unroll 6
    for (uint32_t r = 0; r < rows; r++)
#pragma GCC unroll 8
        for (uint32_t j = 0; j < width; j++) acc->v[r][j] = _mm256_setzero_ps();
}

/* cols: of this part, as many as there are; may be more than its width. */
GW_INLINE void gw_micro_load(struct gw_micro_acc *acc, const float *y, size_t y_stride, const uint32_t rows,
                             const uint32_t width, uint32_t cols)
{
    bool whole = cols >= 8 * width;
#pragma GCC unroll 6
    for (uint32_t r = 0; r < rows; r++)
#pragma GCC unroll 8
        for (uint32_t j = 0; j < width; j++) {
            const float *from = y + r * y_stride + 8 * j;
            acc->v[r][j] =
                whole ? _mm256_loadu_ps(from) : _mm256_maskload_ps(from, gw_mask8((int)cols - (int)(8 * j)));
        }
}

GW_INLINE void gw_micro_store(const struct gw_micro_acc *acc, float *y, size_t y_stride, const uint32_t rows,
                              const uint32_t width, uint32_t cols)
{
    bool whole = cols >= 8 * width;
#pragma GCC unroll 6
    for (uint32_t r = 0; r < rows; r++)
#pragma GCC unroll 8
        for (uint32_t j = 0; j < width; j++) {
            float *to = y + r * y_stride + 8 * j;
            if (whole)
                _mm256_storeu_ps(to, acc->v[r][j]);
            else
                _mm256_maskstore_ps(to, gw_mask8((int)cols - (int)(8 * j)), acc->v[r][j]);
        }
}

/* 8 columns of w as f32; constants: what it needs, in memory. */
typedef __m256 gw_micro_take_fn(const float *w, const void *constants);

/* acc[r] += x[r] * w for the part's columns; x: one f32 per row of the panel. Whichever is fewer stays in registers
 * for the other. */
GW_INLINE void gw_micro_fma(struct gw_micro_acc *acc, const float *x, const float *w, gw_micro_take_fn *take,
                            const void *constants, const uint32_t rows, const uint32_t width)
{
    if (rows < width) {
        __m256 xs[GW_MICRO_ROWS];
#pragma GCC unroll 6
        for (uint32_t r = 0; r < rows; r++) xs[r] = _mm256_broadcast_ss(x + r * GW_PANEL_STRIDE);
#pragma GCC unroll 8
        for (uint32_t j = 0; j < width; j++) {
            __m256 wj = take(w + 8 * j, constants);
#pragma GCC unroll 6
            for (uint32_t r = 0; r < rows; r++) acc->v[r][j] = _mm256_fmadd_ps(xs[r], wj, acc->v[r][j]);
        }
        return;
    }
    __m256 ws[GW_MICRO_WIDTH_MAX];
#pragma GCC unroll 8
    for (uint32_t j = 0; j < width; j++) ws[j] = take(w + 8 * j, constants);
#pragma GCC unroll 6
    for (uint32_t r = 0; r < rows; r++) {
        __m256 xr = _mm256_broadcast_ss(x + r * GW_PANEL_STRIDE);
#pragma GCC unroll 8
        for (uint32_t j = 0; j < width; j++) acc->v[r][j] = _mm256_fmadd_ps(xr, ws[j], acc->v[r][j]);
    }
}

/* All steps of k for one part; w: the part's columns of the first step. */
typedef void gw_micro_steps_fn(struct gw_micro_acc *acc, const uint32_t rows, const uint32_t width,
                               const float *x, const float *w, uint32_t steps);

GW_INLINE void gw_micro_parts(gw_micro_steps_fn *body, const uint32_t rows, const uint32_t width, float *y,
                              size_t y_stride, uint32_t cols, const void *panel, const void *w,
                              uint32_t steps, bool first)
{
    for (uint32_t c = 0; c < cols; c += 8 * width) {
        struct gw_micro_acc acc;
        if (first)
            gw_micro_zero(&acc, rows, width);
        else
            gw_micro_load(&acc, y + c, y_stride, rows, width, cols - c);
        body(&acc, rows, width, panel, (const float *)w + c, steps); /* a column is 4 bytes of a step */
        gw_micro_store(&acc, y + c, y_stride, rows, width, cols - c);
    }
}

GW_INLINE void gw_micro_dispatch(gw_micro_steps_fn *body, float *y, size_t y_stride, uint32_t rows,
                                 uint32_t cols, const void *panel, const void *w, uint32_t steps, bool first)
{
    switch (rows) {
    case 1: gw_micro_parts(body, 1, 8, y, y_stride, cols, panel, w, steps, first); return;
    case 2: gw_micro_parts(body, 2, 4, y, y_stride, cols, panel, w, steps, first); return;
    case 3: gw_micro_parts(body, 3, 4, y, y_stride, cols, panel, w, steps, first); return;
    case 4: gw_micro_parts(body, 4, 2, y, y_stride, cols, panel, w, steps, first); return;
    case 5: gw_micro_parts(body, 5, 2, y, y_stride, cols, panel, w, steps, first); return;
    default: gw_micro_parts(body, 6, 2, y, y_stride, cols, panel, w, steps, first);
    }
}

#endif
