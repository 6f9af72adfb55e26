/* CUDA's int8 products on the host shim: packing, quantized rows, sums and scales have the CPU's bits, by the launchers and by the
 * device's table over them, from activations of bf16 and of f32. */
#include "tests/lib/cuda_fixture.h"

#include <math.h>

#include "kernels/cpu/quantize.h"
#include "tests/lib/shim_device.h"

/* What the largest product of several shares does not fit into: its rows are done in groups. */
#define STEP_BYTES    4096
#define SCRATCH_BYTES 20000

static const enum gw_dtype acts[] = {GW_BF16, GW_F32};
#define ACTS (sizeof acts / sizeof *acts)

static const struct gw_ops *cpu; /* of the device's twin */

static void open_device(struct shim_device *s, enum gw_dtype act)
{
    struct gw_err_ctx ctx = {0};
    memset(s, 0, sizeof *s);
    if (shim_device_open_as(s, STEP_BYTES, SCRATCH_BYTES, act, GW_I8, act, &ctx) != GW_OK)
        fail_msg("%s", ctx.text);
    cpu = ops_best(act == GW_F32 ? "cpu-f32-int8-1" : "cpu-bf16-int8-1");
}

/* ---- quantizing ---- */

/* Rows that are spoiled: zeros, too small for a scale, an infinity, a NaN, one number alone. */
static void spoil(void *x, enum gw_dtype act, size_t stride, uint32_t m, uint32_t k)
{
    static const float with[] = {0.0f, 0x1p-110f, INFINITY, NAN, -3.0f};
    for (uint32_t row = 1; row < m && row <= 5; row++) {
        for (uint32_t i = 0; i < k; i++) gw_f32_put(x, act, row * stride + i, 0.0f);
        gw_f32_put(x, act, row * stride + k / 2, with[row - 1]);
    }
}

static void check_quantize(struct gw_rng *r, enum gw_dtype act, uint32_t m, uint32_t segments, uint32_t k,
                           size_t gap, bool directed)
{
    size_t stride = (size_t)segments * k + gap;
    uint32_t padded = (k + 15) / 16 * 16;
    uint8_t *x = values_as(r, act, m * stride, directed);
    size_t bytes = (size_t)m * segments * padded;
    struct gw_cuda_int8_rows to = {take(bytes), take_f32((size_t)m * segments), segments, padded};
    uint8_t *want = take(k);
    if (segments == 1) spoil(x, act, stride, m, k);
    memset(to.bytes, 0x55, bytes);
    LAUNCH(gw_cuda_quantize, &to, x, act, stride, m, k);
    for (uint32_t at = 0; at < m * segments; at++) {
        size_t first = at / segments * stride + (size_t)(at % segments) * k;
        float scale = gw_quantize_c(want, x + first * gw_dtype_bytes(act), act, k);
        assert_true(isnan(scale) ? isnan(to.scales[at]) : gw_f32_bits(scale) == gw_f32_bits(to.scales[at]));
        for (uint32_t i = 0; i < k && !isnan(scale); i++)
            assert_int_equal(to.bytes[(size_t)at * padded + i], want[i] - GW_INT8_BIAS);
        for (uint32_t i = k; i < padded; i++) assert_int_equal(to.bytes[(size_t)at * padded + i], 0);
    }
    free(x), free(to.bytes), free(to.scales), free(want);
}

/* Of rows that can be loaded by eights, and others; shorter and longer than what a block loads at once. */
static void test_quantize_equals_cpu(void **state)
{
    (void)state;
    struct gw_rng r = seeded_rng(__func__);
    gw_device_enter_thread();
    for (size_t i = 0; i < ACTS; i++) {
        check_quantize(&r, acts[i], 6, 1, 16, 0, true);
        check_quantize(&r, acts[i], 6, 1, 1, 0, false);
        check_quantize(&r, acts[i], 6, 1, 72, 8, false);
        check_quantize(&r, acts[i], 6, 1, 77, 2, true);
        check_quantize(&r, acts[i], 1, 1, 1040, 0, false);
        check_quantize(&r, acts[i], 1, 1, 2051, 5, false);
        check_quantize(&r, acts[i], 2, 3, 24, 8, true);
        check_quantize(&r, acts[i], 2, 3, 9, 0, false);
    }
}

/* ---- products ---- */

struct sizes {
    uint32_t m, n, k, count;
};

