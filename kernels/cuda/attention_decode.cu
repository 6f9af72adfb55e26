/* Attention of few rows over long KV: out[m, heads * head_dim] bf16.
 *
 * A block takes up to 16 queries of one sequence and one KV head (a row's whole GQA group: KV is read once) and one chunk of
 * GW_ATTN_CHUNK positions; its part (attention_tiles.cuh) goes to the workspace. A second kernel merges a query's parts,
 * chunks ascending. So a long sequence is spread over the device, and its bits are those of attention_prefill.cu.
 *
 *     workspace    part [sequence][KV head][tile of 16 queries][chunk] of f32: o [16][HEAD_DIM] | max [16] | sum [16]
 *
 * Floor: 2 · positions · KV heads · head_dim · 2 bytes of KV (of int8: 2 · positions · KV heads · (head_dim + 4)); the workspace adds (head_dim + 2) · 16 · 8 per chunk, tile and KV
 * head, 1/8 of that at one tile (and is small enough to stay in L2).
 *
 * Limits: KV of bf16 or int8, activations of bf16, head_dim a multiple of 8, 256 at most. The grid is for length_max. */
#include "kernels/cuda/attention_pages_int8.cuh"
#include "kernels/cuda/attention_tiles.cuh"

#define MERGE_PER_ROW (GW_ATTN_THREADS / GW_ATTN_ROWS) /* threads that share a query when parts are merged */

/* Where the parts of (sequence, KV head, tile) lie. */
struct workspace {
    float *parts;
    uint32_t tiles, chunks;
};

template <uint32_t HEAD_DIM>
__device__ static inline float *part_at(const struct workspace &w, uint32_t chunk)
{
    size_t index =
        ((size_t)blockIdx.z * gridDim.y + blockIdx.y) * w.chunks + chunk; /* y: KV head · tiles + tile */
    return w.parts + index * GW_ATTN_ROWS * (HEAD_DIM + 2);
}

template <uint32_t HEAD_DIM> struct decode_sink {
    float *part;

    __device__ void take(const struct gw_attn_part<HEAD_DIM / 32> &p)
    {
        const uint32_t warp = threadIdx.x / GW_WARP, lane = threadIdx.x % GW_WARP;
        float *max = part + GW_ATTN_ROWS * HEAD_DIM, *sum = max + GW_ATTN_ROWS;
#pragma unroll
        for (uint32_t half = 0; half < GW_ATTN_HALVES; half++) {
            uint32_t row = lane / 4 + half * 8;
            float *o = part + row * HEAD_DIM + warp * (HEAD_DIM / 4) + lane % 4 * 2;
#pragma unroll
            for (uint32_t n = 0; n < HEAD_DIM / 32; n++) {
                o[n * 8] = p.o[n][half * 2];
                o[n * 8 + 1] = p.o[n][half * 2 + 1];
            }
            if (warp == 0 && lane % 4 == 0) {
                max[row] = p.max[half];
                sum[row] = p.sum[half * 2];
            }
        }
    }
};

template <uint32_t HEAD_DIM, class Pages>
__global__ static void __launch_bounds__(GW_ATTN_THREADS) attend(struct gw_attn_args a, struct workspace w)
{
    GW_SHARED_DYNAMIC(memory);
    const struct gw_attn_queries queries =
        gw_attn_queries_of(a, blockIdx.z, blockIdx.y / w.tiles, blockIdx.y % w.tiles, GW_ATTN_ROWS);
    if (queries.count == 0) return;
    uint32_t first = blockIdx.x * GW_ATTN_CHUNK, last = min(first + GW_ATTN_CHUNK, queries.end);
    if (first >= queries.end || last <= queries.start) return;
    first = max(first, queries.start / GW_ATTN_TILE * GW_ATTN_TILE);
    const Pages pages = {memory + gw_attn_q_bytes(HEAD_DIM, 1)};
    struct decode_sink<HEAD_DIM> sink = {
        part_at<HEAD_DIM>(w, blockIdx.x)
    };
    gw_attn_walk<HEAD_DIM, 1>(a, queries, first, last, gw_as<uint16_t>(memory), pages, sink);
}

/* The parts of 16 queries; a thread has every MERGE_PER_ROW-th column of one of them. */
template <uint32_t HEAD_DIM>
__global__ static void __launch_bounds__(GW_ATTN_THREADS)
    merge_parts(struct gw_attn_args a, struct workspace w, uint16_t *out)
{
    constexpr uint32_t N = HEAD_DIM / MERGE_PER_ROW;
    const struct gw_attn_queries queries =
        gw_attn_queries_of(a, blockIdx.z, blockIdx.y / w.tiles, blockIdx.y % w.tiles, GW_ATTN_ROWS);
    const uint32_t row = threadIdx.x / MERGE_PER_ROW, column = threadIdx.x % MERGE_PER_ROW;
    if (row >= queries.count) return;
    float state[N] = {}, max = -FLT_MAX, sum = 0.0f;
    for (uint32_t chunk = queries.start / GW_ATTN_CHUNK; chunk * GW_ATTN_CHUNK < queries.end; chunk++) {
        const float *part = part_at<HEAD_DIM>(w, chunk), *maxes = part + GW_ATTN_ROWS * HEAD_DIM;
        struct gw_attn_merge m = gw_attn_merge_of(max, maxes[row]);
        max = m.max;
        sum = fmaf(sum, m.a, maxes[GW_ATTN_ROWS + row] * m.b);
#pragma unroll
        for (uint32_t n = 0; n < N; n++)
            state[n] = fmaf(state[n], m.a, part[row * HEAD_DIM + n * MERGE_PER_ROW + column] * m.b);
    }
    float inverse = 1.0f / sum;
    uint16_t *to = out + gw_attn_query_at(queries, row, (size_t)a.heads * a.kv.head_dim, 0, a.kv.head_dim);
#pragma unroll
    for (uint32_t n = 0; n < N; n++) {
        uint32_t d = n * MERGE_PER_ROW + column;
        if (d < a.kv.head_dim) to[d] = gw_bf16_of_f32(state[n] * inverse);
    }
}

