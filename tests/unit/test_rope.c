/* worker/rope: the table against libm in double, plain and llama3. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>

#include "worker/rope.h"

/* The scaled frequency as transformers defines it, in double. */
static double frequency(const struct gw_model_config *c, uint32_t i)
{
    const struct gw_rope_scaling *s = &c->rope;
    double f = pow(c->rope_theta, -2.0 * i / c->head_dim), wave = 2 * M_PI / f;
    if (s->kind == GW_ROPE_LINEAR) return f / s->factor;
    if (s->kind != GW_ROPE_LLAMA3) return f;
    double smooth =
        (s->original_context / wave - s->low_freq_factor) / (s->high_freq_factor - s->low_freq_factor);
    if (wave > s->original_context / s->low_freq_factor) return f / s->factor;
    if (wave < s->original_context / s->high_freq_factor) return f;
    return (1 - smooth) * f / s->factor + smooth * f;
}

static void expect_table(const struct gw_model_config *c, uint32_t positions)
{
    float *table;
    assert_int_equal(gw_rope_table(c, positions, &table), GW_OK);
    for (uint32_t p = 0; p < positions; p++) {
        for (uint32_t i = 0; i < c->head_dim / 2; i++) {
            const float *cell = table + ((size_t)p * (c->head_dim / 2) + i) * 2;
            double angle = p * frequency(c, i);
            /* the angle is f32: off by 2^-24 of itself from the frequency and again from the product */
            double tolerance = angle * 0x1p-22 + 0x1p-23;
            assert_true(fabs((double)cell[0] - cos(angle)) <= tolerance);
            assert_true(fabs((double)cell[1] - sin(angle)) <= tolerance);
        }
    }
    free(table);
}

static void test_table_plain_matches_libm(void **state)
{
    (void)state;
    struct gw_model_config c = {.head_dim = 64, .rope_theta = 10000, .rope.magnitude = 1};
    expect_table(&c, 3000);
    c = (struct gw_model_config){.head_dim = 128, .rope_theta = 500000, .rope.magnitude = 1};
    expect_table(&c, 500);
}

static void test_table_llama3_matches_the_definition(void **state)
{
    (void)state;
    struct gw_model_config c = {.head_dim = 128,
                                .rope_theta = 500000,
                                .rope = {.kind = GW_ROPE_LLAMA3,
                                         .magnitude = 1,
                                         .factor = 8,
                                         .low_freq_factor = 1,
                                         .high_freq_factor = 4,
                                         .original_context = 8192}};
    expect_table(&c, 1000);
    c.rope.original_context = 64; /* all three ranges are met early */
    expect_table(&c, 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table_plain_matches_libm),
        cmocka_unit_test(test_table_llama3_matches_the_definition),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
