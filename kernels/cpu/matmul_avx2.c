/* Products with AVX2 and FMA. bf16: a register of 8 pairs is two of f32 (kernels/cpu/pairs_avx2.h), and two fused multiply-adds do
 * what VDPBF16PS does. */
#include "kernels/cpu/micro_avx2.h"

#include "kernels/cpu/matmul_fill.h"
#include "kernels/cpu/pairs_avx2.h"
#include "kernels/cpu/variants.h"
#include "kernels/cpu/widen_fp8.h"

GW_INLINE __m256 take_f32(const float *w, const void *unused)
{
    (void)unused;
    return _mm256_load_ps(w);
}

GW_INLINE void steps_f32(struct gw_micro_acc *acc, const uint32_t rows, const uint32_t width, const float *x,
                         const float *w, uint32_t steps, struct gw_micro_ahead ahead)
{
#pragma GCC unroll 4
    for (uint32_t s = 0; s < steps; s++, x++, w += GW_TILE_N) {
        gw_micro_prefetch(&ahead, width);
        gw_micro_fma(acc, x, w, take_f32, NULL, rows, width);
    }
}

GW_INLINE void steps_bf16(struct gw_micro_acc *acc, const uint32_t rows, const uint32_t width, const float *x,
                          const float *w, uint32_t steps, struct gw_micro_ahead ahead)
{
    const struct gw_pairs *c = &gw_pairs_avx2;
    for (uint32_t s = 0; s < steps; s++, x += 2, w += GW_TILE_N) {
        /* Nothing, but the compiler cannot know: else it keeps the constants in registers, and sums in memory. */
        __asm__("" : "+r"(c));
        gw_micro_prefetch(&ahead, width);
        gw_micro_fma(acc, x + 1, w, gw_take_odd, c, rows, width);
        gw_micro_fma(acc, x, w, gw_take_even, c, rows, width);
    }
}

static void micro_f32(const struct gw_micro_tile *tile, uint32_t rows)
{
    gw_micro_dispatch(steps_f32, 1, tile, rows);
}

static void micro_bf16(const struct gw_micro_tile *tile, uint32_t rows)
{
    gw_micro_dispatch(steps_bf16, 2, tile, rows);
}

static const struct gw_matmul_kernel kernel_f32 = {
    .act = GW_F32, .k_per_step = 1, .fma_ns = 0.03, .fill = gw_fill_f32, .micro = micro_f32};
static const struct gw_matmul_kernel kernel_bf16 = {
    .act = GW_BF16, .k_per_step = 2, .fma_ns = 0.03, .fill = gw_fill_bf16_16, .micro = micro_bf16};

GW_MATMUL_OPERATIONS(f32_avx2, &kernel_f32)
GW_MATMUL_OPERATIONS(bf16_avx2, &kernel_bf16)

/* ---- fp8 weights ---- */

static void widen_f32(void *to, const uint8_t *from, uint32_t steps)
{
    gw_widen_fp8_f32(to, from, steps);
}

static const struct gw_matmul_kernel kernel_fp8_f32 = {.act = GW_F32,
                                                       .k_per_step = 1,
                                                       .fma_ns = 0.03,
                                                       .fill = gw_fill_f32,
                                                       .micro = micro_f32,
                                                       .widen = widen_f32};

static void widen_bf16(void *to, const uint8_t *from, uint32_t steps)
{
    gw_widen_fp8_bf16(to, from, steps);
}

static const struct gw_matmul_kernel kernel_fp8_bf16 = {.act = GW_BF16,
                                                        .k_per_step = 2,
                                                        .fma_ns = 0.03,
                                                        .fill = gw_fill_bf16_16,
                                                        .micro = micro_bf16,
                                                        .widen = widen_bf16};

GW_MATMUL_OPERATIONS(fp8_f32_avx2, &kernel_fp8_f32)
GW_MATMUL_OPERATIONS(fp8_bf16_avx2, &kernel_fp8_bf16)
