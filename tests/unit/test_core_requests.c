/* controller/core: requests and their logs. What is committed, what is refused, how a request ends. */
#include "tests/unit/core_fixture.h"

static void open_with_worker(struct fixture *f)
{
    fixture_open(f);
    fixture_start(f);
    join(f, "w1", "i-1");
}

static void test_submit_with_a_worker_is_accepted_and_sent(void **state)
{
    (void)state;
    struct fixture f;
    open_with_worker(&f);
    submit(&f, 7, 2, 10);
    assert_int_equal(f.actions[0].type, GW_ACT_ACCEPTED);
    const struct gw_msg *m = sent(&f, 1, GW_MSG_SUBMIT, 0);
    assert_non_null(m);
    assert_int_equal(m->term, TERM);
    assert_int_equal(m->generation, f.generation[1]);
    assert_int_equal(m->submit.attempt, 1);
    assert_int_equal(m->submit.request.id, 7);
    assert_int_equal(m->submit.request.n, 2);
    assert_int_equal(m->submit.logs[1].len, 0);
    assert_false(m->submit.logs[1].done);
    assert_int_equal(stats(&f).running, 1);
    fixture_close(&f);
}

static void test_submit_without_a_worker_waits_for_one(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    fixture_start(&f);
    submit(&f, 7, 1, 10);
    assert_int_equal(count(&f, GW_ACT_ACCEPTED), 1);
    assert_int_equal(count(&f, GW_ACT_SEND), 0);
    assert_int_equal(stats(&f).queued, 1);
    uint64_t link = join(&f, "w1", "i-1");
    assert_non_null(sent(&f, link, GW_MSG_SUBMIT, 0));
    assert_int_equal(stats(&f).queued, 0);
    fixture_close(&f);
}

static void test_submit_to_a_full_queue_fails_at_once(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    f.config.max_queued = 2;
    fixture_start(&f);
    submit(&f, 1, 1, 10);
    submit(&f, 2, 1, 10);
    submit(&f, 3, 1, 10);
    assert_int_equal(count(&f, GW_ACT_ACCEPTED), 0);
    const struct gw_action *a = find(&f, GW_ACT_FAILED, 0);
    assert_non_null(a);
    assert_int_equal(a->failed.request, 3);
    assert_int_equal(a->failed.code, GW_ERR_LIMIT);
    fixture_close(&f);
}

static bool has_failed(const struct fixture *f)
{
    return count(f, GW_ACT_FAILED) > 0;
}

static void test_submit_that_waits_too_long_fails_with_one_error(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    f.config.max_queue_wait_us = 3 * S;
    fixture_start(&f);
    int64_t start_us = f.now_us;
    submit(&f, 1, 1, 10);
    assert_int_equal(gw_core_next_deadline_us(f.core), start_us + 3 * S);
    assert_true(run(&f, 10 * S, has_failed));
    assert_int_equal(f.now_us, start_us + 3 * S);
    assert_int_equal(find(&f, GW_ACT_FAILED, 0)->failed.code, GW_ERR_LIMIT);
    assert_int_equal(stats(&f).queued, 0);
    assert_false(run(&f, 10 * S, has_failed));
    fixture_close(&f);
}

static void test_tokens_are_committed_in_order(void **state)
{
    (void)state;
    struct fixture f;
    struct gw_tokens log;
    open_with_worker(&f);
    submit(&f, 7, 1, 10);
    tokens(&f, 1, 7, 1, 0, 2);
    tokens(&f, 1, 7, 1, 2, 3);
    const struct gw_action *a = find(&f, GW_ACT_TOKENS, 0);
    assert_non_null(a);
    assert_int_equal(a->tokens.tokens.first, 2);
    assert_int_equal(a->tokens.tokens.count, 3);
    assert_int_equal(a->tokens.tokens.ids[0], 3);
    assert_true(gw_core_log(f.core, 7, 0, &log));
    assert_int_equal(log.count, 5);
    assert_int_equal(log.ids[4], 5);
    assert_int_equal(stats(&f).tokens, 5);
    fixture_close(&f);
}

