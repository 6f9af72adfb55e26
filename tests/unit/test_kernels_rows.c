/* kernels: operations that work row by row (embed, rmsnorm, silu_mul), and packing. */
#include "tests/lib/kernels_fixture.h"

#include <float.h>
#include <math.h>

#include "kernels/vmath.h"

static const uint32_t lengths[] = {1, 2, 8, 15, 16, 17, 31, 48, 63, 100, 192, 257, 1030};
static const uint32_t rows_of[] = {1, 2, 3, 5, 17, 64};
static const int threads_of[] = {1, 2, 3, 5};
#define LENGTHS (sizeof lengths / sizeof *lengths)
#define ROWS    (sizeof rows_of / sizeof *rows_of)
#define THREADS (sizeof threads_of / sizeof *threads_of)

/* One operation under test on m rows of `len` f32 inputs each; returns what it wrote and how much. */
typedef void *row_op(const struct gw_ops *ops, struct gw_device *dev, const float *x, const float *w,
                     uint32_t m, uint32_t len, size_t *bytes);

static void *op_rmsnorm(const struct gw_ops *ops, struct gw_device *dev, const float *x, const float *w,
                        uint32_t m, uint32_t len, size_t *bytes)
{
    *bytes = (size_t)m * len * gw_dtype_bytes(ops->act);
    void *y = take(*bytes);
    ops->rmsnorm(dev, y, x, w, 1e-5f, m, len);
    return y;
}

/* Shares of the FFN: as many as divide len. */
static uint32_t ffn_shares(uint32_t len)
{
    return len % 16 == 0 ? 8 : len % 3 == 0 ? 3 : 1;
}

static void *op_silu_mul(const struct gw_ops *ops, struct gw_device *dev, const float *x, const float *w,
                         uint32_t m, uint32_t len, size_t *bytes)
{
    (void)w;
    uint32_t pairs = m / 2; /* two rows of x are one of gate | up */
    *bytes = (size_t)pairs * len * gw_dtype_bytes(ops->act);
    void *y = take(*bytes);
    ops->silu_mul(dev, y, x, pairs, ffn_shares(len), len / ffn_shares(len));
    return y;
}

static row_op *const row_ops[] = {op_rmsnorm, op_silu_mul};
static const char *const row_op_names[] = {"rmsnorm", "silu_mul"};

static float *directed(struct gw_rng *r, size_t len)
{
    float *p = values_as(r, GW_F32, len, true);
    return p;
}

static void test_row_ops_variants_and_threads_give_the_same_bits(void **state)
{
    (void)state;
    struct gw_rng r = seeded_rng(__func__);
    for (size_t t = 0; t < THREADS; t++) {
        struct gw_device *dev = device_with(threads_of[t]), *one = device_with(1);
        for (size_t i = 0; i < PROFILES * LENGTHS * ROWS; i++) {
            uint32_t len = lengths[i / PROFILES % LENGTHS], m = rows_of[i / PROFILES / LENGTHS];
            float *x = directed(&r, (size_t)m * len), *w = directed(&r, len);
            const struct gw_ops *variants[VARIANTS_MAX];
            int variants_len = ops_all(profiles[i % PROFILES], variants);
            for (int o = 0; o < 2; o++) {
                size_t bytes;
                void *want = row_ops[o](variants[0], one, x, w, m, len, &bytes);
                for (int v = 0; v < variants_len; v++) {
                    void *got = row_ops[o](variants[v], dev, x, w, m, len, &bytes);
                    assert_same_bits(got, want, bytes, row_op_names[o]);
                    free(got);
                }
                free(want);
            }
            free(x), free(w);
        }
        gw_device_destroy(dev), gw_device_destroy(one);
    }
}

/* A row gives the same bits whatever rows are beside it. */
static void test_row_ops_row_alone_equals_row_in_batch(void **state)
{
    (void)state;
    struct gw_rng r = seeded_rng(__func__);
    struct gw_device *dev = device_with(2);
    enum { M = 9, LEN = 77 };
    const struct gw_ops *tables[TABLES_MAX];
    int tables_len = ops_fast(tables);
    for (int o = 0; o < tables_len; o++) {
        const struct gw_ops *ops = tables[o];
        float *x = directed(&r, M * LEN), *w = directed(&r, LEN);
        size_t bytes, row_bytes;
        uint8_t *all = op_rmsnorm(ops, dev, x, w, M, LEN, &bytes);
        for (uint32_t row = 0; row < M; row++) {
            uint8_t *alone = op_rmsnorm(ops, dev, x + row * LEN, w, 1, LEN, &row_bytes);
            assert_same_bits(alone, all + row * row_bytes, row_bytes, "rmsnorm");
            free(alone);
        }
        free(all);
        free(x), free(w);
    }
    gw_device_destroy(dev);
}

static void test_rmsnorm_equals_float64_reference(void **state)
{
    (void)state;
    struct gw_rng r = seeded_rng(__func__);
    struct gw_device *dev = device_with(1);
    for (size_t i = 0; i < PROFILES * LENGTHS; i++) {
        const struct gw_ops *ops = ops_c(profiles[i % PROFILES]);
        uint32_t len = lengths[i / PROFILES], m = 3;
        float *x = random_f32(&r, (size_t)m * len), *w = random_f32(&r, len);
        size_t bytes;
        void *y = op_rmsnorm(ops, dev, x, w, m, len, &bytes);
        for (size_t at = 0; at < (size_t)m * len; at++) {
            double sum = 0;
            for (uint32_t k = 0; k < len; k++) sum += (double)x[at / len * len + k] * x[at / len * len + k];
            double want = x[at] / sqrt(sum / len + 1e-5f) * w[at % len];
            assert_near(gw_f32_at(y, ops->act, at), want,
                        fabs(want) * (ops->act == GW_BF16 ? 0x1.02p-8 : 1e-6) + 1e-30, "y", at);
        }
        free(x), free(w), free(y);
    }
    gw_device_destroy(dev);
}

