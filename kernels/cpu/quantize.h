/* Quantization: numbers of a row become q · scale, with q in -127 .. 127, or of weights an e4m3 (kernels/op.h has the rules).
 *
 * int8: of activations q + 128 is stored, a byte without sign: what VPDPBUSD wants of x, and Σ (q + 128) · w = Σ q · w + 128 · Σ w,
 * where the last sum is known when w is packed. Of K and V it is q, in two's complement.
 *
 * Rounding is an addition: x + GW_F32_ROUNDER has the nearest integer (ties to even) in the low bits of the result.
 *
 * Owner: caller memory. Thread: safe. Units: elements. Errors: none; no finite row fails. Source: own design. */
#ifndef GW_KERNELS_CPU_QUANTIZE_H
#define GW_KERNELS_CPU_QUANTIZE_H

#include <math.h>

#include "kernels/convert.h"
#include "kernels/vmath.h"

#define GW_INT8_MAX  127
#define GW_INT8_BIAS 128
/* Rows without anything above are zeros: 448 / max must not overflow. */
#define GW_SCALE_LEAST 0x1p-100f

/* The scale by which a row whose largest magnitude has these bits reaches `top`; *inverse: its numbers · this are what is
 * rounded. */
GW_BOTH static inline float gw_row_scale(uint32_t largest_bits, float top, float *inverse)
{
    float largest = gw_f32_of_bits(largest_bits);
    *inverse = 0.0f;
    if (largest_bits >= 0x7F800000u) return gw_f32_of_bits(0x7FC00000u);
    if (largest < GW_SCALE_LEAST) return 0.0f;
    *inverse = top / largest;
    return largest / top;
}

GW_BOTH static inline float gw_int8_scale(uint32_t largest_bits, float *inverse)
{
    return gw_row_scale(largest_bits, GW_INT8_MAX, inverse);
}

GW_BOTH static inline float gw_fp8_scale(uint32_t largest_bits, float *inverse)
{
    return gw_row_scale(largest_bits, GW_E4M3_MAX, inverse);
}

/* The bits of the largest magnitude of numbers [first, first + k) of an array of f32, bf16 or f16. */
static inline uint32_t gw_largest_bits(const void *x, enum gw_dtype type, size_t first, uint32_t k)
{
    uint32_t largest = 0;
    for (uint32_t i = 0; i < k; i++) {
        uint32_t bits = gw_f32_bits(gw_f32_at(x, type, first + i)) & 0x7FFFFFFFu;
        largest = bits > largest ? bits : largest;
    }
    return largest;
}

/* The e4m3 of a number of a row. One that is not finite is in a row whose scale says so: its code is 0, as all are there. */
GW_BOTH static inline uint8_t gw_fp8_of(float x, float inverse)
{
    return inverse > 0.0f ? gw_e4m3_of_f32(x * inverse) : 0;
}

/* q + bias in the lowest byte. */
GW_BOTH static inline uint32_t gw_int8_of(float x, float inverse, int bias)
{
    return gw_f32_bits(x * inverse + (GW_F32_ROUNDER + (float)bias));
}

/* to[k] = q + GW_INT8_BIAS of x[k] of `type`; returns the scale. */
typedef float gw_quantize_fn(uint8_t *to, const void *x, enum gw_dtype type, uint32_t k);

gw_quantize_fn gw_quantize_c, gw_quantize_avx2, gw_quantize_avx512;

/* to[k] = q of x[k]; returns the scale. */
typedef float gw_quantize_kv_fn(int8_t *to, const float *x, uint32_t k);

gw_quantize_kv_fn gw_quantize_kv_c, gw_quantize_kv_avx2, gw_quantize_kv_avx512;

#endif
