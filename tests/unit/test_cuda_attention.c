/* CUDA's RoPE, append and attention on the host shim, with pages of bf16 and of int8. Pages and rotated q have the CPU's bits. Attention rounds q and the
 * weights to bf16, which the CPU does not: it is held to a float64 reference and to the CPU within what that may change, and to
 * itself bit for bit: decode or prefill, however a sequence is cut into steps, whatever else is in the batch. */
#include "tests/lib/cuda_fixture.h"

#include <math.h>

#include "kernels/cpu/kv.h"
#include "kernels/vmath.h"

#define LAYERS    2    /* in the group; the tests use the second */
#define POISON    0xFF /* NaN as bf16, and as the scales of int8 */
#define SEQS      2
#define CELLS_MAX 4
#define EPS       1e-5f

struct config {
    uint32_t head_dim, heads, cells, heads_per_cell, block_tokens;
    uint32_t length[SEQS];
    uint32_t window, query_group, query_shift;
    bool bias, norm, int8;
};

/* GQA groups of 1, 2, 4, 8, unequal ones, cut ones, more than a tile takes; one token; lengths on both sides of pages, tiles
 * and chunks; windows shorter and longer than those; head sizes that are compiled for and that are not. */
static const struct config configs[] = {
    {.head_dim = 64, .heads = 2, .cells = 1, .heads_per_cell = 2, .block_tokens = 16, .length = {270, 9}},
    {.head_dim = 128, .heads = 8, .cells = 1, .heads_per_cell = 1, .block_tokens = 16, .length = {66, 17}},
    {.head_dim = 128, .heads = 2, .cells = 1, .heads_per_cell = 1, .block_tokens = 16, .length = {261, 5}},
    {.head_dim = 96,
     .heads = 4,
     .cells = 2,
     .heads_per_cell = 1,
     .block_tokens = 16,
     .length = {300, 65},
     .window = 41},
    {.head_dim = 256,
     .heads = 4,
     .cells = 1,
     .heads_per_cell = 1,
     .block_tokens = 32,
     .length = {33, 6},
     .norm = true},
    {.head_dim = 128,
     .heads = 8,
     .cells = 2,
     .heads_per_cell = 1,
     .block_tokens = 16,
     .length = {64, 5},
     .bias = true},
    {.head_dim = 40, .heads = 19, .cells = 1, .heads_per_cell = 1, .block_tokens = 8, .length = {30, 7}},
    {.head_dim = 128, .heads = 5, .cells = 2, .heads_per_cell = 1, .block_tokens = 16, .length = {40, 16}},
    {.head_dim = 80,
     .heads = 1,
     .cells = 1,
     .heads_per_cell = 1,
     .block_tokens = 16,
     .length = {530, 20},
     .window = 270},
    {.head_dim = 64,
     .heads = 5,
     .cells = 1,
     .heads_per_cell = 2,
     .block_tokens = 16,
     .length = {70, 12},
     .window = 17,
     .query_group = 4,
     .query_shift = 1},
    {.head_dim = 32,
     .heads = 8,
     .cells = 4,
     .heads_per_cell = 2,
     .block_tokens = 16,
     .length = {6, 5},
     .window = 1},
    /* of int8: rows in pieces of 16 bytes, and of 8; blocks that end with a tile, and not */
    {.head_dim = 64,
     .heads = 2,
     .cells = 1,
     .heads_per_cell = 1,
     .block_tokens = 16,
     .length = {262, 5},
     .int8 = true},
    {.head_dim = 128,
     .heads = 4,
     .cells = 1,
     .heads_per_cell = 1,
     .block_tokens = 16,
     .length = {66, 5},
     .bias = true,
     .norm = true,
     .int8 = true},
    {.head_dim = 40,
     .heads = 2,
     .cells = 1,
     .heads_per_cell = 2,
     .block_tokens = 8,
     .length = {262, 5},
     .window = 41,
     .int8 = true},
    {.head_dim = 256,
     .heads = 2,
     .cells = 1,
     .heads_per_cell = 1,
     .block_tokens = 4,
     .length = {33, 6},
     .int8 = true},
    {.head_dim = 24,
     .heads = 5,
     .cells = 1,
     .heads_per_cell = 2,
     .block_tokens = 40,
     .length = {70, 12},
     .window = 17,
     .query_group = 4,
     .query_shift = 1,
     .int8 = true},
};
#define CONFIGS (sizeof configs / sizeof *configs)