static void test_tokens_keep_their_logprobs(void **state)
{
    (void)state;
    struct fixture f;
    struct gw_tokens log;
    uint32_t ids[2] = {4, 5};
    float logprobs[2] = {-1, -2};
    struct gw_top top[4] = {{4, -1}, {9, -3}, {5, -2}, {8, -4}};
    open_with_worker(&f);
    struct gw_request *q = make_request(7, 1, 3, 10);
    q->sampling.logprobs = true;
    q->sampling.top_logprobs = 2;
    submit_request(&f, q);
    struct gw_msg m = {.type = GW_MSG_TOKENS, .tokens = {7, 1, 0, {0, 2, 2, ids, logprobs, top}}};
    say(&f, 1, &m);
    assert_true(gw_core_log(f.core, 7, 0, &log));
    assert_int_equal(log.top_n, 2);
    assert_memory_equal(log.logprobs, logprobs, sizeof logprobs);
    assert_memory_equal(log.top, top, sizeof top);
    const struct gw_tokens *t = &find(&f, GW_ACT_TOKENS, 0)->tokens.tokens;
    assert_memory_equal(t->top, top, sizeof top);
    fixture_close(&f);
}

static void test_tokens_at_the_length_limit_finish_and_overshoot_is_dropped(void **state)
{
    (void)state;
    struct fixture f;
    open_with_worker(&f);
    submit(&f, 7, 1, 4);
    tokens(&f, 1, 7, 1, 0, 6);
    assert_int_equal(find(&f, GW_ACT_TOKENS, 0)->tokens.tokens.count, 4);
    assert_int_equal(find(&f, GW_ACT_FINISH, 0)->finish.reason, GW_FINISH_LENGTH);
    assert_int_equal(find(&f, GW_ACT_DONE, 0)->done.request, 7);
    assert_int_equal(sent(&f, 1, GW_MSG_CANCEL, 0)->cancel.branch, GW_BRANCH_ALL);
    assert_int_equal(stats(&f).tokens, 4);
    tokens(&f, 1, 7, 1, 6, 1);
    assert_int_equal(f.len, 0);
    assert_int_equal(stats(&f).stale_frames, 1);
    fixture_close(&f);
}

static void test_tokens_with_a_stop_id_finish_behind_it(void **state)
{
    (void)state;
    struct fixture f;
    open_with_worker(&f);
    struct gw_request *q = make_request(7, 1, 3, 10);
    q->sampling.stop_ids = malloc(sizeof *q->sampling.stop_ids);
    assert_non_null(q->sampling.stop_ids);
    q->sampling.stop_ids[0] = 3; /* at position 2 */
    q->sampling.stop_ids_len = 1;
    submit_request(&f, q);
    tokens(&f, 1, 7, 1, 0, 3);
    assert_int_equal(find(&f, GW_ACT_TOKENS, 0)->tokens.tokens.count, 3);
    assert_int_equal(find(&f, GW_ACT_FINISH, 0)->finish.reason, GW_FINISH_STOP);
    assert_int_equal(count(&f, GW_ACT_DONE), 1);
    assert_null(sent(&f, 1, GW_MSG_CANCEL, 0)); /* the worker knows */
    fixture_close(&f);
}

static void test_tokens_that_overlap_rightly_append_the_rest(void **state)
{
    (void)state;
    struct fixture f;
    open_with_worker(&f);
    submit(&f, 7, 1, 10);
    tokens(&f, 1, 7, 1, 0, 3);
    tokens(&f, 1, 7, 1, 1, 4);
    assert_int_equal(find(&f, GW_ACT_TOKENS, 0)->tokens.tokens.first, 3);
    assert_int_equal(find(&f, GW_ACT_TOKENS, 0)->tokens.tokens.count, 2);
    tokens(&f, 1, 7, 1, 0, 2); /* nothing new */
    assert_int_equal(count(&f, GW_ACT_TOKENS), 0);
    fixture_close(&f);
}

