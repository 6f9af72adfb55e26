/* Attention over pages on tensor cores: the arithmetic of one chunk, the same in decode and prefill.
 *
 * For one query (row at position p, head h) and one chunk of GW_ATTN_CHUNK positions from a multiple of it, tiles t = 0 … 3 of
 * GW_ATTN_TILE positions ascending; of these only the ones that the query sees (kernels/op.h: up to p, in its window):
 *
 *     s_j = scale · (q · k_j)                      q rounded to bf16; mma over head_dim, 16 at a time, ascending, from 0
 *     M   = max(m, max s_j)
 *     a   = exp(m - M)                             m = -FLT_MAX, o = l = 0 before the first tile
 *     o   = o · a + 0, l = l · a + 0               (+ 0: never -0)
 *     p_j = bf16(exp(s_j - M)), 0 for positions that are not seen
 *     o  += p · v, l += p · 1                      mma over the tile's positions, 16 at a time, ascending
 *     m   = M
 *
 * The chunk's part (m, l, o) is then merged into the query's state, chunks ascending (gw_attn_merge), and the row is
 * state.o * (1 / state.l). A tile, or a chunk, of which a query sees nothing changes no bit of it: a = 1 and zeros are added. So
 * a query's bits depend neither on the queries beside it nor on who computes its chunks.
 *
 * Of int8 pages, with the scales x_j of k_j and y_j of v_j (their numbers are exact in bf16):
 *
 *     s_j = (q · k_j) · x_j · scale      o += bf16(exp(s_j - M) · y_j) · v_j
 *
 * A block of 4 warps takes ROW_GROUPS · 16 queries (attention_pages.cuh). A warp takes 16 of them and head_dim / SLICES columns of
 * o; warps that share their queries compute the same s, which decode has the time for.
 *
 *     shared memory:    q [ROW_GROUPS * 16][HEAD_DIM + 8] bf16    K and V: the pages'
 *
 * K of the next tile is on its way while this one's o is computed, V while the scores are. V of a position that others of the block
 * see is multiplied by 0 for a query that does not: of bf16 an infinity or NaN there would reach it, and would be the sequence's own.
 *
 * Owner: all memory is the caller's. Thread: a block. Units: elements, positions. Errors: none. Source: own design, after
 * FlashAttention-2 (Dao 2023). */
#ifndef GW_KERNELS_CUDA_ATTENTION_TILES_CUH
#define GW_KERNELS_CUDA_ATTENTION_TILES_CUH

#include "kernels/cuda/attention_pages.cuh"

#define GW_ATTN_ROWS   16u /* of an mma */
#define GW_ATTN_HALVES 2   /* a thread holds two rows of an mma: its lane / 4, and that + 8 */
#define GW_ATTN_NTILES (GW_ATTN_TILE / 8u)

/* A thread's share of the softmax state of its warp's 16 queries; o: N n-tiles of 8 columns, as mma holds them. */
template <int N> struct gw_attn_part {
    float max[GW_ATTN_HALVES], o[N][4], sum[4];
};

/* What a thread's two queries see of the tile: [from, to), counted from the tile's first position. */
struct gw_attn_seen {
    uint32_t from[GW_ATTN_HALVES], to[GW_ATTN_HALVES];
};

/* s = q · kᵀ of the warp's 16 queries and the tile. */
template <uint32_t HEAD_DIM>
__device__ static void gw_attn_scores(float s[GW_ATTN_NTILES][4], const uint16_t *q, const uint16_t *k)
{
    const uint32_t stride = HEAD_DIM + GW_ATTN_PAD, lane = threadIdx.x % GW_WARP;
    const uint16_t *q_row = q + lane % 16 * stride + lane / 16 * 8;
    const uint16_t *k_row = k + (lane / 16 * 8 + lane % 8) * stride + lane / 8 % 2 * 8;
#pragma unroll
    for (uint32_t n = 0; n < GW_ATTN_NTILES; n++) s[n][0] = s[n][1] = s[n][2] = s[n][3] = 0.0f;
#pragma unroll
    for (uint32_t d = 0; d < HEAD_DIM; d += 16) {
        uint32_t left[4];
        gw_ldmatrix_x4(left, q_row + d);
#pragma unroll
        for (uint32_t n = 0; n < GW_ATTN_NTILES; n += 2) {
            uint32_t right[4];
            gw_ldmatrix_x4(right, k_row + n * 8 * stride + d);
            gw_mma_bf16(s[n], left, right);
            gw_mma_bf16(s[n + 1], left, right + 2);
        }
    }
}

