/* Products against what this machine can do: `bench <name> ours=<x> ref=<y> ratio=<x/y> unit=GFLOP/s`, for every
 * instruction set that it has and that is fast.
 *
 * ref is the roofline, probed here: min(FMA peak of that instruction set, read bandwidth * flops per byte of weight),
 * both with as many threads as the product has; lines `probe` say them. A round measures probes and all variants, one
 * after the other, so that what else the machine does falls on all of them; figures are medians over rounds. A run
 * takes a minute or two. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/bench/bench_probe.h"
#include "base/rng.h"
#include "kernels/convert.h"
#include "kernels/op.h"

#define N        8192u
#define K        2048u
#define M_MAX    512u
#define PIECES   8u
#define ROUNDS   7
#define SLOT_US  30000 /* time over which one figure of a round is averaged */
#define VARIANTS 3

struct bench {
    struct gw_device *dev;
    int threads;
    const uint8_t *memory;
    size_t weight_bytes; /* of the profile's N x K */
};

static const struct {
    enum gw_isa isa;
    gw_work_fn *fma;
    double flops; /* of one fma */
} isas[VARIANTS] = {{GW_ISA_AVX512BF16, bench_probe_fma512, BENCH_PROBE_WIDE},
                    {GW_ISA_AVX512, bench_probe_fma512, BENCH_PROBE_WIDE},
                    {GW_ISA_AVX2, bench_probe_fma256, BENCH_PROBE_HALF}};

/* What one figure is taken of: a probe (fn) or a product. */
struct slot {
    gw_work_fn *fn;
    size_t items;
    const struct gw_ops *ops;
    const struct gw_weight *w;
    const uint32_t *y_at;
    uint32_t count, m;
    float *y;
    const void *x;
    double work; /* per call, in units of 1e9 */
    double rates[ROUNDS];
};

/* 1e9 per second */
static double slot_rate(struct bench *b, const struct slot *s)
{
    int64_t start = gw_clock_mono_us(), now;
    int calls = 0;
    do {
        if (s->fn)
            gw_device_parallel(b->dev, s->fn, b->memory, s->items, 1e6);
        else
            s->ops->matmul(b->dev, s->y, N, s->x, K, s->w, s->y_at, s->count, s->m);
        calls++;
        now = gw_clock_mono_us();
    } while (now - start < SLOT_US);
    return s->work * calls / ((double)(now - start) * 1e-6);
}

static void run_rounds(struct bench *b, struct slot *slots, int len)
{
    for (int r = 0; r < ROUNDS; r++)
        for (int i = 0; i < len; i++) slots[i].rates[r] = slot_rate(b, &slots[i]);
}

static double median(struct slot *s)
{
    return bench_median(s->rates, ROUNDS);
}

static struct slot probe_read(const struct bench *b)
{
    return (struct slot){.fn = bench_probe_read,
                         .items = b->weight_bytes / BENCH_PROBE_SLICE,
                         .work = (double)b->weight_bytes * 1e-9};
}

static struct slot probe_peak(const struct bench *b, int isa)
{
    return (struct slot){.fn = isas[isa].fma,
                         .items = (size_t)b->threads,
                         .work = b->threads * isas[isa].flops * BENCH_PROBE_OPS * 1e-9};
}

/* One product by all variants of the profile, each after the peak of its instruction set. */
static void bench_rows(struct bench *b, const char *profile, const void *values, const struct gw_weight *w,
                       float *y, uint32_t m)
{
    static const uint32_t first_col = 0;
    struct slot slots[1 + 2 * VARIANTS] = {probe_read(b)};
    int len = 1;
    for (int v = 0; v < VARIANTS; v++) {
        const struct gw_ops *ops;
        if (gw_ops_cpu(profile, isas[v].isa, &ops, NULL) != GW_OK) continue;
        slots[len++] = probe_peak(b, v);
        slots[len++] = (struct slot){.ops = ops,
                                     .w = w,
                                     .y_at = &first_col,
                                     .count = 1,
                                     .m = m,
                                     .y = y,
                                     .x = values,
                                     .work = 2.0 * m * N * K * 1e-9};
    }
    run_rounds(b, slots, len);
    double read = median(&slots[0]), roof = read * 2.0 * m * N * K / (double)b->weight_bytes;
    for (int i = 1; i < len; i += 2) {
        const char *name = slots[i + 1].ops->name;
        double peak = median(&slots[i]), ours = median(&slots[i + 1]), ref = roof < peak ? roof : peak;
        printf("probe %s_m%u_t%d fma_peak=%.1f GFLOP/s read=%.1f GB/s\n", name, m, b->threads, peak, read);
        printf("bench matmul_%s_%s_m%u_t%d ours=%.1f ref=%.1f ratio=%.2f unit=GFLOP/s\n", profile, name, m,
               b->threads, ours, ref, ours / ref);
    }
}

static void bench_matmul(struct bench *b, const char *profile, const void *values)
{
    static const uint32_t rows[] = {1, 4, 16, 64, M_MAX};
    const struct gw_ops *ops;
    if (gw_ops_cpu(profile, GW_ISA_AUTO, &ops, NULL) != GW_OK) return;
    struct gw_weight w = {.n = N, .k = K, .data = aligned_alloc(64, ops->pack_bytes(N, K))};
    float *y = aligned_alloc(64, (size_t)M_MAX * N * sizeof *y);
    if (!w.data || !y) exit(1);
    ops->pack(w.data, values, ops->act, N, K, K);
    b->weight_bytes = ops->pack_bytes(N, K);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) bench_rows(b, profile, values, &w, y, rows[i]);
    free(w.data);
    free(y);
}

/* The first len values as bf16 over themselves. */
static void narrow(float *values, size_t len)
{
    for (size_t i = 0; i < len; i++) gw_f32_put(values, GW_BF16, i, values[i]);
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
    ops->pack(whole.data, values, ops->act, n, K, K);
    for (uint32_t i = 0; i < PIECES; i++)
        w[i] = (struct gw_weight){.n = piece, .k = K, .data = (uint8_t *)whole.data + i * piece_bytes};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct slot slots[2];
        slots[0] = (struct slot){.ops = ops,
                                 .w = w,
                                 .y_at = y_at,
                                 .count = PIECES,
                                 .m = rows[i],
                                 .y = y,
                                 .x = values,
                                 .work = 2.0 * rows[i] * n * K * 1e-9};
        slots[1] = slots[0];
        slots[1].w = &whole;
        slots[1].count = 1;
        run_rounds(b, slots, 2);
        double ours = median(&slots[0]), ref = median(&slots[1]);
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
    if (!values || !__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) {
        fprintf(stderr, "bench_kernels: needs AVX2, FMA and 64 MiB\n");
        return 1;
    }
    for (size_t i = 0; i < (size_t)N * K; i++) values[i] = (float)(gw_rng_unit(&r) - 0.5);
    gw_device_enter_thread();
    bench_profile("cpu-f32-2", values);
    narrow(values, (size_t)N * K);
    bench_profile("cpu-bf16dot-2", values);
    free(values);
    return 0;
}
