/* controller/core: who may join, who is lost and when, and what becomes of requests that lose their worker. */
#include "tests/unit/core_fixture.h"

static void open_core(struct fixture *f)
{
    fixture_open(f);
    fixture_start(f);
}

static void test_create_with_a_config_that_cannot_work_is_refused(void **state)
{
    (void)state;
    struct gw_core_config good, bad;
    struct gw_core *core = NULL;
    gw_core_config_default(&good);
    assert_int_equal(gw_core_create(&good, &core), GW_ERR_INPUT); /* no term yet */
    good.term = 1;
    bad = good;
    bad.heartbeat_timeout_us = bad.heartbeat_us * 2;
    assert_int_equal(gw_core_create(&bad, &core), GW_ERR_INPUT);
    bad = good;
    bad.controller_timeout_us = bad.heartbeat_us;
    assert_int_equal(gw_core_create(&bad, &core), GW_ERR_INPUT);
    bad = good;
    bad.max_workers = 0;
    assert_int_equal(gw_core_create(&bad, &core), GW_ERR_INPUT);
    assert_null(core);
    assert_int_equal(gw_core_create(&good, &core), GW_OK);
    assert_int_equal(gw_core_next_deadline_us(core), INT64_MAX);
    gw_core_destroy(core);
}

/* ---- registration ---- */

static void test_hello_good_is_welcomed_with_fences(void **state)
{
    (void)state;
    struct fixture f;
    open_core(&f);
    uint64_t first = join(&f, "w1", "i-1");
    const struct gw_msg *m = sent(&f, first, GW_MSG_WELCOME, 0);
    assert_int_equal(m->term, TERM);
    assert_int_equal(m->welcome.heartbeat_ms, 250);
    assert_int_equal(m->welcome.controller_timeout_ms, 5000);
    assert_string_equal(noted(&f, GW_NOTE_WORKER_UP, 0)->worker, "w1");
    uint64_t second = join(&f, "w2", "i-1");
    assert_int_not_equal(f.pipeline[first], f.pipeline[second]);
    assert_true(f.generation[second] > f.generation[first]);
    assert_int_equal(stats(&f).workers_up, 2);
    fixture_close(&f);
}

static bool digest_is_zero(const char *profile, const uint8_t digest[GW_DIGEST_BYTES])
{
    return strcmp(profile, "test-1") == 0 && digest[0] == 0;
}

static void expect_refused(struct fixture *f, const struct gw_msg *m, enum gw_refuse_code code)
{
    uint64_t link = hello(f, m);
    const struct gw_msg *refuse = sent(f, link, GW_MSG_REFUSE, 0);
    assert_non_null(refuse);
    assert_int_equal(refuse->refuse.code, code);
    assert_true(strlen(refuse->refuse.text) > 0);
    assert_true(closed(f, link));
    assert_string_equal(noted(f, GW_NOTE_WORKER_REFUSED, 0)->worker, m->hello.worker);
}

static void test_hello_bad_is_refused_with_the_reason(void **state)
{
    (void)state;
    struct fixture f;
    struct gw_msg m;
    fixture_open(&f);
    f.config.digest_ok = digest_is_zero;
    f.config.max_workers = 1;
    fixture_start(&f);
    m = hello_msg("w", "i");
    m.hello.proto = GW_WIRE_PROTO + 1;
    expect_refused(&f, &m, GW_REFUSE_PROTO);
    m = hello_msg("w", "i");
    m.hello.fingerprint[3] = 1;
    expect_refused(&f, &m, GW_REFUSE_MODEL);
    m = hello_msg("w", "i");
    m.hello.digest[0] = 1;
    expect_refused(&f, &m, GW_REFUSE_DIGEST);
    m = hello_msg("w", "i");
    m.hello.profile[0] = 'x';
    expect_refused(&f, &m, GW_REFUSE_DIGEST);
    m = hello_msg("w", "i");
    m.hello.max_term = TERM + 1;
    expect_refused(&f, &m, GW_REFUSE_TERM);
    m.hello.max_term = TERM;
    assert_non_null(sent(&f, hello(&f, &m), GW_MSG_WELCOME, 0));
    m = hello_msg("w", "another instance");
    expect_refused(&f, &m, GW_REFUSE_DUPLICATE);
    m = hello_msg("w2", "i");
    expect_refused(&f, &m, GW_REFUSE_LIMIT);
    assert_int_equal(stats(&f).workers_up, 1);
    fixture_close(&f);
}

