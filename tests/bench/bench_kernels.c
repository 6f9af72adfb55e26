/* Products against what this machine can do: `bench <name> ours=<x> ref=<y> ratio=<x/y> unit=GFLOP/s`.
 *
 * ref is the roofline, probed here: min(FMA peak, read bandwidth * flops per byte of weight), both with as many threads as
 * the product has. A run takes some seconds. */
#include <float.h>
#include <immintrin.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/rng.h"
#include "kernels/convert.h"
#include "kernels/cpu/device.h"
#include "kernels/op.h"

#define N         8192u
#define K         2048u
#define M_MAX     512u
#define PIECES    8u
#define PROBE_FMA 20000000
#define SLICE     (1u << 20) /* bytes that one item of the read probe sums */
#define ROUND_US  150000     /* time over which a figure is averaged */

struct bench {
    struct gw_device *dev;
    int threads;
    const uint8_t *memory; /* as large as the bf16 weight */
    double peak, read;     /* GFLOP/s, GB/s */
};

__attribute__((target("avx512f"))) static void fma_items(const void *arg, void *scratch, size_t first,
                                                         size_t last)
{
    (void)arg;
    __m512 acc[16];
    const __m512 x = _mm512_set1_ps(0.999f);
    for (int i = 0; i < 16; i++) acc[i] = _mm512_set1_ps((float)i);
    for (size_t item = first; item < last; item++)
        for (int i = 0; i < PROBE_FMA / 16; i++)
#pragma GCC unroll 16
            for (int j = 0; j < 16; j++) acc[j] = _mm512_fmadd_ps(acc[j], x, x);
    for (int i = 0; i < 16; i++) _mm512_storeu_ps((float *)scratch + 16 * i, acc[i]);
}

__attribute__((target("avx512f"))) static void read_items(const void *arg, void *scratch, size_t first,
                                                          size_t last)
{
    const struct bench *b = arg;
    __m512i acc[8];
    for (int i = 0; i < 8; i++) acc[i] = _mm512_setzero_si512();
    const uint8_t *from = b->memory + first * SLICE;
    for (size_t at = 0; at < (last - first) * SLICE; at += 512)
#pragma GCC unroll 8
        for (int j = 0; j < 8; j++) acc[j] = _mm512_xor_si512(acc[j], _mm512_load_si512(from + at + 64 * j));
    for (int i = 0; i < 8; i++) _mm512_storeu_si512((uint8_t *)scratch + 64 * i, acc[i]);
}

/* Seconds per call of one job, the best of three rounds. */
static double time_job(struct bench *b, gw_work_fn *fn, size_t items)
{
    double best = DBL_MAX;
    for (int round = 0; round < 3; round++) {
        int64_t start = gw_clock_mono_us(), now;
        int calls = 0;
        do {
            gw_device_parallel(b->dev, fn, b, items, 1e6);
            calls++;
            now = gw_clock_mono_us();
        } while (now - start < ROUND_US);
        double seconds = (double)(now - start) * 1e-6 / calls;
        best = seconds < best ? seconds : best;
    }
    return best;
}

static void probe(struct bench *b)
{
    b->peak = (double)b->threads * PROBE_FMA * 32 / time_job(b, fma_items, (size_t)b->threads) * 1e-9;
    b->read = (double)N * K * 2 / time_job(b, read_items, (size_t)N * K * 2 / SLICE) * 1e-9;
    printf("bench probe_t%d fma_peak=%.1f GFLOP/s read=%.1f GB/s\n", b->threads, b->peak, b->read);
}

static double time_matmul(struct bench *b, const struct gw_ops *ops, float *y, const void *x,
                          const struct gw_weight *w, const uint32_t *y_at, uint32_t count, uint32_t m)
{
    double best = DBL_MAX;
    for (int round = 0; round < 3; round++) {
        int64_t start = gw_clock_mono_us(), now;
        int calls = 0;
        do {
            ops->matmul(b->dev, y, N, x, K, w, y_at, count, m);
            calls++;
            now = gw_clock_mono_us();
        } while (now - start < ROUND_US);
        double seconds = (double)(now - start) * 1e-6 / calls;
        best = seconds < best ? seconds : best;
    }
    return best;
}

