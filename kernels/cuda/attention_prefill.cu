/* Attention of many rows: out[m, heads * head_dim] bf16, causal, with window and whatever prefix the pages hold.
 *
 * A block takes up to 64 queries (32 from head_dim 129 on) of one sequence and one KV head and walks their positions, chunk after
 * chunk (attention_tiles.cuh). The state into which chunks merge lies in shared memory, for registers hold the chunk's part:
 * each thread has a column of its own there, and nobody else looks.
 *
 *     shared memory    q | K and V (attention_pages.cuh) | state f32 [N * 4][threads]
 *
 * Limits: KV of bf16 or int8, activations of bf16, head_dim a multiple of 8, 256 at most; shared memory: 85 KB at head_dim 128 (of
 * int8 102 KB; where that is not there, 32 queries have to do with 77), 118 KB at 256 (151 KB), which sm_75 has not, and sm_89 not at
 * 256. The same bits as attention_decode.cu. */
#include "kernels/cuda/attention_pages_int8.cuh"
#include "kernels/cuda/attention_tiles.cuh"

template <int N> struct prefill_sink {
    float *state; /* [N * 4], GW_ATTN_THREADS apart */
    float max[GW_ATTN_HALVES], sum[GW_ATTN_HALVES];

    __device__ void clear()
    {
        for (int i = 0; i < N * 4; i++) state[i * GW_ATTN_THREADS] = 0.0f;
        max[0] = max[1] = -FLT_MAX;
        sum[0] = sum[1] = 0.0f;
    }

    __device__ void take(const struct gw_attn_part<N> &part)
    {
#pragma unroll
        for (int half = 0; half < GW_ATTN_HALVES; half++) {
            struct gw_attn_merge m = gw_attn_merge_of(max[half], part.max[half]);
            max[half] = m.max;
            sum[half] = fmaf(sum[half], m.a, part.sum[2 * half] * m.b);
#pragma unroll
            for (int n = 0; n < N; n++)
#pragma unroll
                for (int i = 2 * half; i < 2 * half + 2; i++) {
                    float *o = &state[(n * 4 + i) * GW_ATTN_THREADS];
                    *o = fmaf(*o, m.a, part.o[n][i] * m.b);
                }
        }
    }
};

/* The thread's two queries, from column `first` of their heads on. */
template <int N>
__device__ static void store(const struct prefill_sink<N> &sink, const struct gw_attn_args &a,
                             const struct gw_attn_queries &q, uint32_t row, uint32_t first, uint16_t *out)
{
    const size_t stride = (size_t)a.heads * a.kv.head_dim;
    for (uint32_t half = 0; half < GW_ATTN_HALVES; half++) {
        uint32_t i = row + half * 8;
        if (i >= q.count) continue;
        float inverse = 1.0f / sink.sum[half];
        uint16_t *to = out + gw_attn_query_at(q, i, stride, 0, a.kv.head_dim);
        for (int n = 0; n < N; n++)
            for (uint32_t c = 0; c < 2; c++) {
                uint32_t d = first + (uint32_t)n * 8 + threadIdx.x % 4 * 2 + c;
                float o = sink.state[((uint32_t)n * 4 + half * 2 + c) * GW_ATTN_THREADS];
                if (d < a.kv.head_dim) to[d] = gw_bf16_of_f32(o * inverse);
            }
    }
}

/* Three blocks of a multiprocessor: 168 registers. Left to itself, ptxas takes 128 for heads of 64 on sm_100, and spills. */
template <uint32_t HEAD_DIM, uint32_t ROW_GROUPS, class Pages>
__global__ static void __launch_bounds__(GW_ATTN_THREADS, 3)
    attend(struct gw_attn_args a, uint32_t tiles, uint16_t *out)
{
    constexpr uint32_t SLICES = GW_ATTN_THREADS / GW_WARP / ROW_GROUPS, ROWS = ROW_GROUPS * GW_ATTN_ROWS;
    constexpr int N = (int)(HEAD_DIM / 8 / SLICES);
    GW_SHARED_DYNAMIC(memory);
    const struct gw_attn_queries queries =
        gw_attn_queries_of(a, blockIdx.z, blockIdx.y, tiles - 1 - blockIdx.x, ROWS); /* the longest first */
    if (queries.count == 0) return;
    const Pages pages = {memory + gw_attn_q_bytes(HEAD_DIM, ROW_GROUPS)};
    struct prefill_sink<N> sink;
    sink.state = gw_as<float>(pages.memory + Pages::BYTES) + threadIdx.x;
    sink.clear();
    gw_attn_walk<HEAD_DIM, ROW_GROUPS>(a, queries, queries.start / GW_ATTN_TILE * GW_ATTN_TILE, queries.end,
                                       gw_as<uint16_t>(memory), pages, sink);
    const uint32_t warp = threadIdx.x / GW_WARP;
    store(sink, a, queries, warp / SLICES * GW_ATTN_ROWS + threadIdx.x % GW_WARP / 4, warp % SLICES * N * 8,
          out);
}