/* Around the three shapes of tile, a piece of k (128), the padding of k (16); products side by side, and shares. */
static const struct sizes sizes[] = {
    {1, 1, 1, 1},    {1, 33, 128, 2}, {16, 40, 144, 1}, {17, 31, 100, 2},
    {64, 65, 32, 1}, {65, 129, 8, 1}, {70, 7, 260, 3},  {3, 20, 24, 5},
};
#define SIZES (sizeof sizes / sizeof *sizes)

/* Several matrices in the form of each side. */
struct matrices {
    struct gw_weight *cpu, *there;
    uint32_t count;
};

static struct matrices matrices_of(struct gw_rng *r, struct shim_device *s, const struct sizes *z)
{
    struct matrices m = {take(z->count * sizeof *m.cpu), take(z->count * sizeof *m.there), z->count};
    size_t bytes = s->ops->pack_bytes(z->n, z->k);
    for (uint32_t i = 0; i < z->count; i++) {
        void *w = values_as(r, cpu->act, (size_t)z->n * z->k, i % 2);
        uint8_t *host = take(bytes);
        m.cpu[i] = packed(cpu, w, z->n, z->k);
        s->ops->pack(host, w, cpu->act, z->n, z->k, z->k);
        m.there[i] = (struct gw_weight){z->n, z->k, copy_through(s->device, host, bytes)};
        free(w), free(host);
    }
    return m;
}

static void matrices_fini(struct matrices *m)
{
    for (uint32_t i = 0; i < m->count; i++) free(m->cpu[i].data), free(m->there[i].data);
    free(m->cpu), free(m->there);
}

/* NaN has a payload that nobody promises. */
static void expect_same_numbers(const float *got, const float *want, size_t len, const char *what)
{
    for (size_t i = 0; i < len; i++)
        if (gw_f32_bits(got[i]) != gw_f32_bits(want[i]) && !(isnan(got[i]) && isnan(want[i])))
            fail_msg("%s[%zu]: %.9g, the CPU's is %.9g", what, i, got[i], want[i]);
}

/* Side by side, a column between two that is nobody's. */
static void check_matmul(struct gw_rng *r, struct shim_device *s, const struct sizes *z,
                         const struct matrices *w)
{
    size_t y_stride = (size_t)z->count * (z->n + 1), len = z->m * y_stride, x_stride = z->k + 3;
    size_t x_bytes = z->m * x_stride * gw_dtype_bytes(cpu->act);
    void *x = values_as(r, cpu->act, z->m * x_stride, false), *there;
    float *want = take_f32(len), *got = take_f32(len);
    uint32_t *y_at = take(z->count * sizeof *y_at);
    for (uint32_t i = 0; i < z->count; i++) y_at[i] = i * (z->n + 1);
    spoil(x, cpu->act, x_stride, z->m, z->k);
    memset(want, 0, len * 4);
    memset(got, 0, len * 4);
    there = copy_through(s->device, x, x_bytes);
    cpu->matmul(s->cpu, want, y_stride, x, x_stride, w->cpu, y_at, z->count, z->m);
    s->ops->matmul(s->device, got, y_stride, there, x_stride, w->there, y_at, z->count, z->m);
    expect_same_numbers(got, want, len, "matmul");
    free(x), free(there), free(want), free(got), free(y_at);
}

/* Each share's rows have scales of their own; the same for the tree over them. */
static void check_shares(struct gw_rng *r, struct shim_device *s, const struct sizes *z,
                         const struct matrices *w)
{
    size_t plane = (size_t)z->m * z->n, len = z->count * plane, x_len = (size_t)z->m * z->count * z->k;
    void *x = values_as(r, cpu->act, x_len, false),
         *there = copy_through(s->device, x, x_len * gw_dtype_bytes(cpu->act));
    float *want = take_f32(len), *got = take_f32(len);
    float *residual = random_f32(r, plane), *residual_there = copy_through(s->device, residual, plane * 4);
    cpu->matmul_shares(s->cpu, want, x, w->cpu, z->count, z->m);
    s->ops->matmul_shares(s->device, got, there, w->there, z->count, z->m);
    assert_same_bits(got, want, len * 4, "matmul_shares");
    cpu->matmul_tree_add(s->cpu, residual, x, w->cpu, z->count, z->m, want);
    s->ops->matmul_tree_add(s->device, residual_there, there, w->there, z->count, z->m, got);
    assert_same_bits(residual_there, residual, plane * 4, "matmul_tree_add");
    free(x), free(there), free(want), free(got), free(residual), free(residual_there);
}

