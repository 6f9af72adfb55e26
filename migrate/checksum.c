#include "migrate/checksum.h"

#include <immintrin.h>
#include <string.h>

#include "base/hash.h"

#define LANES  8
#define STRIPE (LANES * sizeof(uint64_t))
#define STEP   0x9E3779B97F4A7C15u /* odd, so that no two of 2^64 stripes have the same keys */

/* Any eight words with bits well mixed: gw_mix64 of 1 to 8. */
static const uint64_t KEYS[LANES] = {0x910A2DEC89025CC1, 0x975835DE1C9756CE, 0x1D0B14E4DB018FED,
                                     0x6E73E372E2338ACA, 0x63033B0CA389C35A, 0xBD64A5D9ADEFE000,
                                     0x63CBE1E459320DD7, 0x9E5651B0EF953636};

/* Adds stripes [first, first + stripes) to acc. */
typedef void accumulate_fn(uint64_t acc[LANES], const uint8_t *p, size_t first, size_t stripes);

static void accumulate_c(uint64_t acc[LANES], const uint8_t *p, size_t first, size_t stripes)
{
    for (size_t j = first; j < first + stripes; j++, p += STRIPE)
        for (size_t lane = 0; lane < LANES; lane++) {
            uint64_t x;
            memcpy(&x, p + lane * sizeof x, sizeof x);
            uint64_t k = x ^ (KEYS[lane] + j * STEP);
            acc[lane] += (k & UINT32_MAX) * (k >> 32);
            acc[lane ^ 1] += x;
        }
}

#define SWAP_WORDS 0x4E /* of each pair of 64-bit lanes */

__attribute__((target("avx2"))) static inline __m256i load_avx2(const void *p)
{
    return _mm256_loadu_si256(p);
}

__attribute__((target("avx2"))) static void accumulate_avx2(uint64_t acc[LANES], const uint8_t *p,
                                                            size_t first, size_t stripes)
{
    const __m256i step = _mm256_set1_epi64x((long long)STEP);
    __m256i at = _mm256_set1_epi64x((long long)(first * STEP));
    __m256i a0 = load_avx2(acc), a1 = load_avx2(acc + LANES / 2);
    __m256i k0 = _mm256_add_epi64(load_avx2(KEYS), at);
    __m256i k1 = _mm256_add_epi64(load_avx2(KEYS + LANES / 2), at);
    for (size_t j = 0; j < stripes; j++, p += STRIPE) {
        __m256i x0 = load_avx2(p), x1 = load_avx2(p + STRIPE / 2);
        __m256i y0 = _mm256_xor_si256(x0, k0), y1 = _mm256_xor_si256(x1, k1);
        a0 = _mm256_add_epi64(a0, _mm256_mul_epu32(y0, _mm256_srli_epi64(y0, 32)));
        a1 = _mm256_add_epi64(a1, _mm256_mul_epu32(y1, _mm256_srli_epi64(y1, 32)));
        a0 = _mm256_add_epi64(a0, _mm256_shuffle_epi32(x0, SWAP_WORDS));
        a1 = _mm256_add_epi64(a1, _mm256_shuffle_epi32(x1, SWAP_WORDS));
        k0 = _mm256_add_epi64(k0, step);
        k1 = _mm256_add_epi64(k1, step);
    }
    _mm256_storeu_si256((void *)acc, a0);
    _mm256_storeu_si256((void *)(acc + LANES / 2), a1);
}

__attribute__((target("avx512f"))) static void accumulate_avx512(uint64_t acc[LANES], const uint8_t *p,
                                                                 size_t first, size_t stripes)
{
    const __m512i step = _mm512_set1_epi64((long long)STEP);
    __m512i a = _mm512_loadu_si512(acc);
    __m512i k = _mm512_add_epi64(_mm512_loadu_si512(KEYS), _mm512_set1_epi64((long long)(first * STEP)));
    for (size_t j = 0; j < stripes; j++, p += STRIPE) {
        __m512i x = _mm512_loadu_si512(p), y = _mm512_xor_si512(x, k);
        a = _mm512_add_epi64(a, _mm512_mul_epu32(y, _mm512_srli_epi64(y, 32)));
        a = _mm512_add_epi64(a, _mm512_shuffle_epi32(x, (_MM_PERM_ENUM)SWAP_WORDS));
        k = _mm512_add_epi64(k, step);
    }
    _mm512_storeu_si512(acc, a);
}

static uint64_t sum_by(accumulate_fn *accumulate, const uint8_t *p, size_t len)
{
    uint64_t acc[LANES] = {0}, sum = len;
    uint8_t last[STRIPE] = {0};
    size_t stripes = len / STRIPE, rest = len % STRIPE;
    accumulate(acc, p, 0, stripes);
    if (rest > 0) {
        memcpy(last, p + stripes * STRIPE, rest);
        accumulate(acc, last, stripes, 1);
    }
    for (size_t lane = 0; lane < LANES; lane++) sum = gw_mix64(sum ^ acc[lane]);
    return sum;
}

uint64_t gw_checksum_by(int variant, const void *bytes, size_t len)
{
    if (variant == 2 && __builtin_cpu_supports("avx512f")) return sum_by(accumulate_avx512, bytes, len);
    if (variant == 1 && __builtin_cpu_supports("avx2")) return sum_by(accumulate_avx2, bytes, len);
    return sum_by(accumulate_c, bytes, len);
}

uint64_t gw_checksum(const void *bytes, size_t len)
{
    if (__builtin_cpu_supports("avx512f")) return sum_by(accumulate_avx512, bytes, len);
    if (__builtin_cpu_supports("avx2")) return sum_by(accumulate_avx2, bytes, len);
    return sum_by(accumulate_c, bytes, len);
}
