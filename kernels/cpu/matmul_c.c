/* Reference: one fmaf at a time. fmaf is a real fused operation here (libm picks the CPU's instruction, which
 * honours FTZ and DAZ; tests/unit/test_kernels_vmath.c checks both). */
#include "kernels/cpu/micro_c.h"

#include "kernels/cpu/variants.h"
#include <math.h>

static float sum_f32(const struct gw_micro_tile *t, uint32_t row, uint32_t col, float acc)
{
    const float *x = (const float *)t->x + (size_t)row * GW_PANEL_STRIDE, *w = (const float *)t->w + col;
    for (uint32_t s = 0; s < t->steps; s++) acc = fmaf(x[s], w[(size_t)s * GW_TILE_N], acc);
    return acc;
}

static float sum_bf16(const struct gw_micro_tile *t, uint32_t row, uint32_t col, float acc)
{
    const float *x = (const float *)t->x + (size_t)row * GW_PANEL_STRIDE;
    const uint16_t *w = (const uint16_t *)t->w + 2 * col;
    for (uint32_t s = 0; s < t->steps; s++, w += 2 * GW_TILE_N) {
        acc = fmaf(x[2 * s + 1], gw_f32_of_bf16(w[1]), acc);
        acc = fmaf(x[2 * s], gw_f32_of_bf16(w[0]), acc);
    }
    return acc;
}

static void micro_f32(const struct gw_micro_tile *tile, uint32_t rows)
{
    gw_micro_c(tile, rows, sum_f32);
}

static void micro_bf16(const struct gw_micro_tile *tile, uint32_t rows)
{
    gw_micro_c(tile, rows, sum_bf16);
}

static const struct gw_matmul_kernel kernel_f32 = {
    .act = GW_F32, .k_per_step = 1, .fma_ns = 3, .fill = gw_fill_f32, .micro = micro_f32};
static const struct gw_matmul_kernel kernel_bf16 = {
    .act = GW_BF16, .k_per_step = 2, .fma_ns = 3, .fill = gw_micro_c_fill_bf16, .micro = micro_bf16};

GW_MATMUL_OPERATIONS(f32_c, &kernel_f32)
GW_MATMUL_OPERATIONS(bf16_c, &kernel_bf16)

/* ---- fp8 weights ---- */

static void widen_f32(void *to, const uint8_t *from, uint32_t steps)
{
    float *wide = to;
    for (uint32_t step = 0; step < steps; step++, wide += 2 * GW_TILE_N)
        for (uint32_t col = 0; col < GW_TILE_N; col++) {
            wide[col] = gw_f32_of_e4m3(*from++);
            wide[GW_TILE_N + col] = gw_f32_of_e4m3(*from++);
        }
}

static void widen_bf16(void *to, const uint8_t *from, uint32_t steps)
{
    uint16_t *wide = to;
    for (uint32_t i = 0; i < steps * 2 * GW_TILE_N; i++) wide[i] = gw_bf16_of_e4m3(from[i]);
}

static const struct gw_matmul_kernel kernel_fp8_f32 = {
    .act = GW_F32, .k_per_step = 1, .fma_ns = 3, .fill = gw_fill_f32, .micro = micro_f32, .widen = widen_f32};

static const struct gw_matmul_kernel kernel_fp8_bf16 = {.act = GW_BF16,
                                                        .k_per_step = 2,
                                                        .fma_ns = 3,
                                                        .fill = gw_micro_c_fill_bf16,
                                                        .micro = micro_bf16,
                                                        .widen = widen_bf16};

GW_MATMUL_OPERATIONS(fp8_f32_c, &kernel_fp8_f32)
GW_MATMUL_OPERATIONS(fp8_bf16_c, &kernel_fp8_bf16)