static void test_hello_of_a_restarted_worker_replaces_the_old_one(void **state)
{
    (void)state;
    struct fixture f;
    open_core(&f);
    uint64_t old = join(&f, "w1", "i-1");
    submit(&f, 7, 1, 10);
    tokens(&f, old, 7, 1, 0, 4);
    uint64_t new = join(&f, "w1", "i-1");
    assert_true(closed(&f, old));
    assert_non_null(noted(&f, GW_NOTE_WORKER_LOST, 0));
    assert_int_equal(sent(&f, new, GW_MSG_SUBMIT, 0)->submit.attempt, 2);
    assert_int_equal(sent(&f, new, GW_MSG_SUBMIT, 0)->submit.logs[0].len, 4);
    tokens(&f, old, 7, 1, 4, 1);
    assert_int_equal(f.len, 0);
    fixture_close(&f);
}

/* ---- loss ---- */

/* Those that have streamed come first, then those that only waited, then new ones. */
static void test_link_down_resubmits_in_order_before_new_requests(void **state)
{
    (void)state;
    struct fixture f;
    open_core(&f);
    join(&f, "w1", "i-1");
    for (uint64_t id = 1; id <= 3; id++) submit(&f, id, 1, 10);
    tokens(&f, 1, 2, 1, 0, 5);
    link_down(&f, 1);
    const struct gw_note *lost = noted(&f, GW_NOTE_WORKER_LOST, 0);
    assert_int_equal(lost->count, 3);
    assert_false(lost->announced);
    assert_false(closed(&f, 1)); /* it is down already */
    submit(&f, 4, 1, 10);
    uint64_t link = join(&f, "w2", "i-2");
    const uint64_t order[] = {2, 1, 3, 4};
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(sent(&f, link, GW_MSG_SUBMIT, i)->submit.request.id, order[i]);
    assert_int_equal(sent(&f, link, GW_MSG_SUBMIT, 0)->submit.logs[0].len, 5);
    const struct gw_note *moved = noted(&f, GW_NOTE_REQUEST_MOVED, 0);
    assert_int_equal(moved->request, 2);
    assert_int_equal(moved->attempt, 2);
    assert_int_equal(moved->count, 5);
    assert_null(noted(&f, GW_NOTE_REQUEST_MOVED, 3));
    assert_int_equal(stats(&f).unannounced_moves, 3);
    fixture_close(&f);
}

static bool lost_one(const struct fixture *f)
{
    return noted(f, GW_NOTE_WORKER_LOST, 0) != NULL;
}

static void test_silence_is_loss_after_the_timeout_and_not_before(void **state)
{
    (void)state;
    struct fixture f;
    open_core(&f);
    join(&f, "w1", "i-1");
    join(&f, "w2", "i-2");
    join(&f, "w3", "i-3");
    run(&f, 3 * S, NULL);
    int64_t silent_us = f.now_us;
    f.beats[2] = false;
    assert_true(run(&f, 10 * S, lost_one));
    assert_true(closed(&f, 2));
    assert_in_range(f.now_us - silent_us, S, S + 100 * MS);
    assert_false(run(&f, 3 * S, lost_one));
    assert_int_equal(stats(&f).workers_up, 2);
    fixture_close(&f);
}