static enum gw_dtype kv_of(const struct config *c)
{
    return c->int8 ? GW_I8 : GW_BF16;
}

/* Of the CPU's twin. */
static const struct gw_ops *cpu_of(const struct config *c)
{
    return ops_best(c->int8 ? "cpu-bf16-kv8-1" : profiles[0]);
}

static uint32_t kv_heads_of(const struct config *c)
{
    return c->cells * c->heads_per_cell;
}

static uint32_t row_floats(const struct config *c)
{
    return (c->heads + 2 * kv_heads_of(c)) * c->head_dim;
}

/* ---- a pool of pages, and what goes into it ---- */

struct world {
    const struct config *c;
    struct gw_kv_layer kv;
    uint8_t *memory[CELLS_MAX], *arena[CELLS_MAX];
    size_t cell_bytes;
    uint32_t *slots, *blocks[SEQS];
    float *rows[SEQS];    /* [length, row_floats] q | k | v */
    uint16_t *outs[SEQS]; /* [length, heads * head_dim] */
    float *cos_sin, *bias, *norms;
    struct gw_qkv_prep prep;
};

static void fill_tables(struct world *w, struct gw_rng *r)
{
    const struct config *c = w->c;
    uint32_t longest = c->length[0] > c->length[1] ? c->length[0] : c->length[1];
    w->cos_sin = take_f32((size_t)longest * c->head_dim);
    for (size_t i = 0; i < (size_t)longest * c->head_dim; i += 2) {
        double angle = (double)(i / c->head_dim) * gw_pow(10000.0, -(double)(i % c->head_dim) / c->head_dim);
        w->cos_sin[i] = (float)gw_cos(angle);
        w->cos_sin[i + 1] = (float)gw_sin(angle);
    }
    w->bias = random_f32(r, row_floats(c));
    w->norms = random_f32(r, 2 * c->head_dim);
    w->prep = (struct gw_qkv_prep){.bias = c->bias ? w->bias : NULL,
                                   .q_norm = c->norm ? w->norms : NULL,
                                   .k_norm = c->norm ? w->norms + c->head_dim : NULL,
                                   .eps = EPS};
}

static struct world *world_create(struct gw_rng *r, const struct config *c)
{
    struct world *w = take(sizeof *w);
    uint32_t per_seq[SEQS], slots = 3; /* some that nobody has */
    *w = (struct world){.c = c};
    for (int s = 0; s < SEQS; s++)
        slots += per_seq[s] = (c->length[s] + c->block_tokens - 1) / c->block_tokens;
    w->slots = distinct(r, slots, slots);
    size_t layer = 2 * c->heads_per_cell * gw_kv_bytes(kv_of(c), c->head_dim, c->block_tokens);
    w->cell_bytes = slots * LAYERS * layer;
    for (uint32_t cell = 0; cell < c->cells; cell++) {
        w->memory[cell] = take(w->cell_bytes);
        w->arena[cell] = w->memory[cell] + layer;
    }
    w->kv =
        (struct gw_kv_layer){w->arena,        LAYERS * layer, c->cells,       c->heads_per_cell, c->head_dim,
                             c->block_tokens, c->query_group, c->query_shift, c->window};
    for (int s = 0; s < SEQS; s++) {
        w->blocks[s] = w->slots + (s ? per_seq[0] : 0);
        w->rows[s] = random_f32(r, (size_t)c->length[s] * row_floats(c));
        w->outs[s] = take((size_t)c->length[s] * c->heads * c->head_dim * 2);
    }
    fill_tables(w, r);
    return w;
}

