/* CUDA operations that work row by row, on the host shim: the same bits as the CPU's twins. */
#include "tests/lib/cuda_fixture.h"

#include <math.h>

static const enum gw_dtype acts[] = {GW_BF16, GW_F32};
/* Around the 16 lanes, the threads of a block and what a block takes. */
static const uint32_t lengths[] = {1, 15, 16, 17, 100, 127, 128, 129, 520, 1025};
#define LENGTHS (sizeof lengths / sizeof *lengths)
#define ROWS    3u

static void test_embed_equals_cpu(void **state)
{
    (void)state;
    struct gw_rng r = seeded_rng(__func__);
    struct gw_device *dev = device_with(1);
    static const enum gw_dtype types[] = {GW_F32, GW_BF16, GW_F16};
    enum { VOCAB = 11, M = 4 };
    for (size_t t = 0; t < 3; t++)
        for (size_t l = 0; l < LENGTHS; l++) {
            uint32_t hidden = lengths[l], ids[M] = {10, 0, 3, 10};
            void *table = values_as(&r, types[t] == GW_F32 ? GW_F32 : GW_BF16, VOCAB * (size_t)hidden, true);
            float *want = take_f32(M * (size_t)hidden), *got = take_f32(M * (size_t)hidden);
            ops_c(profiles[0])->embed(dev, want, table, types[t], ids, M, hidden);
            LAUNCH(gw_cuda_embed, got, table, types[t], ids, M, hidden);
            assert_same_bits(got, want, M * (size_t)hidden * 4, "embed");
            free(table), free(want), free(got);
        }
    gw_device_destroy(dev);
}

static void check_rmsnorm(struct gw_rng *r, struct gw_device *dev, enum gw_dtype act, uint32_t k, bool add)
{
    size_t len = (size_t)ROWS * k, bytes = len * gw_dtype_bytes(act);
    float *x = values_as(r, GW_F32, len, true), *w = values_as(r, GW_F32, k, true);
    float *delta = values_as(r, GW_F32, len, true), *sum = copy_of(x, len * 4);
    void *want = take(bytes), *got = take(bytes);
    const struct gw_ops *cpu = ops_c(profile_of(act));
    if (add) cpu->tree_add(dev, sum, delta, 1, len);
    cpu->rmsnorm(dev, want, sum, w, 1e-5f, ROWS, k);
    LAUNCH(gw_cuda_rmsnorm, got, act, x, add ? delta : NULL, w, 1e-5f, ROWS, k);
    assert_same_bits(got, want, bytes, "rmsnorm");
    assert_same_bits(x, sum, len * 4, "rmsnorm: x");
    free(x), free(w), free(delta), free(sum), free(want), free(got);
}

static void test_rmsnorm_equals_cpu(void **state)
{
    (void)state;
    struct gw_rng r = seeded_rng(__func__);
    struct gw_device *dev = device_with(1);
    for (size_t a = 0; a < 2; a++)
        for (size_t l = 0; l < LENGTHS; l++)
            for (int add = 0; add < 2; add++) check_rmsnorm(&r, dev, acts[a], lengths[l], add);
    check_rmsnorm(&r, dev, GW_BF16, 16384, true); /* more shared memory than a launch has by default */
    gw_device_destroy(dev);
}

static void test_rmsnorm_equals_float64_reference(void **state)
{
    (void)state;
    struct gw_rng r = seeded_rng(__func__);
    gw_device_enter_thread();
    for (size_t l = 0; l < LENGTHS; l++) {
        uint32_t k = lengths[l];
        float *x = random_f32(&r, k), *w = random_f32(&r, k), *y = take_f32(k);
        double sum = 0;
        for (uint32_t i = 0; i < k; i++) sum += (double)x[i] * x[i];
        LAUNCH(gw_cuda_rmsnorm, y, GW_F32, x, NULL, w, 1e-5f, 1, k);
        for (uint32_t i = 0; i < k; i++)
            assert_near(y[i], x[i] / sqrt(sum / k + 1e-5f) * w[i], 1e-6 * sqrt(k), "rmsnorm", i);
        free(x), free(w), free(y);
    }
}

