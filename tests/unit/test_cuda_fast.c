/* The fast profile's products by cuBLASLt, of which tests/lib/fake_cublaslt.c plays the part: what it is asked, what comes of it, and what
 * happens where it is missing, knows no algorithm, or fails. */
#include "tests/lib/cuda_fixture.h"

#include <math.h>

#include "kernels/cuda/cublas_matmul.h"
#include "tests/lib/cublas_fixture.h"
#include "tests/lib/engine_fixture.h"
#include "tests/lib/shim_device.h"

#define STEP_BYTES    65536
#define SCRATCH_BYTES (1u << 20)
#define SHARES        3u

/* ---- the library ---- */

static void test_open_of_what_is_no_cublaslt_says_what_is_missing(void **state)
{
    (void)state;
    struct gw_cublas_api api = {.version = 7};
    struct gw_err_ctx ctx = {0};
    assert_int_equal(gw_cublas_open("/nowhere/libcublasLt.so", &api, &ctx), GW_ERR_NOT_FOUND);
    assert_non_null(strstr(ctx.text, "libcublasLt.so.13 or libcublasLt.so.12"));
    assert_non_null(strstr(ctx.text, "/nowhere/libcublasLt.so"));
    gw_err_reset(&ctx);
    assert_int_equal(gw_cublas_open("libm.so.6", &api, &ctx), GW_ERR_NOT_FOUND);
    assert_string_equal(ctx.text, "libm.so.6 has no cublasLtGetVersion");
    assert_int_equal(api.version, 7);
}

static void test_open_of_an_old_cublaslt_says_which_is_needed(void **state)
{
    (void)state;
    struct fake_cublas f;
    struct gw_cublas_api api;
    struct gw_err_ctx ctx = {0};
    char path[300];
    fake_cublas_open(&f, &(struct fake_cublaslt_plan){.version = 110800});
    fake_cublas_path(path, sizeof path);
    assert_int_equal(gw_cublas_open(path, &api, &ctx), GW_ERR_INPUT);
    assert_string_equal(ctx.text, "cuBLASLt is of version 110800: 120000 or newer is needed");
    fake_cublas_close(&f);
}

/* ---- a device over it ---- */

static void open_device_as(struct shim_device *s, const struct fake_cublas *f, size_t workspace_bytes,
                           uint32_t fast_rows, enum gw_dtype act, enum gw_dtype weight)
{
    struct gw_err_ctx ctx = {0};
    memset(s, 0, sizeof *s);
    s->cublas = &f->api;
    s->cublas_bytes = workspace_bytes;
    s->fast_rows = fast_rows;
    if (shim_device_open_as(s, STEP_BYTES, SCRATCH_BYTES, act, weight, act, &ctx) != GW_OK)
        fail_msg("%s", ctx.text);
}

static void open_device(struct shim_device *s, const struct fake_cublas *f, size_t workspace_bytes,
                        uint32_t fast_rows)
{
    open_device_as(s, f, workspace_bytes, fast_rows, GW_BF16, GW_BF16);
}

static void test_device_whose_cublaslt_does_not_begin_is_an_error(void **state)
{
    (void)state;
    static const char *const calls[] = {"cublasLtCreate", "cublasLtMatmulDescCreate",
                                        "cublasLtMatmulDescSetAttribute", "cublasLtMatmulPreferenceCreate",
                                        "cublasLtMatmulPreferenceSetAttribute"};
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        struct fake_cublas f;
        struct shim_device s = {.cublas = &f.api};
        struct gw_err_ctx ctx = {0};
        fake_cublas_open(&f, &(struct fake_cublaslt_plan){.fails = calls[i], .status = 1});
        assert_int_equal(shim_device_open(&s, STEP_BYTES, SCRATCH_BYTES, &ctx), GW_ERR_CUDA);
        assert_non_null(strstr(ctx.text, calls[i]));
        assert_non_null(strstr(ctx.text, "planned fault"));
        assert_int_equal(shim_device_close(&s), 0);
        fake_cublas_close(&f);
    }
}

