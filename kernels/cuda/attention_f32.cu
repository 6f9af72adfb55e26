/* Attention of f32 activations: out[m, heads * head_dim] f32, with the CPU's bits (kernels/cpu/attention_c.c).
 *
 * For one query and one chunk of GW_ATTN_CHUNK positions, those that it sees, j ascending:
 *
 *     s_j = scale · (q · k_j)     16 lanes, lane = d mod 16, d ascending, folded 8, 4, 2, 1
 *     M   = max s_j               p_j = exp(s_j - M)
 *     l   = Σ p_j                 16 lanes, lane = j mod 16, folded
 *     o   = Σ p_j · v_j           fma, j ascending
 *
 * Chunks merge ascending, max = max(M, M'): l = fma(l, exp(M - max), l' · exp(M' - max)), o likewise; the row is o · (1 / l). Of int8
 * pages s_j is multiplied by k_j's scale first, p_j by v_j's behind the sum.
 *
 * A block of 8 warps takes up to 8 queries of one sequence and one KV head (a row's GQA group reads KV once): a thread has the score of
 * a query and a position of a tile of 32, a warp a query's exponentials, a thread a column of o for some of the queries. With a
 * workspace a block does one chunk, and a second kernel merges; without, it walks them all. The bits are the same.
 *
 *     shared memory    q [8][256] | k [32][260] | p [8][256] | max, sum [8]                     49 KiB
 *     workspace        part [sequence][KV head][tile of 8 queries][chunk]: o [8][head_dim] | max [8] | sum [8]
 *
 * Positions that no query of the block sees are never loaded. Floor: 2 · positions · KV heads · head_dim · 4 bytes of KV. Limits: KV of
 * f32 or int8, head_dim a multiple of 8, 256 at most; 65535 sequences. */
#include "kernels/cuda/attention_pages.cuh"

#define QUERIES      8u
#define THREADS      256u
#define TILE         32u
#define HEAD_DIM_MAX 256u
#define K_ROW        (HEAD_DIM_MAX + 4u) /* eight threads of as many rows, 16 bytes each, meet all banks once */

/* What a block keeps in shared memory. */
struct room {
    float q[QUERIES][HEAD_DIM_MAX], k[TILE][K_ROW], p[QUERIES][GW_ATTN_CHUNK], max[QUERIES], sum[QUERIES];
};

/* What a query sees of a chunk: [from, to), counted from the chunk's first position; to <= from: nothing. */
struct seen {
    uint32_t from, to;
};

struct parts {
    float *at; /* NULL: blocks walk all chunks */
    uint32_t tiles, chunks;
};

__device__ static inline struct seen seen_of(const struct gw_attn_args &a, const struct gw_attn_queries &q,
                                             uint32_t query, uint32_t first)
{
    uint32_t position = q.seq.position + (q.first + query) / q.group, start = gw_attn_start(a.kv, position);
    struct seen s = {0, 0};
    if (query >= q.count || position < first) return s;
    s.from = start > first ? start - first : 0;
    s.to = min(position + 1 - first, (uint32_t)GW_ATTN_CHUNK);
    return s;
}

/* The order of kernels/cpu/simd_c.h: a NaN on the left is dropped, as there. */
__device__ static inline float fold_max(float lane)
{
    for (unsigned width = GW_LANES / 2; width >= 1; width /= 2) {
        float other = __shfl_down_sync(GW_ALL_LANES, lane, width);
        lane = lane > other ? lane : other;
    }
    return lane;
}

/* ---- scores ---- */

/* K of positions [first, first + TILE) that some query sees. */
template <class T>
__device__ static void load_k(const struct gw_attn_args &a, const struct gw_attn_queries &q, struct room *r,
                              uint32_t first)
{
    const enum gw_dtype type = sizeof(T) == 4 ? GW_F32 : GW_I8;
    const uint32_t head_dim = a.kv.head_dim;
    for (uint32_t i = threadIdx.x; i < TILE * head_dim; i += THREADS) {
        uint32_t row = i / head_dim, d = i % head_dim;
        if (!gw_attn_is_seen(q, first + row)) continue;
        const T *k = gw_as<T>(gw_kv_at(&a.kv, type, GW_KV_K, q.kv_head, q.seq.blocks, first + row));
        r->k[row][d] = (float)k[d];
    }
}

__device__ static float dot(const float *q, const float *k, uint32_t head_dim)
{
    float lanes[GW_LANES] = {};
    for (uint32_t d = 0; d < head_dim; d += GW_LANES)
#pragma unroll
        for (uint32_t i = 0; i < GW_LANES; i++)
            if (i < 8 || d + i < head_dim) /* head_dim is a multiple of 8 */
                lanes[i] = fmaf(q[d + i], k[d + i], lanes[i]);
#pragma unroll
    for (uint32_t width = GW_LANES / 2; width >= 1; width /= 2)
#pragma unroll
        for (uint32_t i = 0; i < width; i++) lanes[i] += lanes[i + width];
    return lanes[0];
}

