/* kernels: e4m3 and what rounds to it, and fp8 products against the rule of kernels/op.h written out. That all variants give the same
 * bits for all shapes is test_kernels_matmul's. */
#include "tests/lib/kernels_fixture.h"

#include <math.h>

static const uint32_t first_col = 0;

/* ---- the type ---- */

/* By its definition. */
static double value_of(uint8_t code)
{
    int exponent = code >> 3 & 15, fraction = code & 7;
    double magnitude = exponent ? ldexp(8 + fraction, exponent - 10) : ldexp(fraction, -9);
    return code & 0x80 ? -magnitude : magnitude;
}

static void test_e4m3_every_code_widens_to_its_value_and_back(void **state)
{
    (void)state;
    for (int code = 0; code < 256; code++) {
        float wide = gw_f32_of_e4m3((uint8_t)code);
        assert_int_equal((uint32_t)gw_bf16_of_e4m3((uint8_t)code) << 16, gw_f32_bits(wide));
        assert_int_equal(gw_e4m3_of_f32(wide), code);
        if ((code & 0x7F) == 0x7F) {
            assert_true(isnan(wide));
            continue;
        }
        assert_true((double)wide == value_of((uint8_t)code));
        assert_int_equal(signbit(wide) != 0, code >> 7);
    }
}

/* Halfway between each two neighbours, a bit above and a bit below, of both signs; and what lies over the largest. */
static void test_e4m3_rounds_to_nearest_and_ties_to_even(void **state)
{
    (void)state;
    for (uint32_t code = 0; code < GW_E4M3_MAX_CODE; code++)
        for (uint32_t sign = 0; sign < 256; sign += 128) {
            double half = (value_of((uint8_t)code) + value_of((uint8_t)(code + 1))) / 2;
            float tie = (float)(sign ? -half : half);
            assert_int_equal(gw_e4m3_of_f32(tie), sign | (code + code % 2));
            assert_int_equal(gw_e4m3_of_f32(nextafterf(tie, 0)), sign | code);
            assert_int_equal(gw_e4m3_of_f32(nextafterf(tie, sign ? -INFINITY : INFINITY)), sign | (code + 1));
        }
    static const float over[] = {449, 464, 480, 1e30f, INFINITY};
    for (size_t i = 0; i < sizeof over / sizeof *over; i++) {
        assert_int_equal(gw_e4m3_of_f32(over[i]), 0x7E);
        assert_int_equal(gw_e4m3_of_f32(-over[i]), 0xFE);
    }
    assert_int_equal(gw_e4m3_of_f32(0x1p-140f), 0);
    assert_int_equal(gw_e4m3_of_f32(-0x1p-140f), 0x80);
    assert_int_equal(gw_e4m3_of_f32(NAN) & 0x7F, 0x7F);
}

/* ---- products ---- */

/* The nearest e4m3, of two as near the one with an even code. */
static float nearest(double x)
{
    uint8_t best = 0;
    for (int code = 0; code <= (int)GW_E4M3_MAX_CODE; code++) {
        double off = fabs(value_of((uint8_t)code) - fabs(x)), least = fabs(value_of(best) - fabs(x));
        if (off < least || (off == least && code % 2 == 0)) best = (uint8_t)code;
    }
    return (float)copysign(value_of(best), x);
}

/* A row by the rule: its numbers as `type`, returns the scale. */
static float quantize(void *q, const void *x, enum gw_dtype type, size_t first, uint32_t k)
{
    float largest = 0;
    for (uint32_t i = 0; i < k; i++) largest = fmaxf(largest, fabsf(gw_f32_at(x, type, first + i)));
    for (uint32_t i = 0; i < k; i++)
        gw_f32_put(q, type, first + i,
                   largest >= 0x1p-100f ? nearest(gw_f32_at(x, type, first + i) * (448.0f / largest)) : 0);
    return largest >= 0x1p-100f ? largest / 448.0f : 0;
}

