/* int8 products on the shapes of a 1B model, next to bf16 ones and what the machine can do:
 * `bench int8_<shape>_m<rows>_t<threads> ours=<x> ref=<floor> ratio=<x/floor> unit=GOP/s` and `bench int8_over_bf16_…`.
 *
 * The floor. A product of M rows with [N, K] reads N · K bytes and multiplies M · N · K times; it takes at least the longer of
 * bytes / read bandwidth and operations / peak of VPDPBUSD (2 operations for each of 64 products), both probed here with as
 * many threads. So reading bounds up to some 20 rows, the peak from there on: against bf16, half the bytes, and twice the products
 * of VDPBF16PS (four times those of FMA, where the machine has no other).
 *
 * Weights are as many copies as are larger than any cache, each call takes the next. A round measures the probes and both
 * formats, one after the other; figures are the best of the rounds: whatever else the machine does only makes others slower. A run takes about half a minute. */
#include <immintrin.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "base/rng.h"
#include "kernels/convert.h"
#include "kernels/cpu/device.h"

#define ROUNDS     5
#define SLOT_US    8000 /* over which one figure of a round is averaged */
#define COLD_BYTES ((size_t)96 << 20)
#define COPIES_MAX 32u
#define SLICE      (1u << 20) /* that one item of the read probe sums */
#define PROBE_OPS  400000     /* instructions of one item of the peak's probe */
#define SHARES     8u
#define M_MAX      512u

static const struct shape {
    const char *name;
    uint32_t n, k;
    bool shares; /* k in SHARES parts, added by the tree */
} shapes[] = {{"qkv", 3072, 2048, false},
              {"o", 2048, 2048, true},
              {"gate_up", 16384, 2048, false},
              {"down", 2048, 8192, true}};

/* One format of one shape. */
struct weights {
    const struct gw_ops *ops;
    struct gw_weight parts[COPIES_MAX][SHARES]; /* the first alone without shares */
    uint32_t copies, next;
    uint8_t *memory;
    size_t bytes, all_bytes;
};

struct bench {
    struct gw_device *dev;
    int threads;
    const struct shape *shape;
    const void *x; /* [M_MAX, k] bf16 */
    float *y, *scratch;
    const uint8_t *cold; /* COLD_BYTES */
};

/* Twelve sums in registers of their own: told by intrinsics, gcc 12 keeps them in memory. What is in them does not matter. */
__attribute__((target("avx512f,avx512vnni"))) static void peak_items(const void *arg, void *scratch,
                                                                     size_t first, size_t last)
{
    (void)arg;
    (void)scratch;
    for (size_t item = first; item < last; item++)
        for (int i = 0; i < PROBE_OPS / 12; i++)
            __asm__ volatile("vpdpbusd %%zmm16, %%zmm16, %%zmm17\n"
                             "vpdpbusd %%zmm16, %%zmm16, %%zmm18\n"
                             "vpdpbusd %%zmm16, %%zmm16, %%zmm19\n"
                             "vpdpbusd %%zmm16, %%zmm16, %%zmm20\n"
                             "vpdpbusd %%zmm16, %%zmm16, %%zmm21\n"
                             "vpdpbusd %%zmm16, %%zmm16, %%zmm22\n"
                             "vpdpbusd %%zmm16, %%zmm16, %%zmm23\n"
                             "vpdpbusd %%zmm16, %%zmm16, %%zmm24\n"
                             "vpdpbusd %%zmm16, %%zmm16, %%zmm25\n"
                             "vpdpbusd %%zmm16, %%zmm16, %%zmm26\n"
                             "vpdpbusd %%zmm16, %%zmm16, %%zmm27\n"
                             "vpdpbusd %%zmm16, %%zmm16, %%zmm28\n" ::
                                 : "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24",
                                   "xmm25", "xmm26", "xmm27", "xmm28");
}

__attribute__((target("avx2"))) static void read_items(const void *arg, void *scratch, size_t first,
                                                       size_t last)
{
    const struct bench *b = arg;
    __m256i acc[8];
    for (int i = 0; i < 8; i++) acc[i] = _mm256_setzero_si256();
    const uint8_t *from = b->cold + first * SLICE;
    for (size_t at = 0; at < (last - first) * SLICE; at += 256)
#pragma GCC unroll 8
        for (int j = 0; j < 8; j++)
            acc[j] =
                _mm256_xor_si256(acc[j], _mm256_loadu_si256((const __m256i_u *)(from + at + 32 * (size_t)j)));
    for (int i = 0; i < 8; i++) _mm256_storeu_si256((__m256i_u *)((uint8_t *)scratch + 32 * i), acc[i]);
}

static void *map(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) exit(1);
    madvise(p, bytes, MADV_HUGEPAGE); /* as weights are kept that serve */
    return p;
}

