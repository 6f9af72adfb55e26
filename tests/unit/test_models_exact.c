/* worker/: each architecture and RoPE form, exactness: what a request gets depends on nothing but itself. In a batch, in
 * chunks, from the prefix cache, on another ISA, after preemption, taken up from its log at any time, and on every
 * layout of ranks it is what it is alone: the same records, the same bits of the logits. */
#include "tests/lib/mixed_requests.h"
#include "tests/lib/pipeline_fixture.h"
#include "tests/lib/seeded_rng.h"

#define SEED     17
#define REQUESTS 7 /* the first one's prompt is longer than an attention chunk, and than every window here */
#define POOL     (MIXED_PROMPT_MAX + MIXED_NEW_MAX)

static void submit_all(struct fixture *f)
{
    for (uint32_t i = 0; i < REQUESTS; i++) {
        struct gw_request q = mixed_request(SEED, i, f->model->config.vocab);
        fixture_submit(f, &q, 1, NULL, NULL);
    }
}

/* Alone, one after the other. */
static void open_reference(struct fixture *f, const char *model)
{
    struct solo_config c = fixture_config();
    c.threads = 1;
    fixture_open(f, model, c);
    for (uint32_t i = 0; i < REQUESTS; i++) {
        struct gw_request q = mixed_request(SEED, i, f->model->config.vocab);
        fixture_submit(f, &q, 1, NULL, NULL);
        fixture_drain(f);
    }
}

static void compare_all(const struct fixture *want, struct fixture *got)
{
    uint32_t vocab = want->model->config.vocab;
    for (uint32_t i = 0; i < REQUESTS; i++)
        fixture_expect_same(&want->runs[i].branches[0], &fixture_run_of(got, i + 1)->branches[0], 0,
                            mixed_top_n(SEED, i, vocab));
}

/* All at once on an engine of this configuration. */
static void run_batch(const struct fixture *want, const char *model, struct solo_config config,
                      struct gw_engine_stats *stats)
{
    struct fixture f;
    fixture_open(&f, model, config);
    submit_all(&f);
    fixture_drain(&f);
    compare_all(want, &f);
    gw_engine_stats(f.engine, stats);
    fixture_close(&f);
}

static void batches_and_chunks(void **state)
{
    struct fixture want;
    struct gw_engine_stats stats;
    struct solo_config c = fixture_config();
    open_reference(&want, *state);
    run_batch(&want, *state, c, &stats);
    c.max_chunk = 7;
    run_batch(&want, *state, c, &stats);
    c.max_chunk = 64;
    c.max_batch_tokens = 23;
    c.max_sequences = 3;
    run_batch(&want, *state, c, &stats);
    fixture_close(&want);
}

static void variants(void **state)
{
    static const enum gw_isa isas[] = {GW_ISA_C, GW_ISA_AVX2};
    struct fixture want;
    struct gw_engine_stats stats;
    struct solo_config c = fixture_config();
    open_reference(&want, *state);
    for (size_t i = 0; i < sizeof isas / sizeof *isas; i++) {
        c.isa = isas[i];
        run_batch(&want, *state, c, &stats);
    }
    fixture_close(&want);
}

#define CROWD        4 /* of requests that grow to CROWD_TOKENS each */
#define CROWD_PROMPT 60
#define CROWD_TOKENS 120

static void submit_crowd(struct fixture *f, bool drain)
{
    uint32_t prompt[CROWD_PROMPT];
    for (uint32_t i = 0; i < CROWD; i++) {
        for (uint32_t k = 0; k < CROWD_PROMPT; k++) prompt[k] = (i * 41 + k * 13) % f->model->config.vocab;
        struct gw_request q = fixture_request(i + 1, prompt, CROWD_PROMPT, CROWD_TOKENS - CROWD_PROMPT);
        q.sampling.temperature = 1;
        q.sampling.seed = i;
        fixture_submit(f, &q, 1, NULL, NULL);
        if (drain) fixture_drain(f);
    }
}

/* A pool of little more than one of them: two begin, and one must give way; but not where blocks behind the window are
 * given back, for then two of them need no more than the pool has. */
static void preemption(void **state)
{
    struct fixture want, f;
    struct gw_engine_stats stats;
    struct solo_config c = fixture_config();
    fixture_open(&want, *state, c);
    submit_crowd(&want, true);
    c.kv_tokens = CROWD_TOKENS + GW_BLOCK_TOKENS;
    fixture_open(&f, *state, c);
    submit_crowd(&f, false);
    fixture_drain(&f);
    for (uint32_t i = 0; i < CROWD; i++)
        fixture_expect_same(&want.runs[i].branches[0], &fixture_run_of(&f, i + 1)->branches[0], 0, 0);
    gw_engine_stats(f.engine, &stats);
    assert_int_equal(stats.progress.preemptions > 0, gw_model_horizon(&f.model->config) == 0);
    assert_int_equal(stats.progress.kv_used_tokens, 0);
    fixture_close(&f);
    fixture_close(&want);
}

