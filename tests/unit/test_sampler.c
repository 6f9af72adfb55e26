/* worker/sampler and worker/truncate: against a slow reference that sorts, and against the distribution it claims. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "kernels/op.h"
#include "worker/keyed_random.h"
#include "worker/sampler.h"
#include "worker/truncate.h"

#define VOCAB 1000

static struct gw_sampling plain(void)
{
    return (struct gw_sampling){.top_p = 1, .repetition_penalty = 1, .max_tokens = 100};
}

static struct gw_sample_out draw(const float *row, uint32_t vocab, const struct gw_sampling *p,
                                 uint32_t position)
{
    struct gw_sampler *s;
    struct gw_sample_out out;
    uint32_t *output = calloc(position + 1, sizeof *output);
    const uint32_t prompt = 0;
    struct gw_sample_in in = {
        .logits = row, .params = p, .prompt = &prompt, .output = output, .output_len = position};
    assert_int_equal(gw_sampler_create(vocab, &s), GW_OK);
    gw_sampler_draw(s, &in, &out);
    gw_sampler_destroy(s);
    free(output);
    return out;
}

static void test_draw_greedy_takes_the_lowest_of_equals(void **state)
{
    (void)state;
    float row[] = {1, 5, 3, 5, -2, 5};
    struct gw_sampling p = plain();
    assert_int_equal(draw(row, 6, &p, 0).id, 1);
}

static void test_draw_nan_and_infinite_logits_do_no_harm(void **state)
{
    (void)state;
    float row[] = {NAN, -INFINITY, 2, NAN}, nothing[] = {NAN, NAN, NAN}, inf[] = {1, INFINITY, INFINITY};
    struct gw_sampling p = plain();
    for (int hot = 0; hot < 2; hot++) {
        p.temperature = (float)hot;
        assert_int_equal(draw(row, 4, &p, 0).id, 2);
        assert_true(draw(nothing, 3, &p, 0).id < 3);
        assert_int_equal(draw(inf, 3, &p, 0).id, 1);
    }
    p.top_k = 2;
    assert_int_equal(draw(row, 4, &p, 0).id, 2);
}

/* Chi-square over many positions: 7 free classes; the 1 - 1e-6 quantile of chi² with 7 degrees is 40.5. */
static void test_draw_frequencies_match_the_softmax(void **state)
{
    (void)state;
    enum { N = 8, DRAWS = 200000 };
    const float row[N] = {0.1f, 2.0f, -1.0f, 1.5f, 0.7f, 1.5f, -0.4f, 1.0f};
    const float temperature = 0.8f;
    double weight[N], sum = 0, chi2 = 0;
    uint32_t count[N] = {0}, ids[1] = {0};
    struct gw_sampler *s;
    struct gw_sampling p = plain();
    p.temperature = temperature;
    p.seed = 12345;
    for (int i = 0; i < N; i++) sum += weight[i] = exp((double)row[i] / (double)temperature);
    assert_int_equal(gw_sampler_create(N, &s), GW_OK);
    for (uint32_t branch = 0; branch < DRAWS; branch++) {
        struct gw_sample_in in = {
            .logits = row, .params = &p, .prompt = ids, .output = ids, .branch = branch};
        struct gw_sample_out out;
        gw_sampler_draw(s, &in, &out);
        count[out.id]++;
    }
    gw_sampler_destroy(s);
    for (int i = 0; i < N; i++) {
        double want = DRAWS * weight[i] / sum;
        chi2 += (count[i] - want) * (count[i] - want) / want;
    }
    if (chi2 > 40.5) fail_msg("chi-square %g", chi2);
}

