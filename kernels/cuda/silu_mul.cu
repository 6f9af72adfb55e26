/* SiLU gate: y = silu(gate) * up, silu(g) = g / (1 + e^-g).
 *
 *     gate_up [m][share][gate: cols | up: cols] f32    y [m][share][cols] act
 *
 * A block takes THREADS * PER_THREAD columns of one share of one row. The same bits as kernels/cpu/silu_mul_c.c.
 * Limits: cols < 2^26. Source: Shazeer 2020. */
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/launchers.h"

#define THREADS    256u
#define PER_THREAD 4u
#define COLS_MAX   (1u << 26) /* the grid has 65535 blocks in y */

template <class A> __global__ static void silu_items(A *y, const float *gate_up, uint32_t cols)
{
    const float *gate = gate_up + (size_t)blockIdx.x * 2 * cols, *up = gate + cols;
    A *out = y + (size_t)blockIdx.x * cols;
    for (uint32_t n = 0, i = blockIdx.y * THREADS * PER_THREAD + threadIdx.x; n < PER_THREAD && i < cols;
         n++, i += THREADS)
        gw_narrow(&out[i], gw_siluf(gate[i]) * up[i]);
}

template <class A>
static gw_err_t launch(gw_cuda_stream stream, A *y, const float *gate_up, uint32_t items, uint32_t cols,
                       struct gw_err_ctx *ctx)
{
    dim3 blocks(items, gw_blocks_of(cols, THREADS * PER_THREAD));
    GW_LAUNCH(silu_items<A>, blocks, THREADS, 0, stream, y, gate_up, cols);
    return gw_launched(ctx, "silu_mul");
}

extern "C" gw_err_t gw_cuda_silu_mul(gw_cuda_stream stream, void *y, enum gw_dtype act, const float *gate_up,
                                     uint32_t m, uint32_t shares, uint32_t share_cols, struct gw_err_ctx *ctx)
{
    GW_NEED(act == GW_F32 || act == GW_BF16, "activations of f32 or bf16");
    GW_NEED(share_cols < COLS_MAX && (uint64_t)m * shares <= INT32_MAX, "less than 2^26 columns, 2^31 items");
    if (m * shares == 0 || share_cols == 0) return GW_OK;
    if (act == GW_F32) return launch(stream, (float *)y, gate_up, m * shares, share_cols, ctx);
    return launch(stream, (uint16_t *)y, gate_up, m * shares, share_cols, ctx);
}
