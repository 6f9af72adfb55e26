/* CUDA's exact product on the host shim: against float64 and the CPU's; a row has the same bits whatever is beside it. */
#include "tests/lib/cuda_fixture.h"

#include <math.h>

#define COUNT 3 /* products of one x */

struct sizes {
    uint32_t m, n[COUNT], k[COUNT];
};

/* Around the three shapes of tile, a piece of k (64), and what a ring of stages holds. */
static const struct sizes sizes[] = {
    {1, {1, 32, 33}, {8, 16, 64}},       {16, {31, 64, 7}, {72, 136, 8}}, {5, {40, 1, 33}, {456, 24, 448}},
    {17, {32, 5, 65}, {64, 8, 200}},     {64, {33, 8, 1}, {72, 16, 328}}, {65, {128, 1, 40}, {40, 8, 200}},
    {130, {129, 9, 127}, {16, 72, 264}},
};
#define SIZES (sizeof sizes / sizeof *sizes)

/* x's columns are those of all products behind each other, and 8 that nobody reads; y's the same with one between. */
struct job {
    struct gw_cuda_product list[COUNT];
    uint16_t *x;
    uint32_t m;
    size_t x_stride, y_stride;
};

static struct job job_of(struct gw_rng *r, const struct sizes *z)
{
    struct job j = {.m = z->m};
    for (int i = 0; i < COUNT; i++) {
        uint16_t *w = values_as(r, GW_BF16, (size_t)z->n[i] * z->k[i], false);
        j.list[i] = (struct gw_cuda_product){w, j.x_stride, j.y_stride, z->n[i], z->k[i]};
        j.x_stride += z->k[i];
        j.y_stride += z->n[i] + 1;
    }
    j.x_stride += 8;
    j.x = values_as(r, GW_BF16, z->m * j.x_stride, false);
    for (uint32_t row = 0; row < z->m; row++)
        for (int i = 1; i <= 8; i++) j.x[(row + 1) * j.x_stride - (size_t)i] = 0xFFFF; /* NaN */
    return j;
}

static void job_fini(struct job *j)
{
    for (int i = 0; i < COUNT; i++) free((void *)(uintptr_t)j->list[i].w);
    free(j->x);
}

/* Rows [first, first + m) of x. */
static float *run(const struct job *j, uint32_t first, uint32_t m)
{
    float *y = take_f32(m * j->y_stride);
    memset(y, 0xFF, m * j->y_stride * 4);
    LAUNCH(gw_cuda_matmul, y, j->y_stride, j->x + first * j->x_stride, j->x_stride, j->list, COUNT, m);
    return y;
}

/* What additions of f32 in any order may be off by, with room for the CPU's as well. */
static double tolerance(double sum_of_magnitudes, uint32_t k)
{
    return sum_of_magnitudes * k * 0x1p-24 + 1e-30;
}

static void check_float64(const struct job *j, const float *y)
{
    for (int i = 0; i < COUNT; i++) {
        const struct gw_cuda_product *p = &j->list[i];
        for (uint32_t at = 0; at < j->m * p->n; at++) {
            uint32_t row = at / p->n, column = at % p->n;
            double sum = 0, magnitudes = 0;
            for (uint32_t k = 0; k < p->k; k++) {
                double product = (double)gw_f32_of_bf16(j->x[row * j->x_stride + p->x_at + k]) *
                                 gw_f32_of_bf16(((const uint16_t *)p->w)[(size_t)column * p->k + k]);
                sum += product;
                magnitudes += fabs(product);
            }
            assert_near(y[row * j->y_stride + p->y_at + column], sum, tolerance(magnitudes, p->k), "product",
                        at);
        }
    }
}

/* Columns between the products are nobody's. */
static void check_gaps(const struct job *j, const float *y)
{
    for (uint32_t row = 0; row < j->m; row++)
        for (int i = 0; i < COUNT; i++)
            assert_int_equal(gw_f32_bits(y[row * j->y_stride + j->list[i].y_at + j->list[i].n]), UINT32_MAX);
}

static void check_cpu(const struct job *j, struct gw_device *dev, const float *y)
{
    const struct gw_ops *cpu = ops_best(profiles[0]);
    for (int i = 0; i < COUNT; i++) {
        const struct gw_cuda_product *p = &j->list[i];
        struct gw_weight w = packed(cpu, p->w, p->n, p->k);
        float *want = take_f32((size_t)j->m * p->n);
        cpu->matmul(dev, want, p->n, j->x + p->x_at, j->x_stride, &w, (uint32_t[]){0}, 1, j->m);
        for (uint32_t at = 0; at < j->m * p->n; at++)
            assert_near(y[at / p->n * j->y_stride + p->y_at + at % p->n], want[at], 2 * tolerance(p->k, p->k),
                        "CPU", at);
        free(want), free(w.data);
    }
}

