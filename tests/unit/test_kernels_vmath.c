/* kernels/vmath, kernels/convert: errors against libm in higher precision, edges, and that fmaf is what it
 * must be. */
#include "tests/lib/kernels_fixture.h"

#include <float.h>
#include <math.h>

#include "kernels/vmath.h"

/* Error in ulps of f32. */
static double ulps(float got, double want)
{
    int exponent;
    frexp(want, &exponent);
    double error = fabs(got - want);
    return error / ldexp(1, exponent - 24);
}

static void test_expf_is_within_one_ulp(void **state)
{
    (void)state;
    gw_device_enter_thread();
    double worst = 0;
    for (float x = -87.0f; x < 88.37f; x += 0.0003f) worst = fmax(worst, ulps(gw_expf(x), exp((double)x)));
    for (float x = -0.4f; x < 0.4f; x += 1e-6f) worst = fmax(worst, ulps(gw_expf(x), exp((double)x)));
    printf("# gw_expf: %.3f ulp\n", worst);
    assert_true(worst < 1.0);
}

static void test_expf_edges(void **state)
{
    (void)state;
    gw_device_enter_thread();
    assert_true(gw_expf(0.0f) == 1.0f && gw_expf(-0.0f) == 1.0f);
    assert_true(gw_expf(-87.0f) >= FLT_MIN);
    assert_true(gw_expf(-87.1f) == 0.0f && gw_expf(-1e30f) == 0.0f && gw_expf(-INFINITY) == 0.0f);
    assert_true(isfinite(gw_expf(88.375f)));
    assert_true(isinf(gw_expf(88.4f)) && isinf(gw_expf(INFINITY)));
    assert_true(isnan(gw_expf(NAN)));
}

static void test_logf_is_within_one_ulp(void **state)
{
    (void)state;
    gw_device_enter_thread();
    struct gw_rng r = seeded_rng(__func__);
    double worst = 0;
    for (int i = 0; i < 300000; i++) {
        float x = gw_f32_of_bits(0x00800000u + (uint32_t)gw_rng_below(&r, 0x7F000000u));
        worst = fmax(worst, ulps(gw_logf(x), log((double)x)));
    }
    for (float x = 0.5f; x < 2.0f; x += 1e-5f)
        if (x != 1.0f) worst = fmax(worst, ulps(gw_logf(x), log((double)x)));
    printf("# gw_logf: %.3f ulp\n", worst);
    assert_true(worst < 1.0);
}

static void test_logf_edges(void **state)
{
    (void)state;
    gw_device_enter_thread();
    assert_true(gw_logf(1.0f) == 0.0f);
    assert_true(gw_logf(0.0f) == -INFINITY && gw_logf(-0.0f) == -INFINITY && gw_logf(0x1p-130f) == -INFINITY);
    assert_true(isnan(gw_logf(-1.0f)) && isnan(gw_logf(NAN)) && gw_logf(INFINITY) == INFINITY);
}

static void test_sin_and_cos_are_within_an_ulp_of_one(void **state)
{
    (void)state;
    struct gw_rng r = seeded_rng(__func__);
    long double worst = 0;
    for (int i = 0; i < 200000; i++) {
        double x = i < 20000   ? i * 0.01 - 100
                   : i < 60000 ? (double)(i - 20000)
                               : (gw_rng_unit(&r) * 2 - 1) * 1e6;
        worst = fmaxl(worst, fabsl(gw_sin(x) - sinl(x)));
        worst = fmaxl(worst, fabsl(gw_cos(x) - cosl(x)));
    }
    printf("# gw_sin, gw_cos: %.3Lf * 2^-53\n", worst * 0x1p53L);
    assert_true(worst < 0x1p-52L);
}

