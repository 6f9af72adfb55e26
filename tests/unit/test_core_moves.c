/* controller/core: announced losses. Notices, CUTOVER, HANDOFF, and everything that may go wrong with them. */
#include "tests/unit/core_fixture.h"

/* w1 on i-1 runs request 7 with four tokens; w2 on i-2 is there too if `others`. */
static void open_running(struct fixture *f, bool others)
{
    fixture_open(f);
    fixture_start(f);
    join(f, "w1", "i-1");
    submit(f, 7, 1, 20);
    tokens(f, 1, 7, 1, 0, 4);
    if (others) join(f, "w2", "i-2");
}

static void worker_notice(struct fixture *f, uint64_t link, enum gw_notice_kind kind, uint32_t deadline_ms)
{
    struct gw_msg m = {.type = GW_MSG_NOTICE, .notice = {(uint8_t)kind, deadline_ms}};
    say(f, link, &m);
}

static bool cut_over(const struct fixture *f)
{
    return sent(f, 1, GW_MSG_CUTOVER, 0) != NULL;
}

static bool resubmitted(const struct fixture *f)
{
    return noted(f, GW_NOTE_REQUEST_MOVED, 0) != NULL;
}

static void test_notice_with_another_worker_up_cuts_over_at_once(void **state)
{
    (void)state;
    struct fixture f;
    open_running(&f, true);
    notice(&f, "i-1", GW_NOTICE_PREEMPT, 30 * S);
    assert_non_null(noted(&f, GW_NOTE_WORKER_DOOMED, 0));
    const struct gw_msg *m = sent(&f, 1, GW_MSG_CUTOVER, 0);
    assert_int_equal(m->cutover.count, 1);
    assert_int_equal(m->cutover.items[0].request, 7);
    assert_int_equal(m->cutover.items[0].attempt, 1);
    tokens(&f, 1, 7, 1, 4, 2); /* the last ones are still taken */
    assert_int_equal(count(&f, GW_ACT_TOKENS), 1);
    handoff(&f, 1, 7, 1);
    const struct gw_msg *submit = sent(&f, 2, GW_MSG_SUBMIT, 0);
    assert_int_equal(submit->submit.attempt, 2);
    assert_int_equal(submit->submit.logs[0].len, 6);
    assert_true(noted(&f, GW_NOTE_REQUEST_MOVED, 0)->announced);
    assert_int_equal(stats(&f).announced_moves, 1);
    fixture_close(&f);
}

static void test_notice_stops_new_work(void **state)
{
    (void)state;
    struct fixture f;
    open_running(&f, true);
    worker_notice(&f, 1, GW_NOTICE_PREEMPT, 30000);
    assert_string_equal(state_of(&f, "w1"), "doomed");
    for (uint64_t id = 8; id < 12; id++) {
        submit(&f, id, 1, 10);
        assert_null(sent(&f, 1, GW_MSG_SUBMIT, 0));
        assert_non_null(sent(&f, 2, GW_MSG_SUBMIT, 0));
    }
    fixture_close(&f);
}

/* Better than to let it wait: it moves with the others, or is done by then. */
static void test_notice_to_the_only_worker_leaves_it_new_work_until_the_margin(void **state)
{
    (void)state;
    struct fixture f;
    open_running(&f, false);
    worker_notice(&f, 1, GW_NOTICE_PREEMPT, 10000);
    submit(&f, 8, 1, 10);
    assert_non_null(sent(&f, 1, GW_MSG_SUBMIT, 0));
    assert_true(run(&f, 30 * S, cut_over));
    assert_int_equal(sent(&f, 1, GW_MSG_CUTOVER, 0)->cutover.count, 2);
    submit(&f, 9, 1, 10);
    assert_int_equal(count(&f, GW_ACT_SEND), 0);
    assert_int_equal(stats(&f).queued, 1);
    fixture_close(&f);
}

