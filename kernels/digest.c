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
    return d->arena + at;
}

void gw_digest_reset(struct gw_digest *d)
{
    d->used = 0;
}

void gw_digest_absorb(struct gw_digest *d, const void *bytes, size_t len)
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
    void *array = gw_digest_take(d, len * gw_dtype_bytes(type));
    for (size_t i = 0; i < len; i++) {
        float x = value(d, directed);
        if (type == GW_F32)
            ((float *)array)[i] = x;
        else
            ((uint16_t *)array)[i] = (uint16_t)(gw_f32_bits(x) >> 16); /* cut, so that denormals stay */
    }
    return array;
}

struct gw_weight gw_digest_weight(struct gw_digest *d, uint32_t n, uint32_t k, bool directed)
{
    const void *src = gw_digest_values(d, d->ops->act, (size_t)n * k, directed);
    struct gw_weight w = {.n = n, .k = k, .data = gw_digest_take(d, d->ops->pack_bytes(n, k))};
    d->ops->pack(w.data, src, d->ops->act, n, k, k);
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
static void spoil_rows(struct gw_digest *d, void *x, uint32_t k)
{
    for (uint32_t i = 0; i < k; i++) {
        gw_f32_put(x, d->ops->act, 2 * (size_t)k + i, 0.0f);
        gw_f32_put(x, d->ops->act, 3 * (size_t)k + i, 0x1p-110f);
    }
    gw_f32_put(x, d->ops->act, k + k / 2, gw_f32_of_bits(0x7F800000u));
}

/* Of tables that quantize: sums over several blocks of k, rows around what is done at a time, and what a router takes. */
static void quantized_products(struct gw_digest *d)
{
    static const struct {
        uint32_t m, n, k;
    } shapes[] = {{4, 60, 4100}, {5, 64, 2048}, {7, 65, 2049}, {9, 129, 255}};
    if (d->ops->weight != GW_I8) return;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        uint32_t m = shapes[i].m, n = shapes[i].n, k = shapes[i].k;
        void *x = gw_digest_values(d, d->ops->act, (size_t)m * k, false);
        const void *src = gw_digest_values(d, d->ops->act, (size_t)n * k, false);
        struct gw_weight w = {.n = n, .k = k, .data = gw_digest_take(d, d->ops->pack_bytes(n, k))};
        struct gw_weight plain = {.n = n, .k = k, .data = gw_digest_take(d, d->ops->pack_bytes_plain(n, k))};
        float *y = gw_digest_take(d, (size_t)m * n * sizeof *y);
        spoil_rows(d, x, k);
        d->ops->pack(w.data, src, d->ops->act, n, k, k);
        d->ops->matmul(d->dev, y, n, x, k, &w, &(uint32_t){0}, 1, m);
        gw_digest_absorb(d, y, (size_t)m * n * sizeof *y);
        d->ops->pack_plain(plain.data, src, d->ops->act, n, k, k);
        d->ops->matmul_plain(d->dev, y, n, x, k, &plain, &(uint32_t){0}, 1, 1);
        gw_digest_absorb(d, y, n * sizeof *y);
        gw_digest_reset(d);
    }
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
        if (memcmp(y, alone, TREE_ELEMS * sizeof *y) != 0) gw_digest_absorb(d, y, TREE_ELEMS * sizeof *y);
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
    float *gate_up = gw_digest_take(d, 2 * COLS * sizeof *gate_up);
    for (int i = 0; i < COLS; i++) {
        gate_up[i] = (float)(i - COLS / 2) * 0.0449f;
        gate_up[COLS + i] = 1.0f;
    }
    void *y = gw_digest_take(d, COLS * sizeof(float));
    d->ops->silu_mul(d->dev, y, gate_up, 1, 1, COLS);
    gw_digest_absorb(d, y, COLS * gw_dtype_bytes(d->ops->act));
    gw_digest_reset(d);
}