__device__ static inline bool gw_attn_sees(const struct gw_attn_seen &seen, uint32_t n, uint32_t i)
{
    uint32_t at = n * 8 + threadIdx.x % 4 * 2 + i % 2;
    return at >= seen.from[i / 2] && at < seen.to[i / 2];
}

/* The new max of each half's query, over the four threads that share it; s is scaled. */
__device__ static inline void gw_attn_max(float s[GW_ATTN_NTILES][4], const struct gw_attn_seen &seen,
                                          float scale, float max[GW_ATTN_HALVES])
{
#pragma unroll
    for (uint32_t n = 0; n < GW_ATTN_NTILES; n++)
#pragma unroll
        for (uint32_t i = 0; i < 4; i++) {
            s[n][i] *= scale;
            if (gw_attn_sees(seen, n, i) && s[n][i] > max[i / 2]) max[i / 2] = s[n][i];
        }
#pragma unroll
    for (int half = 0; half < GW_ATTN_HALVES; half++)
        for (int lanes = 1; lanes < 4; lanes *= 2) {
            float other = __shfl_xor_sync(GW_ALL_LANES, max[half], lanes);
            max[half] = other > max[half] ? other : max[half];
        }
}

__device__ static inline uint32_t gw_attn_pair(float low, float high)
{
    return gw_bf16_of_f32(low) | (uint32_t)gw_bf16_of_f32(high) << 16;
}

/* exp(s - max) of 16 positions from n-tile n on, in the order of an mma's left side: pair i is register i. */
__device__ static inline void gw_attn_exponentials(float e[8], const float s[GW_ATTN_NTILES][4], uint32_t n,
                                                   const struct gw_attn_seen &seen,
                                                   const float max[GW_ATTN_HALVES])
{
#pragma unroll
    for (uint32_t at = 0; at < 8; at++) {
        uint32_t tile = n + at / 4, i = at % 4;
        e[at] = gw_attn_sees(seen, tile, i) ? gw_expf(s[tile][i] - max[i / 2]) : 0.0f;
    }
}

__device__ static inline void gw_attn_weights(uint32_t left[4], const float e[8])
{
#pragma unroll
    for (uint32_t at = 0; at < 4; at++) left[at] = gw_attn_pair(e[2 * at], e[2 * at + 1]);
}

/* s of the tile, by the scales of its positions. */
__device__ static inline void gw_attn_scale_scores(float s[GW_ATTN_NTILES][4], const float *scales)
{
#pragma unroll
    for (uint32_t n = 0; n < GW_ATTN_NTILES; n++)
#pragma unroll
        for (uint32_t i = 0; i < 4; i++) s[n][i] *= scales[n * 8 + threadIdx.x % 4 * 2 + i % 2];
}

/* What is 0 stays: a scale may be NaN for those alone who see its position. */
__device__ static inline void gw_attn_scale_weights(float e[8], uint32_t n, const float *scales)
{
#pragma unroll
    for (uint32_t at = 0; at < 8; at++) {
        float scale = scales[(n + at / 4) * 8 + threadIdx.x % 4 * 2 + at % 2];
        if (e[at] != 0.0f) e[at] *= scale;
    }
}