static void test_notice_without_another_worker_waits_for_one(void **state)
{
    (void)state;
    struct fixture f;
    open_running(&f, false);
    notice(&f, "w1", GW_NOTICE_PREEMPT, 30 * S);
    assert_false(cut_over(&f));
    assert_false(run(&f, 10 * S, cut_over));
    join(&f, "w2", "i-2");
    assert_true(cut_over(&f));
    fixture_close(&f);
}

static void test_notice_without_another_worker_cuts_over_at_the_margin(void **state)
{
    (void)state;
    struct fixture f;
    open_running(&f, false);
    int64_t start_us = f.now_us;
    notice(&f, "w1", GW_NOTICE_PREEMPT, 10 * S);
    assert_true(run(&f, 30 * S, cut_over));
    assert_in_range(f.now_us - start_us, 9 * S, 9 * S + 100 * MS);
    handoff(&f, 1, 7, 1);
    assert_int_equal(stats(&f).queued, 1);
    uint64_t link = join(&f, "w3", "i-3");
    assert_int_equal(sent(&f, link, GW_MSG_SUBMIT, 0)->submit.logs[0].len, 4);
    fixture_close(&f);
}

static void test_notice_names_an_instance_or_one_worker(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    fixture_start(&f);
    join(&f, "a", "i-1");
    join(&f, "b", "i-1");
    join(&f, "c", "i-2");
    notice(&f, "i-1", GW_NOTICE_MAINTENANCE, 30 * S);
    assert_string_equal(state_of(&f, "a"), "doomed");
    assert_string_equal(state_of(&f, "b"), "doomed");
    assert_string_equal(state_of(&f, "c"), "up");
    notice(&f, "i-1", GW_NOTICE_CANCEL, 0);
    assert_string_equal(state_of(&f, "a"), "up");
    notice(&f, "b", GW_NOTICE_MAINTENANCE, 30 * S);
    assert_string_equal(state_of(&f, "a"), "up");
    assert_string_equal(state_of(&f, "b"), "doomed");
    notice(&f, "nobody", GW_NOTICE_PREEMPT, 30 * S);
    assert_int_equal(f.len, 0);
    fixture_close(&f);
}

static void test_notice_cancelled_before_cutover_moves_nothing(void **state)
{
    (void)state;
    struct fixture f;
    open_running(&f, false);
    worker_notice(&f, 1, GW_NOTICE_PREEMPT, 5000);
    run(&f, 2 * S, NULL);
    worker_notice(&f, 1, GW_NOTICE_CANCEL, 0);
    assert_non_null(noted(&f, GW_NOTE_NOTICE_CANCELLED, 0));
    assert_string_equal(state_of(&f, "w1"), "up");
    assert_false(run(&f, 60 * S, cut_over));
    tokens(&f, 1, 7, 1, 4, 1);
    assert_int_equal(count(&f, GW_ACT_TOKENS), 1);
    fixture_close(&f);
}

static void test_notice_cancelled_after_cutover_moves_what_was_cut_over(void **state)
{
    (void)state;
    struct fixture f;
    open_running(&f, true);
    notice(&f, "i-1", GW_NOTICE_PREEMPT, 30 * S);
    assert_true(cut_over(&f));
    notice(&f, "i-1", GW_NOTICE_CANCEL, 0);
    assert_string_equal(state_of(&f, "w1"), "up");
    handoff(&f, 1, 7, 1);
    assert_true(resubmitted(&f));
    assert_true(noted(&f, GW_NOTE_REQUEST_MOVED, 0)->announced);
    fixture_close(&f);
}

static void test_notice_again_after_a_cancel_cuts_over_only_what_stayed(void **state)
{
    (void)state;
    struct fixture f;
    open_running(&f, true);
    notice(&f, "i-1", GW_NOTICE_PREEMPT, 30 * S);
    notice(&f, "i-1", GW_NOTICE_CANCEL, 0);
    for (uint64_t id = 8; id <= 11; id++) submit(&f, id, 1, 10); /* some of them go to w1 */
    notice(&f, "i-1", GW_NOTICE_PREEMPT, 30 * S);
    const struct gw_msg *m = sent(&f, 1, GW_MSG_CUTOVER, 0);
    assert_non_null(m);
    for (uint32_t i = 0; i < m->cutover.count; i++) assert_true(m->cutover.items[i].request >= 8);
    handoff(&f, 1, 7, 1);
    assert_true(noted(&f, GW_NOTE_REQUEST_MOVED, 0)->announced);
    fixture_close(&f);
}

