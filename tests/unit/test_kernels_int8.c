/* kernels: int8 products against the rule of kernels/op.h written out, and at the ends of what 32 bits hold. That all variants
 * give the same bits is test_kernels_matmul's. */
#include "tests/lib/kernels_fixture.h"

#include <math.h>

#include "kernels/cpu/device.h"

static const uint32_t first_col = 0;

/* A row by the rule: q[k], returns the scale. */
static double quantize(int *q, const void *x, enum gw_dtype type, size_t first, uint32_t k)
{
    float largest = 0;
    for (uint32_t i = 0; i < k; i++) largest = fmaxf(largest, fabsf(gw_f32_at(x, type, first + i)));
    for (uint32_t i = 0; i < k; i++)
        q[i] = largest > 0x1p-100f ? (int)rintf(gw_f32_at(x, type, first + i) * (127.0f / largest)) : 0;
    return largest > 0x1p-100f ? (double)(largest / 127.0f) : 0;
}

static float by_the_rule(const int *qx, const int *qw, uint32_t k, float x_scale, float w_scale)
{
    int64_t sum = 0;
    for (uint32_t i = 0; i < k; i++) sum += (int64_t)qx[i] * qw[i];
    assert_true(sum == (int32_t)sum);
    return (float)(int32_t)sum * x_scale * w_scale;
}

static void product_case(struct gw_rng *r, const struct gw_ops *ops, struct gw_device *dev, uint32_t m,
                         uint32_t n, uint32_t k)
{
    void *x = values_as(r, ops->act, (size_t)m * k, false),
         *src = values_as(r, ops->act, (size_t)n * k, false);
    struct gw_weight w = packed(ops, src, n, k);
    float *y = take_f32((size_t)m * n);
    int *qx = take(k * sizeof *qx), *qw = take(k * sizeof *qw);
    ops->matmul(dev, y, n, x, k, &w, &first_col, 1, m);
    for (uint32_t col = 0; col < n; col++) {
        double w_scale = quantize(qw, src, ops->act, (size_t)col * k, k);
        for (uint32_t row = 0; row < m; row++) {
            double x_scale = quantize(qx, x, ops->act, (size_t)row * k, k);
            float want = by_the_rule(qx, qw, k, (float)x_scale, (float)w_scale);
            if (y[(size_t)row * n + col] != want)
                fail_msg("%s %s [%u, %u]: %a, not %a", ops->profile, ops->name, row, col,
                         y[(size_t)row * n + col], want);
        }
    }
    free(x), free(src), free(w.data), free(y), free(qx), free(qw);
}

static int int8_tables(const struct gw_ops *out[TABLES_MAX])
{
    int len = 0;
    for (int p = PROFILES; p < PROFILES_INT8; p++) len += ops_all(profiles[p], out + len);
    return len;
}

static void test_matmul_int8_is_what_the_rule_says(void **state)
{
    (void)state;
    static const uint32_t shapes[][3] = {{1, 1, 1},   {1, 64, 4},   {2, 65, 3},    {7, 17, 130},
                                         {13, 5, 64}, {3, 9, 2047}, {5, 66, 2052}, {1, 3, 4097}};
    struct gw_rng r = seeded_rng(__func__);
    struct gw_device *dev = device_with(2);
    const struct gw_ops *tables[TABLES_MAX];
    int len = int8_tables(tables);
    for (int t = 0; t < len; t++)
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
            product_case(&r, tables[t], dev, shapes[i][0], shapes[i][1], shapes[i][2]);
    gw_device_destroy(dev);
}

/* As long as a sum may be, every product of the largest size and one sign: 127 · 127 · k is just below 2^31. */
static void test_matmul_int8_of_the_longest_sum_does_not_overflow(void **state)
{
    (void)state;
    enum { K = GW_INT8_K_MAX };
    const float ends[] = {1, -1};
    struct gw_device *dev = device_with(1);
    float *x = take_f32(K), *src = take_f32(K), y;
    for (uint32_t i = 0; i < K; i++) src[i] = 1;
    const struct gw_ops *tables[VARIANTS_MAX];
    int len = ops_all("cpu-f32-int8-1", tables);
    for (int t = 0; t < len; t++)
        for (int e = 0; e < 2; e++) {
            for (uint32_t i = 0; i < K; i++) x[i] = ends[e];
            struct gw_weight w = packed(tables[t], src, 1, K);
            tables[t]->matmul(dev, &y, 1, x, K, &w, &first_col, 1, 1);
            float want = (float)((int32_t)ends[e] * 127 * 127 * K) * (1.0f / 127) * (1.0f / 127);
            if (y != want) fail_msg("%s: %a, not %a", tables[t]->name, y, want);
            free(w.data);
        }
    free(x), free(src);
    gw_device_destroy(dev);
}

/* More rows than the device has room for at once: each is as it is alone. */
static void test_matmul_int8_of_more_rows_than_fit_gives_the_same_bits(void **state)
{
    (void)state;
    enum { K = GW_INT8_K_MAX, M = GW_QUANT_BYTES / K + 5, DIFFERENT = 3 };
    struct gw_rng r = seeded_rng(__func__);
    struct gw_device *dev = device_with(2);
    const struct gw_ops *ops = ops_best("cpu-bf16-int8-1");
    uint16_t *x = take((size_t)M * K * sizeof *x), *src = values_as(&r, GW_BF16, K, false);
    uint16_t *rows = values_as(&r, GW_BF16, (size_t)DIFFERENT * K, false);
    for (uint32_t row = 0; row < M; row++)
        memcpy(x + (size_t)row * K, rows + (size_t)(row % DIFFERENT) * K, K * sizeof *x);
    struct gw_weight w = packed(ops, src, 1, K);
    float all[M], alone[DIFFERENT], residual[M] = {0}, scratch[M];
    ops->matmul(dev, all, 1, x, K, &w, &first_col, 1, M);
    ops->matmul_tree_add(dev, residual, x, &w, 1, M, scratch);
    for (uint32_t i = 0; i < DIFFERENT; i++)
        ops->matmul(dev, &alone[i], 1, rows + (size_t)i * K, K, &w, &first_col, 1, 1);
    assert_true(alone[0] != alone[1]);
    for (uint32_t row = 0; row < M; row++)
        assert_true(all[row] == alone[row % DIFFERENT] && residual[row] == all[row]);
    free(x), free(src), free(rows), free(w.data);
    gw_device_destroy(dev);
}

