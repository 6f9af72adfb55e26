/* controller/core: from one layout to another while requests run, and everything that may come in the middle. */
#include "tests/unit/core_fixture.h"

static const uint64_t in_order[] = {1, 2, 3, 4, 5, 6, 7, 8};

/* Links 1 … 4 serve as one pipeline; requests 7 and 8 run on it, four tokens of 7 are there. */
static void open_four(struct fixture *f)
{
    fixture_open(f);
    fixture_start_grid(f);
    serve_wide(f, 4);
    submit(f, 7, 1, 20);
    submit(f, 8, 1, 20);
    tokens(f, 1, 7, 1, 0, 4);
}

/* Links 1 2 and 3 4 serve; request 7 (four tokens) runs on the first, 8 on the second. */
static void open_two_pipelines(struct fixture *f)
{
    fixture_open(f);
    fixture_start_grid(f);
    members(f, 4);
    plan_wide(f, in_order, (const uint32_t[]){2, 2, 0});
    ready_all(f, 1, 4);
    submit(f, 7, 1, 20);
    submit(f, 8, 1, 20);
    tokens(f, 1, 7, 1, 0, 4);
    assert_string_equal(picture(f), "serving 1 2; serving 3 4");
}

static bool cut_over(const struct fixture *f)
{
    return sent(f, 1, GW_MSG_CUTOVER, 0) != NULL;
}

static bool started(const struct fixture *f)
{
    return sent(f, 1, GW_MSG_START, 0) != NULL;
}

/* ---- a component ---- */

static void test_component_waits_for_all_then_moves_together(void **state)
{
    (void)state;
    struct fixture f;
    open_four(&f);
    plan_wide(&f, in_order, (const uint32_t[]){2, 2, 0});
    assert_int_equal(noted(&f, GW_NOTE_PIPELINE_FORMING, 1)->count, 2);
    ready_all(&f, 1, 3);
    assert_string_equal(picture(&f), "serving 1 2 3 4; ready 1 2; forming 3 4");
    submit(&f, 9, 1, 20); /* the old one serves as if nothing was */
    assert_non_null(sent(&f, 1, GW_MSG_SUBMIT, 0));
    ready(&f, 4);
    assert_int_equal(sent(&f, 1, GW_MSG_CUTOVER, 0)->cutover.count, 3);
    assert_int_equal(sent(&f, 1, GW_MSG_CUTOVER, 0)->generation, f.generation[1]);
    assert_int_equal(noted(&f, GW_NOTE_PIPELINE_DRAINING, 0)->count, 3);
    tokens(&f, 1, 7, 1, 4, 2);
    assert_int_equal(count(&f, GW_ACT_TOKENS), 1);
    handoff(&f, 1, 7, 1);
    handoff(&f, 1, 9, 1);
    submit(&f, 10, 1, 20);
    assert_int_equal(count(&f, GW_ACT_SEND), 0);
    handoff(&f, 1, 8, 1);
    for (uint64_t link = 1; link <= 4; link++) {
        assert_int_equal(sent(&f, link, GW_MSG_START, 0)->generation, f.prepared_generation[link]);
        assert_null(sent(&f, link, GW_MSG_RELEASE, 0)); /* START says it */
    }
    assert_true(noted(&f, GW_NOTE_PIPELINE_DEAD, 0)->announced);
    assert_int_equal(noted(&f, GW_NOTE_PIPELINE_DEAD, 0)->count, 0);
    assert_non_null(sent(&f, 1, GW_MSG_SUBMIT, 1)); /* two each */
    assert_non_null(sent(&f, 3, GW_MSG_SUBMIT, 1));
    assert_int_equal(sent(&f, 1, GW_MSG_SUBMIT, 0)->submit.request.id, 7);
    assert_int_equal(sent(&f, 1, GW_MSG_SUBMIT, 0)->submit.logs[0].len, 6);
    assert_int_equal(stats(&f).announced_moves, 3);
    assert_string_equal(picture(&f), "serving 1 2; serving 3 4");
    fixture_close(&f);
}

