/* y[n] = e^((x[n] - top) · inverse) for x <= top; 0 of NaN. What top-p and statistics are added up from; the CPU's bits. */
#include "kernels/cuda/launchers.h"

#include "kernels/cuda/device.cuh"

#define THREADS 256u

__global__ static void weigh_elements(float *y, const float *x, uint32_t n, float top, float inverse)
{
    uint32_t step = gridDim.x * THREADS;
    for (uint64_t i = blockIdx.x * THREADS + threadIdx.x; i < n; i += step)
        y[i] = x[i] < INFINITY ? gw_expf((x[i] - top) * inverse) : 0.0f;
}

extern "C" gw_err_t gw_cuda_weigh(gw_cuda_stream stream, float *y, const float *x, uint32_t n, float top,
                                  float inverse, struct gw_err_ctx *ctx)
{
    if (n == 0) return GW_OK;
    GW_LAUNCH(weigh_elements, gw_stride_blocks(n, THREADS), THREADS, 0, stream, y, x, n, top, inverse);
    return gw_launched(ctx, "weigh");
}
