/* Packing with scales: the rows of a matrix that make a tile, read as f32 in blocks of GW_PACK_BLOCK numbers.
 *
 * 64 rows at a time are read twice: for their scales, then in blocks, so that what is written stays in L1 (kernels/cpu/pack.c).
 *
 * Owner: caller memory. Thread: safe. Units: elements. Errors: none. Source: own design. */
#ifndef GW_KERNELS_CPU_PACK_ROWS_H
#define GW_KERNELS_CPU_PACK_ROWS_H

#include "kernels/cpu/pack.h"
#include "kernels/cpu/quantize.h"

#define GW_PACK_BLOCK 64u

/* The rows of one tile. */
struct gw_pack_rows {
    const void *rows;
    enum gw_dtype type;
    uint32_t cols, k; /* a row of src is a column of y */
    size_t stride;
};

static inline uint32_t gw_pack_block_len(const struct gw_pack_rows *s, uint32_t at)
{
    return s->k - at < GW_PACK_BLOCK ? s->k - at : GW_PACK_BLOCK;
}

/* Numbers [at, at + GW_PACK_BLOCK) of a row as f32, 0 behind the last. */
static inline void gw_pack_widen(float to[GW_PACK_BLOCK], const struct gw_pack_rows *s, uint32_t col,
                                 uint32_t at)
{
    size_t first = col * s->stride + at;
    uint32_t len = gw_pack_block_len(s, at);
    if (s->type == GW_BF16)
        for (uint32_t i = 0; i < len; i++) to[i] = gw_f32_of_bf16(((const uint16_t *)s->rows)[first + i]);
    else
        for (uint32_t i = 0; i < len; i++) to[i] = gw_f32_at(s->rows, s->type, first + i);
    for (uint32_t i = len; i < GW_PACK_BLOCK; i++) to[i] = 0.0f;
}

/* The bits of a row's largest magnitude. */
static inline uint32_t gw_pack_largest(const struct gw_pack_rows *s, uint32_t col)
{
    float x[GW_PACK_BLOCK];
    uint32_t largest = 0;
    for (uint32_t at = 0; at < s->k; at += GW_PACK_BLOCK) {
        gw_pack_widen(x, s, col, at);
        for (uint32_t i = 0; i < GW_PACK_BLOCK; i++) {
            uint32_t bits = gw_f32_bits(x[i]) & 0x7FFFFFFFu;
            largest = bits > largest ? bits : largest;
        }
    }
    return largest;
}

typedef void gw_pack_tile_fn(uint8_t *to, const struct gw_pack_rows *rows);

/* Every tile of n rows; of the last one the columns that are missing are zeros. */
static inline void gw_pack_tiles(void *dst, size_t tile_bytes, gw_pack_tile_fn *tile, const void *src,
                                 enum gw_dtype src_type, uint32_t n, uint32_t k, size_t row_stride)
{
    if (n % GW_TILE_N) memset(dst, 0, gw_tiles(n) * tile_bytes);
    for (uint32_t first = 0; first < n; first += GW_TILE_N) {
        const struct gw_pack_rows rows = {.rows = (const uint8_t *)src +
                                                  first * row_stride * gw_dtype_bytes(src_type),
                                          .type = src_type,
                                          .cols = n - first < GW_TILE_N ? n - first : GW_TILE_N,
                                          .k = k,
                                          .stride = row_stride};
        tile((uint8_t *)dst + first / GW_TILE_N * tile_bytes, &rows);
    }
}

#endif
