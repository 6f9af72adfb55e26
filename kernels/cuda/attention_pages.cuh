/* What a block of attention reads, from global to shared memory: its queries, and K and V of a tile of GW_ATTN_TILE positions.
 *
 * A block takes queries of one sequence and one KV head; a query is (row i / group, head i mod group), group = query heads of that KV
 * head, so that K and V are read once for all of them. Positions that no query of the block sees are never loaded: zeros stand
 * there. So do zeros behind head_dim, up to HEAD_DIM, the size that is compiled for.
 *
 * Rows in shared memory are HEAD_DIM + 8 bf16 apart (ldmatrix then meets each bank once). How they get there is the pages' (Pages):
 *
 *     BYTES                              of shared memory, from `memory` on
 *     request(a, q, part, first, last)   asks for K or V of the tile from `first` on, as one group of copies; an empty one from `last` on
 *     ready(a, q, part, next, last)      the tile that was requested is there, for all threads; there is one later group at most
 *     done(a, q, part, next, last)       nobody will read it any more
 *     rows(part)                         [GW_ATTN_TILE][HEAD_DIM + 8] bf16
 *
 * ready or done requests the next tile. SCALED: a row's numbers are multiples of scales(part)[row].
 *
 * Owner: all memory is the caller's. Thread: a block. Units: elements, positions, bytes where named. Errors: none. Source: own
 * design. */
#ifndef GW_KERNELS_CUDA_ATTENTION_PAGES_CUH
#define GW_KERNELS_CUDA_ATTENTION_PAGES_CUH

#include "kernels/cuda/ptx.cuh"

#include "kernels/cpu/kv.h"
#include "kernels/cuda/launchers.h"

#define GW_ATTN_TILE     64u
#define GW_ATTN_THREADS  128u
#define GW_ATTN_PAD      8u
#define GW_ATTN_SEQS_MAX 65535u /* the grid's z */

static_assert(GW_ATTN_CHUNK % GW_ATTN_TILE == 0, "a chunk is so many tiles");

struct gw_attn_args {
    const float *qkv;
    size_t qkv_stride, q_at;
    uint32_t heads;
    struct gw_kv_layer kv;
    float scale;
    const struct gw_seq_rows *seqs;
};

/* The queries of a block, and the positions [start, end) that they see together. */
struct gw_attn_queries {
    struct gw_seq_rows seq;
    uint32_t kv_head, first_head, group, first, count; /* count 0: nothing to do */
    uint32_t start, end;
};

GW_BOTH static inline uint32_t gw_attn_first_head(const struct gw_kv_layer *kv, uint32_t heads,
                                                  uint32_t kv_head)
{
    uint32_t kv_heads = gw_kv_heads(kv);
    if (!kv->query_group) return (kv_head * heads + kv_heads - 1) / kv_heads;
    uint32_t head = kv_head * kv->query_group;
    head = head > kv->query_shift ? head - kv->query_shift : 0;
    return head < heads ? head : heads;
}

/* The most query heads that one KV head has. */
static inline uint32_t gw_attn_group_max(const struct gw_kv_layer *kv, uint32_t heads)
{
    uint32_t kv_heads = gw_kv_heads(kv);
    return kv->query_group ? kv->query_group : (heads + kv_heads - 1) / kv_heads;
}

__device__ static inline uint32_t gw_attn_start(const struct gw_kv_layer &kv, uint32_t position)
{
    return kv.window && position >= kv.window ? position + 1 - kv.window : 0;
}

/* Queries [tile * rows, + rows) of a sequence and KV head. */
__device__ static inline struct gw_attn_queries gw_attn_queries_of(const struct gw_attn_args &a, uint32_t seq,
                                                                   uint32_t kv_head, uint32_t tile,
                                                                   uint32_t rows)
{
    struct gw_attn_queries q;
    q.seq = a.seqs[seq];
    q.kv_head = kv_head;
    q.first_head = gw_attn_first_head(&a.kv, a.heads, kv_head);
    q.group = gw_attn_first_head(&a.kv, a.heads, kv_head + 1) - q.first_head;
    q.first = tile * rows;
    uint32_t all = q.seq.rows * q.group;
    q.count = q.first < all ? min(all - q.first, rows) : 0;
    if (q.count == 0) return q;
    q.start = gw_attn_start(a.kv, q.seq.position + q.first / q.group);
    q.end = q.seq.position + (q.first + q.count - 1) / q.group + 1;
    return q;
}