static void world_destroy(struct world *w)
{
    for (uint32_t cell = 0; cell < w->c->cells; cell++) free(w->memory[cell]);
    for (int s = 0; s < SEQS; s++) free(w->rows[s]), free(w->outs[s]);
    free(w->slots), free(w->cos_sin), free(w->bias), free(w->norms), free(w);
}

/* Pages that no row at `position` or behind it sees become NaN, as if others had their slots. */
static void forget(struct world *w, int s, uint32_t position)
{
    if (w->kv.window == 0 || position < w->kv.window) return;
    uint32_t blocks = (position + 1 - w->kv.window) / w->kv.block_tokens;
    for (uint32_t b = 0; b < blocks; b++)
        for (uint32_t cell = 0; cell < w->kv.cells; cell++)
            memset(w->memory[cell] + w->blocks[s][b] * w->kv.page_bytes, POISON, w->kv.page_bytes);
}

/* ---- steps ---- */

struct step {
    uint32_t rows[SEQS];
    bool decode;
};

/* The rows of a step lie behind each other in qkv and out, those of the second sequence first. */
struct batch {
    struct gw_seq_rows seqs[SEQS + 1]; /* one, in the middle, has no rows */
    struct gw_cuda_batch cuda;
    struct gw_cuda_qkv qkv;
    uint16_t *out;
    uint32_t m;
};

static void batch_seq(struct world *w, struct batch *b, int s, struct gw_seq_rows *to, uint32_t position,
                      uint32_t rows)
{
    *to = (struct gw_seq_rows){b->m, rows, position, w->blocks[s]};
    if (rows > 0)
        memcpy(b->qkv.data + b->m * b->qkv.stride, w->rows[s] + (size_t)position * row_floats(w->c),
               (size_t)rows * row_floats(w->c) * 4);
    b->m += rows;
    if (rows > b->cuda.rows_max) b->cuda.rows_max = rows;
    if (rows > 0 && position + rows > b->cuda.length_max) b->cuda.length_max = position + rows;
}

static void batch_init(struct world *w, struct batch *b, const struct step *step, const uint32_t at[SEQS])
{
    const struct config *c = w->c;
    size_t q = (size_t)c->heads * c->head_dim, kv = (size_t)kv_heads_of(c) * c->head_dim;
    uint32_t m = step->rows[0] + step->rows[1];
    *b = (struct batch){.cuda = {.seqs = b->seqs, .seqs_len = SEQS + 1}};
    b->qkv = (struct gw_cuda_qkv){take_f32((size_t)m * row_floats(c)), row_floats(c), 0, q, q + kv, c->heads};
    b->out = take(m * q * 2);
    batch_seq(w, b, 1, &b->seqs[0], at[1], step->rows[1]);
    batch_seq(w, b, 0, &b->seqs[1], 0, 0);
    batch_seq(w, b, 0, &b->seqs[2], at[0], step->rows[0]);
}

static void attend(struct world *w, struct batch *b, bool decode, float scale)
{
    if (!decode) {
        LAUNCH(gw_cuda_attention_prefill, b->out, &b->qkv, &w->kv, kv_of(w->c), scale, &b->cuda);
        return;
    }
    size_t bytes = gw_cuda_attention_decode_bytes(&w->kv, b->qkv.heads, &b->cuda);
    float *workspace = take(bytes);
    memset(workspace, POISON, bytes);
    LAUNCH(gw_cuda_attention_decode, b->out, &b->qkv, &w->kv, kv_of(w->c), scale, &b->cuda, workspace);
    free(workspace);
}