/* What the profile without fp8 gives of the same numbers, times the scale. */
static void product_case(struct gw_rng *r, const struct gw_ops *ops, struct gw_device *dev, uint32_t m,
                         uint32_t n, uint32_t k, bool directed)
{
    const struct gw_ops *plain = ops_c(ops->act == GW_BF16 ? "cpu-bf16dot-2" : "cpu-f32-2");
    void *x = values_as(r, ops->act, (size_t)m * k, directed),
         *src = values_as(r, ops->act, (size_t)n * k, directed),
         *q = values_as(r, ops->act, (size_t)n * k, false);
    float *y = take_f32((size_t)m * n), *want = take_f32((size_t)m * n), *scales = take_f32(n);
    for (uint32_t col = 0; col < n; col++) scales[col] = quantize(q, src, ops->act, (size_t)col * k, k);
    struct gw_weight w = packed(ops, src, n, k), wide = packed(plain, q, n, k);
    ops->matmul(dev, y, n, x, k, &w, &first_col, 1, m);
    plain->matmul(dev, want, n, x, k, &wide, &first_col, 1, m);
    for (uint32_t i = 0; i < m * n; i++) want[i] *= scales[i % n];
    assert_same_bits(y, want, (size_t)m * n * sizeof *y, ops->name);
    free(x), free(src), free(q), free(w.data), free(wide.data), free(y), free(want), free(scales);
}

static void test_matmul_fp8_is_the_plain_profiles_sum_times_the_scale(void **state)
{
    (void)state;
    /* around a pass of rows, a tile, the pair of k, and the blocks of k of one pass (128) and of more (256) */
    static const uint32_t shapes[][3] = {{1, 1, 1},   {1, 64, 4},   {2, 65, 127},  {6, 17, 129},
                                         {7, 5, 255}, {9, 66, 257}, {13, 81, 513}, {1, 130, 300}};
    struct gw_rng r = seeded_rng(__func__);
    struct gw_device *dev = device_with(2);
    for (int p = PROFILES_INT8; p < PROFILES_FP8; p++) {
        const struct gw_ops *tables[VARIANTS_MAX];
        int len = ops_all(profiles[p], tables);
        for (int t = 0; t < len; t++)
            for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
                product_case(&r, tables[t], dev, shapes[i][0], shapes[i][1], shapes[i][2], i % 2);
    }
    gw_device_destroy(dev);
}

/* A tile that holds every code: its row's largest number is 448, so its scale is 1. */
static void test_matmul_fp8_of_every_code(void **state)
{
    (void)state;
    enum { K = 254 };
    struct gw_device *dev = device_with(1);
    for (int p = PROFILES_INT8; p < PROFILES_FP8; p++) {
        const struct gw_ops *tables[VARIANTS_MAX];
        int len = ops_all(profiles[p], tables);
        for (int t = 0; t < len; t++) {
            enum gw_dtype act = tables[t]->act;
            void *src = take(K * gw_dtype_bytes(act)), *x = take(K * K * gw_dtype_bytes(act));
            float *y = take_f32(K);
            memset(x, 0, K * K * gw_dtype_bytes(act));
            for (uint32_t i = 0; i < K; i++) {
                gw_f32_put(src, act, i, (float)value_of((uint8_t)(i < 127 ? i : i + 1)));
                gw_f32_put(x, act, (size_t)i * K + i, 1.0f);
            }
            struct gw_weight w = packed(tables[t], src, 1, K);
            tables[t]->matmul(dev, y, 1, x, K, &w, &first_col, 1, K);
            for (uint32_t i = 0; i < K; i++) assert_true(y[i] == gw_f32_at(src, act, i));
            free(src), free(x), free(y), free(w.data);
        }
    }
    gw_device_destroy(dev);
}

