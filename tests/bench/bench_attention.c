/* Attention of one row over a long text, as decoding does it, with KV pages of bf16 and of int8:
 * `bench attention_<pages>_8k_t<threads> ours=<x> ref=<read bandwidth> ratio=<x/ref> unit=GB/s`, where ours is the bytes of
 * K and V that a layer's pages hold of the text by the time of a call; and `bench attention_int8_over_bf16_…` in texts per second.
 *
 * The shape is a 1B model's: 32 query heads, 8 KV heads of 64, blocks of 16 tokens, pages of 4 layers. The layers together
 * are 1 GiB of bf16, 0.5 of int8, and each call takes the next. A round measures the probe, which reads twice the last cache, and both
 * types, one after the other; figures
 * are medians over rounds. A run takes some 10 seconds. */
#include <stdio.h>

#include "tests/bench/bench_product.h"

#define HEADS        32u
#define KV_HEADS     8u
#define HEAD_DIM     64u
#define BLOCK_TOKENS 16u
#define TOKENS       8192u
#define BLOCKS       (TOKENS / BLOCK_TOKENS)
#define GROUP_LAYERS 4u
#define LAYERS       64u
#define Q_FLOATS     (HEADS * HEAD_DIM)
#define ROW_FLOATS   (Q_FLOATS + 2 * KV_HEADS * HEAD_DIM)
#define CHUNK        256u /* rows that are appended at a time */
#define ROUNDS       7
#define SLOT_US      60000 /* over which one figure of a round is averaged */

/* All layers' pages of one type, and a text in them. */
struct pages {
    const struct gw_ops *ops;
    struct gw_kv_layer layers[LAYERS];
    uint8_t *arenas[LAYERS][KV_HEADS];
    double layer_bytes; /* of the whole text */
    uint32_t next;
};

struct bench {
    struct gw_device *dev;
    int threads;
    float *qkv, *cos_sin; /* [CHUNK][ROW_FLOATS], [TOKENS][HEAD_DIM] */
    float *out;           /* [Q_FLOATS] of any type */
    uint32_t blocks[BLOCKS];
    struct bench_cold cold;
};

static size_t layer_page_bytes(const struct pages *p)
{
    return 2 * gw_kv_bytes(p->ops->kv, HEAD_DIM, BLOCK_TOKENS);
}

static size_t group_bytes(const struct pages *p)
{
    return GROUP_LAYERS * layer_page_bytes(p) * BLOCKS * KV_HEADS;
}

static void describe_layers(struct pages *p)
{
    size_t layer = layer_page_bytes(p), page = GROUP_LAYERS * layer;
    uint8_t *memory = bench_map(group_bytes(p) * (LAYERS / GROUP_LAYERS));
    for (uint32_t l = 0; l < LAYERS; l++) {
        for (uint32_t h = 0; h < KV_HEADS; h++)
            p->arenas[l][h] =
                memory + page * BLOCKS * (l / GROUP_LAYERS * KV_HEADS + h) + layer * (l % GROUP_LAYERS);
        p->layers[l] = (struct gw_kv_layer){.arena = p->arenas[l],
                                            .page_bytes = page,
                                            .cells = KV_HEADS,
                                            .heads_per_cell = 1,
                                            .head_dim = HEAD_DIM,
                                            .block_tokens = BLOCK_TOKENS};
    }
    p->layer_bytes = (double)layer * BLOCKS * KV_HEADS;
}

