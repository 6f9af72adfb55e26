/* Keyed random bits of 16 consecutive ids, for the instruction set that the including file is compiled for.
 *
 *     gw_hopeful16(at, steps)   bit i is set unless id + i is hopeless (gw_gumbel_hopeless) at `steps` ln 2 below the best;
 *                               at = gw_keyed_at(stream, id), steps within [1, 53]
 *
 * 65 - steps = 12 + shift: what is left of the 64 mixed bits when c = 2^52 - 1 - bits is shifted, too.
 *
 * Owner: registers. Thread: safe. Units: lanes. Errors: none. Source: kernels/keyed_random.h. */
#ifndef GW_KERNELS_CPU_KEYED_SIMD_H
#define GW_KERNELS_CPU_KEYED_SIMD_H

#include "kernels/cpu/simd.h"
#include "kernels/keyed_random.h"

#define GW_MIX_1 0xBF58476D1CE4E5B9u
#define GW_MIX_2 0x94D049BB133111EBu

/* What gw_mix64 starts with for an id. */
GW_INLINE uint64_t gw_keyed_at(uint64_t stream, uint32_t id)
{
    return stream + id * GW_KEYED_STEP + GW_KEYED_STEP;
}

#ifdef __AVX512F__

GW_INLINE __m512i gw_unshifted8(__m512i x)
{
    x = _mm512_mullo_epi64(_mm512_xor_si512(x, _mm512_srli_epi64(x, 30)),
                           _mm512_set1_epi64((int64_t)GW_MIX_1));
    x = _mm512_mullo_epi64(_mm512_xor_si512(x, _mm512_srli_epi64(x, 27)),
                           _mm512_set1_epi64((int64_t)GW_MIX_2));
    x = _mm512_xor_si512(x, _mm512_srli_epi64(x, 31));
    return _mm512_xor_si512(x, _mm512_set1_epi64(-1));
}

GW_INLINE uint32_t gw_hopeful16(uint64_t at, gw_v16 steps)
{
    const __m512i lanes = _mm512_mullo_epi64(_mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7),
                                             _mm512_set1_epi64((int64_t)GW_KEYED_STEP));
    __m512i low = gw_unshifted8(_mm512_add_epi64(_mm512_set1_epi64((int64_t)at), lanes));
    __m512i high =
        gw_unshifted8(_mm512_add_epi64(_mm512_set1_epi64((int64_t)(at + 8 * GW_KEYED_STEP)), lanes));
    __m512i shift = _mm512_sub_epi32(_mm512_set1_epi32(65), _mm512_cvttps_epi32(steps));
    low = _mm512_srlv_epi64(low, _mm512_cvtepu32_epi64(_mm512_castsi512_si256(shift)));
    high = _mm512_srlv_epi64(high, _mm512_cvtepu32_epi64(_mm512_extracti64x4_epi64(shift, 1)));
    return (uint32_t)_mm512_testn_epi64_mask(low, low) | (uint32_t)_mm512_testn_epi64_mask(high, high) << 8;
}

/* Bit i is set where a > b. */
GW_INLINE uint32_t gw_above16(gw_v16 a, gw_v16 b)
{
    return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ);
}

#else

/* a · b modulo 2^64 from products of 32 bits. */
GW_INLINE __m256i gw_product4(__m256i a, uint64_t b)
{
    __m256i low = _mm256_set1_epi64x((int64_t)(b & 0xFFFFFFFFu)),
            high = _mm256_set1_epi64x((int64_t)(b >> 32));
    __m256i cross =
        _mm256_add_epi64(_mm256_mul_epu32(_mm256_srli_epi64(a, 32), low), _mm256_mul_epu32(a, high));
    return _mm256_add_epi64(_mm256_mul_epu32(a, low), _mm256_slli_epi64(cross, 32));
}

/* Bit i of 4 is set for hopeful ids; steps: 4 lanes. */
GW_INLINE uint32_t gw_hopeful4(uint64_t at, __m128i steps)
{
    const __m256i lanes = _mm256_setr_epi64x(0, (int64_t)GW_KEYED_STEP, (int64_t)(2 * GW_KEYED_STEP),
                                             (int64_t)(3 * GW_KEYED_STEP));
    __m256i x = _mm256_add_epi64(_mm256_set1_epi64x((int64_t)at), lanes);
    x = gw_product4(_mm256_xor_si256(x, _mm256_srli_epi64(x, 30)), GW_MIX_1);
    x = gw_product4(_mm256_xor_si256(x, _mm256_srli_epi64(x, 27)), GW_MIX_2);
    x = _mm256_xor_si256(_mm256_xor_si256(x, _mm256_srli_epi64(x, 31)), _mm256_set1_epi64x(-1));
    __m256i shift = _mm256_cvtepu32_epi64(_mm_sub_epi32(_mm_set1_epi32(65), steps));
    __m256i zero = _mm256_cmpeq_epi64(_mm256_srlv_epi64(x, shift), _mm256_setzero_si256());
    return (uint32_t)_mm256_movemask_pd(_mm256_castsi256_pd(zero));
}

GW_INLINE uint32_t gw_hopeful16(uint64_t at, gw_v16 steps)
{
    __m256i low = _mm256_cvttps_epi32(steps.low), high = _mm256_cvttps_epi32(steps.high);
    return gw_hopeful4(at, _mm256_castsi256_si128(low)) |
           gw_hopeful4(at + 4 * GW_KEYED_STEP, _mm256_extracti128_si256(low, 1)) << 4 |
           gw_hopeful4(at + 8 * GW_KEYED_STEP, _mm256_castsi256_si128(high)) << 8 |
           gw_hopeful4(at + 12 * GW_KEYED_STEP, _mm256_extracti128_si256(high, 1)) << 12;
}

/* Bit i is set where a > b. */
GW_INLINE uint32_t gw_above16(gw_v16 a, gw_v16 b)
{
    return (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(a.low, b.low, _CMP_GT_OQ)) |
           (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(a.high, b.high, _CMP_GT_OQ)) << 8;
}

#endif

#endif