/* Scores of the chunk from `first` on, for all queries: a warp is a query, a lane a position. */
template <class T>
__device__ static void scores(const struct gw_attn_args &a, const struct gw_attn_queries &q, struct room *r,
                              uint32_t first, struct seen mine)
{
    const uint32_t query = threadIdx.x / GW_WARP, lane = threadIdx.x % GW_WARP;
    for (uint32_t at = 0; at < GW_ATTN_CHUNK && first + at < q.end; at += TILE) {
        uint32_t j = at + lane;
        if (first + at + TILE <= q.start) continue;
        __syncthreads(); /* nobody reads the tile before it any more */
        load_k<T>(a, q, r, first + at);
        __syncthreads();
        if (j < mine.from || j >= mine.to) continue;
        float s = dot(r->q[query], r->k[lane], a.kv.head_dim);
        if (sizeof(T) == 1) s *= *gw_kv_scale_at(&a.kv, GW_KV_K, q.kv_head, q.seq.blocks, first + j);
        r->p[query][j] = s * a.scale;
    }
}

/* p = e^(s - max) of the warp's query, max and sum; by all of its lanes. */
template <class T>
__device__ static void exponentials(const struct gw_attn_args &a, const struct gw_attn_queries &q,
                                    struct room *r, uint32_t first, struct seen mine)
{
    const uint32_t query = threadIdx.x / GW_WARP, lane = threadIdx.x % GW_WARP;
    float *p = r->p[query], max = -FLT_MAX, sum = 0.0f;
    __syncwarp();
    for (uint32_t j = lane; lane < GW_LANES && j < mine.to; j += GW_LANES)
        if (j >= mine.from) max = max > p[j] ? max : p[j];
    max = __shfl_sync(GW_ALL_LANES, fold_max(max), 0);
    __syncwarp();
    for (uint32_t j = lane; j < mine.to; j += GW_WARP)
        if (j >= mine.from) p[j] = gw_expf(p[j] - max);
    __syncwarp();
    for (uint32_t j = lane; lane < GW_LANES && j < mine.to; j += GW_LANES)
        if (j >= mine.from) sum += p[j];
    sum = gw_fold_sum(sum);
    __syncwarp();
    for (uint32_t j = lane; sizeof(T) == 1 && j < mine.to; j += GW_WARP)
        if (j >= mine.from) p[j] *= *gw_kv_scale_at(&a.kv, GW_KV_V, q.kv_head, q.seq.blocks, first + j);
    if (lane == 0) r->max[query] = max, r->sum[query] = sum;
}

/* ---- o ---- */

/* Which columns and queries of o a thread has: column d, and queries by, by + step, … */
struct share {
    uint32_t d, by, step;
};

__device__ static inline struct share share_of(uint32_t head_dim)
{
    uint32_t columns = head_dim > 128 ? 256 : head_dim > 64 ? 128 : head_dim > 32 ? 64 : 32;
    struct share s = {threadIdx.x % columns, threadIdx.x / columns, THREADS / columns};
    return s;
}

/* o[n] = Σ p_j · v_j of the chunk, of query by + n · step. */
template <class T>
__device__ static void weigh(const struct gw_attn_args &a, const struct gw_attn_queries &q,
                             const struct room *r, uint32_t first, struct share s, float o[QUERIES])
{
    const enum gw_dtype type = sizeof(T) == 4 ? GW_F32 : GW_I8;
    struct seen all[QUERIES];
#pragma unroll
    for (uint32_t n = 0; n < QUERIES; n++) {
        uint32_t query = s.by + n * s.step;
        struct seen none = {0, 0};
        all[n] = query < QUERIES ? seen_of(a, q, query, first) : none;
        o[n] = 0.0f;
    }
    if (s.d >= a.kv.head_dim) return;
    for (uint32_t j = 0; j < GW_ATTN_CHUNK && first + j < q.end; j++) {
        if (first + j < q.start) continue;
        const T *v = gw_as<T>(gw_kv_at(&a.kv, type, GW_KV_V, q.kv_head, q.seq.blocks, first + j));
        float number = (float)v[s.d];
#pragma unroll
        for (uint32_t n = 0; n < QUERIES; n++)
            if (j >= all[n].from && j < all[n].to)
                o[n] = fmaf(r->p[(s.by + n * s.step) % QUERIES][j], number, o[n]);
    }
}

