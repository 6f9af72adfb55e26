/* worker/engine, exactness: what a request gets depends on nothing but itself. Every scenario must give the
 * records and logit bits of the same request run alone: in a batch, in chunks, from the prefix cache, on
 * another ISA, after recomputation at any position, after preemption. Both profiles. */
#include "tests/lib/mixed_requests.h"
#include "tests/lib/seeded_rng.h"

#include <stdio.h>

#define MODEL "tests/data/tiny/gqa64"
#define BATCH 33
#define SEED  7
/* Sanitizers make kernels ten times slower; this test also runs on the release build. */
#ifdef __SANITIZE_ADDRESS__
#define BATCH_IN_CHUNKS 6
#define BATCH_IN_C      4
#define RESUMED_EVERY   6
#else
#define BATCH_IN_CHUNKS BATCH
#define BATCH_IN_C      16
#define RESUMED_EVERY   2
#endif

/* What each request gives alone; the reference of all scenarios, per profile. */
struct reference {
    struct fixture f;
    const char *profile;
};

static struct solo_config config_of(const struct reference *ref)
{
    struct solo_config c = fixture_config();
    c.profile = ref->profile;
    return c;
}

static int make_reference(void **state, const char *profile)
{
    struct reference *ref = calloc(1, sizeof *ref);
    ref->profile = profile;
    struct solo_config c = config_of(ref);
    c.threads = 1;
    fixture_open(&ref->f, MODEL, c);
    for (uint32_t i = 0; i < BATCH; i++) {
        struct gw_request q = mixed_request(SEED, i, ref->f.model->config.vocab);
        fixture_submit(&ref->f, &q, 1, NULL, NULL);
        fixture_drain(&ref->f);
    }
    *state = ref;
    return 0;
}

static int setup_bf16(void **state)
{
    return make_reference(state, "cpu-bf16dot-2");
}

static int setup_f32(void **state)
{
    return make_reference(state, "cpu-f32-2");
}

static int teardown(void **state)
{
    struct reference *ref = *state;
    fixture_close(&ref->f);
    free(ref);
    return 0;
}

static void expect_as_alone(const struct reference *ref, struct fixture *f, uint32_t i)
{
    const struct fixture_run *want = &ref->f.runs[i], *got = fixture_run_of(f, i + 1);
    uint32_t vocab = f->model->config.vocab;
    assert_int_equal(want->request, i + 1);
    fixture_expect_same(&want->branches[0], &got->branches[0], 0, mixed_top_n(SEED, i, vocab));
}

/* Submits the first `count` requests at once and compares. */
static void run_batch(const struct reference *ref, struct solo_config config, uint32_t count,
                      struct gw_engine_stats *stats)
{
    struct fixture f;
    fixture_open(&f, MODEL, config);
    for (uint32_t i = 0; i < count; i++) {
        struct gw_request q = mixed_request(SEED, i, f.model->config.vocab);
        fixture_submit(&f, &q, 1, NULL, NULL);
    }
    fixture_drain(&f);
    for (uint32_t i = 0; i < count; i++) expect_as_alone(ref, &f, i);
    if (stats) gw_engine_stats(f.engine, stats);
    fixture_close(&f);
}

static void test_step_in_a_batch_gives_the_same_bits(void **state)
{
    run_batch(*state, config_of(*state), BATCH, NULL);
}

static void test_step_prefill_in_chunks_gives_the_same_bits(void **state)
{
    static const uint32_t chunks[] = {1, 7, 64, 512};
    for (size_t i = 0; i < sizeof chunks / sizeof *chunks; i++) {
        struct solo_config c = config_of(*state);
        c.max_chunk = chunks[i];
        run_batch(*state, c, BATCH_IN_CHUNKS, NULL);
    }
}

static void test_step_small_batches_give_the_same_bits(void **state)
{
    struct solo_config c = config_of(*state);
    c.max_batch_tokens = 13;
    c.max_sequences = 5;
    run_batch(*state, c, BATCH, NULL);
}

static void run_on(const struct reference *ref, enum gw_isa isa, uint32_t count)
{
    struct solo_config c = config_of(ref);
    c.isa = isa;
    run_batch(ref, c, count, NULL);
}

static void test_step_plain_c_gives_the_same_bits(void **state)
{
    run_on(*state, GW_ISA_C, BATCH_IN_C);
}

/* The sampler needs it anyway. */
static void test_step_avx2_gives_the_same_bits(void **state)
{
    run_on(*state, GW_ISA_AVX2, BATCH_IN_C);
}

static void test_step_after_preemption_gives_the_same_bits(void **state)
{
    struct solo_config c = config_of(*state);
    struct gw_engine_stats stats;
    c.kv_tokens = MIXED_PROMPT_MAX + MIXED_NEW_MAX;
    run_batch(*state, c, BATCH, &stats);
    assert_true(stats.progress.preemptions > 0);
    assert_int_equal(stats.progress.kv_used_tokens, 0);
}