static void test_component_starts_without_what_is_not_handed_off_in_time(void **state)
{
    (void)state;
    struct fixture f;
    open_four(&f);
    plan_wide(&f, in_order, (const uint32_t[]){2, 2, 0});
    ready_all(&f, 1, 4);
    int64_t start_us = f.now_us;
    handoff(&f, 1, 8, 1);
    assert_true(run(&f, 60 * S, started));
    assert_in_range(f.now_us - start_us, 2 * S, 2 * S + 50 * MS);
    assert_int_equal(sent(&f, 1, GW_MSG_CANCEL, 0)->cancel.request, 7);
    assert_int_equal(stats(&f).announced_moves, 2);
    fixture_close(&f);
}

/* Two old ones and one new one that takes a worker of each; what is in none of the new ones is let go. */
static void test_component_goes_through_other_pipelines(void **state)
{
    (void)state;
    struct fixture f;
    open_two_pipelines(&f);
    plan_wide(&f, (const uint64_t[]){2, 3}, (const uint32_t[]){2, 0});
    ready(&f, 2);
    assert_false(cut_over(&f));
    ready(&f, 3);
    assert_true(cut_over(&f));
    assert_non_null(sent(&f, 3, GW_MSG_CUTOVER, 0));
    handoff(&f, 3, 8, 1);
    assert_null(sent(&f, 2, GW_MSG_START, 0)); /* the other is not empty yet */
    handoff(&f, 1, 7, 1);
    assert_non_null(sent(&f, 2, GW_MSG_START, 0));
    assert_non_null(sent(&f, 1, GW_MSG_RELEASE, 0));
    assert_non_null(sent(&f, 4, GW_MSG_RELEASE, 0));
    assert_null(sent(&f, 3, GW_MSG_RELEASE, 0));
    assert_non_null(sent(&f, 2, GW_MSG_SUBMIT, 1));
    assert_string_equal(picture(&f), "serving 2 3");
    fixture_close(&f);
}

static void test_component_leaves_other_pipelines_alone(void **state)
{
    (void)state;
    struct fixture f;
    open_two_pipelines(&f);
    plan_wide(&f, (const uint64_t[]){2, 1, 3, 4}, (const uint32_t[]){2, 2, 0});
    ready_all(&f, 1, 2);
    assert_true(cut_over(&f));
    assert_null(sent(&f, 3, GW_MSG_CUTOVER, 0));
    tokens(&f, 3, 8, 1, 0, 3);
    assert_int_equal(count(&f, GW_ACT_TOKENS), 1);
    handoff(&f, 1, 7, 1);
    assert_int_equal(sent(&f, 2, GW_MSG_SUBMIT, 0)->submit.request.id, 7);
    assert_string_equal(picture(&f), "serving 3 4; serving 2 1");
    assert_int_equal(stats(&f).announced_moves, 1);
    fixture_close(&f);
}

/* Handed off while the successor waits for the last one: not to the pipeline that is there already. */
static void test_component_keeps_its_requests_for_its_successors(void **state)
{
    (void)state;
    struct fixture f;
    open_two_pipelines(&f);
    submit(&f, 9, 1, 20);
    assert_non_null(sent(&f, 1, GW_MSG_SUBMIT, 0));
    plan_wide(&f, (const uint64_t[]){2, 1, 3, 4}, (const uint32_t[]){2, 2, 0});
    ready_all(&f, 1, 2);
    handoff(&f, 1, 9, 1);
    assert_int_equal(count(&f, GW_ACT_SEND), 0);
    assert_int_equal(stats(&f).queued, 1);
    submit(&f, 10, 1, 20); /* a new one need not wait */
    assert_non_null(sent(&f, 3, GW_MSG_SUBMIT, 0));
    handoff(&f, 1, 7, 1);
    assert_int_equal(sent(&f, 2, GW_MSG_SUBMIT, 0)->submit.request.id, 7);
    assert_int_equal(sent(&f, 2, GW_MSG_SUBMIT, 1)->submit.request.id, 9);
    fixture_close(&f);
}

static void test_new_pipeline_of_idle_workers_starts_at_once(void **state)
{
    (void)state;
    struct fixture f;
    open_four(&f);
    members(&f, 2);
    plan_wide(&f, in_order, (const uint32_t[]){4, 2, 0});
    ready_all(&f, 5, 6);
    assert_non_null(sent(&f, 5, GW_MSG_START, 0));
    assert_false(cut_over(&f));
    assert_string_equal(picture(&f), "serving 1 2 3 4; serving 5 6");
    fixture_close(&f);
}

