/* The layout of packed weights: n-tiles of 64 columns, inside a tile k ascending.
 *
 *     tile t = columns 64 t .. 64 t + 63, steps in order, 256 bytes each but fp8's:
 *
 *         f32    step = one k:        64 x f32                      lane j = w[64 t + j, k]
 *         bf16   step = a pair of k:  64 x (bf16 even, bf16 odd)    lane j = w[64 t + j, 2 s], w[.., 2 s + 1]
 *         int8   step = four of k:    64 x (4 x int8)               lane j = w[64 t + j, 4 s ..]
 *
 *         fp8    step = a pair of k:  64 x (2 x e4m3), 128 bytes    lane j = w[64 t + j, 2 s], w[.., 2 s + 1]
 *
 * A tile of int8 or fp8 has a head before its steps (struct gw_int8_head, gw_fp8_head). Columns behind n and the k behind the last one are
 * zeros; the zeros of k take part in the sum (x is padded alike), those of n are computed and dropped.
 *
 * Owner: nothing. Thread: safe. Units: as named. Errors: none. Source: own design. */
#ifndef GW_KERNELS_CPU_PACK_H
#define GW_KERNELS_CPU_PACK_H

#include <stddef.h>
#include <stdint.h>

#define GW_TILE_N     64u
#define GW_STEP_BYTES 256u

#define GW_FP8_K_STEP     2u
#define GW_FP8_STEP_BYTES 128u

/* Of each column of a tile of int8: its scale, and - 128 · the sum of its weights (kernels/cpu/quantize.h). */
struct gw_int8_head {
    _Alignas(64) float scale[GW_TILE_N];
    int32_t shift[GW_TILE_N];
};

/* The scale of each column of a tile of fp8. */
struct gw_fp8_head {
    _Alignas(64) float scale[GW_TILE_N];
};

static inline uint32_t gw_tiles(uint32_t n)
{
    return (n + GW_TILE_N - 1) / GW_TILE_N;
}

static inline uint32_t gw_steps(uint32_t k, uint32_t k_per_step)
{
    return (k + k_per_step - 1) / k_per_step;
}

static inline size_t gw_int8_tile_bytes(uint32_t k)
{
    return sizeof(struct gw_int8_head) + (size_t)gw_steps(k, 4) * GW_STEP_BYTES;
}

static inline size_t gw_fp8_tile_bytes(uint32_t k)
{
    return sizeof(struct gw_fp8_head) + (size_t)gw_steps(k, GW_FP8_K_STEP) * GW_FP8_STEP_BYTES;
}

#endif
