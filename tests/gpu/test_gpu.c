/* The worker's engine and the table of operations on a GPU, by the library that a worker loads: what the host shim shows of them in
 * the unit tests, and what it cannot show, on hardware.
 *
 *     test_gpu VERSION cuda:N      on that GPU; "no GPU: skipped", and success, where there is none
 *     test_gpu VERSION cpu         the same checks on the CPU's own table: are they right?
 *
 * With weights and KV of bf16 all of it, then what their formats have a part in with int8.
 *
 * `make test-gpu` runs it, and again under compute-sanitizer where that is installed. */
#include "tests/lib/mixed_requests.h"

#include <math.h>
#include <stdio.h>

#include "migrate/profile.h"
#include "kernels/cuda/coll_nccl.h"
#include "kernels/cuda/copy_ring.h"
#include "kernels/device_backend.h"
#include "kernels/digest.h"
#include "tests/gpu/gpu_f32.h"
#include "tests/gpu/gpu_int8.h"
#include "tests/lib/kernels_fixture.h"
#include "tests/lib/pipeline_fixture.h"
#include "worker/device.h"

#define SEED     23
#define REQUESTS 12
#define POOL     (MIXED_PROMPT_MAX + MIXED_NEW_MAX)
#define NEAR     3e-2 /* of the largest logit, as in test_cuda_engine.c */
/* Where activations are quantized a last bit that differs may become a step of 1/127 of the row's largest: 5.5e-2 on the host shim. */
#define NEAR_INT8 1.5e-1

static struct gw_worker_device gpu;
static struct gw_worker_device_config gpu_config;

/* Of bf16, one for each kind of layer; of formats the first FORMAT_MODELS are tried. */
static const char *const models[] = {
    "tests/data/tiny/gqa64",  "tests/data/tiny/mistral", "tests/data/tiny/qwen3moe",
    "tests/data/tiny/gqa128", "tests/data/tiny/mqa128",  "tests/data/tiny/qwen2",
    "tests/data/tiny/qwen3",  "tests/data/tiny/yarn",    "tests/data/tiny/mixtral"};
#define MODELS        (sizeof models / sizeof *models)
#define FORMAT_MODELS 3

/* What weights and KV pages are kept as, and the CPU's profile of the same. */
static const struct format {
    const char *name, *cpu;
    enum gw_weight_format weights;
    enum gw_kv_format kv;
    size_t models;
    double near;
} formats[] = {
    {"gpu", GW_PROFILE_CPU_BF16, GW_WEIGHT_FILE, GW_KV_FILE, MODELS, NEAR},
    {"gpu_int8", GW_PROFILE_CPU_BF16_INT8, GW_WEIGHT_INT8, GW_KV_FILE, FORMAT_MODELS, NEAR_INT8},
    {"gpu_fp8", GW_PROFILE_CPU_BF16_FP8, GW_WEIGHT_FP8, GW_KV_FILE, FORMAT_MODELS, NEAR},
    {"gpu_kv8", GW_PROFILE_CPU_BF16_KV8, GW_WEIGHT_FILE, GW_KV_INT8, FORMAT_MODELS, NEAR},
    {"gpu_int8_kv8", GW_PROFILE_CPU_BF16_INT8_KV8, GW_WEIGHT_INT8, GW_KV_INT8, FORMAT_MODELS, NEAR_INT8}};
static const struct format *format; /* of gpu */

static struct solo_config on_gpu(void)
{
    struct solo_config c = fixture_config();
    c.ops = gpu.ops;
    c.device = gpu.device;
    c.poison = false;
    return c;
}

/* ---- whole models ---- */

static void submit_all(struct fixture *f)
{
    for (uint32_t i = 0; i < REQUESTS; i++) {
        struct gw_request q = mixed_request(SEED, i, f->model->config.vocab);
        fixture_submit(f, &q, 1, NULL, NULL);
    }
}

static void open_alone(struct fixture *f, const char *model)
{
    fixture_open(f, model, on_gpu());
    for (uint32_t i = 0; i < REQUESTS; i++) {
        struct gw_request q = mixed_request(SEED, i, f->model->config.vocab);
        fixture_submit(f, &q, 1, NULL, NULL);
        fixture_drain(f);
    }
}