static void test_notice_repeated_moves_the_deadline(void **state)
{
    (void)state;
    struct fixture f;
    open_running(&f, false);
    notice(&f, "w1", GW_NOTICE_PREEMPT, 30 * S);
    run(&f, 2 * S, NULL);
    int64_t start_us = f.now_us;
    notice(&f, "w1", GW_NOTICE_PREEMPT, 4 * S);
    assert_non_null(noted(&f, GW_NOTE_WORKER_DOOMED, 0));
    notice(&f, "w1", GW_NOTICE_PREEMPT, 4 * S);
    assert_null(noted(&f, GW_NOTE_WORKER_DOOMED, 0)); /* nothing new */
    assert_true(run(&f, 30 * S, cut_over));
    assert_in_range(f.now_us - start_us, 3 * S, 3 * S + 100 * MS);
    fixture_close(&f);
}

static void test_notice_that_comes_too_late_resubmits_at_once(void **state)
{
    (void)state;
    struct fixture f;
    open_running(&f, true);
    notice(&f, "i-1", GW_NOTICE_PREEMPT, -5 * S);
    assert_false(cut_over(&f));
    assert_int_equal(sent(&f, 1, GW_MSG_CANCEL, 0)->cancel.request, 7);
    assert_int_equal(sent(&f, 2, GW_MSG_SUBMIT, 0)->submit.logs[0].len, 4);
    fixture_close(&f);
}

static void test_notice_that_was_wrong_ends_after_the_grace(void **state)
{
    (void)state;
    struct fixture f;
    open_running(&f, true);
    notice(&f, "i-1", GW_NOTICE_PREEMPT, 10 * S);
    handoff(&f, 1, 7, 1);
    run(&f, 39 * S, NULL);
    assert_string_equal(state_of(&f, "w1"), "doomed");
    run(&f, 2 * S, NULL);
    assert_string_equal(state_of(&f, "w1"), "up");
    fixture_close(&f);
}

static void test_notice_with_a_deadline_beyond_all_sense_is_bounded(void **state)
{
    (void)state;
    struct fixture f;
    open_running(&f, false);
    const struct gw_event e = {.type = GW_EV_NOTICE,
                               .notice = {.name = "w1", .kind = GW_NOTICE_PREEMPT, .deadline_us = INT64_MAX}};
    step(&f, &e);
    struct gw_core_worker_view view;
    assert_int_equal(gw_core_workers(f.core, &view, 1), 1);
    assert_true(view.deadline_us < f.now_us + 31LL * 24 * 3600 * S);
    fixture_close(&f);
}

static void test_handoff_that_never_comes_is_loss_but_not_counted(void **state)
{
    (void)state;
    struct fixture f;
    open_running(&f, true);
    int64_t start_us = f.now_us;
    notice(&f, "i-1", GW_NOTICE_PREEMPT, 30 * S);
    assert_true(run(&f, 30 * S, resubmitted));
    assert_in_range(f.now_us - start_us, 2 * S, 2 * S + 100 * MS);
    assert_int_equal(sent(&f, 1, GW_MSG_CANCEL, 0)->cancel.attempt, 1);
    assert_int_equal(sent(&f, 2, GW_MSG_SUBMIT, 0)->submit.attempt, 2);
    tokens(&f, 1, 7, 1, 4, 1); /* late */
    assert_int_equal(f.len, 0);
    handoff(&f, 1, 7, 1); /* later still */
    assert_int_equal(f.len, 0);
    fixture_close(&f);
}