/* An id that is skipped could not have won. */
static void test_gumbel_hopeless_ids_stay_below_the_best(void **state)
{
    (void)state;
    const uint64_t max = ((uint64_t)1 << GW_KEYED_BITS) - 1;
    struct gw_rng r;
    uint32_t skipped = 0;
    gw_rng_init(&r, 1);
    for (int i = 0; i < 1000000; i++) {
        uint64_t bits = max - ((gw_rng_next(&r) & max) >> gw_rng_below(&r, GW_KEYED_BITS + 1));
        float z = -40 * (float)gw_rng_unit(&r), best = 45 * (float)gw_rng_unit(&r) - 5;
        if (!gw_gumbel_hopeless(bits, gw_gumbel_shift(z, best))) continue;
        assert_true((double)z + gw_gumbel(bits) < (double)best);
        skipped++;
    }
    assert_true(skipped > 100000);
    assert_false(gw_gumbel_hopeless(0, gw_gumbel_shift(0, -INFINITY)));
    assert_true(isfinite(gw_gumbel(0)) && isfinite(gw_gumbel(max)));
}

static void test_draw_depends_on_seed_branch_and_position(void **state)
{
    (void)state;
    float row[VOCAB] = {0};
    struct gw_sampling p = plain();
    struct gw_sampler *s;
    uint32_t output[4] = {0}, seen[4];
    assert_int_equal(gw_sampler_create(VOCAB, &s), GW_OK);
    p.temperature = 1;
    for (uint32_t i = 0; i < 4; i++) {
        struct gw_sample_in in = {.logits = row, .params = &p, .output = output};
        struct gw_sample_out out;
        p.seed = i == 1;
        in.branch = i == 2;
        in.output_len = i == 3;
        gw_sampler_draw(s, &in, &out);
        seen[i] = out.id;
        for (uint32_t k = 0; k < i; k++) assert_int_not_equal(seen[i], seen[k]);
    }
    gw_sampler_destroy(s);
}

/* ---- truncation against sorting ---- */

struct ranked {
    float z;
    uint32_t id;
};

static int best_first(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    if (x->z != y->z) return x->z > y->z ? -1 : 1;
    return x->id < y->id ? -1 : 1;
}

static double weight(float z)
{
    return (double)gw_expf(z);
}

/* The set that the definition gives, by sorting everything. */
static uint32_t reference_set(const float *z, uint32_t vocab, const struct gw_truncation *t,
                              struct ranked *out)
{
    uint32_t n = 0;
    double total = 0, mass = 0;
    for (uint32_t i = 0; i < vocab; i++)
        if (isfinite(z[i])) out[n++] = (struct ranked){z[i], i};
    qsort(out, n, sizeof *out, best_first);
    if (t->top_k && n > t->top_k) n = t->top_k;
    for (uint32_t i = 0; i < n; i++) total += weight(out[i].z);
    for (uint32_t i = 0; t->top_p < 1 && i < n; i++) {
        mass += weight(out[i].z);
        if (mass >= (double)t->top_p * total) n = i + 1;
    }
    while (n > 1 && weight(out[n - 1].z) < (double)t->min_p) n--;
    return n;
}

static void random_row(struct gw_rng *r, float *z, uint32_t vocab)
{
    float spread = (float)(1 << gw_rng_below(r, 6)), top = -INFINITY;
    bool coarse = gw_rng_below(r, 2);
    for (uint32_t i = 0; i < vocab; i++) {
        z[i] = spread * (float)gw_rng_unit(r);
        if (coarse) z[i] = floorf(z[i] * 4) / 4; /* many ties */
        if (gw_rng_below(r, 50) == 0) z[i] = -INFINITY;
        if (z[i] > top) top = z[i];
    }
    for (uint32_t i = 0; i < vocab; i++) z[i] -= top;
}

/* Masses are added in another order, so top-p may end one candidate apart where the mass just reaches the limit; the
 * order must be exactly the same. */
