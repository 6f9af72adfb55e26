/* Speed of the CUDA backend's operations: what each takes, as bandwidth or FLOP/s, next to the device's own copy.
 *
 *     bench_gpu VERSION cuda:N      prints `bench <name> ours=<x> ref=<y> ratio=<x/y> unit=<u>`; "no GPU: skipped" without one
 *
 * First with weights and KV of bf16, then of int8 (`..._int8_...`, `..._kv8_...`).
 *
 * ref of what is bound by memory: bytes that a copy inside the device moves per second, read and write counted. Products and prefill
 * have none here: tests/gpu/run.py prints PyTorch's beside them. gpu_exact_…: the exact profile's products next to cuBLASLt's, in the same
 * unit (wanted: 0.8 at least). gpu_step_…: a step of decoding of Llama-3-8B's 32 layers, as a graph next to operation by operation, and
 * next to what reading its weights and KV takes by the copy's bandwidth (wanted at one row: 0.85 at least). A figure is the best of ROUNDS, each of several calls between two
 * gw_device_finish, so that asking for work costs little. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "kernels/device_graph.h"
#include "kernels/device_memory.h"
#include "worker/device.h"

#define ROUNDS       7
#define COPY_BYTES   ((size_t)1 << 30)
#define BLOCK_TOKENS 16u

/* What weights and KV pages are kept as. */
struct format {
    const char *weights_name, *kv_name; /* in names of figures */
    enum gw_weight_format weights;
    enum gw_kv_format kv;
};

static struct gw_worker_device gpu, fast; /* fast: all products by cuBLASLt; not opened where there is none */

static void die(const struct gw_err_ctx *ctx)
{
    fprintf(stderr, "bench_gpu: %s\n", ctx->text);
    exit(1);
}

static void finish(void)
{
    struct gw_err_ctx ctx = {0};
    if (gw_device_finish(gpu.device, &ctx) != GW_OK) die(&ctx);
    if (fast.device && gw_device_finish(fast.device, &ctx) != GW_OK) die(&ctx);
}

/* Device memory of small values: any bits but infinities and NaN do. */
static struct gw_memory alloc(size_t bytes)
{
    struct gw_memory m;
    struct gw_err_ctx ctx = {0};
    if (gw_memory_alloc(gpu.device, bytes, GW_MEMORY_DEVICE, &m, &ctx) != GW_OK) die(&ctx);
    gw_memory_fill(gpu.device, m.device, 0x3C, bytes);
    return m;
}

/* Seconds of one call of work(arg), `calls` of them at a time. */
static double time_of(void (*work)(void *arg), void *arg, int calls)
{
    int64_t best = INT64_MAX;
    for (int round = 0; round < ROUNDS; round++) {
        finish();
        int64_t start = gw_clock_mono_us();
        for (int i = 0; i < calls; i++) work(arg);
        finish();
        int64_t took = gw_clock_mono_us() - start;
        if (took < best) best = took;
    }
    return (double)(best > 0 ? best : 1) / 1e6 / calls;
}

static void say(const char *name, double ours, double ref, const char *unit)
{
    printf("bench %s ours=%.4g ref=%.4g ratio=%.3f unit=%s\n", name, ours, ref, ref > 0 ? ours / ref : 0,
           unit);
    fflush(stdout);
}

/* ---- copy ---- */

static void copy(void *arg)
{
    struct gw_memory *m = arg;
    gw_memory_move(gpu.device, m[1].device, m[0].device, COPY_BYTES);
}

static double copy_rate(void)
{
    struct gw_memory m[2] = {alloc(COPY_BYTES), alloc(COPY_BYTES)};
    double rate = 2 * (double)COPY_BYTES / time_of(copy, m, 10) / 1e9;
    gw_memory_free(&m[0]);
    gw_memory_free(&m[1]);
    return rate;
}

/* ---- products ---- */

struct product {
    const struct gw_worker_device *by;
    uint32_t m, n, k;
    struct gw_memory x, w, y;
};

static void multiply(void *arg)
{
    struct product *p = arg;
    const struct gw_weight w = {p->n, p->k, p->w.device};
    p->by->ops->matmul(p->by->device, p->y.device, p->n, p->x.device, p->k, &w, &(uint32_t){0}, 1, p->m);
}

/* Of an FFN of Llama-3-8B: gate and up together. */
static double product_time(const struct gw_worker_device *by, uint32_t m)
{
    struct product p = {.by = by, .m = m, .n = 28672, .k = 4096};
    p.x = alloc((size_t)p.m * p.k * 2);
    p.w = alloc(gpu.ops->pack_bytes(p.n, p.k));
    p.y = alloc((size_t)p.m * p.n * 4);
    double s = time_of(multiply, &p, m > 64 ? 5 : 20);
    gw_memory_free(&p.x);
    gw_memory_free(&p.w);
    gw_memory_free(&p.y);
    return s;
}

