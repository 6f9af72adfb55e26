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

void gw_cpu_pack_bf16_any(void *dst, const void *src, enum gw_dtype src_type, uint32_t n, uint32_t k,
                          size_t row_stride)
{
    assert(src_type == GW_BF16);
    memset(dst, 0, gw_cpu_pack_bytes_bf16_any(n, k));
    for (uint32_t col = 0; col < n; col++) {
        const uint16_t *from = (const uint16_t *)src + col * row_stride;
        size_t tile = (size_t)(col / GW_TILE_N) * gw_steps(k, 2) * (GW_STEP_BYTES / 2);
        uint16_t *to = (uint16_t *)dst + tile + (size_t)(col % GW_TILE_N) * 2;
        for (uint32_t i = 0; i < k; i++) to[(size_t)(i / 2) * (GW_STEP_BYTES / 2) + i % 2] = from[i];
    }
}

void gw_cpu_pack_f32_any(void *dst, const void *src, enum gw_dtype src_type, uint32_t n, uint32_t k,
                         size_t row_stride)
{
    memset(dst, 0, gw_cpu_pack_bytes_f32_any(n, k));
    for (uint32_t col = 0; col < n; col++) {
        float *to = (float *)dst + (size_t)(col / GW_TILE_N) * k * GW_TILE_N + col % GW_TILE_N;
        for (uint32_t i = 0; i < k; i++)
            to[(size_t)i * GW_TILE_N] = gw_f32_at(src, src_type, col * row_stride + i);
    }
}