static void test_matmul_equals_references(void **state)
{
    (void)state;
    struct gw_rng r = seeded_rng(__func__);
    struct gw_device *dev = device_with(1);
    for (size_t i = 0; i < SIZES; i++) {
        struct job j = job_of(&r, &sizes[i]);
        float *y = run(&j, 0, j.m);
        check_float64(&j, y);
        check_gaps(&j, y);
        check_cpu(&j, dev, y);
        free(y);
        job_fini(&j);
    }
    gw_device_destroy(dev);
}

/* All three shapes of tile: rows of a large batch again in batches of 1, 16, 17 and 64. */
static void test_matmul_row_has_the_same_bits_in_every_batch(void **state)
{
    (void)state;
    struct gw_rng r = seeded_rng(__func__);
    gw_device_enter_thread();
    const struct sizes z = {70, {33, 40, 1}, {72, 264, 8}};
    struct job j = job_of(&r, &z);
    float *all = run(&j, 0, j.m);
    static const uint32_t parts[] = {1, 16, 17, 64};
    for (size_t i = 0; i < 4; i++)
        for (uint32_t at = 0; at < 2; at++) {
            uint32_t first = at ? j.m - parts[i] : 0;
            float *some = run(&j, first, parts[i]);
            assert_same_bits(some, all + first * j.y_stride, parts[i] * j.y_stride * 4, "rows of a batch");
            free(some);
        }
    free(all);
    job_fini(&j);
}

/* Shares of a row-parallel product, each on its own plane, then the tree: the same additions as the CPU's tree. */
static void test_matmul_shares_and_tree_equal_one_after_the_other(void **state)
{
    (void)state;
    struct gw_rng r = seeded_rng(__func__);
    struct gw_device *dev = device_with(1);
    enum { M = 3, N = 37, K = 24, SHARES = 5 };
    uint16_t *x = values_as(&r, GW_BF16, M * K * SHARES, false),
             *w = values_as(&r, GW_BF16, SHARES * N * K, false);
    float *residual = random_f32(&r, M * N), *want = copy_of(residual, M * N * 4),
          *planes = take_f32(SHARES * M * N);
    struct gw_cuda_product list[SHARES];
    for (uint32_t s = 0; s < SHARES; s++)
        list[s] = (struct gw_cuda_product){w + s * N * K, s * K, (size_t)s * M * N, N, K};
    LAUNCH(gw_cuda_matmul, planes, N, x, K * SHARES, list, SHARES, M);
    LAUNCH(gw_cuda_tree_add, residual, planes, SHARES, M * N);
    for (uint32_t s = 0; s < SHARES; s++) { /* a share alone is where the plane has it */
        struct gw_cuda_product one = list[s];
        float *plane = take_f32(M * N);
        one.y_at = 0;
        LAUNCH(gw_cuda_matmul, plane, N, x, K * SHARES, &one, 1, M);
        assert_same_bits(plane, planes + s * M * N, M * N * 4, "a share");
        free(plane);
    }
    ops_c(profiles[0])->tree_add(dev, want, planes, SHARES, M * N);
    assert_same_bits(residual, want, M * N * 4, "the tree over shares");
    free(x), free(w), free(residual), free(want), free(planes);
    gw_device_destroy(dev);
}

static void test_matmul_shapes_outside_limits_are_refused(void **state)
{
    (void)state;
    uint16_t *x = take(64);
    float y[1] = {0};
    struct gw_cuda_product p = {x, 0, 0, 1, 8};
    ASSERT_REFUSED(gw_cuda_matmul, y, 1, x + 1, 8, &p, 1, 1);
    ASSERT_REFUSED(gw_cuda_matmul, y, 1, x, 12, &p, 1, 1);
    ASSERT_REFUSED(gw_cuda_matmul, y, 1, x, 8, &p, GW_CUDA_PRODUCTS_MAX + 1, 1);
    p.k = 12;
    ASSERT_REFUSED(gw_cuda_matmul, y, 1, x, 8, &p, 1, 1);
    p = (struct gw_cuda_product){x + 1, 0, 0, 1, 8};
    ASSERT_REFUSED(gw_cuda_matmul, y, 1, x, 8, &p, 1, 1);
    LAUNCH(gw_cuda_matmul, y, 1, x, 8, NULL, 0, 1);
    free(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_matmul_equals_references),
        cmocka_unit_test(test_matmul_row_has_the_same_bits_in_every_batch),
        cmocka_unit_test(test_matmul_shares_and_tree_equal_one_after_the_other),
        cmocka_unit_test(test_matmul_shapes_outside_limits_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