static void expect_as_alone(const struct fixture *want, const char *model, struct solo_config config)
{
    struct fixture f;
    fixture_open(&f, model, config);
    submit_all(&f);
    fixture_drain(&f);
    for (uint32_t i = 0; i < REQUESTS; i++)
        fixture_expect_same(&want->runs[i].branches[0], &fixture_run_of(&f, i + 1)->branches[0], 0,
                            mixed_top_n(SEED, i, f.model->config.vocab));
    fixture_close(&f);
}

/* In batches, in chunks of any size, after preemption: the same bits. */
static void test_requests_depend_on_nothing_but_themselves(void **state)
{
    static const uint32_t chunks[] = {0, 1, 7, 64};
    (void)state;
    for (size_t m = 0; m < format->models; m++) {
        struct fixture want;
        struct solo_config c = on_gpu();
        open_alone(&want, models[m]);
        for (size_t i = 0; i < sizeof chunks / sizeof *chunks; i++) {
            c.max_chunk = chunks[i];
            expect_as_alone(&want, models[m], c);
        }
        c = on_gpu();
        c.kv_tokens = POOL;
        expect_as_alone(&want, models[m], c);
        fixture_close(&want);
        printf("# %s\n", models[m]);
    }
}

/* Steps of decoding as graphs, and operation by operation: the same bits. */
static void test_graphs_give_the_bits_of_plain_steps(void **state)
{
    struct gw_worker_device other;
    struct gw_worker_device_config config = gpu_config;
    struct gw_err_ctx ctx = {0};
    (void)state;
    config.graphs = false;
    if (gw_worker_device_open(&config, &other, &ctx) != GW_OK) fail_msg("%s", ctx.text);
    for (size_t m = 0; m < format->models; m++) {
        struct fixture want, got;
        struct solo_config c = on_gpu();
        c.ops = other.ops;
        c.device = other.device;
        fixture_open(&want, models[m], c);
        fixture_open(&got, models[m], on_gpu());
        submit_all(&want);
        submit_all(&got);
        fixture_drain(&want);
        fixture_drain(&got);
        for (uint32_t i = 0; i < REQUESTS; i++)
            fixture_expect_same(&fixture_run_of(&want, i + 1)->branches[0],
                                &fixture_run_of(&got, i + 1)->branches[0], 0,
                                mixed_top_n(SEED, i, want.model->config.vocab));
        const struct gw_graph_counts n = gw_rank_graphs(got.solo.rank);
        printf("# %s: %u steps plain, %u recorded, %u replayed, %u failed\n", models[m], n.plain, n.recorded,
               n.replayed, n.failed);
        bool experts = strstr(models[m], "moe") || strstr(models[m], "mixtral");
        assert_int_equal(gw_rank_graphs(want.solo.rank).recorded, 0);
        assert_int_equal(n.failed, 0);
        assert_int_equal(n.replayed > 0, gpu.gpu.device && !experts);
        fixture_close(&got);
        fixture_close(&want);
    }
    gw_worker_device_close(&other);
}

/* The logits behind the longest prompt. */
static float *logits_of(const char *model, struct solo_config c)
{
    struct fixture f;
    fixture_open(&f, model, c);
    struct gw_request q = mixed_request(SEED, 0, f.model->config.vocab);
    q.sampling.max_tokens = 1;
    fixture_submit(&f, &q, 1, NULL, NULL);
    fixture_drain(&f);
    float *row = malloc(f.model->config.vocab * sizeof *row);
    assert_non_null(row);
    memcpy(row, f.last_row, f.model->config.vocab * sizeof *row);
    fixture_close(&f);
    return row;
}

/* profile: of the CPU, with these formats. */
static void expect_near(const char *name, const char *profile, struct solo_config c)
{
    struct gw_model *model;
    double scale = 0, worst = 0;
    assert_int_equal(gw_model_open(name, &model, NULL), GW_OK);
    struct solo_config cpu = fixture_config();
    cpu.profile = profile;
    float *want = logits_of(name, cpu), *got = logits_of(name, c);
    for (uint32_t i = 0; i < model->config.vocab; i++) {
        scale = fmax(scale, fabs((double)want[i]));
        worst = fmax(worst, fabs((double)want[i] - (double)got[i]));
    }
    printf("# %s: %.2g of the largest logit\n", name, worst / scale);
    if (!(worst <= format->near * scale)) fail_msg("%s: off by %g of %g", name, worst, scale);
    free(want), free(got);
    gw_model_close(model);
}