static void test_truncate_random_rows_give_the_defined_set(void **state)
{
    (void)state;
    static float z[VOCAB];
    static uint64_t candidates[VOCAB], spare[VOCAB];
    static float weights[VOCAB];
    struct gw_truncation_scratch scratch = {candidates, spare, weights};
    static struct ranked want[VOCAB];
    struct gw_rng r;
    uint64_t seed;
    gw_random_bytes(&seed, sizeof seed);
    print_message("# seed %llu\n", (unsigned long long)seed);
    gw_rng_init(&r, seed);
    for (int round = 0; round < 3000; round++) {
        uint32_t vocab = 1 + (uint32_t)gw_rng_below(&r, VOCAB);
        struct gw_truncation t = {.top_p = 1};
        random_row(&r, z, vocab);
        if (gw_rng_below(&r, 2)) t.top_k = 1 + (uint32_t)gw_rng_below(&r, vocab);
        if (gw_rng_below(&r, 2)) t.top_p = 0.01f + 0.99f * (float)gw_rng_unit(&r);
        if (gw_rng_below(&r, 2)) t.min_p = (float)gw_rng_unit(&r);
        uint32_t n = gw_truncate(z, vocab, &t, &scratch);
        uint32_t expected = reference_set(z, vocab, &t, want);
        bool exact = t.top_p >= 1;
        assert_true(exact ? n == expected : n + 1 >= expected && n <= expected + 1);
        for (uint32_t i = 0; i < n && i < expected; i++)
            assert_int_equal(gw_candidate_id(candidates[i]), want[i].id);
    }
}

static void test_draw_top_k_1_is_greedy_at_any_temperature(void **state)
{
    (void)state;
    static float z[VOCAB];
    struct gw_rng r;
    struct gw_sampling greedy = plain(), k1 = plain();
    gw_rng_init(&r, 3);
    k1.temperature = 5;
    k1.top_k = 1;
    for (uint32_t i = 0; i < 50; i++) {
        random_row(&r, z, VOCAB);
        k1.seed = i;
        assert_int_equal(draw(z, VOCAB, &k1, 0).id, draw(z, VOCAB, &greedy, 0).id);
    }
}

/* Truncation that keeps everything draws what no truncation draws. */
static void test_draw_full_truncation_changes_nothing(void **state)
{
    (void)state;
    static float z[VOCAB];
    struct gw_rng r;
    gw_rng_init(&r, 4);
    struct gw_sampling all = plain(), kept = plain();
    all.temperature = kept.temperature = 1.3f;
    kept.min_p = 1e-30f;
    for (uint32_t i = 0; i < 200; i++) {
        random_row(&r, z, VOCAB);
        all.seed = kept.seed = i;
        assert_int_equal(draw(z, VOCAB, &all, 0).id, draw(z, VOCAB, &kept, 0).id);
    }
}

/* ---- what changes logits ---- */

static uint32_t greedy_with(const float *row, uint32_t vocab, const struct gw_sampling *p,
                            const uint32_t *prompt, uint32_t prompt_len, const uint32_t *output,
                            uint32_t output_len)
{
    struct gw_sampler *s;
    struct gw_sample_out out;
    struct gw_sample_in in = {.logits = row,
                              .params = p,
                              .prompt = prompt,
                              .prompt_len = prompt_len,
                              .output = output,
                              .output_len = output_len};
    assert_int_equal(gw_sampler_create(vocab, &s), GW_OK);
    gw_sampler_draw(s, &in, &out);
    gw_sampler_draw(s, &in, &out); /* no state is left behind by the first */
    gw_sampler_destroy(s);
    return out.id;
}

static void test_draw_bias_moves_the_choice(void **state)
{
    (void)state;
    const float row[] = {1, 2, 3};
    struct gw_logit_bias bias[] = {{0, 2.5f}, {2, -100}};
    struct gw_sampling p = plain();
    p.bias = bias;
    p.bias_len = 2;
    assert_int_equal(greedy_with(row, 3, &p, NULL, 0, NULL, 0), 0);
}