/* m rows of k, from shares of unequal k, by one table as by the one in plain C. */
static void edges_case(struct gw_rng *r, struct gw_device *dev, const struct gw_ops *ops, uint32_t m,
                       uint32_t n, uint32_t k)
{
    enum { SHARES = 3 };
    const struct gw_ops *plain = ops_c("cpu-bf16-int8-1");
    const uint32_t ks[SHARES] = {k, k + 1, k / 2 + 1}, x_cols = 2 * k + k / 2 + 2;
    struct gw_weight w[SHARES];
    void *x = values_as(r, GW_BF16, (size_t)m * x_cols, true);
    float *want = random_f32(r, (size_t)m * n), *got = take_f32((size_t)m * n),
          *scratch = take_f32((size_t)SHARES * m * n);
    memcpy(got, want, (size_t)m * n * sizeof *got);
    for (uint32_t i = 0; i < SHARES; i++) {
        void *src = values_as(r, GW_BF16, (size_t)n * ks[i], true);
        w[i] = packed(plain, src, n, ks[i]);
        free(src);
    }
    plain->matmul_tree_add(dev, want, x, w, SHARES, m, scratch);
    ops->matmul_tree_add(dev, got, x, w, SHARES, m, scratch);
    assert_same_bits(got, want, (size_t)m * n * sizeof *got, ops->name);
    plain->matmul(dev, want, n, x, x_cols, w, &first_col, 1, m);
    ops->matmul(dev, got, n, x, x_cols, w, &first_col, 1, m);
    assert_same_bits(got, want, (size_t)m * n * sizeof *got, ops->name);
    for (uint32_t i = 0; i < SHARES; i++) free(w[i].data);
    free(x), free(want), free(got), free(scratch);
}

/* Rows around 6 and 16, columns around 16 and 64, k around 64 (a tile's) and 512 (a block's): the best table of this machine. */
static void test_matmul_int8_around_the_edges_of_tiles_gives_the_bits_of_plain_c(void **state)
{
    (void)state;
    static const uint32_t ns[] = {15, 64, 81}, ks[] = {3, 63, 64, 65, 130, 511, 513, 1100};
    struct gw_rng r = seeded_rng(__func__);
    struct gw_device *dev = device_with(2);
    const struct gw_ops *tables[VARIANTS_MAX];
    int len = ops_all("cpu-bf16-int8-1", tables);
    for (int t = 1; t < len; t++)
        for (uint32_t m = 1; m <= 35; m += m < 17 ? 1 : 3)
            edges_case(&r, dev, tables[t], m, ns[gw_rng_next(&r) % 3], ks[gw_rng_next(&r) % 8]);
    for (size_t i = 0; i < sizeof ks / sizeof *ks; i++)
        for (size_t j = 0; j < sizeof ns / sizeof *ns; j++)
            edges_case(&r, dev, tables[len - 1], 24 + (uint32_t)(i + j), ns[j], ks[i]);
    for (int t = 1; t < len; t++)
        edges_case(&r, dev, tables[t], 200, 600, 33); /* so many that items have eight tiles */
    gw_device_destroy(dev);
}

/* A row without anything to be measured by is zeros; one that is not finite gives NaN, and no other does. */
static void test_matmul_int8_of_zeros_and_infinities(void **state)
{
    (void)state;
    enum { M = 5, N = 70, K = 37 };
    struct gw_rng r = seeded_rng(__func__);
    struct gw_device *dev = device_with(1);
    const struct gw_ops *tables[VARIANTS_MAX];
    int len = ops_all("cpu-f32-int8-1", tables);
    for (int t = 0; t < len; t++) {
        float *x = random_f32(&r, M * K), *src = random_f32(&r, N * K), y[M * N];
        for (uint32_t i = 0; i < K; i++) {
            x[i] = 0;
            x[K + i] = 0x1p-101f;
        }
        x[2 * K + 5] = INFINITY;
        x[3 * K + 36] = NAN;
        struct gw_weight w = packed(tables[t], src, N, K);
        tables[t]->matmul(dev, y, N, x, K, &w, &first_col, 1, M);
        for (uint32_t i = 0; i < N; i++) {
            assert_true(y[i] == 0 && y[N + i] == 0);
            assert_true(isnan(y[2 * N + i]) && isnan(y[3 * N + i]));
            assert_true(isfinite(y[4 * N + i]));
        }
        free(x), free(src), free(w.data);
    }
    gw_device_destroy(dev);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_matmul_int8_is_what_the_rule_says),
        cmocka_unit_test(test_matmul_int8_of_the_longest_sum_does_not_overflow),
        cmocka_unit_test(test_matmul_int8_of_more_rows_than_fit_gives_the_same_bits),
        cmocka_unit_test(test_matmul_int8_around_the_edges_of_tiles_gives_the_bits_of_plain_c),
        cmocka_unit_test(test_matmul_int8_of_zeros_and_infinities),
    };
    return cmocka_run_group_tests_name("kernels_int8", tests, NULL, NULL);
}