static void test_logits_are_near_to_the_cpu(void **state)
{
    (void)state;
    for (size_t m = 0; m < format->models; m++) expect_near(models[m], format->cpu, on_gpu());
}

static void expect_fast_near(bool f32, const char *const *names, size_t len, const char *profile)
{
    struct gw_worker_device fast;
    struct gw_worker_device_config config = gpu_config;
    struct gw_err_ctx ctx = {0};
    config.f32 = f32;
    config.fast = true;
    config.fast_rows = 1;
    if (gw_worker_device_open(&config, &fast, &ctx) != GW_OK) {
        printf("# %s\n", ctx.text);
        skip();
    }
    printf("# %s\n", fast.ops->profile);
    for (size_t m = 0; m < len; m++) {
        struct solo_config c = on_gpu();
        c.ops = fast.ops;
        c.device = fast.device;
        expect_near(names[m], profile, c);
    }
    gw_worker_device_close(&fast);
}

/* The fast profile, where cuBLASLt is: every product of it, near to the CPU. */
static void test_fast_logits_are_near_to_the_cpu(void **state)
{
    static const char *const of_f32[] = {"tests/data/tiny/mha64", "tests/data/tiny/mqa64"};
    (void)state;
    if (!gpu.gpu.device) skip();
    expect_fast_near(false, models, format->models, format->cpu);
    expect_fast_near(true, of_f32, sizeof of_f32 / sizeof *of_f32, GW_PROFILE_CPU_F32);
}

/* ---- operations ---- */

/* x[m, k] on the device, and a place for what comes of it. */
struct rows {
    struct gw_memory x, y;
    float *values;
};

static struct rows rows_of(struct gw_rng *r, size_t x_len, size_t y_bytes)
{
    struct rows o = {.values = values_as(r, GW_F32, x_len, true)};
    assert_int_equal(gw_memory_alloc(gpu.device, x_len * 4, GW_MEMORY_DEVICE, &o.x, NULL), GW_OK);
    assert_int_equal(gw_memory_alloc(gpu.device, y_bytes, GW_MEMORY_MIRRORED, &o.y, NULL), GW_OK);
    gw_memory_put(gpu.device, o.x.device, o.values, x_len * 4);
    return o;
}

static void expect_rows(struct rows *o, const void *want, size_t bytes, const char *what)
{
    struct gw_err_ctx ctx = {0};
    gw_memory_get(gpu.device, o->y.host, o->y.device, bytes);
    if (gw_device_finish(gpu.device, &ctx) != GW_OK) fail_msg("%s: %s", what, ctx.text);
    assert_same_bits(o->y.host, want, bytes, what);
    gw_memory_free(&o->x);
    gw_memory_free(&o->y);
    free(o->values);
}

/* What is not a tensor core's has the CPU's bits: norms, gates, trees. */
static void test_row_operations_equal_the_cpu(void **state)
{
    static const uint32_t lengths[] = {8, 64, 1000, 4096};
    enum { M = 5, SHARES = 7 };
    (void)state;
    struct gw_rng r = seeded_rng(__func__);
    const struct gw_ops *cpu = ops_best("cpu-bf16dot-2");
    struct gw_device *dev = gw_device_host(gpu.device);
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        uint32_t k = lengths[i];
        void *want = take((size_t)M * k * 4);
        struct rows o = rows_of(&r, (size_t)(M + 1) * k, (size_t)M * k * 2);
        cpu->rmsnorm(dev, want, o.values, o.values + (size_t)M * k, 1e-5f, M, k);
        gpu.ops->rmsnorm(gpu.device, o.y.device, o.x.device, (float *)o.x.device + (size_t)M * k, 1e-5f, M,
                         k);
        expect_rows(&o, want, (size_t)M * k * 2, "rmsnorm");
        o = rows_of(&r, (size_t)M * 2 * k, (size_t)M * k * 2);
        cpu->silu_mul(dev, want, o.values, M, 1, k);
        gpu.ops->silu_mul(gpu.device, o.y.device, o.x.device, M, 1, k);
        expect_rows(&o, want, (size_t)M * k * 2, "silu_mul");
        o = rows_of(&r, (size_t)SHARES * k, (size_t)k * 4);
        memset(want, 0, k * 4);
        cpu->tree_add(dev, want, o.values, SHARES, k);
        gw_memory_fill(gpu.device, o.y.device, 0, (size_t)k * 4);
        gpu.ops->tree_add(gpu.device, o.y.device, o.x.device, SHARES, k);
        expect_rows(&o, want, (size_t)k * 4, "tree_add");
        free(want);
    }
}

