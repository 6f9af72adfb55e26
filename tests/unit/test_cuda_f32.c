/* CUDA's f32 operations on the host shim: products, attention over pages of f32 and int8, the digest and whole models (of int8
 * and fp8 weights, too) have the CPU's bits, whatever the shape, in one launch or several. */
#include "tests/lib/cuda_fixture.h"

#include "kernels/digest.h"
#include "tests/lib/engine_fixture.h"
#include "tests/lib/shim_device.h"

#define STEP_BYTES    8192
#define SCRATCH_BYTES 65536

/* What matrices and pages are kept as. */
struct form {
    enum gw_dtype weight, kv;
    const char *cpu; /* profile of the CPU's twin */
};

static const struct form plain = {GW_F32, GW_F32, "cpu-f32-2"};
static const struct form int8_pages = {GW_F32, GW_I8, "cpu-f32-kv8-1"};
static const struct form int8_weights = {GW_I8, GW_F32, "cpu-f32-int8-1"};
static const struct form fp8_weights = {GW_F8, GW_F32, "cpu-f32-fp8-1"};
static const struct form int8_both = {GW_I8, GW_I8, "cpu-f32-int8-kv8-1"};

static void open_device(struct shim_device *s, size_t step_bytes, size_t scratch_bytes,
                        const struct form *form)
{
    struct gw_err_ctx ctx = {0};
    memset(s, 0, sizeof *s);
    if (shim_device_open_as(s, step_bytes, scratch_bytes, GW_F32, form->weight, form->kv, &ctx) != GW_OK)
        fail_msg("%s", ctx.text);
}

/* ---- products ---- */

#define COUNT 3u

/* Around both shapes of tile, a piece of k (32), rows that are read 16 bytes at a time and not. */
static void check_products(struct gw_rng *r, struct shim_device *s, uint32_t m, uint32_t n, uint32_t k,
                           size_t gap, bool directed)
{
    const struct gw_ops *cpu = ops_c("cpu-f32-2");
    struct gw_weight w[COUNT], there[COUNT];
    uint32_t at[COUNT];
    size_t x_stride = COUNT * k + gap, y_stride = (size_t)COUNT * (n + 1);
    float *x = values_as(r, GW_F32, m * x_stride, directed);
    float *want = take_f32(m * y_stride), *got = take_f32(m * y_stride), *src[COUNT];
    memset(want, 0, m * y_stride * sizeof *want);
    memset(got, 0, m * y_stride * sizeof *got);
    for (uint32_t i = 0; i < COUNT; i++) {
        src[i] = values_as(r, GW_F32, (size_t)n * k, directed);
        w[i] = packed(cpu, src[i], n, k);
        there[i] = (struct gw_weight){n, k, take(s->ops->pack_bytes(n, k))};
        s->ops->pack(there[i].data, src[i], GW_F32, n, k, k);
        at[i] = i * (n + 1);
    }
    cpu->matmul(s->cpu, want, y_stride, x, x_stride, w, at, COUNT, m);
    s->ops->matmul(s->device, got, y_stride, x, x_stride, there, at, COUNT, m);
    assert_memory_equal(got, want, m * y_stride * sizeof *want);
    for (uint32_t row = 1; row < m; row++) memmove(x + row * COUNT * k, x + row * x_stride, COUNT * k * 4);
    cpu->matmul_shares(s->cpu, want, x, w, COUNT, m);
    s->ops->matmul_shares(s->device, got, x, there, COUNT, m);
    assert_memory_equal(got, want, (size_t)COUNT * m * n * sizeof *want);
    for (uint32_t i = 0; i < COUNT; i++) free(src[i]), free(w[i].data), free(there[i].data);
    free(x), free(want), free(got);
}