static void test_silence_any_frame_counts_as_life(void **state)
{
    (void)state;
    struct fixture f;
    open_core(&f);
    join(&f, "w1", "i-1");
    submit(&f, 7, 1, 60);
    f.beats[1] = false;
    for (uint32_t i = 0; i < 20; i++) {
        run(&f, 500 * MS, NULL);
        tokens(&f, 1, 7, 1, i, 1);
    }
    assert_int_equal(stats(&f).tokens, 20);
    fixture_close(&f);
}

static void test_silence_of_most_workers_is_looked_at_twice(void **state)
{
    (void)state;
    struct fixture f;
    open_core(&f);
    for (int i = 0; i < 4; i++) join(&f, (char[]){'w', (char)('1' + i), 0}, "i");
    run(&f, 2 * S, NULL);
    int64_t silent_us = f.now_us;
    for (uint64_t link = 1; link <= 3; link++) f.beats[link] = false;
    assert_false(run(&f, 2900 * MS, lost_one));
    beat(&f, 2); /* it was only slow */
    assert_true(run(&f, 10 * S, lost_one));
    assert_in_range(f.now_us - silent_us, 3 * S, 3 * S + 100 * MS);
    assert_true(closed(&f, 1) && closed(&f, 3) && !closed(&f, 2));
    fixture_close(&f);
}

static void test_silence_of_half_the_workers_is_not_looked_at_twice(void **state)
{
    (void)state;
    struct fixture f;
    open_core(&f);
    for (int i = 0; i < 4; i++) join(&f, (char[]){'w', (char)('1' + i), 0}, "i");
    run(&f, 2 * S, NULL);
    int64_t silent_us = f.now_us;
    f.beats[1] = f.beats[2] = false;
    assert_true(run(&f, 10 * S, lost_one));
    assert_in_range(f.now_us - silent_us, S, S + 100 * MS);
    assert_true(closed(&f, 1) && closed(&f, 2));
    fixture_close(&f);
}

/* The loop, or the whole machine, did not run for a minute. */
static void test_silence_while_the_core_did_not_run_is_forgiven(void **state)
{
    (void)state;
    struct fixture f;
    open_core(&f);
    join(&f, "w1", "i-1");
    join(&f, "w2", "i-2");
    run(&f, 2 * S, NULL);
    f.now_us += 60 * S;
    tick(&f);
    assert_null(noted(&f, GW_NOTE_WORKER_LOST, 0));
    f.beats[1] = false;
    int64_t silent_us = f.now_us;
    assert_true(run(&f, 10 * S, lost_one));
    assert_true(closed(&f, 1));
    assert_in_range(f.now_us - silent_us, 500 * MS, S + 100 * MS);
    fixture_close(&f);
}

/* The frames of a silent worker may lie in a socket while another's are fed: only a TICK says that all were. */
static void test_silence_is_judged_on_a_tick_only(void **state)
{
    (void)state;
    struct fixture f;
    open_core(&f);
    join(&f, "w1", "i-1");
    join(&f, "w2", "i-2");
    join(&f, "w3", "i-3");
    run(&f, 2 * S, NULL);
    for (int i = 0; i < 30; i++) { /* 1.5 s without a TICK */
        f.now_us += 50 * MS;
        beat(&f, 1);
        beat(&f, 3);
        assert_null(noted(&f, GW_NOTE_WORKER_LOST, 0));
    }
    assert_true(gw_core_next_deadline_us(f.core) <= f.now_us);
    beat(&f, 2);
    tick(&f);
    assert_null(noted(&f, GW_NOTE_WORKER_LOST, 0));
    fixture_close(&f);
}

static bool pinged(const struct fixture *f)
{
    return sent(f, 1, GW_MSG_PING, 0) != NULL;
}

static void test_ping_comes_each_second(void **state)
{
    (void)state;
    struct fixture f;
    open_core(&f);
    join(&f, "w1", "i-1");
    for (int i = 0; i < 5; i++) {
        int64_t start_us = f.now_us;
        assert_true(run(&f, 10 * S, pinged));
        assert_in_range(f.now_us - start_us, 900 * MS, 1100 * MS);
    }
    fixture_close(&f);
}