/* x [m, SHARES · k], weights of each share, and a residual stream. */
struct job {
    uint32_t m, n, k;
    enum gw_dtype act;
    void *x, *w[SHARES]; /* act */
    float *residual;
    struct gw_weight there[SHARES];
    struct gw_memory weights, x_there, y;
};

static struct gw_memory alloc(struct shim_device *s, size_t bytes)
{
    struct gw_memory m;
    struct gw_err_ctx ctx = {0};
    if (gw_memory_alloc(s->device, bytes, GW_MEMORY_MIRRORED, &m, &ctx) != GW_OK) fail_msg("%s", ctx.text);
    return m;
}

static struct job job_of(struct shim_device *s, uint32_t m, uint32_t n, uint32_t k)
{
    struct gw_rng r = seeded_rng("job");
    struct job j = {.m = m, .n = n, .k = k, .act = s->ops->act};
    size_t bytes = s->ops->pack_bytes(n, k), x_len = (size_t)m * SHARES * k;
    size_t x_bytes = x_len * gw_dtype_bytes(j.act);
    j.weights = alloc(s, SHARES * bytes);
    j.x_there = alloc(s, x_bytes);
    j.y = alloc(s, (size_t)SHARES * m * n * sizeof(float));
    j.x = values_as(&r, j.act, x_len, false);
    j.residual = random_f32(&r, (size_t)m * n);
    gw_memory_put(s->device, j.x_there.device, j.x, x_bytes);
    for (uint32_t i = 0; i < SHARES; i++) {
        j.w[i] = values_as(&r, j.act, (size_t)n * k, false);
        s->ops->pack((uint8_t *)j.weights.host + i * bytes, j.w[i], j.act, n, k, k);
        j.there[i] = (struct gw_weight){n, k, (uint8_t *)j.weights.device + i * bytes};
    }
    gw_memory_put(s->device, j.weights.device, j.weights.host, SHARES * bytes);
    return j;
}

static void job_fini(struct job *j)
{
    gw_memory_free(&j->weights);
    gw_memory_free(&j->x_there);
    gw_memory_free(&j->y);
    for (uint32_t i = 0; i < SHARES; i++) free(j->w[i]);
    free(j->x), free(j->residual);
}

/* Element (row, n) of share s's product, in float64; *scale: the magnitudes that went into it. */
static double want_of(const struct job *j, uint32_t s, uint32_t row, uint32_t n, double *scale)
{
    double sum = 0;
    for (uint32_t k = 0; k < j->k; k++) {
        double part = (double)gw_f32_at(j->x, j->act, (size_t)row * SHARES * j->k + s * j->k + k) *
                      (double)gw_f32_at(j->w[s], j->act, (size_t)n * j->k + k);
        sum += part;
        *scale += fabs(part);
    }
    return sum;
}

static const float *got(struct shim_device *s, struct job *j, size_t len)
{
    gw_memory_get(s->device, j->y.host, j->y.device, len * sizeof(float));
    return j->y.host;
}

/* Side by side, each from its own share's columns of x. */
static void expect_matmul(struct shim_device *s, struct job *j)
{
    const uint32_t at[] = {0, j->n + 1}; /* a column between them */
    size_t stride = 2 * (size_t)j->n + 1, len = j->m * stride;
    gw_memory_fill(s->device, j->y.device, 0xFF, len * sizeof(float));
    s->ops->matmul(s->device, j->y.device, stride, j->x_there.device, (size_t)SHARES * j->k, j->there, at, 1,
                   j->m);
    s->ops->matmul(s->device, j->y.device, stride,
                   (const uint8_t *)j->x_there.device + j->k * gw_dtype_bytes(j->act), (size_t)SHARES * j->k,
                   &j->there[1], &at[1], 1, j->m);
    const float *y = got(s, j, len);
    for (uint32_t row = 0; row < j->m; row++)
        for (uint32_t n = 0; n < j->n; n++)
            for (uint32_t share = 0; share < 2; share++) {
                double scale = 0, want = want_of(j, share, row, n, &scale);
                assert_near(y[row * stride + at[share] + n], want, 1e-5 * scale + 1e-12, "matmul", n);
                assert_true(isnan(y[row * stride + j->n]));
            }
}