/* The first len values as bf16 over themselves. */
static void narrow(float *values, size_t len)
{
    for (size_t i = 0; i < len; i++) gw_f32_put(values, GW_BF16, i, values[i]);
}

static void bench_matmul(struct bench *b, const char *profile, const void *values)
{
    static const uint32_t rows[] = {1, 4, 16, 64, M_MAX};
    const struct gw_ops *ops;
    if (gw_ops_cpu(profile, GW_ISA_AUTO, &ops, NULL) != GW_OK) return;
    struct gw_weight w = {.n = N, .k = K, .data = aligned_alloc(64, ops->pack_bytes(N, K))};
    float *y = aligned_alloc(64, (size_t)M_MAX * N * sizeof *y);
    if (!w.data || !y) exit(1);
    ops->pack(w.data, values, ops->weight, N, K, K);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        double flops = 2.0 * rows[i] * N * K;
        double ours = flops / time_matmul(b, ops, y, values, &w, &(uint32_t){0}, 1, rows[i]) * 1e-9;
        double roof = b->read * flops / (double)ops->pack_bytes(N, K);
        double ref = roof < b->peak ? roof : b->peak;
        printf("bench matmul_%s_%s_m%u_t%d ours=%.1f ref=%.1f ratio=%.2f unit=GFLOP/s\n", profile, ops->name,
               rows[i], b->threads, ours, ref, ours / ref);
    }
    free(w.data);
    free(y);
}

/* The same matrix in pieces, as a rank of several cells has it, against the whole one. */
static void bench_pieces(struct bench *b, const char *profile, const void *values)
{
    static const uint32_t rows[] = {1, M_MAX};
    static const uint32_t y_at[PIECES] = {0, 704, 1408, 2112, 2816, 3520, 4224, 4928};
    const struct gw_ops *ops;
    if (gw_ops_cpu(profile, GW_ISA_AUTO, &ops, NULL) != GW_OK) return;
    const uint32_t piece = 704, n = PIECES * piece;
    size_t piece_bytes = ops->pack_bytes(piece, K);
    struct gw_weight w[PIECES], whole = {.n = n, .k = K, .data = aligned_alloc(64, ops->pack_bytes(n, K))};
    float *y = aligned_alloc(64, (size_t)M_MAX * N * sizeof *y);
    if (!whole.data || !y) exit(1);
    ops->pack(whole.data, values, ops->weight, n, K, K);
    for (uint32_t i = 0; i < PIECES; i++)
        w[i] = (struct gw_weight){.n = piece, .k = K, .data = (uint8_t *)whole.data + i * piece_bytes};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        double flops = 2.0 * rows[i] * n * K;
        double ours = flops / time_matmul(b, ops, y, values, w, y_at, PIECES, rows[i]) * 1e-9;
        double ref = flops / time_matmul(b, ops, y, values, &whole, y_at, 1, rows[i]) * 1e-9;
        printf("bench matmul_%s_%s_m%u_t%d_pieces%u ours=%.1f ref=%.1f ratio=%.2f unit=GFLOP/s\n", profile,
               ops->name, rows[i], b->threads, PIECES, ours, ref, ours / ref);
    }
    free(whole.data);
    free(y);
}

static void bench_profile(const char *profile, const void *values)
{
    for (int threads = 1; threads <= 2; threads++) {
        struct bench b = {.threads = threads, .memory = values};
        if (gw_device_cpu_create(threads, true, &b.dev, NULL) != GW_OK) exit(1);
        probe(&b);
        bench_matmul(&b, profile, values);
        bench_pieces(&b, profile, values);
        gw_device_destroy(b.dev);
    }
}

int main(void)
{
    struct gw_rng r;
    gw_rng_init(&r, 1);
    float *values = aligned_alloc(64, (size_t)N * K * sizeof *values);
    if (!values || !__builtin_cpu_supports("avx512f")) {
        fprintf(stderr, "bench_kernels: needs AVX-512 and 64 MiB\n");
        return 1;
    }
    for (size_t i = 0; i < (size_t)N * K; i++) values[i] = (float)(gw_rng_unit(&r) - 0.5);
    gw_device_enter_thread();
    bench_profile("cpu-f32-1", values);
    narrow(values, (size_t)N * K);
    bench_profile("cpu-bf16dot-1", values);
    free(values);
    return 0;
}
