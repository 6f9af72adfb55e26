#include "kernels/cpu/rmsnorm_simd.h"

#include "kernels/cpu/variants.h"

static void rows_bf16(const void *arg, void *scratch, size_t first, size_t last)
{
    (void)scratch;
    gw_rmsnorm_rows16(arg, GW_BF16, first, last);
}

static void rows_f32(const void *arg, void *scratch, size_t first, size_t last)
{
    (void)scratch;
    gw_rmsnorm_rows16(arg, GW_F32, first, last);
}

void gw_cpu_rmsnorm_bf16_avx2(struct gw_device *dev, void *y, const float *x, const float *w, float eps,
                              uint32_t m, uint32_t k)
{
    struct gw_rmsnorm_job job = {.y = y, .x = x, .w = w, .eps = eps, .k = k};
    gw_device_parallel(dev, rows_bf16, &job, m, 0.3 * k);
}

void gw_cpu_rmsnorm_f32_avx2(struct gw_device *dev, void *y, const float *x, const float *w, float eps,
                             uint32_t m, uint32_t k)
{
    struct gw_rmsnorm_job job = {.y = y, .x = x, .w = w, .eps = eps, .k = k};
    gw_device_parallel(dev, rows_f32, &job, m, 0.3 * k);
}
