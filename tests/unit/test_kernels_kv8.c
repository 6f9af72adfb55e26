/* kernels: KV pages in int8. What is stored is the nearest of each number; attention over it is what float64 makes of the
 * same bytes; and one sequence gives the same bits on every variant, however it is cut into steps and whatever else is in
 * the batch. */
#include "tests/lib/attention_fixture.h"

#include "kernels/cpu/kv.h"

/* 1, 2, 4, 8 query heads per KV head, and unequal ones; one token, blocks in part, over the chunk of 256; head_dim with a
 * tail of 8; blocks that are no multiple of the 16 positions that are taken at a time; windows. */
static const struct config configs[] = {
    {64, 4, 4, 1, 16, 1},
    {64, 4, 2, 1, 16, 277},
    {96, 4, 1, 1, 16, 60, 0, true, true},
    {128, 8, 1, 1, 16, 37},
    {72, 3, 1, 3, 8, 50, 17, true, true},
    {24, 5, 1, 2, 24, 300, 41, false, false},
    {16, 2, 1, 1, 40, 90, 1, false, true},
};
#define CONFIGS (sizeof configs / sizeof *configs)

static const char *const kv8_profiles[] = {"cpu-bf16-kv8-1", "cpu-f32-kv8-1"};

/* A sequence, and its pages of one table after one step over all of it. */
struct written {
    const struct config *c;
    struct sequence seq;
    float *cos_sin;
    struct pool pool;
    uint8_t *out;
};

static void write_with(struct written *w, const struct gw_ops *ops, const struct config *c,
                       struct sequence seq, struct gw_rng *r)
{
    struct gw_device *dev = device_with(1);
    *w = (struct written){.c = c, .seq = seq, .cos_sin = cos_sin_table(c, c->length)};
    pool_init(&w->pool, r, c, ops);
    w->out = run_over(ops, dev, c, &w->pool, w->cos_sin, &w->seq, c->length);
    gw_device_destroy(dev);
}

static void written_fini(struct written *w)
{
    pool_fini(&w->pool);
    free(w->cos_sin), free(w->out);
}

static const int8_t *numbers_at(const struct written *w, enum gw_kv_part part, uint32_t head,
                                uint32_t position)
{
    return (const int8_t *)gw_kv_at(&w->pool.kv, GW_I8, part, head, w->pool.blocks[0], position);
}

static float scale_at(const struct written *w, enum gw_kv_part part, uint32_t head, uint32_t position)
{
    return *gw_kv_scale_at(&w->pool.kv, part, head, w->pool.blocks[0], position);
}

/* One head's numbers, next to what a profile of f32 pages stores there. */
static void expect_nearest(const struct written *w, const struct written *exact, enum gw_kv_part part,
                           uint32_t head, uint32_t position)
{
    const int8_t *q = numbers_at(w, part, head, position);
    const float *x =
        (const void *)gw_kv_at(&exact->pool.kv, GW_F32, part, head, exact->pool.blocks[0], position);
    float scale = scale_at(w, part, head, position), largest = 0;
    for (uint32_t d = 0; d < w->c->head_dim; d++) largest = fmaxf(largest, fabsf(x[d]));
    assert_true(scale == largest / 127);
    for (uint32_t d = 0; d < w->c->head_dim; d++) {
        assert_true(q[d] >= -127);
        assert_near((double)q[d] * scale, x[d], scale * 0.50002, "number", d);
    }
}

static void test_rope_append_stores_the_nearest_of_each_number(void **state)
{
    (void)state;
    struct gw_rng r = seeded_rng(__func__);
    for (size_t i = 0; i < CONFIGS; i++) {
        const struct config *c = &configs[i];
        struct sequence seq = random_sequence(&r, c, c->length);
        struct written w, exact;
        write_with(&w, ops_c("cpu-f32-kv8-1"), c, seq, &r);
        write_with(&exact, ops_c("cpu-f32-2"), c, seq, &r);
        for (uint32_t position = 0; position < c->length; position++)
            for (uint32_t h = 0; h < kv_heads_of(c); h++) {
                expect_nearest(&w, &exact, GW_KV_K, h, position);
                expect_nearest(&w, &exact, GW_KV_V, h, position);
            }
        written_fini(&w), written_fini(&exact);
        free(seq.qkv);
    }
}

