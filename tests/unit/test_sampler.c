/* worker/sampler: whole rows against a slow reference that sorts, and against the distribution it claims. */
#include "tests/lib/sampler_reference.h"
#include "tests/lib/seeded_rng.h"

#define VOCAB 1000

static struct gw_sample_out draw_in(const float *row, uint32_t vocab, const struct gw_sample_in *in)
{
    struct test_sampler t = test_sampler_open(vocab, GW_ISA_AUTO);
    struct gw_sample_out out;
    gw_sampler_draw(t.sampler, in, row, NULL, &out);
    gw_sampler_draw(t.sampler, in, row, NULL, &out); /* no state is left behind by the first */
    test_sampler_close(&t);
    return out;
}

static struct gw_sample_out draw(const float *row, uint32_t vocab, const struct gw_sampling *p,
                                 uint32_t position)
{
    uint32_t *output = calloc(position + 1, sizeof *output);
    const uint32_t prompt = 0;
    const struct gw_sample_in in = {.params = p, .prompt = &prompt, .output = output, .output_len = position};
    struct gw_sample_out out = draw_in(row, vocab, &in);
    free(output);
    return out;
}

static void test_draw_greedy_takes_the_lowest_of_equals(void **state)
{
    (void)state;
    float row[] = {1, 5, 3, 5, -2, 5};
    struct gw_sampling p = plain_sampling();
    assert_int_equal(draw(row, 6, &p, 0).id, 1);
}

static void test_draw_nan_and_infinite_logits_do_no_harm(void **state)
{
    (void)state;
    float row[] = {NAN, -INFINITY, 2, NAN}, nothing[] = {NAN, NAN, NAN}, inf[] = {1, INFINITY, INFINITY};
    struct gw_sampling p = plain_sampling();
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
    struct test_sampler t = test_sampler_open(N, GW_ISA_AUTO);
    struct gw_sampling p = plain_sampling();
    p.temperature = temperature;
    p.seed = 12345;
    for (int i = 0; i < N; i++) sum += weight[i] = exp((double)row[i] / (double)temperature);
    for (uint32_t branch = 0; branch < DRAWS; branch++) {
        const struct gw_sample_in in = {.params = &p, .prompt = ids, .output = ids, .branch = branch};
        struct gw_sample_out out;
        gw_sampler_draw(t.sampler, &in, row, NULL, &out);
        count[out.id]++;
    }
    test_sampler_close(&t);
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
    struct gw_sampling p = plain_sampling();
    uint32_t output[4] = {0}, drawn[4];
    p.temperature = 1;
    for (uint32_t i = 0; i < 4; i++) {
        struct gw_sample_in in = {.params = &p, .output = output};
        p.seed = i == 1;
        in.branch = i == 2;
        in.output_len = i == 3;
        drawn[i] = draw_in(row, VOCAB, &in).id;
        for (uint32_t k = 0; k < i; k++) assert_int_not_equal(drawn[i], drawn[k]);
    }
}

/* ---- against the reference ---- */

static void test_draw_random_requests_give_what_the_reference_draws(void **state)
{
    (void)state;
    static float row[VOCAB];
    static struct ranked scratch[VOCAB];
    struct random_draw d;
    struct gw_rng r;
    r = seeded_rng(__func__);
    for (int round = 0; round < 3000; round++) {
        uint32_t vocab = REFERENCE_TOKENS + (uint32_t)gw_rng_below(&r, VOCAB - REFERENCE_TOKENS);
        random_row(&r, row, vocab);
        random_draw_fill(&r, vocab, &d);
        struct gw_sample_out out = draw_in(row, vocab, &d.in);
        if (!reference_accepts(&d.in, row, vocab, out.id, scratch))
            fail_msg("round %d: id %u", round, out.id);
        assert_logprobs_near(&d.in, row, vocab, &out);
    }
}

/* More candidates than a part holds, and than are sorted at first. */
static void test_draw_from_flat_rows_gives_what_the_reference_draws(void **state)
{
    (void)state;
    enum { LARGE = 20000 };
    static float row[LARGE];
    static struct ranked scratch[LARGE];
    static const uint32_t top_k[] = {0, 300, 5000, 0, 9000};
    static const float top_p[] = {0.3f, 0.9f, 1, 0.99f, 0.8f};
    struct test_sampler t = test_sampler_open(LARGE, GW_ISA_AUTO);
    struct gw_rng r;
    gw_rng_init(&r, 5);
    for (uint32_t i = 0; i < 20; i++) {
        struct gw_sampling p = plain_sampling();
        struct gw_sample_out out;
        const struct gw_sample_in in = {.params = &p};
        for (uint32_t k = 0; k < LARGE; k++) row[k] = (float)gw_rng_unit(&r);
        p.temperature = 1;
        p.seed = i;
        p.top_k = top_k[i % 5];
        p.top_p = top_p[i % 5];
        gw_sampler_draw(t.sampler, &in, row, NULL, &out);
        assert_true(reference_accepts(&in, row, LARGE, out.id, scratch));
    }
    test_sampler_close(&t);
}

static void test_draw_top_k_1_is_greedy_at_any_temperature(void **state)
{
    (void)state;
    static float z[VOCAB];
    struct gw_rng r;
    struct gw_sampling greedy = plain_sampling(), k1 = plain_sampling();
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
    struct gw_sampling all = plain_sampling(), kept = plain_sampling();
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
    const struct gw_sample_in in = {
        .params = p, .prompt = prompt, .prompt_len = prompt_len, .output = output, .output_len = output_len};
    return draw_in(row, vocab, &in).id;
}

static void test_draw_bias_moves_the_choice(void **state)
{
    (void)state;
    const float row[] = {1, 2, 3};
    struct gw_logit_bias bias[] = {{0, 2.5f}, {2, -100}};
    struct gw_sampling p = plain_sampling();
    p.bias = bias;
    p.bias_len = 2;
    assert_int_equal(greedy_with(row, 3, &p, NULL, 0, NULL, 0), 0);
}

static void test_draw_penalties_count_the_right_tokens(void **state)
{
    (void)state;
    const float row[] = {4.0f, 3.5f, 3.0f, -1.0f};
    const uint32_t prompt[] = {0}, output[] = {1, 1, 2};
    struct gw_sampling p = plain_sampling();
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
    struct gw_sampling p = plain_sampling();
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
    struct gw_sampling p = plain_sampling();
    struct gw_sample_out out;
    double sum = 0;
    for (int i = 0; i < 5; i++) sum += exp((double)row[i] - 3);
    p.logprobs = true;
    p.top_logprobs = 3;
    p.bias = bias;
    p.bias_len = 1;
    out = draw(row, 5, &p, 0);
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
        cmocka_unit_test(test_draw_random_requests_give_what_the_reference_draws),
        cmocka_unit_test(test_draw_from_flat_rows_gives_what_the_reference_draws),
        cmocka_unit_test(test_draw_top_k_1_is_greedy_at_any_temperature),
        cmocka_unit_test(test_draw_full_truncation_changes_nothing),
        cmocka_unit_test(test_draw_bias_moves_the_choice),
        cmocka_unit_test(test_draw_penalties_count_the_right_tokens),
        cmocka_unit_test(test_draw_min_tokens_masks_stop_ids),
        cmocka_unit_test(test_draw_logprobs_are_of_the_raw_row),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
