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
/* A fresh tile is walked in blocks of so many steps: 8 KB, this one and the next stay in L1. Read in parts from end to
 * end, it would come from memory in strides: at 4 rows, half the bandwidth. */
#define GW_MICRO_FRESH 32u
#define GW_MICRO_NEAR  8u /* steps; 50-100 cycles, L2 takes 14 */

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

/* Columns of a part, as many as there are: may be more than its width. */
GW_INLINE __m256 gw_micro_get8(const float *from, uint32_t cols, const uint32_t width, const uint32_t j)
{
    if (cols >= 8 * width) return _mm256_loadu_ps(from + 8 * j);
    return _mm256_maskload_ps(from + 8 * j, gw_mask8((int)cols - (int)(8 * j)));
}

/* The sums of the blocks of k before. */
GW_INLINE void gw_micro_load(struct gw_micro_acc *acc, const struct gw_place *p, const uint32_t rows,
                             const uint32_t width)
{
    const float *y = gw_sums_at(&p->sink->partial, p);
#pragma GCC unroll 6
    for (uint32_t r = 0; r < rows; r++, y += p->sink->partial.stride)
#pragma GCC unroll 8
        for (uint32_t j = 0; j < width; j++) acc->v[r][j] = gw_micro_get8(y, p->cols, width, j);
}

GW_INLINE void gw_micro_add(struct gw_micro_acc *acc, const struct gw_place *p, const uint32_t rows,
                            const uint32_t width)
{
    for (uint32_t i = 0; i < p->sink->adds_len; i++) {
        const float *y = gw_sums_at(&p->sink->adds[i], p);
#pragma GCC unroll 6
        for (uint32_t r = 0; r < rows; r++, y += p->sink->adds[i].stride)
#pragma GCC unroll 8
            for (uint32_t j = 0; j < width; j++)
                acc->v[r][j] = _mm256_add_ps(gw_micro_get8(y, p->cols, width, j), acc->v[r][j]);
    }
}

/* By the columns' scales, of fp8 weights. */
GW_INLINE void gw_micro_scale(struct gw_micro_acc *acc, const float *scale, const uint32_t rows,
                              const uint32_t width)
{
#pragma GCC unroll 8
    for (uint32_t j = 0; j < width; j++) {
        __m256 of_w = _mm256_load_ps(scale + 8 * j);
#pragma GCC unroll 6
        for (uint32_t r = 0; r < rows; r++) acc->v[r][j] = _mm256_mul_ps(acc->v[r][j], of_w);
    }
}

GW_INLINE void gw_micro_store(const struct gw_micro_acc *acc, const struct gw_place *p, const uint32_t rows,
                              const uint32_t width)
{
    const struct gw_sums *to = gw_place_to(p);
    float *y = gw_sums_at(to, p);
    bool whole = p->cols >= 8 * width;
#pragma GCC unroll 6
    for (uint32_t r = 0; r < rows; r++, y += to->stride)
#pragma GCC unroll 8
        for (uint32_t j = 0; j < width; j++)
            if (whole)
                _mm256_storeu_ps(y + 8 * j, acc->v[r][j]);
            else
                _mm256_maskstore_ps(y + 8 * j, gw_mask8((int)p->cols - (int)(8 * j)), acc->v[r][j]);
}

/* The sums of part of a place: columns from c on, of some of its steps. */
GW_INLINE struct gw_place gw_micro_place(const struct gw_place *whole, uint32_t c, bool first, bool last)
{
    struct gw_place p = *whole;
    p.col += c;
    p.cols -= c;
    if (p.scale) p.scale += c;
    p.first = whole->first && first;
    p.last = whole->last && last;
    return p;
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

/* Where w is fetched from memory or L2 into L1 before it is multiplied; each step of a part fetches as many lines as
 * it multiplies. */
struct gw_micro_ahead {
    const float *at;
    size_t step;
};

GW_INLINE void gw_micro_prefetch(struct gw_micro_ahead *ahead, const uint32_t width)
{
#pragma GCC unroll 4
    for (uint32_t line = 0; line < width / 2; line++) _mm_prefetch(ahead->at + 16 * line, _MM_HINT_T0);
    ahead->at += ahead->step;
}

/* `steps` steps of k for one part; x, w: of the first of them. */
typedef void gw_micro_steps_fn(struct gw_micro_acc *acc, const uint32_t rows, const uint32_t width,
                               const float *x, const float *w, uint32_t steps, struct gw_micro_ahead ahead);

/* Part c of steps [step, step + steps). In a fresh tile the parts of these steps together fetch the steps behind them,
 * in the order of memory; else each fetches its own, a little ahead. */
GW_INLINE void gw_micro_part(gw_micro_steps_fn *body, const uint32_t k_per_step,
                             const struct gw_micro_tile *t, const uint32_t rows, const uint32_t width,
                             uint32_t c, uint32_t step, uint32_t steps)
{
    struct gw_micro_acc acc;
    const struct gw_place p = gw_micro_place(&t->place, c, step == 0, step + steps == t->steps);
    const float *w = (const float *)t->w + (size_t)step * GW_TILE_N; /* a column is 4 bytes of a step */
    struct gw_micro_ahead near = {w + c + GW_MICRO_NEAR * GW_TILE_N, GW_TILE_N};
    struct gw_micro_ahead far = {w + (size_t)steps * GW_TILE_N + (size_t)c * steps, 8 * width};
    if (p.first)
        gw_micro_zero(&acc, rows, width);
    else
        gw_micro_load(&acc, &p, rows, width);
    body(&acc, rows, width, (const float *)t->x + (size_t)step * k_per_step, w + c, steps,
         t->fetch.from == GW_FROM_MEMORY ? far : near);
    if (p.last && p.scale) gw_micro_scale(&acc, p.scale, rows, width);
    if (p.last) gw_micro_add(&acc, &p, rows, width);
    gw_micro_store(&acc, &p, rows, width);
}

GW_INLINE void gw_micro_parts(gw_micro_steps_fn *body, const uint32_t k_per_step,
                              const struct gw_micro_tile *t, const uint32_t rows, const uint32_t width)
{
    uint32_t block = t->fetch.from == GW_FROM_MEMORY ? GW_MICRO_FRESH : t->steps;
    for (uint32_t step = 0; step < t->steps; step += block)
        for (uint32_t c = 0; c < t->place.cols; c += 8 * width)
            gw_micro_part(body, k_per_step, t, rows, width, c, step,
                          t->steps - step < block ? t->steps - step : block);
}

GW_INLINE void gw_micro_dispatch(gw_micro_steps_fn *body, const uint32_t k_per_step,
                                 const struct gw_micro_tile *tile, uint32_t rows)
{
    switch (rows) {
    case 1: gw_micro_parts(body, k_per_step, tile, 1, 8); return;
    case 2: gw_micro_parts(body, k_per_step, tile, 2, 4); return;
    case 3: gw_micro_parts(body, k_per_step, tile, 3, 4); return;
    case 4: gw_micro_parts(body, k_per_step, tile, 4, 2); return;
    case 5: gw_micro_parts(body, k_per_step, tile, 5, 2); return;
    default: gw_micro_parts(body, k_per_step, tile, 6, 2);
    }
}

#endif
