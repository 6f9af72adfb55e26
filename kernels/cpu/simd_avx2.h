/* The words of kernels/cpu/simd.h in AVX2 and FMA: 16 floats are two registers, lanes 0-7 and 8-15.
 *
 * Owner: registers. Thread: safe, FTZ and DAZ on. Units: lanes. Errors: none. Source: own design. */
#ifndef GW_KERNELS_CPU_SIMD_AVX2_H
#define GW_KERNELS_CPU_SIMD_AVX2_H

#include <immintrin.h>

#include "kernels/vmath.h"

/* Constant arguments must reach the body: types and tile heights select code. */
#define GW_INLINE static inline __attribute__((always_inline))

typedef struct {
    __m256 low, high;
} gw_v16;

/* All ones in the first n of 8 lanes; any n. */
GW_INLINE __m256i gw_mask8(int n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

GW_INLINE gw_v16 gw_set16(float x)
{
    return (gw_v16){_mm256_set1_ps(x), _mm256_set1_ps(x)};
}

GW_INLINE gw_v16 gw_get16(const float *from)
{
    return (gw_v16){_mm256_loadu_ps(from), _mm256_loadu_ps(from + 8)};
}

GW_INLINE void gw_put16(float *to, gw_v16 x)
{
    _mm256_storeu_ps(to, x.low);
    _mm256_storeu_ps(to + 8, x.high);
}

GW_INLINE gw_v16 gw_first16(gw_v16 x, uint32_t n, gw_v16 rest)
{
    if (n >= 16) return x;
    return (gw_v16){_mm256_blendv_ps(rest.low, x.low, _mm256_castsi256_ps(gw_mask8((int)n))),
                    _mm256_blendv_ps(rest.high, x.high, _mm256_castsi256_ps(gw_mask8((int)n - 8)))};
}

GW_INLINE gw_v16 gw_add16(gw_v16 a, gw_v16 b)
{
    return (gw_v16){_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)};
}

GW_INLINE gw_v16 gw_sub16(gw_v16 a, gw_v16 b)
{
    return (gw_v16){_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)};
}

GW_INLINE gw_v16 gw_mul16(gw_v16 a, gw_v16 b)
{
    return (gw_v16){_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)};
}

GW_INLINE gw_v16 gw_div16(gw_v16 a, gw_v16 b)
{
    return (gw_v16){_mm256_div_ps(a.low, b.low), _mm256_div_ps(a.high, b.high)};
}

GW_INLINE gw_v16 gw_max16(gw_v16 a, gw_v16 b)
{
    return (gw_v16){_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)};
}