/* m rows of shares of unequal k, by one table as by the one in plain C. */
static void edges_case(struct gw_rng *r, struct gw_device *dev, const struct gw_ops *ops, uint32_t m,
                       uint32_t n, uint32_t k)
{
    enum { SHARES = 3 };
    const struct gw_ops *plain = ops_c(ops->profile);
    const uint32_t ks[SHARES] = {k, k + 1, k / 2 + 1}, x_cols = 2 * k + k / 2 + 2;
    struct gw_weight w[SHARES];
    void *x = values_as(r, ops->act, (size_t)m * x_cols, true);
    float *want = random_f32(r, (size_t)m * n), *got = take_f32((size_t)m * n),
          *scratch = take_f32((size_t)SHARES * m * n);
    memcpy(got, want, (size_t)m * n * sizeof *got);
    for (uint32_t i = 0; i < SHARES; i++) {
        void *src = values_as(r, ops->act, (size_t)n * ks[i], true);
        w[i] = packed(plain, src, n, ks[i]);
        free(src);
    }
    plain->matmul_tree_add(dev, want, x, w, SHARES, m, scratch);
    ops->matmul_tree_add(dev, got, x, w, SHARES, m, scratch);
    assert_same_bits(got, want, (size_t)m * n * sizeof *got, ops->name);
    for (uint32_t i = 0; i < SHARES; i++) free(w[i].data);
    free(x), free(want), free(got), free(scratch);
}

static void test_matmul_fp8_around_the_edges_of_tiles_gives_the_bits_of_plain_c(void **state)
{
    (void)state;
    static const uint32_t ns[] = {15, 64, 81, 260}, ks[] = {3, 127, 128, 130, 255, 256, 257, 600};
    struct gw_rng r = seeded_rng(__func__);
    struct gw_device *dev = device_with(2);
    for (int p = PROFILES_INT8; p < PROFILES_FP8; p++) {
        const struct gw_ops *tables[VARIANTS_MAX];
        int len = ops_all(profiles[p], tables);
        for (int t = 1; t < len; t++)
            for (uint32_t m = 1; m <= 20; m += m < 8 ? 1 : 4)
                edges_case(&r, dev, tables[t], m, ns[gw_rng_next(&r) % 4], ks[gw_rng_next(&r) % 8]);
    }
    gw_device_destroy(dev);
}

/* A row of w without anything to be measured by is zeros; one that is not finite gives NaN, and no other does. */
static void test_matmul_fp8_of_zeros_and_infinities(void **state)
{
    (void)state;
    enum { M = 3, N = 70, K = 37 };
    struct gw_rng r = seeded_rng(__func__);
    struct gw_device *dev = device_with(1);
    const struct gw_ops *tables[VARIANTS_MAX];
    int len = ops_all("cpu-f32-fp8-1", tables);
    for (int t = 0; t < len; t++) {
        float *x = random_f32(&r, M * K), *src = random_f32(&r, N * K), y[M * N];
        for (uint32_t i = 0; i < K; i++) {
            src[i] = 0;
            src[K + i] = 0x1p-101f;
        }
        src[2 * K + 5] = INFINITY;
        src[69 * K + 36] = NAN;
        src[3 * K] = 0x1p120f; /* all others of its row are zeros beside it */
        struct gw_weight w = packed(tables[t], src, N, K);
        tables[t]->matmul(dev, y, N, x, K, &w, &first_col, 1, M);
        for (uint32_t m = 0; m < M; m++)
            for (uint32_t i = 0; i < N; i++) {
                if (i < 2)
                    assert_true(y[m * N + i] == 0);
                else if (i == 2 || i == 69)
                    assert_true(isnan(y[m * N + i]));
                else if (i == 3)
                    assert_true(y[m * N + i] == x[m * K] * 448.0f * (0x1p120f / 448.0f));
                else
                    assert_true(isfinite(y[m * N + i]));
            }
        free(x), free(src), free(w.data);
    }
    gw_device_destroy(dev);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_e4m3_every_code_widens_to_its_value_and_back),
        cmocka_unit_test(test_e4m3_rounds_to_nearest_and_ties_to_even),
        cmocka_unit_test(test_matmul_fp8_is_the_plain_profiles_sum_times_the_scale),
        cmocka_unit_test(test_matmul_fp8_of_every_code),
        cmocka_unit_test(test_matmul_fp8_around_the_edges_of_tiles_gives_the_bits_of_plain_c),
        cmocka_unit_test(test_matmul_fp8_of_zeros_and_infinities),
    };
    return cmocka_run_group_tests_name("kernels_fp8", tests, NULL, NULL);
}
