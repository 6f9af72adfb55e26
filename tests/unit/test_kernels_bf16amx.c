/* kernels/, cpu-bf16amx-1: what TDPBF16PS computes, and that every variant's products are that. (What holds for products of any
 * profile is test_kernels_matmul's.) */
#include "tests/lib/kernels_fixture.h"

#include <math.h>

#include "kernels/cpu/amx.h"
#include "kernels/cpu/device.h"

#define PROFILE "cpu-bf16amx-1"

static const uint32_t first_col = 0;

/* ---- the instruction ---- */

enum { ROWS = 16, COLS = 16, PAIRS = 16, TILES = 600 };

struct tiles {
    _Alignas(64) uint16_t x[ROWS][2 * PAIRS], w[PAIRS][2 * COLS];
    _Alignas(64) float sums[ROWS][COLS];
};

static bool has_tiles(void)
{
    const struct gw_ops *ops;
    struct gw_err_ctx ctx = {0};
    if (gw_ops_cpu(PROFILE, GW_ISA_AMX, &ops, &ctx) == GW_OK) return true;
    printf("# skipped: %s\n", ctx.text);
    return false;
}

static void multiply_by_tiles(struct tiles *t)
{
    gw_amx_enter();
    GW_AMX_LOAD(0, t->sums, 64);
    GW_AMX_LOAD(1, t->x, 64);
    GW_AMX_LOAD(2, t->w, 64);
    GW_AMX_DOT_BF16(0, 1, 2);
    GW_AMX_STORE(0, t->sums, 64);
    gw_amx_leave();
}

/* As kernels/op.h has it. The thread's FTZ and DAZ are the instruction's own. */
static float expected(const struct tiles *t, int row, int col)
{
    float even = 0, odd = 0;
    for (int i = 0; i < PAIRS; i++) {
        even = fmaf(gw_f32_of_bf16(t->x[row][2 * i]), gw_f32_of_bf16(t->w[i][2 * col]), even);
        odd = fmaf(gw_f32_of_bf16(t->x[row][2 * i + 1]), gw_f32_of_bf16(t->w[i][2 * col + 1]), odd);
    }
    return t->sums[row][col] + (even + odd);
}

/* kind 0: any bits. 1: exponents of 24 around 1, so that sums cancel and round. 2: products and sums around the least normal.
 * 3: those around the largest. 4: what the other tests take, one in 16 special. */
static float operand(struct gw_rng *r, int kind)
{
    static const uint32_t least[] = {0, 127 - 12, 127 - 70, 127 + 55, 0};
    static const uint32_t count[] = {256, 24, 16, 16, 0};
    const uint64_t bits = gw_rng_next(r);
    if (kind == 4) return value(r);
    uint32_t exponent = least[kind] + (uint32_t)(bits >> 32) % count[kind];
    return gw_f32_of_bits((uint32_t)(bits & 0x807F0000u) | exponent << 23);
}

static float sum_before(struct gw_rng *r, int kind)
{
    static const uint32_t least[] = {0, 127 - 12, 1, 254 - 8, 127};
    static const uint32_t count[] = {256, 24, 30, 8, 4};
    const uint64_t bits = gw_rng_next(r);
    uint32_t exponent = least[kind] + (uint32_t)(bits >> 32) % count[kind];
    if (bits >> 60 == 0) exponent = 0;
    return gw_f32_of_bits((uint32_t)(bits & 0x807FFFFFu) | exponent << 23);
}

static void fill_tiles(struct tiles *t, struct gw_rng *r, int kind)
{
    for (int i = 0; i < ROWS; i++)
        for (int j = 0; j < 2 * COLS; j++) {
            t->x[i][j] = (uint16_t)(gw_f32_bits(operand(r, kind)) >> 16);
            t->w[i][j] = (uint16_t)(gw_f32_bits(operand(r, kind)) >> 16);
        }
    for (int i = 0; i < ROWS; i++)
        for (int j = 0; j < COLS; j++) t->sums[i][j] = sum_before(r, kind);
}

/* All bits but those of a NaN. */
static bool same(float a, float b)
{
    return gw_f32_bits(a) == gw_f32_bits(b) || (isnan(a) && isnan(b));
}

static void test_tdpbf16ps_adds_even_and_odd_pairs_apart__skipped_without_tiles(void **state)
{
    (void)state;
    struct gw_rng r = seeded_rng(__func__);
    struct tiles before, after;
    if (!has_tiles()) skip();
    gw_device_enter_thread();
    for (int i = 0; i < TILES; i++) {
        fill_tiles(&before, &r, i % 5);
        after = before;
        multiply_by_tiles(&after);
        for (int e = 0; e < ROWS * COLS; e++) {
            float want = expected(&before, e / COLS, e % COLS), got = after.sums[e / COLS][e % COLS];
            if (!same(got, want)) fail_msg("tile %d, element %d: %a, expected %a", i, e, got, want);
        }
    }
}

