/* Products beside oneDNN's on the shapes of a 1B model:
 * `bench onednn_<format>_<shape>_m<rows>_t<threads> ours=<x> ref=<y> ratio=<x/y> unit=GOP/s`.
 *
 * Both have weights in the layout that they chose, in as many copies as are larger than any cache, and as many threads (oneDNN's
 * are OpenMP's); they take turns, and figures are medians over rounds. Each turn begins with products that do not count: for
 * some 12 ms behind its last one, OpenMP's threads spin on cores that ours would have. What is multiplied:
 *
 *     format   ours                                                    oneDNN (matmul primitive)
 *     bf16     bf16 · bf16 → f32                                       the same
 *     bf16amx  the same under cpu-bf16amx-1                            the same
 *     f32      f32 · f32 → f32                                         the same
 *     int8     bf16, quantized here for each row · int8 → f32          u8, quantized beforehand · s8 → f32, a scale
 *                                                                      for each column
 *     int8vnni the same without AMX tiles, to be read with             the same
 *              ONEDNN_MAX_CPU_ISA=avx512_core_vnni
 *
 * Row-parallel shapes (o, down) are, for us, eight sums and the tree that adds them to the residual: what the engine
 * does; oneDNN has the plain product. Where that is less work than ours there is a second line, `onednn_<format>_<shape>_work_m…`:
 * there oneDNN, too, adds to the residual (its post-op "sum"), and brings x of int8 from bf16 to u8 (its reorder; by one scale for
 * all that is known beforehand, where ours finds one for each row or share).
 *
 * Which of its implementations runs is printed: on CPUs without AVX512_BF16 its bf16 one emulates the instruction. A lacking
 * library is a named skip.
 *
 * usage: bench_onednn [THREADS [ROUNDS [NAMES]]]   NAMES: a pattern, as the shell has them, of the lines wanted: 'int8*_m512' */
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>

#if __has_include(<dnnl.h>)

#include <dnnl.h>
#include <omp.h>

#include "tests/bench/bench_product.h"

#define ROUNDS_MAX 15
#define SLOT_US    30000 /* over which one figure of a round is averaged */
#define SETTLE_US  30000 /* before it, after the other side's */

/* One way to multiply, on both sides. */
struct format {
    const char *name, *profile;
    enum gw_isa isa;
    enum gw_dtype act; /* ours */
    dnnl_data_type_t x, w;
};

static const struct format formats[] = {
    {"bf16", "cpu-bf16dot-2", GW_ISA_AUTO, GW_BF16, dnnl_bf16, dnnl_bf16},
    {"bf16amx", "cpu-bf16amx-1", GW_ISA_AUTO, GW_BF16, dnnl_bf16, dnnl_bf16},
    {"f32", "cpu-f32-2", GW_ISA_AUTO, GW_F32, dnnl_f32, dnnl_f32},
    {"int8", "cpu-bf16-int8-1", GW_ISA_AUTO, GW_BF16, dnnl_u8, dnnl_s8},
    {"int8vnni", "cpu-bf16-int8-1", GW_ISA_AVX512VNNI, GW_BF16, dnnl_u8, dnnl_s8},
};

struct primitive {
    dnnl_primitive_desc_t desc;
    dnnl_primitive_t run; /* NULL: there is none */
};

/* oneDNN's side of one shape and number of rows. */
struct theirs {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    struct primitive plain;
    struct primitive quantize, work; /* all that ours does, one behind the other; either may not be there */
    dnnl_memory_t x_bf16, x, y, w[BENCH_COPIES_MAX];
    uint8_t *w_memory;
    size_t w_bytes;
    uint32_t copies, next;
};

struct bench {
    struct bench_operands operands;
    const char *names; /* NULL: all */
    bool any;          /* of them was there */
    int threads, rounds;
    const uint16_t *values;
    void *x_f32, *x_bytes; /* the same numbers as f32, and others as bytes */
    float *y;
};

static void must(dnnl_status_t status, const char *what)
{
    if (status == dnnl_success) return;
    fprintf(stderr, "bench_onednn: %s: status %d\n", what, (int)status);
    exit(1);
}

static dnnl_memory_desc_t matrix(int64_t rows, int64_t columns, dnnl_data_type_t type, dnnl_format_tag_t tag)
{
    const dnnl_dims_t dims = {rows, columns};
    dnnl_memory_desc_t md;
    must(dnnl_memory_desc_init_by_tag(&md, 2, dims, type, tag), "memory descriptor");
    return md;
}