static void test_silu_mul_equals_cpu(void **state)
{
    (void)state;
    struct gw_rng r = seeded_rng(__func__);
    struct gw_device *dev = device_with(1);
    for (size_t i = 0; i < 2 * LENGTHS; i++) {
        uint32_t cols = lengths[i / 2], shares = 1 + (uint32_t)(i % 3);
        enum gw_dtype act = acts[i % 2];
        size_t len = (size_t)ROWS * shares * cols, bytes = len * gw_dtype_bytes(act);
        float *x = values_as(&r, GW_F32, 2 * len, true);
        for (size_t at = 0; at < 2 * len; at += 7) x[at] *= 40; /* to where e^-x is 0, and infinite */
        void *want = take(bytes), *got = take(bytes);
        ops_c(profile_of(act))->silu_mul(dev, want, x, ROWS, shares, cols);
        LAUNCH(gw_cuda_silu_mul, got, act, x, ROWS, shares, cols);
        assert_same_bits(got, want, bytes, "silu_mul");
        free(x), free(want), free(got);
    }
    gw_device_destroy(dev);
}

static void check_route(struct gw_device *dev, const float *logits, uint32_t experts, uint32_t top,
                        bool over_taken)
{
    uint32_t *want = take(ROWS * top * 4), *got = take(ROWS * top * 4);
    float *want_weights = take_f32(ROWS * top), *got_weights = take_f32(ROWS * top);
    ops_c(profiles[0])->route(dev, want, want_weights, logits, ROWS, experts, top, over_taken);
    LAUNCH(gw_cuda_route, got, got_weights, logits, ROWS, experts, top, over_taken);
    assert_same_bits(got, want, ROWS * top * 4, "route: ids");
    assert_same_bits(got_weights, want_weights, ROWS * top * 4, "route: weights");
    free(want), free(got), free(want_weights), free(got_weights);
}

static void test_route_equals_cpu(void **state)
{
    (void)state;
    struct gw_rng r = seeded_rng(__func__);
    struct gw_device *dev = device_with(1);
    static const uint32_t counts[] = {1, 7, 8, 33, 128, 1024};
    for (size_t i = 0; i < 6; i++)
        for (uint32_t top = 1; top <= 8 && top <= counts[i]; top += 3) {
            float *logits = values_as(&r, GW_F32, ROWS * counts[i], true); /* has equal ones, -0 and 0 */
            for (uint32_t at = 0; at < ROWS * counts[i]; at += 3) logits[at] = 0.75f;
            for (int over = 0; over < 2; over++) check_route(dev, logits, counts[i], top, over);
            free(logits);
        }
    gw_device_destroy(dev);
}

/* NaN is no reason to write an id that is none. */
static void test_route_nan_gives_ids_of_experts(void **state)
{
    (void)state;
    gw_device_enter_thread();
    float logits[5] = {NAN, 1, NAN, NAN, NAN}, weights[3];
    uint32_t ids[3];
    LAUNCH(gw_cuda_route, ids, weights, logits, 1, 5, 3, true);
    for (int i = 0; i < 3; i++)
        assert_int_equal(ids[i], i); /* the only number, and the lowest of the others */
}

static void test_weigh_equals_cpu(void **state)
{
    (void)state;
    struct gw_rng r = seeded_rng(__func__);
    struct gw_device *dev = device_with(1);
    for (size_t l = 0; l < LENGTHS; l++) {
        uint32_t n = lengths[l];
        float *x = values_as(&r, GW_F32, n, true), *want = take_f32(n), *got = take_f32(n);
        for (uint32_t i = 0; i < n; i += 5) x[i] = i % 2 ? NAN : -INFINITY;
        ops_c(profiles[0])->weigh(dev, want, x, n, 1.0f, 0.7f);
        LAUNCH(gw_cuda_weigh, got, x, n, 1.0f, 0.7f);
        assert_same_bits(got, want, n * 4, "weigh");
        free(x), free(want), free(got);
    }
    gw_device_destroy(dev);
}