static void test_idle_old_pipeline_is_replaced_in_one_step(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    fixture_start_grid(&f);
    serve_wide(&f, 2);
    plan_wide(&f, (const uint64_t[]){2, 1}, (const uint32_t[]){2, 0});
    ready_all(&f, 1, 2);
    assert_true(started(&f));
    assert_string_equal(picture(&f), "serving 2 1");
    fixture_close(&f);
}

/* ---- planned away ---- */

static void test_planned_away_drains_when_another_can_take_its_requests(void **state)
{
    (void)state;
    struct fixture f;
    open_two_pipelines(&f);
    plan_wide(&f, (const uint64_t[]){3, 4}, (const uint32_t[]){2, 0});
    assert_int_equal(sent(&f, 1, GW_MSG_CUTOVER, 0)->cutover.count, 1);
    handoff(&f, 1, 7, 1);
    assert_int_equal(sent(&f, 3, GW_MSG_SUBMIT, 0)->submit.request.id, 7);
    assert_non_null(sent(&f, 1, GW_MSG_RELEASE, 0));
    assert_non_null(sent(&f, 2, GW_MSG_RELEASE, 0));
    assert_string_equal(picture(&f), "serving 3 4");
    fixture_close(&f);
}

static void test_planned_away_serves_on_until_there_is_another(void **state)
{
    (void)state;
    struct fixture f;
    open_four(&f);
    members(&f, 2);
    plan_wide(&f, (const uint64_t[]){5, 6}, (const uint32_t[]){2, 0});
    assert_false(run(&f, 20 * S, cut_over));
    submit(&f, 9, 1, 10);
    assert_non_null(sent(&f, 1, GW_MSG_SUBMIT, 0));
    ready_all(&f, 5, 6);
    assert_non_null(sent(&f, 5, GW_MSG_START, 0));
    assert_int_equal(sent(&f, 1, GW_MSG_CUTOVER, 0)->cutover.count, 3);
    fixture_close(&f);
}

static void test_planned_again_before_its_successor_is_ready_stays(void **state)
{
    (void)state;
    struct fixture f;
    open_four(&f);
    plan_wide(&f, in_order, (const uint32_t[]){2, 2, 0});
    ready_all(&f, 1, 3);
    plan_wide(&f, in_order, (const uint32_t[]){4, 0});
    for (uint64_t link = 1; link <= 4; link++) assert_non_null(sent(&f, link, GW_MSG_RELEASE, 0));
    ready(&f, 4); /* under way */
    assert_false(run(&f, 20 * S, cut_over));
    assert_string_equal(picture(&f), "serving 1 2 3 4");
    fixture_close(&f);
}

static void test_planned_again_while_it_drains_serves_on(void **state)
{
    (void)state;
    struct fixture f;
    open_four(&f);
    plan_wide(&f, in_order, (const uint32_t[]){2, 2, 0});
    ready_all(&f, 1, 4);
    handoff(&f, 1, 7, 1);
    plan_wide(&f, in_order, (const uint32_t[]){4, 0});
    assert_string_equal(picture(&f), "serving 1 2 3 4");
    assert_int_equal(sent(&f, 1, GW_MSG_SUBMIT, 0)->submit.request.id, 7);
    assert_int_equal(sent(&f, 1, GW_MSG_SUBMIT, 0)->submit.attempt, 2);
    handoff(&f, 1, 8, 1); /* it was asked for */
    assert_int_equal(sent(&f, 1, GW_MSG_SUBMIT, 0)->submit.request.id, 8);
    assert_true(noted(&f, GW_NOTE_REQUEST_MOVED, 0)->announced);
    fixture_close(&f);
}