static void primitive_make(struct primitive *p)
{
    must(dnnl_primitive_create(&p->run, p->desc), "primitive");
}

static void primitive_free(struct primitive *p)
{
    dnnl_primitive_destroy(p->run);
    dnnl_primitive_desc_destroy(p->desc);
}

/* y = x . w, or y += x . w. False: oneDNN has nothing for this format on this machine. */
static bool describe(struct theirs *t, const struct format *f, const struct bench_shape *s, uint32_t m,
                     const dnnl_memory_desc_t *w, bool adds, dnnl_primitive_desc_t *desc)
{
    static const float scale[16384] = {[0 ... 16383] = 0.01f};
    dnnl_memory_desc_t x = matrix(m, s->k, f->x, dnnl_ab), y = matrix(m, s->n, dnnl_f32, dnnl_ab);
    dnnl_matmul_desc_t d;
    dnnl_primitive_attr_t attr;
    dnnl_post_ops_t sum;
    must(dnnl_primitive_attr_create(&attr), "attributes");
    must(dnnl_post_ops_create(&sum), "post-ops");
    if (adds) must(dnnl_post_ops_append_sum(sum, 1.0f), "sum");
    must(dnnl_primitive_attr_set_post_ops(attr, sum), "post-ops");
    if (f->w == dnnl_s8)
        must(dnnl_primitive_attr_set_output_scales(attr, s->n, 1 << 1, scale), "a scale for each column");
    must(dnnl_matmul_desc_init(&d, &x, w, NULL, &y), "matmul");
    dnnl_status_t status = dnnl_primitive_desc_create(desc, &d, attr, t->engine, NULL);
    dnnl_post_ops_destroy(sum);
    dnnl_primitive_attr_destroy(attr);
    return status == dnnl_success;
}

static void describe_quantization(struct theirs *t, const struct bench_shape *s, uint32_t m)
{
    const float scale = 127.0f;
    const dnnl_memory_desc_t from = matrix(m, s->k, dnnl_bf16, dnnl_ab),
                             to = matrix(m, s->k, dnnl_u8, dnnl_ab);
    dnnl_primitive_attr_t attr;
    must(dnnl_primitive_attr_create(&attr), "attributes");
    must(dnnl_primitive_attr_set_output_scales(attr, 1, 0, &scale), "a scale for all");
    must(dnnl_reorder_primitive_desc_create(&t->quantize.desc, &from, t->engine, &to, t->engine, attr),
         "quantization");
    dnnl_primitive_attr_destroy(attr);
}

/* What ours does and the plain product does not. */
static bool does_more(const struct format *f, const struct bench_shape *s)
{
    return s->shares || f->w == dnnl_s8;
}

/* By weights in the layout that the plain product chose. */
static void make_work(struct theirs *t, struct bench *b, const struct format *f, const struct bench_shape *s,
                      uint32_t m)
{
    const dnnl_memory_desc_t *w = dnnl_primitive_desc_query_md(t->plain.desc, dnnl_query_weights_md, 0);
    const dnnl_memory_desc_t bf16 = matrix(m, s->k, dnnl_bf16, dnnl_ab);
    if (!does_more(f, s)) return;
    if (!describe(t, f, s, m, w, s->shares, &t->work.desc)) return;
    primitive_make(&t->work);
    if (f->w != dnnl_s8) return;
    describe_quantization(t, s, m);
    primitive_make(&t->quantize);
    must(dnnl_memory_create(&t->x_bf16, &bf16, t->engine, (void *)(uintptr_t)b->values), "x");
}

/* The layout that oneDNN chose, filled from [n, k] rows of values of its type. */
static void pack(struct theirs *t, const struct format *f, const struct bench_shape *s, void *rows)
{
    const dnnl_memory_desc_t *to = dnnl_primitive_desc_query_md(t->plain.desc, dnnl_query_weights_md, 0);
    dnnl_memory_desc_t from = matrix(s->k, s->n, f->w, dnnl_ba);
    dnnl_primitive_desc_t desc;
    dnnl_primitive_t reorder;
    dnnl_memory_t source;
    size_t bytes = (dnnl_memory_desc_get_size(to) + 63) / 64 * 64;
    t->copies = bench_copies(bytes);
    t->w_bytes = bytes * t->copies;
    t->w_memory = bench_map(t->w_bytes);
    must(dnnl_memory_create(&source, &from, t->engine, rows), "weights");
    must(dnnl_reorder_primitive_desc_create(&desc, &from, t->engine, to, t->engine, NULL), "packing");
    must(dnnl_primitive_create(&reorder, desc), "packing");
    for (uint32_t c = 0; c < t->copies; c++) {
        must(dnnl_memory_create(&t->w[c], to, t->engine, t->w_memory + c * bytes), "weights");
        const dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, source}, {DNNL_ARG_TO, t->w[c]}};
        must(dnnl_primitive_execute(reorder, t->stream, 2, args), "packing");
    }
    must(dnnl_stream_wait(t->stream), "packing");
    dnnl_primitive_destroy(reorder);
    dnnl_primitive_desc_destroy(desc);
    dnnl_memory_destroy(source);
}

