#include "kernels/digest.h"

#include <assert.h>
#include <stdlib.h>

#include "kernels/convert.h"
#include "kernels/digest_internal.h"
#include "kernels/pick.h"

#define ARENA_BYTES ((size_t)4 << 20)
#define DIGEST_SEED 0x676F64776974u /* any; fixed with the profile */

void *gw_digest_take(struct gw_digest *d, size_t bytes)
{
    size_t at = d->used;
    d->used += (bytes + 63) / 64 * 64;
    assert(d->used <= ARENA_BYTES);
    return (uint8_t *)d->arena.device + at;
}

void gw_digest_reset(struct gw_digest *d)
{
    d->used = 0;
}

void *gw_digest_host(const struct gw_digest *d, const void *taken)
{
    return gw_memory_host(&d->arena, taken);
}

void gw_digest_put(struct gw_digest *d, void *taken, size_t bytes)
{
    gw_memory_put(d->dev, taken, gw_digest_host(d, taken), bytes);
}

const void *gw_digest_get(struct gw_digest *d, const void *taken, size_t bytes)
{
    void *host = gw_digest_host(d, taken);
    gw_memory_get(d->dev, host, taken, bytes);
    return host;
}

void gw_digest_absorb(struct gw_digest *d, const void *taken, size_t len)
{
    gw_digest_absorb_host(d, gw_digest_get(d, taken, len), len);
}

void gw_digest_absorb_host(struct gw_digest *d, const void *bytes, size_t len)
{
    gw_sha256_update(d->sha, bytes, len);
}

/* One in eight is special: zeros and denormals of both signs, the least normal, halves between two bf16 (even
 * and odd below), ±2^40 (their products cancel and swallow), 2^-70 (products fall below the least normal). */
static float value(struct gw_digest *d, bool directed)
{
    static const uint32_t special[] = {0x00000000, 0x80000000, 0x00010000, 0x807F0000, 0x00800000,
                                       0x3F808000, 0x3F818000, 0x53800000, 0xD3800000, 0x1C800000};
    uint64_t bits = gw_rng_next(&d->rng);
    if (directed && bits % 8 == 0)
        return gw_f32_of_bits(special[(bits >> 8) % (sizeof special / sizeof *special)]);
    return (float)((int32_t)(bits >> 32 & 0xFFFFFF) - 0x800000) * 0x1p-23f;
}

void *gw_digest_values(struct gw_digest *d, enum gw_dtype type, size_t len, bool directed)
{
    void *taken = gw_digest_take(d, len * gw_dtype_bytes(type)), *array = gw_digest_host(d, taken);
    for (size_t i = 0; i < len; i++) {
        float x = value(d, directed);
        if (type == GW_F32)
            ((float *)array)[i] = x;
        else
            ((uint16_t *)array)[i] = (uint16_t)(gw_f32_bits(x) >> 16); /* cut, so that denormals stay */
    }
    gw_digest_put(d, taken, len * gw_dtype_bytes(type));
    return taken;
}

/* Packs values that were taken. */
static void pack(struct gw_digest *d, const struct gw_weight *w, const void *src, bool plain)
{
    void *to = gw_digest_host(d, w->data);
    const void *from = gw_digest_host(d, src);
    (plain ? d->ops->pack_plain : d->ops->pack)(to, from, d->ops->act, w->n, w->k, w->k);
    gw_digest_put(d, w->data, plain ? d->ops->pack_bytes_plain(w->n, w->k) : d->ops->pack_bytes(w->n, w->k));
}

struct gw_weight gw_digest_weight(struct gw_digest *d, uint32_t n, uint32_t k, bool directed)
{
    const void *src = gw_digest_values(d, d->ops->act, (size_t)n * k, directed);
    struct gw_weight w = {.n = n, .k = k, .data = gw_digest_take(d, d->ops->pack_bytes(n, k))};
    pack(d, &w, src, false);
    return w;
}

static void products(struct gw_digest *d)
{
    /* rows around the 6 of a micro-kernel and the 48 of an item, columns around 16 and 64, odd k, k over one
     * block */
    static const struct {
        uint32_t m, n, k;
    } shapes[] = {{1, 1, 1},    {1, 64, 2},   {2, 63, 3},    {3, 65, 64},  {4, 16, 7},   {5, 17, 511},
                  {6, 128, 64}, {7, 20, 513}, {8, 48, 1025}, {13, 15, 31}, {49, 33, 10}, {64, 80, 9}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        uint32_t m = shapes[i].m, n = shapes[i].n, k = shapes[i].k;
        const void *x = gw_digest_values(d, d->ops->act, (size_t)m * k, true);
        struct gw_weight w = gw_digest_weight(d, n, k, true);
        float *y = gw_digest_take(d, (size_t)m * n * sizeof *y);
        d->ops->matmul(d->dev, y, n, x, k, &w, &(uint32_t){0}, 1, m);
        gw_digest_absorb(d, y, (size_t)m * n * sizeof *y);
        gw_digest_reset(d);
    }
}