/* Of the first group; the others are its copies. */
static void fill_pages(const struct bench *b, struct pages *p)
{
    struct gw_rng r;
    gw_rng_init(&r, 1);
    for (uint32_t i = 0; i < GROUP_LAYERS * TOKENS / CHUNK; i++) {
        const struct gw_seq_rows seq = {
            .rows = CHUNK, .position = i % (TOKENS / CHUNK) * CHUNK, .blocks = b->blocks};
        for (size_t k = 0; k < (size_t)CHUNK * ROW_FLOATS; k++) b->qkv[k] = (float)gw_rng_unit(&r) - 0.5f;
        p->ops->rope_append(b->dev, b->qkv, ROW_FLOATS, 0, Q_FLOATS, Q_FLOATS + KV_HEADS * HEAD_DIM, HEADS,
                            NULL, &p->layers[i / (TOKENS / CHUNK)], b->cos_sin, &seq, 1);
    }
    for (uint32_t g = 1; g < LAYERS / GROUP_LAYERS; g++)
        memcpy(p->arenas[g * GROUP_LAYERS][0], p->arenas[0][0], group_bytes(p));
}

static void make_pages(const struct bench *b, const char *profile, struct pages *p)
{
    *p = (struct pages){0};
    if (gw_ops_cpu(profile, GW_ISA_AUTO, &p->ops, NULL) != GW_OK) exit(1);
    describe_layers(p);
    fill_pages(b, p);
}

/* Layers per second. */
static double attend(const struct bench *b, struct pages *p)
{
    const struct gw_seq_rows last = {.rows = 1, .position = TOKENS - 1, .blocks = b->blocks};
    int64_t start = gw_clock_mono_us(), now;
    int calls = 0;
    do {
        p->ops->attention(b->dev, b->out, b->qkv, ROW_FLOATS, 0, HEADS, &p->layers[p->next++ % LAYERS],
                          0.125f, &last, 1);
        calls++;
        now = gw_clock_mono_us();
    } while (now - start < SLOT_US);
    return calls / ((double)(now - start) * 1e-6);
}

static void report(const struct bench *b, const char *name, const struct pages *p, double rate, double read)
{
    double bytes_s = rate * p->layer_bytes * 1e-9;
    printf("bench attention_%s_8k_t%d ours=%.1f ref=%.1f ratio=%.2f unit=GB/s\n", name, b->threads, bytes_s,
           read, bytes_s / read);
}

static void compare(const struct bench *b, struct pages *bf16, struct pages *int8)
{
    double read[ROUNDS], wide[ROUNDS], narrow[ROUNDS];
    for (int r = 0; r < ROUNDS; r++) {
        read[r] = bench_probe_bandwidth(b->dev, &b->cold);
        wide[r] = attend(b, bf16);
        narrow[r] = attend(b, int8);
    }
    double x = bench_median(narrow, ROUNDS), y = bench_median(wide, ROUNDS),
           bytes_s = bench_median(read, ROUNDS);
    report(b, "bf16", bf16, y, bytes_s);
    report(b, "int8", int8, x, bytes_s);
    printf("bench attention_int8_over_bf16_8k_t%d ours=%.0f ref=%.0f ratio=%.2f unit=texts/s\n", b->threads,
           x / LAYERS, y / LAYERS, x / y);
}

int main(void)
{
    struct bench b = {.qkv = bench_map((size_t)CHUNK * ROW_FLOATS * sizeof(float)),
                      .cos_sin = bench_map((size_t)TOKENS * HEAD_DIM * sizeof(float)),
                      .out = bench_map(Q_FLOATS * sizeof(float))};
    static struct pages bf16, int8;
    b.cold = bench_cold_map();
    for (uint32_t i = 0; i < BLOCKS; i++) b.blocks[i] = i;
    for (uint32_t i = 0; i < TOKENS * HEAD_DIM; i++) b.cos_sin[i] = i % 2 ? 0.6f : 0.8f;
    gw_device_enter_thread();
    for (b.threads = 1; b.threads <= 2; b.threads++) {
        if (gw_device_cpu_create(b.threads, true, &b.dev, NULL) != GW_OK) return 1;
        if (b.threads == 1) make_pages(&b, "cpu-bf16dot-2", &bf16);
        if (b.threads == 1) make_pages(&b, "cpu-bf16-kv8-1", &int8);
        compare(&b, &bf16, &int8);
        gw_device_destroy(b.dev);
    }
    return 0;
}