GW_INLINE gw_v16 gw_fma16(gw_v16 a, gw_v16 b, gw_v16 c)
{
    return (gw_v16){_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
}

GW_INLINE gw_v16 gw_fms16(gw_v16 a, gw_v16 b, gw_v16 c)
{
    return (gw_v16){_mm256_fmsub_ps(a.low, b.low, c.low), _mm256_fmsub_ps(a.high, b.high, c.high)};
}

GW_INLINE gw_v16 gw_negate16(gw_v16 x)
{
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return (gw_v16){_mm256_xor_ps(x.low, sign), _mm256_xor_ps(x.high, sign)};
}

GW_INLINE gw_v16 gw_choose_less16(gw_v16 a, gw_v16 b, gw_v16 yes, gw_v16 no)
{
    return (gw_v16){_mm256_blendv_ps(no.low, yes.low, _mm256_cmp_ps(a.low, b.low, _CMP_LT_OQ)),
                    _mm256_blendv_ps(no.high, yes.high, _mm256_cmp_ps(a.high, b.high, _CMP_LT_OQ))};
}

GW_INLINE __m256 gw_power8(__m256 t)
{
    __m256i shifted = _mm256_slli_epi32(_mm256_castps_si256(t), 23);
    return _mm256_castsi256_ps(_mm256_add_epi32(shifted, _mm256_set1_epi32(0x3F800000)));
}

GW_INLINE gw_v16 gw_larger_bits16(gw_v16 a, gw_v16 b)
{
    const __m256i magnitude = _mm256_set1_epi32(0x7FFFFFFF);
    __m256i low = _mm256_max_epu32(_mm256_and_si256(_mm256_castps_si256(a.low), magnitude),
                                   _mm256_and_si256(_mm256_castps_si256(b.low), magnitude));
    __m256i high = _mm256_max_epu32(_mm256_and_si256(_mm256_castps_si256(a.high), magnitude),
                                    _mm256_and_si256(_mm256_castps_si256(b.high), magnitude));
    return (gw_v16){_mm256_castsi256_ps(low), _mm256_castsi256_ps(high)};
}

GW_INLINE void gw_store_bytes16(uint8_t *to, uint32_t n, gw_v16 x)
{
    const __m256i byte = _mm256_set1_epi32(0xFF);
    __m256i halves = _mm256_packus_epi32(_mm256_and_si256(_mm256_castps_si256(x.low), byte),
                                         _mm256_and_si256(_mm256_castps_si256(x.high), byte));
    halves = _mm256_permute4x64_epi64(halves, 0xD8); /* quarters were in the order 0 2 1 3 */
    __m128i bytes = _mm_packus_epi16(_mm256_castsi256_si128(halves), _mm256_extracti128_si256(halves, 1));
    if (n >= 16)
        _mm_storeu_si128((__m128i_u *)to, bytes);
    else
        memcpy(to, &bytes, n);
}

/* Two bytes of each lane: of even the lowest, of odd the lowest above it, zeros above both. */
GW_INLINE __m256i gw_byte_pairs8(__m256 even, __m256 odd)
{
    const __m256i byte = _mm256_set1_epi32(0xFF);
    __m256i high = _mm256_slli_epi32(_mm256_and_si256(_mm256_castps_si256(odd), byte), 8);
    return _mm256_or_si256(_mm256_and_si256(_mm256_castps_si256(even), byte), high);
}

GW_INLINE void gw_store_bytes32(uint8_t *to, gw_v16 even, gw_v16 odd)
{
    __m256i words =
        _mm256_packus_epi32(gw_byte_pairs8(even.low, odd.low), gw_byte_pairs8(even.high, odd.high));
    _mm256_storeu_si256((__m256i_u *)to, _mm256_permute4x64_epi64(words, 0xD8)); /* quarters: 0 2 1 3 */
}

GW_INLINE gw_v16 gw_power16(gw_v16 t)
{
    return (gw_v16){gw_power8(t.low), gw_power8(t.high)};
}

/* bf16 in the low half of each lane, zeros above (gw_bf16_of_f32). */
GW_INLINE __m256i gw_bf16_lanes8(__m256 x)
{
    const __m256i exponent = _mm256_set1_epi32(0x7F800000);
    __m256i bits = _mm256_castps_si256(x);
    __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    __m256i rounded = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7FFF)), odd);
    __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    __m256i denormal = _mm256_cmpeq_epi32(_mm256_and_si256(bits, exponent), _mm256_setzero_si256());
    __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x00400000));
    __m256i zero = _mm256_and_si256(bits, _mm256_set1_epi32((int)0x80000000u));
    rounded = _mm256_blendv_epi8(rounded, quiet, nan);
    rounded = _mm256_blendv_epi8(rounded, zero, denormal);
    return _mm256_srli_epi32(rounded, 16);
}

GW_INLINE void gw_store16(void *array, enum gw_dtype type, size_t i, uint32_t n, gw_v16 x)
{
    if (type == GW_F32 && n >= 16) {
        gw_put16((float *)array + i, x);
    } else if (type == GW_F32) {
        _mm256_maskstore_ps((float *)array + i, gw_mask8((int)n), x.low);
        _mm256_maskstore_ps((float *)array + i + 8, gw_mask8((int)n - 8), x.high);
    } else {
        /* packing leaves quarters in the order 0 2 1 3 */
        __m256i packed = _mm256_packus_epi32(gw_bf16_lanes8(x.low), gw_bf16_lanes8(x.high));
        packed = _mm256_permute4x64_epi64(packed, 0xD8);
        if (n >= 16)
            _mm256_storeu_si256((__m256i_u *)((uint16_t *)array + i), packed);
        else
            memcpy((uint16_t *)array + i, &packed, 2 * (size_t)n); /* there is no masked store of halves */
    }
}