/* x[m, k] whose rows 1 to 3 have nothing to be quantized by: an infinity, zeros, numbers too small. */
static void spoil_rows(struct gw_digest *d, void *taken, uint32_t m, uint32_t k)
{
    void *x = gw_digest_host(d, taken);
    for (uint32_t i = 0; i < k; i++) {
        gw_f32_put(x, d->ops->act, 2 * (size_t)k + i, 0.0f);
        gw_f32_put(x, d->ops->act, 3 * (size_t)k + i, 0x1p-110f);
    }
    gw_f32_put(x, d->ops->act, k + k / 2, gw_f32_of_bits(0x7F800000u));
    gw_digest_put(d, taken, (size_t)m * k * gw_dtype_bytes(d->ops->act));
}

/* Of tables that quantize matrices: sums over several blocks of k, rows around what is done at a time, and what a router takes. */
static void quantized_products(struct gw_digest *d)
{
    static const struct {
        uint32_t m, n, k;
    } shapes[] = {{4, 60, 4100}, {5, 64, 2048}, {7, 65, 2049}, {9, 129, 255}};
    if (d->ops->weight == d->ops->act) return;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        uint32_t m = shapes[i].m, n = shapes[i].n, k = shapes[i].k;
        void *x = gw_digest_values(d, d->ops->act, (size_t)m * k, false);
        const void *src = gw_digest_values(d, d->ops->act, (size_t)n * k, false);
        struct gw_weight w = {.n = n, .k = k, .data = gw_digest_take(d, d->ops->pack_bytes(n, k))};
        struct gw_weight plain = {.n = n, .k = k, .data = gw_digest_take(d, d->ops->pack_bytes_plain(n, k))};
        float *y = gw_digest_take(d, (size_t)m * n * sizeof *y);
        if (d->ops->weight == GW_I8) spoil_rows(d, x, m, k);
        pack(d, &w, src, false);
        d->ops->matmul(d->dev, y, n, x, k, &w, &(uint32_t){0}, 1, m);
        gw_digest_absorb(d, y, (size_t)m * n * sizeof *y);
        pack(d, &plain, src, true);
        d->ops->matmul_plain(d->dev, y, n, x, k, &plain, &(uint32_t){0}, 1, 1);
        gw_digest_absorb(d, y, n * sizeof *y);
        gw_digest_reset(d);
    }
}

/* Of tables whose pages are quantized: K and V of directed values, and of what has no scale, as they are stored. */
static void quantized_pages(struct gw_digest *d)
{
    enum { HEAD_DIM = 40, ROWS = 16 };
    static const uint32_t blocks[] = {0};
    if (d->ops->kv != GW_I8) return;
    float *taken = gw_digest_values(d, GW_F32, ROWS * 3 * HEAD_DIM, true), *qkv = gw_digest_host(d, taken);
    for (uint32_t i = 0; i < HEAD_DIM; i++) {
        qkv[3 * 3 * HEAD_DIM + 2 * HEAD_DIM + i] = 0.0f;
        qkv[4 * 3 * HEAD_DIM + 2 * HEAD_DIM + i] = 0x1p-110f;
    }
    qkv[5 * 3 * HEAD_DIM + 2 * HEAD_DIM] = gw_f32_of_bits(0x7F800000u);
    gw_digest_put(d, taken, ROWS * 3 * HEAD_DIM * sizeof *taken);
    size_t bytes = 2 * gw_kv_bytes(GW_I8, HEAD_DIM, ROWS);
    uint8_t *page = gw_digest_take(d, bytes);
    const struct gw_kv_layer kv = {.arena = &page,
                                   .page_bytes = bytes,
                                   .cells = 1,
                                   .heads_per_cell = 1,
                                   .head_dim = HEAD_DIM,
                                   .block_tokens = ROWS};
    const struct gw_seq_rows seq = {.rows = ROWS, .blocks = blocks};
    const float *cos_sin = gw_digest_values(d, GW_F32, ROWS * HEAD_DIM, false);
    d->ops->rope_append(d->dev, taken, 3 * HEAD_DIM, 0, HEAD_DIM, 2 * HEAD_DIM, 1, NULL, &kv, cos_sin, &seq,
                        1);
    gw_digest_absorb(d, page, bytes);
    gw_digest_reset(d);
}

enum { TREE_M = 7, TREE_N = 70, TREE_K = 9, TREE_SHARES = 8, TREE_ELEMS = TREE_M * TREE_N };

