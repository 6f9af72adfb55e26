/* What --weights int8 or fp8 and --kv int8 lose: perplexity of the shipped model on text that it was not trained on, next to its own weights'.
 * The arithmetic is exact and the text fixed, so the figures are the same on every machine. */
#include "tests/lib/perplexity.h"

#include <stdio.h>

#define MODEL "tests/models/tattler-3m"
#define TEXT  "tests/data/loss/text.txt"
#define GATE  1.005 /* of the perplexity without */

#define FORMATS 4

/* Each format's profile next to the plain one. */
static void expect_within_gate(const char *plain, const char *const formats[FORMATS])
{
    struct perplexity p;
    uint32_t tokens;
    perplexity_open(&p, MODEL, TEXT);
    double before = perplexity_of(&p, plain, &tokens);
    assert_true(tokens > 2500 && before > 1 && before < 20); /* it is the model's own kind of text */
    for (int i = 0; i < FORMATS; i++) {
        double after = perplexity_of(&p, formats[i], &tokens);
        printf("# %u tokens: %s %.5f, %s %.5f: %+.3f%%\n", tokens, plain, before, formats[i], after,
               (after / before - 1) * 100);
        assert_true(after != before);
        assert_true(after <= GATE * before);
    }
    perplexity_close(&p);
}

static void test_8_bits_of_bf16_lose_half_a_percent_at_most(void **state)
{
    static const char *const formats[FORMATS] = {"cpu-bf16-int8-1", "cpu-bf16-fp8-1", "cpu-bf16-kv8-1",
                                                 "cpu-bf16-int8-kv8-1"};
    (void)state;
    expect_within_gate("cpu-bf16dot-2", formats);
}

static void test_8_bits_of_f32_lose_half_a_percent_at_most(void **state)
{
    static const char *const formats[FORMATS] = {"cpu-f32-int8-1", "cpu-f32-fp8-1", "cpu-f32-kv8-1",
                                                 "cpu-f32-int8-kv8-1"};
    (void)state;
    expect_within_gate("cpu-f32-2", formats);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_8_bits_of_bf16_lose_half_a_percent_at_most),
        cmocka_unit_test(test_8_bits_of_f32_lose_half_a_percent_at_most),
    };
    return cmocka_run_group_tests_name("int8_loss", tests, NULL, NULL);
}