/* A row of a product is the same alone and in a batch of any size, and near to double. */
static void test_product_of_a_row_is_the_same_in_any_batch(void **state)
{
    static const uint32_t batches[] = {1, 16, 17, 64, 65, 200};
    enum { N = 136, K = 712, M = 200 };
    (void)state;
    struct gw_rng r = seeded_rng(__func__);
    struct gw_memory w, x, y;
    struct gw_err_ctx ctx = {0};
    size_t w_bytes = gpu.ops->pack_bytes(N, K);
    uint16_t *w_src = values_as(&r, GW_BF16, (size_t)N * K, false);
    uint16_t *x_src = values_as(&r, GW_BF16, (size_t)M * K, false);
    float *alone = take_f32((size_t)M * N);
    assert_int_equal(gw_memory_alloc(gpu.device, w_bytes, GW_MEMORY_MIRRORED, &w, NULL), GW_OK);
    assert_int_equal(gw_memory_alloc(gpu.device, (size_t)M * K * 2, GW_MEMORY_DEVICE, &x, NULL), GW_OK);
    assert_int_equal(gw_memory_alloc(gpu.device, (size_t)M * N * 4, GW_MEMORY_MIRRORED, &y, NULL), GW_OK);
    gpu.ops->pack(w.host, w_src, GW_BF16, N, K, K);
    gw_memory_put(gpu.device, w.device, w.host, w_bytes);
    gw_memory_put(gpu.device, x.device, x_src, (size_t)M * K * 2);
    const struct gw_weight weight = {N, K, w.device};
    for (uint32_t row = 0; row < M; row++)
        gpu.ops->matmul(gpu.device, (float *)y.device + (size_t)row * N, N,
                        (uint16_t *)x.device + (size_t)row * K, K, &weight, &(uint32_t){0}, 1, 1);
    gw_memory_get(gpu.device, alone, y.device, (size_t)M * N * 4);
    for (uint32_t row = 0; row < M; row++)
        for (uint32_t n = 0; n < N; n++) {
            double want = 0;
            for (uint32_t k = 0; k < K; k++)
                want += (double)gw_f32_of_bf16(x_src[(size_t)row * K + k]) *
                        (double)gw_f32_of_bf16(w_src[(size_t)n * K + k]);
            assert_near(alone[(size_t)row * N + n], want, 1e-3, "product", n);
        }
    for (size_t i = 0; i < sizeof batches / sizeof *batches; i++) {
        size_t bytes = (size_t)batches[i] * N * 4;
        gpu.ops->matmul(gpu.device, y.device, N, x.device, K, &weight, &(uint32_t){0}, 1, batches[i]);
        gw_memory_get(gpu.device, y.host, y.device, bytes);
        if (gw_device_finish(gpu.device, &ctx) != GW_OK) fail_msg("%s", ctx.text);
        assert_same_bits(y.host, alone, bytes, "a batch");
    }
    gw_memory_free(&w);
    gw_memory_free(&x);
    gw_memory_free(&y);
    free(w_src), free(x_src), free(alone);
}

static void test_int8_products_equal_the_cpu(void **state)
{
    (void)state;
    gpu_check_int8_products(&gpu);
}

static void test_int8_pages_equal_the_cpu(void **state)
{
    (void)state;
    gpu_check_int8_pages(&gpu);
}

/* ---- what is drawn ---- */

