/* kernels: products and the tree over shares, against float64 and bit by bit between variants. */
#include "tests/lib/kernels_fixture.h"

#include <math.h>

struct shape {
    uint32_t m, n, k;
};

/* Rows 1..17 and 64 cross the 6-row micro-kernel and the 48-row item; n crosses the 64-column tile and its
 * quarters; k the pair, and the blocks of 512 elements, of a single pass of 2048. */
static const struct shape shapes[] = {
    {1, 1, 1},     {1, 64, 2},    {2, 63, 3},    {3, 65, 64},   {4, 16, 7},    {5, 17, 511},
    {6, 128, 512}, {7, 200, 513}, {8, 48, 5},    {9, 33, 100},  {10, 1, 1025}, {11, 127, 31},
    {12, 129, 33}, {13, 47, 8},   {14, 80, 2},   {15, 100, 77}, {16, 96, 96},  {17, 15, 14},
    {49, 70, 40},  {64, 192, 20}, {100, 300, 9}, {4, 70, 2051},
};
#define SHAPES (sizeof shapes / sizeof *shapes)

static const uint32_t first_col = 0;

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
            void *src = values_as(&r, ops->act, (size_t)s.n * s.k, false);
            struct gw_weight w = packed(ops, src, s.n, s.k);
            float *y = take_f32((size_t)s.m * s.n);
            ops->matmul(dev, y, s.n, x, s.k, &w, &first_col, 1, s.m);
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
    ops->matmul(dev, y, y_stride, x, s.k, &w, &first_col, 1, s.m);
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
        for (int p = 0; p < PROFILES_ALL; p++)
            for (size_t i = 0; i < SHAPES; i++) {
                struct shape s = shapes[i];
                const struct gw_ops *variants[VARIANTS_MAX];
                int len = ops_all(profiles[p], variants);
                void *x = values_as(&r, variants[0]->act, (size_t)s.m * s.k, true);
                void *src = values_as(&r, variants[0]->act, (size_t)s.n * s.k, true);
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

/* Each share's product by itself, [shares][m * n]. */
static float *share_products(const struct gw_ops *ops, struct gw_device *dev, const void *x,
                             const struct gw_weight *w, uint32_t shares, uint32_t m, uint32_t x_cols)
{
    float *y = take_f32((size_t)shares * m * w[0].n);
    size_t at = 0;
    for (uint32_t s = 0; s < shares; s++) {
        const uint8_t *xs = (const uint8_t *)x + at * gw_dtype_bytes(ops->act);
        ops->matmul(dev, y + (size_t)s * m * w[0].n, w[0].n, xs, x_cols, &w[s], &first_col, 1, m);
        at += w[s].k;
    }
    return y;
}

/* matmul_shares gives what the shares give one by one. */
static void shares_case(struct gw_rng *r, const struct gw_ops *ops, struct gw_device *dev, struct shape s,
                        uint32_t shares)
{
    struct gw_weight w[8];
    uint32_t x_cols = 0;
    for (uint32_t i = 0; i < shares; i++) {
        uint32_t k = s.k + i % 3;
        void *src = values_as(r, ops->act, (size_t)s.n * k, true);
        w[i] = packed(ops, src, s.n, k);
        x_cols += k;
        free(src);
    }
    void *x = values_as(r, ops->act, (size_t)s.m * x_cols, true);
    size_t len = (size_t)shares * s.m * s.n;
    float *want = share_products(ops, dev, x, w, shares, s.m, x_cols), *got = take_f32(len);
    ops->matmul_shares(dev, got, x, w, shares, s.m);
    assert_same_bits(got, want, len * sizeof(float), ops->name);
    for (uint32_t i = 0; i < shares; i++) free(w[i].data);
    free(x), free(want), free(got);
}

static void test_matmul_shares_gives_each_share_on_its_own(void **state)
{
    (void)state;
    static const struct shape share_shapes[] = {{1, 65, 7}, {3, 20, 513}, {50, 130, 24}, {1, 900, 130}};
    struct gw_rng r = seeded_rng(__func__);
    struct gw_device *dev = device_with(3);
    for (int p = 0; p < PROFILES_ALL; p++) {
        const struct gw_ops *variants[VARIANTS_MAX];
        int len = ops_all(profiles[p], variants);
        for (int v = 0; v < len; v++)
            for (size_t i = 0; i < sizeof share_shapes / sizeof *share_shapes; i++)
                for (uint32_t shares = 1; shares <= 8; shares++)
                    shares_case(&r, variants[v], dev, share_shapes[i], shares);
    }
    gw_device_destroy(dev);
}

/* A matrix cut at `cuts` along n, its pieces at y_at: each column as from the whole matrix, gaps untouched. */
static void pieces_case(struct gw_rng *r, const struct gw_ops *ops, struct gw_device *dev, struct shape s,
                        const uint32_t *cuts, const uint32_t *y_at, uint32_t count, size_t y_stride)
{
    struct gw_weight w[8];
    void *x = values_as(r, ops->act, (size_t)s.m * s.k, true);
    void *src = values_as(r, ops->act, (size_t)s.n * s.k, true);
    size_t row_bytes = s.k * gw_dtype_bytes(ops->act);
    float *whole = product(ops, dev, x, src, s, s.n), *want = take_f32(s.m * y_stride),
          *got = take_f32(s.m * y_stride);
    memset(want, 0x5A, s.m * y_stride * sizeof(float));
    memset(got, 0x5A, s.m * y_stride * sizeof(float));
    for (uint32_t i = 0; i < count; i++) {
        w[i] = packed(ops, (const uint8_t *)src + cuts[i] * row_bytes, cuts[i + 1] - cuts[i], s.k);
        for (uint32_t row = 0; row < s.m; row++)
            memcpy(want + row * y_stride + y_at[i], whole + (size_t)row * s.n + cuts[i],
                   w[i].n * sizeof(float));
    }
    ops->matmul(dev, got, y_stride, x, s.k, w, y_at, count, s.m);
    assert_same_bits(got, want, s.m * y_stride * sizeof(float), ops->name);
    for (uint32_t i = 0; i < count; i++) free(w[i].data);
    free(x), free(src), free(whole), free(want), free(got);
}

static void test_matmul_in_pieces_equals_the_whole(void **state)
{
    (void)state;
    static const uint32_t cuts[] = {0, 1, 65, 300, 364, 1000}, y_at[] = {0, 3, 700, 100, 1000};
    static const uint32_t rows[] = {1, 6, 49, 130};
    struct gw_rng r = seeded_rng(__func__);
    for (int threads = 1; threads <= 3; threads += 2) {
        struct gw_device *dev = device_with(threads);
        for (int p = 0; p < PROFILES_ALL; p++) {
            const struct gw_ops *variants[VARIANTS_MAX];
            int len = ops_all(profiles[p], variants);
            for (int v = 0; v < len; v++)
                for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
                    uint32_t m = v == 0 && rows[i] > 6 ? 7 : rows[i]; /* plain C is slow */
                    pieces_case(&r, variants[v], dev, (struct shape){m, 1000, 133}, cuts, y_at, 5, 1650);
                }
        }
        gw_device_destroy(dev);
    }
}

