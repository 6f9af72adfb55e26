#include "kernels/cpu/silu_mul.h"

#include "kernels/cpu/simd_avx512.h"
#include "kernels/cpu/variants.h"

GW_INLINE void silu_items(const struct gw_silu_job *job, enum gw_dtype act, size_t first, size_t last)
{
    for (size_t item = first; item < last; item++) {
        const float *gate = job->gate_up + item * 2 * job->cols, *up = gate + job->cols;
        for (uint32_t i = 0; i < job->cols; i += 16) {
            __mmask16 mask = gw_lanes_mask(job->cols - i < 16 ? job->cols - i : 16);
            __m512 y =
                _mm512_mul_ps(gw_siluf16(gw_load16(gate, GW_F32, i, mask)), gw_load16(up, GW_F32, i, mask));
            gw_store16(job->y, act, item * job->cols + i, mask, y);
        }
    }
}

static void items_bf16(const void *arg, void *scratch, size_t first, size_t last)
{
    (void)scratch;
    silu_items(arg, GW_BF16, first, last);
}

static void items_f32(const void *arg, void *scratch, size_t first, size_t last)
{
    (void)scratch;
    silu_items(arg, GW_F32, first, last);
}

void gw_cpu_silu_mul_bf16_avx512(struct gw_device *dev, void *y, const float *gate_up, uint32_t m,
                                 uint32_t shares, uint32_t share_cols)
{
    struct gw_silu_job job = {.y = y, .gate_up = gate_up, .cols = share_cols};
    gw_device_parallel(dev, items_bf16, &job, (size_t)m * shares, 1.0 * share_cols);
}

void gw_cpu_silu_mul_f32_avx512(struct gw_device *dev, void *y, const float *gate_up, uint32_t m,
                                uint32_t shares, uint32_t share_cols)
{
    struct gw_silu_job job = {.y = y, .gate_up = gate_up, .cols = share_cols};
    gw_device_parallel(dev, items_f32, &job, (size_t)m * shares, 1.0 * share_cols);
}
