/* Embedding: y[m, hidden] f32 = row ids[m] of table[vocab, hidden], widened (exact) and copied; never summed.
 *
 * A block takes a row, a thread every 256th element. Limits: table of f32, bf16 or f16; ids below vocab (checked when the
 * request was taken). The same bits as kernels/cpu/embed.c. */
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/launchers.h"

#define THREADS 256u

__global__ static void embed_rows(float *y, const void *table, enum gw_dtype type, const uint32_t *ids,
                                  uint32_t hidden)
{
    size_t to = (size_t)blockIdx.x * hidden, from = (size_t)ids[blockIdx.x] * hidden;
    for (uint32_t i = threadIdx.x; i < hidden; i += THREADS) y[to + i] = gw_f32_at(table, type, from + i);
}

extern "C" gw_err_t gw_cuda_embed(gw_cuda_stream stream, float *y, const void *table,
                                  enum gw_dtype table_type, const uint32_t *ids, uint32_t m, uint32_t hidden,
                                  struct gw_err_ctx *ctx)
{
    GW_NEED(table_type == GW_F32 || table_type == GW_BF16 || table_type == GW_F16,
            "a table of f32, bf16 or f16");
    if (m == 0) return GW_OK;
    GW_LAUNCH(embed_rows, m, THREADS, 0, stream, y, table, table_type, ids, hidden);
    return gw_launched(ctx, "embed");
}
