/* kernels: RoPE into pages and causal attention over them. One sequence gives the same bits however it is cut
 * into steps, whatever else is in the batch, wherever its pages lie, on every variant and number of threads.
 */
#include "tests/lib/attention_fixture.h"

/* All kinds of groups (one to one, several, all to one, more than an item takes, unequal), head_dim with and
 * without a tail of 8, lengths on both sides of the chunk of 256. */
static const struct config configs[] = {
    {16, 2, 1, 2, 16, 530},
    {24, 6, 1, 2, 16, 270},
    {64, 3, 1, 1, 16, 257},
    {128, 5, 2, 1, 16, 40},
    {256, 2, 1, 2, 32, 33},
    {32, 8, 8, 1, 16, 100},
    {40, 35, 1, 1, 8, 30},
    {72, 3, 1, 3, 16, 17},
    /* windows shorter and longer than a chunk, than a block, than a group of 16 */
    {24, 6, 1, 2, 16, 530, 270, false, false},
    {96, 4, 2, 1, 16, 300, 41, true, false},
    {16, 2, 1, 1, 16, 280, 1, false, true},
    {64, 5, 1, 1, 8, 70, 17, true, true},
    {40, 3, 1, 1, 16, 40, 0, true, true},
};
#define CONFIGS (sizeof configs / sizeof *configs)

/* float64, from the rotated and rounded values: what rope and attention mean, without chunks. */
static void rotate_f64(double *x, const float *cos_sin, uint32_t head_dim)
{
    for (uint32_t i = 0; i < head_dim / 2; i++) {
        double a = x[i], b = x[i + head_dim / 2], c = cos_sin[2 * i], s = cos_sin[2 * i + 1];
        x[i] = a * c - b * s;
        x[i + head_dim / 2] = b * c + a * s;
    }
}

/* Bias and norm of the head at column `at` of q | k | v. */
static void prepare_f64(const struct config *c, size_t at, double *x)
{
    size_t q_len = (size_t)c->heads * c->head_dim, kv_len = (size_t)kv_heads_of(c) * c->head_dim;
    size_t part = at < q_len ? 0 : at < q_len + kv_len ? 1 : 2;
    size_t in_part = at - (part == 0 ? 0 : q_len + (part - 1) * kv_len);
    double sum = 0;
    for (uint32_t d = 0; c->bias && d < c->head_dim; d++) x[d] += bias_at(part, in_part + d);
    if (!c->norm || part == 2) return;
    for (uint32_t d = 0; d < c->head_dim; d++) sum += x[d] * x[d];
    for (uint32_t d = 0; d < c->head_dim; d++) x[d] *= norm_at(part, d) / sqrt(sum / c->head_dim + EPS);
}

static void head_f64(const struct config *c, const struct sequence *seq, uint32_t position, size_t at,
                     const float *cos_sin, enum gw_dtype round, double *out)
{
    const float *from = seq->qkv + (size_t)position * row_floats(c) + at;
    for (uint32_t d = 0; d < c->head_dim; d++) out[d] = from[d];
    prepare_f64(c, at, out);
    if (cos_sin) rotate_f64(out, cos_sin + (size_t)position * c->head_dim, c->head_dim);
    for (uint32_t d = 0; d < c->head_dim && round == GW_BF16; d++)
        out[d] = gw_f32_of_bf16(gw_bf16_of_f32((float)out[d]));
}

static void attention_f64(const struct config *c, const struct sequence *seq, const float *cos_sin,
                          enum gw_dtype kv, uint32_t position, uint32_t head, double out[256])
{
    double q[256], k[256], v[256], sum = 0;
    uint32_t kv_head = head * kv_heads_of(c) / c->heads;
    head_f64(c, seq, position, (size_t)head * c->head_dim, cos_sin, GW_F32, q);
    for (uint32_t d = 0; d < c->head_dim; d++) out[d] = 0;
    uint32_t start = c->window && position >= c->window ? position + 1 - c->window : 0;
    for (uint32_t j = start; j <= position; j++) {
        head_f64(c, seq, j, (size_t)(c->heads + kv_head) * c->head_dim, cos_sin, kv, k);
        head_f64(c, seq, j, (size_t)(c->heads + kv_heads_of(c) + kv_head) * c->head_dim, NULL, kv, v);
        double dot = 0;
        for (uint32_t d = 0; d < c->head_dim; d++) dot += q[d] * k[d];
        double e = exp(dot / sqrt(c->head_dim));
        sum += e;
        for (uint32_t d = 0; d < c->head_dim; d++) out[d] += e * v[d];
    }
    for (uint32_t d = 0; d < c->head_dim; d++) out[d] /= sum;
}