/* Where nobody looks at logit rows, the device picks from them: the tokens and logprobs of whole rows, drawn by the host. */
static void test_tokens_picked_on_the_device_are_those_of_whole_rows(void **state)
{
    struct fixture want, got;
    (void)state;
    open_alone(&want, models[0]);
    fixture_open_blind(&got, models[0], on_gpu());
    submit_all(&got);
    fixture_drain(&got);
    for (uint32_t i = 0; i < REQUESTS; i++) {
        const struct fixture_branch *x = &want.runs[i].branches[0];
        const struct fixture_branch *y = &fixture_run_of(&got, i + 1)->branches[0];
        assert_int_equal(x->len, y->len);
        for (uint32_t t = 0; t < x->len; t++) {
            assert_int_equal(x->records[t].id, y->records[t].id);
            assert_memory_equal(&x->records[t].logprob, &y->records[t].logprob, sizeof(float));
            assert_memory_equal(x->records[t].top, y->records[t].top, sizeof x->records[t].top);
        }
    }
    fixture_close(&got);
    fixture_close(&want);
}

/* ---- several ranks ---- */

static gw_err_t open_rank(struct rank_thread *t, struct gw_err_ctx *ctx)
{
    struct gw_worker_device *d = calloc(1, sizeof *d);
    if (!d) return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    t->below = d;
    TRY(gw_worker_device_open(&gpu_config, d, ctx));
    t->device = d->device;
    t->ops = d->ops;
    return GW_OK;
}

static void close_rank(struct rank_thread *t)
{
    if (t->below) gw_worker_device_close(t->below);
    free(t->below);
}

/* Two ranks of a stage on the one GPU: their sums go through pinned memory, and give the bits of one rank. */
static void test_two_ranks_on_one_device_give_the_bits_of_one(void **state)
{
    static const char *const some[] = {"tests/data/tiny/gqa64", "tests/data/tiny/qwen3moe"};
    (void)state;
    for (size_t m = 0; m < sizeof some / sizeof *some; m++) {
        struct rank_threads a = {.open = open_rank, .close = close_rank};
        struct fixture want, f;
        struct solo_config c = fixture_config();
        open_alone(&want, some[m]);
        c.poison = false;
        c.sink.logits = fixture_logits;
        pipeline_start(&a, &f, want.model, "4+4", c, false);
        submit_all(&f);
        fixture_drain(&f);
        for (uint32_t i = 0; i < REQUESTS; i++)
            fixture_expect_same(&want.runs[i].branches[0], &fixture_run_of(&f, i + 1)->branches[0], 0,
                                mixed_top_n(SEED, i, f.model->config.vocab));
        pipeline_close(&a, &f);
        fixture_close(&want);
    }
}

/* A group of one: NCCL is loaded, connects, and ends in peace; the device adds the shares as the CPU does. */
static void test_one_rank_of_nccl_connects_and_adds(void **state)
{
    enum { SHARES = 8, ELEMS = 5000 };
    static const uint16_t cuts[] = {0, SHARES};
    const struct gw_device_backend *backend = gw_device_backend(gpu.device);
    struct gw_coll_device *coll;
    struct gw_device_lane lane;
    struct gw_nccl nccl;
    struct gw_err_ctx ctx = {0};
    (void)state;
    if (!backend) skip();
    if (gw_nccl_open(NULL, &nccl, &ctx) != GW_OK) {
        printf("# %s\n", ctx.text);
        skip();
    }
    backend->lane(gpu.device, &lane);
    struct gw_coll_nccl_config config = {.group = {.term = 1,
                                                   .generation = 1,
                                                   .ranks = 1,
                                                   .stage_ranks = 1,
                                                   .shares = SHARES,
                                                   .share_at = cuts,
                                                   .max_elems = ELEMS,
                                                   .deadline_us = 60000000,
                                                   .ops = lane.ops,
                                                   .device = lane.self,
                                                   .stream = lane.stream},
                                         .nccl = &nccl,
                                         .init_us = 60000000};
    assert_int_equal(gw_nccl_make_id(&nccl, &config.id, &ctx), GW_OK);
    if (gw_coll_nccl_create(&config, &coll, &ctx) != GW_OK) fail_msg("%s", ctx.text);
    struct gw_rng r = seeded_rng(__func__);
    struct rows o = rows_of(&r, (size_t)SHARES * ELEMS, ELEMS * 4);
    float *want = take_f32(ELEMS);
    memset(want, 0, ELEMS * sizeof *want);
    ops_best("cpu-bf16dot-2")->tree_add(gw_device_host(gpu.device), want, o.values, SHARES, ELEMS);
    gw_coll_device_begin(coll, 1);
    gw_memory_move(gpu.device, gw_coll_device_partials(coll), o.x.device, (size_t)SHARES * ELEMS * 4);
    gw_memory_fill(gpu.device, o.y.device, 0, ELEMS * 4);
    assert_int_equal(gw_coll_device_tree_add(coll, o.y.device, ELEMS, &ctx), GW_OK);
    if (gw_coll_device_finish(coll, &ctx) != GW_OK) fail_msg("%s", ctx.text);
    expect_rows(&o, want, ELEMS * 4, "sums of one rank");
    assert_true(gw_coll_device_destroy(coll));
    gw_nccl_close(&nccl);
    free(want);
}