/* matmul_shares gives what matmul gives share by share. The bits are absorbed only where they differ: the digest is the
 * one of tables without matmul_shares. */
static void shares_one_by_one(struct gw_digest *d, const void *x, const struct gw_weight *w, uint32_t shares)
{
    float *y = gw_digest_take(d, shares * TREE_ELEMS * sizeof *y);
    float *alone = gw_digest_take(d, TREE_ELEMS * sizeof *alone);
    d->ops->matmul_shares(d->dev, y, x, w, shares, TREE_M);
    for (uint32_t s = 0; s < shares; s++, y += TREE_ELEMS) {
        const uint8_t *xs = (const uint8_t *)x + (size_t)s * TREE_K * gw_dtype_bytes(d->ops->act);
        d->ops->matmul(d->dev, alone, TREE_N, xs, (size_t)TREE_K * shares, &w[s], &(uint32_t){0}, 1, TREE_M);
        const size_t bytes = TREE_ELEMS * sizeof *y;
        if (memcmp(gw_digest_get(d, y, bytes), gw_digest_get(d, alone, bytes), bytes) != 0)
            gw_digest_absorb(d, y, bytes);
    }
}

static void trees(struct gw_digest *d)
{
    static const uint32_t counts[] = {1, 2, 3, 5, 6, 7, TREE_SHARES};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        struct gw_weight w[TREE_SHARES];
        for (uint32_t s = 0; s < counts[i]; s++) w[s] = gw_digest_weight(d, TREE_N, TREE_K, true);
        const void *x = gw_digest_values(d, d->ops->act, (size_t)TREE_M * TREE_K * counts[i], true);
        float *residual = gw_digest_values(d, GW_F32, TREE_ELEMS, true);
        float *scratch = gw_digest_take(d, counts[i] * TREE_ELEMS * sizeof *scratch);
        d->ops->matmul_tree_add(d->dev, residual, x, w, counts[i], TREE_M, scratch);
        gw_digest_absorb(d, residual, TREE_ELEMS * sizeof *residual);
        shares_one_by_one(d, x, w, counts[i]);
        gw_digest_reset(d);
    }
}

static void norms_and_gates(struct gw_digest *d)
{
    static const uint32_t lengths[] = {1, 15, 16, 17, 64, 100, 193};
    enum { M = 4 };
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        uint32_t len = lengths[i];
        const float *x = gw_digest_values(d, GW_F32, M * 2 * (size_t)len, true);
        const float *w = gw_digest_values(d, GW_F32, len, true);
        size_t bytes = M * (size_t)len * gw_dtype_bytes(d->ops->act);
        void *y = gw_digest_take(d, bytes);
        d->ops->rmsnorm(d->dev, y, x, w, 1e-5f, M, len);
        gw_digest_absorb(d, y, bytes);
        d->ops->silu_mul(d->dev, y, x, M, 1, len);
        gw_digest_absorb(d, y, bytes);
        gw_digest_reset(d);
    }
}

/* The gate over the range of exp, its ends included. */
static void gates_over_exp_range(struct gw_digest *d)
{
    enum { COLS = 4096 };
    float *taken = gw_digest_take(d, 2 * COLS * sizeof *taken), *gate_up = gw_digest_host(d, taken);
    for (int i = 0; i < COLS; i++) {
        gate_up[i] = (float)(i - COLS / 2) * 0.0449f;
        gate_up[COLS + i] = 1.0f;
    }
    gw_digest_put(d, taken, 2 * COLS * sizeof *taken);
    void *y = gw_digest_take(d, COLS * sizeof(float));
    d->ops->silu_mul(d->dev, y, taken, 1, 1, COLS);
    gw_digest_absorb(d, y, COLS * gw_dtype_bytes(d->ops->act));
    gw_digest_reset(d);
}

/* Where the device does it, its bits; row: but for x, which was taken. */
static void pick(struct gw_digest *d, float *x, struct gw_pick_row row)
{
    row.x = x;
    if (d->ops->pick_there && d->ops->pick_there(d->dev, &row, 1)) return;
    row.x = gw_digest_host(d, x);
    d->ops->pick(d->dev, &row, 1);
}

static void statistics(struct gw_digest *d)
{
    static const uint32_t shares[] = {1, 2, 3, 5, 8};
    static const struct gw_pick_want want = {.keep = 1, .stats = true};
    enum { VOCAB = 501 };
    float *taken = gw_digest_values(d, GW_F32, VOCAB, false), *x = gw_digest_host(d, taken);
    struct gw_pick_part *part = gw_digest_host(d, gw_digest_take(d, sizeof *part));
    for (size_t i = 0; i < VOCAB; i++) x[i] *= 24.0f;
    gw_digest_put(d, taken, VOCAB * sizeof *x);
    for (size_t i = 0; i < sizeof shares / sizeof *shares; i++) {
        const struct gw_pick_row row = {
            .vocab = VOCAB, .shares = shares[i], .share_last = shares[i], .want = &want, .part = part};
        pick(d, taken, row);
        struct gw_pick_sum sum = gw_pick_tree(part->stats, shares[i], 1);
        gw_digest_absorb_host(d, &sum, sizeof sum);
    }
    gw_digest_reset(d);
}