static void statistics(struct gw_digest *d)
{
    static const uint32_t shares[] = {1, 2, 3, 5, 8};
    static const struct gw_pick_want want = {.keep = 1, .stats = true};
    enum { VOCAB = 501 };
    float *x = gw_digest_values(d, GW_F32, VOCAB, false);
    struct gw_pick_part *part = gw_digest_take(d, sizeof *part);
    for (size_t i = 0; i < VOCAB; i++) x[i] *= 24.0f;
    for (size_t i = 0; i < sizeof shares / sizeof *shares; i++) {
        const struct gw_pick_row row = {.x = x,
                                        .vocab = VOCAB,
                                        .shares = shares[i],
                                        .share_last = shares[i],
                                        .want = &want,
                                        .part = part};
        d->ops->pick(d->dev, &row, 1);
        struct gw_pick_sum sum = gw_pick_tree(part->stats, shares[i], 1);
        gw_digest_absorb(d, &sum, sizeof sum);
    }
    gw_digest_reset(d);
}

static void absorb_part(struct gw_digest *d, const struct gw_pick_part *p)
{
    gw_digest_absorb(d, p->entries, p->entries_len * sizeof *p->entries);
    gw_digest_absorb(d, p->top, p->top_len * sizeof *p->top);
    gw_digest_absorb(d, p->weights, p->shares * sizeof *p->weights);
    gw_digest_absorb(d, p->stats, p->shares * sizeof *p->stats);
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
    float *x = gw_digest_values(d, GW_F32, VOCAB, true), kept[8];
    struct gw_pick_part *part = gw_digest_take(d, sizeof *part);
    for (size_t i = 0; i < VOCAB; i++) x[i] *= 9.0f;
    for (uint32_t i = 0; i < 24; i++) {
        const struct gw_pick_want want = {.stream = i * 0x123456789u,
                                          .inverse = 0.4f + 0.3f * (float)i,
                                          .keep = i % 3 * 100,
                                          .top = i % 4 * 6,
                                          .weights = true,
                                          .stats = true,
                                          .edits = i % 2 ? edits : (struct gw_pick_edits){0}};
        const struct gw_pick_row row = {.x = x,
                                        .vocab = VOCAB,
                                        .shares = SHARES,
                                        .share_last = SHARES,
                                        .want = &want,
                                        .kept = kept,
                                        .part = part};
        d->ops->pick(d->dev, &row, 1);
        absorb_part(d, part);
    }
    float *weights = gw_digest_take(d, VOCAB * sizeof *weights);
    d->ops->weigh(d->dev, weights, x, VOCAB, 25.0f, 1.7f);
    gw_digest_absorb(d, weights, VOCAB * sizeof *weights);
    gw_digest_reset(d);
}

static void embeddings(struct gw_digest *d)
{
    static const enum gw_dtype types[] = {GW_F32, GW_BF16, GW_F16};
    static const uint32_t ids[] = {2, 0, 2, 3};
    enum { VOCAB = 4, HIDDEN = 37, M = 4 };
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        enum gw_dtype source = types[i] == GW_F32 ? GW_F32 : GW_BF16; /* any bits do for f16, but not NaN */
        void *table = gw_digest_values(d, source, VOCAB * HIDDEN, types[i] != GW_F16);
        float *y = gw_digest_take(d, M * HIDDEN * sizeof *y);
        d->ops->embed(d->dev, y, table, types[i], ids, M, HIDDEN);
        gw_digest_absorb(d, y, M * HIDDEN * sizeof *y);
        gw_digest_reset(d);
    }
}

gw_err_t gw_ops_digest(const struct gw_ops *ops, struct gw_device *dev, uint8_t out[32])
{
    struct gw_digest d = {.ops = ops, .dev = dev, .arena = aligned_alloc(64, ARENA_BYTES)};
    if (!d.arena) return GW_ERR_MEMORY;
    gw_rng_init(&d.rng, DIGEST_SEED);
    d.sha = gw_sha256_create();
    gw_digest_absorb(&d, ops->profile, strlen(ops->profile));
    products(&d);
    quantized_products(&d);
    trees(&d);
    norms_and_gates(&d);
    gates_over_exp_range(&d);
    statistics(&d);
    picks(&d);
    embeddings(&d);
    gw_digest_forward_pass(&d);
    gw_sha256_finish(d.sha, out);
    free(d.arena);
    return GW_OK;
}