template <int N>
__device__ static inline void gw_attn_rescale(struct gw_attn_part<N> &p, const float max[GW_ATTN_HALVES])
{
    float by[GW_ATTN_HALVES];
#pragma unroll
    for (int half = 0; half < GW_ATTN_HALVES; half++) {
        by[half] = gw_expf(p.max[half] - max[half]);
        p.max[half] = max[half];
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
        p.sum[i] = p.sum[i] * by[i / 2] + 0.0f;
#pragma unroll
        for (int n = 0; n < N; n++) p.o[n][i] = p.o[n][i] * by[i / 2] + 0.0f;
    }
}

/* Takes the tile into the part. s: its scores; column: of V, the warp's first. */
template <uint32_t HEAD_DIM, int N, class Pages>
__device__ static void gw_attn_take(struct gw_attn_part<N> &p, float s[GW_ATTN_NTILES][4],
                                    const struct gw_attn_seen &seen, float scale, const Pages &pages,
                                    uint32_t first_column)
{
    const uint32_t stride = HEAD_DIM + GW_ATTN_PAD, ones[2] = {0x3F803F80u, 0x3F803F80u}; /* bf16 1 */
    const uint16_t *v_row = pages.rows(GW_KV_V) + threadIdx.x % 16 * stride + first_column;
    float max[GW_ATTN_HALVES] = {p.max[0], p.max[1]};
    gw_attn_max(s, seen, scale, max);
    gw_attn_rescale(p, max);
#pragma unroll
    for (uint32_t n = 0; n < GW_ATTN_NTILES; n += 2) {
        uint32_t left[4], right[2];
        float e[8];
        gw_attn_exponentials(e, s, n, seen, max);
        gw_attn_weights(left, e);
        gw_mma_bf16(p.sum, left, ones);
        if constexpr (Pages::SCALED) {
            gw_attn_scale_weights(e, n, pages.scales(GW_KV_V));
            gw_attn_weights(left, e);
        }
#pragma unroll
        for (int column = 0; column < N; column++) {
            gw_ldmatrix_x2_trans(right, v_row + n * 8 * stride + column * 8);
            gw_mma_bf16(p.o[column], left, right);
        }
    }
}

template <int N> __device__ static inline void gw_attn_clear(struct gw_attn_part<N> &p)
{
    p.max[0] = p.max[1] = -FLT_MAX;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        p.sum[i] = 0.0f;
#pragma unroll
        for (int n = 0; n < N; n++) p.o[n][i] = 0.0f;
    }
}

/* How a chunk's part joins the state: values x of the state become fma(x, a, part · b). */
struct gw_attn_merge {
    float max, a, b;
};

__device__ static inline struct gw_attn_merge gw_attn_merge_of(float state_max, float part_max)
{
    struct gw_attn_merge m;
    m.max = state_max > part_max ? state_max : part_max;
    m.a = gw_expf(state_max - m.max);
    m.b = gw_expf(part_max - m.max);
    return m;
}

/* Of the tile from `first` on, what the thread's two queries see. */
__device__ static inline struct gw_attn_seen gw_attn_seen_of(const struct gw_attn_args &a,
                                                             const struct gw_attn_queries &q, uint32_t row,
                                                             uint32_t first)
{
    struct gw_attn_seen seen;
#pragma unroll
    for (uint32_t half = 0; half < GW_ATTN_HALVES; half++) {
        uint32_t i = row + half * 8;
        uint32_t position = q.seq.position + (q.first + i) / q.group, start = gw_attn_start(a.kv, position);
        seen.from[half] = start > first ? start - first : 0;
        seen.to[half] = i < q.count && position + 1 > first ? position + 1 - first : 0;
    }
    return seen;
}

/* Walks the tiles of positions [first, last), first a multiple of a tile; each chunk's part goes to sink.take(). All threads
 * of the block call it; q: shared memory. */
