#include "kernels/cpu/pack.h"

#include <assert.h>

#include "kernels/convert.h"
#include "kernels/cpu/variants.h"

size_t gw_cpu_pack_bytes_bf16_any(uint32_t n, uint32_t k)
{
    return (size_t)gw_tiles(n) * gw_steps(k, 2) * GW_STEP_BYTES;
}

size_t gw_cpu_pack_bytes_f32_any(uint32_t n, uint32_t k)
{
    return (size_t)gw_tiles(n) * k * GW_STEP_BYTES;
}

/* Packing transposes: a column's k lie behind each other in src, a step's columns in dst. It goes by blocks of 64 columns ×
 * one cache line of k, so that each line of src is read once, and the block of dst (4 KiB) stays in L1. The next line of each column is asked for ahead: columns
 * lie pages apart, where no prefetcher of the machine's looks. (2.4 GB/s per core, 1.6 column by column.) */
#define BLOCK_STEPS 16u

static uint32_t min_u32(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* A block of pairs; `whole` of its steps have two k, a last one may have one. */
static void pack_pairs(uint32_t *to, const uint16_t *from, uint32_t cols, uint32_t steps, uint32_t whole,
                       size_t row_stride)
{
    for (uint32_t col = 0; col < cols; col++, from += row_stride) {
        __builtin_prefetch(from + 4 * BLOCK_STEPS);
        for (uint32_t step = 0; step < whole; step++) memcpy(&to[step * GW_TILE_N + col], from + 2 * step, 4);
        if (whole < steps) to[whole * GW_TILE_N + col] = from[2 * whole];
    }
}

void gw_cpu_pack_bf16_any(void *dst, const void *src, enum gw_dtype src_type, uint32_t n, uint32_t k,
                          size_t row_stride)
{
    assert(src_type == GW_BF16);
    uint32_t *to = dst, all = gw_steps(k, 2);
    if (n % GW_TILE_N) memset(dst, 0, gw_cpu_pack_bytes_bf16_any(n, k)); /* the last tile's missing columns */
    for (uint32_t first = 0; first < n; first += GW_TILE_N, to += all * GW_TILE_N)
        for (uint32_t step = 0; step < all; step += BLOCK_STEPS) {
            uint32_t steps = min_u32(BLOCK_STEPS, all - step);
            pack_pairs(to + (size_t)step * GW_TILE_N,
                       (const uint16_t *)src + first * row_stride + 2 * (size_t)step,
                       min_u32(GW_TILE_N, n - first), steps, min_u32(steps, k / 2 - step), row_stride);
        }
}

void gw_cpu_pack_f32_any(void *dst, const void *src, enum gw_dtype src_type, uint32_t n, uint32_t k,
                         size_t row_stride)
{
    float *to = dst;
    if (n % GW_TILE_N) memset(dst, 0, gw_cpu_pack_bytes_f32_any(n, k));
    for (uint32_t first = 0; first < n; first += GW_TILE_N, to += (size_t)k * GW_TILE_N)
        for (uint32_t at = 0; at < k; at += BLOCK_STEPS)
            for (uint32_t col = first; col < min_u32(first + GW_TILE_N, n); col++)
                for (uint32_t i = at; i < min_u32(at + BLOCK_STEPS, k); i++)
                    to[(size_t)i * GW_TILE_N + col - first] = gw_f32_at(src, src_type, col * row_stride + i);
}