/* Numbers of a head that are ties between two integers go to the even one; -max is -127; the least scale; and what has
 * none. One KV head, V of four tokens. */
static void test_rope_append_of_special_rows(void **state)
{
    (void)state;
    static const struct config c = {16, 1, 1, 1, 16, 4};
    static const float rows[4][16] = {
        {127, -127, 0.5f, 1.5f, 2.5f, -0.5f, -1.5f, 126.5f}, {0}, {0x1p-101f, -0x1p-110f}, {1, INFINITY, -3}};
    static const int8_t want[16] = {127, -127, 0, 2, 2, 0, -2, 126};
    const struct gw_ops *variants[VARIANTS_MAX];
    int len = ops_all("cpu-f32-kv8-1", variants);
    for (int v = 0; v < len; v++) {
        struct gw_rng r = seeded_rng(__func__);
        struct sequence seq = random_sequence(&r, &c, c.length);
        struct written w;
        for (uint32_t t = 0; t < c.length; t++) memcpy(seq.qkv + (t * 3 + 2) * 16, rows[t], sizeof rows[t]);
        write_with(&w, variants[v], &c, seq, &r);
        assert_memory_equal(numbers_at(&w, GW_KV_V, 0, 0), want, sizeof want);
        assert_true(scale_at(&w, GW_KV_V, 0, 0) == 1);
        for (uint32_t t = 1; t < 3; t++) {
            assert_true(scale_at(&w, GW_KV_V, 0, t) == 0);
            for (int d = 0; d < 16; d++) assert_int_equal(numbers_at(&w, GW_KV_V, 0, t)[d], 0);
        }
        assert_true(isnan(scale_at(&w, GW_KV_V, 0, 3)));
        for (int d = 0; d < 16; d++) assert_true(isfinite(((const float *)(const void *)w.out)[2 * 16 + d]));
        written_fini(&w);
        free(seq.qkv);
    }
}

/* From the bytes of the pages and the rotated q: what attention means, without chunks. */
static void attention_f64(const struct written *w, const float *q, uint32_t position, uint32_t kv_head,
                          double out[256])
{
    const struct config *c = w->c;
    double sum = 0;
    for (uint32_t d = 0; d < c->head_dim; d++) out[d] = 0;
    for (uint32_t j = c->window && position >= c->window ? position + 1 - c->window : 0; j <= position; j++) {
        const int8_t *k = numbers_at(w, GW_KV_K, kv_head, j), *v = numbers_at(w, GW_KV_V, kv_head, j);
        double dot = 0, k_scale = scale_at(w, GW_KV_K, kv_head, j),
               v_scale = scale_at(w, GW_KV_V, kv_head, j);
        for (uint32_t d = 0; d < c->head_dim; d++) dot += (double)q[d] * k[d] * k_scale;
        double e = exp(dot / sqrt(c->head_dim));
        sum += e;
        for (uint32_t d = 0; d < c->head_dim; d++) out[d] += e * v[d] * v_scale;
    }
    for (uint32_t d = 0; d < c->head_dim; d++) out[d] /= sum;
}

