/* Packed fp8 weights, widened for the micro-kernels of bf16 or f32, for the instruction set that the including file is compiled
 * for: both types hold every e4m3, so what is multiplied is exact.
 *
 * 32 codes become 32 bf16 at once: the fraction and exponent move up by 4 bits, the exponent gets the difference of the biases, and
 * the eight magnitudes below the least normal one are looked up. f32 is that with 16 zeros behind.
 *
 * Owner: caller memory. Thread: safe. Units: steps of two k, of a tile. Errors: none; NaN is never packed. Source: own design. */
#ifndef GW_KERNELS_CPU_WIDEN_FP8_H
#define GW_KERNELS_CPU_WIDEN_FP8_H

#include "kernels/convert.h"
#include "kernels/cpu/pack.h"
#include "kernels/cpu/simd.h"

#define GW_FP8_REBIAS_BF16 ((int16_t)(GW_E4M3_REBIAS >> 16))
#define GW_FP8_AHEAD       1024 /* bytes that are asked for ahead: where two pages meet no prefetcher looks */

#ifdef __AVX512F__

#define GW_FP8_PAIRS  16u  /* columns at a time */
#define GW_FP8_SIGNED 0xF8 /* a | (b & c), of a truth table of three */

/* 32 codes to 32 bf16. */
GW_INLINE __m512i gw_bf16_of_fp8(const uint8_t *codes)
{
    /* 0, 2^-9, 2^-8, 3 · 2^-9 … 7 · 2^-9 */
    const __m512i least =
        _mm512_castsi128_si512(_mm_setr_epi16(0, 0x3B00, 0x3B80, 0x3BC0, 0x3C00, 0x3C20, 0x3C40, 0x3C60));
    __m512i wide = _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i_u *)codes)); /* signs are bit 15 */
    __m512i magnitude = _mm512_and_si512(wide, _mm512_set1_epi16(0x7F));
    __m512i normal = _mm512_add_epi16(_mm512_slli_epi16(magnitude, 4), _mm512_set1_epi16(GW_FP8_REBIAS_BF16));
    __mmask32 below = _mm512_cmplt_epi16_mask(magnitude, _mm512_set1_epi16(GW_E4M3_LEAST_CODE));
    __m512i bits = _mm512_mask_permutexvar_epi16(normal, below, magnitude, least);
    return _mm512_ternarylogic_epi32(bits, wide, _mm512_set1_epi16((int16_t)0x8000), GW_FP8_SIGNED);
}

GW_INLINE void gw_put_pairs_bf16(uint32_t *to, const uint8_t *codes)
{
    _mm512_storeu_si512(to, gw_bf16_of_fp8(codes));
}

/* even, odd: the columns' numbers of one k each. */
GW_INLINE void gw_put_pairs_f32(float *even, float *odd, const uint8_t *codes)
{
    __m512i pairs = gw_bf16_of_fp8(codes);
    _mm512_storeu_si512(even, _mm512_slli_epi32(pairs, 16));
    _mm512_storeu_si512(odd, _mm512_and_si512(pairs, _mm512_set1_epi32((int)0xFFFF0000u)));
}

#else

#define GW_FP8_PAIRS 8u

/* 16 codes to 16 bf16. */
GW_INLINE __m256i gw_bf16_of_fp8(const uint8_t *codes)
{
    /* 0, 2^-9, 2^-8, 3 · 2^-9 … 7 · 2^-9: their lower and upper bytes */
    const __m256i lower = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, 0, -128, -64, 0, 0x20, 0x40, 0x60, 0, 0, 0, 0, 0, 0, 0, 0));
    const __m256i upper = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, 0x3B, 0x3B, 0x3B, 0x3C, 0x3C, 0x3C, 0x3C, 0, 0, 0, 0, 0, 0, 0, 0));
    __m256i wide = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i_u *)codes)); /* signs are bit 15 */
    __m256i magnitude = _mm256_and_si256(wide, _mm256_set1_epi16(0x7F));
    __m256i sign = _mm256_and_si256(wide, _mm256_set1_epi16((int16_t)0x8000));
    __m256i normal = _mm256_add_epi16(_mm256_slli_epi16(magnitude, 4), _mm256_set1_epi16(GW_FP8_REBIAS_BF16));
    /* a byte with its highest bit looks up 0 */
    __m256i low = _mm256_shuffle_epi8(lower, _mm256_or_si256(magnitude, _mm256_set1_epi16((int16_t)0x8000)));
    __m256i high =
        _mm256_shuffle_epi8(upper, _mm256_or_si256(_mm256_slli_epi16(magnitude, 8), _mm256_set1_epi16(0x80)));
    __m256i below = _mm256_cmpgt_epi16(_mm256_set1_epi16(GW_E4M3_LEAST_CODE), magnitude);
    return _mm256_or_si256(sign, _mm256_blendv_epi8(normal, _mm256_or_si256(low, high), below));
}

GW_INLINE void gw_put_pairs_bf16(uint32_t *to, const uint8_t *codes)
{
    _mm256_storeu_si256((__m256i_u *)to, gw_bf16_of_fp8(codes));
}

GW_INLINE void gw_put_pairs_f32(float *even, float *odd, const uint8_t *codes)
{
    __m256i pairs = gw_bf16_of_fp8(codes);
    _mm256_storeu_si256((__m256i_u *)even, _mm256_slli_epi32(pairs, 16));
    _mm256_storeu_si256((__m256i_u *)odd, _mm256_and_si256(pairs, _mm256_set1_epi32((int)0xFFFF0000u)));
}

#endif

/* A gw_widen_fn of bf16: the order of numbers stays what it is. */
GW_INLINE void gw_widen_fp8_bf16(void *to, const uint8_t *from, uint32_t steps)
{
    uint32_t *pairs = to;
    for (uint32_t step = 0; step < steps; step++)
        for (uint32_t col = 0; col < GW_TILE_N; col += GW_FP8_PAIRS, from += 2 * GW_FP8_PAIRS) {
            _mm_prefetch(from + GW_FP8_AHEAD, _MM_HINT_T0);
            gw_put_pairs_bf16(pairs, from);
            pairs += GW_FP8_PAIRS;
        }
}

/* A gw_widen_fn of f32: a step of two k becomes two of one. */
GW_INLINE void gw_widen_fp8_f32(void *to, const uint8_t *from, uint32_t steps)
{
    float *even = to;
    for (uint32_t step = 0; step < steps; step++, even += (size_t)2 * GW_TILE_N)
        for (uint32_t col = 0; col < GW_TILE_N; col += GW_FP8_PAIRS, from += 2 * GW_FP8_PAIRS) {
            _mm_prefetch(from + GW_FP8_AHEAD, _MM_HINT_T0);
            gw_put_pairs_f32(even + col, even + GW_TILE_N + col, from);
        }
}

#endif
