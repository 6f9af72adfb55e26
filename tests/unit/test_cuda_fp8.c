/* CUDA's fp8 products on the host shim: of bf16 activations they have the bits of the exact profile's products of the widened numbers,
 * times the scale; of f32 the CPU's. */
#include "tests/lib/cuda_fixture.h"

#include <math.h>

#include "kernels/cpu/quantize.h"
#include "tests/lib/shim_device.h"

/* Shares whose k has to be padded go through the scratch, and the largest does not fit into it at once. */
#define STEP_BYTES    4096
#define SCRATCH_BYTES 20000

static void open_device(struct shim_device *s, enum gw_dtype act, enum gw_dtype weight)
{
    struct gw_err_ctx ctx = {0};
    memset(s, 0, sizeof *s);
    if (shim_device_open_as(s, STEP_BYTES, SCRATCH_BYTES, act, weight, act, &ctx) != GW_OK)
        fail_msg("%s", ctx.text);
    assert_int_equal(s->ops->weight, weight);
}

struct sizes {
    uint32_t m, n, k, count;
};

/* Around the three shapes of tile, a piece of k (64; f32: 32), the padding of k (16), what a ring of stages holds; products side by
 * side, and shares. */
static const struct sizes sizes[] = {
    {1, 1, 1, 1},    {1, 33, 128, 2}, {16, 40, 72, 1}, {17, 31, 100, 2}, {5, 9, 456, 1},
    {64, 65, 32, 1}, {65, 129, 8, 1}, {70, 7, 260, 3}, {3, 20, 24, 5},
};
#define SIZES (sizeof sizes / sizeof *sizes)

/* Numbers of w [n, k] by the rule of kernels/op.h, and the rows' scales. */
static void quantize(void *q, float *scales, const void *w, enum gw_dtype act, const struct sizes *z)
{
    for (uint32_t row = 0; row < z->n; row++) {
        float inverse;
        scales[row] = gw_fp8_scale(gw_largest_bits(w, act, (size_t)row * z->k, z->k), &inverse);
        for (size_t i = (size_t)row * z->k; i < (size_t)(row + 1) * z->k; i++)
            gw_f32_put(q, act, i, gw_f32_of_e4m3(gw_fp8_of(gw_f32_at(w, act, i), inverse)));
    }
}

/* The packed form of one side. */
static struct gw_weight there(struct shim_device *s, const void *w, enum gw_dtype act, const struct sizes *z)
{
    size_t bytes = s->ops->pack_bytes(z->n, z->k);
    uint8_t *host = take(bytes);
    s->ops->pack(host, w, act, z->n, z->k, z->k);
    struct gw_weight there = {z->n, z->k, copy_through(s->device, host, bytes)};
    free(host);
    return there;
}

/* Matrices as fp8, as the widened numbers, and their scales [count][n]. */
struct matrices {
    struct gw_weight fp8[GW_SHARES_MAX], wide[GW_SHARES_MAX];
    float *scales;
};

static void matrices_init(struct matrices *m, struct gw_rng *r, struct shim_device *fp8,
                          struct shim_device *plain, enum gw_dtype act, const struct sizes *z)
{
    m->scales = take_f32((size_t)z->count * z->n);
    for (uint32_t i = 0; i < z->count; i++) {
        void *w = values_as(r, act, (size_t)z->n * z->k, i % 2),
             *q = values_as(r, act, (size_t)z->n * z->k, 0);
        quantize(q, m->scales + (size_t)i * z->n, w, act, z);
        m->fp8[i] = there(fp8, w, act, z);
        m->wide[i] = there(plain, q, act, z);
        free(w), free(q);
    }
}

static void matrices_fini(struct matrices *m, const struct sizes *z)
{
    for (uint32_t i = 0; i < z->count; i++) free(m->fp8[i].data), free(m->wide[i].data);
    free(m->scales);
}