static void test_products_have_the_bits_of_the_cpu(void **state)
{
    (void)state;
    static const struct {
        uint32_t m, n, k;
        size_t gap;
    } sizes[] = {{1, 1, 1, 0},    {1, 33, 32, 0},  {4, 32, 128, 4},  {5, 40, 36, 0}, {16, 7, 33, 1},
                 {17, 65, 31, 0}, {64, 64, 64, 0}, {65, 66, 100, 8}, {130, 3, 5, 0}};
    struct shim_device s;
    struct gw_rng r = seeded_rng(__func__);
    gw_device_enter_thread();
    open_device(&s, STEP_BYTES, SCRATCH_BYTES, &plain);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int directed = 0; directed <= 1; directed++)
            check_products(&r, &s, sizes[i].m, sizes[i].n, sizes[i].k, sizes[i].gap, directed);
    shim_device_end(&s);
}

/* ---- attention ---- */

#define SEQS       3
#define BLOCK      16u
#define BLOCKS_MAX 40u

struct shape {
    uint32_t head_dim, heads, kv_heads, window, query_group, query_shift;
    uint32_t position[SEQS], rows[SEQS];
};

/* GQA groups of 1, 4, 8 and cut ones; rows of few and many; lengths on both sides of tiles and chunks, windows across them. */
static const struct shape shapes[] = {
    {64, 4, 4, 0, 0, 0, {0, 255, 256}, {1, 1, 1}},   {128, 8, 2, 0, 0, 0, {0, 31, 500}, {40, 2, 3}},
    {40, 8, 1, 33, 0, 0, {0, 100, 300}, {20, 1, 2}}, {256, 2, 1, 0, 0, 0, {5, 0, 255}, {3, 1, 2}},
    {8, 5, 2, 270, 4, 1, {520, 3, 250}, {2, 7, 30}}, {24, 3, 3, 1, 0, 0, {0, 17, 256}, {9, 1, 1}},
};

/* One side's: pages, and the rows that it works on. */
struct half {
    uint8_t *arenas[8];
    float *qkv, *out;
};

struct scene {
    const struct shape *shape;
    enum gw_dtype kv_type;
    struct gw_kv_layer kv;
    size_t stride, page_bytes;
    uint32_t rows;
    uint32_t blocks[SEQS][BLOCKS_MAX];
    struct gw_seq_rows seqs[SEQS];
    float *cos_sin;
    struct half cpu, there;
};

static void open_half(struct scene *c, struct half *h, const float *qkv)
{
    for (uint32_t i = 0; i < c->shape->kv_heads; i++) {
        h->arenas[i] = take(c->page_bytes * SEQS * BLOCKS_MAX);
        memset(h->arenas[i], 0xFF, c->page_bytes * SEQS * BLOCKS_MAX); /* NaN: not to be read */
    }
    h->qkv = copy_of(qkv, c->rows * c->stride * sizeof *qkv);
    h->out = take_f32((size_t)c->rows * c->shape->heads * c->shape->head_dim);
}

static void close_half(const struct scene *c, struct half *h)
{
    for (uint32_t i = 0; i < c->shape->kv_heads; i++) free(h->arenas[i]);
    free(h->qkv), free(h->out);
}

static void open_scene(struct scene *c, struct gw_rng *r, const struct shape *shape, enum gw_dtype kv_type)
{
    uint32_t *slots = distinct(r, SEQS * BLOCKS_MAX, SEQS * BLOCKS_MAX);
    *c = (struct scene){.shape = shape, .kv_type = kv_type};
    c->page_bytes = 2 * gw_kv_bytes(kv_type, shape->head_dim, BLOCK);
    c->stride = (size_t)(shape->heads + 2 * shape->kv_heads) * shape->head_dim;
    c->kv = (struct gw_kv_layer){.page_bytes = c->page_bytes,
                                 .cells = shape->kv_heads,
                                 .heads_per_cell = 1,
                                 .head_dim = shape->head_dim,
                                 .block_tokens = BLOCK,
                                 .window = shape->window,
                                 .query_group = shape->query_group,
                                 .query_shift = shape->query_shift};
    for (uint32_t i = 0; i < SEQS; i++) {
        memcpy(c->blocks[i], slots + i * BLOCKS_MAX, sizeof c->blocks[i]);
        c->seqs[i] = (struct gw_seq_rows){c->rows, shape->rows[i], shape->position[i], c->blocks[i]};
        c->rows += shape->rows[i];
    }
    c->cos_sin = values_as(r, GW_F32, (size_t)BLOCKS_MAX * BLOCK * shape->head_dim, false);
    float *qkv = values_as(r, GW_F32, c->rows * c->stride, false);
    open_half(c, &c->cpu, qkv);
    open_half(c, &c->there, qkv);
    free(qkv), free(slots);
}

