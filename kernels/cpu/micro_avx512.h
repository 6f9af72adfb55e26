/* The frame of a 6 x 64 micro-kernel: accumulators in registers, `step` does one step of k for all of them.
 * `rows` is a constant in each instance (gw_micro_dispatch), so that the arrays become registers.
 *
 * Owner: registers. Thread: safe. Units: elements. Errors: none. Source: own design. */
#ifndef GW_KERNELS_CPU_MICRO_AVX512_H
#define GW_KERNELS_CPU_MICRO_AVX512_H

#include "kernels/cpu/matmul.h"
#include "kernels/cpu/simd.h"

/* Where the w that a micro-kernel multiplies comes from, and what is asked for meanwhile. */
enum gw_ahead {
    GW_AHEAD_NEAR,  /* from L2 */
    GW_AHEAD_FAR,   /* from L2; what is multiplied later is brought there from memory */
    GW_AHEAD_HERE,  /* from L1, likewise: a line in each step */
    GW_AHEAD_FRESH, /* from memory */
};

/* How many steps ahead w is asked for. From L2, which takes 14 cycles, 8 are 50-100 cycles, 12 of few rows likewise. From memory in
 * two goes, to L2 and from there to L1: asked for at L1 alone, a line keeps one of the few buffers of L1's misses for as long as
 * memory takes, and x and w wait for one. On one core of a Xeon with AMX bf16 is 4% (1 row) to 14% (4 and 6 rows) faster so than by
 * 12 steps to L1, int8 of 1 row 5-23%; 12 and 4, 16 and 4, 14 and 6 are as good. */
#define GW_MICRO_NEAR       8u
#define GW_MICRO_NEAR_FEW   12u
#define GW_MICRO_NEAR_FRESH 4u
#define GW_MICRO_FAR_FRESH  14u

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

struct gw_micro_masks {
    __mmask16 of[4];
};

GW_INLINE struct gw_micro_masks gw_micro_masks(uint32_t cols)
{
    struct gw_micro_masks m;
#pragma GCC unroll 4
    for (uint32_t j = 0; j < 4; j++) m.of[j] = gw_quarter_mask(cols, j);
    return m;
}