static void test_goodbye_of_a_worker_that_was_not_announced_is_loss(void **state)
{
    (void)state;
    struct fixture f;
    open_core(&f);
    join(&f, "w1", "i-1");
    submit(&f, 7, 1, 10);
    struct gw_msg m = {.type = GW_MSG_GOODBYE, .goodbye = {"crashing"}};
    say(&f, 1, &m);
    assert_string_equal(noted(&f, GW_NOTE_WORKER_LOST, 0)->text, "crashing");
    assert_false(noted(&f, GW_NOTE_WORKER_LOST, 0)->announced);
    assert_int_equal(stats(&f).queued, 1);
    fixture_close(&f);
}

static void test_msg_that_only_controllers_send_drops_the_worker(void **state)
{
    (void)state;
    struct fixture f;
    open_core(&f);
    join(&f, "w1", "i-1");
    struct gw_msg m = {.type = GW_MSG_PING};
    say(&f, 1, &m);
    assert_true(closed(&f, 1));
    assert_int_equal(stats(&f).workers_up, 0);
    fixture_close(&f);
}

static void test_msg_on_a_link_that_is_gone_is_ignored(void **state)
{
    (void)state;
    struct fixture f;
    open_core(&f);
    join(&f, "w1", "i-1");
    link_down(&f, 1);
    beat(&f, 1);
    assert_int_equal(f.len, 0);
    link_down(&f, 1);
    assert_int_equal(f.len, 0);
    link_down(&f, 60);
    assert_int_equal(f.len, 0);
    fixture_close(&f);
}

/* ---- poison ---- */

/* A new worker that gets request 7 as `attempt`, begins it, and dies. */
static void begin_and_die(struct fixture *f, uint32_t attempt)
{
    uint64_t link = join(f, "w1", "i-1");
    assert_int_equal(sent(f, link, GW_MSG_SUBMIT, 0)->submit.attempt, attempt);
    begin(f, link, 7, attempt);
    link_down(f, link);
}

static void test_poison_after_two_losses_runs_alone_after_five_fails(void **state)
{
    (void)state;
    struct fixture f;
    open_core(&f);
    submit(&f, 7, 1, 10);
    begin_and_die(&f, 1);
    assert_null(noted(&f, GW_NOTE_REQUEST_ALONE, 0));
    begin_and_die(&f, 2);
    assert_int_equal(noted(&f, GW_NOTE_REQUEST_ALONE, 0)->request, 7);
    begin_and_die(&f, 3); /* alone: this may still be chance */
    begin_and_die(&f, 4);
    assert_null(find(&f, GW_ACT_FAILED, 0));
    uint64_t link = join(&f, "w1", "i-1");
    begin(&f, link, 7, 5);
    submit(&f, 8, 1, 10); /* must not be with it */
    assert_null(sent(&f, link, GW_MSG_SUBMIT, 0));
    link_down(&f, link);
    const struct gw_action *a = find(&f, GW_ACT_FAILED, 0);
    assert_int_equal(a->failed.request, 7);
    assert_int_equal(a->failed.code, GW_ERR_INTERNAL);
    link = join(&f, "w1", "i-1");
    assert_int_equal(sent(&f, link, GW_MSG_SUBMIT, 0)->submit.request.id, 8);
    fixture_close(&f);
}

static void test_poison_losses_before_its_first_step_do_not_count(void **state)
{
    (void)state;
    struct fixture f;
    open_core(&f);
    submit(&f, 7, 1, 10);
    for (uint32_t attempt = 1; attempt <= 6; attempt++) {
        uint64_t link = join(&f, "w1", "i-1");
        assert_int_equal(sent(&f, link, GW_MSG_SUBMIT, 0)->submit.attempt, attempt);
        link_down(&f, link);
        assert_null(noted(&f, GW_NOTE_REQUEST_ALONE, 0));
    }
    fixture_close(&f);
}