/* The rows that a step has computed, to where their sequence keeps them; q as rope_append left it, too. */
static void keep_rows(struct world *w, const struct batch *b, int s, const struct gw_seq_rows *seq)
{
    size_t q = (size_t)w->c->heads * w->c->head_dim;
    for (uint32_t i = 0; i < seq->rows; i++) {
        size_t to = seq->position + i, from = seq->row + i;
        memcpy(w->outs[s] + to * q, b->out + from * q, q * 2);
        memcpy(w->rows[s] + to * row_floats(w->c), b->qkv.data + from * b->qkv.stride, q * 4);
    }
}

static float scale_of(const struct config *c)
{
    return 1.0f / sqrtf((float)c->head_dim);
}

/* Both sequences from their beginning into poisoned pages, step by step. */
static void run_steps(struct world *w, const struct step *steps, int steps_len)
{
    uint32_t at[SEQS] = {0, 0};
    for (uint32_t cell = 0; cell < w->c->cells; cell++) memset(w->memory[cell], POISON, w->cell_bytes);
    for (int i = 0; i < steps_len; i++) {
        struct batch b;
        batch_init(w, &b, &steps[i], at);
        for (int s = 0; s < SEQS; s++)
            if (steps[i].rows[s] > 0) forget(w, s, at[s]);
        LAUNCH(gw_cuda_rope_append, &b.qkv, w->c->bias || w->c->norm ? &w->prep : NULL, &w->kv, kv_of(w->c),
               w->cos_sin, &b.cuda);
        attend(w, &b, steps[i].decode, scale_of(w->c));
        keep_rows(w, &b, 1, &b.seqs[0]);
        keep_rows(w, &b, 0, &b.seqs[2]);
        for (int s = 0; s < SEQS; s++) at[s] += steps[i].rows[s];
        free(b.qkv.data), free(b.out);
    }
    for (int s = 0; s < SEQS; s++) assert_int_equal(at[s], w->c->length[s]);
}

/* What the world's rows were before RoPE. */
struct originals {
    float *rows[SEQS];
};

static struct originals originals_of(const struct world *w)
{
    struct originals o;
    for (int s = 0; s < SEQS; s++)
        o.rows[s] = copy_of(w->rows[s], (size_t)w->c->length[s] * row_floats(w->c) * 4);
    return o;
}

static void restore(struct world *w, const struct originals *o)
{
    for (int s = 0; s < SEQS; s++)
        memcpy(w->rows[s], o->rows[s], (size_t)w->c->length[s] * row_floats(w->c) * 4);
}

static void originals_fini(struct originals *o)
{
    for (int s = 0; s < SEQS; s++) free(o->rows[s]);
}

/* ---- what it is compared with ---- */

/* The CPU's pages and rotated q of whole sequences: the same bits. */
static void check_append(struct world *w, struct gw_device *dev, const struct originals *o)
{
    const struct config *c = w->c;
    uint8_t *cuda[CELLS_MAX];
    size_t q = (size_t)c->heads * c->head_dim, kv = (size_t)kv_heads_of(c) * c->head_dim;
    for (uint32_t cell = 0; cell < c->cells; cell++) {
        cuda[cell] = copy_of(w->memory[cell], w->cell_bytes);
        memset(w->memory[cell], POISON, w->cell_bytes);
    }
    for (int s = 0; s < SEQS; s++) {
        const struct gw_seq_rows seq = {0, c->length[s], 0, w->blocks[s]};
        float *rows = copy_of(o->rows[s], (size_t)c->length[s] * row_floats(c) * 4);
        cpu_of(c)->rope_append(dev, rows, row_floats(c), 0, q, q + kv, c->heads,
                               c->bias || c->norm ? &w->prep : NULL, &w->kv, w->cos_sin, &seq, 1);
        for (uint32_t i = 0; i < c->length[s]; i++)
            assert_same_bits(w->rows[s] + i * row_floats(c), rows + i * row_floats(c), q * 4, "q");
        free(rows);
    }
    for (uint32_t cell = 0; cell < c->cells; cell++) {
        assert_same_bits(cuda[cell], w->memory[cell], w->cell_bytes, "pages");
        free(cuda[cell]);
    }
}

