#include "kernels/cpu/rmsnorm.h"

#include "kernels/cpu/simd_avx512.h"
#include "kernels/cpu/variants.h"

static inline uint32_t block_lanes(uint32_t k, uint32_t at)
{
    return k - at < 16 ? k - at : 16;
}

/* Masked lanes add +0 to a sum of squares, which is never -0: they change no bit. */
GW_INLINE void rmsnorm_rows(const struct gw_rmsnorm_job *job, enum gw_dtype act, size_t first, size_t last)
{
    for (size_t row = first; row < last; row++) {
        const float *x = job->x + row * job->k;
        __m512 sum = _mm512_setzero_ps();
        for (uint32_t i = 0; i < job->k; i += 16) {
            __m512 v = gw_load16(x, GW_F32, i, gw_lanes_mask(block_lanes(job->k, i)));
            sum = _mm512_fmadd_ps(v, v, sum);
        }
        __m512 inverse = _mm512_set1_ps(gw_rms_inverse(gw_fold_sum16(sum), job->k, job->eps));
        for (uint32_t i = 0; i < job->k; i += 16) {
            __mmask16 mask = gw_lanes_mask(block_lanes(job->k, i));
            __m512 v = _mm512_mul_ps(gw_load16(x, GW_F32, i, mask), inverse);
            gw_store16(job->y, act, row * job->k + i, mask,
                       _mm512_mul_ps(v, gw_load16(job->w, GW_F32, i, mask)));
        }
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

void gw_cpu_rmsnorm_bf16_avx512(struct gw_device *dev, void *y, const float *x, const float *w, float eps,
                                uint32_t m, uint32_t k)
{
    struct gw_rmsnorm_job job = {.y = y, .x = x, .w = w, .eps = eps, .k = k};
    gw_device_parallel(dev, rows_bf16, &job, m, 0.2 * k);
}

void gw_cpu_rmsnorm_f32_avx512(struct gw_device *dev, void *y, const float *x, const float *w, float eps,
                               uint32_t m, uint32_t k)
{
    struct gw_rmsnorm_job job = {.y = y, .x = x, .w = w, .eps = eps, .k = k};
    gw_device_parallel(dev, rows_f32, &job, m, 0.2 * k);
}