/* Side by side, a column between two that is nobody's. */
static void check_matmul(struct gw_rng *r, struct shim_device *fp8, struct shim_device *plain,
                         enum gw_dtype act, const struct sizes *z, const struct matrices *w)
{
    size_t y_stride = (size_t)z->count * (z->n + 1), len = z->m * y_stride, x_stride = z->k + 3;
    size_t x_bytes = z->m * x_stride * gw_dtype_bytes(act);
    void *x = values_as(r, act, z->m * x_stride, false), *x_fp8 = copy_through(fp8->device, x, x_bytes),
         *x_plain = copy_through(plain->device, x, x_bytes);
    float *want = take_f32(len), *got = take_f32(len);
    uint32_t y_at[GW_SHARES_MAX];
    for (uint32_t i = 0; i < z->count; i++) y_at[i] = i * (z->n + 1);
    memset(want, 0, len * 4);
    memset(got, 0, len * 4);
    fp8->ops->matmul(fp8->device, got, y_stride, x_fp8, x_stride, w->fp8, y_at, z->count, z->m);
    plain->ops->matmul(plain->device, want, y_stride, x_plain, x_stride, w->wide, y_at, z->count, z->m);
    for (uint32_t row = 0; row < z->m; row++)
        for (uint32_t i = 0; i < z->count; i++)
            for (uint32_t n = 0; n < z->n; n++)
                want[row * y_stride + y_at[i] + n] *= w->scales[(size_t)i * z->n + n];
    assert_same_bits(got, want, len * 4, "matmul");
    free(x), free(x_fp8), free(x_plain), free(want), free(got);
}

/* Each share has its own scales; they come before the tree. */
static void check_shares(struct gw_rng *r, struct shim_device *fp8, struct shim_device *plain,
                         enum gw_dtype act, const struct sizes *z, const struct matrices *w)
{
    size_t plane = (size_t)z->m * z->n, len = z->count * plane, x_len = (size_t)z->m * z->count * z->k;
    void *x = values_as(r, act, x_len, false),
         *x_fp8 = copy_through(fp8->device, x, x_len * gw_dtype_bytes(act)),
         *x_plain = copy_through(plain->device, x, x_len * gw_dtype_bytes(act));
    float *want = take_f32(len), *got = take_f32(len);
    float *residual = random_f32(r, plane), *summed = copy_through(fp8->device, residual, plane * 4);
    fp8->ops->matmul_shares(fp8->device, got, x_fp8, w->fp8, z->count, z->m);
    plain->ops->matmul_shares(plain->device, want, x_plain, w->wide, z->count, z->m);
    for (size_t i = 0; i < len; i++) want[i] *= w->scales[i / plane * z->n + i % z->n];
    assert_same_bits(got, want, len * 4, "matmul_shares");
    fp8->ops->matmul_tree_add(fp8->device, summed, x_fp8, w->fp8, z->count, z->m, got);
    plain->ops->tree_add(plain->device, residual, want, z->count, plane);
    assert_same_bits(summed, residual, plane * 4, "matmul_tree_add");
    free(x), free(x_fp8), free(x_plain), free(want), free(got), free(residual), free(summed);
}

static void check_products(const char *test, enum gw_dtype act)
{
    struct gw_rng r = seeded_rng(test);
    struct shim_device fp8, plain;
    struct matrices w;
    open_device(&fp8, act, GW_F8);
    open_device(&plain, act, act);
    for (size_t i = 0; i < SIZES; i++) {
        matrices_init(&w, &r, &fp8, &plain, act, &sizes[i]);
        check_matmul(&r, &fp8, &plain, act, &sizes[i], &w);
        check_shares(&r, &fp8, &plain, act, &sizes[i], &w);
        matrices_fini(&w, &sizes[i]);
    }
    shim_device_end(&plain);
    shim_device_end(&fp8);
}

static void test_products_of_bf16_are_the_exact_profiles_times_the_scale(void **state)
{
    (void)state;
    check_products(__func__, GW_BF16);
}

static void test_products_of_f32_are_the_exact_profiles_times_the_scale(void **state)
{
    (void)state;
    check_products(__func__, GW_F32);
}