static uint32_t kv_head_of(const struct config *c, uint32_t head)
{
    if (c->query_group) return (head + c->query_shift) / c->query_group;
    return head * kv_heads_of(c) / c->heads;
}

/* bf16 weights and output: each is off by 2^-9 of itself at most; a little for f32. */
#define TOLERANCE 0.008

/* Element d of a head's K or V, as stored. */
static double stored(const struct world *w, int s, enum gw_kv_part part, uint32_t kv_head, uint32_t position,
                     uint32_t d)
{
    const void *row = gw_kv_at(&w->kv, kv_of(w->c), part, kv_head, w->blocks[s], position);
    if (!w->c->int8) return (double)gw_f32_at(row, GW_BF16, d);
    return (double)((const int8_t *)row)[d] *
           (double)*gw_kv_scale_at(&w->kv, part, kv_head, w->blocks[s], position);
}

/* One query in float64, from q rounded to bf16 and K and V as stored. */
static void check_query(const struct world *w, int s, uint32_t position, uint32_t head)
{
    const struct config *c = w->c;
    uint32_t from = c->window && position >= c->window ? position + 1 - c->window : 0,
             kv_head = kv_head_of(c, head);
    const float *q = w->rows[s] + (size_t)position * row_floats(c) + head * c->head_dim;
    double out[256] = {0}, sum = 0, largest = 0;
    for (uint32_t p = from; p <= position; p++) {
        double dot = 0;
        for (uint32_t d = 0; d < c->head_dim; d++)
            dot += (double)gw_f32_of_bf16(gw_bf16_of_f32(q[d])) * stored(w, s, GW_KV_K, kv_head, p, d);
        double e = exp(dot * scale_of(c));
        sum += e;
        for (uint32_t d = 0; d < c->head_dim; d++) {
            double x = stored(w, s, GW_KV_V, kv_head, p, d);
            out[d] += e * x;
            largest = fabs(x) > largest ? fabs(x) : largest;
        }
    }
    const uint16_t *got = w->outs[s] + ((size_t)position * c->heads + head) * c->head_dim;
    for (uint32_t d = 0; d < c->head_dim; d++)
        assert_near(gw_f32_of_bf16(got[d]), out[d] / sum, TOLERANCE * largest, "attention", d);
}

static void check_float64(const struct world *w)
{
    for (int s = 0; s < SEQS; s++)
        for (uint32_t head = 0; head < w->c->heads; head++)
            for (uint32_t i = 0; i < 5; i++) check_query(w, s, (w->c->length[s] - 1) * i / 4, head);
}

/* All rows against the CPU's attention on q rounded to bf16. */
static void check_cpu(const struct world *w, struct gw_device *dev)
{
    const struct config *c = w->c;
    size_t q = (size_t)c->heads * c->head_dim;
    for (int s = 0; s < SEQS; s++) {
        size_t len = (size_t)c->length[s] * row_floats(c);
        float *rows = copy_of(w->rows[s], len * 4);
        uint16_t *out = take(c->length[s] * q * 2);
        for (size_t i = 0; i < len; i++) rows[i] = gw_f32_of_bf16(gw_bf16_of_f32(rows[i]));
        const struct gw_seq_rows seq = {0, c->length[s], 0, w->blocks[s]};
        cpu_of(c)->attention(dev, out, rows, row_floats(c), 0, c->heads, &w->kv, scale_of(c), &seq, 1);
        for (size_t i = 0; i < c->length[s] * q; i++)
            assert_near(gw_f32_of_bf16(w->outs[s][i]), gw_f32_of_bf16(out[i]), 2 * TOLERANCE * 2,
                        "attention, CPU", i);
        free(rows), free(out);
    }
}