/* Element of the first column of query i in rows of `stride` whose heads begin at `at`. */
__device__ static inline size_t gw_attn_query_at(const struct gw_attn_queries &q, uint32_t i, size_t stride,
                                                 size_t at, uint32_t head_dim)
{
    size_t row = q.seq.row + (q.first + i) / q.group, head = q.first_head + (q.first + i) % q.group;
    return row * stride + at + head * head_dim;
}

/* q of the block's queries to shared memory, rounded; zeros behind them and behind head_dim. */
template <uint32_t HEAD_DIM, uint32_t ROWS>
__device__ static void gw_attn_load_q(const struct gw_attn_args &a, const struct gw_attn_queries &q,
                                      uint16_t *to)
{
    for (uint32_t n = threadIdx.x; n < ROWS * HEAD_DIM; n += GW_ATTN_THREADS) {
        uint32_t i = n / HEAD_DIM, d = n % HEAD_DIM;
        bool is = i < q.count && d < a.kv.head_dim;
        float x = is ? a.qkv[gw_attn_query_at(q, i, a.qkv_stride, a.q_at, a.kv.head_dim) + d] : 0.0f;
        to[i * (HEAD_DIM + GW_ATTN_PAD) + d] = gw_bf16_of_f32(x);
    }
}

/* Does any query of the block see the position? */
__device__ static inline bool gw_attn_is_seen(const struct gw_attn_queries &q, uint32_t position)
{
    return position >= q.start && position < q.end;
}

/* Of bf16: rows are copied to where they are multiplied from. */
template <uint32_t HEAD_DIM> struct gw_attn_pages_bf16 {
    static constexpr bool SCALED = false;
    static constexpr uint32_t ROW = HEAD_DIM + GW_ATTN_PAD;
    static constexpr size_t BYTES = 2 * GW_ATTN_TILE * ROW * sizeof(uint16_t);
    uint8_t *memory;

    __device__ uint16_t *rows(enum gw_kv_part part) const
    {
        return gw_as<uint16_t>(memory) + part * GW_ATTN_TILE * ROW;
    }

    __device__ void request(const struct gw_attn_args &a, const struct gw_attn_queries &q,
                            enum gw_kv_part part, uint32_t first, uint32_t last) const
    {
        const uint32_t pieces = HEAD_DIM / 8; /* of 16 bytes */
        for (uint32_t n = threadIdx.x; first < last && n < GW_ATTN_TILE * pieces; n += GW_ATTN_THREADS) {
            uint32_t row = n / pieces, d = n % pieces * 8, position = first + row;
            bool seen = gw_attn_is_seen(q, position) && d < a.kv.head_dim;
            const void *from = a.qkv; /* is not read */
            if (seen)
                from =
                    gw_kv_at(&a.kv, GW_BF16, part, q.kv_head, q.seq.blocks, position) + d * sizeof(uint16_t);
            gw_copy16_async(&rows(part)[row * ROW + d], from, seen);
        }
        gw_copies_commit();
    }

    __device__ void ready(const struct gw_attn_args &, const struct gw_attn_queries &, enum gw_kv_part,
                          uint32_t, uint32_t) const
    {
        gw_copies_wait<1>();
        __syncthreads();
    }

    __device__ void done(const struct gw_attn_args &a, const struct gw_attn_queries &q, enum gw_kv_part part,
                         uint32_t next, uint32_t last) const
    {
        __syncthreads(); /* nobody reads it any more */
        request(a, q, part, next, last);
    }
};

#endif