/* ---- kernels ---- */

/* The part of one chunk; r->max, r->sum and o are its. */
template <class T>
__device__ static void chunk_part(const struct gw_attn_args &a, const struct gw_attn_queries &q,
                                  struct room *r, uint32_t first, struct share s, float o[QUERIES])
{
    const struct seen mine = seen_of(a, q, threadIdx.x / GW_WARP, first);
    __syncthreads(); /* nobody reads what the chunk before it has left */
    scores<T>(a, q, r, first, mine);
    exponentials<T>(a, q, r, first, mine);
    __syncthreads();
    weigh<T>(a, q, r, first, s, o);
}

__device__ static inline float *part_at(const struct parts &w, uint32_t chunk, uint32_t head_dim)
{
    size_t index = ((size_t)blockIdx.z * gridDim.y + blockIdx.y) * w.chunks + chunk;
    return w.at + index * QUERIES * (head_dim + 2);
}

/* A query's state over chunks; a thread has one column of it. */
struct state {
    float max, sum, o;
};

/* Takes the next chunk; before the first, `is` is false. */
__device__ static inline void merge(struct state &state, bool &is, float max, float sum, float o)
{
    if (is) {
        float most = state.max > max ? state.max : max;
        float a = gw_expf(state.max - most), b = gw_expf(max - most);
        max = most;
        sum = fmaf(state.sum, a, sum * b);
        o = fmaf(state.o, a, o * b);
    }
    state.max = max;
    state.sum = sum;
    state.o = o;
    is = true;
}

__device__ static inline void put(float *out, const struct gw_attn_args &a, const struct gw_attn_queries &q,
                                  uint32_t query, uint32_t d, const struct state &s)
{
    uint32_t head_dim = a.kv.head_dim;
    float inverse = 1.0f / s.sum;
    out[gw_attn_query_at(q, query, (size_t)a.heads * head_dim, 0, head_dim) + d] = s.o * inverse;
}

__device__ static void load_q(const struct gw_attn_args &a, const struct gw_attn_queries &q, struct room *r)
{
    const uint32_t head_dim = a.kv.head_dim;
    for (uint32_t i = threadIdx.x; i < q.count * head_dim; i += THREADS) {
        uint32_t query = i / head_dim, d = i % head_dim;
        r->q[query][d] = a.qkv[gw_attn_query_at(q, query, a.qkv_stride, a.q_at, head_dim) + d];
    }
}

template <class T>
__device__ static void walk(const struct gw_attn_args &a, const struct gw_attn_queries &q, struct room *r,
                            float *out)
{
    const struct share s = share_of(a.kv.head_dim);
    struct state states[QUERIES];
    bool is[QUERIES] = {};
    float o[QUERIES];
    for (uint32_t first = q.start / GW_ATTN_CHUNK * GW_ATTN_CHUNK; first < q.end; first += GW_ATTN_CHUNK) {
        chunk_part<T>(a, q, r, first, s, o);
#pragma unroll
        for (uint32_t n = 0; n < QUERIES; n++) {
            uint32_t query = s.by + n * s.step;
            struct seen seen = {0, 0};
            if (query < QUERIES) seen = seen_of(a, q, query, first);
            if (seen.from < seen.to) merge(states[n], is[n], r->max[query], r->sum[query], o[n]);
        }
    }
#pragma unroll
    for (uint32_t n = 0; n < QUERIES; n++)
        if (is[n] && s.d < a.kv.head_dim) put(out, a, q, s.by + n * s.step, s.d, states[n]);
}

template <class T>
__global__ static void __launch_bounds__(THREADS) attend(struct gw_attn_args a, struct parts w, float *out)
{
    GW_SHARED_DYNAMIC(memory);
    struct room *r = gw_as<struct room>(memory);
    const struct gw_attn_queries q =
        gw_attn_queries_of(a, blockIdx.z, blockIdx.y / w.tiles, blockIdx.y % w.tiles, QUERIES);
    const uint32_t first = blockIdx.x * GW_ATTN_CHUNK, head_dim = a.kv.head_dim;
    const struct share s = share_of(head_dim);
    float o[QUERIES];
    if (q.count == 0) return;
    if (w.at && (first >= q.end || first + GW_ATTN_CHUNK <= q.start)) return;
    load_q(a, q, r);
    if (!w.at) {
        walk<T>(a, q, r, out);
        return;
    }
    chunk_part<T>(a, q, r, first, s, o);
    float *part = part_at(w, blockIdx.x, head_dim), *max = part + QUERIES * head_dim;
#pragma unroll
    for (uint32_t n = 0; n < QUERIES; n++)
        if (s.by + n * s.step < q.count && s.d < head_dim) part[(s.by + n * s.step) * head_dim + s.d] = o[n];
    if (threadIdx.x < q.count) {
        max[threadIdx.x] = r->max[threadIdx.x];
        max[QUERIES + threadIdx.x] = r->sum[threadIdx.x];
    }
}

