/* Packing to int8: each row of w is quantized by a scale of its own, then laid out as kernels/cpu/pack.h says. */
#include <assert.h>

#include "kernels/cpu/pack_rows.h"
#include "kernels/cpu/variants.h"

#define BLOCK_STEPS (GW_PACK_BLOCK / 4)

size_t gw_cpu_pack_bytes_int8_any(uint32_t n, uint32_t k)
{
    return gw_tiles(n) * gw_int8_tile_bytes(k);
}

static float scale_of(const struct gw_pack_rows *s, uint32_t col, float *inverse)
{
    return gw_int8_scale(gw_pack_largest(s, col), inverse);
}

/* GW_PACK_BLOCK numbers of a column to its lane of each step; returns their sum. */
static int32_t put_column(uint32_t *to, const float x[GW_PACK_BLOCK], float inverse, uint32_t steps)
{
    uint8_t bytes[GW_PACK_BLOCK];
    int32_t sum = 0;
    for (uint32_t i = 0; i < GW_PACK_BLOCK; i++) {
        int32_t q = (int32_t)(gw_int8_of(x[i], inverse, GW_INT8_BIAS) & 0xFFu) - GW_INT8_BIAS;
        bytes[i] = (uint8_t)q;
        sum += q;
    }
    for (uint32_t step = 0; step < steps; step++) memcpy(&to[step * GW_TILE_N], bytes + 4 * step, 4);
    return sum;
}

static void pack_tile(uint8_t *to, const struct gw_pack_rows *s)
{
    struct gw_int8_head head = {0};
    float inverse[GW_TILE_N], x[GW_PACK_BLOCK];
    uint32_t *steps = (uint32_t *)(void *)(to + sizeof head);
    for (uint32_t col = 0; col < s->cols; col++) head.scale[col] = scale_of(s, col, &inverse[col]);
    for (uint32_t at = 0; at < s->k; at += GW_PACK_BLOCK, steps += (size_t)BLOCK_STEPS * GW_TILE_N)
        for (uint32_t col = 0; col < s->cols; col++) {
            gw_pack_widen(x, s, col, at);
            head.shift[col] -= GW_INT8_BIAS * put_column(steps + col, x, inverse[col],
                                                         gw_steps(gw_pack_block_len(s, at), 4));
        }
    memcpy(to, &head, sizeof head);
}

void gw_cpu_pack_int8_any(void *dst, const void *src, enum gw_dtype src_type, uint32_t n, uint32_t k,
                          size_t row_stride)
{
    assert(src_type <= GW_F16 && k <= GW_INT8_K_MAX);
    gw_pack_tiles(dst, gw_int8_tile_bytes(k), pack_tile, src, src_type, n, k, row_stride);
}