GW_INLINE void gw_micro_zero(struct gw_micro_acc *acc, const uint32_t rows)
{
#pragma GCC unroll 6
    for (uint32_t r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (uint32_t j = 0; j < 4; j++) acc->v[r][j] = _mm512_setzero_ps();
}

/* Quarters of rows of sums, from and to memory. All are `whole` but those of a last tile: a load by mask takes a port of the
 * multiply-adds. */
GW_INLINE __m512 gw_micro_get(const float *y, __mmask16 mask, const bool whole)
{
    return whole ? _mm512_loadu_ps(y) : _mm512_maskz_loadu_ps(mask, y);
}

GW_INLINE void gw_micro_set(float *y, __mmask16 mask, __m512 sums, const bool whole)
{
    if (whole)
        _mm512_storeu_ps(y, sums);
    else
        _mm512_mask_storeu_ps(y, mask, sums);
}

/* The sums of the blocks of k before. */
GW_INLINE void gw_micro_load(struct gw_micro_acc *acc, const struct gw_place *p, const uint32_t rows)
{
    const struct gw_micro_masks mask = gw_micro_masks(p->cols);
    const float *y = gw_sums_at(&p->sink->partial, p);
    const size_t stride = p->sink->partial.stride;
#pragma GCC unroll 6
    for (uint32_t r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (uint32_t j = 0; j < 4; j++)
            acc->v[r][j] = _mm512_maskz_loadu_ps(mask.of[j], y + r * stride + 16 * j);
}

GW_INLINE void gw_micro_add(struct gw_micro_acc *acc, const struct gw_place *p, const uint32_t rows,
                            const struct gw_micro_masks *mask, const bool whole)
{
    for (uint32_t i = 0; i < p->sink->adds_len; i++) {
        const float *y = gw_sums_at(&p->sink->adds[i], p);
        const size_t stride = p->sink->adds[i].stride;
#pragma GCC unroll 6
        for (uint32_t r = 0; r < rows; r++)
#pragma GCC unroll 4
            for (uint32_t j = 0; j < 4; j++)
                acc->v[r][j] =
                    _mm512_add_ps(gw_micro_get(y + r * stride + 16 * j, mask->of[j], whole), acc->v[r][j]);
    }
}

/* By the columns' scales, of fp8 weights. */
GW_INLINE void gw_micro_scale(struct gw_micro_acc *acc, const float *scale, const uint32_t rows)
{
#pragma GCC unroll 4
    for (uint32_t j = 0; j < 4; j++) {
        __m512 of_w = _mm512_load_ps(scale + 16 * j);
#pragma GCC unroll 6
        for (uint32_t r = 0; r < rows; r++) acc->v[r][j] = _mm512_mul_ps(acc->v[r][j], of_w);
    }
}

GW_INLINE void gw_micro_put(struct gw_micro_acc *acc, const struct gw_place *p, const uint32_t rows,
                            const bool whole)
{
    const struct gw_micro_masks mask = gw_micro_masks(p->cols);
    const struct gw_sums *to = gw_place_to(p);
    float *y = gw_sums_at(to, p);
    const size_t stride = to->stride;
    if (p->last && p->scale) gw_micro_scale(acc, p->scale, rows);
    if (p->last) gw_micro_add(acc, p, rows, &mask, whole);
#pragma GCC unroll 6
    for (uint32_t r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (uint32_t j = 0; j < 4; j++)
            gw_micro_set(y + r * stride + 16 * j, mask.of[j], acc->v[r][j], whole);
}

GW_INLINE void gw_micro_begin(struct gw_micro_acc *acc, const struct gw_place *p, const uint32_t rows)
{
    if (p->first)
        gw_micro_zero(acc, rows);
    else
        gw_micro_load(acc, p, rows);
}

GW_INLINE void gw_micro_end(struct gw_micro_acc *acc, const struct gw_place *p, const uint32_t rows)
{
    if (p->cols == GW_TILE_N)
        gw_micro_put(acc, p, rows, true);
    else
        gw_micro_put(acc, p, rows, false);
}

/* What is asked for in each step. `next`: of what is multiplied later, or, where w comes from memory, of w itself. */
struct gw_micro_asked {
    const uint8_t *near, *next; /* to L1, to L2 */
    const uint8_t *end, *then;  /* behind the tile's last step comes `then` */
    uint32_t step;
};

/* Where one is so many steps behind the tile's first. */
GW_INLINE const uint8_t *gw_micro_at(const struct gw_micro_asked *a, const uint8_t *w, size_t steps)
{
    const uint8_t *at = w + steps * GW_STEP_BYTES;
    return at < a->end ? at : a->then + (at - a->end);
}

GW_INLINE struct gw_micro_asked gw_micro_ask(const struct gw_fetch *fetch, const void *first, uint32_t steps,
                                             const enum gw_ahead ahead)
{
    const uint8_t *w = first;
    struct gw_micro_asked a = {.end = w + (size_t)steps * GW_STEP_BYTES, .then = fetch->then};
    if (ahead == GW_AHEAD_FRESH) {
        a.near = gw_micro_at(&a, w, GW_MICRO_NEAR_FRESH);
        a.next = gw_micro_at(&a, w, GW_MICRO_FAR_FRESH);
        return a;
    }
    a.near = w + (ahead == GW_AHEAD_FAR ? GW_MICRO_NEAR : GW_MICRO_NEAR_FEW) * GW_STEP_BYTES;
    a.next = fetch->at ? fetch->at : w;
    a.step = fetch->at ? fetch->step : 0;
    return a;
}

GW_INLINE void gw_micro_fetch(struct gw_micro_asked *a, const enum gw_ahead ahead)
{
    static const uint32_t next_lines[] = {
        [GW_AHEAD_NEAR] = 0, [GW_AHEAD_HERE] = 1, [GW_AHEAD_FAR] = 2, [GW_AHEAD_FRESH] = 4};
    const uint32_t lines = next_lines[ahead], near_lines = ahead == GW_AHEAD_HERE ? 0 : 4;
#pragma GCC unroll 4
    for (uint32_t j = 0; j < lines; j++) _mm_prefetch(a->next + 64 * j, _MM_HINT_T1);
#pragma GCC unroll 4
    for (uint32_t j = 0; j < near_lines; j++) _mm_prefetch(a->near + 64 * j, _MM_HINT_T0);
    a->near += GW_STEP_BYTES;
    if (ahead == GW_AHEAD_FAR || ahead == GW_AHEAD_HERE) a->next += a->step;
    if (ahead != GW_AHEAD_FRESH) return;
    a->next += GW_STEP_BYTES;
    if (a->near == a->end) a->near = a->then;
    if (a->next == a->end) a->next = a->then;
}

/* Told by an intrinsic, gcc 12 moves sums from register to register, has too few, and keeps some in memory. */
GW_INLINE void gw_micro_fma_in_place(__m512 *sum, __m512 x, __m512 w)
{
    __asm__("vfmadd231ps %2, %1, %0" : "+v"(*sum) : "v"(x), "v"(w));
}

/* acc[r] += x[r] * w for 64 columns; x: one f32 per row of the panel. */
GW_INLINE void gw_micro_fma(struct gw_micro_acc *acc, const float *x, const size_t x_stride,
                            const __m512 w[4], const uint32_t rows)
{
#pragma GCC unroll 6
    for (uint32_t r = 0; r < rows; r++) {
        __m512 xr = _mm512_set1_ps(x[r * x_stride]);
#pragma GCC unroll 4
        for (uint32_t j = 0; j < 4; j++) gw_micro_fma_in_place(&acc->v[r][j], xr, w[j]);
    }
}

typedef void gw_micro_rows_fn(const void *tile, const uint32_t rows, const enum gw_ahead ahead);

GW_INLINE void gw_micro_dispatch_rows(gw_micro_rows_fn *body, const void *tile, uint32_t rows,
                                      const enum gw_ahead ahead)
{
    switch (rows) {
    case 1: body(tile, 1, ahead); return;
    case 2: body(tile, 2, ahead); return;
    case 3: body(tile, 3, ahead); return;
    case 4: body(tile, 4, ahead); return;
    case 5: body(tile, 5, ahead); return;
    default: body(tile, 6, ahead);
    }
}

GW_INLINE void gw_micro_dispatch(gw_micro_rows_fn *body, const void *tile, uint32_t rows,
                                 const struct gw_fetch *fetch)
{
    if (fetch->at)
        gw_micro_dispatch_rows(body, tile, rows, GW_AHEAD_FAR);
    else if (fetch->from == GW_FROM_MEMORY)
        gw_micro_dispatch_rows(body, tile, rows, GW_AHEAD_FRESH);
    else
        gw_micro_dispatch_rows(body, tile, rows, GW_AHEAD_NEAR);
}

#endif