/* ---- products of every variant ---- */

#define K_MAX 96

/* y of x[k] · w[k] by every variant: in the first of `rows` rows, the others are zeros. */
static void expect_product(const float *x, const float *w, uint32_t k, float want)
{
    static const uint32_t row_counts[] = {1, 4, 16, 40};
    const struct gw_ops *variants[VARIANTS_MAX];
    struct gw_device *dev = device_with(1);
    int len = ops_all(PROFILE, variants);
    for (size_t i = 0; i < (size_t)len * 4; i++) {
        const struct gw_ops *ops = variants[i / 4];
        uint32_t rows = row_counts[i % 4];
        uint16_t *xs = take((size_t)rows * k * 2), ws[K_MAX];
        float *y = take_f32(rows);
        memset(xs, 0, (size_t)rows * k * 2);
        for (uint32_t j = 0; j < k; j++) {
            xs[j] = (uint16_t)(gw_f32_bits(x[j]) >> 16);
            ws[j] = (uint16_t)(gw_f32_bits(w[j]) >> 16);
        }
        struct gw_weight packed_w = packed(ops, ws, 1, k);
        ops->matmul(dev, y, 1, xs, k, &packed_w, &first_col, 1, rows);
        if (gw_f32_bits(y[0]) != gw_f32_bits(want))
            fail_msg("%s: %u rows of %u k: %a, expected %a", ops->name, rows, k, y[0], want);
        free(packed_w.data), free(xs), free(y);
    }
    gw_device_destroy(dev);
}

static void test_matmul_even_and_odd_are_added_apart(void **state)
{
    (void)state;
    static const float ones[K_MAX] = {[0 ... K_MAX - 1] = 1};
    /* (1 + 1) + (2^24 - 2^24); pair by pair a 1 would be lost */
    expect_product((const float[]){1, 0x1p24f, 1, -0x1p24f}, ones, 4, 2);
    /* 2^24 + 1 = 2^24 among the even ones, whatever the odd ones are */
    expect_product((const float[]){0x1p24f, 0, 1, 0, 0, 0x1p24f, -0x1p24f, -0x1p24f}, ones, 8, 0);
}

static void test_matmul_folds_after_32_k(void **state)
{
    (void)state;
    static const float ones[K_MAX] = {[0 ... K_MAX - 1] = 1};
    float x[K_MAX] = {[0] = 0x1p24f, [30] = 1, [32] = 1, [34] = 1};
    expect_product(x, ones, 64, 0x1p24f + 2); /* in the first fold a 1 is lost; the second is 2 */
    x[32] = x[34] = 0;
    x[2] = x[4] = 1;
    expect_product(x, ones, 64, 0x1p24f);
}

static void test_matmul_flushes_denormals_in_each_addition(void **state)
{
    (void)state;
    expect_product((const float[]){0x1p-130f, 1}, (const float[]){0x1p100f, 3}, 2, 3); /* one of x is zero */
    expect_product((const float[]){1, 0x1p100f}, (const float[]){5, 0x1p-130f}, 2, 5); /* one of w too */
    expect_product((const float[]){0x1p-63f, 0x1p-64f}, (const float[]){0x1p-63f, 0x1p-64f}, 2, 0x1p-126f);
    /* even + odd: 2^-126 - 1.5 · 2^-126 */
    expect_product((const float[]){0x1p-63f, -0x1.8p-63f}, (const float[]){0x1p-63f, 0x1p-63f}, 2, 0);
}

/* Sums flushed to -0, and then k that is no multiple of 32, whose even and odd sums are -0: the zeros behind it make +0 of them,
 * and of all. */
static void test_matmul_zeros_behind_k_are_added(void **state)
{
    (void)state;
    float x[K_MAX] = {[0] = 0x1p-63f, [32] = -0x1.8p-63f, [64] = -0x1p-70f, [65] = -0x1p-70f};
    float w[K_MAX] = {[0] = 0x1p-63f, [32] = 0x1p-63f, [64] = 0x1p-70f, [65] = 0x1p-70f};
    expect_product(x, w, 64, -0.0f);
    expect_product(x, w, 66, 0.0f);
    expect_product(x, w, 65, 0.0f);
    expect_product(x, w, 96, 0.0f);
    for (int i = 64; i < 96; i++) x[i] = -0x1p-70f, w[i] = 0x1p-70f; /* none behind */
    expect_product(x, w, 96, -0.0f);
    expect_product(x, w, 95, 0.0f);
}

/* ---- edges of tiles ---- */

struct shape {
    uint32_t m, n, k;
};

static uint32_t one_of(struct gw_rng *r, const uint32_t *of, uint64_t len)
{
    return of[gw_rng_below(r, len)];
}