/* Of more shares than are written out: as kernels/op.h says it, level by level. */
static float tree_by_levels(float *p, uint32_t len)
{
    for (; len > 1; len = (len + 1) / 2)
        for (uint32_t i = 0; i < len; i += 2) p[i / 2] = i + 1 < len ? p[i] + p[i + 1] : p[i];
    return p[0];
}

/* The trees, written out. p[s]: the product of share s; is used up. */
static float tree_sum(float *p, uint32_t shares)
{
    if (shares > 8) return tree_by_levels(p, shares);
    switch (shares) {
    case 1: return p[0];
    case 2: return p[0] + p[1];
    case 3: return (p[0] + p[1]) + p[2];
    case 5: return ((p[0] + p[1]) + (p[2] + p[3])) + p[4];
    case 7: return ((p[0] + p[1]) + (p[2] + p[3])) + ((p[4] + p[5]) + p[6]);
    default: return ((p[0] + p[1]) + (p[2] + p[3])) + ((p[4] + p[5]) + (p[6] + p[7]));
    }
}

static void tree_case(struct gw_rng *r, const struct gw_ops *ops, struct gw_device *dev, struct shape s,
                      uint32_t shares, int *chain_differs)
{
    struct gw_weight w[GW_SHARES_MAX];
    uint32_t x_cols = 0;
    for (uint32_t i = 0; i < shares; i++) {
        uint32_t k = s.k + (s.k > 20 ? i % 2 : 0); /* shares may be unequal */
        void *src = values_as(r, ops->act, (size_t)s.n * k, false);
        w[i] = packed(ops, src, s.n, k);
        x_cols += k;
        free(src);
    }
    void *x = values_as(r, ops->act, (size_t)s.m * x_cols, false);
    float *residual = random_f32(r, (size_t)s.m * s.n), *before = take_f32((size_t)s.m * s.n);
    float *scratch = take_f32((size_t)shares * s.m * s.n),
          *parts = share_products(ops, dev, x, w, shares, s.m, x_cols);
    memcpy(before, residual, (size_t)s.m * s.n * sizeof(float));
    ops->matmul_tree_add(dev, residual, x, w, shares, s.m, scratch);
    for (size_t i = 0; i < (size_t)s.m * s.n; i++) {
        float p[GW_SHARES_MAX] = {0}, chain = 0;
        for (uint32_t j = 0; j < shares; j++) {
            p[j] = parts[j * s.m * s.n + i];
            chain = j == 0 ? p[0] : chain + p[j];
        }
        float want = before[i] + tree_sum(p, shares);
        if (residual[i] != want) fail_msg("%s: %u shares, element %zu", ops->name, shares, i);
        *chain_differs += before[i] + chain != want;
    }
    for (uint32_t i = 0; i < shares; i++) free(w[i].data);
    free(x), free(residual), free(before), free(scratch), free(parts);
}

