/* RMSNorm: y = (x * r) * w, r = 1 / sqrt(sum(x²) / k + eps); before it x += delta, where there is one.
 *
 *     x, delta [m, k] f32    w [k] f32    y [m, k] act
 *
 * A block takes a row: all threads stage it in shared memory (global memory is read once), 16 lanes add up squares, lane =
 * index mod 16, then fold 8, 4, 2, 1: the order of kernels/cpu/rmsnorm.h, and so the same bits. Those k / 16 dependent fma are
 * about 1 us at k = 4096, which is what the fixed order costs.
 *
 * Limits: k <= RMSNORM_K_MAX. Source: Zhang & Sennrich 2019. */
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/launchers.h"

#define THREADS       128u
#define RMSNORM_K_MAX 16384u /* 64 KiB of shared memory; the widest published model has 16384 */

template <class A>
__global__ static void rmsnorm_rows(A *y, float *x, const float *delta, const float *w, float eps, uint32_t k)
{
    GW_SHARED_DYNAMIC(memory);
    GW_SHARED(float, inverse, 1);
    float *row = gw_as<float>(memory);
    size_t at = (size_t)blockIdx.x * k;
    for (uint32_t i = threadIdx.x; i < k; i += THREADS) {
        row[i] = delta ? x[at + i] + delta[at + i] : x[at + i];
        if (delta) x[at + i] = row[i];
    }
    __syncthreads();
    if (threadIdx.x < GW_WARP) {
        float lane = 0.0f;
        for (uint32_t i = threadIdx.x; threadIdx.x < GW_LANES && i < k; i += GW_LANES)
            lane = fmaf(row[i], row[i], lane);
        lane = gw_fold_sum(lane);
        if (threadIdx.x == 0) *inverse = gw_rms_inverse(lane, k, eps);
    }
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < k; i += THREADS) gw_narrow(&y[at + i], row[i] * *inverse * w[i]);
}

template <class A>
static gw_err_t launch(gw_cuda_stream stream, A *y, float *x, const float *delta, const float *w, float eps,
                       uint32_t m, uint32_t k, struct gw_err_ctx *ctx)
{
    auto *kernel = rmsnorm_rows<A>;
    size_t shared = k * sizeof(float);
    (void)GW_ALLOW_SHARED(kernel, shared); /* what it refuses, the launch refuses */
    GW_LAUNCH(kernel, m, THREADS, shared, stream, y, x, delta, w, eps, k);
    return gw_launched(ctx, "rmsnorm");
}

extern "C" gw_err_t gw_cuda_rmsnorm(gw_cuda_stream stream, void *y, enum gw_dtype act, float *x,
                                    const float *delta, const float *w, float eps, uint32_t m, uint32_t k,
                                    struct gw_err_ctx *ctx)
{
    GW_NEED(act == GW_F32 || act == GW_BF16, "activations of f32 or bf16");
    GW_NEED(k >= 1 && k <= RMSNORM_K_MAX, "rows of 1 to 16384 elements");
    if (m == 0) return GW_OK;
    if (act == GW_F32) return launch(stream, (float *)y, x, delta, w, eps, m, k, ctx);
    return launch(stream, (uint16_t *)y, x, delta, w, eps, m, k, ctx);
}