static void expect_shares(struct shim_device *s, struct job *j)
{
    size_t plane = (size_t)j->m * j->n;
    s->ops->matmul_shares(s->device, j->y.device, j->x_there.device, j->there, SHARES, j->m);
    const float *y = got(s, j, SHARES * plane);
    for (uint32_t share = 0; share < SHARES; share++)
        for (uint32_t i = 0; i < plane; i++) {
            double scale = 0, want = want_of(j, share, i / j->n, i % j->n, &scale);
            assert_near(y[share * plane + i], want, 1e-5 * scale + 1e-12, "shares", i);
        }
}

static void expect_tree_add(struct shim_device *s, struct job *j)
{
    size_t plane = (size_t)j->m * j->n;
    struct gw_memory scratch = alloc(s, SHARES * plane * sizeof(float));
    gw_memory_put(s->device, j->y.device, j->residual, plane * sizeof(float));
    s->ops->matmul_tree_add(s->device, j->y.device, j->x_there.device, j->there, SHARES, j->m,
                            scratch.device);
    const float *y = got(s, j, plane);
    for (uint32_t i = 0; i < plane; i++) {
        double want = (double)j->residual[i], scale = fabs(want);
        for (uint32_t share = 0; share < SHARES; share++)
            want += want_of(j, share, i / j->n, i % j->n, &scale);
        assert_near(y[i], want, 1e-5 * scale + 1e-12, "tree_add", i);
    }
    gw_memory_free(&scratch);
}

static void expect_products(struct shim_device *s, uint32_t m, uint32_t n, uint32_t k)
{
    struct job j = job_of(s, m, n, k);
    expect_matmul(s, &j);
    expect_shares(s, &j);
    expect_tree_add(s, &j);
    job_fini(&j);
}

/* With cuBLASLt, and without it where the rows are few or k is not in 16 bytes. */
static void expect_products_of(enum gw_dtype act, const char *profile)
{
    const struct {
        uint32_t m, n, k;
        bool here; /* cuBLASLt's */
    } shapes[] = {
        {4, 5, 16, true}, {7, 33, 8, true}, {3, 5, 16, false}, {6, 5, 12, act == GW_F32}, {5, 2, 6, false}};
    struct fake_cublas f;
    struct shim_device s;
    fake_cublas_open(&f, &(struct fake_cublaslt_plan){0});
    open_device_as(&s, &f, 0, 4, act, act);
    assert_string_equal(s.ops->profile, profile);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        f.set(&(struct fake_cublaslt_plan){0});
        expect_products(&s, shapes[i].m, shapes[i].n, shapes[i].k);
        struct fake_cublaslt_counts c = fake_cublas_counts(&f);
        assert_int_equal(c.multiplied, shapes[i].here ? 2 + 2 * SHARES : 0);
        assert_int_equal(c.added, shapes[i].here ? SHARES : 0); /* into the residual stream */
        assert_int_equal(c.asked > 0, shapes[i].here);
    }
    shim_device_end(&s);
    fake_cublas_close(&f);
}

static void test_products_match_double_whoever_computes_them(void **state)
{
    (void)state;
    expect_products_of(GW_BF16, "cuda-shim-fast");
    expect_products_of(GW_F32, "cuda-shim-fast-f32");
}