/* Each number of a row whose largest is 448 comes out as it went in: of one x that is 1. */
static void check_codes(enum gw_dtype act)
{
    enum { K = 256 };
    struct shim_device s;
    open_device(&s, act, GW_F8);
    void *w = take(K * gw_dtype_bytes(act)), *x = take((size_t)K * K * gw_dtype_bytes(act));
    float *y = take_f32(K);
    for (int code = 0; code < K; code++)
        gw_f32_put(w, act, (size_t)code, (code & 0x7F) == 0x7F ? 0.0f : gw_f32_of_e4m3((uint8_t)code));
    for (size_t i = 0; i < (size_t)K * K; i++) gw_f32_put(x, act, i, i % (K + 1) == 0 ? 1.0f : 0.0f);
    const struct sizes z = {.n = 1, .k = K};
    struct gw_weight packed_w = there(&s, w, act, &z);
    void *x_there = copy_through(s.device, x, (size_t)K * K * gw_dtype_bytes(act));
    s.ops->matmul(s.device, y, 1, x_there, K, &packed_w, &(uint32_t){0}, 1, K);
    for (size_t i = 0; i < K; i++) assert_true(y[i] == gw_f32_at(w, act, i));
    free(w), free(x), free(y), free(packed_w.data), free(x_there);
    shim_device_end(&s);
}

static void test_every_code_is_widened_to_its_value(void **state)
{
    (void)state;
    check_codes(GW_BF16);
    check_codes(GW_F32);
}

/* A row of nothing to be measured by is zeros; one that is not finite gives NaN, and no other does. */
static void check_rows_without_scale(enum gw_dtype act)
{
    enum { N = 5, K = 20 };
    static const float with[N] = {0.0f, 0x1p-110f, INFINITY, NAN, 3.0f};
    struct shim_device s;
    open_device(&s, act, GW_F8);
    void *w = take((size_t)N * K * gw_dtype_bytes(act)), *x = take(K * gw_dtype_bytes(act));
    float y[N];
    for (size_t i = 0; i < (size_t)N * K; i++) gw_f32_put(w, act, i, i % K == 7 ? with[i / K] : 0.0f);
    for (size_t i = 0; i < K; i++) gw_f32_put(x, act, i, 1.0f);
    const struct sizes z = {.n = N, .k = K};
    struct gw_weight packed_w = there(&s, w, act, &z);
    void *x_there = copy_through(s.device, x, K * gw_dtype_bytes(act));
    s.ops->matmul(s.device, y, N, x_there, K, &packed_w, &(uint32_t){0}, 1, 1);
    assert_true(y[0] == 0 && y[1] == 0 && isnan(y[2]) && isnan(y[3]));
    assert_true(y[4] == 448.0f * (3.0f / 448.0f));
    free(w), free(x), free(packed_w.data), free(x_there);
    shim_device_end(&s);
}

static void test_rows_without_a_scale(void **state)
{
    (void)state;
    check_rows_without_scale(GW_BF16);
    check_rows_without_scale(GW_F32);
}

static void test_shapes_outside_limits_are_refused(void **state)
{
    (void)state;
    uint8_t *w = take(64);
    uint16_t *x = take(64);
    float *wide = take_f32(16), y[1];
    struct gw_cuda_product p = {w, 0, 0, 1, 8};
    memset(w, 0, 64);
    memset(x, 0, 64);
    memset(wide, 0, 64);
    ASSERT_REFUSED(gw_cuda_matmul_fp8, y, 1, x, 8, &p, GW_CUDA_PRODUCTS_MAX + 1, 1);
    ASSERT_REFUSED(gw_cuda_matmul_f32_fp8, y, 1, wide, 8, &p, GW_CUDA_PRODUCTS_MAX + 1, 1);
    p.k = 7;
    ASSERT_REFUSED(gw_cuda_matmul_fp8, y, 1, x, 8, &p, 1, 1);
    p = (struct gw_cuda_product){w + 8, 0, 0, 1, 8};
    ASSERT_REFUSED(gw_cuda_matmul_fp8, y, 1, x, 8, &p, 1, 1);
    ASSERT_REFUSED(gw_cuda_matmul_f32_fp8, y, 1, wide, 8, &p, 1, 1);
    free(w), free(x), free(wide);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_products_of_bf16_are_the_exact_profiles_times_the_scale),
        cmocka_unit_test(test_products_of_f32_are_the_exact_profiles_times_the_scale),
        cmocka_unit_test(test_every_code_is_widened_to_its_value),
        cmocka_unit_test(test_rows_without_a_scale),
        cmocka_unit_test(test_shapes_outside_limits_are_refused),
    };
    return cmocka_run_group_tests_name("cuda_fp8", tests, NULL, NULL);
}