static bool theirs_open(struct theirs *t, struct bench *b, const struct format *f,
                        const struct bench_shape *s, uint32_t m)
{
    *t = (struct theirs){0};
    must(dnnl_engine_create(&t->engine, dnnl_cpu, 0), "engine");
    must(dnnl_stream_create(&t->stream, t->engine, dnnl_stream_default_flags), "stream");
    const dnnl_memory_desc_t any = matrix(s->k, s->n, f->w, dnnl_format_tag_any);
    if (!describe(t, f, s, m, &any, false, &t->plain.desc)) return false;
    void *values = f->w == dnnl_bf16  ? (void *)(uintptr_t)b->values
                   : f->w == dnnl_f32 ? b->x_f32
                                      : b->x_bytes;
    dnnl_memory_desc_t x = matrix(m, s->k, f->x, dnnl_ab), y = matrix(m, s->n, dnnl_f32, dnnl_ab);
    primitive_make(&t->plain);
    must(dnnl_memory_create(&t->x, &x, t->engine, values), "x");
    must(dnnl_memory_create(&t->y, &y, t->engine, b->y), "y");
    pack(t, f, s, values);
    make_work(t, b, f, s, m);
    return true;
}

static void theirs_close(struct theirs *t)
{
    for (uint32_t c = 0; c < t->copies; c++) dnnl_memory_destroy(t->w[c]);
    if (t->w_memory) munmap(t->w_memory, t->w_bytes);
    dnnl_memory_destroy(t->x_bf16);
    dnnl_memory_destroy(t->x);
    dnnl_memory_destroy(t->y);
    primitive_free(&t->quantize);
    primitive_free(&t->work);
    primitive_free(&t->plain);
    dnnl_stream_destroy(t->stream);
    dnnl_engine_destroy(t->engine);
}

static void quantize(struct theirs *t)
{
    const dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, t->x_bf16}, {DNNL_ARG_TO, t->x}};
    must(dnnl_primitive_execute(t->quantize.run, t->stream, 2, args), "quantization");
}

static double theirs_rate(struct theirs *t, const struct primitive *p, double ops, int64_t slot_us)
{
    int64_t start = gw_clock_mono_us(), now;
    int calls = 0;
    do {
        const dnnl_exec_arg_t args[] = {
            {DNNL_ARG_SRC, t->x}, {DNNL_ARG_WEIGHTS, t->w[t->next++ % t->copies]}, {DNNL_ARG_DST, t->y}};
        if (p == &t->work && t->quantize.run) quantize(t);
        must(dnnl_primitive_execute(p->run, t->stream, 3, args), "execute");
        must(dnnl_stream_wait(t->stream), "wait");
        calls++;
        now = gw_clock_mono_us();
    } while (now - start < slot_us);
    return ops * calls / (double)(now - start) * 1e-3;
}

static void report(const struct bench *b, const struct format *f, const struct bench_weights *w,
                   const char *work, uint32_t m, double x, double y, const struct primitive *p)
{
    const char *implementation = "none";
    dnnl_primitive_desc_query(p->desc, dnnl_query_impl_info_str, 0, &implementation);
    printf("bench onednn_%s_%s%s_m%u_t%d ours=%.1f ref=%.1f ratio=%.2f unit=GOP/s  # %s beside %s\n", f->name,
           w->shape->name, work, m, b->threads, x, y, x / y, w->ops->name, implementation);
    fflush(stdout);
}