static struct shape random_shape(struct gw_rng *r)
{
    static const uint32_t m[] = {1, 2, 6, 7, 15, 16, 17, 31, 32, 33, 48, 49, 65},
                          n[] = {1, 15, 16, 17, 63, 64, 65, 130},
                          k[] = {1, 2, 31, 32, 33, 34, 63, 64, 65, 95, 130, 511, 514, 1023, 1025, 1100};
    return (struct shape){one_of(r, m, 13), one_of(r, n, 8), one_of(r, k, 16)};
}

/* Row-parallel products of unequal shares, each from a k of its own. */
static void shares_case(struct gw_rng *r, const struct gw_ops *want_ops, const struct gw_ops *ops,
                        struct gw_device *dev, struct shape s)
{
    const uint32_t shares = 1 + (uint32_t)gw_rng_below(r, 5);
    const size_t len = (size_t)s.m * s.n;
    struct gw_weight w[5];
    uint32_t x_cols = 0;
    for (uint32_t i = 0; i < shares; i++) {
        uint32_t k = s.k + i % 3;
        void *src = values_as(r, GW_BF16, (size_t)s.n * k, false);
        w[i] = packed(ops, src, s.n, k);
        x_cols += k;
        free(src);
    }
    void *x = values_as(r, GW_BF16, (size_t)s.m * x_cols, false);
    float *want = random_f32(r, len), *got = take_f32(len), *scratch = take_f32(len * shares);
    memcpy(got, want, len * sizeof *got);
    want_ops->matmul_tree_add(dev, want, x, w, shares, s.m, scratch);
    ops->matmul_tree_add(dev, got, x, w, shares, s.m, scratch);
    assert_same_bits(got, want, len * sizeof *got, ops->name);
    for (uint32_t i = 0; i < shares; i++) free(w[i].data);
    free(x), free(want), free(got), free(scratch);
}

static void product_case(struct gw_rng *r, const struct gw_ops *want_ops, const struct gw_ops *ops,
                         struct gw_device *dev, struct shape s)
{
    const size_t len = (size_t)s.m * s.n;
    void *x = values_as(r, GW_BF16, (size_t)s.m * s.k, false);
    void *src = values_as(r, GW_BF16, (size_t)s.n * s.k, false);
    struct gw_weight w = packed(ops, src, s.n, s.k);
    float *want = take_f32(len), *got = take_f32(len);
    want_ops->matmul(dev, want, s.n, x, s.k, &w, &first_col, 1, s.m);
    ops->matmul(dev, got, s.n, x, s.k, &w, &first_col, 1, s.m);
    assert_same_bits(got, want, len * sizeof *got, ops->name);
    free(x), free(src), free(w.data), free(want), free(got);
}

static void test_matmul_edges_of_tiles_give_the_same_bits(void **state)
{
    (void)state;
    struct gw_rng r = seeded_rng(__func__);
    struct gw_device *dev = device_with(2);
    const struct gw_ops *variants[VARIANTS_MAX];
    int len = ops_all(PROFILE, variants);
    for (int i = 0; i < 40; i++) {
        struct shape s = random_shape(&r);
        for (int v = 1; v < len; v++) {
            product_case(&r, variants[i % 8 ? 1 : 0], variants[v], dev, s); /* plain C is slow */
            shares_case(&r, variants[i % 8 ? 1 : 0], variants[v], dev, s);
        }
    }
    gw_device_destroy(dev);
}

/* x is put in order as far as there is room. */
static void test_matmul_more_rows_than_have_room_give_the_same_bits(void **state)
{
    (void)state;
    const struct shape s = {(uint32_t)(GW_QUANT_BYTES / 2 / 60000) + 20, 2, 60001};
    struct gw_rng r = seeded_rng(__func__);
    struct gw_device *dev = device_with(2);
    const struct gw_ops *variants[VARIANTS_MAX];
    int len = ops_all(PROFILE, variants);
    if (len > 2) product_case(&r, variants[1], variants[len - 1], dev, s);
    gw_device_destroy(dev);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tdpbf16ps_adds_even_and_odd_pairs_apart__skipped_without_tiles),
        cmocka_unit_test(test_matmul_even_and_odd_are_added_apart),
        cmocka_unit_test(test_matmul_folds_after_32_k),
        cmocka_unit_test(test_matmul_flushes_denormals_in_each_addition),
        cmocka_unit_test(test_matmul_zeros_behind_k_are_added),
        cmocka_unit_test(test_matmul_edges_of_tiles_give_the_same_bits),
        cmocka_unit_test(test_matmul_more_rows_than_have_room_give_the_same_bits),
    };
    return cmocka_run_group_tests_name("kernels_bf16amx", tests, NULL, NULL);
}
