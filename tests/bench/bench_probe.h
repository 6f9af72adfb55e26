/* What this machine can do at most, as work for a device's threads: reading memory, fused multiply-adds, dot products of bf16
 * and of int8, those of tiles.
 *
 * A peak's item is a fixed number of instructions on twelve independent registers: more than latency × ports of any core that
 * has them. (Told by intrinsics, gcc 12 keeps VPDPBUSD's sums in memory: so those are assembly.)
 *
 * Owner: the caller's memory. Thread: any number of items at a time. Units: operations (2 for each product), bytes. Errors:
 * none: who calls has asked whether the CPU has the instruction. Source: own design. */
#ifndef GW_TESTS_BENCH_PROBE_H
#define GW_TESTS_BENCH_PROBE_H

#include <string.h>

#include "tests/bench/bench_measure.h"
#include "base/clock.h"
#include "kernels/cpu/device.h"

#define BENCH_PROBE_OPS         2400000    /* instructions of one item, some 0.5 ms */
#define BENCH_PROBE_SLICE       (1u << 20) /* bytes that one item of the read probe takes */
#define BENCH_PROBE_WIDE        32.0       /* operations of an FMA of 16 lanes */
#define BENCH_PROBE_HALF        16.0       /* of one of 8 lanes */
#define BENCH_PROBE_PAIRS       64.0       /* of VDPBF16PS */
#define BENCH_PROBE_BYTES       128.0      /* of VPDPBUSD */
#define BENCH_PROBE_TILE_CYCLES 16
#define BENCH_PROBE_TILE        (32768.0 / BENCH_PROBE_TILE_CYCLES) /* of TDPBUSD, in each of its cycles */
#define BENCH_PROBE_SLOT_US     30000                               /* over which a rate is averaged */

__attribute__((target("avx512f"))) static inline void bench_probe_fma512(const void *arg, void *scratch,
                                                                         size_t first, size_t last)
{
    (void)arg;
    __m512 acc[12];
    const __m512 x = _mm512_set1_ps(0.999f);
    for (int i = 0; i < 12; i++) acc[i] = _mm512_set1_ps((float)i);
    for (size_t item = first; item < last; item++)
        for (int i = 0; i < BENCH_PROBE_OPS / 12; i++)
#pragma GCC unroll 12
            for (int j = 0; j < 12; j++) acc[j] = _mm512_fmadd_ps(acc[j], x, x);
    for (int i = 0; i < 12; i++) _mm512_storeu_ps((float *)scratch + 16 * i, acc[i]);
}

__attribute__((target("avx2,fma"))) static inline void bench_probe_fma256(const void *arg, void *scratch,
                                                                          size_t first, size_t last)
{
    (void)arg;
    __m256 acc[12];
    const __m256 x = _mm256_set1_ps(0.999f);
    for (int i = 0; i < 12; i++) acc[i] = _mm256_set1_ps((float)i);
    for (size_t item = first; item < last; item++)
        for (int i = 0; i < BENCH_PROBE_OPS / 12; i++)
#pragma GCC unroll 12
            for (int j = 0; j < 12; j++) acc[j] = _mm256_fmadd_ps(acc[j], x, x);
    for (int i = 0; i < 12; i++) _mm256_storeu_ps((float *)scratch + 8 * i, acc[i]);
}