/* q as rope_append leaves it, of all rows: [length, heads * head_dim] */
static float *rotated_queries(const struct written *w, const struct gw_ops *ops)
{
    const struct config *c = w->c;
    struct gw_device *dev = device_with(1);
    uint32_t width = row_floats(c), q_len = c->heads * c->head_dim, kv_len = kv_heads_of(c) * c->head_dim;
    float *rows = take_f32((size_t)c->length * width), *q = take_f32((size_t)c->length * q_len);
    float *bias = take_f32(width), norms[2 * 256];
    const struct gw_qkv_prep prep = make_prep(c, (size_t[]){0, q_len, q_len + kv_len}, bias, norms);
    struct gw_seq_rows seq = {.rows = c->length, .blocks = w->pool.blocks[0]};
    memcpy(rows, w->seq.qkv, (size_t)c->length * width * sizeof *rows);
    ops->rope_append(dev, rows, width, 0, q_len, q_len + kv_len, c->heads, c->bias || c->norm ? &prep : NULL,
                     &w->pool.kv, w->cos_sin, &seq, 1);
    for (uint32_t t = 0; t < c->length; t++)
        memcpy(q + (size_t)t * q_len, rows + (size_t)t * width, q_len * sizeof *q);
    free(rows), free(bias);
    gw_device_destroy(dev);
    return q;
}

static void expect_equals_f64(const struct written *w, const struct gw_ops *ops)
{
    const struct config *c = w->c;
    float *q = rotated_queries(w, ops);
    double tolerance = ops->act == GW_BF16 ? 8e-3 : 5e-6;
    for (uint32_t position = 0; position < c->length; position += 5 + c->length / 9)
        for (uint32_t h = 0; h < c->heads; h++) {
            double want[256];
            size_t at = ((size_t)position * c->heads + h) * c->head_dim;
            attention_f64(w, q + at, position, h * kv_heads_of(c) / c->heads, want);
            for (uint32_t d = 0; d < c->head_dim; d++)
                assert_near(gw_f32_at(w->out, ops->act, at + d), want[d], tolerance, "out", at + d);
        }
    free(q);
}

static void test_attention_c_equals_float64_reference(void **state)
{
    (void)state;
    struct gw_rng r = seeded_rng(__func__);
    for (size_t i = 0; i < 2 * CONFIGS; i++) {
        const struct gw_ops *ops = ops_c(kv8_profiles[i % 2]);
        const struct config *c = &configs[i / 2];
        struct sequence seq = random_sequence(&r, c, c->length);
        struct written w;
        write_with(&w, ops, c, seq, &r);
        expect_equals_f64(&w, ops);
        written_fini(&w);
        free(seq.qkv);
    }
}

static void test_variants_threads_and_chunks_give_the_same_bits(void **state)
{
    (void)state;
    static const uint32_t chunks[] = {1, 7, 64, 1000};
    struct gw_rng r = seeded_rng(__func__);
    struct gw_device *devs[] = {device_with(1), device_with(3)};
    for (size_t i = 0; i < 2 * CONFIGS; i++) {
        const struct config *c = &configs[i / 2];
        const struct gw_ops *variants[VARIANTS_MAX];
        int len = ops_all(kv8_profiles[i % 2], variants);
        struct sequence seq = random_sequence(&r, c, c->length);
        float *cos_sin = cos_sin_table(c, c->length);
        uint8_t *want = run_alone(variants[0], devs[0], &r, c, cos_sin, &seq, c->length);
        for (int v = 0; v < len; v++)
            for (size_t k = v ? 0 : 2; k < (v ? 4 : 3); k++) { /* plain C is slow */
                uint8_t *got = run_alone(variants[v], devs[k % 2], &r, c, cos_sin, &seq, chunks[k]);
                assert_same_bits(got, want, out_bytes(variants[v], c, c->length), variants[v]->name);
                free(got);
            }
        free(seq.qkv), free(cos_sin), free(want);
    }
    for (int d = 0; d < 2; d++) gw_device_destroy(devs[d]);
}

