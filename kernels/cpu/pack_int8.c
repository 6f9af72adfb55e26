/* Packing to int8: each row of w is quantized by a scale of its own, then laid out as kernels/cpu/pack.h says.
 *
 * 64 rows at a time are read twice: for their scales, then in blocks of BLOCK_STEPS steps, so that what is written stays
 * in L1 (kernels/cpu/pack.c). */
#include <assert.h>

#include "kernels/cpu/pack.h"
#include "kernels/cpu/quantize.h"
#include "kernels/cpu/variants.h"

#define BLOCK_STEPS 16u
#define BLOCK_K     (BLOCK_STEPS * 4)

/* The rows of one tile. */
struct source {
    const void *rows;
    enum gw_dtype type;
    uint32_t cols, k; /* a row of src is a column of y */
    size_t stride;
};

size_t gw_cpu_pack_bytes_int8_any(uint32_t n, uint32_t k)
{
    return gw_tiles(n) * gw_int8_tile_bytes(k);
}

/* Numbers [at, at + len) of a row as f32, 0 behind them. */
static void widen(float to[BLOCK_K], const struct source *s, uint32_t col, uint32_t at, uint32_t len)
{
    size_t first = col * s->stride + at;
    if (s->type == GW_BF16)
        for (uint32_t i = 0; i < len; i++) to[i] = gw_f32_of_bf16(((const uint16_t *)s->rows)[first + i]);
    else
        for (uint32_t i = 0; i < len; i++) to[i] = gw_f32_at(s->rows, s->type, first + i);
    for (uint32_t i = len; i < BLOCK_K; i++) to[i] = 0.0f;
}

static uint32_t block_len(const struct source *s, uint32_t at)
{
    return s->k - at < BLOCK_K ? s->k - at : BLOCK_K;
}

static float scale_of(const struct source *s, uint32_t col, float *inverse)
{
    float x[BLOCK_K];
    uint32_t largest = 0;
    for (uint32_t at = 0; at < s->k; at += BLOCK_K) {
        widen(x, s, col, at, block_len(s, at));
        for (uint32_t i = 0; i < BLOCK_K; i++) {
            uint32_t bits = gw_f32_bits(x[i]) & 0x7FFFFFFFu;
            largest = bits > largest ? bits : largest;
        }
    }
    return gw_int8_scale(largest, inverse);
}

/* BLOCK_K numbers of a column to its lane of each step; returns their sum. */
static int32_t put_column(uint32_t *to, const float x[BLOCK_K], float inverse, uint32_t steps)
{
    uint8_t bytes[BLOCK_K];
    int32_t sum = 0;
    for (uint32_t i = 0; i < BLOCK_K; i++) {
        int32_t q = (int32_t)(gw_int8_of(x[i], inverse, GW_INT8_BIAS) & 0xFFu) - GW_INT8_BIAS;
        bytes[i] = (uint8_t)q;
        sum += q;
    }
    for (uint32_t step = 0; step < steps; step++) memcpy(&to[step * GW_TILE_N], bytes + 4 * step, 4);
    return sum;
}

static void pack_tile(uint8_t *to, const struct source *s)
{
    struct gw_int8_head head = {0};
    float inverse[GW_TILE_N], x[BLOCK_K];
    uint32_t *steps = (uint32_t *)(void *)(to + sizeof head);
    for (uint32_t col = 0; col < s->cols; col++) head.scale[col] = scale_of(s, col, &inverse[col]);
    for (uint32_t at = 0; at < s->k; at += BLOCK_K, steps += (size_t)BLOCK_STEPS * GW_TILE_N)
        for (uint32_t col = 0; col < s->cols; col++) {
            uint32_t len = block_len(s, at);
            widen(x, s, col, at, len);
            head.shift[col] -= GW_INT8_BIAS * put_column(steps + col, x, inverse[col], gw_steps(len, 4));
        }
    memcpy(to, &head, sizeof head);
}

void gw_cpu_pack_int8_any(void *dst, const void *src, enum gw_dtype src_type, uint32_t n, uint32_t k,
                          size_t row_stride)
{
    assert(src_type != GW_I8 && k <= GW_INT8_K_MAX);
    if (n % GW_TILE_N) memset(dst, 0, gw_cpu_pack_bytes_int8_any(n, k)); /* the last tile's missing columns */
    for (uint32_t first = 0; first < n; first += GW_TILE_N) {
        const struct source tile = {.rows =
                                        (const uint8_t *)src + first * row_stride * gw_dtype_bytes(src_type),
                                    .type = src_type,
                                    .cols = n - first < GW_TILE_N ? n - first : GW_TILE_N,
                                    .k = k,
                                    .stride = row_stride};
        pack_tile((uint8_t *)dst + first / GW_TILE_N * gw_int8_tile_bytes(k), &tile);
    }
}