/* The time for a HANDOFF never goes beyond the deadline itself. */
static void test_handoff_deadline_ends_with_the_notice(void **state)
{
    (void)state;
    struct fixture f;
    open_running(&f, true);
    int64_t start_us = f.now_us;
    notice(&f, "i-1", GW_NOTICE_PREEMPT, 700 * MS);
    assert_true(cut_over(&f));
    assert_true(run(&f, 30 * S, resubmitted));
    assert_in_range(f.now_us - start_us, 700 * MS, 800 * MS);
    fixture_close(&f);
}

static void test_handoff_that_nobody_asked_for_resubmits(void **state)
{
    (void)state;
    struct fixture f;
    open_running(&f, false);
    handoff(&f, 1, 7, 1);
    assert_int_equal(sent(&f, 1, GW_MSG_SUBMIT, 0)->submit.attempt, 2);
    assert_false(noted(&f, GW_NOTE_REQUEST_MOVED, 0)->announced);
    fixture_close(&f);
}

static void test_doomed_worker_that_dies_is_an_announced_loss(void **state)
{
    (void)state;
    struct fixture f;
    open_running(&f, true);
    notice(&f, "i-1", GW_NOTICE_PREEMPT, 30 * S);
    link_down(&f, 1);
    assert_true(noted(&f, GW_NOTE_WORKER_LOST, 0)->announced);
    assert_true(noted(&f, GW_NOTE_REQUEST_MOVED, 0)->announced);
    assert_int_equal(stats(&f).losses, 0);
    fixture_close(&f);
}

static void test_doomed_worker_that_goes_empty_has_left(void **state)
{
    (void)state;
    struct fixture f;
    open_running(&f, true);
    notice(&f, "i-1", GW_NOTICE_PREEMPT, 30 * S);
    handoff(&f, 1, 7, 1);
    struct gw_msg m = {.type = GW_MSG_GOODBYE, .goodbye = {"terminated"}};
    say(&f, 1, &m);
    assert_non_null(noted(&f, GW_NOTE_WORKER_LEFT, 0));
    assert_null(noted(&f, GW_NOTE_WORKER_LOST, 0));
    fixture_close(&f);
}

static void test_doomed_losses_never_make_a_request_run_alone(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    fixture_start(&f);
    submit(&f, 7, 1, 20);
    for (uint32_t attempt = 1; attempt <= 6; attempt++) {
        uint64_t link = join(&f, "w1", "i-1");
        assert_int_equal(sent(&f, link, GW_MSG_SUBMIT, 0)->submit.attempt, attempt);
        begin(&f, link, 7, attempt);
        worker_notice(&f, link, GW_NOTICE_PREEMPT, 30000);
        link_down(&f, link);
        assert_null(noted(&f, GW_NOTE_REQUEST_ALONE, 0));
        notice(&f, "w1", GW_NOTICE_CANCEL, 0);
    }
    fixture_close(&f);
}

static void test_doomed_process_that_reconnects_is_still_doomed(void **state)
{
    (void)state;
    struct fixture f;
    open_running(&f, false);
    worker_notice(&f, 1, GW_NOTICE_PREEMPT, 30000);
    link_down(&f, 1);
    join(&f, "w1", "i-1"); /* the same pid */
    assert_string_equal(state_of(&f, "w1"), "doomed");
    link_down(&f, 2);
    struct gw_msg m = hello_msg("w1", "i-1");
    m.hello.pid++; /* a new process: the old one's notice is not its own */
    hello(&f, &m);
    assert_string_equal(state_of(&f, "w1"), "up");
    fixture_close(&f);
}

static void test_doomed_instance_dooms_who_joins_before_its_deadline(void **state)
{
    (void)state;
    struct fixture f;
    open_running(&f, false);
    notice(&f, "i-9", GW_NOTICE_PREEMPT, 5 * S);
    join(&f, "w9", "i-9");
    assert_string_equal(state_of(&f, "w9"), "doomed");
    run(&f, 6 * S, NULL);
    join(&f, "w10", "i-9");
    assert_string_equal(state_of(&f, "w10"), "up");
    fixture_close(&f);
}