static void test_tokens_that_differ_from_the_log_drop_the_worker(void **state)
{
    (void)state;
    struct fixture f;
    uint32_t ids[2] = {2, 77};
    float logprobs[2] = {0};
    open_with_worker(&f);
    join(&f, "w2", "i-2");
    submit(&f, 7, 1, 10);
    tokens(&f, 1, 7, 1, 0, 3);
    struct gw_msg m = {.type = GW_MSG_TOKENS, .tokens = {7, 1, 0, {1, 2, 0, ids, logprobs, NULL}}};
    say(&f, 1, &m);
    assert_true(closed(&f, 1));
    assert_non_null(noted(&f, GW_NOTE_DIVERGED, 0));
    assert_int_equal(count(&f, GW_ACT_TOKENS), 0);
    const struct gw_msg *again = sent(&f, 2, GW_MSG_SUBMIT, 0);
    assert_int_equal(again->submit.attempt, 2);
    assert_int_equal(again->submit.logs[0].len, 3);
    assert_int_equal(again->submit.logs[0].ids[2], 3);
    fixture_close(&f);
}

static void test_tokens_behind_a_gap_resubmit(void **state)
{
    (void)state;
    struct fixture f;
    open_with_worker(&f);
    submit(&f, 7, 1, 10);
    tokens(&f, 1, 7, 1, 0, 2);
    tokens(&f, 1, 7, 1, 3, 1);
    assert_int_equal(sent(&f, 1, GW_MSG_CANCEL, 0)->cancel.attempt, 1);
    assert_int_equal(sent(&f, 1, GW_MSG_SUBMIT, 0)->submit.attempt, 2);
    assert_int_equal(sent(&f, 1, GW_MSG_SUBMIT, 0)->submit.logs[0].len, 2);
    tokens(&f, 1, 7, 1, 2, 1); /* of the old attempt */
    assert_int_equal(f.len, 0);
    tokens(&f, 1, 7, 2, 2, 1);
    assert_int_equal(count(&f, GW_ACT_TOKENS), 1);
    fixture_close(&f);
}

/* Frames that are not of the current attempt, its worker, or its incarnation are dropped and counted. */
static void test_tokens_of_strangers_are_dropped(void **state)
{
    (void)state;
    struct fixture f;
    open_with_worker(&f);
    join(&f, "w2", "i-2");
    submit(&f, 7, 1, 10);
    tokens(&f, 2, 7, 1, 0, 1);  /* another worker */
    tokens(&f, 1, 7, 2, 0, 1);  /* an attempt to come */
    tokens(&f, 1, 7, 0, 0, 1);  /* one that never was */
    tokens(&f, 1, 99, 1, 0, 1); /* an unknown request */
    f.generation[1]++;
    tokens(&f, 1, 7, 1, 0, 1);
    f.generation[1]--;
    f.pipeline[1]++;
    tokens(&f, 1, 7, 1, 0, 1);
    f.pipeline[1]--;
    assert_int_equal(stats(&f).stale_frames, 6);
    assert_int_equal(stats(&f).tokens, 0);
    tokens(&f, 1, 7, 1, 0, 1);
    assert_int_equal(stats(&f).tokens, 1);
    fixture_close(&f);
}

/* What no honest worker with this model says costs it its link. */
static void test_tokens_that_cannot_be_drop_the_worker(void **state)
{
    (void)state;
    uint32_t id = 1, beyond = VOCAB;
    float logprob = 0;
    struct gw_top top = {0};
    const struct gw_msg_tokens bad[] = {
        {7, 1, 1, {0, 1, 0, &id, &logprob, NULL}},     /* branch */
        {7, 1, 0, {0, 1, 0, &beyond, &logprob, NULL}}, /* token id */
        {7, 1, 0, {0, 1, 1, &id, &logprob, &top}},     /* top_n that nobody asked for */
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct fixture f;
        open_with_worker(&f);
        submit(&f, 7, 1, 10);
        struct gw_msg m = {.type = GW_MSG_TOKENS, .tokens = bad[i]};
        say(&f, 1, &m);
        assert_true(closed(&f, 1));
        assert_int_equal(stats(&f).queued, 1);
        fixture_close(&f);
    }
}