static void test_matmul_tree_add_sums_shares_in_the_tree_order(void **state)
{
    (void)state;
    static const uint32_t counts[] = {1, 2, 3, 5, 7, 8};
    static const struct shape tree_shapes[] = {{1, 65, 7}, {3, 20, 513}, {50, 130, 24}, {7, 200, 40}};
    struct gw_rng r = seeded_rng(__func__);
    struct gw_device *dev = device_with(3);
    int chain_differs = 0;
    for (int p = 0; p < PROFILES_ALL; p++) {
        const struct gw_ops *variants[VARIANTS_MAX];
        int len = ops_all(profiles[p], variants);
        for (int v = 0; v < len; v++)
            for (size_t c = 0; c < sizeof counts / sizeof *counts; c++)
                for (size_t i = 0; i < sizeof tree_shapes / sizeof *tree_shapes; i++)
                    tree_case(&r, variants[v], dev, tree_shapes[i], counts[c], &chain_differs);
    }
    assert_true(chain_differs > 0); /* else this test could not tell the orders apart */
    gw_device_destroy(dev);
}

/* Rows and columns cross an item; a deep tree has room for fewer tiles of it. */
static void test_matmul_tree_add_of_many_shares_is_the_same_tree(void **state)
{
    (void)state;
    static const uint32_t counts[] = {11, GW_SHARES_MAX};
    struct gw_rng r = seeded_rng(__func__);
    struct gw_device *dev = device_with(2);
    int chain_differs = 0;
    for (int p = 0; p < PROFILES_ALL; p++) {
        const struct gw_ops *variants[VARIANTS_MAX];
        int len = ops_all(profiles[p], variants);
        for (int v = 0; v < len; v++)
            for (size_t c = 0; c < sizeof counts / sizeof *counts; c++)
                tree_case(&r, variants[v], dev, (struct shape){49, 200, 2}, counts[c], &chain_differs);
    }
    assert_true(chain_differs > 0);
    gw_device_destroy(dev);
}

/* Rows of several of the largest items. */
static void test_matmul_tree_add_of_many_rows_is_the_same_tree(void **state)
{
    (void)state;
    struct gw_rng r = seeded_rng(__func__);
    struct gw_device *dev = device_with(1);
    const struct gw_ops *tables[TABLES_MAX];
    int tables_len = ops_fast(tables), chain_differs = 0;
    for (int o = 0; o < tables_len; o++)
        tree_case(&r, tables[o], dev, (struct shape){200, 1030, 2}, 8, &chain_differs);
    assert_true(chain_differs > 0);
    gw_device_destroy(dev);
}

/* Row r alone, and as one of many. */
static void test_matmul_row_alone_equals_row_in_batch(void **state)
{
    (void)state;
    struct gw_rng r = seeded_rng(__func__);
    struct gw_device *dev = device_with(2);
    struct shape s = {61, 150, 601};
    const struct gw_ops *tables[TABLES_MAX];
    int tables_len = ops_fast(tables);
    for (int o = 0; o < tables_len; o++) {
        const struct gw_ops *ops = tables[o];
        void *x = values_as(&r, ops->act, (size_t)s.m * s.k, true);
        void *src = values_as(&r, ops->act, (size_t)s.n * s.k, true);
        float *all = product(ops, dev, x, src, s, s.n);
        for (uint32_t row = 0; row < s.m; row++) {
            const void *one = (const uint8_t *)x + (size_t)row * s.k * gw_dtype_bytes(ops->act);
            float *alone = product(ops, dev, one, src, (struct shape){1, s.n, s.k}, s.n);
            assert_same_bits(alone, all + (size_t)row * s.n, s.n * sizeof(float), "row");
            free(alone);
        }
        free(x), free(src), free(all);
    }
    gw_device_destroy(dev);
}