static void test_attention_c_equals_float64_reference(void **state)
{
    (void)state;
    struct gw_rng r = seeded_rng(__func__);
    struct gw_device *dev = device_with(1);
    for (int p = 0; p < PROFILES; p++)
        for (size_t i = 0; i < CONFIGS; i++) {
            const struct gw_ops *ops = ops_c(profiles[p]);
            const struct config *c = &configs[i];
            struct sequence seq = random_sequence(&r, c, c->length);
            float *cos_sin = cos_sin_table(c, c->length);
            uint8_t *out = run_alone(ops, dev, &r, c, cos_sin, &seq, c->length);
            for (uint32_t position = 0; position < c->length; position += 15 + c->length / 5)
                for (uint32_t h = 0; h < c->heads; h++) {
                    double want[256];
                    attention_f64(c, &seq, cos_sin, ops->kv, position, h, want);
                    for (uint32_t d = 0; d < c->head_dim; d++) {
                        size_t at = ((size_t)position * c->heads + h) * c->head_dim + d;
                        /* K may round the other way where f32 and f64 differ at a tie: half an ulp of one k
                         */
                        double tolerance = ops->act == GW_BF16 ? 8e-3 : 3e-6;
                        assert_near(gw_f32_at(out, ops->act, at), want[d], tolerance, "out", at);
                    }
                }
            free(seq.qkv), free(cos_sin), free(out);
        }
    gw_device_destroy(dev);
}

static void test_attention_variants_threads_and_chunks_give_the_same_bits(void **state)
{
    (void)state;
    static const uint32_t chunks[] = {1, 7, 64, 1000};
    static const int threads[] = {1, 2, 3, 5};
    struct gw_rng r = seeded_rng(__func__);
    struct gw_device *devs[4];
    for (int t = 0; t < 4; t++) devs[t] = device_with(threads[t]);
    for (int p = 0; p < PROFILES; p++)
        for (size_t i = 0; i < CONFIGS; i++) {
            const struct config *c = &configs[i];
            const struct gw_ops *variants[VARIANTS_MAX];
            int len = ops_all(profiles[p], variants);
            struct sequence seq = random_sequence(&r, c, c->length);
            float *cos_sin = cos_sin_table(c, c->length);
            uint8_t *want = run_alone(variants[0], devs[0], &r, c, cos_sin, &seq, c->length);
            for (int v = 0; v < len; v++)
                for (int k = 0; k < 4; k++) {
                    uint8_t *got =
                        run_alone(variants[v], devs[(k + (int)i) % 4], &r, c, cos_sin, &seq, chunks[k]);
                    assert_same_bits(got, want, out_bytes(variants[v], c, c->length), variants[v]->name);
                    free(got);
                }
            free(seq.qkv), free(cos_sin), free(want);
        }
    for (int t = 0; t < 4; t++) gw_device_destroy(devs[t]);
}