static void close_scene(struct scene *c)
{
    close_half(c, &c->cpu);
    close_half(c, &c->there);
    free(c->cos_sin);
}

/* K and V of the positions before those of the step, on both sides. */
static void fill_past(struct scene *c, struct gw_rng *r, const struct gw_ops *cpu, struct gw_device *dev)
{
    for (uint32_t i = 0; i < SEQS; i++) {
        struct gw_seq_rows past = {0, c->seqs[i].position, 0, c->blocks[i]};
        if (past.rows == 0) continue;
        float *qkv = values_as(r, GW_F32, past.rows * c->stride, false);
        size_t k_at = (size_t)c->shape->heads * c->shape->head_dim;
        c->kv.arena = c->cpu.arenas;
        cpu->rope_append(dev, qkv, c->stride, 0, k_at, k_at + (size_t)c->shape->kv_heads * c->shape->head_dim,
                         c->shape->heads, NULL, &c->kv, c->cos_sin, &past, 1);
        free(qkv);
    }
    for (uint32_t i = 0; i < c->shape->kv_heads; i++)
        memcpy(c->there.arenas[i], c->cpu.arenas[i], c->page_bytes * SEQS * BLOCKS_MAX);
}

static void run_half(struct scene *c, struct half *h, const struct gw_ops *ops, struct gw_device *dev)
{
    const struct shape *z = c->shape;
    size_t k_at = (size_t)z->heads * z->head_dim, v_at = k_at + (size_t)z->kv_heads * z->head_dim;
    c->kv.arena = h->arenas;
    ops->rope_append(dev, h->qkv, c->stride, 0, k_at, v_at, z->heads, NULL, &c->kv, c->cos_sin, c->seqs,
                     SEQS);
    ops->attention(dev, h->out, h->qkv, c->stride, 0, z->heads, &c->kv, 0.3f, c->seqs, SEQS);
}

static void check_attention(struct gw_rng *r, struct shim_device *s, const struct shape *shape,
                            const struct form *form)
{
    const struct gw_ops *cpu = ops_c(form->cpu);
    struct scene c;
    open_scene(&c, r, shape, form->kv);
    fill_past(&c, r, cpu, s->cpu);
    run_half(&c, &c.cpu, cpu, s->cpu);
    run_half(&c, &c.there, s->ops, s->device);
    for (uint32_t i = 0; i < shape->kv_heads; i++)
        assert_memory_equal(c.there.arenas[i], c.cpu.arenas[i], c.page_bytes * SEQS * BLOCKS_MAX);
    assert_memory_equal(c.there.out, c.cpu.out,
                        (size_t)c.rows * shape->heads * shape->head_dim * sizeof(float));
    close_scene(&c);
}

/* With room for the parts of all sequences, of one at a time, of none: then a block walks all chunks. */
static void check_all_shapes(const char *test, const struct form *form)
{
    static const size_t scratches[] = {1 << 20, SCRATCH_BYTES, 4096};
    struct gw_rng r = seeded_rng(test);
    gw_device_enter_thread();
    for (size_t k = 0; k < sizeof scratches / sizeof *scratches; k++) {
        struct shim_device s;
        open_device(&s, STEP_BYTES, scratches[k], form);
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) check_attention(&r, &s, &shapes[i], form);
        shim_device_end(&s);
    }
}

static void test_attention_over_f32_has_the_bits_of_the_cpu(void **state)
{
    (void)state;
    check_all_shapes(__func__, &plain);
}

static void test_attention_over_int8_has_the_bits_of_the_cpu(void **state)
{
    (void)state;
    check_all_shapes(__func__, &int8_pages);
}

/* ---- all of it ---- */

