/* Reference: one fmaf at a time. fmaf is a real fused operation here (libm picks the CPU's instruction, which
 * honours FTZ and DAZ; tests/unit/test_kernels_vmath.c checks both). */
#include "kernels/cpu/matmul.h"

#include "kernels/convert.h"
#include "kernels/cpu/variants.h"
#include <math.h>

static void fill_bf16(void *panel, const void *x, size_t x_stride, uint32_t rows, uint32_t k_len)
{
    for (uint32_t r = 0; r < rows; r++) {
        float *to = (float *)panel + (size_t)r * GW_PANEL_STRIDE;
        for (uint32_t i = 0; i < k_len; i++) to[i] = gw_f32_at(x, GW_BF16, r * x_stride + i);
        to[k_len] = 0.0f; /* the odd one's partner */
    }
}

static void micro_f32(float *y, size_t y_stride, uint32_t rows, uint32_t cols, const void *panel,
                      const void *w, uint32_t steps, bool first, bool fresh)
{
    (void)fresh;
    for (uint32_t r = 0; r < rows; r++)
        for (uint32_t c = 0; c < cols; c++) {
            const float *x = (const float *)panel + (size_t)r * GW_PANEL_STRIDE, *wc = (const float *)w + c;
            float acc = first ? 0.0f : y[r * y_stride + c];
            for (uint32_t s = 0; s < steps; s++) acc = fmaf(x[s], wc[(size_t)s * GW_TILE_N], acc);
            y[r * y_stride + c] = acc;
        }
}

static void micro_bf16(float *y, size_t y_stride, uint32_t rows, uint32_t cols, const void *panel,
                       const void *w, uint32_t steps, bool first, bool fresh)
{
    (void)fresh;
    for (uint32_t r = 0; r < rows; r++)
        for (uint32_t c = 0; c < cols; c++) {
            const float *x = (const float *)panel + (size_t)r * GW_PANEL_STRIDE;
            const uint16_t *wc = (const uint16_t *)w + 2 * c;
            float acc = first ? 0.0f : y[r * y_stride + c];
            for (uint32_t s = 0; s < steps; s++, wc += 2 * GW_TILE_N) {
                acc = fmaf(x[2 * s + 1], gw_f32_of_bf16(wc[1]), acc);
                acc = fmaf(x[2 * s], gw_f32_of_bf16(wc[0]), acc);
            }
            y[r * y_stride + c] = acc;
        }
}

static const struct gw_matmul_kernel kernel_f32 = {
    .act = GW_F32, .k_per_step = 1, .fma_ns = 3, .fill = gw_fill_f32, .micro = micro_f32};
static const struct gw_matmul_kernel kernel_bf16 = {
    .act = GW_BF16, .k_per_step = 2, .fma_ns = 3, .fill = fill_bf16, .micro = micro_bf16};

void gw_cpu_matmul_f32_c(struct gw_device *dev, float *y, size_t y_stride, const void *x, size_t x_stride,
                         const struct gw_weight *w, const uint32_t *y_at, uint32_t count, uint32_t m)
{
    gw_matmul_run(&kernel_f32, dev, y, y_stride, x, x_stride, w, y_at, count, m);
}

void gw_cpu_matmul_shares_f32_c(struct gw_device *dev, float *y, const void *x, const struct gw_weight *w,
                                uint32_t shares, uint32_t m)
{
    gw_matmul_shares_run(&kernel_f32, dev, y, x, w, shares, m);
}

void gw_cpu_matmul_bf16_c(struct gw_device *dev, float *y, size_t y_stride, const void *x, size_t x_stride,
                          const struct gw_weight *w, const uint32_t *y_at, uint32_t count, uint32_t m)
{
    gw_matmul_run(&kernel_bf16, dev, y, y_stride, x, x_stride, w, y_at, count, m);
}

void gw_cpu_matmul_shares_bf16_c(struct gw_device *dev, float *y, const void *x, const struct gw_weight *w,
                                 uint32_t shares, uint32_t m)
{
    gw_matmul_shares_run(&kernel_bf16, dev, y, x, w, shares, m);
}

void gw_cpu_matmul_tree_add_f32_c(struct gw_device *dev, float *residual, const void *x,
                                  const struct gw_weight *w, uint32_t shares, uint32_t m, float *scratch)
{
    gw_matmul_tree_add_run(&kernel_f32, dev, residual, x, w, shares, m, scratch);
}

void gw_cpu_matmul_tree_add_bf16_c(struct gw_device *dev, float *residual, const void *x,
                                   const struct gw_weight *w, uint32_t shares, uint32_t m, float *scratch)
{
    gw_matmul_tree_add_run(&kernel_bf16, dev, residual, x, w, shares, m, scratch);
}
