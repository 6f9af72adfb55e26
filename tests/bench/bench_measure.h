/* What benchmarks measure with: the median of rounds, memory that no cache holds, and a loop that does nothing but read it.
 *
 * Owner: the caller's arrays. Thread: any. Units: the caller's; bytes. Errors: none. Source: own design. */
#ifndef GW_TESTS_BENCH_MEASURE_H
#define GW_TESTS_BENCH_MEASURE_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define BENCH_COLD_LEAST ((size_t)96 << 20)
#define BENCH_COLD_MOST  ((size_t)1 << 30)
#define BENCH_READ_BYTES 256  /* bench_read's piece: what is read is a multiple of it */
#define BENCH_READ_AHEAD 1024 /* bytes */

static inline int bench_by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Sorts them. */
static inline double bench_median(double *values, size_t len)
{
    qsort(values, len, sizeof *values, bench_by_value);
    return values[len / 2];
}

static inline void *bench_map(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) exit(1);
    madvise(p, bytes, MADV_HUGEPAGE); /* as weights are kept that serve */
    return p;
}

/* What was read so many bytes ago comes from memory: twice the last cache, of a virtual machine that of its host. */
static inline size_t bench_cold_bytes(void)
{
    const long cache = sysconf(_SC_LEVEL3_CACHE_SIZE);
    const size_t cold = cache > 0 ? 2 * (size_t)cache : 0;
    return cold < BENCH_COLD_LEAST ? BENCH_COLD_LEAST : cold > BENCH_COLD_MOST ? BENCH_COLD_MOST : cold;
}

/* Reads so many bytes as fast as a core can: memory is asked for ahead, by which a virtual Xeon with AMX reads a quarter to a
 * third more. scratch[BENCH_READ_BYTES] gets what makes the compiler keep that. */
__attribute__((target("avx2"))) static inline void bench_read(const uint8_t *from, size_t bytes,
                                                              void *scratch)
{
    __m256i acc[8];
    for (int i = 0; i < 8; i++) acc[i] = _mm256_setzero_si256();
    for (size_t at = 0; at < bytes; at += BENCH_READ_BYTES) {
#pragma GCC unroll 4
        for (int line = 0; line < 4; line++)
            _mm_prefetch(from + at + BENCH_READ_AHEAD + 64 * (size_t)line, _MM_HINT_T0);
#pragma GCC unroll 8
        for (int j = 0; j < 8; j++)
            acc[j] =
                _mm256_xor_si256(acc[j], _mm256_loadu_si256((const __m256i_u *)(from + at + 32 * (size_t)j)));
    }
    for (int i = 0; i < 8; i++) _mm256_storeu_si256((__m256i_u *)((uint8_t *)scratch + 32 * i), acc[i]);
}

#endif