/* There is nothing to gain there: it is the exact profile, and cuBLASLt is not asked. */
static void test_device_of_int8_weights_is_exact(void **state)
{
    (void)state;
    struct fake_cublas f;
    struct shim_device s;
    fake_cublas_open(&f, &(struct fake_cublaslt_plan){.fails = "cublasLtCreate", .status = 1});
    open_device_as(&s, &f, 0, 1, GW_BF16, GW_I8);
    assert_string_equal(s.ops->profile, "cuda-shim-exact-int8-1");
    shim_device_end(&s);
    open_device_as(&s, &f, 0, 1, GW_F32, GW_I8);
    assert_string_equal(s.ops->profile, "cuda-shim-exact-f32-int8-1");
    shim_device_end(&s);
    fake_cublas_close(&f);
}

/* The same shape, aligned the same, is asked about once, however often it is multiplied. */
static void test_heuristics_are_asked_once_for_a_shape(void **state)
{
    (void)state;
    struct fake_cublas f;
    struct shim_device s;
    fake_cublas_open(&f, &(struct fake_cublaslt_plan){0});
    open_device(&s, &f, 0, 1);
    struct job j = job_of(&s, 2, 8, 16);
    for (int i = 0; i < 5; i++)
        s.ops->matmul(s.device, j.y.device, 8, j.x_there.device, SHARES * 16, j.there, &(uint32_t){0}, 1, 2);
    assert_int_equal(fake_cublas_counts(&f).asked, 1);
    assert_int_equal(fake_cublas_counts(&f).multiplied, 5);
    s.ops->matmul(s.device, j.y.device, 9, j.x_there.device, SHARES * 16, j.there, &(uint32_t){0}, 1, 2);
    assert_int_equal(fake_cublas_counts(&f).asked, 2); /* another stride */
    job_fini(&j);
    shim_device_end(&s);
    fake_cublas_close(&f);
}

/* More shapes than the table holds: it does not grow, and products stay right. */
static void test_shapes_that_do_not_fit_into_the_table_take_others_places(void **state)
{
    enum { K = 8, MORE = GW_CUBLAS_PLANS_MAX + 300 };
    (void)state;
    struct fake_cublas f;
    struct shim_device s;
    fake_cublas_open(&f, &(struct fake_cublaslt_plan){0});
    open_device(&s, &f, 0, 1);
    struct job j = job_of(&s, 1, 1, K);
    uint32_t begin = fake_cublas_counts(&f).living;
    double scale = 0, want = want_of(&j, 0, 0, 0, &scale);
    for (uint32_t i = 0; i < MORE; i++) {
        s.ops->matmul(s.device, j.y.device, 1 + i, j.x_there.device, SHARES * K, j.there, &(uint32_t){0}, 1,
                      1);
        assert_near(*(const float *)j.y.device, want, 1e-5 * scale + 1e-12, "product",
                    i); /* shim: host memory */
    }
    assert_int_equal(fake_cublas_counts(&f).asked, MORE);
    assert_in_range(fake_cublas_counts(&f).living, begin + 3, begin + 3 * GW_CUBLAS_PLANS_MAX);
    job_fini(&j);
    shim_device_end(&s);
    fake_cublas_close(&f);
}

/* The largest algorithm that fits is taken; where none does, or there is none at all, matmul.cu multiplies. */
static void test_workspace_decides_which_algorithm_is_taken(void **state)
{
    (void)state;
    static const struct {
        size_t workspace, taken;
        bool knows_nothing;
    } cases[] = {{FAKE_CUBLASLT_LARGE_BYTES, FAKE_CUBLASLT_LARGE_BYTES, false},
                 {FAKE_CUBLASLT_LARGE_BYTES - 1, FAKE_CUBLASLT_SMALL_BYTES, false},
                 {FAKE_CUBLASLT_SMALL_BYTES - 1, 0, false},
                 {FAKE_CUBLASLT_LARGE_BYTES, 0, true}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct fake_cublas f;
        struct shim_device s;
        fake_cublas_open(&f, &(struct fake_cublaslt_plan){.knows_nothing = cases[i].knows_nothing});
        open_device(&s, &f, cases[i].workspace, 1);
        expect_products(&s, 5, 9, 16);
        struct fake_cublaslt_counts c = fake_cublas_counts(&f);
        assert_int_equal(c.workspace_bytes, cases[i].taken);
        assert_int_equal(c.multiplied > 0, cases[i].taken > 0);
        struct job j = job_of(&s, 2, 8, 16); /* refusals are remembered, too */
        for (int again = 0; again < 3; again++)
            s.ops->matmul(s.device, j.y.device, 8, j.x_there.device, SHARES * 16, j.there, &(uint32_t){0}, 1,
                          2);
        assert_int_equal(fake_cublas_counts(&f).asked, c.asked + 1);
        job_fini(&j);
        shim_device_end(&s);
        fake_cublas_close(&f);
    }
}

