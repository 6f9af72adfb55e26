/* worker/engine, exactness of requests with several branches: each branch is what it is alone, however the others
 * share its prompt: forked, found by name, recomputed, resumed from logs of any lengths, cancelled beside it. */
#include "tests/lib/mixed_requests.h"
#include "tests/lib/seeded_rng.h"

#define MODEL    "tests/data/tiny/gqa64"
#define SEED     11
#define BRANCHES 6
#define REQUESTS 6

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    fixture_open(f, MODEL, fixture_config());
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    fixture_close(*state);
    free(*state);
    return 0;
}

/* A sampled request of several branches; its prompt ends inside a block (or, i = 0, at its end). */
static struct gw_request branched(uint32_t i, uint32_t vocab)
{
    struct gw_request q = mixed_request(SEED, i + 1, vocab); /* + 1: no long prompt */
    q.n = BRANCHES;
    q.id = i + 1;
    if (i == 0) {
        q.prompt = realloc(q.prompt, 32 * sizeof *q.prompt);
        for (q.prompt_len = 0; q.prompt_len < 32; q.prompt_len++) q.prompt[q.prompt_len] = q.prompt_len;
    }
    if (q.sampling.temperature <= 0) q.sampling.temperature = 1;
    return q;
}

static uint32_t top_n_of(uint32_t i, uint32_t vocab)
{
    struct gw_request q = branched(i, vocab);
    uint32_t n = q.sampling.top_logprobs;
    gw_request_fini(&q);
    return n;
}

/* Each request with all of its branches, one request at a time. */
static void run_one_by_one(struct fixture *f)
{
    for (uint32_t i = 0; i < REQUESTS; i++) {
        struct gw_request q = branched(i, f->model->config.vocab);
        fixture_submit(f, &q, 1, NULL, NULL);
        fixture_drain(f);
    }
}

static void expect_all_same(struct fixture *want, struct fixture *got)
{
    for (uint32_t i = 0; i < REQUESTS; i++)
        for (uint32_t b = 0; b < BRANCHES; b++)
            fixture_expect_same(&fixture_run_of(want, i + 1)->branches[b],
                                &fixture_run_of(got, i + 1)->branches[b], 0,
                                top_n_of(i, want->model->config.vocab));
}

static void run_all(struct fixture *want, struct solo_config config)
{
    struct fixture f;
    fixture_open(&f, MODEL, config);
    for (uint32_t i = 0; i < REQUESTS; i++) {
        struct gw_request q = branched(i, f.model->config.vocab);
        fixture_submit(&f, &q, 1, NULL, NULL);
    }
    fixture_drain(&f);
    expect_all_same(want, &f);
    fixture_close(&f);
}

/* Branch b alone: the others' logs are marked as done, so the worker never sees them. */
static void test_submit_single_branches_equal_the_whole(void **state)
{
    struct fixture *f = *state, alone;
    run_one_by_one(f);
    fixture_open(&alone, MODEL, fixture_config());
    for (uint32_t i = 0; i < REQUESTS; i++) {
        for (uint32_t b = 0; b < BRANCHES; b++) {
            struct gw_request q = branched(i, f->model->config.vocab);
            struct gw_branch_log logs[BRANCHES] = {0};
            for (uint32_t k = 0; k < BRANCHES; k++) logs[k].done = k != b;
            struct gw_msg_submit submit = {.attempt = 1, .request = q, .logs = logs};
            assert_int_equal(gw_engine_submit(alone.engine, &submit, NULL), GW_OK);
            fixture_drain(&alone);
        }
    }
    expect_all_same(f, &alone);
    fixture_close(&alone);
}

static void test_step_branches_differ_from_each_other(void **state)
{
    struct fixture *f = *state;
    uint32_t prompt[] = {5, 6, 7}, same = 0;
    struct gw_request q = fixture_request(1, prompt, 3, 30);
    q.n = BRANCHES;
    q.sampling.temperature = 1;
    fixture_submit(f, &q, 1, NULL, NULL);
    fixture_drain(f);
    const struct fixture_branch *b = f->runs[0].branches;
    for (uint32_t k = 1; k < BRANCHES; k++)
        for (uint32_t i = 0; i < 30; i++) same += b[0].records[i].id == b[k].records[i].id;
    assert_true(same < 30 * (BRANCHES - 1) / 2);
}

static void test_step_greedy_branches_are_equal(void **state)
{
    struct fixture *f = *state;
    uint32_t prompt[] = {5, 6, 7};
    struct gw_request q = fixture_request(1, prompt, 3, 30);
    q.n = BRANCHES;
    fixture_submit(f, &q, 1, NULL, NULL);
    fixture_drain(f);
    for (uint32_t k = 1; k < BRANCHES; k++)
        fixture_expect_same(&f->runs[0].branches[0], &f->runs[0].branches[k], 0, 0);
}

