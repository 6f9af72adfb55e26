#include "kernels/cpu/rmsnorm.h"

#include "kernels/cpu/simd_c.h"
#include "kernels/cpu/variants.h"
#include "kernels/vmath.h"

static void rmsnorm_rows(const struct gw_rmsnorm_job *job, enum gw_dtype act, size_t first, size_t last)
{
    for (size_t row = first; row < last; row++) {
        const float *x = job->x + row * job->k;
        float lanes[GW_LANES] = {0};
        for (uint32_t i = 0; i < job->k; i++) lanes[i % GW_LANES] = fmaf(x[i], x[i], lanes[i % GW_LANES]);
        float inverse = gw_rms_inverse(gw_fold_sum_c(lanes), job->k, job->eps);
        for (uint32_t i = 0; i < job->k; i++)
            gw_f32_put(job->y, act, row * job->k + i, x[i] * inverse * job->w[i]);
    }
}

static void rows_bf16(const void *arg, void *scratch, size_t first, size_t last)
{
    (void)scratch;
    rmsnorm_rows(arg, GW_BF16, first, last);
}

static void rows_f32(const void *arg, void *scratch, size_t first, size_t last)
{
    (void)scratch;
    rmsnorm_rows(arg, GW_F32, first, last);
}

void gw_cpu_rmsnorm_bf16_c(struct gw_device *dev, void *y, const float *x, const float *w, float eps,
                           uint32_t m, uint32_t k)
{
    struct gw_rmsnorm_job job = {.y = y, .x = x, .w = w, .eps = eps, .k = k};
    gw_device_parallel(dev, rows_bf16, &job, m, 6.0 * k);
}

void gw_cpu_rmsnorm_f32_c(struct gw_device *dev, void *y, const float *x, const float *w, float eps,
                          uint32_t m, uint32_t k)
{
    struct gw_rmsnorm_job job = {.y = y, .x = x, .w = w, .eps = eps, .k = k};
    gw_device_parallel(dev, rows_f32, &job, m, 6.0 * k);
}
