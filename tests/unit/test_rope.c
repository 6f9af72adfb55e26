/* worker/rope: the table against libm in double, of every kind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>

#include "worker/rope.h"

/* Of the frequencies, the one that turns n times within the original context (Peng et al. 2023, equation 13). */
static double turning(const struct gw_model_config *c, double n)
{
    return c->head_dim * log(c->rope.original_context / (2 * M_PI * n)) / (2 * log(c->rope.theta));
}

static double yarn(const struct gw_model_config *c, uint32_t i, double f)
{
    double low = floor(turning(c, c->rope.beta_fast)), high = ceil(turning(c, c->rope.beta_slow));
    double ramp = fmin(fmax((i - fmax(low, 0)) / (fmin(high, c->head_dim - 1) - fmax(low, 0)), 0), 1);
    return f / c->rope.factor * ramp + f * (1 - ramp);
}

/* The scaled frequency as transformers defines it, in double. */
static double frequency(const struct gw_model_config *c, uint32_t i)
{
    const struct gw_rope *s = &c->rope;
    double f = pow(c->rope.theta, -2.0 * i / c->head_dim), wave = 2 * M_PI / f;
    if (s->kind == GW_ROPE_LINEAR) return f / s->factor;
    if (s->kind == GW_ROPE_YARN) return yarn(c, i, f);
    if (s->kind == GW_ROPE_LONG) return f / (double)s->divisors[i];
    if (s->kind != GW_ROPE_LLAMA3) return f;
    double smooth =
        (s->original_context / wave - s->low_freq_factor) / (s->high_freq_factor - s->low_freq_factor);
    if (wave > s->original_context / s->low_freq_factor) return f / s->factor;
    if (wave < s->original_context / s->high_freq_factor) return f;
    return (1 - smooth) * f / s->factor + smooth * f;
}

static void expect_table(const struct gw_model_config *c, uint32_t positions)
{
    float *table = malloc(gw_rope_bytes(c->head_dim, positions));
    assert_non_null(table);
    gw_rope_fill(&c->rope, c->head_dim, positions, table);
    for (uint32_t p = 0; p < positions; p++) {
        for (uint32_t i = 0; i < c->head_dim / 2; i++) {
            const float *cell = table + ((size_t)p * (c->head_dim / 2) + i) * 2;
            double angle = p * frequency(c, i);
            /* the angle is f32: off by 2^-24 of itself from the frequency and again from the product */
            double tolerance = angle * 0x1p-22 + 0x1p-23;
            tolerance *= c->rope.magnitude;
            assert_true(fabs((double)cell[0] - cos(angle) * c->rope.magnitude) <= tolerance);
            assert_true(fabs((double)cell[1] - sin(angle) * c->rope.magnitude) <= tolerance);
        }
    }
    free(table);
}

static void test_table_plain_matches_libm(void **state)
{
    (void)state;
    struct gw_model_config c = {.head_dim = 64, .rope.theta = 10000, .rope.magnitude = 1};
    expect_table(&c, 3000);
    c = (struct gw_model_config){.head_dim = 128, .rope.theta = 500000, .rope.magnitude = 1};
    expect_table(&c, 500);
}

static void test_table_llama3_matches_the_definition(void **state)
{
    (void)state;
    struct gw_model_config c = {.head_dim = 128,
                                .rope = {.theta = 500000,
                                         .kind = GW_ROPE_LLAMA3,
                                         .magnitude = 1,
                                         .factor = 8,
                                         .low_freq_factor = 1,
                                         .high_freq_factor = 4,
                                         .original_context = 8192}};
    expect_table(&c, 1000);
    c.rope.original_context = 64; /* all three ranges are met early */
    expect_table(&c, 1000);
}

static void test_table_linear_and_long_divide_frequencies(void **state)
{
    (void)state;
    struct gw_model_config c = {
        .head_dim = 64, .rope = {.theta = 10000, .kind = GW_ROPE_LINEAR, .magnitude = 1, .factor = 2.5}};
    expect_table(&c, 1000);
    c.rope = (struct gw_rope){.theta = 10000, .kind = GW_ROPE_LONG, .magnitude = 1.2};
    for (int i = 0; i < 32; i++) c.rope.divisors[i] = 1 + 0.7f * (float)i;
    expect_table(&c, 1000);
}

static void test_table_yarn_matches_the_paper(void **state)
{
    (void)state;
    struct gw_model_config c = {.head_dim = 128,
                                .rope = {.theta = 1000000,
                                         .kind = GW_ROPE_YARN,
                                         .magnitude = 1.1386,
                                         .factor = 4,
                                         .original_context = 32768,
                                         .beta_fast = 32,
                                         .beta_slow = 1,
                                         .truncate = true}};
    expect_table(&c, 1000);
    c.rope.original_context = 128; /* all is interpolated but the first few */
    expect_table(&c, 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table_plain_matches_libm),
        cmocka_unit_test(test_table_llama3_matches_the_definition),
        cmocka_unit_test(test_table_linear_and_long_divide_frequencies),
        cmocka_unit_test(test_table_yarn_matches_the_paper),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