/* Everything twice: the second time each finds the blocks that the first left. */
static void test_step_with_cached_prefix_gives_the_same_bits(void **state)
{
    const struct reference *ref = *state;
    struct fixture f;
    struct gw_engine_stats stats;
    fixture_open(&f, MODEL, config_of(ref));
    for (int round = 0; round < 2; round++) {
        f.runs_len = 0;
        for (uint32_t i = 0; i < BATCH; i++) {
            struct gw_request q = mixed_request(SEED, i, f.model->config.vocab);
            fixture_submit(&f, &q, 1, NULL, NULL);
        }
        fixture_drain(&f);
        for (uint32_t i = 0; i < BATCH; i++) expect_as_alone(ref, &f, i);
    }
    gw_engine_stats(f.engine, &stats);
    assert_true(stats.progress.prefix_hit_tokens > stats.progress.prefix_query_tokens / 3);
    fixture_close(&f);
}

/* A worker that holds nothing goes on from every position of the log (long prompts: from some), others beside
 * it. */
static void test_submit_from_any_log_position_gives_the_same_bits(void **state)
{
    const struct reference *ref = *state;
    struct fixture f;
    fixture_open(&f, MODEL, config_of(ref));
    for (uint32_t i = 0; i < BATCH; i += RESUMED_EVERY) {
        const struct fixture_run *alone = &ref->f.runs[i];
        uint32_t len = alone->branches[0].len, vocab = f.model->config.vocab,
                 top_n = mixed_top_n(SEED, i, vocab);
        f.runs_len = 0;
        uint32_t stride = i % MIXED_LONG_EVERY == 0 ? 7 : 1;
        for (uint32_t keep = 0; keep < len; keep += stride) {
            struct gw_request q = mixed_request(SEED, i, vocab);
            q.id = keep + 1;
            memset(q.tenant, (int)(keep + 1), sizeof q.tenant);
            fixture_submit(&f, &q, 1, alone, &keep);
        }
        fixture_drain(&f);
        for (uint32_t keep = 0; keep < len; keep += stride)
            fixture_expect_same(&alone->branches[0], &fixture_run_of(&f, keep + 1)->branches[0], keep, top_n);
    }
    fixture_close(&f);
}

/* Requests come at random steps; some are cancelled, some are taken away in the middle and submitted again
 * with their log and a higher attempt, as after the loss of a worker. */
static void test_step_under_random_churn_gives_the_same_bits(void **state)
{
    const struct reference *ref = *state;
    struct solo_config c = config_of(ref);
    struct fixture f;
    uint32_t submitted = 0, log_len[GW_REQUEST_BRANCHES_MAX], n;
    struct gw_rng r = seeded_rng(__func__);
    c.kv_tokens = 400;
    c.max_batch_tokens = 48;
    c.max_sequences = 12;
    fixture_open(&f, MODEL, c);
    uint32_t vocab = f.model->config.vocab;
    bool cancelled[BATCH] = {false}, more = true;
    while (more || submitted < BATCH) {
        if (submitted < BATCH && gw_rng_below(&r, 2)) {
            struct gw_request q = mixed_request(SEED, submitted++, vocab);
            fixture_submit(&f, &q, 1, NULL, NULL);
        }
        uint32_t i = (uint32_t)gw_rng_below(&r, BATCH);
        struct fixture_run *run = i < submitted ? fixture_run_of(&f, i + 1) : NULL;
        if (run && gw_rng_below(&r, 60) == 0) {
            gw_engine_cancel(f.engine, i + 1, UINT32_MAX, GW_BRANCH_ALL);
            cancelled[i] = true;
        } else if (run && run->started && gw_rng_below(&r, 4) == 0 &&
                   gw_engine_hand_off(f.engine, i + 1, run->attempt, log_len, &n)) {
            struct gw_request q = mixed_request(SEED, i, vocab);
            assert_int_equal(log_len[0], run->branches[0].len);
            run->attempt++;
            fixture_submit(&f, &q, run->attempt, run, log_len);
        }
        more = fixture_step(&f);
    }
    for (uint32_t i = 0; i < BATCH; i++)
        if (!cancelled[i]) expect_as_alone(ref, &f, i);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_step_in_a_batch_gives_the_same_bits),
        cmocka_unit_test(test_step_prefill_in_chunks_gives_the_same_bits),
        cmocka_unit_test(test_step_small_batches_give_the_same_bits),
        cmocka_unit_test(test_step_plain_c_gives_the_same_bits),
        cmocka_unit_test(test_step_avx2_gives_the_same_bits),
        cmocka_unit_test(test_step_after_preemption_gives_the_same_bits),
        cmocka_unit_test(test_step_with_cached_prefix_gives_the_same_bits),
        cmocka_unit_test(test_submit_from_any_log_position_gives_the_same_bits),
        cmocka_unit_test(test_step_under_random_churn_gives_the_same_bits),
    };
    int failed = cmocka_run_group_tests_name("bf16dot", tests, setup_bf16, teardown);
    return failed + cmocka_run_group_tests_name("f32", tests, setup_f32, teardown);
}