/* Whole sequences are what the references say; other cuts into steps, other neighbours, the other kernel give the same bits. */
static void check_config(struct gw_rng *r, struct gw_device *dev, const struct config *c)
{
    struct world *w = world_create(r, c);
    struct originals o = originals_of(w);
    uint32_t a = c->length[0], b = c->length[1];
    size_t row_bytes = (size_t)c->heads * c->head_dim * 2;
    const struct step whole[] = {{{a, 0}, false}, {{0, b}, true}};
    const struct step pieces[] = {
        {{a - 5, 1}, false}, {{1, 1}, true}, {{1, 0}, true}, {{1, 1}, true}, {{2, b - 3}, false}};
    run_steps(w, whole, 2);
    check_append(w, dev, &o);
    check_float64(w);
    check_cpu(w, dev);
    uint16_t *want[SEQS] = {copy_of(w->outs[0], a * row_bytes), copy_of(w->outs[1], b * row_bytes)};
    restore(w, &o);
    run_steps(w, pieces, 5);
    assert_same_bits(w->outs[0], want[0], a * row_bytes, "the long sequence");
    assert_same_bits(w->outs[1], want[1], b * row_bytes, "the short sequence");
    for (int s = 0; s < SEQS; s++) free(want[s]);
    originals_fini(&o);
    world_destroy(w);
}

static void test_attention_equals_references_whatever_the_steps_the_batch_and_the_kernel(void **state)
{
    (void)state;
    struct gw_rng r = seeded_rng(__func__);
    struct gw_device *dev = device_with(1);
    for (size_t i = 0; i < CONFIGS; i++) check_config(&r, dev, &configs[i]);
    gw_device_destroy(dev);
}

static void test_attention_shapes_outside_limits_are_refused(void **state)
{
    (void)state;
    float x[1] = {0};
    uint16_t out[1];
    struct gw_kv_layer kv = {
        .page_bytes = 16, .cells = 1, .heads_per_cell = 1, .head_dim = 264, .block_tokens = 16};
    const struct gw_cuda_qkv qkv = {.data = x, .heads = 1};
    const struct gw_cuda_batch batch = {.seqs_len = 1, .rows_max = 1, .length_max = 1};
    for (int i = 0; i < 3; i++) {
        kv.head_dim = i == 0 ? 264 : i == 1 ? 12 : 64;
        kv.page_bytes = i == 2 ? 8 : 16;
        ASSERT_REFUSED(gw_cuda_attention_prefill, out, &qkv, &kv, GW_BF16, 1.0f, &batch);
        ASSERT_REFUSED(gw_cuda_attention_decode, out, &qkv, &kv, GW_BF16, 1.0f, &batch, x);
        if (i < 2) ASSERT_REFUSED(gw_cuda_rope_append, &qkv, NULL, &kv, GW_BF16, x, &batch);
    }
    kv.page_bytes = 16;
    ASSERT_REFUSED(gw_cuda_attention_prefill, out, &qkv, &kv, GW_F32, 1.0f, &batch);
    ASSERT_REFUSED(gw_cuda_attention_decode, out, &qkv, &kv, GW_F32, 1.0f, &batch, x);
    kv.block_tokens = 6; /* rows of int8 would not be aligned */
    ASSERT_REFUSED(gw_cuda_attention_prefill, out, &qkv, &kv, GW_I8, 1.0f, &batch);
    ASSERT_REFUSED(gw_cuda_attention_decode, out, &qkv, &kv, GW_I8, 1.0f, &batch, x);
    ASSERT_REFUSED(gw_cuda_rope_append, &qkv, NULL, &kv, GW_F16, x, &batch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_attention_equals_references_whatever_the_steps_the_batch_and_the_kernel),
        cmocka_unit_test(test_attention_shapes_outside_limits_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