/* A dot instruction on zmm17 to zmm28; what is in them does not matter. */
#define BENCH_PROBE_DOT(name, instruction, isa)                                                              \
    __attribute__((target(isa))) static inline void name(const void *arg, void *scratch, size_t first,       \
                                                         size_t last)                                        \
    {                                                                                                        \
        (void)arg;                                                                                           \
        (void)scratch;                                                                                       \
        for (size_t item = first; item < last; item++)                                                       \
            for (int i = 0; i < BENCH_PROBE_OPS / 12; i++)                                                   \
                __asm__ volatile(                                                                            \
                    instruction                                                                              \
                    " %%zmm16, %%zmm16, %%zmm17\n" instruction " %%zmm16, %%zmm16, %%zmm18\n" instruction    \
                    " %%zmm16, %%zmm16, %%zmm19\n" instruction " %%zmm16, %%zmm16, %%zmm20\n" instruction    \
                    " %%zmm16, %%zmm16, %%zmm21\n" instruction " %%zmm16, %%zmm16, %%zmm22\n" instruction    \
                    " %%zmm16, %%zmm16, %%zmm23\n" instruction " %%zmm16, %%zmm16, %%zmm24\n" instruction    \
                    " %%zmm16, %%zmm16, %%zmm25\n" instruction " %%zmm16, %%zmm16, %%zmm26\n" instruction    \
                    " %%zmm16, %%zmm16, %%zmm27\n" instruction " %%zmm16, %%zmm16, %%zmm28\n" ::             \
                        : "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm25",   \
                          "xmm26", "xmm27", "xmm28");                                                        \
    }

BENCH_PROBE_DOT(bench_probe_vnni, "vpdpbusd", "avx512f,avx512vnni")
BENCH_PROBE_DOT(bench_probe_bf16dot, "vdpbf16ps", "avx512f,avx512bf16")

/* A tile instruction takes 16 cycles: so many fewer are as long. Sums in four tiles, more than it has latency. */
__attribute__((target("amx-tile,amx-int8"))) static inline void bench_probe_tiles(const void *arg,
                                                                                  void *scratch, size_t first,
                                                                                  size_t last)
{
    static const struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } config = {.palette = 1, .row_bytes = {[0 ... 7] = 64}, .rows = {[0 ... 7] = 16}};
    (void)arg;
    (void)scratch;
    __asm__ volatile("ldtilecfg %0" : : "m"(config));
    for (size_t item = first; item < last; item++)
        for (int i = 0; i < BENCH_PROBE_OPS / BENCH_PROBE_TILE_CYCLES / 4; i++)
            __asm__ volatile("tdpbusd %tmm4, %tmm5, %tmm0\ntdpbusd %tmm4, %tmm5, %tmm1\n"
                             "tdpbusd %tmm4, %tmm5, %tmm2\ntdpbusd %tmm4, %tmm5, %tmm3");
    __asm__ volatile("tilerelease");
}

/* arg: what is read, BENCH_PROBE_SLICE bytes per item */
static inline void bench_probe_read(const void *arg, void *scratch, size_t first, size_t last)
{
    bench_read((const uint8_t *)arg + first * BENCH_PROBE_SLICE, (last - first) * BENCH_PROBE_SLICE, scratch);
}

/* Billions per second of what `work` counts per call of the job. */
static inline double bench_probe_rate(struct gw_device *dev, gw_work_fn *fn, const void *arg, size_t items,
                                      double work)
{
    int64_t start = gw_clock_mono_us(), now;
    int calls = 0;
    do {
        gw_device_parallel(dev, fn, arg, items, 1e6);
        calls++;
        now = gw_clock_mono_us();
    } while (now - start < BENCH_PROBE_SLOT_US);
    return work * calls / (double)(now - start) * 1e-3;
}

/* What is read to find the bandwidth. */
struct bench_cold {
    uint8_t *memory;
    size_t bytes;
};

static inline struct bench_cold bench_cold_map(void)
{
    const size_t bytes = bench_cold_bytes() / BENCH_PROBE_SLICE * BENCH_PROBE_SLICE;
    struct bench_cold cold = {bench_map(bytes), bytes};
    memset(cold.memory, 1, bytes);
    return cold;
}

/* In GB/s. */
static inline double bench_probe_bandwidth(struct gw_device *dev, const struct bench_cold *cold)
{
    return bench_probe_rate(dev, bench_probe_read, cold->memory, cold->bytes / BENCH_PROBE_SLICE,
                            (double)cold->bytes);
}

/* Of instructions of so many operations each, on so many threads. */
static inline double bench_probe_peak(struct gw_device *dev, gw_work_fn *fn, int threads, double ops)
{
    return bench_probe_rate(dev, fn, NULL, (size_t)threads, ops * BENCH_PROBE_OPS * threads);
}

#endif
