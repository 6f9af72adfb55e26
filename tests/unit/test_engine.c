/* worker/engine, its contract with the controller: what is refused, attempts, cancels, hand-offs, ends. */
#include "tests/lib/engine_fixture.h"

#define MODEL "tests/data/tiny/mha128"

static int setup(void **state)
{
    struct solo_config c = fixture_config();
    struct fixture *f = calloc(1, sizeof *f);
    c.kv_tokens = 256;
    fixture_open(f, MODEL, c);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    fixture_close(*state);
    free(*state);
    return 0;
}

static const uint32_t prompt[] = {3, 1, 4, 1, 5, 9, 2, 6};
#define PROMPT_LEN 8

static struct gw_request request(uint64_t id, uint32_t max_tokens)
{
    return fixture_request(id, prompt, PROMPT_LEN, max_tokens);
}

static void expect_rejected(struct fixture *f, struct gw_request q, struct gw_branch_log log, gw_err_t code)
{
    struct gw_err_ctx ctx = {0};
    struct gw_msg_submit submit = {.attempt = 1, .request = q, .logs = &log};
    assert_int_equal(gw_engine_submit(f->engine, &submit, &ctx), code);
    assert_int_not_equal(ctx.text[0], '\0');
    assert_ptr_equal(submit.request.prompt, q.prompt); /* still the caller's */
    gw_request_fini(&submit.request);
    assert_int_equal(gw_engine_jobs(f->engine), 0);
}

static void test_submit_impossible_requests_are_rejected(void **state)
{
    struct fixture *f = *state;
    const struct gw_branch_log none = {0};
    uint32_t bad_id = f->model->config.vocab, good_ids[4] = {1, 2, 3, 4};
    struct gw_request q = request(1, 5);
    q.prompt[2] = bad_id;
    expect_rejected(f, q, none, GW_ERR_INPUT);
    q = request(1, 5);
    q.sampling.top_p = 0;
    expect_rejected(f, q, none, GW_ERR_INPUT);
    expect_rejected(f, request(1, f->model->config.context), none, GW_ERR_INPUT);
    expect_rejected(f, request(1, 300), none, GW_ERR_LIMIT); /* context 512, pool 256 */
    expect_rejected(f, request(1, 5), (struct gw_branch_log){.len = 1, .ids = &bad_id}, GW_ERR_INPUT);
    expect_rejected(f, request(1, 4), (struct gw_branch_log){.len = 4, .ids = good_ids}, GW_ERR_INPUT);
}

/* 16 blocks; the last token needs no KV. Greedy would not end before: there is no stop id. */
static void test_submit_that_just_fits_the_pool_runs(void **state)
{
    struct fixture *f = *state;
    uint32_t long_prompt[256 - 20 + 1] = {1, 2, 3};
    struct gw_request q = fixture_request(1, long_prompt, 256 - 20 + 1, 20);
    fixture_submit(f, &q, 1, NULL, NULL);
    fixture_drain(f);
    assert_int_equal(f->runs[0].branches[0].len, 20);
    expect_rejected(f, fixture_request(2, long_prompt, 256 - 20 + 1, 21), (struct gw_branch_log){0},
                    GW_ERR_LIMIT);
}

static void test_submit_with_complete_logs_has_nothing_to_do(void **state)
{
    struct fixture *f = *state;
    uint32_t ids[] = {7};
    struct gw_branch_log log = {.len = 1, .done = true, .ids = ids};
    struct gw_request q = request(1, 5);
    struct gw_msg_submit submit = {.attempt = 1, .request = q, .logs = &log};
    assert_int_equal(gw_engine_submit(f->engine, &submit, NULL), GW_OK);
    assert_int_equal(gw_engine_jobs(f->engine), 0);
    assert_false(fixture_step(f));
}

static void test_step_ends_at_stop_id_and_at_max_tokens(void **state)
{
    struct fixture *f = *state;
    struct gw_request q = request(1, 12);
    fixture_submit(f, &q, 1, NULL, NULL);
    fixture_drain(f);
    const struct fixture_branch *all = &f->runs[0].branches[0];
    assert_int_equal(all->len, 12);
    uint32_t stop = all->records[5].id, first = 0;
    while (all->records[first].id != stop) first++;
    q = request(2, 12);
    q.sampling.stop_ids = malloc(sizeof stop);
    q.sampling.stop_ids[0] = stop;
    q.sampling.stop_ids_len = 1;
    fixture_submit(f, &q, 1, NULL, NULL);
    fixture_drain(f);
    assert_int_equal(f->runs[1].branches[0].len, first + 1);
    assert_int_equal(f->runs[1].branches[0].records[first].id, stop);
}

static void test_step_says_started_once_and_before_any_token(void **state)
{
    struct fixture *f = *state;
    struct gw_request q = request(1, 5);
    q.n = 3;
    fixture_submit(f, &q, 1, NULL, NULL);
    assert_int_equal(f->runs_len, 0);
    fixture_drain(f); /* the fixture asserts that tokens come after started */
    assert_int_equal(f->runs[0].started, 1);
}

