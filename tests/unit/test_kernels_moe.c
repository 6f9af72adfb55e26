/* kernels: which experts take a row, rows gathered for one and added back, and the tree over shares' sums in memory. */
#include "tests/lib/kernels_fixture.h"

#include <math.h>

static const int threads_of[] = {1, 2, 5};
#define THREADS (sizeof threads_of / sizeof *threads_of)

/* Is `id` among the `top` first of the experts by logit, of equal ones the lower first? */
static bool is_chosen(const float *logits, uint32_t experts, uint32_t top, uint32_t id)
{
    uint32_t before = 0;
    for (uint32_t i = 0; i < experts; i++)
        before += logits[i] > logits[id] || (logits[i] == logits[id] && i < id);
    return before < top;
}

static double weight_f64(const float *logits, uint32_t experts, uint32_t top, bool over_taken, uint32_t id)
{
    double sum = 0;
    for (uint32_t i = 0; i < experts; i++)
        if (!over_taken || is_chosen(logits, experts, top, i))
            sum += exp((double)logits[i] - (double)logits[id]);
    return 1 / sum;
}

static void check_row(const float *logits, uint32_t experts, uint32_t top, bool over_taken,
                      const uint32_t *ids, const float *weights)
{
    for (uint32_t n = 0; n < top; n++) {
        assert_true(ids[n] < experts && (n == 0 || ids[n] > ids[n - 1]));
        assert_true(is_chosen(logits, experts, top, ids[n]));
        assert_near(weights[n], weight_f64(logits, experts, top, over_taken, ids[n]), 2e-6, "weight", n);
    }
}

static void test_route_takes_the_largest_and_weighs_them(void **state)
{
    (void)state;
    static const uint32_t shapes[][2] = {{1, 1}, {4, 2}, {8, 8}, {128, 8}, {60, 4}, {1024, 10}};
    enum { M = 19 };
    struct gw_rng r = seeded_rng(__func__);
    const struct gw_ops *ops = ops_best("cpu-f32-2");
    for (size_t t = 0; t < THREADS; t++) {
        struct gw_device *dev = device_with(threads_of[t]);
        for (size_t i = 0; i < 2 * sizeof shapes / sizeof *shapes; i++) {
            uint32_t experts = shapes[i / 2][0], top = shapes[i / 2][1];
            float *logits = random_f32(&r, M * (size_t)experts), *weights = take_f32(M * top);
            uint32_t *ids = take(M * top * sizeof *ids);
            for (uint32_t k = 0; k < M * experts; k++)
                logits[k] = (float)(int)(logits[k] * 40) / 8; /* ties */
            ops->route(dev, ids, weights, logits, M, experts, top, i % 2);
            for (uint32_t m = 0; m < M; m++)
                check_row(logits + m * experts, experts, top, i % 2, ids + m * top, weights + m * top);
            free(logits), free(weights), free(ids);
        }
        gw_device_destroy(dev);
    }
}

/* A model gone wrong must not make ranks read outside their experts. */
static void test_route_of_nan_takes_experts_that_there_are(void **state)
{
    (void)state;
    float logits[] = {NAN, NAN, NAN, INFINITY, NAN, -INFINITY}, weights[3];
    uint32_t ids[3];
    struct gw_device *dev = device_with(1);
    ops_c("cpu-f32-2")->route(dev, ids, weights, logits, 1, 6, 3, true);
    for (int n = 0; n < 3; n++) assert_true(ids[n] < 6 && (n == 0 || ids[n] > ids[n - 1]));
    gw_device_destroy(dev);
}