static void make_weights(struct weights *w, const struct shape *s, const uint16_t *values)
{
    uint32_t shares = s->shares ? SHARES : 1, k = s->k / shares;
    size_t part = w->ops->pack_bytes(s->n, k);
    w->bytes = part * shares;
    w->copies = (uint32_t)(COLD_BYTES / w->bytes) + 1;
    if (w->copies > COPIES_MAX) w->copies = COPIES_MAX;
    w->all_bytes = w->copies * w->bytes;
    w->memory = map(w->all_bytes);
    for (uint32_t c = 0; c < w->copies; c++)
        for (uint32_t i = 0; i < shares; i++) {
            w->parts[c][i] = (struct gw_weight){s->n, k, w->memory + c * w->bytes + i * part};
            if (c == 0)
                w->ops->pack(w->parts[c][i].data, values, GW_BF16, s->n, k, k);
            else
                memcpy(w->parts[c][i].data, w->parts[0][i].data, part);
        }
}

static void multiply(struct bench *b, struct weights *w, uint32_t m)
{
    static const uint32_t first_col = 0;
    const struct gw_weight *parts = w->parts[w->next++ % w->copies];
    if (b->shape->shares)
        w->ops->matmul_tree_add(b->dev, b->y, b->x, parts, SHARES, m, b->scratch);
    else
        w->ops->matmul(b->dev, b->y, b->shape->n, b->x, b->shape->k, parts, &first_col, 1, m);
}

/* Billions per second of what `work` counts per call. */
static double rate(struct bench *b, struct weights *w, uint32_t m, gw_work_fn *probe, size_t items,
                   double work)
{
    int64_t start = gw_clock_mono_us(), now;
    int calls = 0;
    do {
        if (probe)
            gw_device_parallel(b->dev, probe, b, items, 1e6);
        else
            multiply(b, w, m);
        calls++;
        now = gw_clock_mono_us();
    } while (now - start < SLOT_US);
    return work * calls / (double)(now - start) * 1e-3;
}

static double best(const double values[ROUNDS])
{
    double most = values[0];
    for (int i = 1; i < ROUNDS; i++)
        if (values[i] > most) most = values[i];
    return most;
}

static void bench_rows(struct bench *b, struct weights *int8, struct weights *bf16, uint32_t m, bool vnni)
{
    double ours[ROUNDS], theirs[ROUNDS], read[ROUNDS], peak[ROUNDS] = {0};
    double ops = 2.0 * m * b->shape->n * b->shape->k;
    for (int r = 0; r < ROUNDS; r++) {
        read[r] = rate(b, NULL, 0, read_items, COLD_BYTES / SLICE, (double)COLD_BYTES);
        if (vnni) peak[r] = rate(b, NULL, 0, peak_items, (size_t)b->threads, 128.0 * PROBE_OPS * b->threads);
        ours[r] = rate(b, int8, m, NULL, 0, ops);
        theirs[r] = rate(b, bf16, m, NULL, 0, ops);
    }
    double x = best(ours), y = best(theirs), bytes_s = best(read), top = best(peak);
    double roof = bytes_s * ops / (double)int8->bytes, ref = vnni && top < roof ? top : roof;
    printf("probe %s_m%u_t%d vnni_peak=%.0f GOP/s read=%.1f GB/s\n", b->shape->name, m, b->threads, top,
           bytes_s);
    printf("bench int8_%s_m%u_t%d ours=%.1f ref=%.1f ratio=%.2f unit=GOP/s\n", b->shape->name, m, b->threads,
           x, ref, x / ref);
    printf("bench int8_over_bf16_%s_m%u_t%d ours=%.1f ref=%.1f ratio=%.2f unit=GOP/s\n", b->shape->name, m,
           b->threads, x, y, x / y);
}

static void bench_shape(struct bench *b, const uint16_t *values, bool vnni)
{
    static const uint32_t rows[] = {1, 4, 16, 64, M_MAX};
    struct weights int8 = {0}, bf16 = {0};
    if (gw_ops_cpu("cpu-bf16-int8-1", GW_ISA_AUTO, &int8.ops, NULL) != GW_OK ||
        gw_ops_cpu("cpu-bf16dot-2", GW_ISA_AUTO, &bf16.ops, NULL) != GW_OK)
        exit(1);
    make_weights(&int8, b->shape, values);
    make_weights(&bf16, b->shape, values);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) bench_rows(b, &int8, &bf16, rows[i], vnni);
    munmap(int8.memory, int8.all_bytes);
    munmap(bf16.memory, bf16.all_bytes);
}

int main(void)
{
    size_t most = (size_t)16384 * 2048;
    bool vnni = __builtin_cpu_supports("avx512vnni");
    struct gw_rng r;
    gw_rng_init(&r, 1);
    uint16_t *values = map(most * sizeof *values);
    float *y = map(M_MAX * 16384 * sizeof *y),
          *scratch = map((size_t)SHARES * M_MAX * 2048 * sizeof *scratch);
    uint8_t *cold = map(COLD_BYTES);
    memset(cold, 1, COLD_BYTES);
    for (size_t i = 0; i < most; i++) values[i] = gw_bf16_of_f32((float)(gw_rng_unit(&r) - 0.5));
    gw_device_enter_thread();
    for (int threads = 1; threads <= 2; threads++) {
        struct bench b = {.threads = threads, .x = values, .y = y, .scratch = scratch, .cold = cold};
        if (gw_device_cpu_create(threads, true, &b.dev, NULL) != GW_OK) return 1;
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
            b.shape = &shapes[i];
            bench_shape(&b, values, vnni);
        }
        gw_device_destroy(b.dev);
    }
    return 0;
}