/* Three sequences, the later ones shorter, a step of some rows of each at a time, against each alone. */
static void expect_batch_equals_alone(const struct gw_ops *ops, const struct config *c, struct gw_device *dev,
                                      struct gw_rng *r)
{
    struct sequence seqs[SEQS_MAX];
    uint8_t *want[SEQS_MAX], *got[SEQS_MAX];
    float *cos_sin = cos_sin_table(c, c->length);
    struct pool pool;
    pool_init(&pool, r, c, ops);
    for (uint32_t s = 0; s < SEQS_MAX; s++) {
        seqs[s] = random_sequence(r, c, 1 + (c->length - 1) / (s + 1));
        want[s] = run_alone(ops, dev, r, c, cos_sin, &seqs[s], 64);
        got[s] = take(out_bytes(ops, c, seqs[s].length));
    }
    struct step step = {.len = 1};
    for (uint32_t at[SEQS_MAX] = {0}; step.len > 0;) {
        uint8_t *outs[SEQS_MAX];
        step.len = 0;
        for (uint32_t s = 0; s < SEQS_MAX; s++) {
            uint32_t left = seqs[s].length - at[s], rows = 1 + (uint32_t)gw_rng_below(r, 40);
            if (left == 0) continue;
            step.seqs[step.len] = &seqs[s], step.position[step.len] = at[s], step.slot[step.len] = s;
            step.rows[step.len] = rows < left ? rows : left;
            outs[step.len] = got[s];
            at[s] += step.rows[step.len++];
        }
        if (step.len > 0) run_step(ops, dev, c, &pool, cos_sin, &step, outs);
    }
    for (uint32_t s = 0; s < SEQS_MAX; s++) {
        assert_same_bits(got[s], want[s], out_bytes(ops, c, seqs[s].length), ops->name);
        free(seqs[s].qkv), free(want[s]), free(got[s]);
    }
    pool_fini(&pool);
    free(cos_sin);
}

static void test_attention_in_a_batch_equals_alone(void **state)
{
    (void)state;
    struct gw_rng r = seeded_rng(__func__);
    struct gw_device *dev = device_with(3);
    const struct gw_ops *variants[VARIANTS_MAX];
    int len = ops_all("cpu-f32-kv8-1", variants);
    for (int v = len > 1 ? 1 : 0; v < len; v++)
        for (size_t i = 0; i < CONFIGS; i++) expect_batch_equals_alone(variants[v], &configs[i], dev, &r);
    gw_device_destroy(dev);
}

/* Every byte that is not a number or a scale of a position of this layer is as it was. */
static void test_rope_append_writes_its_positions_only(void **state)
{
    (void)state;
    struct gw_rng r = seeded_rng(__func__);
    const struct gw_ops *variants[VARIANTS_MAX];
    int len = ops_all("cpu-bf16-kv8-1", variants);
    for (size_t i = 0; i < (size_t)len * CONFIGS; i++) {
        const struct config *c = &configs[i % CONFIGS];
        struct sequence seq = random_sequence(&r, c, c->length);
        struct written w;
        write_with(&w, variants[i / CONFIGS], c, seq, &r);
        for (uint32_t p = 0; p < 2 * c->length * kv_heads_of(c); p++) {
            uint32_t position = p / 2 / kv_heads_of(c), head = p / 2 % kv_heads_of(c);
            assert_true(isfinite(scale_at(&w, p % 2, head, position)));
            memset(gw_kv_at(&w.pool.kv, GW_I8, p % 2, head, w.pool.blocks[0], position), POISON, c->head_dim);
            memset(gw_kv_scale_at(&w.pool.kv, p % 2, head, w.pool.blocks[0], position), POISON, 4);
        }
        for (uint32_t cell = 0; cell < c->cells; cell++)
            for (size_t b = 0; b < w.pool.slots * w.pool.page_bytes; b++)
                if (w.pool.memory[cell][b] != POISON) fail_msg("byte %zu of cell %u was written", b, cell);
        written_fini(&w);
        free(seq.qkv);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rope_append_stores_the_nearest_of_each_number),
        cmocka_unit_test(test_rope_append_of_special_rows),
        cmocka_unit_test(test_rope_append_writes_its_positions_only),
        cmocka_unit_test(test_attention_c_equals_float64_reference),
        cmocka_unit_test(test_variants_threads_and_chunks_give_the_same_bits),
        cmocka_unit_test(test_attention_in_a_batch_equals_alone),
    };
    return cmocka_run_group_tests_name("kernels_kv8", tests, NULL, NULL);
}