/* Everything twice: the second time each finds the blocks that the first left. */
static void cached_prefix(void **state)
{
    struct fixture want, f;
    struct gw_engine_stats stats;
    open_reference(&want, *state);
    fixture_open(&f, *state, fixture_config());
    for (int round = 0; round < 2; round++) {
        f.runs_len = 0;
        submit_all(&f);
        fixture_drain(&f);
        compare_all(&want, &f);
    }
    gw_engine_stats(f.engine, &stats);
    assert_true(stats.progress.prefix_hit_tokens > stats.progress.prefix_query_tokens / 4);
    fixture_close(&f);
    fixture_close(&want);
}

/* Requests come at random steps, and are taken away in the middle and submitted again with their logs: the newest one as soon as it
 * runs, so that one is for certain, and others at random. */
static void churn(void **state)
{
    struct fixture want, f;
    struct solo_config c = fixture_config();
    uint32_t submitted = 0, moves = 0, log_len[GW_REQUEST_BRANCHES_MAX], n;
    struct gw_rng r = seeded_rng(__func__);
    open_reference(&want, *state);
    c.kv_tokens = POOL;
    c.max_batch_tokens = 48;
    c.max_sequences = 4;
    fixture_open(&f, *state, c);
    for (bool more = true; more || submitted < REQUESTS;) {
        if (submitted < REQUESTS && gw_rng_below(&r, 2)) {
            struct gw_request q = mixed_request(SEED, submitted++, f.model->config.vocab);
            fixture_submit(&f, &q, 1, NULL, NULL);
        }
        bool first = moves == 0 && submitted > 0;
        uint32_t i = first ? submitted - 1 : (uint32_t)gw_rng_below(&r, REQUESTS);
        struct fixture_run *run = i < submitted ? fixture_run_of(&f, i + 1) : NULL;
        if (run && run->started && (first || gw_rng_below(&r, 4) == 0) &&
            gw_engine_hand_off(f.engine, i + 1, run->attempt, log_len, &n)) {
            struct gw_request q = mixed_request(SEED, i, f.model->config.vocab);
            run->attempt++;
            moves++;
            fixture_submit(&f, &q, run->attempt, run, log_len);
        }
        more = fixture_step(&f);
    }
    compare_all(&want, &f);
    assert_true(moves > 0);
    fixture_close(&f);
    fixture_close(&want);
}

static void layouts(void **state)
{
    static const char *const some[] = {"4+4", "3+3+2", "8/8", "1+7/5+3"};
    struct fixture want;
    open_reference(&want, *state);
    for (size_t i = 0; i < sizeof some / sizeof *some; i++) {
        struct rank_threads a;
        struct fixture f;
        if (strchr(some[i], '/') && want.model->cells.groups < 2) continue;
        pipeline_open(&a, &f, want.model, some[i], fixture_config(), i % 2);
        submit_all(&f);
        fixture_drain(&f);
        compare_all(&want, &f);
        pipeline_close(&a, &f);
    }
    fixture_close(&want);
}

#define TEST_OF(model, scenario)                                                                             \
    {                                                                                                        \
        "test_" #scenario "_of_" #model "_give_the_same_bits", scenario, NULL, NULL,                         \
            "tests/data/tiny/" #model                                                                        \
    }
#define TESTS_OF(model)                                                                                      \
    TEST_OF(model, batches_and_chunks), TEST_OF(model, variants), TEST_OF(model, preemption),                \
        TEST_OF(model, cached_prefix), TEST_OF(model, churn), TEST_OF(model, layouts)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TESTS_OF(qwen2),
        TESTS_OF(qwen2new), /* some layers slide */
        TESTS_OF(mistral),  /* all do: blocks are given back */
        TESTS_OF(qwen3),
        TESTS_OF(mixtral),
        TESTS_OF(qwen3moe),
        TESTS_OF(qwen3moe_raw), /* weighted among all experts; f32; a window */
        /* experts in the upper stage alone, RoPE by type of layer; some slide */
        TEST_OF(mellum, batches_and_chunks),
        TEST_OF(mellum, variants),
        TEST_OF(mellum, churn),
        TEST_OF(mellum, layouts),
        TEST_OF(qwen3moe_mixed, layouts), /* experts in one layer of the lower stage */
        TEST_OF(yarn, batches_and_chunks),
        TEST_OF(longrope, layouts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
