#include "kernels/cpu/silu_mul_simd.h"

#include "kernels/cpu/variants.h"

static void items_bf16(const void *arg, void *scratch, size_t first, size_t last)
{
    (void)scratch;
    gw_silu_items16(arg, GW_BF16, first, last);
}

static void items_f32(const void *arg, void *scratch, size_t first, size_t last)
{
    (void)scratch;
    gw_silu_items16(arg, GW_F32, first, last);
}

void gw_cpu_silu_mul_bf16_avx2(struct gw_device *dev, void *y, const float *gate_up, uint32_t m,
                               uint32_t shares, uint32_t share_cols)
{
    struct gw_silu_job job = {.y = y, .gate_up = gate_up, .cols = share_cols};
    gw_device_parallel(dev, items_bf16, &job, (size_t)m * shares, 1.5 * share_cols);
}

void gw_cpu_silu_mul_f32_avx2(struct gw_device *dev, void *y, const float *gate_up, uint32_t m,
                              uint32_t shares, uint32_t share_cols)
{
    struct gw_silu_job job = {.y = y, .gate_up = gate_up, .cols = share_cols};
    gw_device_parallel(dev, items_f32, &job, (size_t)m * shares, 1.5 * share_cols);
}
