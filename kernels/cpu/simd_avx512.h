/* What the AVX-512 files share: 16 lanes at a time, each helper the twin of a scalar form (kernels/vmath.h,
 * kernels/convert.h, kernels/cpu/simd_c.h) with the same operations in the same order, hence the same bits.
 *
 * Owner: registers. Thread: safe, FTZ and DAZ on. Units: lanes. Errors: none. Source: own design. */
#ifndef GW_KERNELS_CPU_SIMD_AVX512_H
#define GW_KERNELS_CPU_SIMD_AVX512_H

#include <immintrin.h>

#include "kernels/vmath.h"

/* Constant arguments must reach the body: types and tile heights select code. */
#define GW_INLINE static inline __attribute__((always_inline))

/* The first n lanes; n <= 16. */
static inline __mmask16 gw_lanes_mask(uint32_t n)
{
    return (__mmask16)((1u << n) - 1u);
}

/* Lanes of the mask; the rest are not touched in memory. */
static inline void gw_store16(void *array, enum gw_dtype type, size_t i, __mmask16 mask, __m512 x)
{
    if (type == GW_F32) {
        _mm512_mask_storeu_ps((float *)array + i, mask, x);
        return;
    }
    __m512i bits = _mm512_castps_si512(x);
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    __m512i rounded = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7FFF)), odd);
    __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    __mmask16 denormal = _mm512_testn_epi32_mask(bits, _mm512_set1_epi32(0x7F800000));
    rounded = _mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x00400000));
    rounded = _mm512_mask_and_epi32(rounded, denormal, bits, _mm512_set1_epi32((int)0x80000000u));
    _mm256_mask_storeu_epi16((uint16_t *)array + i, mask,
                             _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16)));
}

/* Lanes of the mask, the others 0. type is f32 or bf16. */
static inline __m512 gw_load16(const void *array, enum gw_dtype type, size_t i, __mmask16 mask)
{
    if (type == GW_F32) return _mm512_maskz_loadu_ps(mask, (const float *)array + i);
    __m256i half = _mm256_maskz_loadu_epi16(mask, (const uint16_t *)array + i);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

static inline float gw_fold_sum16(__m512 v)
{
    __m256 a = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(b, _mm_shuffle_ps(b, b, 1)));
}

static inline float gw_fold_max16(__m512 v)
{
    __m256 a = _mm256_max_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    __m128 b = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_max_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_max_ss(b, _mm_shuffle_ps(b, b, 1)));
}

/* gw_expf */
static inline __m512 gw_expf16(__m512 x)
{
    const __m512 rounder = _mm512_set1_ps(GW_F32_ROUNDER);
    __m512 t = _mm512_fmadd_ps(x, _mm512_set1_ps(GW_EXPF_LOG2E), rounder);
    __m512 n = _mm512_sub_ps(t, rounder);
    __m512 r = _mm512_fmadd_ps(n, _mm512_set1_ps(-GW_EXPF_LN2_HI), x);
    r = _mm512_fmadd_ps(n, _mm512_set1_ps(-GW_EXPF_LN2_LO), r);
    __m512 p = _mm512_fmadd_ps(_mm512_set1_ps(GW_EXPF_P0), r, _mm512_set1_ps(GW_EXPF_P1));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(GW_EXPF_P2));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(GW_EXPF_P3));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(GW_EXPF_P4));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(GW_EXPF_P5));
    p = _mm512_add_ps(_mm512_fmadd_ps(p, _mm512_mul_ps(r, r), r), _mm512_set1_ps(1.0f));
    __m512i scale =
        _mm512_add_epi32(_mm512_slli_epi32(_mm512_castps_si512(t), 23), _mm512_set1_epi32(0x3F800000));
    __m512 y = _mm512_mul_ps(p, _mm512_castsi512_ps(scale));
    __mmask16 low = _mm512_cmp_ps_mask(x, _mm512_set1_ps(GW_EXPF_MIN), _CMP_LT_OQ);
    __mmask16 high = _mm512_cmp_ps_mask(x, _mm512_set1_ps(GW_EXPF_MAX), _CMP_GT_OQ);
    y = _mm512_mask_mov_ps(y, low, _mm512_setzero_ps());
    return _mm512_mask_mov_ps(y, high, _mm512_castsi512_ps(_mm512_set1_epi32(0x7F800000)));
}

/* gw_siluf */
static inline __m512 gw_siluf16(__m512 x)
{
    __m512 minus = _mm512_xor_ps(x, _mm512_set1_ps(-0.0f));
    return _mm512_div_ps(x, _mm512_add_ps(_mm512_set1_ps(1.0f), gw_expf16(minus)));
}

#endif