static void test_gather_copies_chosen_rows(void **state)
{
    (void)state;
    static const uint32_t rows[] = {6, 0, 1, 4};
    enum { ROWS = 7, K = 37 };
    struct gw_rng r = seeded_rng(__func__);
    struct gw_device *dev = device_with(2);
    for (int p = 0; p < PROFILES; p++) {
        const struct gw_ops *ops = ops_best(profiles[p]);
        size_t row = K * gw_dtype_bytes(ops->act);
        uint8_t *x = values_as(&r, ops->act, ROWS * K, true), *y = take(4 * row);
        ops->gather(dev, y, x, ops->act, rows, 4, K);
        for (int i = 0; i < 4; i++) assert_same_bits(y + i * row, x + rows[i] * row, row, "row");
        free(x), free(y);
    }
    gw_device_destroy(dev);
}

static void test_scatter_add_adds_weighted_rows_and_no_others(void **state)
{
    (void)state;
    static const uint32_t rows[] = {5, 1, 2};
    static const float weights[] = {0.25f, 0.7f, 1.0f / 3};
    enum { SHARES = 3, ROWS = 6, M = 3, N = 45 };
    struct gw_rng r = seeded_rng(__func__);
    const struct gw_ops *ops = ops_best("cpu-f32-2");
    for (size_t t = 0; t < THREADS; t++) {
        struct gw_device *dev = device_with(threads_of[t]);
        float *y = random_f32(&r, SHARES * ROWS * N), *x = random_f32(&r, SHARES * M * N);
        float *want = take_f32(SHARES * ROWS * N);
        memcpy(want, y, SHARES * ROWS * N * sizeof *y);
        for (int s = 0; s < SHARES; s++)
            for (int i = 0; i < M; i++)
                for (int c = 0; c < N; c++) {
                    volatile float product = weights[i] * x[(s * M + i) * N + c];
                    want[(s * ROWS + (int)rows[i]) * N + c] += product;
                }
        ops->scatter_add(dev, y, ROWS, x, rows, weights, SHARES, M, N);
        assert_same_bits(y, want, SHARES * ROWS * N * sizeof *y, "scatter_add");
        free(x), free(y), free(want);
        gw_device_destroy(dev);
    }
}

/* The same additions as those of the product that has its tree with it. */
static void test_tree_add_equals_the_tree_of_a_product(void **state)
{
    (void)state;
    static const uint32_t shares_of[] = {1, 2, 3, 7, 8};
    enum { M = 5, N = 70, K = 12 };
    struct gw_rng r = seeded_rng(__func__);
    struct gw_device *dev = device_with(2);
    const struct gw_ops *ops = ops_best("cpu-f32-2");
    for (size_t i = 0; i < sizeof shares_of / sizeof *shares_of; i++) {
        uint32_t shares = shares_of[i];
        struct gw_weight w[8];
        float *x = random_f32(&r, M * shares * K), *scratch = take_f32(shares * M * N);
        float *a = random_f32(&r, M * N), *b = take_f32(M * N);
        memcpy(b, a, M * N * sizeof *a);
        for (uint32_t s = 0; s < shares; s++) {
            float *src = random_f32(&r, N * K);
            w[s] = packed(ops, src, N, K);
            free(src);
        }
        ops->matmul_tree_add(dev, a, x, w, shares, M, scratch);
        ops->matmul_shares(dev, scratch, x, w, shares, M);
        ops->tree_add(dev, b, scratch, shares, M * N);
        assert_same_bits(b, a, M * N * sizeof *a, "tree_add");
        for (uint32_t s = 0; s < shares; s++) free(w[s].data);
        free(x), free(scratch), free(a), free(b);
    }
    gw_device_destroy(dev);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_route_takes_the_largest_and_weighs_them),
        cmocka_unit_test(test_route_of_nan_takes_experts_that_there_are),
        cmocka_unit_test(test_gather_copies_chosen_rows),
        cmocka_unit_test(test_scatter_add_adds_weighted_rows_and_no_others),
        cmocka_unit_test(test_tree_add_equals_the_tree_of_a_product),
    };
    return cmocka_run_group_tests_name("kernels_moe", tests, NULL, NULL);
}