/* Three sequences in one batch, at unlike positions and in any order, against each alone. */
static void test_attention_in_a_batch_equals_alone(void **state)
{
    (void)state;
    struct gw_rng r = seeded_rng(__func__);
    struct gw_device *dev = device_with(3);
    const struct gw_ops *tables[TABLES_MAX];
    int tables_len = ops_fast(tables);
    for (int o = 0; o < tables_len; o++)
        for (size_t i = 0; i < CONFIGS; i++) {
            const struct config *c = &configs[i];
            const struct gw_ops *ops = tables[o];
            struct sequence seqs[SEQS_MAX];
            uint8_t *want[SEQS_MAX], *got[SEQS_MAX];
            float *cos_sin = cos_sin_table(c, c->length);
            struct pool pool;
            pool_init(&pool, &r, c, ops);
            struct step step = {.len = SEQS_MAX};
            for (uint32_t s = 0; s < SEQS_MAX; s++) {
                seqs[s] = random_sequence(&r, c, 1 + (uint32_t)gw_rng_below(&r, c->length));
                want[s] = run_alone(ops, dev, &r, c, cos_sin, &seqs[s], 64);
                got[s] = take(out_bytes(ops, c, seqs[s].length));
            }
            uint32_t done[SEQS_MAX] = {0};
            for (bool more = true; more;) {
                more = false;
                uint8_t *outs[SEQS_MAX];
                step.len = 0;
                for (uint32_t n = 0, s = (uint32_t)gw_rng_below(&r, 3); n < SEQS_MAX; n++, s = (s + 1) % 3) {
                    uint32_t left = seqs[s].length - done[s], rows = 1 + (uint32_t)gw_rng_below(&r, 90);
                    if (left == 0) continue;
                    if (rows > left) rows = left;
                    step.seqs[step.len] = &seqs[s];
                    step.position[step.len] = done[s];
                    step.slot[step.len] = s;
                    step.rows[step.len] = rows;
                    outs[step.len++] = got[s];
                    done[s] += rows;
                    more = true;
                }
                run_step(ops, dev, c, &pool, cos_sin, &step, outs);
            }
            for (uint32_t s = 0; s < SEQS_MAX; s++) {
                assert_same_bits(got[s], want[s], out_bytes(ops, c, seqs[s].length), ops->name);
                free(seqs[s].qkv), free(want[s]), free(got[s]);
            }
            pool_fini(&pool);
            free(cos_sin);
        }
    gw_device_destroy(dev);
}

/* Every byte that is not K or V of a position of this layer is as it was. */
static void test_rope_append_writes_its_positions_only(void **state)
{
    (void)state;
    struct gw_rng r = seeded_rng(__func__);
    struct gw_device *dev = device_with(2);
    const struct gw_ops *tables[TABLES_MAX];
    int tables_len = ops_fast(tables);
    for (int o = 0; o < tables_len; o++)
        for (size_t i = 0; i < CONFIGS; i++) {
            const struct config *c = &configs[i];
            const struct gw_ops *ops = tables[o];
            size_t token_bytes = c->head_dim * gw_dtype_bytes(ops->kv);
            uint32_t first = c->length / 3, rows = c->length / 2;
            struct sequence seq = random_sequence(&r, c, c->length);
            float *cos_sin = cos_sin_table(c, c->length), *qkv = take_f32((size_t)rows * row_floats(c));
            memcpy(qkv, seq.qkv, (size_t)rows * row_floats(c) * sizeof *qkv);
            struct pool pool;
            pool_init(&pool, &r, c, ops);
            struct gw_seq_rows seq_rows = {0, rows, first, pool.blocks[0]};
            uint32_t k_at = c->heads * c->head_dim, v_at = k_at + kv_heads_of(c) * c->head_dim;
            ops->rope_append(dev, qkv, row_floats(c), 0, k_at, v_at, c->heads, NULL, &pool.kv, cos_sin,
                             &seq_rows, 1);
            for (uint32_t position = first; position < first + rows; position++)
                for (uint32_t cell = 0; cell < c->cells; cell++)
                    for (uint32_t part = 0; part < 2 * c->heads_per_cell; part++) {
                        uint8_t *page =
                            pool.arena[cell] + pool.blocks[0][position / c->block_tokens] * pool.page_bytes;
                        uint8_t *at =
                            page + (part * c->block_tokens + position % c->block_tokens) * token_bytes;
                        for (uint32_t d = 0; d < c->head_dim; d++)
                            assert_true(isfinite(gw_f32_at(at, ops->kv, d)));
                        memset(at, POISON, token_bytes);
                    }
            for (uint32_t cell = 0; cell < c->cells; cell++)
                for (size_t b = 0; b < pool.slots * pool.page_bytes; b++)
                    if (pool.memory[cell][b] != POISON) fail_msg("byte %zu of cell %u was written", b, cell);
            pool_fini(&pool);
            free(seq.qkv), free(cos_sin), free(qkv);
        }
    gw_device_destroy(dev);
}