template <uint32_t HEAD_DIM, uint32_t ROW_GROUPS, class Pages, class Sink>
__device__ static void gw_attn_walk(const struct gw_attn_args &a, const struct gw_attn_queries &queries,
                                    uint32_t first, uint32_t last, uint16_t *q, const Pages &pages,
                                    Sink &sink)
{
    constexpr uint32_t SLICES = GW_ATTN_THREADS / GW_WARP / ROW_GROUPS;
    constexpr int N = (int)(HEAD_DIM / 8 / SLICES);
    const uint32_t warp = threadIdx.x / GW_WARP, group = warp / SLICES, slice = warp % SLICES;
    const uint32_t row = group * GW_ATTN_ROWS + threadIdx.x % GW_WARP / 4;
    struct gw_attn_part<N> part;
    gw_attn_clear(part);
    pages.request(a, queries, GW_KV_K, first, last);
    pages.request(a, queries, GW_KV_V, first, last);
    gw_attn_load_q<HEAD_DIM, ROW_GROUPS * GW_ATTN_ROWS>(a, queries, q);
    for (uint32_t at = first; at < last; at += GW_ATTN_TILE) {
        float s[GW_ATTN_NTILES][4];
        uint32_t next = at + GW_ATTN_TILE;
        pages.ready(a, queries, GW_KV_K, next, last); /* and, once, q */
        gw_attn_scores<HEAD_DIM>(s, q + group * GW_ATTN_ROWS * (HEAD_DIM + GW_ATTN_PAD), pages.rows(GW_KV_K));
        if constexpr (Pages::SCALED) gw_attn_scale_scores(s, pages.scales(GW_KV_K));
        pages.done(a, queries, GW_KV_K, next, last);
        pages.ready(a, queries, GW_KV_V, next, last);
        gw_attn_take<HEAD_DIM>(part, s, gw_attn_seen_of(a, queries, row, at), a.scale, pages, slice * N * 8);
        pages.done(a, queries, GW_KV_V, next, last);
        if (next % GW_ATTN_CHUNK == 0 || next >= last) {
            sink.take(part);
            gw_attn_clear(part);
        }
    }
    gw_copies_wait<0>();
}

/* Bytes of shared memory for q; the pages' lie behind them. */
GW_BOTH constexpr size_t gw_attn_q_bytes(uint32_t head_dim, uint32_t row_groups)
{
    return (size_t)row_groups * GW_ATTN_ROWS * (head_dim + GW_ATTN_PAD) * sizeof(uint16_t);
}

/* What both launchers need of their arguments. */
static inline gw_err_t gw_attn_check(const struct gw_cuda_qkv *qkv, const struct gw_kv_layer *kv,
                                     enum gw_dtype kv_type, const struct gw_cuda_batch *batch,
                                     struct gw_err_ctx *ctx)
{
    GW_NEED(kv_type == GW_BF16 || kv_type == GW_I8, "KV of bf16 or int8");
    GW_NEED(kv_type == GW_BF16 || kv->block_tokens % 4 == 0, "blocks of int8 of a multiple of 4 tokens");
    GW_NEED(kv->head_dim >= 8 && kv->head_dim % 8 == 0 && kv->head_dim <= 256,
            "heads of 8, 16, … 256 elements");
    GW_NEED(kv->page_bytes % 16 == 0, "pages of a multiple of 16 bytes");
    GW_NEED(batch->seqs_len <= GW_ATTN_SEQS_MAX, "65535 sequences at most");
    GW_NEED(qkv->heads >= 1 && gw_kv_heads(kv) >= 1, "a query head and a KV head at least");
    return GW_OK;
}

static inline struct gw_attn_args gw_attn_args_of(const struct gw_cuda_qkv *qkv, const struct gw_kv_layer *kv,
                                                  float scale, const struct gw_cuda_batch *batch)
{
    struct gw_attn_args a;
    a.qkv = qkv->data;
    a.qkv_stride = qkv->stride;
    a.q_at = qkv->q_at;
    a.heads = qkv->heads;
    a.kv = *kv;
    a.scale = scale;
    a.seqs = batch->seqs;
    return a;
}

#endif