static void test_cutover_of_very_many_requests_is_cut_in_pieces(void **state)
{
    (void)state;
    enum { MANY = GW_WIRE_CUTOVER_MAX + 100 };
    struct fixture f;
    fixture_open(&f);
    f.config.worker_branches_target = 2 * MANY;
    fixture_start(&f);
    join(&f, "w1", "i-1");
    for (uint64_t id = 1; id <= MANY; id++) submit(&f, id, 1, 10);
    join(&f, "w2", "i-2");
    notice(&f, "w1", GW_NOTICE_PREEMPT, 30 * S);
    assert_int_equal(sent(&f, 1, GW_MSG_CUTOVER, 0)->cutover.count, GW_WIRE_CUTOVER_MAX);
    assert_int_equal(sent(&f, 1, GW_MSG_CUTOVER, 1)->cutover.count, 100);
    assert_int_equal(sent(&f, 1, GW_MSG_CUTOVER, 1)->cutover.items[99].request, MANY);
    for (uint64_t id = 1; id <= MANY; id++) handoff(&f, 1, id, 1);
    assert_int_equal(stats(&f).announced_moves, MANY);
    fixture_close(&f);
}

/* It waits for w1 to be empty; w1 will go, and w2 is there. */
static void test_doomed_worker_kept_for_a_suspect_is_given_back(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    fixture_start(&f);
    submit(&f, 7, 1, 20);
    uint64_t link = join(&f, "w1", "i-1");
    begin(&f, link, 7, 1);
    link_down(&f, link);
    link = join(&f, "w2", "i-2");
    uint64_t other = join(&f, "w3", "i-3");
    submit(&f, 8, 1, 20);
    assert_non_null(sent(&f, other, GW_MSG_SUBMIT, 0));
    begin(&f, link, 7, 2);
    link_down(&f, link); /* 7 waits until w3 has done 8 */
    assert_non_null(noted(&f, GW_NOTE_REQUEST_ALONE, 0));
    notice(&f, "w3", GW_NOTICE_PREEMPT, 300 * MS);
    link = join(&f, "w4", "i-4");
    assert_int_equal(sent(&f, link, GW_MSG_SUBMIT, 0)->submit.request.id, 7);
    fixture_close(&f);
}

/* ---- recommendations ---- */

static bool is_advised(const struct fixture *f, const char *worker)
{
    struct gw_core_worker_view views[4];
    size_t n = gw_core_workers(f->core, views, 4);
    for (size_t i = 0; i < n; i++)
        if (strcmp(views[i].worker, worker) == 0) return views[i].advised;
    return false;
}

static void test_rebalance_dooms_nobody_and_new_work_prefers_others(void **state)
{
    (void)state;
    for (int by_worker = 0; by_worker < 2; by_worker++) {
        struct fixture f;
        open_running(&f, true);
        if (by_worker)
            worker_notice(&f, 1, GW_NOTICE_REBALANCE, 0);
        else
            notice(&f, "i-1", GW_NOTICE_REBALANCE, 0);
        assert_int_equal(noted(&f, GW_NOTE_WORKER_ADVISED, 0)->request, 0);
        assert_null(noted(&f, GW_NOTE_WORKER_DOOMED, 0));
        assert_string_equal(state_of(&f, "w1"), "up");
        assert_true(is_advised(&f, "w1") && !is_advised(&f, "w2"));
        uint64_t id = 8;
        for (; id < 14; id++) {
            submit(&f, id, 1, 20);
            assert_non_null(sent(&f, 2, GW_MSG_SUBMIT, 0));
        }
        while (submit(&f, id, 1, 20), !sent(&f, 1, GW_MSG_SUBMIT, 0))
            assert_true(id++ < 40); /* others are busy */
        tokens(&f, 1, 7, 1, 4, 2);
        assert_int_equal(count(&f, GW_ACT_TOKENS), 1); /* what runs there stays */
        run(&f, 60 * S, NULL);
        assert_string_equal(state_of(&f, "w1"), "up");
        fixture_close(&f);
    }
}