static void test_gather_equals_cpu(void **state)
{
    (void)state;
    struct gw_rng r = seeded_rng(__func__);
    struct gw_device *dev = device_with(1);
    const uint32_t rows[] = {4, 0, 4, 6, 2};
    for (size_t i = 0; i < 2 * LENGTHS; i++) {
        uint32_t k = lengths[i / 2];
        enum gw_dtype type = acts[i % 2];
        size_t bytes = 5 * k * gw_dtype_bytes(type);
        void *x = values_as(&r, type, (size_t)7 * k, true), *want = take(bytes), *got = take(bytes);
        ops_c(profile_of(type))->gather(dev, want, x, type, rows, 5, k);
        LAUNCH(gw_cuda_gather, got, x, type, rows, 5, k);
        assert_same_bits(got, want, bytes, "gather");
        free(x), free(want), free(got);
    }
    gw_device_destroy(dev);
}

static void test_scatter_add_equals_cpu(void **state)
{
    (void)state;
    struct gw_rng r = seeded_rng(__func__);
    struct gw_device *dev = device_with(1);
    enum { Y_ROWS = 9, M = 5, SHARES = 3 };
    for (size_t l = 0; l < LENGTHS; l++) {
        uint32_t n = lengths[l], *rows = distinct(&r, M, Y_ROWS);
        float *x = values_as(&r, GW_F32, (size_t)SHARES * M * n, true), *weights = random_f32(&r, M);
        float *want = values_as(&r, GW_F32, (size_t)SHARES * Y_ROWS * n, true);
        float *got = copy_of(want, (size_t)SHARES * Y_ROWS * n * 4);
        ops_c(profiles[0])->scatter_add(dev, want, Y_ROWS, x, rows, weights, SHARES, M, n);
        LAUNCH(gw_cuda_scatter_add, got, Y_ROWS, x, rows, weights, SHARES, M, n);
        assert_same_bits(got, want, (size_t)SHARES * Y_ROWS * n * 4, "scatter_add");
        free(rows), free(x), free(weights), free(want), free(got);
    }
    gw_device_destroy(dev);
}

static void test_tree_add_equals_cpu_for_every_number_of_shares(void **state)
{
    (void)state;
    struct gw_rng r = seeded_rng(__func__);
    struct gw_device *dev = device_with(1);
    enum { ELEMS = 19 };
    for (uint32_t shares = 1; shares <= GW_SHARES_MAX; shares++) {
        float *partials = values_as(&r, GW_F32, (size_t)shares * ELEMS, true);
        float *want = values_as(&r, GW_F32, ELEMS, true), *got = copy_of(want, ELEMS * 4);
        ops_c(profiles[0])->tree_add(dev, want, partials, shares, ELEMS);
        LAUNCH(gw_cuda_tree_add, got, partials, shares, ELEMS);
        assert_same_bits(got, want, ELEMS * 4, "tree_add");
        free(partials), free(want), free(got);
    }
    gw_device_destroy(dev);
}