/* Under the CPU's name, for that is a part of it. */
static void check_digest(const struct form *form, const char *name)
{
    uint8_t want[32], got[32];
    struct shim_device s;
    struct gw_device *cpu = device_with(1);
    open_device(&s, 0, 0, form);
    assert_string_equal(s.ops->profile, name);
    assert_int_equal(gw_ops_digest(ops_c(form->cpu), cpu, want), GW_OK);
    struct gw_ops named = *s.ops;
    named.profile = form->cpu;
    assert_int_equal(gw_ops_digest(&named, s.device, got), GW_OK);
    assert_memory_equal(got, want, sizeof want);
    gw_device_destroy(cpu);
    shim_device_end(&s);
}

static void test_digest_is_that_of_the_cpu(void **state)
{
    (void)state;
    check_digest(&plain, "cuda-shim-exact-f32-1");
    check_digest(&int8_pages, "cuda-shim-exact-f32-kv8-1");
    check_digest(&int8_weights, "cuda-shim-exact-f32-int8-1");
    check_digest(&int8_both, "cuda-shim-exact-f32-int8-kv8-1");
    check_digest(&fp8_weights, "cuda-shim-exact-f32-fp8-1");
}

#define PROMPT 19
#define TOKENS 3

static void run_model(struct fixture *f, const char *model, struct solo_config c)
{
    uint32_t ids[PROMPT];
    c.kv_tokens = 512;
    c.max_batch_tokens = 64;
    c.max_sequences = 8;
    fixture_open(f, model, c);
    for (uint64_t id = 1; id <= 2; id++) {
        for (uint32_t i = 0; i < PROMPT; i++) ids[i] = (uint32_t)(id * 131 + i * 37) % f->model->config.vocab;
        struct gw_request q = fixture_request(id, ids, (uint32_t)(PROMPT - id), TOKENS);
        fixture_submit(f, &q, 1, NULL, NULL);
    }
    fixture_drain(f);
}

/* Logits, too; steps behind the second as graphs. */
static void check_model(const char *model, const struct form *form)
{
    struct fixture want, got;
    struct shim_device s;
    struct solo_config on_cpu = fixture_config(), on_gpu = fixture_config();
    on_cpu.profile = form->cpu;
    run_model(&want, model, on_cpu);
    open_device(&s, 1 << 16, 1 << 20, form);
    on_gpu.ops = s.ops;
    on_gpu.device = s.device;
    run_model(&got, model, on_gpu);
    for (uint32_t i = 0; i < 2; i++) {
        assert_int_equal(got.runs[i].request, want.runs[i].request);
        fixture_expect_same(&want.runs[i].branches[0], &got.runs[i].branches[0], 0, 0);
    }
    fixture_close(&want);
    fixture_close(&got);
    shim_device_end(&s);
}

static void test_models_of_f32_and_f16_have_the_bits_of_the_cpu(void **state)
{
    (void)state;
    check_model("tests/data/tiny/mha64", &plain);
    check_model("tests/data/tiny/mqa64", &plain);
    check_model("tests/data/tiny/mha64", &int8_pages);
    check_model("tests/data/tiny/mha64", &int8_weights);
    check_model("tests/data/tiny/mha64", &fp8_weights);
}

static void test_experts_of_f32_have_the_bits_of_the_cpu(void **state)
{
    (void)state;
    check_model("tests/data/tiny/qwen3moe_raw", &plain);
    check_model("tests/data/tiny/qwen3moe_raw", &int8_weights);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_products_have_the_bits_of_the_cpu),
        cmocka_unit_test(test_attention_over_f32_has_the_bits_of_the_cpu),
        cmocka_unit_test(test_attention_over_int8_has_the_bits_of_the_cpu),
        cmocka_unit_test(test_digest_is_that_of_the_cpu),
        cmocka_unit_test(test_models_of_f32_and_f16_have_the_bits_of_the_cpu),
        cmocka_unit_test(test_experts_of_f32_have_the_bits_of_the_cpu),
    };
    return cmocka_run_group_tests_name("cuda_f32", tests, NULL, NULL);
}
