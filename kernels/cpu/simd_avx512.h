/* The words of kernels/cpu/simd.h in AVX-512: one register of 16 floats.
 *
 * Owner: registers. Thread: safe, FTZ and DAZ on. Units: lanes. Errors: none. Source: own design. */
#ifndef GW_KERNELS_CPU_SIMD_AVX512_H
#define GW_KERNELS_CPU_SIMD_AVX512_H

#include <immintrin.h>

#include "kernels/vmath.h"

/* Constant arguments must reach the body: types and tile heights select code. */
#define GW_INLINE static inline __attribute__((always_inline))

typedef __m512 gw_v16;

/* The first n lanes; n <= 16. */
GW_INLINE __mmask16 gw_lanes_mask(uint32_t n)
{
    return (__mmask16)((1u << n) - 1u);
}

GW_INLINE gw_v16 gw_set16(float x)
{
    return _mm512_set1_ps(x);
}

GW_INLINE gw_v16 gw_get16(const float *from)
{
    return _mm512_loadu_ps(from);
}

GW_INLINE void gw_put16(float *to, gw_v16 x)
{
    _mm512_storeu_ps(to, x);
}

GW_INLINE gw_v16 gw_first16(gw_v16 x, uint32_t n, gw_v16 rest)
{
    return _mm512_mask_mov_ps(rest, gw_lanes_mask(n), x);
}

GW_INLINE gw_v16 gw_add16(gw_v16 a, gw_v16 b)
{
    return _mm512_add_ps(a, b);
}

GW_INLINE gw_v16 gw_sub16(gw_v16 a, gw_v16 b)
{
    return _mm512_sub_ps(a, b);
}

GW_INLINE gw_v16 gw_mul16(gw_v16 a, gw_v16 b)
{
    return _mm512_mul_ps(a, b);
}

GW_INLINE gw_v16 gw_div16(gw_v16 a, gw_v16 b)
{
    return _mm512_div_ps(a, b);
}

GW_INLINE gw_v16 gw_max16(gw_v16 a, gw_v16 b)
{
    return _mm512_max_ps(a, b);
}

GW_INLINE gw_v16 gw_fma16(gw_v16 a, gw_v16 b, gw_v16 c)
{
    return _mm512_fmadd_ps(a, b, c);
}

GW_INLINE gw_v16 gw_fms16(gw_v16 a, gw_v16 b, gw_v16 c)
{
    return _mm512_fmsub_ps(a, b, c);
}

GW_INLINE gw_v16 gw_negate16(gw_v16 x)
{
    return _mm512_xor_ps(x, _mm512_set1_ps(-0.0f));
}

GW_INLINE gw_v16 gw_choose_less16(gw_v16 a, gw_v16 b, gw_v16 yes, gw_v16 no)
{
    return _mm512_mask_mov_ps(no, _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), yes);
}

GW_INLINE gw_v16 gw_larger_bits16(gw_v16 a, gw_v16 b)
{
    const __m512i magnitude = _mm512_set1_epi32(0x7FFFFFFF);
    return _mm512_castsi512_ps(_mm512_max_epu32(_mm512_and_si512(_mm512_castps_si512(a), magnitude),
                                                _mm512_and_si512(_mm512_castps_si512(b), magnitude)));
}

GW_INLINE void gw_store_bytes16(uint8_t *to, uint32_t n, gw_v16 x)
{
    _mm_mask_storeu_epi8(to, gw_lanes_mask(n), _mm512_cvtepi32_epi8(_mm512_castps_si512(x)));
}

GW_INLINE void gw_store_bytes32(uint8_t *to, gw_v16 even, gw_v16 odd)
{
    const __m512i byte = _mm512_set1_epi32(0xFF);
    __m512i low = _mm512_and_si512(_mm512_castps_si512(even), byte);
    __m512i pairs = _mm512_or_si512(low, _mm512_slli_epi32(_mm512_castps_si512(odd), 8));
    _mm256_storeu_si256((__m256i_u *)to, _mm512_cvtepi32_epi16(pairs));
}

GW_INLINE gw_v16 gw_power16(gw_v16 t)
{
    __m512i shifted = _mm512_slli_epi32(_mm512_castps_si512(t), 23);
    return _mm512_castsi512_ps(_mm512_add_epi32(shifted, _mm512_set1_epi32(0x3F800000)));
}

GW_INLINE void gw_store16(void *array, enum gw_dtype type, size_t i, uint32_t n, gw_v16 x)
{
    __mmask16 mask = gw_lanes_mask(n);
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

/* A mask costs as much as what is loaded: where n is known to be 16, there is none. */
GW_INLINE gw_v16 gw_load16(const void *array, enum gw_dtype type, size_t i, uint32_t n)
{
    __mmask16 mask = gw_lanes_mask(n);
    if (type == GW_F32) return _mm512_maskz_loadu_ps(mask, (const float *)array + i);
    if (type == GW_I8) {
        const uint8_t *from = (const uint8_t *)array + i;
        __m128i bytes = n >= 16 ? _mm_loadu_si128((const __m128i_u *)from) : _mm_maskz_loadu_epi8(mask, from);
        return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes));
    }
    const uint16_t *from = (const uint16_t *)array + i;
    __m256i half =
        n >= 16 ? _mm256_loadu_si256((const __m256i_u *)from) : _mm256_maskz_loadu_epi16(mask, from);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

/* Zeros under the halves of odd index and of even: two in a dword are taken apart where they lie. */
GW_INLINE void gw_widen32(const uint16_t *from, gw_v16 *even, gw_v16 *odd)
{
    __m512i pairs = _mm512_loadu_si512(from);
    *even = _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16));
    *odd = _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32((int)0xFFFF0000u)));
}

GW_INLINE void gw_zip16(gw_v16 *even, gw_v16 *odd)
{
    const __m512i low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    const __m512i high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
    __m512 first = _mm512_permutex2var_ps(*even, low, *odd);
    *odd = _mm512_permutex2var_ps(*even, high, *odd);
    *even = first;
}

GW_INLINE void gw_unzip16(const float *pairs, uint32_t n, gw_v16 *even, gw_v16 *odd)
{
    const __m512i evens = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512i odds = _mm512_add_epi32(evens, _mm512_set1_epi32(1));
    __m512 low = gw_load16(pairs, GW_F32, 0, n < 8 ? 2 * n : 16);
    __m512 high = gw_load16(pairs, GW_F32, 16, n < 8 ? 0 : 2 * n - 16);
    *even = _mm512_permutex2var_ps(low, evens, high);
    *odd = _mm512_permutex2var_ps(low, odds, high);
}

GW_INLINE float gw_fold_sum16(gw_v16 v)
{
    __m256 a = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(b, _mm_shuffle_ps(b, b, 1)));
}

GW_INLINE float gw_fold_max16(gw_v16 v)
{
    __m256 a = _mm256_max_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    __m128 b = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_max_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_max_ss(b, _mm_shuffle_ps(b, b, 1)));
}

#endif