/* ---- pages ---- */

static void pull(struct gw_page_pool *pool, uint32_t slot)
{
    struct gw_copy_ring *ring = gw_page_pool_ring(pool);
    enum gw_copy_state state;
    uint32_t mark, buffer;
    assert_int_equal(gw_copy_ring_mark(ring, &mark, NULL), GW_OK);
    assert_int_equal(gw_page_pool_begin_pull(pool, mark, slot, &buffer, NULL), GW_OK);
    while ((state = gw_copy_ring_look(ring, buffer)) == GW_COPY_BUSY) continue;
    assert_int_equal(state, GW_COPY_DONE);
    gw_page_pool_land(pool, slot, buffer);
    gw_copy_ring_release(ring, buffer);
}

/* Out of the device and back into another slot, by the host's side. */
static void test_pages_out_and_back_are_the_same(void **state)
{
    (void)state;
    struct gw_model *model;
    struct gw_page_pool *pool;
    uint32_t bytes;
    assert_int_equal(gw_model_open(models[0], &model, NULL), GW_OK);
    assert_int_equal(gw_page_pool_create_on(gpu.device, &model->config, &model->cells,
                                            gw_cells_all(&model->cells), GW_BF16, 4, false, &pool, NULL),
                     GW_OK);
    for (uint32_t i = 0; i < gw_page_pool_pages(pool); i++)
        memset(gw_page_pool_page(pool, 1, i, &bytes), (int)(i + 3),
               gw_page_pool_page(pool, 1, i, &bytes) ? bytes : 0);
    assert_int_equal(gw_page_pool_push(pool, 1, NULL), GW_OK);
    gw_page_pool_copy(pool, 1, 3);
    pull(pool, 3);
    for (uint32_t i = 0; i < gw_page_pool_pages(pool); i++) {
        const uint8_t *want = gw_page_pool_page(pool, 1, i, &bytes);
        assert_memory_equal(gw_page_pool_page(pool, 3, i, &bytes), want, bytes);
    }
    gw_page_pool_destroy(pool);
    gw_model_close(model);
}

/* Another digest would be another profile, and a device that does not agree with itself. */
static void test_digest_is_the_same_each_time(void **state)
{
    uint8_t again[GW_DIGEST_BYTES];
    char name[GW_WIRE_NAME_MAX + 1];
    struct gw_ops table = *gpu.ops;
    (void)state;
    if (gpu.gpu.device) table.profile = gpu.gpu.ops->profile;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(gw_ops_digest(&table, gpu.device, again), GW_OK);
        assert_memory_equal(again, gpu.digest, sizeof again);
    }
    gw_profile_name(table.profile, again, name, sizeof name);
    printf("# %s: %s\n", gpu.about, name);
}

