/* Gather: y[i] = x[rows[i]], rows of k elements of f32 or bf16.
 *
 * A block takes a row, in words of 16 bytes where rows and both arrays allow it, else of 2. */
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/launchers.h"

#define THREADS 128u

template <class W> __global__ static void gather_rows(W *y, const W *x, const uint32_t *rows, uint32_t words)
{
    size_t to = (size_t)blockIdx.x * words, from = (size_t)rows[blockIdx.x] * words;
    for (uint32_t i = threadIdx.x; i < words; i += THREADS) y[to + i] = x[from + i];
}

extern "C" gw_err_t gw_cuda_gather(gw_cuda_stream stream, void *y, const void *x, enum gw_dtype type,
                                   const uint32_t *rows, uint32_t m, uint32_t k, struct gw_err_ctx *ctx)
{
    GW_NEED(type == GW_F32 || type == GW_BF16, "rows of f32 or bf16");
    GW_NEED(k < 1u << 30, "rows of less than 2^30 elements");
    if (m == 0 || k == 0) return GW_OK;
    uint32_t row_bytes = k * (type == GW_F32 ? 4 : 2);
    if (row_bytes % 16 == 0 && gw_aligned16(y) && gw_aligned16(x))
        GW_LAUNCH(gather_rows<uint4>, m, THREADS, 0, stream, (uint4 *)y, (const uint4 *)x, rows,
                  row_bytes / 16);
    else
        GW_LAUNCH(gather_rows<uint16_t>, m, THREADS, 0, stream, (uint16_t *)y, (const uint16_t *)x, rows,
                  row_bytes / 2);
    return gw_launched(ctx, "gather");
}
