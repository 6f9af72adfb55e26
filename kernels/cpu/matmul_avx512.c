/* Products with AVX-512F. bf16 without the dot instruction: a register of 16 pairs is two of f32 (the odd
 * elements by masking, the even ones by shifting), and two fused multiply-adds do what VDPBF16PS does. */
#include "kernels/cpu/micro_avx512.h"

#include "kernels/cpu/matmul_fill.h"
#include "kernels/cpu/variants.h"
#include "kernels/cpu/widen_fp8.h"

GW_INLINE void micro_rows_f32(const void *tile, const uint32_t rows, const enum gw_ahead ahead)
{
    const struct gw_micro_tile *t = tile;
    struct gw_micro_asked asked = gw_micro_ask(&t->fetch, t->w, t->steps, ahead);
    struct gw_micro_acc acc;
    gw_micro_begin(&acc, &t->place, rows);
    const float *x = t->x, *ws = t->w;
    const size_t x_stride = t->x_stride;
    for (uint32_t s = 0; s < t->steps; s++, x++, ws += GW_TILE_N) {
        __m512 wv[4];
        gw_micro_fetch(&asked, ahead);
#pragma GCC unroll 4
        for (uint32_t j = 0; j < 4; j++) wv[j] = _mm512_load_ps(ws + 16 * j);
        gw_micro_fma(&acc, x, x_stride, wv, rows);
    }
    gw_micro_end(&acc, &t->place, rows);
}

GW_INLINE void micro_rows_bf16(const void *tile, const uint32_t rows, const enum gw_ahead ahead)
{
    const struct gw_micro_tile *t = tile;
    struct gw_micro_asked asked = gw_micro_ask(&t->fetch, t->w, t->steps, ahead);
    const __m512i odd = _mm512_set1_epi32((int)0xFFFF0000u);
    struct gw_micro_acc acc;
    gw_micro_begin(&acc, &t->place, rows);
    const float *x = t->x;
    const uint32_t *ws = t->w;
    for (uint32_t s = 0; s < t->steps; s++, x += 2, ws += GW_TILE_N) {
        __m512 wv[4];
        gw_micro_fetch(&asked, ahead);
#pragma GCC unroll 4
        for (uint32_t j = 0; j < 4; j++)
            wv[j] = _mm512_castsi512_ps(_mm512_and_si512(_mm512_load_si512(ws + 16 * j), odd));
        gw_micro_fma(&acc, x + 1, GW_PANEL_STRIDE, wv, rows);
        /* Nothing, but the compiler cannot know: else it takes both halves at once, and keeps sums in memory. */
        __asm__("" : "+r"(ws), "+r"(x));
#pragma GCC unroll 4
        for (uint32_t j = 0; j < 4; j++)
            wv[j] = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_load_si512(ws + 16 * j), 16));
        gw_micro_fma(&acc, x, GW_PANEL_STRIDE, wv, rows);
    }
    gw_micro_end(&acc, &t->place, rows);
}

static void micro_f32(const struct gw_micro_tile *tile, uint32_t rows)
{
    gw_micro_dispatch(micro_rows_f32, tile, rows, &tile->fetch);
}

static void micro_bf16(const struct gw_micro_tile *tile, uint32_t rows)
{
    gw_micro_dispatch(micro_rows_bf16, tile, rows, &tile->fetch);
}

static const struct gw_matmul_kernel kernel_f32 = {
    .act = GW_F32, .k_per_step = 1, .fma_ns = 0.015, .micro = micro_f32};
static const struct gw_matmul_kernel kernel_bf16 = {
    .act = GW_BF16, .k_per_step = 2, .fma_ns = 0.015, .fill = gw_fill_bf16_16, .micro = micro_bf16};

GW_MATMUL_OPERATIONS(f32_avx512, &kernel_f32)
GW_MATMUL_OPERATIONS(bf16_avx512, &kernel_bf16)

/* ---- fp8 weights ---- */

static void widen_f32(void *to, const uint8_t *from, uint32_t steps)
{
    gw_widen_fp8_f32(to, from, steps);
}

static const struct gw_matmul_kernel kernel_fp8_f32 = {
    .act = GW_F32, .k_per_step = 1, .fma_ns = 0.015, .micro = micro_f32, .widen = widen_f32};

static void widen_bf16(void *to, const uint8_t *from, uint32_t steps)
{
    gw_widen_fp8_bf16(to, from, steps);
}

static const struct gw_matmul_kernel kernel_fp8_bf16 = {.act = GW_BF16,
                                                        .k_per_step = 2,
                                                        .fma_ns = 0.015,
                                                        .fill = gw_fill_bf16_16,
                                                        .micro = micro_bf16,
                                                        .widen = widen_bf16};

GW_MATMUL_OPERATIONS(fp8_f32_avx512, &kernel_fp8_f32)
GW_MATMUL_OPERATIONS(fp8_bf16_avx512, &kernel_fp8_bf16)