static void test_submit_newer_attempt_replaces_older_is_ignored(void **state)
{
    struct fixture *f = *state;
    uint32_t keep[FIXTURE_BRANCHES_MAX] = {2};
    struct gw_request q = request(1, 10);
    fixture_submit(f, &q, 2, NULL, NULL);
    for (int i = 0; i < 4; i++) assert_true(fixture_step(f));
    struct fixture_run first = f->runs[0];
    assert_int_equal(first.branches[0].len, 4);
    q = request(1, 10);
    fixture_submit(f, &q, 2, NULL, NULL); /* the same again */
    q = request(1, 10);
    fixture_submit(f, &q, 1, NULL, NULL); /* an old one */
    assert_int_equal(gw_engine_jobs(f->engine), 1);
    assert_true(fixture_step(f));
    assert_int_equal(f->runs[0].branches[0].len, 5);
    f->runs_len = 0;
    q = request(1, 10);
    fixture_submit(f, &q, 3, &first, keep);
    assert_int_equal(gw_engine_jobs(f->engine), 1);
    fixture_drain(f);
    assert_int_equal(f->runs[0].attempt, 3);
    assert_int_equal(f->runs[0].branches[0].first, 2);
    for (uint32_t i = 2; i < 4; i++)
        assert_int_equal(f->runs[0].branches[0].records[i].id, first.branches[0].records[i].id);
}

static void test_cancel_stale_and_unknown_are_harmless(void **state)
{
    struct fixture *f = *state;
    struct gw_request q = request(1, 5);
    fixture_submit(f, &q, 4, NULL, NULL);
    gw_engine_cancel(f->engine, 1, 3, GW_BRANCH_ALL); /* meant for an attempt that is over */
    gw_engine_cancel(f->engine, 2, 9, GW_BRANCH_ALL);
    gw_engine_cancel(f->engine, 1, 4, 77);
    assert_int_equal(gw_engine_jobs(f->engine), 1);
    assert_true(fixture_step(f));
    gw_engine_cancel(f->engine, 1, 4, GW_BRANCH_ALL);
    gw_engine_cancel(f->engine, 1, 4, GW_BRANCH_ALL);
    assert_int_equal(gw_engine_jobs(f->engine), 0);
    assert_false(fixture_step(f));
}

static void test_hand_off_gives_log_lengths_and_forgets(void **state)
{
    struct fixture *f = *state;
    uint32_t len[GW_REQUEST_BRANCHES_MAX], n = 0;
    struct gw_request q = request(1, 20);
    q.n = 2;
    fixture_submit(f, &q, 5, NULL, NULL);
    for (int i = 0; i < 3; i++) fixture_step(f);
    gw_engine_cancel(f->engine, 1, 5, 1);
    fixture_step(f);
    assert_false(gw_engine_hand_off(f->engine, 1, 4, len, &n));
    assert_false(gw_engine_hand_off(f->engine, 2, 5, len, &n));
    assert_true(gw_engine_hand_off(f->engine, 1, 5, len, &n));
    assert_int_equal(n, 2);
    assert_int_equal(len[0], f->runs[0].branches[0].len);
    assert_int_equal(len[1], f->runs[0].branches[1].len);
    assert_int_equal(len[0], len[1] + 1);
    assert_false(gw_engine_hand_off(f->engine, 1, 5, len, &n));
    assert_int_equal(gw_engine_jobs(f->engine), 0);
}

static void test_reset_forgets_requests_and_keeps_sealed_pages(void **state)
{
    struct fixture *f = *state;
    struct gw_engine_stats stats;
    uint32_t long_prompt[40] = {9, 8, 7};
    struct gw_request q = fixture_request(1, long_prompt, 40, 10);
    fixture_submit(f, &q, 1, NULL, NULL);
    assert_true(fixture_step(f));
    gw_engine_reset(f->engine);
    assert_int_equal(gw_engine_jobs(f->engine), 0);
    gw_engine_stats(f->engine, &stats);
    assert_int_equal(stats.progress.kv_used_tokens, 0);
    assert_int_equal(stats.progress.running + stats.progress.waiting, 0);
    q = fixture_request(2, long_prompt, 40, 1);
    fixture_submit(f, &q, 1, NULL, NULL);
    fixture_drain(f);
    gw_engine_stats(f->engine, &stats);
    assert_int_equal(stats.progress.prefix_hit_tokens, 32);
}

/* Tenants do not find each other's blocks; the same tenant does. */
static void test_step_other_tenant_finds_no_prefix(void **state)
{
    struct fixture *f = *state;
    struct gw_engine_stats stats;
    uint32_t long_prompt[40] = {9, 8, 7};
    for (uint64_t i = 1; i <= 2; i++) {
        struct gw_request q = fixture_request(i, long_prompt, 40, 1);
        q.tenant[0] = (uint8_t)i;
        fixture_submit(f, &q, 1, NULL, NULL);
        fixture_drain(f);
    }
    gw_engine_stats(f->engine, &stats);
    assert_int_equal(stats.progress.prefix_hit_tokens, 0);
    assert_int_equal(stats.progress.prefix_query_tokens, 80);
}

#define WITH_ENGINE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_ENGINE(test_submit_impossible_requests_are_rejected),
        WITH_ENGINE(test_submit_that_just_fits_the_pool_runs),
        WITH_ENGINE(test_submit_with_complete_logs_has_nothing_to_do),
        WITH_ENGINE(test_step_ends_at_stop_id_and_at_max_tokens),
        WITH_ENGINE(test_step_says_started_once_and_before_any_token),
        WITH_ENGINE(test_submit_newer_attempt_replaces_older_is_ignored),
        WITH_ENGINE(test_cancel_stale_and_unknown_are_harmless),
        WITH_ENGINE(test_hand_off_gives_log_lengths_and_forgets),
        WITH_ENGINE(test_reset_forgets_requests_and_keeps_sealed_pages),
        WITH_ENGINE(test_step_other_tenant_finds_no_prefix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
