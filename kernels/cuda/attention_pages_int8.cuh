/* K and V of int8 pages, for attention: numbers and scales come as they are stored, and are widened to bf16, which holds them exactly, by all
 * threads of the block, once for all warps.
 *
 *     shared memory:    rows [K, V][GW_ATTN_TILE][HEAD_DIM + 8] bf16    told [K, V][GW_ATTN_TILE][HEAD_DIM] int8
 *                       scales, told scales [K, V][GW_ATTN_TILE] f32
 *
 * What was told is free again as soon as it is widened: so the next tile is on its way while this one is used. Pieces of 16 bytes
 * where head_dim is a multiple of 16, else of 8.
 *
 * Owner: all memory is the caller's. Thread: a block. Units: elements, bytes where named. Errors: none. Source: own design. */
#ifndef GW_KERNELS_CUDA_ATTENTION_PAGES_INT8_CUH
#define GW_KERNELS_CUDA_ATTENTION_PAGES_INT8_CUH

#include "kernels/cuda/attention_pages.cuh"

/* Two numbers of a word of four, from bit `at` on, as two bf16. */
__device__ static inline uint32_t gw_attn_widen_pair(uint32_t word, uint32_t at)
{
    float low = (float)(int8_t)(word >> at), high = (float)(int8_t)(word >> (at + 8));
    return gw_f32_bits(low) >> 16 |
           (gw_f32_bits(high) & 0xFFFF0000u); /* eight bits of a number are all there are */
}

template <uint32_t HEAD_DIM> struct gw_attn_pages_int8 {
    static constexpr bool SCALED = true;
    static constexpr uint32_t ROW = HEAD_DIM + GW_ATTN_PAD;
    static constexpr size_t ROWS_BYTES = GW_ATTN_TILE * ROW * sizeof(uint16_t);
    static constexpr size_t TOLD_BYTES = GW_ATTN_TILE * HEAD_DIM;
    static constexpr size_t BYTES = 2 * (ROWS_BYTES + TOLD_BYTES + 2 * GW_ATTN_TILE * sizeof(float));
    uint8_t *memory;

    __device__ uint16_t *rows(enum gw_kv_part part) const
    {
        return gw_as<uint16_t>(memory + part * ROWS_BYTES);
    }

    __device__ uint8_t *told(enum gw_kv_part part) const
    {
        return memory + 2 * ROWS_BYTES + part * TOLD_BYTES;
    }

    __device__ float *scales(enum gw_kv_part part) const
    {
        return gw_as<float>(memory + 2 * (ROWS_BYTES + TOLD_BYTES)) + part * GW_ATTN_TILE;
    }

    __device__ float *told_scales(enum gw_kv_part part) const
    {
        return scales(GW_KV_K) + (2 + part) * GW_ATTN_TILE;
    }

    template <uint32_t PIECE>
    __device__ void request_numbers(const struct gw_attn_args &a, const struct gw_attn_queries &q,
                                    enum gw_kv_part part, uint32_t first) const
    {
        const uint32_t pieces = HEAD_DIM / PIECE;
        for (uint32_t n = threadIdx.x; n < GW_ATTN_TILE * pieces; n += GW_ATTN_THREADS) {
            uint32_t d = n % pieces * PIECE, position = first + n / pieces;
            bool seen = gw_attn_is_seen(q, position) && d < a.kv.head_dim;
            const void *from = a.qkv; /* is not read */
            if (seen) from = gw_kv_at(&a.kv, GW_I8, part, q.kv_head, q.seq.blocks, position) + d;
            if constexpr (PIECE == 16)
                gw_copy16_async(told(part) + n * PIECE, from, seen);
            else
                gw_copy_small_async<PIECE>(told(part) + n * PIECE, from, seen);
        }
    }

    __device__ void request_scales(const struct gw_attn_args &a, const struct gw_attn_queries &q,
                                   enum gw_kv_part part, uint32_t first) const
    {
        uint32_t row = threadIdx.x;
        if (row >= GW_ATTN_TILE) return;
        bool seen = gw_attn_is_seen(q, first + row);
        const float *from = a.qkv;
        if (seen) from = gw_kv_scale_at(&a.kv, part, q.kv_head, q.seq.blocks, first + row);
        gw_copy_small_async<sizeof(float)>(told_scales(part) + row, from, seen);
    }

    __device__ void request(const struct gw_attn_args &a, const struct gw_attn_queries &q,
                            enum gw_kv_part part, uint32_t first, uint32_t last) const
    {
        if (first < last) {
            if (a.kv.head_dim % 16 == 0)
                request_numbers<16>(a, q, part, first);
            else
                request_numbers<8>(a, q, part, first);
            request_scales(a, q, part, first);
        }
        gw_copies_commit();
    }

    __device__ void widen(enum gw_kv_part part) const
    {
        const uint32_t pieces = HEAD_DIM / 8;
        for (uint32_t n = threadIdx.x; n < GW_ATTN_TILE * pieces; n += GW_ATTN_THREADS) {
            const uint2 from = gw_as<uint2>(told(part))[n];
            uint4 to;
            to.x = gw_attn_widen_pair(from.x, 0);
            to.y = gw_attn_widen_pair(from.x, 16);
            to.z = gw_attn_widen_pair(from.y, 0);
            to.w = gw_attn_widen_pair(from.y, 16);
            *gw_as<uint4>(rows(part) + n / pieces * ROW + n % pieces * 8) = to;
        }
        if (threadIdx.x < GW_ATTN_TILE) scales(part)[threadIdx.x] = told_scales(part)[threadIdx.x];
    }

    __device__ void ready(const struct gw_attn_args &a, const struct gw_attn_queries &q, enum gw_kv_part part,
                          uint32_t next, uint32_t last) const
    {
        gw_copies_wait<1>();
        __syncthreads(); /* all of it is there, and nobody reads the rows before it any more */
        widen(part);
        __syncthreads();
        request(a, q, part, next, last);
    }

    __device__ void done(const struct gw_attn_args &, const struct gw_attn_queries &, enum gw_kv_part,
                         uint32_t, uint32_t) const
    {
    }
};

#endif