static void test_branches_have_logs_and_ends_of_their_own(void **state)
{
    (void)state;
    struct fixture f;
    struct gw_tokens log;
    open_with_worker(&f);
    submit(&f, 7, 2, 3);
    tokens_of(&f, 1, 7, 1, 1, 0, 3);
    assert_int_equal(find(&f, GW_ACT_FINISH, 0)->finish.branch, 1);
    assert_int_equal(count(&f, GW_ACT_DONE), 0);
    tokens_of(&f, 1, 7, 1, 0, 0, 2);
    assert_true(gw_core_log(f.core, 7, 0, &log));
    assert_int_equal(log.count, 2);
    link_down(&f, 1);
    uint64_t link = join(&f, "w2", "i-2");
    const struct gw_msg *m = sent(&f, link, GW_MSG_SUBMIT, 0);
    assert_int_equal(m->submit.logs[0].len, 2);
    assert_false(m->submit.logs[0].done);
    assert_int_equal(m->submit.logs[1].len, 3);
    assert_true(m->submit.logs[1].done);
    tokens_of(&f, link, 7, 2, 0, 2, 1);
    assert_int_equal(count(&f, GW_ACT_DONE), 1);
    fixture_close(&f);
}

static void test_stop_cuts_the_log_and_ends_the_branch(void **state)
{
    (void)state;
    struct fixture f;
    struct gw_tokens log;
    open_with_worker(&f);
    submit(&f, 7, 2, 10);
    tokens(&f, 1, 7, 1, 0, 5);
    stop(&f, 7, 0, 3);
    assert_int_equal(sent(&f, 1, GW_MSG_CANCEL, 0)->cancel.branch, 0);
    assert_int_equal(count(&f, GW_ACT_FINISH), 0);
    assert_true(gw_core_log(f.core, 7, 0, &log));
    assert_int_equal(log.count, 3);
    tokens(&f, 1, 7, 1, 5, 2); /* was under way */
    assert_int_equal(f.len, 0);
    stop(&f, 7, 0, 1); /* again */
    assert_true(gw_core_log(f.core, 7, 0, &log));
    assert_int_equal(log.count, 3);
    stop(&f, 7, 1, 0);
    assert_int_equal(sent(&f, 1, GW_MSG_CANCEL, 0)->cancel.branch, GW_BRANCH_ALL);
    assert_int_equal(count(&f, GW_ACT_DONE), 1);
    fixture_close(&f);
}

static void test_stop_of_a_queued_request_ends_it(void **state)
{
    (void)state;
    struct fixture f;
    open_with_worker(&f);
    submit(&f, 7, 1, 10);
    tokens(&f, 1, 7, 1, 0, 5);
    link_down(&f, 1);
    stop(&f, 7, 0, 2);
    assert_int_equal(count(&f, GW_ACT_DONE), 1);
    uint64_t link = join(&f, "w2", "i-2");
    assert_null(sent(&f, link, GW_MSG_SUBMIT, 0));
    fixture_close(&f);
}

static void test_stop_of_unknown_things_is_ignored(void **state)
{
    (void)state;
    struct fixture f;
    open_with_worker(&f);
    submit(&f, 7, 1, 10);
    stop(&f, 8, 0, 0);
    assert_int_equal(f.len, 0);
    stop(&f, 7, 1, 0);
    assert_int_equal(f.len, 0);
    cancel(&f, 8);
    assert_int_equal(f.len, 0);
    fixture_close(&f);
}

static void test_cancel_tells_the_worker_and_nobody_else(void **state)
{
    (void)state;
    struct fixture f;
    struct gw_tokens log;
    open_with_worker(&f);
    submit(&f, 7, 1, 10);
    tokens(&f, 1, 7, 1, 0, 2);
    cancel(&f, 7);
    assert_int_equal(f.len, 1);
    assert_int_equal(sent(&f, 1, GW_MSG_CANCEL, 0)->cancel.request, 7);
    assert_false(gw_core_log(f.core, 7, 0, &log));
    tokens(&f, 1, 7, 1, 2, 2);
    assert_int_equal(f.len, 0);
    assert_int_equal(stats(&f).cancelled, 1);
    fixture_close(&f);
}

