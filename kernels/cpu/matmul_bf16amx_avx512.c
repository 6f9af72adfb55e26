/* Products of cpu-bf16amx-1 with AVX-512F: TDPBF16PS as two fused multiply-adds for each pair, of the even elements and of the odd
 * ones into sums of their own.
 *
 * 6 rows by 32 columns of both fill 24 registers, so a tile is walked in halves, 32 k of each after the other: those k of w (4 KB)
 * are in L1 for the second half. The sums that they are folded into rest in memory meanwhile, in L1: an addition and a store for
 * every 32 multiply-adds. To 3 rows all 64 columns are done at once. */
#include "kernels/cpu/micro_avx512.h"

#include "kernels/cpu/matmul_bf16amx.h"
#include "kernels/cpu/matmul_fill.h"
#include "kernels/cpu/variants.h"

/* Even and odd sums of some rows and `width` registers of columns. */
struct pair_sums {
    __m512 even[GW_MICRO_ROWS][4], odd[GW_MICRO_ROWS][4];
};

GW_INLINE void add_step(struct pair_sums *s, const float *x, const uint32_t *w, const uint32_t rows,
                        const uint32_t width, const __m512i odd_half)
{
    __m512 wv[4];
#pragma GCC unroll 4
    for (uint32_t j = 0; j < width; j++)
        wv[j] = _mm512_castsi512_ps(_mm512_and_si512(_mm512_load_si512(w + 16 * j), odd_half));
#pragma GCC unroll 6
    for (uint32_t r = 0; r < rows; r++) {
        __m512 xr = _mm512_set1_ps(x[r * GW_PANEL_STRIDE + 1]);
#pragma GCC unroll 4
        for (uint32_t j = 0; j < width; j++) gw_micro_fma_in_place(&s->odd[r][j], xr, wv[j]);
    }
    /* Nothing, but the compiler cannot know: else it takes both halves at once, and keeps sums in memory. */
    __asm__("" : "+r"(w), "+r"(x));
#pragma GCC unroll 4
    for (uint32_t j = 0; j < width; j++)
        wv[j] = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_load_si512(w + 16 * j), 16));
#pragma GCC unroll 6
    for (uint32_t r = 0; r < rows; r++) {
        __m512 xr = _mm512_set1_ps(x[r * GW_PANEL_STRIDE]);
#pragma GCC unroll 4
        for (uint32_t j = 0; j < width; j++) gw_micro_fma_in_place(&s->even[r][j], xr, wv[j]);
    }
}

/* `steps` steps, 16 at most, of columns from 16 * `from` on; folded into acc. */
GW_INLINE void add_block(struct gw_micro_acc *acc, const float *x, const uint32_t *w, uint32_t steps,
                         struct gw_micro_asked *asked, const uint32_t rows, const uint32_t from,
                         const uint32_t width, const enum gw_ahead ahead)
{
    const __m512i odd_half = _mm512_set1_epi32((int)0xFFFF0000u);
    const __m512 zero = _mm512_setzero_ps();
    struct pair_sums s;
#pragma GCC unroll 6
    for (uint32_t r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (uint32_t j = 0; j < width; j++) s.even[r][j] = s.odd[r][j] = _mm512_setzero_ps();
    for (uint32_t i = 0; i < steps; i++, x += 2, w += GW_TILE_N) {
        if (from == 0) gw_micro_fetch(asked, ahead);
        add_step(&s, x, w + 16 * from, rows, width, odd_half);
    }
    const bool rest = steps < GW_FOLD_STEPS;
#pragma GCC unroll 6
    for (uint32_t r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (uint32_t j = 0; j < width; j++) {
            __m512 even = s.even[r][j], odd = s.odd[r][j];
            if (rest) even = _mm512_add_ps(even, zero), odd = _mm512_add_ps(odd, zero);
            acc->v[r][from + j] = _mm512_add_ps(acc->v[r][from + j], _mm512_add_ps(even, odd));
        }
}

GW_INLINE void micro_rows(const void *tile, const uint32_t rows, const enum gw_ahead ahead)
{
    const struct gw_micro_tile *t = tile;
    struct gw_micro_asked asked = gw_micro_ask(&t->fetch, t->w, t->steps, ahead);
    struct gw_micro_acc acc;
    gw_micro_begin(&acc, &t->place, rows);
    const float *x = t->x;
    const uint32_t *w = t->w;
    for (uint32_t done = 0; done < t->steps; done += GW_FOLD_STEPS) {
        const uint32_t left = t->steps - done, steps = left < GW_FOLD_STEPS ? left : GW_FOLD_STEPS;
        if (rows > 3) {
            add_block(&acc, x, w, steps, &asked, rows, 0, 2, ahead);
            add_block(&acc, x, w, steps, &asked, rows, 2, 2, ahead);
        } else {
            add_block(&acc, x, w, steps, &asked, rows, 0, 4, ahead);
        }
        x += 2 * GW_FOLD_STEPS;
        w += GW_FOLD_STEPS * GW_TILE_N;
    }
    gw_micro_end(&acc, &t->place, rows);
}

static void micro(const struct gw_micro_tile *tile, uint32_t rows)
{
    gw_micro_dispatch(micro_rows, tile, rows, &tile->fetch);
}

const struct gw_matmul_kernel gw_bf16amx_avx512 = {
    .act = GW_BF16, .k_per_step = 2, .fma_ns = 0.016, .fill = gw_fill_bf16_16, .micro = micro};

GW_MATMUL_OPERATIONS(bf16amx_avx512, &gw_bf16amx_avx512)