static void test_products_have_the_bits_of_the_cpu(void **state)
{
    (void)state;
    struct gw_rng r = seeded_rng(__func__);
    struct shim_device s;
    for (size_t a = 0; a < ACTS; a++) {
        open_device(&s, acts[a]);
        assert_int_equal(s.ops->weight, GW_I8);
        for (size_t i = 0; i < SIZES; i++) {
            struct matrices w = matrices_of(&r, &s, &sizes[i]);
            check_matmul(&r, &s, &sizes[i], &w);
            check_shares(&r, &s, &sizes[i], &w);
            matrices_fini(&w);
        }
        shim_device_end(&s);
    }
}

/* Over more than a ring of pieces, both sides ±127: sums that f32 does not hold. */
static void test_sums_of_the_largest_numbers_are_exact(void **state)
{
    (void)state;
    enum { N = 3, K = 4112 };
    struct shim_device s;
    open_device(&s, GW_BF16);
    uint16_t *x = take(K * 2), *w = take(N * K * 2);
    size_t bytes = s.ops->pack_bytes(N, K);
    uint8_t *host = take(bytes);
    for (uint32_t i = 0; i < N * K; i++) w[i] = i / K == 1 ? 0xBF80 : 0x3F80; /* -1, 1 */
    for (uint32_t i = 0; i < K; i++) x[i] = 0x3F80;
    s.ops->pack(host, w, GW_BF16, N, K, K);
    struct gw_cuda_int8_rows rows = {take(K), take_f32(1), 1, K};
    struct gw_cuda_int8_product product = {.w = host, .n = N};
    float y[N];
    LAUNCH(gw_cuda_quantize, &rows, x, GW_BF16, K, 1, K);
    LAUNCH(gw_cuda_matmul_int8, y, N, &rows, &product, 1, 1);
    for (int n = 0; n < N; n++) {
        float sum = (float)(127 * 127 * K), one = 1.0f / 127;
        assert_int_equal(gw_f32_bits(y[n]), gw_f32_bits((n == 1 ? -sum : sum) * one * one));
    }
    free(x), free(w), free(host), free(rows.bytes), free(rows.scales);
    shim_device_end(&s);
}

static void test_shapes_outside_limits_are_refused(void **state)
{
    (void)state;
    int8_t *bytes = take(64);
    float y[1] = {0}, scale[1] = {0};
    uint16_t x[16] = {0};
    struct gw_cuda_int8_rows rows = {bytes, scale, 1, 16};
    struct gw_cuda_int8_product p = {.w = bytes, .n = 1};
    memset(bytes, 0, 64);
    ASSERT_REFUSED(gw_cuda_quantize, &rows, x, GW_BF16, 16, 1, 17);
    ASSERT_REFUSED(gw_cuda_matmul_int8, y, 1, &rows, &p, GW_CUDA_PRODUCTS_MAX + 1, 1);
    p.segment = 1;
    ASSERT_REFUSED(gw_cuda_matmul_int8, y, 1, &rows, &p, 1, 1);
    p = (struct gw_cuda_int8_product){.w = bytes + 4, .n = 1};
    ASSERT_REFUSED(gw_cuda_matmul_int8, y, 1, &rows, &p, 1, 1);
    p.w = bytes;
    rows.k = 8;
    ASSERT_REFUSED(gw_cuda_matmul_int8, y, 1, &rows, &p, 1, 1);
    ASSERT_REFUSED(gw_cuda_quantize, &rows, x, GW_BF16, 16, 1, 8);
    rows = (struct gw_cuda_int8_rows){bytes + 1, scale, 1, 16};
    ASSERT_REFUSED(gw_cuda_quantize, &rows, x, GW_BF16, 16, 1, 16);
    ASSERT_REFUSED(gw_cuda_matmul_int8, y, 1, &rows, &p, 1, 1);
    rows = (struct gw_cuda_int8_rows){bytes, scale, 1, GW_INT8_K_MAX + 16};
    ASSERT_REFUSED(gw_cuda_matmul_int8, y, 1, &rows, &p, 1, 1);
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quantize_equals_cpu),
        cmocka_unit_test(test_products_have_the_bits_of_the_cpu),
        cmocka_unit_test(test_sums_of_the_largest_numbers_are_exact),
        cmocka_unit_test(test_shapes_outside_limits_are_refused),
    };
    return cmocka_run_group_tests_name("cuda_int8", tests, NULL, NULL);
}