/* "Not supported" is no error, wherever it comes: the shape is matmul.cu's from then on. */
static void test_shape_that_is_not_supported_is_left_to_matmul(void **state)
{
    (void)state;
    static const char *const calls[] = {"cublasLtMatmulAlgoGetHeuristic", "cublasLtMatmul"};
    for (size_t i = 0; i < 2; i++) {
        struct fake_cublas f;
        struct shim_device s;
        fake_cublas_open(&f,
                         &(struct fake_cublaslt_plan){.fails = calls[i], .status = GW_CUBLAS_NOT_SUPPORTED});
        open_device(&s, &f, 0, 1);
        expect_products(&s, 5, 9, 16);
        assert_int_equal(fake_cublas_counts(&f).multiplied, 0);
        shim_device_end(&s);
        fake_cublas_close(&f);
    }
}

/* Any other status is the device's error, with cuBLASLt's words. */
static void test_product_that_fails_is_the_devices_error(void **state)
{
    (void)state;
    static const char *const calls[] = {"cublasLtMatrixLayoutCreate", "cublasLtMatmulPreferenceSetAttribute",
                                        "cublasLtMatmulAlgoGetHeuristic", "cublasLtMatmul"};
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
        for (uint32_t nth = 0; nth < 2; nth++) {
            struct fake_cublas f;
            struct shim_device s;
            struct gw_err_ctx ctx = {0};
            fake_cublas_open(&f, &(struct fake_cublaslt_plan){0});
            open_device(&s, &f, 0, 1);
            struct job j = job_of(&s, 2, 8, 16);
            f.set(&(struct fake_cublaslt_plan){.fails = calls[i], .nth = nth, .status = 13});
            s.ops->matmul_tree_add(s.device, j.y.device, j.x_there.device, j.there, SHARES, 2, j.y.device);
            s.ops->matmul(s.device, j.y.device, 9, j.x_there.device, SHARES * 16, j.there, &(uint32_t){0}, 1,
                          2);
            assert_int_equal(gw_device_finish(s.device, &ctx), GW_ERR_CUDA);
            assert_non_null(strstr(ctx.text, calls[i]));
            assert_non_null(strstr(ctx.text, "planned fault"));
            job_fini(&j);
            assert_int_equal(shim_device_close(&s), 0);
            fake_cublas_close(&f);
        }
}

/* ---- the engine ---- */

#define MODEL     "tests/data/tiny/gqa64"
#define MODEL_F32 "tests/data/tiny/mha64"
#define PROMPT    6
#define TOKENS    5
#define NEAR      3e-2 /* test_cuda_engine.c */

struct run {
    uint64_t hashes[TOKENS]; /* of all logit rows */
    float *row;              /* the last of them, [vocab] */
    uint32_t vocab;
};

