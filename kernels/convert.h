/* Scalars: float bits, and what bf16 and f16 mean.
 *
 * Widening is exact. Narrowing f32 → bf16 rounds to nearest even, keeps NaN (made quiet) and takes denormals
 * as zeros of their sign, like the CPUs' own instruction; integer arithmetic, so the thread's float modes do
 * not matter.
 *
 * Owner: plain values. Thread: safe. Units: none. Errors: none. Source: IEEE 754-2019; Intel SDM,
 * VCVTNEPS2BF16. */
#ifndef GW_KERNELS_CONVERT_H
#define GW_KERNELS_CONVERT_H

#include <stdint.h>
#include <string.h>

#include "kernels/op.h"

/* Compiled for the host and, by nvcc, for devices too. */
#ifdef __CUDACC__
#define GW_BOTH __host__ __device__
#else
#define GW_BOTH
#endif

GW_BOTH static inline uint32_t gw_f32_bits(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

GW_BOTH static inline float gw_f32_of_bits(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

GW_BOTH static inline float gw_f32_of_bf16(uint16_t b)
{
    return gw_f32_of_bits((uint32_t)b << 16);
}

GW_BOTH static inline uint16_t gw_bf16_of_f32(float x)
{
    uint32_t bits = gw_f32_bits(x);
    uint32_t magnitude = bits & 0x7FFFFFFFu;
    if (magnitude > 0x7F800000u) return (uint16_t)(bits >> 16 | 0x40u);
    if (magnitude < 0x00800000u) return (uint16_t)(bits >> 16 & 0x8000u);
    return (uint16_t)((bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16);
}

GW_BOTH static inline float gw_f32_of_f16(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16;
    uint32_t exponent = h >> 10 & 0x1Fu, fraction = h & 0x3FFu;
    if (exponent == 0x1Fu) return gw_f32_of_bits(sign | 0x7F800000u | fraction << 13);
    if (exponent != 0) return gw_f32_of_bits(sign | (exponent + 112u) << 23 | fraction << 13);
    /* a denormal of f16 is fraction * 2^-24, a normal number of f32 */
    float magnitude = (float)fraction * 0x1p-24f;
    return gw_f32_of_bits(sign | gw_f32_bits(magnitude));
}

/* Element i of an array of any type. */
GW_BOTH static inline float gw_f32_at(const void *array, enum gw_dtype type, size_t i)
{
    if (type == GW_F32) return ((const float *)array)[i];
    uint16_t half = ((const uint16_t *)array)[i];
    return type == GW_BF16 ? gw_f32_of_bf16(half) : gw_f32_of_f16(half);
}

/* Stores x as element i of an array of f32 or bf16. */
GW_BOTH static inline void gw_f32_put(void *array, enum gw_dtype type, size_t i, float x)
{
    if (type == GW_F32)
        ((float *)array)[i] = x;
    else
        ((uint16_t *)array)[i] = gw_bf16_of_f32(x);
}

#endif