static void test_planned_otherwise_while_it_drains_waits_for_the_new_plan(void **state)
{
    (void)state;
    struct fixture f;
    open_four(&f);
    plan_wide(&f, in_order, (const uint32_t[]){2, 2, 0});
    ready_all(&f, 1, 4);
    plan_wide(&f, in_order, (const uint32_t[]){3, 0});
    assert_string_equal(picture(&f), "serving 1 2 3 4; forming 1 2 3");
    handoff(&f, 1, 7, 1);
    handoff(&f, 1, 8, 1);
    assert_non_null(sent(&f, 1, GW_MSG_SUBMIT, 0));
    ready_all(&f, 1, 3);
    assert_true(cut_over(&f));
    handoff(&f, 1, 7, 2);
    handoff(&f, 1, 8, 2);
    assert_non_null(sent(&f, 4, GW_MSG_RELEASE, 0));
    assert_string_equal(picture(&f), "serving 1 2 3");
    fixture_close(&f);
}

/* ---- notices ---- */

static void test_doomed_waits_for_its_successor(void **state)
{
    (void)state;
    struct fixture f;
    open_four(&f);
    notice(&f, "i-m4", GW_NOTICE_PREEMPT, 60 * S);
    assert_true(plan_wanted(&f));
    plan_wide(&f, in_order, (const uint32_t[]){3, 0});
    assert_false(run(&f, 20 * S, cut_over));
    submit(&f, 9, 1, 10); /* nobody else takes new work */
    assert_non_null(sent(&f, 1, GW_MSG_SUBMIT, 0));
    ready_all(&f, 1, 3);
    assert_int_equal(sent(&f, 1, GW_MSG_CUTOVER, 0)->cutover.count, 3);
    for (uint64_t id = 7; id <= 9; id++) handoff(&f, 1, id, 1);
    assert_true(started(&f));
    assert_non_null(sent(&f, 4, GW_MSG_RELEASE, 0));
    assert_string_equal(picture(&f), "serving 1 2 3");
    struct gw_msg m = {.type = GW_MSG_GOODBYE, .goodbye = {"reclaimed"}};
    say(&f, 4, &m);
    assert_non_null(noted(&f, GW_NOTE_WORKER_LEFT, 0));
    assert_string_equal(picture(&f), "serving 1 2 3");
    fixture_close(&f);
}

static void test_doomed_is_cut_over_at_the_margin_ready_or_not(void **state)
{
    (void)state;
    struct fixture f;
    open_four(&f);
    int64_t start_us = f.now_us;
    notice(&f, "i-m4", GW_NOTICE_PREEMPT, 10 * S);
    plan_wide(&f, in_order, (const uint32_t[]){3, 0});
    ready(&f, 1);
    assert_true(run(&f, 60 * S, cut_over));
    assert_in_range(f.now_us - start_us, 9 * S, 9 * S + 50 * MS);
    handoff(&f, 1, 7, 1);
    submit(&f, 9, 1, 10);
    assert_int_equal(count(&f, GW_ACT_SEND), 0);
    handoff(&f, 1, 8, 1);
    for (uint64_t link = 1; link <= 4; link++) assert_non_null(sent(&f, link, GW_MSG_RELEASE, 0));
    assert_string_equal(picture(&f), "forming 1 2 3");
    assert_int_equal(stats(&f).queued, 3);
    ready_all(&f, 2, 3);
    assert_non_null(sent(&f, 1, GW_MSG_SUBMIT, 2));
    assert_int_equal(sent(&f, 1, GW_MSG_SUBMIT, 0)->submit.logs[0].len, 4);
    fixture_close(&f);
}

/* With another pipeline there it would move at once: but the plan may give it a successor. */
static void test_doomed_waits_for_the_plan_and_then_goes_where_there_is_room(void **state)
{
    (void)state;
    struct fixture f;
    open_two_pipelines(&f);
    notice(&f, "i-m1", GW_NOTICE_PREEMPT, 60 * S);
    assert_false(run(&f, 5 * S, cut_over));
    submit(&f, 9, 1, 10); /* the other takes new work */
    assert_non_null(sent(&f, 3, GW_MSG_SUBMIT, 0));
    plan_wide(&f, (const uint64_t[]){3, 4}, (const uint32_t[]){2, 0});
    assert_true(cut_over(&f));
    handoff(&f, 1, 7, 1);
    assert_int_equal(sent(&f, 3, GW_MSG_SUBMIT, 0)->submit.request.id, 7);
    assert_string_equal(picture(&f), "serving 3 4");
    fixture_close(&f);
}