static void test_step_together_gives_the_same_bits(void **state)
{
    run_one_by_one(*state);
    run_all(*state, fixture_config());
}

static void test_step_without_room_to_fork_gives_the_same_bits(void **state)
{
    struct solo_config c = fixture_config();
    run_one_by_one(*state);
    c.max_sequences = 2;
    run_all(*state, c);
    c.max_sequences = 64;
    c.max_chunk = 5;
    c.kv_tokens = 112;
    run_all(*state, c);
}

/* The prompt is computed once: rows = prompt + one per further token of each branch. */
static void test_step_branches_compute_their_prompt_once(void **state)
{
    struct fixture *f = *state;
    struct gw_engine_stats stats;
    uint32_t prompt[40] = {1, 2, 3};
    struct gw_request q = fixture_request(1, prompt, 40, 5);
    q.n = BRANCHES;
    q.sampling.temperature = 1;
    fixture_submit(f, &q, 1, NULL, NULL);
    fixture_drain(f);
    gw_engine_stats(f->engine, &stats);
    assert_int_equal(stats.rows, 40 + BRANCHES * 4);
}

/* Every branch stands at another position of its log. */
static void test_submit_with_logs_of_all_lengths_gives_the_same_bits(void **state)
{
    struct fixture *f = *state, again;
    struct gw_rng r = seeded_rng(__func__);
    run_one_by_one(f);
    fixture_open(&again, MODEL, fixture_config());
    for (uint32_t round = 0; round < 4; round++) {
        uint32_t keep[REQUESTS][BRANCHES];
        again.runs_len = 0;
        for (uint32_t i = 0; i < REQUESTS; i++) {
            const struct fixture_run *want = fixture_run_of(f, i + 1);
            for (uint32_t b = 0; b < BRANCHES; b++) {
                uint32_t len = want->branches[b].len;
                keep[i][b] = gw_rng_below(&r, 3) ? (uint32_t)gw_rng_below(&r, len + 1) : 0;
            }
            struct gw_request q = branched(i, f->model->config.vocab);
            fixture_submit(&again, &q, round + 1, want, keep[i]);
        }
        fixture_drain(&again);
        for (uint32_t i = 0; i < REQUESTS; i++) {
            for (uint32_t b = 0; b < BRANCHES; b++) {
                const struct fixture_branch *want = &fixture_run_of(f, i + 1)->branches[b];
                const struct fixture_branch *got = &fixture_run_of(&again, i + 1)->branches[b];
                if (keep[i][b] < want->len)
                    fixture_expect_same(want, got, keep[i][b], top_n_of(i, f->model->config.vocab));
                else
                    assert_int_equal(got->len, 0);
            }
        }
    }
    fixture_close(&again);
}

/* Branches are cancelled at random, the one that goes ahead with the prompt too: the others go on. */
static void test_cancel_of_branches_leaves_the_others_alone(void **state)
{
    struct fixture *f = *state, g;
    struct gw_rng r = seeded_rng(__func__);
    run_one_by_one(f);
    for (uint32_t round = 0; round < 5; round++) {
        struct solo_config c = fixture_config();
        bool gone[REQUESTS][BRANCHES] = {{false}};
        c.max_chunk = 3;
        fixture_open(&g, MODEL, c);
        for (uint32_t i = 0; i < REQUESTS; i++) {
            struct gw_request q = branched(i, g.model->config.vocab);
            fixture_submit(&g, &q, 1, NULL, NULL);
        }
        do {
            uint32_t i = (uint32_t)gw_rng_below(&r, REQUESTS), b = (uint32_t)gw_rng_below(&r, BRANCHES);
            if (gw_rng_below(&r, 3)) continue;
            gw_engine_cancel(g.engine, i + 1, 1, b);
            gone[i][b] = true;
        } while (fixture_step(&g));
        assert_int_equal(gw_engine_jobs(g.engine), 0);
        for (uint32_t i = 0; i < REQUESTS; i++)
            for (uint32_t b = 0; b < BRANCHES; b++)
                if (!gone[i][b])
                    fixture_expect_same(&fixture_run_of(f, i + 1)->branches[b],
                                        &fixture_run_of(&g, i + 1)->branches[b], 0,
                                        top_n_of(i, f->model->config.vocab));
        fixture_close(&g);
    }
}

#define WITH_ENGINE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_ENGINE(test_submit_single_branches_equal_the_whole),
        WITH_ENGINE(test_step_branches_differ_from_each_other),
        WITH_ENGINE(test_step_greedy_branches_are_equal),
        WITH_ENGINE(test_step_together_gives_the_same_bits),
        WITH_ENGINE(test_step_without_room_to_fork_gives_the_same_bits),
        WITH_ENGINE(test_step_branches_compute_their_prompt_once),
        WITH_ENGINE(test_submit_with_logs_of_all_lengths_gives_the_same_bits),
        WITH_ENGINE(test_cancel_of_branches_leaves_the_others_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