static void bench_products(double copy_gb_s, const struct format *format)
{
    static const uint32_t few[] = {1, 16, 64}, many[] = {512, 4096};
    char name[48];
    for (size_t i = 0; i < sizeof few / sizeof *few; i++) {
        double gb = (double)gpu.ops->pack_bytes(28672, 4096) / 1e9;
        snprintf(name, sizeof name, "gpu_matmul%s_m%u", format->weights_name, few[i]);
        say(name, gb / product_time(&gpu, few[i]), copy_gb_s, "GB/s");
    }
    for (size_t i = 0; i < sizeof many / sizeof *many; i++) {
        double tflop = 2.0 * many[i] * 28672 * 4096 / 1e12;
        snprintf(name, sizeof name, "gpu_matmul%s_m%u", format->weights_name, many[i]);
        say(name, tflop / product_time(&gpu, many[i]), 0, "TFLOP/s");
    }
}

/* The exact profile beside the fast one. */
static void bench_fast(void)
{
    static const uint32_t rows[] = {1, 16, 64, 65, 128, 512, 4096};
    char name[48];
    for (size_t i = 0; i < sizeof rows / sizeof *rows && fast.device; i++) {
        double tflop = 2.0 * rows[i] * 28672 * 4096 / 1e12;
        snprintf(name, sizeof name, "gpu_exact_m%u", rows[i]);
        say(name, tflop / product_time(&gpu, rows[i]), tflop / product_time(&fast, rows[i]), "TFLOP/s");
    }
}

/* ---- attention: Llama-3-8B's heads, all KV heads in one arena list ---- */

#define HEADS    32u
#define KV_HEADS 8u
#define HEAD_DIM 128u
#define QKV      ((HEADS + 2 * KV_HEADS) * HEAD_DIM)

struct attention {
    uint32_t seqs_len;
    struct gw_seq_rows *seqs;
    struct gw_kv_layer kv;
    struct gw_memory pages, qkv, out;
    uint8_t *arenas[KV_HEADS];
    uint32_t *blocks;
};

static void attend(void *arg)
{
    struct attention *a = arg;
    gpu.ops->attention(gpu.device, a->out.device, a->qkv.device, QKV, 0, HEADS, &a->kv, 0.088f, a->seqs,
                       a->seqs_len);
}

/* Slots lie as a worker's pool has them: a slot is all heads' pages of one layer. */
static void open_attention(struct attention *a, uint32_t seqs, uint32_t rows, uint32_t position)
{
    uint32_t per_seq = (position + rows + BLOCK_TOKENS - 1) / BLOCK_TOKENS;
    size_t page = 2 * gw_kv_bytes(gpu.ops->kv, HEAD_DIM, BLOCK_TOKENS), slot = page * KV_HEADS;
    *a = (struct attention){.seqs_len = seqs,
                            .seqs = calloc(seqs, sizeof *a->seqs),
                            .blocks = calloc((size_t)seqs * per_seq, sizeof *a->blocks),
                            .pages = alloc(slot * seqs * per_seq),
                            .qkv = alloc((size_t)seqs * rows * QKV * 4),
                            .out = alloc((size_t)seqs * rows * HEADS * HEAD_DIM * 2)};
    if (!a->seqs || !a->blocks) exit(1);
    for (uint32_t h = 0; h < KV_HEADS; h++) a->arenas[h] = (uint8_t *)a->pages.device + h * page;
    for (uint32_t i = 0; i < seqs * per_seq; i++) a->blocks[i] = i;
    for (uint32_t i = 0; i < seqs; i++)
        a->seqs[i] = (struct gw_seq_rows){
            .row = i * rows, .rows = rows, .position = position, .blocks = a->blocks + (size_t)i * per_seq};
    a->kv = (struct gw_kv_layer){.arena = a->arenas,
                                 .page_bytes = slot,
                                 .cells = KV_HEADS,
                                 .heads_per_cell = 1,
                                 .head_dim = HEAD_DIM,
                                 .block_tokens = BLOCK_TOKENS,
                                 .query_group = HEADS / KV_HEADS};
}

static void close_attention(struct attention *a)
{
    gw_memory_free(&a->pages);
    gw_memory_free(&a->qkv);
    gw_memory_free(&a->out);
    free(a->seqs);
    free(a->blocks);
}

static double attention_time(uint32_t seqs, uint32_t rows, uint32_t position)
{
    struct attention a;
    open_attention(&a, seqs, rows, position);
    double s = time_of(attend, &a, rows > 1 ? 3 : 20);
    close_attention(&a);
    return s;
}