static void test_f32_has_the_bits_of_the_cpu(void **state)
{
    (void)state;
    gpu_check_f32_digest(&gpu_config, GW_WEIGHT_FILE, GW_KV_FILE, GW_PROFILE_CPU_F32);
    gpu_check_f32_digest(&gpu_config, GW_WEIGHT_FILE, GW_KV_INT8, GW_PROFILE_CPU_F32_KV8);
    gpu_check_f32_digest(&gpu_config, GW_WEIGHT_INT8, GW_KV_FILE, GW_PROFILE_CPU_F32_INT8);
    gpu_check_f32_digest(&gpu_config, GW_WEIGHT_INT8, GW_KV_INT8, GW_PROFILE_CPU_F32_INT8_KV8);
    gpu_check_f32_digest(&gpu_config, GW_WEIGHT_FP8, GW_KV_FILE, GW_PROFILE_CPU_F32_FP8);
}

/* 0, -1: there is no GPU, 1: it cannot be used. */
static int open_device(const char *version, const char *device)
{
    struct gw_err_ctx ctx = {0};
    static const struct gw_log log = {.level = GW_LOG_NONE};
    gpu_config = (struct gw_worker_device_config){.cuda = strcmp(device, "cpu") == 0 ? -1 : atoi(device + 5),
                                                  .version = version,
                                                  .profile = format->cpu,
                                                  .weights = format->weights,
                                                  .kv = format->kv,
                                                  .threads = 2,
                                                  .graphs = true,
                                                  .step_timeout_us = 60000000,
                                                  .log = &log};
    gw_err_t err = gw_worker_device_open(&gpu_config, &gpu, &ctx);
    if (err == GW_OK) return 0;
    printf(err == GW_ERR_NOT_FOUND ? "# no GPU: skipped (%s)\n" : "# %s\n", ctx.text);
    gw_worker_device_close(&gpu);
    return err == GW_ERR_NOT_FOUND ? -1 : 1;
}

/* How many tests failed. */
static int run_format(void)
{
    const struct CMUnitTest all[] = {
        cmocka_unit_test(test_row_operations_equal_the_cpu),
        cmocka_unit_test(test_product_of_a_row_is_the_same_in_any_batch),
        cmocka_unit_test(test_digest_is_the_same_each_time),
        cmocka_unit_test(test_f32_has_the_bits_of_the_cpu),
        cmocka_unit_test(test_pages_out_and_back_are_the_same),
        cmocka_unit_test(test_logits_are_near_to_the_cpu),
        cmocka_unit_test(test_fast_logits_are_near_to_the_cpu),
        cmocka_unit_test(test_graphs_give_the_bits_of_plain_steps),
        cmocka_unit_test(test_tokens_picked_on_the_device_are_those_of_whole_rows),
        cmocka_unit_test(test_two_ranks_on_one_device_give_the_bits_of_one),
        cmocka_unit_test(test_one_rank_of_nccl_connects_and_adds),
        cmocka_unit_test(test_requests_depend_on_nothing_but_themselves),
    };
    const struct CMUnitTest of_weights[] = {
        cmocka_unit_test(test_int8_products_equal_the_cpu),
    };
    const struct CMUnitTest of_pages[] = {
        cmocka_unit_test(test_int8_pages_equal_the_cpu),
    };
    const struct CMUnitTest of_formats[] = {
        cmocka_unit_test(test_graphs_give_the_bits_of_plain_steps),
        cmocka_unit_test(test_digest_is_the_same_each_time),
        cmocka_unit_test(test_logits_are_near_to_the_cpu),
        cmocka_unit_test(test_requests_depend_on_nothing_but_themselves),
    };
    if (format == formats) return cmocka_run_group_tests_name(format->name, all, NULL, NULL);
    int failed = cmocka_run_group_tests_name(format->name, of_formats, NULL, NULL);
    if (format->weights == GW_WEIGHT_INT8)
        failed += cmocka_run_group_tests_name(format->name, of_weights, NULL, NULL);
    if (format->kv == GW_KV_INT8) failed += cmocka_run_group_tests_name(format->name, of_pages, NULL, NULL);
    return failed;
}

int main(int argc, char **argv)
{
    int failed = 0;
    if (argc != 3) return 2;
    for (format = formats; format < formats + sizeof formats / sizeof *formats; format++) {
        int opened = open_device(argv[1], argv[2]);
        if (opened != 0) return opened < 0 && format == formats ? 0 : 1;
        failed += run_format();
        gw_worker_device_close(&gpu);
    }
    return failed ? 1 : 0;
}