static void test_reject_fails_the_request_with_the_worker_s_words(void **state)
{
    (void)state;
    struct fixture f;
    open_with_worker(&f);
    submit(&f, 7, 1, 10);
    struct gw_msg m = {.type = GW_MSG_REJECT, .reject = {7, 1, GW_ERR_LIMIT, "no pages for it"}};
    say(&f, 1, &m);
    const struct gw_action *a = find(&f, GW_ACT_FAILED, 0);
    assert_int_equal(a->failed.code, GW_ERR_LIMIT);
    assert_string_equal(a->failed.text, "no pages for it");
    assert_int_equal(stats(&f).running, 0);
    fixture_close(&f);
}

#ifdef __SANITIZE_ADDRESS__
/* Allocations above 1 MiB fail in this program: a log of that size cannot be had, a small one can. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "allocator_may_return_null=1:max_allocation_size_mb=1";
}

static void test_log_without_memory_fails_that_request_only(void **state)
{
    (void)state;
    enum { MANY = 200000 };
    struct fixture f;
    struct gw_tokens log;
    open_with_worker(&f);
    submit(&f, 7, 1, 2 * MANY);
    submit(&f, 8, 1, 10);
    tokens(&f, 1, 8, 1, 0, 2);
    uint32_t *ids = calloc(MANY, sizeof *ids);
    float *logprobs = calloc(MANY, sizeof *logprobs);
    assert_true(ids && logprobs);
    struct gw_msg m = {.type = GW_MSG_TOKENS, .tokens = {7, 1, 0, {0, MANY, 0, ids, logprobs, NULL}}};
    say(&f, 1, &m);
    assert_int_equal(count(&f, GW_ACT_TOKENS), 1);
    m.tokens.tokens.first = MANY;
    say(&f, 1, &m);
    assert_int_equal(find(&f, GW_ACT_FAILED, 0)->failed.code, GW_ERR_MEMORY);
    assert_non_null(sent(&f, 1, GW_MSG_CANCEL, 0));
    assert_true(gw_core_log(f.core, 8, 0, &log));
    assert_int_equal(log.count, 2);
    free(ids);
    free(logprobs);
    fixture_close(&f);
}
#else
static void test_log_without_memory_fails_that_request_only(void **state)
{
    (void)state;
    skip(); /* needs ASan's allocation limit */
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_submit_with_a_worker_is_accepted_and_sent),
        cmocka_unit_test(test_submit_without_a_worker_waits_for_one),
        cmocka_unit_test(test_submit_to_a_full_queue_fails_at_once),
        cmocka_unit_test(test_submit_that_waits_too_long_fails_with_one_error),
        cmocka_unit_test(test_tokens_are_committed_in_order),
        cmocka_unit_test(test_tokens_keep_their_logprobs),
        cmocka_unit_test(test_tokens_at_the_length_limit_finish_and_overshoot_is_dropped),
        cmocka_unit_test(test_tokens_with_a_stop_id_finish_behind_it),
        cmocka_unit_test(test_tokens_that_overlap_rightly_append_the_rest),
        cmocka_unit_test(test_tokens_that_differ_from_the_log_drop_the_worker),
        cmocka_unit_test(test_tokens_behind_a_gap_resubmit),
        cmocka_unit_test(test_tokens_of_strangers_are_dropped),
        cmocka_unit_test(test_tokens_that_cannot_be_drop_the_worker),
        cmocka_unit_test(test_branches_have_logs_and_ends_of_their_own),
        cmocka_unit_test(test_stop_cuts_the_log_and_ends_the_branch),
        cmocka_unit_test(test_stop_of_a_queued_request_ends_it),
        cmocka_unit_test(test_stop_of_unknown_things_is_ignored),
        cmocka_unit_test(test_cancel_tells_the_worker_and_nobody_else),
        cmocka_unit_test(test_reject_fails_the_request_with_the_worker_s_words),
        cmocka_unit_test(test_log_without_memory_fails_that_request_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
