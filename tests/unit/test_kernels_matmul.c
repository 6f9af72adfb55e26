/* kernels: products and the tree over shares, against float64 and bit by bit between variants. */
#include "tests/lib/kernels_fixture.h"

#include <math.h>

struct shape {
    uint32_t m, n, k;
};

/* Rows 1..17 and 64 cross the 6-row micro-kernel and the 48-row item; n crosses the 64-column tile and its
 * quarters; k the pair, and the 512-element block. */
static const struct shape shapes[] = {
    {1, 1, 1},     {1, 64, 2},    {2, 63, 3},   {3, 65, 64},   {4, 16, 7},    {5, 17, 511},  {6, 128, 512},
    {7, 200, 513}, {8, 48, 5},    {9, 33, 100}, {10, 1, 1025}, {11, 127, 31}, {12, 129, 33}, {13, 47, 8},
    {14, 80, 2},   {15, 100, 77}, {16, 96, 96}, {17, 15, 14},  {49, 70, 40},  {64, 192, 20}, {100, 300, 9},
};
#define SHAPES (sizeof shapes / sizeof *shapes)

static float at(const struct gw_ops *ops, const void *array, size_t i)
{
    float x = gw_f32_at(array, ops->act, i);
    return fabsf(x) < 0x1p-126f ? 0.0f : x;
}

static void test_matmul_c_equals_float64_reference(void **state)
{
    (void)state;
    struct gw_rng r = seeded_rng(__func__);
    struct gw_device *dev = device_with(1);
    for (int p = 0; p < PROFILES; p++)
        for (size_t i = 0; i < SHAPES; i++) {
            struct shape s = shapes[i];
            const struct gw_ops *ops = ops_c(profiles[p]);
            void *x = values_as(&r, ops->act, (size_t)s.m * s.k, false);
            void *src = values_as(&r, ops->weight, (size_t)s.n * s.k, false);
            struct gw_weight w = packed(ops, src, s.n, s.k);
            float *y = take_f32((size_t)s.m * s.n);
            ops->matmul(dev, y, s.n, x, s.k, &w, s.m);
            for (uint32_t row = 0; row < s.m; row++)
                for (uint32_t col = 0; col < s.n; col++) {
                    double sum = 0, size = 0;
                    for (uint32_t k = 0; k < s.k; k++) {
                        double product =
                            (double)at(ops, x, (size_t)row * s.k + k) * at(ops, src, (size_t)col * s.k + k);
                        sum += product;
                        size += fabs(product);
                    }
                    assert_near(y[(size_t)row * s.n + col], sum, 1e-7 * s.k * size + 1e-37, "y",
                                (size_t)row * s.n + col);
                }
            free(x), free(src), free(w.data), free(y);
        }
    gw_device_destroy(dev);
}

/* y with a stride of its own; what lies between rows must stay as it is. */
static float *product(const struct gw_ops *ops, struct gw_device *dev, const void *x, const void *src,
                      struct shape s, size_t y_stride)
{
    struct gw_weight w = packed(ops, src, s.n, s.k);
    float *y = take_f32(s.m * y_stride);
    memset(y, 0x5A, s.m * y_stride * sizeof(float));
    ops->matmul(dev, y, y_stride, x, s.k, &w, s.m);
    free(w.data);
    return y;
}

static void test_matmul_variants_and_threads_give_the_same_bits(void **state)
{
    (void)state;
    static const int threads[] = {1, 2, 3, 5};
    struct gw_rng r = seeded_rng(__func__);
    for (int t = 0; t < 4; t++) {
        struct gw_device *dev = device_with(threads[t]), *one = device_with(1);
        for (int p = 0; p < PROFILES; p++)
            for (size_t i = 0; i < SHAPES; i++) {
                struct shape s = shapes[i];
                const struct gw_ops *variants[VARIANTS_MAX];
                int len = ops_all(profiles[p], variants);
                void *x = values_as(&r, variants[0]->act, (size_t)s.m * s.k, true);
                void *src = values_as(&r, variants[0]->weight, (size_t)s.n * s.k, true);
                size_t stride = s.n + i % 3;
                float *want = product(variants[0], one, x, src, s, stride);
                for (int v = 0; v < len; v++) {
                    float *got = product(variants[v], dev, x, src, s, stride);
                    assert_same_bits(got, want, s.m * stride * sizeof(float), variants[v]->name);
                    free(got);
                }
                free(x), free(src), free(want);
            }
        gw_device_destroy(dev);
        gw_device_destroy(one);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_matmul_c_equals_float64_reference),
        cmocka_unit_test(test_matmul_variants_and_threads_give_the_same_bits),
    };
    return cmocka_run_group_tests_name("kernels_matmul", tests, NULL, NULL);
}
