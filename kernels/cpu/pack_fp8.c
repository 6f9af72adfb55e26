/* Packing to fp8: each row of w becomes e4m3 by a scale of its own, then laid out as kernels/cpu/pack.h says. */
#include <assert.h>

#include "kernels/cpu/pack_rows.h"
#include "kernels/cpu/variants.h"

#define BLOCK_STEPS (GW_PACK_BLOCK / 2)

size_t gw_cpu_pack_bytes_fp8_any(uint32_t n, uint32_t k)
{
    return gw_tiles(n) * gw_fp8_tile_bytes(k);
}

/* GW_PACK_BLOCK numbers of a column to its lane of each step. */
static void put_column(uint16_t *to, const float x[GW_PACK_BLOCK], float inverse, uint32_t steps)
{
    uint8_t codes[GW_PACK_BLOCK];
    for (uint32_t i = 0; i < GW_PACK_BLOCK; i++) codes[i] = gw_fp8_of(x[i], inverse);
    for (uint32_t step = 0; step < steps; step++) memcpy(&to[step * GW_TILE_N], codes + 2 * step, 2);
}

static void pack_tile(uint8_t *to, const struct gw_pack_rows *s)
{
    struct gw_fp8_head head = {0};
    float inverse[GW_TILE_N], x[GW_PACK_BLOCK];
    uint16_t *steps = (uint16_t *)(void *)(to + sizeof head);
    for (uint32_t col = 0; col < s->cols; col++)
        head.scale[col] = gw_fp8_scale(gw_pack_largest(s, col), &inverse[col]);
    for (uint32_t at = 0; at < s->k; at += GW_PACK_BLOCK, steps += (size_t)BLOCK_STEPS * GW_TILE_N)
        for (uint32_t col = 0; col < s->cols; col++) {
            gw_pack_widen(x, s, col, at);
            put_column(steps + col, x, inverse[col], gw_steps(gw_pack_block_len(s, at), 2));
        }
    memcpy(to, &head, sizeof head);
}

void gw_cpu_pack_fp8_any(void *dst, const void *src, enum gw_dtype src_type, uint32_t n, uint32_t k,
                         size_t row_stride)
{
    assert(src_type <= GW_F16);
    gw_pack_tiles(dst, gw_fp8_tile_bytes(k), pack_tile, src, src_type, n, k, row_stride);
}