/* Large enough that the threads really share it out, and have rows of several items; five have smaller items than one. */
static void test_matmul_large_over_threads_equals_one_thread(void **state)
{
    (void)state;
    static const struct shape large[] = {{130, 1100, 700}, {200, 1030, 40}};
    struct gw_rng r = seeded_rng(__func__);
    struct gw_device *one = device_with(1), *five = device_with(5);
    const struct gw_ops *tables[TABLES_MAX];
    int tables_len = ops_fast(tables);
    for (int o = 0; o < 2 * tables_len; o++) {
        const struct gw_ops *ops = tables[o / 2];
        struct shape s = large[o % 2];
        void *x = values_as(&r, ops->act, (size_t)s.m * s.k, true);
        void *src = values_as(&r, ops->act, (size_t)s.n * s.k, true);
        float *want = product(ops, one, x, src, s, s.n), *got = product(ops, five, x, src, s, s.n);
        assert_same_bits(got, want, (size_t)s.m * s.n * sizeof(float), ops->name);
        free(x), free(src), free(want), free(got);
    }
    gw_device_destroy(one), gw_device_destroy(five);
}

/* DAZ and FTZ, on values where another mode gives another result. */
static void test_matmul_directed_pairs_follow_the_profile(void **state)
{
    (void)state;
    static const struct {
        float x[2], w[2], want; /* of cpu-bf16dot-2 */
    } cases[] = {
        {{1, 0x1p-30f}, {1, 0x1p-30f}, 1},
        {{0x1p60f, 1}, {1, 1}, 0x1p60f},
        {{0x1p-130f, 1}, {0x1p100f, 3}, 3},     /* a denormal of x is zero */
        {{1, 0x1p100f}, {5, 0x1p-130f}, 5},     /* of w too */
        {{0, 0x1p-70f}, {0, 0x1p-70f}, 0},      /* a result below the least normal is zero */
        {{-0x1p-70f, 0}, {0x1p-70f, 0}, -0.0f}, /* of its sign: the last fma flushes to -0 */
        {{0x1p-63f, 0x1p-64f},
         {0x1p-63f, 0x1p-64f},
         0x1p-126f}, /* the odd product is flushed before the sum */
    };
    struct gw_device *dev = device_with(1);
    const struct gw_ops *variants[VARIANTS_MAX];
    int len = ops_all("cpu-bf16dot-2", variants);
    for (int v = 0; v < len; v++)
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            uint16_t x[2], src[2];
            for (int j = 0; j < 2; j++) {
                x[j] = (uint16_t)(gw_f32_bits(cases[i].x[j]) >> 16);
                src[j] = (uint16_t)(gw_f32_bits(cases[i].w[j]) >> 16);
            }
            struct gw_weight w = packed(variants[v], src, 1, 2);
            float y;
            variants[v]->matmul(dev, &y, 1, x, 2, &w, &first_col, 1, 1);
            if (gw_f32_bits(y) != gw_f32_bits(cases[i].want))
                fail_msg("%s: case %zu: %a", variants[v]->name, i, y);
            free(w.data);
        }
    gw_device_destroy(dev);
}

/* Four terms whose sum depends on the order: in pairs, the odd one first. */
static void test_matmul_order_of_a_pair_is_odd_first(void **state)
{
    (void)state;
    struct gw_device *dev = device_with(1);
    const struct gw_ops *variants[VARIANTS_MAX];
    int len = ops_all("cpu-bf16dot-2", variants);
    /* ((2^24 + 1) - 2^24) + 1 with 2^24 + 1 = 2^24 in f32: 1. Even first would be (1 + 2^24) + (1 - 2^24) = 1
     * or 2 */
    const float x[4] = {1, 0x1p24f, 1, -0x1p24f};
    for (int v = 0; v < len; v++) {
        uint16_t xs[4], ones[4] = {0x3F80, 0x3F80, 0x3F80, 0x3F80};
        for (int j = 0; j < 4; j++) xs[j] = (uint16_t)(gw_f32_bits(x[j]) >> 16);
        struct gw_weight w = packed(variants[v], ones, 1, 4);
        float y;
        variants[v]->matmul(dev, &y, 1, xs, 4, &w, &first_col, 1, 1);
        assert_true(y == 1.0f);
        free(w.data);
    }
    gw_device_destroy(dev);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_matmul_c_equals_float64_reference),
        cmocka_unit_test(test_matmul_variants_and_threads_give_the_same_bits),
        cmocka_unit_test(test_matmul_row_alone_equals_row_in_batch),
        cmocka_unit_test(test_matmul_large_over_threads_equals_one_thread),
        cmocka_unit_test(test_matmul_directed_pairs_follow_the_profile),
        cmocka_unit_test(test_matmul_order_of_a_pair_is_odd_first),
        cmocka_unit_test(test_matmul_shares_gives_each_share_on_its_own),
        cmocka_unit_test(test_matmul_in_pieces_equals_the_whole),
        cmocka_unit_test(test_matmul_tree_add_sums_shares_in_the_tree_order),
        cmocka_unit_test(test_matmul_tree_add_of_many_shares_is_the_same_tree),
        cmocka_unit_test(test_matmul_tree_add_of_many_rows_is_the_same_tree),
    };
    return cmocka_run_group_tests_name("kernels_matmul", tests, NULL, NULL);
}