static void test_draw_penalties_count_the_right_tokens(void **state)
{
    (void)state;
    const float row[] = {4.0f, 3.5f, 3.0f, -1.0f};
    const uint32_t prompt[] = {0}, output[] = {1, 1, 2};
    struct gw_sampling p = plain();
    /* presence: 4, 3.5 - 0.6, 3 - 0.6; the prompt does not count */
    p.presence_penalty = 0.6f;
    assert_int_equal(greedy_with(row, 4, &p, prompt, 1, output, 3), 0);
    /* frequency -0.4: 4, 3.5 + 0.8, 3 + 0.4 */
    p.presence_penalty = 0;
    p.frequency_penalty = -0.4f;
    assert_int_equal(greedy_with(row, 4, &p, prompt, 1, output, 3), 1);
    /* repetition 2, prompt and output alike, once per id: 2, 1.75, 1.5, -1 */
    p.frequency_penalty = 0;
    p.repetition_penalty = 2;
    assert_int_equal(greedy_with(row, 4, &p, prompt, 1, output, 3), 0);
    /* without id 0 in the prompt: 4; with negative logits the penalty multiplies: -2 stays last */
    assert_int_equal(greedy_with(row, 4, &p, prompt, 0, output, 3), 0);
    const float low[] = {-3.0f, -1.0f, -1.5f, -9.0f};
    assert_int_equal(greedy_with(low, 4, &p, prompt, 0, (const uint32_t[]){1}, 1), 2);
}

static void test_draw_min_tokens_masks_stop_ids(void **state)
{
    (void)state;
    const float row[] = {1, 9, 5};
    uint32_t stops[] = {1}, output[3] = {0};
    struct gw_sampling p = plain();
    p.stop_ids = stops;
    p.stop_ids_len = 1;
    p.min_tokens = 2;
    for (int hot = 0; hot < 2; hot++) {
        p.temperature = hot ? 0.01f : 0;
        assert_int_equal(greedy_with(row, 3, &p, NULL, 0, output, 0), 2);
        assert_int_equal(greedy_with(row, 3, &p, NULL, 0, output, 1), 2);
        assert_int_equal(greedy_with(row, 3, &p, NULL, 0, output, 2), 1);
    }
}

static void test_draw_logprobs_are_of_the_raw_row(void **state)
{
    (void)state;
    const float row[] = {1, 3, 2, 3, 0};
    struct gw_logit_bias bias[] = {{4, 50}};
    struct gw_sampling p = plain();
    struct gw_sampler *s;
    struct gw_sample_out out;
    double sum = 0;
    for (int i = 0; i < 5; i++) sum += exp((double)row[i] - 3);
    p.logprobs = true;
    p.top_logprobs = 3;
    p.bias = bias;
    p.bias_len = 1;
    struct gw_sample_in in = {.logits = row, .params = &p, .max = 3, .sum = (float)sum};
    assert_int_equal(gw_sampler_create(5, &s), GW_OK);
    gw_sampler_draw(s, &in, &out);
    gw_sampler_destroy(s);
    assert_int_equal(out.id, 4);
    assert_true(fabs((double)out.logprob - (-3 - log(sum))) < 1e-6);
    static const uint32_t order[] = {1, 3, 2};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(out.top[i].id, order[i]);
        assert_true(fabs((double)out.top[i].logprob - ((double)row[order[i]] - 3 - log(sum))) < 1e-6);
    }
}

int main(void)
{
    gw_device_enter_thread();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_draw_greedy_takes_the_lowest_of_equals),
        cmocka_unit_test(test_draw_nan_and_infinite_logits_do_no_harm),
        cmocka_unit_test(test_draw_frequencies_match_the_softmax),
        cmocka_unit_test(test_gumbel_hopeless_ids_stay_below_the_best),
        cmocka_unit_test(test_draw_depends_on_seed_branch_and_position),
        cmocka_unit_test(test_truncate_random_rows_give_the_defined_set),
        cmocka_unit_test(test_draw_top_k_1_is_greedy_at_any_temperature),
        cmocka_unit_test(test_draw_full_truncation_changes_nothing),
        cmocka_unit_test(test_draw_bias_moves_the_choice),
        cmocka_unit_test(test_draw_penalties_count_the_right_tokens),
        cmocka_unit_test(test_draw_min_tokens_masks_stop_ids),
        cmocka_unit_test(test_draw_logprobs_are_of_the_raw_row),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