GW_INLINE __m256 gw_f32_of_bf16_8(__m128i halves)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
}

GW_INLINE gw_v16 gw_f32_of_bytes16(const uint8_t *from, uint32_t n)
{
    uint8_t padded[16] = {0};
    if (n < 16) from = memcpy(padded, from, n);
    __m128i bytes = _mm_loadu_si128((const __m128i_u *)from);
    return (gw_v16){_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)),
                    _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_unpackhi_epi64(bytes, bytes)))};
}

GW_INLINE gw_v16 gw_load16(const void *array, enum gw_dtype type, size_t i, uint32_t n)
{
    if (type == GW_I8) return gw_f32_of_bytes16((const uint8_t *)array + i, n);
    if (type == GW_F32) {
        const float *from = (const float *)array + i;
        if (n >= 16) return gw_get16(from);
        return (gw_v16){_mm256_maskload_ps(from, gw_mask8((int)n)),
                        _mm256_maskload_ps(from + 8, gw_mask8((int)n - 8))};
    }
    const uint16_t *from = (const uint16_t *)array + i;
    uint16_t padded[16] = {0};
    if (n < 16) {
        memcpy(padded, from, 2 * (size_t)n);
        from = padded;
    }
    return (gw_v16){gw_f32_of_bf16_8(_mm_loadu_si128((const __m128i_u *)from)),
                    gw_f32_of_bf16_8(_mm_loadu_si128((const __m128i_u *)(from + 8)))};
}

/* 8 pairs */
GW_INLINE void gw_unzip8(gw_v16 pairs, __m256 *even, __m256 *odd)
{
    __m256 evens = _mm256_shuffle_ps(pairs.low, pairs.high, 0x88); /* quarters in the order 0 2 1 3 */
    __m256 odds = _mm256_shuffle_ps(pairs.low, pairs.high, 0xDD);
    *even = _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(evens), 0xD8));
    *odd = _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(odds), 0xD8));
}

GW_INLINE void gw_widen32(const uint16_t *from, gw_v16 *even, gw_v16 *odd)
{
    const __m256i mask = _mm256_set1_epi32((int)0xFFFF0000u);
    __m256i low = _mm256_loadu_si256((const __m256i_u *)from);
    __m256i high = _mm256_loadu_si256((const __m256i_u *)(from + 16));
    *even = (gw_v16){_mm256_castsi256_ps(_mm256_slli_epi32(low, 16)),
                     _mm256_castsi256_ps(_mm256_slli_epi32(high, 16))};
    *odd = (gw_v16){_mm256_castsi256_ps(_mm256_and_si256(low, mask)),
                    _mm256_castsi256_ps(_mm256_and_si256(high, mask))};
}

/* 8 pairs */
GW_INLINE gw_v16 gw_zip8(__m256 even, __m256 odd)
{
    __m256 a = _mm256_unpacklo_ps(even, odd), b = _mm256_unpackhi_ps(even, odd); /* quarters 0 2, 1 3 */
    return (gw_v16){_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31)};
}

GW_INLINE void gw_zip16(gw_v16 *even, gw_v16 *odd)
{
    gw_v16 first = gw_zip8(even->low, odd->low);
    *odd = gw_zip8(even->high, odd->high);
    *even = first;
}

GW_INLINE void gw_unzip16(const float *pairs, uint32_t n, gw_v16 *even, gw_v16 *odd)
{
    gw_unzip8(gw_load16(pairs, GW_F32, 0, n < 8 ? 2 * n : 16), &even->low, &odd->low);
    gw_unzip8(gw_load16(pairs, GW_F32, 16, n < 8 ? 0 : 2 * n - 16), &even->high, &odd->high);
}

GW_INLINE float gw_fold_sum16(gw_v16 v)
{
    __m256 a = _mm256_add_ps(v.low, v.high);
    __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(b, _mm_shuffle_ps(b, b, 1)));
}

GW_INLINE float gw_fold_max16(gw_v16 v)
{
    __m256 a = _mm256_max_ps(v.low, v.high);
    __m128 b = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_max_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_max_ss(b, _mm_shuffle_ps(b, b, 1)));
}

#endif
