/* rows[to] += rows[from] of a share tree's program (kernels/cuda/stream.h), then residual += rows[0]: what collectives add.
 *
 * A thread takes an element and does all additions for it, in the program's order: they are tree_add.cu's, and its bits. Rows and
 * program go with the launch: 1.3 KiB.
 *
 * Limits: GW_SHARES_MAX rows. */
#include "kernels/cuda/launchers.h"

#include "kernels/cuda/device.cuh"

extern "C" {
#include "kernels/cuda/stream.h"
}

#define THREADS 256u

struct program {
    float *rows[GW_SHARES_MAX];
    struct gw_share_add adds[GW_SHARE_ADDS_MAX];
    uint32_t adds_len;
    float *residual;
    size_t elems;
};

__global__ static void add_rows(const struct program p)
{
    size_t step = (size_t)gridDim.x * THREADS;
    for (size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x; i < p.elems; i += step) {
        for (uint32_t k = 0; k < p.adds_len; k++) p.rows[p.adds[k].to][i] += p.rows[p.adds[k].from][i];
        if (p.residual) p.residual[i] += p.rows[0][i];
    }
}

extern "C" gw_err_t gw_cuda_row_sum(const struct gw_row_sum *sum, struct gw_stream *stream,
                                    struct gw_err_ctx *ctx)
{
    struct program p = {};
    GW_NEED(sum->adds_len <= GW_SHARE_ADDS_MAX, "a program of 127 additions at most");
    if (sum->elems == 0) return GW_OK;
    memcpy(p.rows, sum->rows, sizeof p.rows);
    if (sum->adds_len > 0) memcpy(p.adds, sum->adds, sum->adds_len * sizeof *p.adds);
    p.adds_len = sum->adds_len;
    p.residual = sum->residual;
    p.elems = sum->elems;
    GW_LAUNCH(add_rows, gw_stride_blocks(p.elems, THREADS), THREADS, 0, (cudaStream_t)(void *)stream, p);
    return gw_launched(ctx, "row_sum");
}
