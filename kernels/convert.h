/* Scalars: float bits, and what bf16, f16 and e4m3 mean.
 *
 * Widening is exact. Narrowing f32 → bf16 rounds to nearest even, keeps NaN (made quiet) and takes denormals
 * as zeros of their sign, like the CPUs' own instruction; integer arithmetic, so the thread's float modes do
 * not matter. Narrowing f32 → e4m3 rounds to nearest even, keeps its subnormals, gives ±448 for what is larger, and keeps NaN.
 *
 *     e4m3    sign | 4 bits of exponent, bias 7 | 3 of fraction: ±2^-9 .. ±2^-7 · 7/4 subnormal, ±2^-6 .. ±448, no infinities;
 *             0x7F and 0xFF are NaN
 *
 * Owner: plain values. Thread: safe. Units: none. Errors: none. Source: IEEE 754-2019; Intel SDM,
 * VCVTNEPS2BF16; OCP 8-bit Floating Point Specification 1.0. */
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

#define GW_E4M3_MAX        448.0f
#define GW_E4M3_MAX_CODE   0x7Eu
#define GW_E4M3_LEAST_CODE 0x08u        /* of the least normal number */
#define GW_E4M3_LEAST_BITS 0x3C800000u  /* 2^-6, which it is, as f32 */
#define GW_E4M3_REBIAS     (120u << 23) /* from its bias to that of f32 */

GW_BOTH static inline float gw_f32_of_e4m3(uint8_t code)
{
    uint32_t sign = (uint32_t)(code & 0x80u) << 24, magnitude = code & 0x7Fu;
    if (magnitude > GW_E4M3_MAX_CODE) return gw_f32_of_bits(sign | 0x7FC00000u);
    if (magnitude >= GW_E4M3_LEAST_CODE) return gw_f32_of_bits(sign | ((magnitude << 20) + GW_E4M3_REBIAS));
    return gw_f32_of_bits(sign | gw_f32_bits((float)magnitude * 0x1p-9f));
}

GW_BOTH static inline uint16_t gw_bf16_of_e4m3(uint8_t code)
{
    return (uint16_t)(gw_f32_bits(gw_f32_of_e4m3(code)) >> 16);
}

GW_BOTH static inline uint8_t gw_e4m3_of_f32(float x)
{
    uint32_t bits = gw_f32_bits(x), sign = bits >> 24 & 0x80u, magnitude = bits & 0x7FFFFFFFu;
    if (magnitude > 0x7F800000u) return (uint8_t)(sign | 0x7Fu);
    /* 2^14 + a magnitude has multiples of 2^-9 in its lowest bits: rounded by the addition */
    if (magnitude < GW_E4M3_LEAST_BITS)
        return (uint8_t)(sign | (gw_f32_bits(gw_f32_of_bits(magnitude) + 0x1p14f) & 0xFu));
    uint32_t code = (magnitude + 0x7FFFFu + (magnitude >> 20 & 1u) - GW_E4M3_REBIAS) >> 20;
    return (uint8_t)(sign | (code < GW_E4M3_MAX_CODE ? code : GW_E4M3_MAX_CODE));
}

/* Element i of an array of f32, bf16 or f16. */
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