/* The parts of 8 queries; a thread has some columns of them. */
__global__ static void __launch_bounds__(THREADS)
    merge_parts(struct gw_attn_args a, struct parts w, float *out)
{
    const struct gw_attn_queries q =
        gw_attn_queries_of(a, blockIdx.z, blockIdx.y / w.tiles, blockIdx.y % w.tiles, QUERIES);
    const uint32_t head_dim = a.kv.head_dim;
    for (uint32_t i = threadIdx.x; i < q.count * head_dim; i += THREADS) {
        uint32_t query = i / head_dim, d = i % head_dim;
        struct state state = {0.0f, 0.0f, 0.0f};
        bool is = false;
        for (uint32_t chunk = q.start / GW_ATTN_CHUNK; chunk * GW_ATTN_CHUNK < q.end; chunk++) {
            const struct seen seen = seen_of(a, q, query, chunk * GW_ATTN_CHUNK);
            const float *part = part_at(w, chunk, head_dim), *max = part + QUERIES * head_dim;
            if (seen.from < seen.to)
                merge(state, is, max[query], max[QUERIES + query], part[query * head_dim + d]);
        }
        put(out, a, q, query, d, state);
    }
}

/* ---- launchers ---- */

static struct parts parts_of(const struct gw_kv_layer *kv, uint32_t heads, const struct gw_cuda_batch *batch,
                             float *at)
{
    struct parts w = {at, gw_blocks_of((size_t)batch->rows_max * gw_attn_group_max(kv, heads), QUERIES),
                      gw_blocks_of(batch->length_max, GW_ATTN_CHUNK)};
    return w;
}

extern "C" size_t gw_cuda_attention_f32_bytes(const struct gw_kv_layer *kv, uint32_t heads,
                                              const struct gw_cuda_batch *batch)
{
    const struct parts w = parts_of(kv, heads, batch, NULL);
    size_t parts = (size_t)batch->seqs_len * gw_kv_heads(kv) * w.tiles * w.chunks;
    return parts * QUERIES * (kv->head_dim + 2) * sizeof(float);
}

template <class T>
static gw_err_t launch(gw_cuda_stream stream, float *out, const struct gw_attn_args &a, const struct parts &w,
                       uint32_t seqs_len, struct gw_err_ctx *ctx)
{
    auto *kernel = attend<T>;
    dim3 blocks(w.at ? w.chunks : 1, gw_kv_heads(&a.kv) * w.tiles, seqs_len), merges(1, blocks.y, blocks.z);
    (void)GW_ALLOW_SHARED(kernel, sizeof(struct room)); /* what it refuses, the launch refuses */
    GW_LAUNCH(kernel, blocks, THREADS, sizeof(struct room), stream, a, w, out);
    TRY(gw_launched(ctx, "attention_f32"));
    if (!w.at) return GW_OK;
    GW_LAUNCH(merge_parts, merges, THREADS, 0, stream, a, w, out);
    return gw_launched(ctx, "attention_f32: merge");
}

extern "C" gw_err_t gw_cuda_attention_f32(gw_cuda_stream stream, float *out, const struct gw_cuda_qkv *qkv,
                                          const struct gw_kv_layer *kv, enum gw_dtype kv_type, float scale,
                                          const struct gw_cuda_batch *batch, float *workspace,
                                          struct gw_err_ctx *ctx)
{
    GW_NEED(kv_type == GW_F32 || kv_type == GW_I8, "KV of f32 or int8");
    GW_NEED(kv->head_dim % 8 == 0 && kv->head_dim <= HEAD_DIM_MAX, "heads of 8, 16, … 256 elements");
    GW_NEED(batch->seqs_len <= GW_ATTN_SEQS_MAX, "65535 sequences at most");
    if (batch->seqs_len == 0 || batch->rows_max == 0) return GW_OK;
    const struct gw_attn_args a = {qkv->data, qkv->stride, qkv->q_at, qkv->heads, *kv, scale, batch->seqs};
    const struct parts w = parts_of(kv, qkv->heads, batch, workspace);
    GW_NEED((uint64_t)gw_kv_heads(kv) * w.tiles <= 65535, "KV heads · tiles of 8 queries: 65535 at most");
    if (kv_type == GW_I8) return launch<int8_t>(stream, out, a, w, batch->seqs_len, ctx);
    return launch<float>(stream, out, a, w, batch->seqs_len, ctx);
}