static void test_doomed_without_any_plan_is_cut_over_at_the_margin(void **state)
{
    (void)state;
    struct fixture f;
    open_two_pipelines(&f);
    int64_t start_us = f.now_us;
    notice(&f, "i-m2", GW_NOTICE_PREEMPT, 10 * S);
    assert_true(run(&f, 60 * S, cut_over));
    assert_in_range(f.now_us - start_us, 9 * S, 9 * S + 50 * MS);
    fixture_close(&f);
}

static void test_doomed_by_two_workers_goes_by_the_earlier(void **state)
{
    (void)state;
    struct fixture f;
    open_four(&f);
    int64_t start_us = f.now_us;
    notice(&f, "i-m4", GW_NOTICE_PREEMPT, 40 * S);
    notice(&f, "i-m2", GW_NOTICE_PREEMPT, 10 * S);
    assert_true(run(&f, 60 * S, cut_over));
    assert_in_range(f.now_us - start_us, 9 * S, 9 * S + 50 * MS);
    fixture_close(&f);
}

static void test_second_notice_while_forming_plans_again_and_serves_on(void **state)
{
    (void)state;
    struct fixture f;
    open_four(&f);
    notice(&f, "i-m4", GW_NOTICE_PREEMPT, 60 * S);
    plan_wide(&f, in_order, (const uint32_t[]){3, 0});
    ready_all(&f, 1, 2);
    notice(&f, "i-m3", GW_NOTICE_PREEMPT, 60 * S);
    assert_true(plan_wanted(&f));
    for (uint64_t link = 1; link <= 3; link++) assert_non_null(sent(&f, link, GW_MSG_RELEASE, 0));
    assert_string_equal(picture(&f), "serving 1 2 3 4");
    plan_wide(&f, in_order, (const uint32_t[]){2, 0});
    ready_all(&f, 1, 2);
    assert_true(cut_over(&f));
    fixture_close(&f);
}

/* All new ones were READY and the old one was being emptied. */
static void test_second_notice_while_draining_serves_on(void **state)
{
    (void)state;
    struct fixture f;
    open_four(&f);
    notice(&f, "i-m4", GW_NOTICE_PREEMPT, 60 * S);
    plan_wide(&f, in_order, (const uint32_t[]){3, 0});
    ready_all(&f, 1, 3);
    handoff(&f, 1, 7, 1);
    assert_int_equal(count(&f, GW_ACT_SEND), 0);
    notice(&f, "i-m3", GW_NOTICE_PREEMPT, 60 * S);
    assert_string_equal(picture(&f), "serving 1 2 3 4");
    assert_int_equal(sent(&f, 1, GW_MSG_SUBMIT, 0)->submit.request.id, 7);
    fixture_close(&f);
}

static void test_cancelled_notice_lets_the_old_one_stay(void **state)
{
    (void)state;
    struct fixture f;
    open_four(&f);
    notice(&f, "i-m4", GW_NOTICE_PREEMPT, 10 * S);
    plan_wide(&f, in_order, (const uint32_t[]){3, 0});
    ready_all(&f, 1, 2);
    notice(&f, "i-m4", GW_NOTICE_CANCEL, 0);
    assert_true(plan_wanted(&f));
    plan_wide(&f, in_order, (const uint32_t[]){4, 0});
    assert_int_equal(count(&f, GW_ACT_SEND), 3); /* RELEASE */
    assert_false(run(&f, 60 * S, cut_over));
    assert_string_equal(picture(&f), "serving 1 2 3 4");
    fixture_close(&f);
}

static void test_notice_that_was_wrong_makes_it_a_joiner_again(void **state)
{
    (void)state;
    struct fixture f;
    open_four(&f);
    notice(&f, "i-m4", GW_NOTICE_PREEMPT, 5 * S);
    plan_wide(&f, in_order, (const uint32_t[]){3, 0});
    ready_all(&f, 1, 3);
    handoff(&f, 1, 7, 1);
    handoff(&f, 1, 8, 1);
    assert_true(run(&f, 60 * S, plan_wanted));
    assert_string_equal(state_of(&f, "m4"), "up");
    assert_string_equal(picture(&f), "serving 1 2 3");
    fixture_close(&f);
}