static void absorb_part(struct gw_digest *d, const struct gw_pick_part *p)
{
    gw_digest_absorb_host(d, p->entries, p->entries_len * sizeof *p->entries);
    gw_digest_absorb_host(d, p->top, p->top_len * sizeof *p->top);
    gw_digest_absorb_host(d, p->weights, p->shares * sizeof *p->weights);
    gw_digest_absorb_host(d, p->stats, p->shares * sizeof *p->stats);
}

/* What is picked, by score and by logit, with and without edits. */
static void picks(struct gw_digest *d)
{
    enum { VOCAB = 2100, SHARES = 3 };
    static const struct gw_pick_change added[] = {{0, 3.5f}, {2099, -1.25f}}, taken[] = {{700, 0.3f}};
    static const uint32_t repeated[] = {1, 2, 700, 2099}, masked[] = {5};
    static const struct gw_pick_edits edits = {.added = added,
                                               .repeated = repeated,
                                               .taken = taken,
                                               .masked = masked,
                                               .added_len = 2,
                                               .repeated_len = 4,
                                               .taken_len = 1,
                                               .masked_len = 1,
                                               .repetition = 1.3f};
    float *there = gw_digest_values(d, GW_F32, VOCAB, true), *x = gw_digest_host(d, there), kept[8];
    struct gw_pick_part *part = gw_digest_host(d, gw_digest_take(d, sizeof *part));
    for (size_t i = 0; i < VOCAB; i++) x[i] *= 9.0f;
    gw_digest_put(d, there, VOCAB * sizeof *x);
    for (uint32_t i = 0; i < 24; i++) {
        const struct gw_pick_want want = {.stream = i * 0x123456789u,
                                          .inverse = 0.4f + 0.3f * (float)i,
                                          .keep = i % 3 * 100,
                                          .top = i % 4 * 6,
                                          .weights = true,
                                          .stats = true,
                                          .edits = i % 2 ? edits : (struct gw_pick_edits){0}};
        const struct gw_pick_row row = {.vocab = VOCAB,
                                        .shares = SHARES,
                                        .share_last = SHARES,
                                        .want = &want,
                                        .kept = kept,
                                        .part = part};
        pick(d, there, row);
        absorb_part(d, part);
    }
    float *weights = gw_digest_host(d, gw_digest_take(d, VOCAB * sizeof *weights));
    d->ops->weigh(d->dev, weights, x, VOCAB, 25.0f, 1.7f);
    gw_digest_absorb_host(d, weights, VOCAB * sizeof *weights);
    gw_digest_reset(d);
}

static void embeddings(struct gw_digest *d)
{
    static const enum gw_dtype types[] = {GW_F32, GW_BF16, GW_F16};
    static const uint32_t ids[] = {2, 0, 2, 3};
    enum { VOCAB = 4, HIDDEN = 37, M = 4 };
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        enum gw_dtype source = types[i] == GW_F32 ? GW_F32 : GW_BF16; /* any bits do for f16, but not NaN */
        void *table = gw_digest_host(d, gw_digest_values(d, source, VOCAB * HIDDEN, types[i] != GW_F16));
        float *y = gw_digest_take(d, M * HIDDEN * sizeof *y);
        d->ops->embed(d->dev, y, table, types[i], ids, M, HIDDEN);
        gw_digest_absorb(d, y, M * HIDDEN * sizeof *y);
        gw_digest_reset(d);
    }
}

gw_err_t gw_ops_digest(const struct gw_ops *ops, struct gw_device *dev, uint8_t out[32])
{
    struct gw_digest d = {.ops = ops, .dev = dev};
    TRY(gw_memory_alloc(dev, ARENA_BYTES, GW_MEMORY_MIRRORED, &d.arena, NULL));
    gw_rng_init(&d.rng, DIGEST_SEED);
    d.sha = gw_sha256_create();
    gw_digest_absorb_host(&d, ops->profile, strlen(ops->profile));
    products(&d);
    quantized_products(&d);
    quantized_pages(&d);
    trees(&d);
    norms_and_gates(&d);
    gates_over_exp_range(&d);
    statistics(&d);
    picks(&d);
    embeddings(&d);
    gw_digest_forward_pass(&d);
    gw_sha256_finish(d.sha, out);
    gw_err_t err = gw_device_finish(dev, NULL);
    gw_memory_free(&d.arena);
    return err;
}