static void bench_rows_of(struct bench *b, const struct format *f, struct bench_weights *w, uint32_t m)
{
    const struct bench_shape *s = w->shape;
    double ours[ROUNDS_MAX], plain[ROUNDS_MAX], work[ROUNDS_MAX], ops = 2.0 * m * s->n * s->k;
    struct theirs t;
    if (!theirs_open(&t, b, f, s, m)) {
        printf("# onednn_%s_%s_m%u: oneDNN has no implementation here\n", f->name, s->name, m);
        theirs_close(&t);
        return;
    }
    b->operands.x = f->act == GW_F32 ? b->x_f32 : b->values;
    for (int r = 0; r < b->rounds; r++) {
        bench_multiply_rate(&b->operands, w, m, SETTLE_US);
        ours[r] = bench_multiply_rate(&b->operands, w, m, SLOT_US);
        theirs_rate(&t, &t.plain, ops, SETTLE_US);
        plain[r] = theirs_rate(&t, &t.plain, ops, SLOT_US);
        if (t.work.run) work[r] = theirs_rate(&t, &t.work, ops, SLOT_US);
    }
    double x = bench_median(ours, (size_t)b->rounds);
    report(b, f, w, "", m, x, bench_median(plain, (size_t)b->rounds), &t.plain);
    if (t.work.run) report(b, f, w, "_work", m, x, bench_median(work, (size_t)b->rounds), &t.work);
    theirs_close(&t);
}

/* Also false where another format is the same here. */
static bool is_here(const struct format *f)
{
    const struct gw_ops *best, *held;
    if (gw_ops_cpu(f->profile, GW_ISA_AUTO, &best, NULL) != GW_OK) return false;
    return f->isa == GW_ISA_AUTO || (gw_ops_cpu(f->profile, f->isa, &held, NULL) == GW_OK && held != best);
}

static bool is_wanted(const struct bench *b, const struct format *f, const struct bench_shape *s, uint32_t m)
{
    char name[64];
    snprintf(name, sizeof name, "%s_%s_m%u", f->name, s->name, m);
    return !b->names || fnmatch(b->names, name, 0) == 0;
}

static void bench_shape_of(struct bench *b, const struct format *f, const struct bench_shape *s)
{
    struct bench_weights w = {0};
    for (size_t i = 0; i < sizeof bench_rows / sizeof *bench_rows; i++) {
        if (!is_wanted(b, f, s, bench_rows[i])) continue;
        b->any = true;
        if (!w.ops) bench_weights_make(&w, f->profile, f->isa, s, b->values);
        bench_rows_of(b, f, &w, bench_rows[i]);
    }
    if (w.ops) bench_weights_free(&w);
}

static void bench_format(struct bench *b, const struct format *f)
{
    if (!is_here(f)) {
        printf("# onednn_%s: not here\n", f->name);
        return;
    }
    for (size_t i = 0; i < BENCH_SHAPES; i++) bench_shape_of(b, f, &bench_shapes[i]);
}

static void make_operands(struct bench *b)
{
    b->values = bench_values_bf16();
    b->x_f32 = bench_map(BENCH_WEIGHTS * sizeof(float));
    b->x_bytes = bench_map(BENCH_WEIGHTS);
    for (size_t i = 0; i < BENCH_WEIGHTS; i++) {
        float x = gw_f32_of_bf16(b->values[i]);
        ((float *)b->x_f32)[i] = x;
        ((uint8_t *)b->x_bytes)[i] = (uint8_t)(int8_t)(x * 127);
    }
    b->y = bench_map(BENCH_ROWS_MAX * 16384 * sizeof *b->y);
    b->operands.y = bench_map(BENCH_ROWS_MAX * 16384 * sizeof *b->y);
    b->operands.scratch = bench_map((size_t)BENCH_SHARES * BENCH_ROWS_MAX * 2048 * sizeof(float));
}

static int number(int argc, char **argv, int i, int otherwise, int most)
{
    int n = argc > i ? atoi(argv[i]) : otherwise;
    return n < 1 ? 1 : n > most ? most : n;
}

int main(int argc, char **argv)
{
    struct bench b = {.threads = number(argc, argv, 1, 2, 64),
                      .rounds = number(argc, argv, 2, 3, ROUNDS_MAX),
                      .names = argc > 3 ? argv[3] : NULL};
    const dnnl_version_t *v = dnnl_version();
    printf("# oneDNN %d.%d.%d\n", v->major, v->minor, v->patch);
    make_operands(&b);
    omp_set_num_threads(b.threads);
    gw_device_enter_thread();
    if (gw_device_cpu_create(b.threads, false, &b.operands.dev, NULL) != GW_OK) return 1;
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) bench_format(&b, &formats[i]);
    gw_device_destroy(b.operands.dev);
    if (b.any || !b.names) return 0;
    fprintf(stderr,
            "bench_onednn: nothing here is named '%s': names are <format>_<shape>_m<rows>, such as "
            "int8_down_m512\n",
            b.names);
    return 1;
}

#else

int main(void)
{
    printf("# skipped: products beside oneDNN (libdnnl-dev is not installed)\n");
    return 0;
}

#endif