static void test_silu_mul_equals_float64_reference(void **state)
{
    (void)state;
    struct gw_rng r = seeded_rng(__func__);
    struct gw_device *dev = device_with(1);
    enum { M = 2, SHARES = 3, COLS = 21, F = SHARES * COLS };
    for (int p = 0; p < PROFILES; p++) {
        const struct gw_ops *ops = ops_c(profiles[p]);
        float *x = random_f32(&r, M * 2 * F);
        for (size_t i = 0; i < M * 2 * F; i++) x[i] *= 20;
        void *y = take(M * F * gw_dtype_bytes(ops->act));
        ops->silu_mul(dev, y, x, M, SHARES, COLS);
        for (size_t at = 0; at < M * F; at++) {
            size_t row = at / F, share = at % F / COLS, col = at % COLS;
            const float *gate = x + row * 2 * F + share * 2 * COLS + col;
            double want = gate[0] / (1 + exp(-gate[0])) * gate[COLS];
            assert_near(gw_f32_at(y, ops->act, at), want,
                        fabs(want) * (ops->act == GW_BF16 ? 0x1.02p-8 : 1e-6) + 1e-30, "y", at);
        }
        free(x), free(y);
    }
    gw_device_destroy(dev);
}

static void test_silu_mul_of_extremes_is_finite(void **state)
{
    (void)state;
    struct gw_device *dev = device_with(1);
    const struct gw_ops *variants[VARIANTS_MAX];
    int len = ops_all("cpu-f32-2", variants);
    for (int v = 0; v < len; v++) {
        float gate_up[] = {-1e30f, -200, -89, -88, 88, 200, 1e30f, 0, 1, 1, 1, 1, 1, 1, 1, 1}, y[8];
        variants[v]->silu_mul(dev, y, gate_up, 1, 1, 8);
        for (int i = 0; i < 4; i++) assert_true(y[i] <= 0 && y[i] > -1e-35f);
        for (int i = 4; i < 8; i++) assert_true(y[i] == gate_up[i]);
    }
    gw_device_destroy(dev);
}

static void test_embed_copies_rows_of_any_type(void **state)
{
    (void)state;
    struct gw_device *dev = device_with(2);
    static const uint16_t half[] = {0x3F80, 0xBF80, 0x0001, 0x8000, 0x7F7F, 0x3C00};
    static const uint32_t ids[] = {1, 0, 1};
    const struct gw_ops *ops = ops_c("cpu-bf16dot-2");
    float y[9];
    ops->embed(dev, y, half, GW_BF16, ids, 3, 3);
    for (int i = 0; i < 9; i++) {
        float want = gw_f32_of_bits((uint32_t)half[ids[i / 3] * 3 + (uint32_t)i % 3] << 16);
        assert_memory_equal(&y[i], &want, 4);
    }
    ops->embed(dev, y, half, GW_F16, ids, 3, 3);
    assert_true(y[2] == 1.0f && y[3] == (float)(1.0 + 0x380 / 1024.0));
    static const float full[] = {1, 2, 3, 4, 5, 6};
    ops->embed(dev, y, full, GW_F32, ids, 3, 3);
    assert_true(y[0] == 4 && y[5] == 3 && y[8] == 6);
    gw_device_destroy(dev);
}

/* f16 and bf16 sources of an f32 profile multiply as their exact f32 values. */
static void test_pack_widens_half_types_exactly(void **state)
{
    (void)state;
    struct gw_device *dev = device_with(1);
    struct gw_rng r = seeded_rng(__func__);
    const struct gw_ops *ops = ops_c("cpu-f32-2");
    enum { N = 70, K = 5, STRIDE = 7 };
    static const enum gw_dtype types[] = {GW_BF16, GW_F16};
    for (int t = 0; t < 2; t++) {
        uint16_t src[N * STRIDE];
        for (size_t i = 0; i < N * STRIDE; i++)
            src[i] = (uint16_t)(gw_rng_next(&r) & 0xBBFF); /* finite, < 2 */
        struct gw_weight w = {.n = N, .k = K, .data = take(ops->pack_bytes(N, K))};
        ops->pack(w.data, src, types[t], N, K, STRIDE);
        for (uint32_t k = 0; k < K; k++) {
            const uint32_t first_col = 0;
            float x[K] = {0}, y[N];
            x[k] = 1;
            ops->matmul(dev, y, N, x, K, &w, &first_col, 1, 1);
            for (uint32_t n = 0; n < N; n++) {
                float want = gw_f32_at(src, types[t], n * STRIDE + k);
                assert_true(y[n] == (fabsf(want) < FLT_MIN ? 0 : want));
            }
        }
        free(w.data);
    }
    gw_device_destroy(dev);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_row_ops_variants_and_threads_give_the_same_bits),
        cmocka_unit_test(test_row_ops_row_alone_equals_row_in_batch),
        cmocka_unit_test(test_rmsnorm_equals_float64_reference),
        cmocka_unit_test(test_silu_mul_equals_float64_reference),
        cmocka_unit_test(test_silu_mul_of_extremes_is_finite),
        cmocka_unit_test(test_embed_copies_rows_of_any_type),
        cmocka_unit_test(test_pack_widens_half_types_exactly),
    };
    return cmocka_run_group_tests_name("kernels_rows", tests, NULL, NULL);
}
