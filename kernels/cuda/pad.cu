/* Rows whose parts are padded with zeros, for products whose k is not what matmul.cu takes:
 *
 *     y [m][parts][k_padded] = x [m], rows x_stride apart, of [parts][k]; bf16
 *
 * A block takes a row. No alignment is asked of x. Limits: parts * k_padded < 2^32. */
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/launchers.h"

#define THREADS 128u

__global__ static void pad_rows(uint16_t *y, const uint16_t *x, size_t x_stride, uint32_t parts, uint32_t k,
                                uint32_t k_padded)
{
    const uint16_t *from = x + blockIdx.x * x_stride;
    uint16_t *to = y + (size_t)blockIdx.x * parts * k_padded;
    for (uint32_t i = threadIdx.x; i < parts * k_padded; i += THREADS) {
        uint32_t part = i / k_padded, column = i % k_padded;
        to[i] = column < k ? from[(size_t)part * k + column] : 0;
    }
}

extern "C" gw_err_t gw_cuda_pad(gw_cuda_stream stream, uint16_t *y, const uint16_t *x, size_t x_stride,
                                uint32_t m, uint32_t parts, uint32_t k, uint32_t k_padded,
                                struct gw_err_ctx *ctx)
{
    GW_NEED((uint64_t)parts * k_padded <= UINT32_MAX - THREADS, "less than 2^32 columns");
    if (m == 0 || parts == 0 || k_padded == 0) return GW_OK;
    GW_LAUNCH(pad_rows, m, THREADS, 0, stream, y, x, x_stride, parts, k, k_padded);
    return gw_launched(ctx, "pad");
}