static struct run run_engine(const char *model, struct solo_config c)
{
    struct fixture f;
    struct run run;
    uint32_t ids[PROMPT];
    c.kv_tokens = 256;
    c.max_batch_tokens = 16;
    c.max_sequences = 4;
    fixture_open(&f, model, c);
    for (uint32_t i = 0; i < PROMPT; i++) ids[i] = (3 + 31 * i) % f.model->config.vocab;
    struct gw_request q = fixture_request(1, ids, PROMPT, TOKENS);
    q.sampling.bias_len = 1; /* the same tokens, whatever the logits */
    q.sampling.bias = malloc(sizeof *q.sampling.bias);
    assert_non_null(q.sampling.bias);
    q.sampling.bias[0] = (struct gw_logit_bias){9, 100};
    fixture_submit(&f, &q, 1, NULL, NULL);
    fixture_drain(&f);
    const struct fixture_branch *b = &fixture_run_of(&f, 1)->branches[0];
    assert_int_equal(b->len, TOKENS);
    for (uint32_t i = 0; i < TOKENS; i++) run.hashes[i] = b->records[i].logits;
    run.vocab = f.model->config.vocab;
    run.row = copy_of(f.last_row, run.vocab * sizeof(float));
    fixture_close(&f);
    return run;
}

static struct run run_fast(const char *model, enum gw_dtype act, bool no_graphs)
{
    struct fake_cublas f;
    struct gw_err_ctx ctx = {0};
    struct solo_config c = fixture_config();
    struct shim_device s = {.cublas = &f.api, .fast_rows = 1, .no_graphs = no_graphs};
    fake_cublas_open(&f, &(struct fake_cublaslt_plan){.put = gw_shim_do});
    if (shim_device_open_as(&s, STEP_BYTES, SCRATCH_BYTES, act, act, act, &ctx) != GW_OK)
        fail_msg("%s", ctx.text);
    c.ops = s.ops;
    c.device = s.device;
    struct run run = run_engine(model, c);
    assert_true(fake_cublas_counts(&f).added > 0);
    assert_int_equal(shim_device_close(&s), 0);
    fake_cublas_close(&f);
    return run;
}

/* Every product of every step by cuBLASLt: near to the CPU, the same bits each time, in graphs or not. */
static void expect_near_cpu(const char *model, enum gw_dtype act)
{
    struct run cpu = run_engine(model, fixture_config());
    struct run graphs = run_fast(model, act, false), plain = run_fast(model, act, true);
    double scale = 0, worst = 0;
    for (uint32_t i = 0; i < cpu.vocab; i++) {
        scale = fmax(scale, fabs((double)cpu.row[i]));
        worst = fmax(worst, fabs((double)cpu.row[i] - (double)plain.row[i]));
    }
    if (!(worst <= NEAR * scale)) fail_msg("logits differ by %g of scale %g", worst, scale);
    assert_memory_equal(graphs.hashes, plain.hashes, sizeof plain.hashes);
    free(cpu.row), free(graphs.row), free(plain.row);
}

static void test_engine_by_cublaslt_is_near_to_the_cpu_and_repeats_itself(void **state)
{
    (void)state;
    expect_near_cpu(MODEL, GW_BF16);
    expect_near_cpu(MODEL_F32, GW_F32);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_open_of_what_is_no_cublaslt_says_what_is_missing),
        cmocka_unit_test(test_open_of_an_old_cublaslt_says_which_is_needed),
        cmocka_unit_test(test_device_whose_cublaslt_does_not_begin_is_an_error),
        cmocka_unit_test(test_products_match_double_whoever_computes_them),
        cmocka_unit_test(test_device_of_int8_weights_is_exact),
        cmocka_unit_test(test_heuristics_are_asked_once_for_a_shape),
        cmocka_unit_test(test_shapes_that_do_not_fit_into_the_table_take_others_places),
        cmocka_unit_test(test_workspace_decides_which_algorithm_is_taken),
        cmocka_unit_test(test_shape_that_is_not_supported_is_left_to_matmul),
        cmocka_unit_test(test_product_that_fails_is_the_devices_error),
        cmocka_unit_test(test_engine_by_cublaslt_is_near_to_the_cpu_and_repeats_itself),
    };
    return cmocka_run_group_tests_name("cuda_fast", tests, NULL, NULL);
}
