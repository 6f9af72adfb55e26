/* Quantization of a row, for the instruction set that the including file is compiled for.
 *
 * Owner: caller memory. Thread: safe, FTZ and DAZ on. Units: elements. Errors: none. Source: kernels/cpu/quantize.h. */
#ifndef GW_KERNELS_CPU_QUANTIZE_SIMD_H
#define GW_KERNELS_CPU_QUANTIZE_SIMD_H

#include "kernels/cpu/quantize.h"
#include "kernels/cpu/simd.h"

/* How far ahead a row is asked for, in elements. Of 512 rows by shares of 256 k on a Xeon, whose x is not in L2, quantization took
 * 3.9% of the time, and takes 2.1% so (by samples of one thread). */
#define GW_QUANTIZE_AHEAD 1024u

/* The largest magnitudes in sixteen parts of a row. */
GW_INLINE gw_v16 largest_lanes(const void *x, enum gw_dtype type, uint32_t k)
{
    gw_v16 even = gw_set16(0.0f), odd = even, a, b;
    uint32_t i = 0;
    for (; type == GW_BF16 && i + 32 <= k; i += 32) {
        gw_widen32((const uint16_t *)x + i, &a, &b);
        __builtin_prefetch((const uint16_t *)x + i + GW_QUANTIZE_AHEAD, 0, 3);
        even = gw_larger_bits16(even, a);
        odd = gw_larger_bits16(odd, b);
    }
    for (; i + 16 <= k; i += 16) even = gw_larger_bits16(even, gw_load16(x, type, i, 16));
    if (i < k) odd = gw_larger_bits16(odd, gw_load16(x, type, i, k - i));
    return gw_larger_bits16(even, odd);
}

GW_INLINE uint32_t largest_bits(const void *x, enum gw_dtype type, uint32_t k)
{
    float lanes[16];
    uint32_t largest = 0;
    gw_put16(lanes, largest_lanes(x, type, k));
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
    gw_v16 a, b;
    uint32_t i = 0;
    for (; type == GW_BF16 && i + 32 <= k; i += 32) {
        gw_widen32((const uint16_t *)x + i, &a, &b);
        gw_store_bytes32(to + i, gw_add16(gw_mul16(a, factor), rounder),
                         gw_add16(gw_mul16(b, factor), rounder));
    }
    for (; i + 16 <= k; i += 16)
        gw_store_bytes16(to + i, 16, gw_add16(gw_mul16(gw_load16(x, type, i, 16), factor), rounder));
    if (i < k)
        gw_store_bytes16(to + i, k - i, gw_add16(gw_mul16(gw_load16(x, type, i, k - i), factor), rounder));
    return scale;
}

#endif