static void test_rope_append_equals_float64_reference(void **state)
{
    (void)state;
    struct gw_rng r = seeded_rng(__func__);
    struct gw_device *dev = device_with(1);
    for (int p = 0; p < PROFILES; p++)
        for (size_t i = 0; i < CONFIGS; i++) {
            const struct config *c = &configs[i];
            const struct gw_ops *ops = ops_c(profiles[p]);
            struct sequence seq = random_sequence(&r, c, c->length);
            float *cos_sin = cos_sin_table(c, c->length), *qkv = take_f32((size_t)c->length * row_floats(c));
            memcpy(qkv, seq.qkv, (size_t)c->length * row_floats(c) * sizeof *qkv);
            struct pool pool;
            pool_init(&pool, &r, c, ops);
            struct gw_seq_rows rows = {0, c->length, 0, pool.blocks[0]};
            uint32_t k_at = c->heads * c->head_dim, v_at = k_at + kv_heads_of(c) * c->head_dim;
            float *bias = take_f32(row_floats(c)), norms[2 * 256];
            const struct gw_qkv_prep prep = make_prep(c, (size_t[]){0, k_at, v_at}, bias, norms);
            ops->rope_append(dev, qkv, row_floats(c), 0, k_at, v_at, c->heads, &prep, &pool.kv, cos_sin,
                             &rows, 1);
            size_t token_bytes = c->head_dim * gw_dtype_bytes(ops->kv);
            double scale = c->norm ? 6 : c->bias ? 2 : 1, want[256]; /* of the values */
            double tolerance = scale * (ops->kv == GW_BF16 ? 0x1p-8 : 3e-7);
            for (uint32_t position = 0; position < c->length; position += 13) {
                for (uint32_t h = 0; h < c->heads; h++) {
                    head_f64(c, &seq, position, (size_t)h * c->head_dim, cos_sin, GW_F32, want);
                    for (uint32_t d = 0; d < c->head_dim; d++)
                        assert_near(qkv[(size_t)position * row_floats(c) + h * c->head_dim + d], want[d],
                                    scale * 3e-7, "q", d);
                }
                for (uint32_t h = 0; h < kv_heads_of(c); h++) {
                    uint8_t *page = pool.arena[h / c->heads_per_cell] +
                                    pool.blocks[0][position / c->block_tokens] * pool.page_bytes;
                    size_t token = h % c->heads_per_cell * c->block_tokens + position % c->block_tokens;
                    const void *k = page + token * token_bytes;
                    const void *v = page + (token + c->heads_per_cell * c->block_tokens) * token_bytes;
                    head_f64(c, &seq, position, k_at + (size_t)h * c->head_dim, cos_sin, GW_F32, want);
                    for (uint32_t d = 0; d < c->head_dim; d++)
                        assert_near(gw_f32_at(k, ops->kv, d), want[d], tolerance, "k", d);
                    for (uint32_t d = 0; d < c->head_dim; d++) {
                        float exact = seq.qkv[(size_t)position * row_floats(c) + v_at + h * c->head_dim + d];
                        if (c->bias) exact += bias_at(2, h * c->head_dim + d);
                        float stored = ops->kv == GW_BF16 ? gw_f32_of_bf16(gw_bf16_of_f32(exact)) : exact;
                        assert_true(gw_f32_at(v, ops->kv, d) == stored);
                    }
                }
            }
            pool_fini(&pool);
            free(seq.qkv), free(cos_sin), free(qkv), free(bias);
        }
    gw_device_destroy(dev);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rope_append_equals_float64_reference),
        cmocka_unit_test(test_rope_append_writes_its_positions_only),
        cmocka_unit_test(test_attention_c_equals_float64_reference),
        cmocka_unit_test(test_attention_variants_threads_and_chunks_give_the_same_bits),
        cmocka_unit_test(test_attention_in_a_batch_equals_alone),
    };
    return cmocka_run_group_tests_name("kernels_attention", tests, NULL, NULL);
}
