/* Scatter-add: y[share][rows[i]] += weights[i] · x[share][i], rounded after the product and after the sum.
 *
 *     y [shares][y_rows, n] f32    x [shares][m, n] f32    rows, weights [m]
 *
 * A block takes a row of one share; a row is in the list once at most, so no two blocks meet and nothing is atomic. The same
 * bits as kernels/cpu/scatter_add.c. */
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/launchers.h"

#define THREADS 256u

__global__ static void scatter_rows(float *y, uint32_t y_rows, const float *x, const uint32_t *rows,
                                    const float *weights, uint32_t m, uint32_t n)
{
    uint32_t share = blockIdx.x / m, i = blockIdx.x % m;
    size_t to = ((size_t)share * y_rows + rows[i]) * n, from = (size_t)blockIdx.x * n;
    for (uint32_t c = threadIdx.x; c < n; c += THREADS) y[to + c] += weights[i] * x[from + c];
}

extern "C" gw_err_t gw_cuda_scatter_add(gw_cuda_stream stream, float *y, uint32_t y_rows, const float *x,
                                        const uint32_t *rows, const float *weights, uint32_t shares,
                                        uint32_t m, uint32_t n, struct gw_err_ctx *ctx)
{
    GW_NEED((uint64_t)m * shares <= INT32_MAX, "less than 2^31 rows of all shares");
    if (m * shares == 0) return GW_OK;
    GW_LAUNCH(scatter_rows, m * shares, THREADS, 0, stream, y, y_rows, x, rows, weights, m, n);
    return gw_launched(ctx, "scatter_add");
}