/* Pages out of a pool, and back into other slots; those that no slot names stay as they are. */
static void test_pages_go_out_and_back(void **state)
{
    (void)state;
    struct gw_rng r = seeded_rng(__func__);
    enum { SLOTS = 9, PAGES = 4 };
    static const size_t sizes[] = {16, 48, 2048, 8192 + 16};
    for (size_t i = 0; i < 4; i++) {
        size_t page = sizes[i];
        uint8_t *pool = take(SLOTS * page), *row = take(PAGES * page), *other = take(SLOTS * page);
        for (size_t at = 0; at < SLOTS * page; at++) pool[at] = (uint8_t)gw_rng_next(&r);
        memset(other, 0xFF, SLOTS * page);
        uint32_t *from = distinct(&r, PAGES, SLOTS), *to = distinct(&r, PAGES, SLOTS);
        LAUNCH(gw_cuda_pages, row, NULL, pool, from, PAGES, page);
        LAUNCH(gw_cuda_pages, other, to, row, NULL, PAGES, page);
        size_t touched = 0;
        for (uint32_t p = 0; p < PAGES; p++) {
            assert_memory_equal(row + p * page, pool + from[p] * page, page);
            assert_memory_equal(other + to[p] * page, pool + from[p] * page, page);
        }
        for (uint32_t slot = 0; slot < SLOTS; slot++) {
            bool named = false;
            for (uint32_t p = 0; p < PAGES; p++) named = named || to[p] == slot;
            for (size_t at = 0; !named && at < page; at++) touched += other[slot * page + at] != 0xFF;
        }
        assert_int_equal(touched, 0);
        LAUNCH(gw_cuda_pages, other, from, pool, from, PAGES, page);
        for (uint32_t p = 0; p < PAGES; p++)
            assert_memory_equal(other + from[p] * page, pool + from[p] * page, page);
        free(pool), free(row), free(other), free(from), free(to);
    }
}

static void test_launchers_nothing_to_do_touches_nothing(void **state)
{
    (void)state;
    LAUNCH(gw_cuda_embed, NULL, NULL, GW_BF16, NULL, 0, 8);
    LAUNCH(gw_cuda_rmsnorm, NULL, GW_BF16, NULL, NULL, NULL, 1e-5f, 0, 8);
    LAUNCH(gw_cuda_silu_mul, NULL, GW_BF16, NULL, 0, 1, 8);
    LAUNCH(gw_cuda_gather, NULL, NULL, GW_BF16, NULL, 0, 8);
    LAUNCH(gw_cuda_scatter_add, NULL, 0, NULL, NULL, NULL, 2, 0, 8);
    LAUNCH(gw_cuda_tree_add, NULL, NULL, 2, 0);
    LAUNCH(gw_cuda_pages, NULL, NULL, NULL, NULL, 0, 16);
}

static void test_launchers_shapes_outside_limits_are_refused(void **state)
{
    (void)state;
    float x[4] = {0};
    ASSERT_REFUSED(gw_cuda_rmsnorm, x, GW_F32, x, NULL, x, 1e-5f, 1, 16385);
    ASSERT_REFUSED(gw_cuda_rmsnorm, x, GW_F16, x, NULL, x, 1e-5f, 1, 4);
    ASSERT_REFUSED(gw_cuda_silu_mul, x, GW_F16, x, 1, 1, 1);
    ASSERT_REFUSED(gw_cuda_silu_mul, x, GW_F32, x, UINT32_MAX, 2, 1);
    ASSERT_REFUSED(gw_cuda_tree_add, x, x, GW_SHARES_MAX + 1, 1);
    ASSERT_REFUSED(gw_cuda_tree_add, x, x, 0, 1);
    ASSERT_REFUSED(gw_cuda_route, NULL, x, x, 1, 4, 5, true);
    ASSERT_REFUSED(gw_cuda_route, NULL, x, x, 1, GW_EXPERTS_MAX + 1, 5, true);
    ASSERT_REFUSED(gw_cuda_pages, x, NULL, x, NULL, 1, 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_embed_equals_cpu),
        cmocka_unit_test(test_rmsnorm_equals_cpu),
        cmocka_unit_test(test_rmsnorm_equals_float64_reference),
        cmocka_unit_test(test_silu_mul_equals_cpu),
        cmocka_unit_test(test_route_equals_cpu),
        cmocka_unit_test(test_route_nan_gives_ids_of_experts),
        cmocka_unit_test(test_weigh_equals_cpu),
        cmocka_unit_test(test_gather_equals_cpu),
        cmocka_unit_test(test_scatter_add_equals_cpu),
        cmocka_unit_test(test_tree_add_equals_cpu_for_every_number_of_shares),
        cmocka_unit_test(test_pages_go_out_and_back),
        cmocka_unit_test(test_launchers_nothing_to_do_touches_nothing),
        cmocka_unit_test(test_launchers_shapes_outside_limits_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