template <uint32_t HEAD_DIM, uint32_t ROW_GROUPS, class Pages> constexpr size_t shared_bytes()
{
    constexpr size_t N = HEAD_DIM / 8 * ROW_GROUPS * GW_WARP / GW_ATTN_THREADS;
    return gw_attn_q_bytes(HEAD_DIM, ROW_GROUPS) + Pages::BYTES + N * 4 * GW_ATTN_THREADS * sizeof(float);
}

template <uint32_t HEAD_DIM, uint32_t ROW_GROUPS, class Pages> static bool has_room()
{
    auto *kernel = attend<HEAD_DIM, ROW_GROUPS, Pages>;
    if (GW_ALLOW_SHARED(kernel, (shared_bytes<HEAD_DIM, ROW_GROUPS, Pages>())) == cudaSuccess) return true;
    (void)cudaGetLastError();
    return false;
}

template <uint32_t HEAD_DIM, uint32_t ROW_GROUPS, class Pages>
static gw_err_t launch_as(gw_cuda_stream stream, const struct gw_attn_args &a,
                          const struct gw_cuda_batch *batch, uint16_t *out, struct gw_err_ctx *ctx)
{
    constexpr size_t shared = shared_bytes<HEAD_DIM, ROW_GROUPS, Pages>();
    uint64_t queries = (uint64_t)batch->rows_max * gw_attn_group_max(&a.kv, a.heads);
    uint32_t tiles = gw_blocks_of(queries, ROW_GROUPS * GW_ATTN_ROWS);
    dim3 blocks(tiles, gw_kv_heads(&a.kv), batch->seqs_len);
    auto *kernel = attend<HEAD_DIM, ROW_GROUPS, Pages>;
    (void)has_room<HEAD_DIM, ROW_GROUPS, Pages>(); /* where it has not, the launch says so */
    GW_LAUNCH(kernel, blocks, GW_ATTN_THREADS, shared, stream, a, tiles, out);
    return gw_launched(ctx, "attention_prefill");
}

template <template <uint32_t> class Pages>
static gw_err_t launch(gw_cuda_stream stream, const struct gw_attn_args &a, const struct gw_cuda_batch *batch,
                       uint16_t *out, struct gw_err_ctx *ctx)
{
    uint32_t head_dim = a.kv.head_dim;
    if (head_dim <= 32) return launch_as<32, 4, Pages<32>>(stream, a, batch, out, ctx);
    if (head_dim <= 64) return launch_as<64, 4, Pages<64>>(stream, a, batch, out, ctx);
    if (head_dim <= 96) return launch_as<96, 4, Pages<96>>(stream, a, batch, out, ctx);
    if (head_dim > 128) return launch_as<256, 2, Pages<256>>(stream, a, batch, out, ctx);
    if (has_room<128, 4, Pages<128>>()) return launch_as<128, 4, Pages<128>>(stream, a, batch, out, ctx);
    return launch_as<128, 2, Pages<128>>(stream, a, batch, out, ctx);
}

extern "C" gw_err_t gw_cuda_attention_prefill(gw_cuda_stream stream, uint16_t *out,
                                              const struct gw_cuda_qkv *qkv, const struct gw_kv_layer *kv,
                                              enum gw_dtype kv_type, float scale,
                                              const struct gw_cuda_batch *batch, struct gw_err_ctx *ctx)
{
    TRY(gw_attn_check(qkv, kv, kv_type, batch, ctx));
    if (batch->seqs_len == 0 || batch->rows_max == 0) return GW_OK;
    const struct gw_attn_args a = gw_attn_args_of(qkv, kv, scale, batch);
    if (kv_type == GW_I8) return launch<gw_attn_pages_int8>(stream, a, batch, out, ctx);
    return launch<gw_attn_pages_bf16>(stream, a, batch, out, ctx);
}