static void test_poison_count_is_taken_back_by_a_commit(void **state)
{
    (void)state;
    struct fixture f;
    open_core(&f);
    submit(&f, 7, 1, 60);
    for (uint32_t i = 0; i < 10; i++) {
        begin_and_die(&f, 2 * i + 1);
        assert_null(noted(&f, GW_NOTE_REQUEST_ALONE, 0));
        uint64_t link = join(&f, "w1", "i-1");
        tokens(&f, link, 7, 2 * i + 2, i, 1);
        link_down(&f, link);
        assert_null(noted(&f, GW_NOTE_REQUEST_ALONE, 0));
    }
    assert_int_equal(stats(&f).failed, 0);
    fixture_close(&f);
}

/* It waits until a worker has drained; that one takes nothing new; another serves the rest. */
static void test_poison_waits_for_a_worker_to_itself(void **state)
{
    (void)state;
    struct fixture f;
    open_core(&f);
    submit(&f, 7, 1, 10);
    begin_and_die(&f, 1);
    uint64_t a = join(&f, "wa", "i-a"); /* gets 7 */
    uint64_t b = join(&f, "wb", "i-b");
    submit(&f, 8, 1, 10); /* → b */
    assert_non_null(sent(&f, b, GW_MSG_SUBMIT, 0));
    begin(&f, a, 7, 2);
    link_down(&f, a);
    assert_non_null(noted(&f, GW_NOTE_REQUEST_ALONE, 0));
    assert_null(sent(&f, b, GW_MSG_SUBMIT, 0)); /* b still has 8 */
    submit(&f, 9, 1, 10);
    assert_null(sent(&f, b, GW_MSG_SUBMIT, 0)); /* kept free for 7 */
    tokens(&f, b, 8, 1, 0, 10);                 /* 8 is done */
    assert_int_equal(sent(&f, b, GW_MSG_SUBMIT, 0)->submit.request.id, 7);
    assert_null(sent(&f, b, GW_MSG_SUBMIT, 1));
    tokens(&f, b, 7, 3, 0, 10); /* innocent */
    assert_int_equal(find(&f, GW_ACT_DONE, 0)->done.request, 7);
    assert_int_equal(sent(&f, b, GW_MSG_SUBMIT, 0)->submit.request.id, 9);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_create_with_a_config_that_cannot_work_is_refused),
        cmocka_unit_test(test_hello_good_is_welcomed_with_fences),
        cmocka_unit_test(test_hello_bad_is_refused_with_the_reason),
        cmocka_unit_test(test_hello_of_a_restarted_worker_replaces_the_old_one),
        cmocka_unit_test(test_link_down_resubmits_in_order_before_new_requests),
        cmocka_unit_test(test_silence_is_loss_after_the_timeout_and_not_before),
        cmocka_unit_test(test_silence_any_frame_counts_as_life),
        cmocka_unit_test(test_silence_of_most_workers_is_looked_at_twice),
        cmocka_unit_test(test_silence_of_half_the_workers_is_not_looked_at_twice),
        cmocka_unit_test(test_silence_while_the_core_did_not_run_is_forgiven),
        cmocka_unit_test(test_silence_is_judged_on_a_tick_only),
        cmocka_unit_test(test_ping_comes_each_second),
        cmocka_unit_test(test_goodbye_of_a_worker_that_was_not_announced_is_loss),
        cmocka_unit_test(test_msg_that_only_controllers_send_drops_the_worker),
        cmocka_unit_test(test_msg_on_a_link_that_is_gone_is_ignored),
        cmocka_unit_test(test_poison_after_two_losses_runs_alone_after_five_fails),
        cmocka_unit_test(test_poison_losses_before_its_first_step_do_not_count),
        cmocka_unit_test(test_poison_count_is_taken_back_by_a_commit),
        cmocka_unit_test(test_poison_waits_for_a_worker_to_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