static uint32_t compiled_head_dim(uint32_t head_dim)
{
    return head_dim > 128 ? 256 : (head_dim + 31) / 32 * 32;
}

static struct workspace workspace_of(const struct gw_kv_layer *kv, uint32_t heads,
                                     const struct gw_cuda_batch *batch)
{
    struct workspace w;
    w.parts = NULL;
    w.tiles = gw_blocks_of((size_t)batch->rows_max * gw_attn_group_max(kv, heads), GW_ATTN_ROWS);
    w.chunks = gw_blocks_of(batch->length_max, GW_ATTN_CHUNK);
    return w;
}

extern "C" size_t gw_cuda_attention_decode_bytes(const struct gw_kv_layer *kv, uint32_t heads,
                                                 const struct gw_cuda_batch *batch)
{
    const struct workspace w = workspace_of(kv, heads, batch);
    size_t parts = (size_t)batch->seqs_len * gw_kv_heads(kv) * w.tiles * w.chunks;
    return parts * GW_ATTN_ROWS * (compiled_head_dim(kv->head_dim) + 2) * sizeof(float);
}

template <uint32_t HEAD_DIM, class Pages>
static gw_err_t launch_as(gw_cuda_stream stream, const struct gw_attn_args &a, const struct workspace &w,
                          uint32_t seqs_len, uint16_t *out, struct gw_err_ctx *ctx)
{
    constexpr size_t shared = gw_attn_q_bytes(HEAD_DIM, 1) + Pages::BYTES;
    auto *kernel = attend<HEAD_DIM, Pages>;
    dim3 blocks(w.chunks, gw_kv_heads(&a.kv) * w.tiles, seqs_len), merges(1, blocks.y, blocks.z);
    (void)GW_ALLOW_SHARED(kernel, shared); /* what it refuses, the launch refuses */
    GW_LAUNCH(kernel, blocks, GW_ATTN_THREADS, shared, stream, a, w);
    TRY(gw_launched(ctx, "attention_decode"));
    GW_LAUNCH(merge_parts<HEAD_DIM>, merges, GW_ATTN_THREADS, 0, stream, a, w, out);
    return gw_launched(ctx, "attention_decode: merge");
}

template <template <uint32_t> class Pages>
static gw_err_t launch(gw_cuda_stream stream, const struct gw_attn_args &a, const struct workspace &w,
                       uint32_t seqs_len, uint16_t *out, struct gw_err_ctx *ctx)
{
    switch (compiled_head_dim(a.kv.head_dim)) {
    case 32: return launch_as<32, Pages<32>>(stream, a, w, seqs_len, out, ctx);
    case 64: return launch_as<64, Pages<64>>(stream, a, w, seqs_len, out, ctx);
    case 96: return launch_as<96, Pages<96>>(stream, a, w, seqs_len, out, ctx);
    case 128: return launch_as<128, Pages<128>>(stream, a, w, seqs_len, out, ctx);
    default: return launch_as<256, Pages<256>>(stream, a, w, seqs_len, out, ctx);
    }
}

extern "C" gw_err_t gw_cuda_attention_decode(gw_cuda_stream stream, uint16_t *out,
                                             const struct gw_cuda_qkv *qkv, const struct gw_kv_layer *kv,
                                             enum gw_dtype kv_type, float scale,
                                             const struct gw_cuda_batch *batch, float *workspace,
                                             struct gw_err_ctx *ctx)
{
    TRY(gw_attn_check(qkv, kv, kv_type, batch, ctx));
    if (batch->seqs_len == 0 || batch->rows_max == 0) return GW_OK;
    const struct gw_attn_args a = gw_attn_args_of(qkv, kv, scale, batch);
    struct workspace w = workspace_of(kv, qkv->heads, batch);
    GW_NEED((uint64_t)gw_kv_heads(kv) * w.tiles <= 65535, "KV heads · tiles of 16 queries: 65535 at most");
    w.parts = workspace;
    if (kv_type == GW_I8) return launch<gw_attn_pages_int8>(stream, a, w, batch->seqs_len, out, ctx);
    return launch<gw_attn_pages_bf16>(stream, a, w, batch->seqs_len, out, ctx);
}