static void bench_attention(double copy_gb_s, const struct format *format)
{
    static const uint32_t decode[][2] = {{64, 4096}, {8, 1024}, {1, 32768}}, prefill[] = {2048, 8192};
    char name[48];
    for (size_t i = 0; i < sizeof decode / sizeof *decode; i++) {
        double gb =
            2.0 * decode[i][0] * KV_HEADS * (double)gw_kv_bytes(gpu.ops->kv, HEAD_DIM, decode[i][1]) / 1e9;
        snprintf(name, sizeof name, "gpu_decode%s_%ux%u", format->kv_name, decode[i][0], decode[i][1]);
        say(name, gb / attention_time(decode[i][0], 1, decode[i][1] - 1), copy_gb_s, "GB/s");
    }
    for (size_t i = 0; i < sizeof prefill / sizeof *prefill; i++) {
        double tflop = 2.0 * HEADS * HEAD_DIM * prefill[i] * prefill[i] / 1e12; /* half of 4: causal */
        snprintf(name, sizeof name, "gpu_prefill%s_%u", format->kv_name, prefill[i]);
        say(name, tflop / attention_time(1, prefill[i], 0), 0, "TFLOP/s");
    }
}

/* ---- a step of decoding ---- */

#define HIDDEN   4096u
#define FFN      14336u
#define LAYERS   32u
#define CONTEXT  1024u /* of each sequence */
#define STEP_MAX 64u   /* rows */

/* The layers have one set of weights: 436 MB, so that none of it waits in a cache for the next one. */
struct step {
    struct attention a;
    struct gw_memory x, normed, gate_up, ffn, partial, norm, angles, weights[4];
    struct gw_weight qkv, o, gate_up_w, down;
    struct gw_graphs *graphs; /* NULL: operation by operation */
};

static struct gw_weight weight(struct gw_memory *m, uint32_t n, uint32_t k)
{
    *m = alloc(gpu.ops->pack_bytes(n, k));
    return (struct gw_weight){n, k, m->device};
}

static void open_step(struct step *s, uint32_t rows)
{
    open_attention(&s->a, rows, 1, CONTEXT - 1);
    s->x = alloc((size_t)rows * HIDDEN * 4);
    s->normed = alloc((size_t)rows * HIDDEN * 2);
    s->gate_up = alloc((size_t)rows * 2 * FFN * 4);
    s->ffn = alloc((size_t)rows * FFN * 2);
    s->partial = alloc((size_t)rows * HIDDEN * 4);
    s->norm = alloc(HIDDEN * 4);
    s->angles = alloc((size_t)CONTEXT * HEAD_DIM * 4);
    s->qkv = weight(&s->weights[0], QKV, HIDDEN);
    s->o = weight(&s->weights[1], HIDDEN, HEADS * HEAD_DIM);
    s->gate_up_w = weight(&s->weights[2], 2 * FFN, HIDDEN);
    s->down = weight(&s->weights[3], HIDDEN, FFN);
}

static void close_step(struct step *s)
{
    struct gw_memory *all[] = {&s->x, &s->normed, &s->gate_up, &s->ffn, &s->partial, &s->norm, &s->angles};
    gw_graphs_destroy(gpu.device, s->graphs);
    close_attention(&s->a);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) gw_memory_free(all[i]);
    for (size_t i = 0; i < 4; i++) gw_memory_free(&s->weights[i]);
}

static void run_layers(struct step *s, uint32_t rows)
{
    const struct gw_ops *ops = gpu.ops;
    struct gw_device *dev = gpu.device;
    struct attention *a = &s->a;
    for (uint32_t layer = 0; layer < LAYERS; layer++) {
        ops->rmsnorm(dev, s->normed.device, s->x.device, s->norm.device, 1e-5f, rows, HIDDEN);
        ops->matmul(dev, a->qkv.device, QKV, s->normed.device, HIDDEN, &s->qkv, &(uint32_t){0}, 1, rows);
        ops->rope_append(dev, a->qkv.device, QKV, 0, HEADS * HEAD_DIM, (HEADS + KV_HEADS) * HEAD_DIM, HEADS,
                         NULL, &a->kv, s->angles.device, a->seqs, a->seqs_len);
        attend(a);
        ops->matmul_tree_add(dev, s->x.device, a->out.device, &s->o, 1, rows, s->partial.device);
        ops->rmsnorm(dev, s->normed.device, s->x.device, s->norm.device, 1e-5f, rows, HIDDEN);
        ops->matmul(dev, s->gate_up.device, 2 * FFN, s->normed.device, HIDDEN, &s->gate_up_w, &(uint32_t){0},
                    1, rows);
        ops->silu_mul(dev, s->ffn.device, s->gate_up.device, rows, 1, FFN);
        ops->matmul_tree_add(dev, s->x.device, s->ffn.device, &s->down, 1, rows, s->partial.device);
    }
}