static void test_exp_log_pow_are_close(void **state)
{
    (void)state;
    struct gw_rng r = seeded_rng(__func__);
    long double exp_worst = 0, log_worst = 0, pow_worst = 0;
    for (int i = 0; i < 100000; i++) {
        double x = (gw_rng_unit(&r) * 2 - 1) * 700, base = 1 + gw_rng_unit(&r) * 1e6, y = -gw_rng_unit(&r);
        exp_worst = fmaxl(exp_worst, fabsl(gw_exp(x) / expl(x) - 1));
        double near = exp(x / 100);
        if (fabs(near - 1) > 1e-3) log_worst = fmaxl(log_worst, fabsl(gw_log(near) / logl(near) - 1));
        pow_worst = fmaxl(pow_worst, fabsl(gw_pow(base, y) / powl(base, y) - 1));
    }
    printf("# gw_exp %.2Lf, gw_log %.2Lf, gw_pow %.2Lf * 2^-52\n", exp_worst * 0x1p52L, log_worst * 0x1p52L,
           pow_worst * 0x1p52L);
    assert_true(exp_worst < 2 * 0x1p-52L);
    assert_true(log_worst < 2 * 0x1p-52L);
    assert_true(pow_worst < 30 * 0x1p-52L);
}

/* What the plain C reference rests on: one rounding, and FTZ and DAZ. volatile: at run time. */
static void test_fmaf_is_fused_and_honours_ftz_and_daz(void **state)
{
    (void)state;
    gw_device_enter_thread();
    volatile float a = 1.0f + 0x1p-12f, b = 1.0f - 0x1p-12f, minus_one = -1.0f;
    assert_true(fmaf(a, b, minus_one) == -0x1p-24f);
    volatile float denormal = 0x1p-127f, two = 2.0f, zero = 0.0f, tiny = 0x1p-126f, half = 0.5f;
    assert_true(fmaf(denormal, two, zero) == 0.0f);
    assert_true(fmaf(two, two, denormal) == 4.0f);
    assert_true(gw_f32_bits(fmaf(tiny, half, zero)) == 0);
    assert_true(gw_f32_bits(fmaf(-tiny, half, zero)) == 0x80000000u);
}

static void test_bf16_of_f32_rounds_to_nearest_even(void **state)
{
    (void)state;
    static const struct {
        uint32_t from;
        uint16_t to;
    } cases[] = {
        {0x3F800000, 0x3F80}, {0x3F808000, 0x3F80}, {0x3F808001, 0x3F81}, {0x3F818000, 0x3F82},
        {0x3F817FFF, 0x3F81}, {0xBF808000, 0xBF80}, {0xBF818000, 0xBF82}, {0x7F7FFFFF, 0x7F80},
        {0xFF800000, 0xFF80}, {0x7F800001, 0x7FC0}, {0xFFC12345, 0xFFC1}, {0x00000001, 0x0000},
        {0x807FFFFF, 0x8000}, {0x00800000, 0x0080}, {0x80000000, 0x8000},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(gw_bf16_of_f32(gw_f32_of_bits(cases[i].from)), cases[i].to);
}

static void test_f32_of_f16_is_exact_for_all(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x10000; h++) {
        int exponent = h >> 10 & 31, fraction = h & 1023;
        double size = exponent == 0 ? ldexp(fraction, -24) : ldexp(1024 + fraction, exponent - 25);
        float got = gw_f32_of_f16((uint16_t)h);
        if (exponent == 31 && fraction) {
            assert_true(isnan(got));
        } else {
            if (exponent == 31) size = INFINITY;
            assert_true(got == (h & 0x8000 ? -size : size));
            assert_int_equal(gw_f32_bits(got) >> 31, h >> 15);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_expf_is_within_one_ulp),
        cmocka_unit_test(test_expf_edges),
        cmocka_unit_test(test_logf_is_within_one_ulp),
        cmocka_unit_test(test_logf_edges),
        cmocka_unit_test(test_sin_and_cos_are_within_an_ulp_of_one),
        cmocka_unit_test(test_exp_log_pow_are_close),
        cmocka_unit_test(test_fmaf_is_fused_and_honours_ftz_and_daz),
        cmocka_unit_test(test_bf16_of_f32_rounds_to_nearest_even),
        cmocka_unit_test(test_f32_of_f16_is_exact_for_all),
    };
    return cmocka_run_group_tests_name("kernels_vmath", tests, NULL, NULL);
}