static void test_rebalance_does_not_touch_a_notice(void **state)
{
    (void)state;
    struct fixture f;
    open_running(&f, false);
    int64_t start_us = f.now_us;
    notice(&f, "i-1", GW_NOTICE_PREEMPT, 10 * S);
    notice(&f, "i-1", GW_NOTICE_REBALANCE, 0);
    assert_string_equal(state_of(&f, "w1"), "doomed");
    join(&f, "w1", "i-1"); /* the next incarnation */
    assert_string_equal(state_of(&f, "w1"), "doomed");
    struct gw_core_worker_view v;
    assert_int_equal(gw_core_workers(f.core, &v, 1), 1);
    assert_true(v.deadline_us == start_us + 10 * S);
    fixture_close(&f);
}

static void test_rebalance_then_notice_dooms(void **state)
{
    (void)state;
    struct fixture f;
    open_running(&f, true);
    notice(&f, "i-1", GW_NOTICE_REBALANCE, 0);
    notice(&f, "i-1", GW_NOTICE_PREEMPT, 10 * S);
    assert_string_equal(state_of(&f, "w1"), "doomed");
    assert_true(cut_over(&f));
    fixture_close(&f);
}

static void test_rebalance_is_remembered_by_instance_until_it_is_taken_back(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    fixture_start(&f);
    notice(&f, "i-1", GW_NOTICE_REBALANCE, 0);
    join(&f, "w1", "i-1");
    assert_true(is_advised(&f, "w1"));
    assert_string_equal(state_of(&f, "w1"), "up");
    notice(&f, "i-1", GW_NOTICE_CANCEL, 0);
    assert_false(is_advised(&f, "w1"));
    assert_string_equal(state_of(&f, "w1"), "up");
    link_down(&f, 1);
    join(&f, "w1", "i-1");
    assert_false(is_advised(&f, "w1"));
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_notice_with_another_worker_up_cuts_over_at_once),
        cmocka_unit_test(test_notice_stops_new_work),
        cmocka_unit_test(test_notice_to_the_only_worker_leaves_it_new_work_until_the_margin),
        cmocka_unit_test(test_notice_without_another_worker_waits_for_one),
        cmocka_unit_test(test_notice_without_another_worker_cuts_over_at_the_margin),
        cmocka_unit_test(test_notice_names_an_instance_or_one_worker),
        cmocka_unit_test(test_notice_cancelled_before_cutover_moves_nothing),
        cmocka_unit_test(test_notice_cancelled_after_cutover_moves_what_was_cut_over),
        cmocka_unit_test(test_notice_again_after_a_cancel_cuts_over_only_what_stayed),
        cmocka_unit_test(test_notice_repeated_moves_the_deadline),
        cmocka_unit_test(test_notice_that_comes_too_late_resubmits_at_once),
        cmocka_unit_test(test_notice_that_was_wrong_ends_after_the_grace),
        cmocka_unit_test(test_notice_with_a_deadline_beyond_all_sense_is_bounded),
        cmocka_unit_test(test_handoff_that_never_comes_is_loss_but_not_counted),
        cmocka_unit_test(test_handoff_deadline_ends_with_the_notice),
        cmocka_unit_test(test_handoff_that_nobody_asked_for_resubmits),
        cmocka_unit_test(test_doomed_worker_that_dies_is_an_announced_loss),
        cmocka_unit_test(test_doomed_worker_that_goes_empty_has_left),
        cmocka_unit_test(test_doomed_losses_never_make_a_request_run_alone),
        cmocka_unit_test(test_doomed_process_that_reconnects_is_still_doomed),
        cmocka_unit_test(test_doomed_instance_dooms_who_joins_before_its_deadline),
        cmocka_unit_test(test_doomed_worker_kept_for_a_suspect_is_given_back),
        cmocka_unit_test(test_cutover_of_very_many_requests_is_cut_in_pieces),
        cmocka_unit_test(test_rebalance_dooms_nobody_and_new_work_prefers_others),
        cmocka_unit_test(test_rebalance_does_not_touch_a_notice),
        cmocka_unit_test(test_rebalance_then_notice_dooms),
        cmocka_unit_test(test_rebalance_is_remembered_by_instance_until_it_is_taken_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