static void run_step(void *arg)
{
    struct step *s = arg;
    const struct gw_graph_step step = {
        .rows = s->a.seqs_len, .seqs = s->a.seqs, .seqs_len = s->a.seqs_len, .kv = &s->a.kv, .heads = HEADS};
    uint32_t rows;
    enum gw_graph_way way = gw_graph_begin(gpu.device, s->graphs, &step, &rows);
    if (way != GW_GRAPH_REPLAYED) run_layers(s, rows);
    if (way == GW_GRAPH_RECORDS && !gw_graph_end(gpu.device, s->graphs)) run_layers(s, step.rows);
}

static void bench_steps(double copy_gb_s)
{
    static const uint32_t rows[] = {1, 8, STEP_MAX};
    char name[48];
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct step s = {0};
        open_step(&s, rows[i]);
        double weights = ((double)QKV * HIDDEN + HIDDEN * HIDDEN + 3.0 * FFN * HIDDEN) * 2;
        double bytes = LAYERS * (weights + (double)rows[i] * CONTEXT * KV_HEADS * HEAD_DIM * 4);
        double plain = time_of(run_step, &s, 5);
        s.graphs = gw_graphs_create(gpu.device, rows[i]);
        double graph = time_of(run_step, &s, 5);
        snprintf(name, sizeof name, "gpu_step_graph_m%u", rows[i]);
        say(name, graph * 1e3, plain * 1e3, "ms");
        snprintf(name, sizeof name, "gpu_step_m%u", rows[i]);
        say(name, bytes / 1e9 / graph, copy_gb_s, "GB/s");
        const struct gw_graph_counts n = gw_graphs_count(gpu.device, s.graphs);
        printf("# graphs: %u recorded, %u replayed, %u failed\n", n.recorded, n.replayed, n.failed);
        close_step(&s);
    }
}

static void finish_nothing(void *arg)
{
    (void)arg;
    finish();
}

static gw_err_t open_gpu(char **argv, const struct format *format, bool by_cublas,
                         struct gw_worker_device *out, struct gw_err_ctx *ctx)
{
    static const struct gw_log log = {.level = GW_LOG_NONE};
    const struct gw_worker_device_config config = {.cuda = atoi(argv[2] + 5),
                                                   .version = argv[1],
                                                   .weights = format->weights,
                                                   .kv = format->kv,
                                                   .fast = by_cublas,
                                                   .fast_rows = 1,
                                                   .graphs = true,
                                                   .threads = 1,
                                                   .step_timeout_us = 60000000,
                                                   .log = &log};
    return gw_worker_device_open(&config, out, ctx);
}

/* What is measured of bf16 alone. */
static void bench_speed(char **argv, const struct format *format, double copy_gb_s)
{
    struct gw_err_ctx ctx = {0};
    if (open_gpu(argv, format, true, &fast, &ctx) == GW_OK)
        bench_fast();
    else
        printf("# no cuBLASLt to compare with: %s\n", ctx.text);
    gw_worker_device_close(&fast);
    bench_steps(copy_gb_s);
}

int main(int argc, char **argv)
{
    static const struct format formats[] = {{"", "", GW_WEIGHT_FILE, GW_KV_FILE},
                                            {"_int8", "_kv8", GW_WEIGHT_INT8, GW_KV_INT8}};
    struct gw_err_ctx ctx = {0};
    double copy_gb_s = 0;
    if (argc != 3 || strncmp(argv[2], "cuda:", 5) != 0) return 2;
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        gw_err_t err = open_gpu(argv, &formats[i], false, &gpu, &ctx);
        if (err == GW_ERR_NOT_FOUND) {
            printf("no GPU: skipped (%s)\n", ctx.text);
            return 0;
        }
        if (err != GW_OK) die(&ctx);
        printf("# %s\n", gpu.about);
        if (i == 0) {
            copy_gb_s = copy_rate();
            say("gpu_copy", copy_gb_s, 0, "GB/s");
            say("gpu_finish", time_of(finish_nothing, NULL, 100) * 1e6, 0, "us");
        }
        bench_products(copy_gb_s, &formats[i]);
        bench_attention(copy_gb_s, &formats[i]);
        if (i == 0) bench_speed(argv, &formats[i], copy_gb_s);
        gw_worker_device_close(&gpu);
    }
    return 0;
}