/* ---- losses in the middle ---- */

static void test_new_pipeline_that_breaks_while_the_old_one_drains_lets_it_serve_on(void **state)
{
    (void)state;
    struct fixture f;
    open_four(&f);
    plan_wide(&f, in_order, (const uint32_t[]){2, 2, 0});
    ready_all(&f, 1, 4);
    handoff(&f, 1, 7, 1);
    broken_as(&f, 4, f.prepared[4], f.prepared_generation[4]);
    assert_non_null(sent(&f, 3, GW_MSG_RELEASE, 0));
    /* {1 2} alone would replace all four: its component is READY and goes on. */
    assert_string_equal(picture(&f), "draining 1 2 3 4; ready 1 2");
    broken_as(&f, 1, f.prepared[1], f.prepared_generation[1]);
    assert_string_equal(picture(&f), "serving 1 2 3 4");
    assert_int_equal(sent(&f, 1, GW_MSG_SUBMIT, 0)->submit.request.id, 7);
    assert_true(run(&f, 60 * S, plan_wanted));
    fixture_close(&f);
}

static void test_leader_that_dies_while_it_drains_lets_the_new_ones_start(void **state)
{
    (void)state;
    struct fixture f;
    open_four(&f);
    notice(&f, "i-m1", GW_NOTICE_PREEMPT, 60 * S);
    plan_wide(&f, (const uint64_t[]){2, 3, 4}, (const uint32_t[]){3, 0});
    ready_all(&f, 2, 4);
    assert_true(cut_over(&f));
    handoff(&f, 1, 8, 1);
    link_down(&f, 1);
    assert_non_null(sent(&f, 2, GW_MSG_START, 0));
    assert_non_null(sent(&f, 2, GW_MSG_SUBMIT, 1));
    assert_string_equal(picture(&f), "serving 2 3 4");
    assert_int_equal(stats(&f).losses, 0);
    fixture_close(&f);
}

static void test_rank_that_dies_while_a_component_waits_ends_both(void **state)
{
    (void)state;
    struct fixture f;
    open_four(&f);
    plan_wide(&f, in_order, (const uint32_t[]){2, 2, 0});
    ready_all(&f, 1, 3);
    link_down(&f, 4);
    /* The old one and {3 4} are dead; {1 2} has nothing to wait for. */
    assert_string_equal(picture(&f), "serving 1 2");
    assert_non_null(sent(&f, 1, GW_MSG_SUBMIT, 1));
    assert_non_null(sent(&f, 3, GW_MSG_RELEASE, 1)); /* from both */
    assert_true(plan_wanted(&f));
    fixture_close(&f);
}

static void test_workers_that_come_back_in_the_middle_disturb_nothing(void **state)
{
    (void)state;
    struct fixture f;
    open_four(&f);
    notice(&f, "i-m4", GW_NOTICE_PREEMPT, 60 * S);
    plan_wide(&f, in_order, (const uint32_t[]){3, 0});
    ready_all(&f, 1, 2);
    member(&f);
    assert_true(plan_wanted(&f));
    plan_wide(&f, (const uint64_t[]){1, 2, 3, 5}, (const uint32_t[]){3, 1, 0});
    assert_string_equal(picture(&f), "serving 1 2 3 4; forming 1 2 3; forming 5");
    assert_null(sent(&f, 1, GW_MSG_ASSIGN, 0));
    ready(&f, 5);
    assert_non_null(sent(&f, 5, GW_MSG_START, 0));
    assert_false(cut_over(&f)); /* its own successor is under way */
    ready(&f, 3);
    assert_true(cut_over(&f));
    fixture_close(&f);
}

static void test_everything_at_once_then_new_ones(void **state)
{
    (void)state;
    struct fixture f;
    open_two_pipelines(&f);
    for (uint64_t link = 1; link <= 4; link++) link_down(&f, link);
    assert_string_equal(picture(&f), "");
    assert_int_equal(stats(&f).queued, 2);
    plan(&f, NULL, 0);
    members(&f, 2);
    plan_wide(&f, (const uint64_t[]){5, 6}, (const uint32_t[]){2, 0});
    ready_all(&f, 5, 6);
    assert_non_null(sent(&f, 5, GW_MSG_SUBMIT, 1));
    assert_int_equal(stats(&f).failed, 0);
    fixture_close(&f);
}

