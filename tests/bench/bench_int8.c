/* Products of int8 and of fp8 weights on the shapes of a 1B model, next to bf16 ones and what the machine can do:
 * `bench int8_<shape>_m<rows>_t<threads> ours=<x> ref=<floor> ratio=<x/floor> unit=GOP/s` and `bench int8_over_bf16_…`, and so
 * for fp8.
 *
 * The floor. A product of M rows with [N, K] reads N · K bytes and multiplies M · N · K times; it takes at least the longer of
 * bytes / read bandwidth and operations / peak of VPDPBUSD (2 operations for each of 64 products), or of TDPBUSD where tiles
 * are multiplied (2 for each of 16384), both probed here with as many threads. So reading bounds up to some 20 rows (of tiles
 * some 200), the peak from there on: against bf16, half the bytes, and twice the products of VDPBF16PS (four times those of FMA,
 * where the machine has no other). fp8 is multiplied as bf16 is: its peak is that of FMA.
 *
 * Weights are as many copies as are larger than any cache, each call takes the next. A round measures the probes and both
 * formats, one after the other; figures are medians over rounds. A run takes about a
 * minute. */
#include <stdio.h>

#include "tests/bench/bench_product.h"

#define ROUNDS  5
#define SLOT_US 8000 /* over which one figure of a round is averaged */

struct bench {
    const char *format;
    struct bench_operands operands;
    int threads;
    gw_work_fn *peak; /* NULL: the CPU has no such instruction */
    double peak_ops;
    struct bench_cold cold;
};

static void bench_rows_of(struct bench *b, struct bench_weights *quantized, struct bench_weights *bf16,
                          uint32_t m)
{
    double ours[ROUNDS], theirs[ROUNDS], read[ROUNDS], peak[ROUNDS] = {0};
    struct gw_device *dev = b->operands.dev;
    for (int r = 0; r < ROUNDS; r++) {
        read[r] = bench_probe_bandwidth(dev, &b->cold);
        if (b->peak) peak[r] = bench_probe_peak(dev, b->peak, b->threads, b->peak_ops);
        ours[r] = bench_multiply_rate(&b->operands, quantized, m, SLOT_US);
        theirs[r] = bench_multiply_rate(&b->operands, bf16, m, SLOT_US);
    }
    double x = bench_median(ours, ROUNDS), y = bench_median(theirs, ROUNDS),
           bytes_s = bench_median(read, ROUNDS), top = bench_median(peak, ROUNDS);
    const struct bench_shape *s = quantized->shape;
    double roof = bytes_s * 2.0 * m * s->n * s->k / (double)quantized->bytes,
           ref = b->peak && top < roof ? top : roof;
    printf("probe %s_m%u_t%d %s_peak=%.0f GOP/s read=%.1f GB/s\n", s->name, m, b->threads, b->format, top,
           bytes_s);
    printf("bench %s_%s_m%u_t%d ours=%.1f ref=%.1f ratio=%.2f unit=GOP/s\n", b->format, s->name, m,
           b->threads, x, ref, x / ref);
    printf("bench %s_over_bf16_%s_m%u_t%d ours=%.1f ref=%.1f ratio=%.2f unit=GOP/s\n", b->format, s->name, m,
           b->threads, x, y, x / y);
}

/* Of the instruction that multiplies. */
static void choose_peak(struct bench *b, const struct gw_ops *ops)
{
    if (ops->weight == GW_F8) {
        bool wide = __builtin_cpu_supports("avx512f");
        b->peak = wide ? bench_probe_fma512 : bench_probe_fma256;
        b->peak_ops = wide ? BENCH_PROBE_WIDE : BENCH_PROBE_HALF;
        return;
    }
    bool tiles = strcmp(ops->name, "cpu-amx") == 0;
    b->peak = tiles ? bench_probe_tiles : __builtin_cpu_supports("avx512vnni") ? bench_probe_vnni : NULL;
    b->peak_ops = tiles ? BENCH_PROBE_TILE : BENCH_PROBE_BYTES;
}

static void bench_shape(struct bench *b, const struct bench_shape *s, const uint16_t *values)
{
    static const char *const formats[][2] = {{"int8", "cpu-bf16-int8-1"}, {"fp8", "cpu-bf16-fp8-1"}};
    struct bench_weights quantized, bf16;
    bench_weights_make(&bf16, "cpu-bf16dot-2", GW_ISA_AUTO, s, values);
    for (size_t f = 0; f < sizeof formats / sizeof *formats; f++) {
        b->format = formats[f][0];
        bench_weights_make(&quantized, formats[f][1], GW_ISA_AUTO, s, values);
        choose_peak(b, quantized.ops);
        for (size_t i = 0; i < sizeof bench_rows / sizeof *bench_rows; i++)
            bench_rows_of(b, &quantized, &bf16, bench_rows[i]);
        bench_weights_free(&quantized);
    }
    bench_weights_free(&bf16);
}

int main(void)
{
    uint16_t *values = bench_values_bf16();
    float *y = bench_map(BENCH_ROWS_MAX * 16384 * sizeof *y),
          *scratch = bench_map((size_t)BENCH_SHARES * BENCH_ROWS_MAX * 2048 * sizeof *scratch);
    const struct bench_cold cold = bench_cold_map();
    gw_device_enter_thread();
    for (int threads = 1; threads <= 2; threads++) {
        struct bench b = {
            .operands = {.x = values, .y = y, .scratch = scratch}, .threads = threads, .cold = cold};
        if (gw_device_cpu_create(threads, true, &b.operands.dev, NULL) != GW_OK) return 1;
        for (size_t i = 0; i < BENCH_SHAPES; i++) bench_shape(&b, &bench_shapes[i], values);
        gw_device_destroy(b.operands.dev);
    }
    return 0;
}
