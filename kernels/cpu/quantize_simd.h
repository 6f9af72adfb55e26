/* Quantization of a row, for the instruction set that the including file is compiled for.
 *
 * Owner: caller memory. Thread: safe, FTZ and DAZ on. Units: elements. Errors: none. Source: kernels/cpu/quantize.h. */
#ifndef GW_KERNELS_CPU_QUANTIZE_SIMD_H
#define GW_KERNELS_CPU_QUANTIZE_SIMD_H

#include "kernels/cpu/quantize.h"
#include "kernels/cpu/simd.h"

GW_INLINE uint32_t largest_bits(const void *x, enum gw_dtype type, uint32_t k)
{
    float lanes[16];
    uint32_t largest = 0;
    gw_v16 acc = gw_set16(0.0f);
    for (uint32_t i = 0; i < k; i += 16)
        acc = gw_larger_bits16(acc, gw_load16(x, type, i, gw_block_lanes(k, i)));
    gw_put16(lanes, acc);
    for (int i = 0; i < 16; i++) {
        uint32_t bits = gw_f32_bits(lanes[i]);
        if (bits > largest) largest = bits;
    }
    return largest;
}

GW_INLINE float gw_quantize_row(uint8_t *to, const void *x, enum gw_dtype type, uint32_t k, const int bias)
{
    float inverse, scale = gw_int8_scale(largest_bits(x, type, k), &inverse);
    const gw_v16 factor = gw_set16(inverse), rounder = gw_set16(GW_F32_ROUNDER + (float)bias);
    for (uint32_t i = 0; i < k; i += 16) {
        uint32_t n = gw_block_lanes(k, i);
        gw_store_bytes16(to + i, n, gw_add16(gw_mul16(gw_load16(x, type, i, n), factor), rounder));
    }
    return scale;
}

#endif