/* A poison suspect that waits for a pipeline to itself does not hold up its end. */
static void test_pipeline_kept_for_a_suspect_is_given_back_when_it_drains(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    fixture_start_grid(&f);
    members(&f, 4);
    plan_wide(&f, in_order, (const uint32_t[]){2, 2, 0});
    ready_all(&f, 1, 4);
    submit(&f, 7, 1, 20); /* → 1 2 */
    submit(&f, 8, 1, 20); /* → 3 4 */
    begin(&f, 1, 7, 1);
    broken_as(&f, 1, f.pipeline[1], f.generation[1]); /* 7 → 3 4 */
    plan_wide(&f, in_order, (const uint32_t[]){2, 2, 0});
    ready_all(&f, 1, 2);
    submit(&f, 9, 1, 20); /* → 1 2 */
    begin(&f, 3, 7, 2);
    broken_as(&f, 3, f.pipeline[3], f.generation[3]);
    assert_non_null(noted(&f, GW_NOTE_REQUEST_ALONE, 0));
    assert_int_equal(stats(&f).queued, 2); /* 7 waits until 9 is done, 8 until 7 is */
    plan_wide(&f, (const uint64_t[]){2, 1}, (const uint32_t[]){2, 0});
    ready_all(&f, 1, 2);
    handoff(&f, 1, 9, 1);
    assert_non_null(sent(&f, 2, GW_MSG_START, 0));
    assert_int_equal(sent(&f, 2, GW_MSG_SUBMIT, 0)->submit.request.id, 7);
    assert_int_equal(stats(&f).running, 1);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_component_waits_for_all_then_moves_together),
        cmocka_unit_test(test_component_starts_without_what_is_not_handed_off_in_time),
        cmocka_unit_test(test_component_goes_through_other_pipelines),
        cmocka_unit_test(test_component_leaves_other_pipelines_alone),
        cmocka_unit_test(test_component_keeps_its_requests_for_its_successors),
        cmocka_unit_test(test_new_pipeline_of_idle_workers_starts_at_once),
        cmocka_unit_test(test_idle_old_pipeline_is_replaced_in_one_step),
        cmocka_unit_test(test_planned_away_drains_when_another_can_take_its_requests),
        cmocka_unit_test(test_planned_away_serves_on_until_there_is_another),
        cmocka_unit_test(test_planned_again_before_its_successor_is_ready_stays),
        cmocka_unit_test(test_planned_again_while_it_drains_serves_on),
        cmocka_unit_test(test_planned_otherwise_while_it_drains_waits_for_the_new_plan),
        cmocka_unit_test(test_doomed_waits_for_its_successor),
        cmocka_unit_test(test_doomed_is_cut_over_at_the_margin_ready_or_not),
        cmocka_unit_test(test_doomed_waits_for_the_plan_and_then_goes_where_there_is_room),
        cmocka_unit_test(test_doomed_without_any_plan_is_cut_over_at_the_margin),
        cmocka_unit_test(test_doomed_by_two_workers_goes_by_the_earlier),
        cmocka_unit_test(test_second_notice_while_forming_plans_again_and_serves_on),
        cmocka_unit_test(test_second_notice_while_draining_serves_on),
        cmocka_unit_test(test_cancelled_notice_lets_the_old_one_stay),
        cmocka_unit_test(test_notice_that_was_wrong_makes_it_a_joiner_again),
        cmocka_unit_test(test_new_pipeline_that_breaks_while_the_old_one_drains_lets_it_serve_on),
        cmocka_unit_test(test_leader_that_dies_while_it_drains_lets_the_new_ones_start),
        cmocka_unit_test(test_rank_that_dies_while_a_component_waits_ends_both),
        cmocka_unit_test(test_workers_that_come_back_in_the_middle_disturb_nothing),
        cmocka_unit_test(test_everything_at_once_then_new_ones),
        cmocka_unit_test(test_pipeline_kept_for_a_suspect_is_given_back_when_it_drains),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
