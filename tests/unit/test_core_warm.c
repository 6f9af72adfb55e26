/* controller/core: KV is copied ahead of a move, and everything that may come in the middle. */
#include "tests/unit/core_fixture.h"

static const uint64_t in_order[] = {1, 2, 3, 4, 5, 6, 7, 8};

/* Links 1 … 4 of protocol 3 serve as one pipeline; requests 7 (four tokens) and 8 (two) run on it. */
static void open_four(struct fixture *f)
{
    fixture_open(f);
    fixture_start_grid(f);
    keepers(f, 4);
    plan_wide(f, in_order, (const uint32_t[]){4, 0});
    ready_all(f, 1, 4);
    submit(f, 7, 1, 200);
    submit(f, 8, 1, 200);
    tokens(f, 1, 7, 1, 0, 4);
    tokens(f, 1, 8, 1, 0, 2);
}

/* Two pipelines of two are READY to follow it: WARM has gone out in this step. */
static void open_warming(struct fixture *f)
{
    open_four(f);
    plan_wide(f, in_order, (const uint32_t[]){2, 2, 0});
    ready_all(f, 1, 4);
}

/* Links 1 2 and 3 4 serve; request 7 (four tokens) runs on the first. */
static void open_two_pipelines(struct fixture *f)
{
    fixture_open(f);
    fixture_start_grid(f);
    keepers(f, 4);
    plan_wide(f, in_order, (const uint32_t[]){2, 2, 0});
    ready_all(f, 1, 4);
    submit(f, 7, 1, 200);
    tokens(f, 1, 7, 1, 0, 4);
}

static bool cut_over(const struct fixture *f)
{
    return sent(f, 1, GW_MSG_CUTOVER, 0) != NULL;
}

static size_t warms(const struct fixture *f)
{
    size_t n = 0;
    for (uint64_t link = 1; link <= f->links; link++)
        for (size_t i = 0; sent(f, link, GW_MSG_WARM, i); i++) n++;
    return n;
}

/* ---- a component ---- */

static void test_ready_component_is_warmed_before_it_is_cut(void **state)
{
    (void)state;
    struct fixture f;
    open_warming(&f);
    assert_false(cut_over(&f));
    const struct gw_msg *m = sent(&f, 1, GW_MSG_WARM, 0);
    assert_int_equal(m->generation, f.prepared_generation[1]);
    assert_int_equal(m->pipeline, f.prepared[1]);
    assert_int_equal(m->warm.request.id, 7); /* most KV first, to the oldest of equals */
    assert_int_equal(m->warm.attempt, 1);
    assert_int_equal(m->warm.logs[0].len, 4);
    assert_string_equal(holders(m), "1 2 3 4");
    assert_int_equal(sent(&f, 3, GW_MSG_WARM, 0)->warm.request.id, 8); /* balanced */
    assert_int_equal(warms(&f), 2);
    assert_int_equal(noted(&f, GW_NOTE_PIPELINE_WARMING, 0)->count, 2);
    tokens(&f, 1, 7, 1, 4, 2); /* it serves on */
    assert_int_equal(count(&f, GW_ACT_TOKENS), 1);
    submit(&f, 9, 1, 20);
    assert_non_null(sent(&f, 1, GW_MSG_SUBMIT, 0));
    warmed(&f, 1, 7, 1);
    assert_false(cut_over(&f));
    warmed(&f, 3, 8, 1);
    assert_int_equal(sent(&f, 1, GW_MSG_CUTOVER, 0)->cutover.count, 3);
    assert_int_equal(stats(&f).warms, 2);
    assert_int_equal(stats(&f).warmed, 2);
    fixture_close(&f);
}

static void test_requests_go_where_they_were_copied(void **state)
{
    (void)state;
    struct fixture f;
    open_warming(&f);
    warmed(&f, 1, 7, 1);
    warmed(&f, 3, 8, 1);
    handoff(&f, 1, 8, 1); /* first in the queue: it would go to 1 2 */
    handoff(&f, 1, 7, 1);
    const struct gw_msg *m = sent(&f, 3, GW_MSG_SUBMIT, 0);
    assert_int_equal(m->submit.request.id, 8);
    assert_int_equal(m->submit.attempt, 2);
    assert_string_equal(holders(m), "1 2 3 4");
    assert_int_equal(sent(&f, 1, GW_MSG_SUBMIT, 0)->submit.request.id, 7);
    assert_null(sent(&f, 1, GW_MSG_CANCEL, 0));
    assert_null(sent(&f, 3, GW_MSG_CANCEL, 0));
    fixture_close(&f);
}

static void test_copy_that_takes_too_long_is_not_waited_for(void **state)
{
    (void)state;
    struct fixture f;
    open_warming(&f);
    int64_t start_us = f.now_us;
    warmed(&f, 1, 7, 1);
    assert_true(run(&f, 60 * S, cut_over));
    assert_in_range(f.now_us - start_us, 10 * S, 10 * S + 50 * MS);
    handoff(&f, 1, 7, 1);
    handoff(&f, 1, 8, 1);
    assert_int_equal(sent(&f, 3, GW_MSG_SUBMIT, 0)->submit.request.id, 8); /* it may have some of it */
    warmed(&f, 3, 8, 1);
    assert_int_equal(stats(&f).stale_frames, 1); /* the SUBMIT took its place */
    fixture_close(&f);
}

static void test_timeout_of_zero_copies_nothing(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    f.config.warm_timeout_us = 0;
    fixture_start_grid(&f);
    keepers(&f, 2);
    plan_wide(&f, in_order, (const uint32_t[]){2, 0});
    ready_all(&f, 1, 2);
    submit(&f, 7, 1, 200);
    begin(&f, 1, 7, 1);
    plan_wide(&f, (const uint64_t[]){2, 1}, (const uint32_t[]){2, 0});
    ready_all(&f, 1, 2);
    assert_int_equal(warms(&f), 0);
    assert_true(cut_over(&f));
    fixture_close(&f);
}

static void test_what_never_began_or_does_not_fit_is_not_copied(void **state)
{
    (void)state;
    struct fixture f;
    open_four(&f);
    submit_request(&f, make_request(9, 1, 1100, 10)); /* 1,000 tokens of KV is what READY says */
    begin(&f, 1, 9, 1);
    submit_request(&f, make_request(10, 1, 600, 10));
    begin(&f, 1, 10, 1);
    submit_request(&f, make_request(11, 1, 600, 10));
    begin(&f, 1, 11, 1);
    submit_request(&f, make_request(12, 1, 600, 10)); /* fits nowhere beside those two */
    begin(&f, 1, 12, 1);
    submit(&f, 13, 1, 20);
    plan_wide(&f, in_order, (const uint32_t[]){2, 2, 0});
    ready_all(&f, 1, 4);
    assert_int_equal(sent(&f, 1, GW_MSG_WARM, 0)->warm.request.id, 10);
    assert_int_equal(sent(&f, 3, GW_MSG_WARM, 0)->warm.request.id, 11);
    assert_int_equal(sent(&f, 1, GW_MSG_WARM, 1)->warm.request.id, 7);
    assert_int_equal(sent(&f, 3, GW_MSG_WARM, 1)->warm.request.id, 8);
    assert_int_equal(warms(&f), 4);
    fixture_close(&f);
}

static void test_successors_of_protocol_2_are_not_warmed(void **state)
{
    (void)state;
    struct fixture f;
    open_four(&f);
    members(&f, 1);
    plan_wide(&f, (const uint64_t[]){5, 1}, (const uint32_t[]){2, 0});
    ready(&f, 1);
    ready(&f, 5);
    assert_int_equal(warms(&f), 0);
    assert_true(cut_over(&f));
    fixture_close(&f);
}

static void test_sources_of_protocol_2_have_nothing_to_copy(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    fixture_start_grid(&f);
    serve_wide(&f, 2);
    keepers(&f, 1);
    submit(&f, 7, 1, 200);
    begin(&f, 1, 7, 1);
    plan_wide(&f, (const uint64_t[]){3, 1}, (const uint32_t[]){2, 0});
    ready(&f, 1);
    ready(&f, 3);
    assert_int_equal(warms(&f), 0);
    assert_true(cut_over(&f));
    fixture_close(&f);
}

static void test_origin_of_what_was_copied_ahead_is_moved(void **state)
{
    (void)state;
    struct fixture f;
    open_warming(&f);
    warmed(&f, 1, 7, 1); /* 16 tokens */
    warmed(&f, 3, 8, 1);
    handoff(&f, 1, 7, 1);
    handoff(&f, 1, 8, 1);
    origin(&f, 1, 7, 2, 100, 80, 0, 0);
    const struct gw_kv_origin *o = &noted(&f, GW_NOTE_REQUEST_ORIGIN, 0)->origin;
    assert_true(o->total == 100 && o->cached == 64 && o->moved == 16);
    origin(&f, 3, 8, 2, 100, 10, 40, 20); /* more than the copy was fetched later */
    o = &noted(&f, GW_NOTE_REQUEST_ORIGIN, 0)->origin;
    assert_true(o->cached == 10 && o->moved == 40 && o->stored == 20);
    fixture_close(&f);
}

/* ---- rounds ---- */

static void test_slow_copy_of_what_went_on_is_made_again_at_most_three_times(void **state)
{
    (void)state;
    struct fixture f;
    open_warming(&f);
    warmed(&f, 3, 8, 1);
    for (uint32_t round = 1; round <= 3; round++) {
        assert_false(cut_over(&f));
        run(&f, 1100 * MS, NULL);
        tokens(&f, 1, 7, 1, 4 + 64 * (round - 1), 64);
        warmed(&f, 1, 7, 1);
        if (round == 3) break;
        const struct gw_msg *m = sent(&f, 1, GW_MSG_WARM, 0); /* to the same target */
        assert_int_equal(m->warm.logs[0].len, 4 + 64 * round);
        assert_int_equal(warms(&f), 1);
    }
    assert_int_equal(warms(&f), 0);
    assert_true(cut_over(&f));
    fixture_close(&f);
}

static void test_quick_copy_or_few_tokens_are_not_copied_again(void **state)
{
    (void)state;
    struct fixture f;
    open_warming(&f);
    tokens(&f, 1, 7, 1, 4, 64);
    warmed(&f, 1, 7, 1); /* at once */
    run(&f, 1100 * MS, NULL);
    tokens(&f, 1, 8, 1, 2, 63);
    warmed(&f, 3, 8, 1);
    assert_int_equal(warms(&f), 0);
    assert_true(cut_over(&f));
    fixture_close(&f);
}

static void test_request_that_begins_meanwhile_is_copied_in_the_next_round(void **state)
{
    (void)state;
    struct fixture f;
    open_warming(&f);
    submit(&f, 9, 1, 20);
    begin(&f, 1, 9, 1);
    warmed(&f, 1, 7, 1);
    warmed(&f, 3, 8, 1);
    assert_false(cut_over(&f));
    assert_int_equal(warms(&f), 1);
    assert_int_equal(sent(&f, 3, GW_MSG_WARM, 0)->warm.request.id, 9);
    warmed(&f, 3, 9, 1);
    assert_true(cut_over(&f));
    fixture_close(&f);
}

/* ---- what is lost in the middle ---- */

static void test_warmed_by_others_or_of_others_is_stale(void **state)
{
    (void)state;
    struct fixture f;
    open_warming(&f);
    warmed(&f, 1, 8, 1); /* is copied elsewhere */
    warmed(&f, 2, 7, 1); /* does not lead */
    warmed(&f, 1, 7, 2); /* no such attempt */
    warmed(&f, 1, 99, 1);
    assert_int_equal(stats(&f).stale_frames, 4);
    warmed(&f, 1, 7, 1);
    warmed(&f, 1, 7, 1);
    assert_int_equal(stats(&f).stale_frames, 5);
    assert_int_equal(stats(&f).warmed, 1);
    fixture_close(&f);
}

static void test_target_that_breaks_while_warming_lets_the_old_one_serve_on(void **state)
{
    (void)state;
    struct fixture f;
    open_warming(&f);
    broken_as(&f, 1, f.prepared[1], f.prepared_generation[1]);
    broken_as(&f, 3, f.prepared[3], f.prepared_generation[3]);
    assert_string_equal(picture(&f), "serving 1 2 3 4");
    assert_false(cut_over(&f));
    plan_wide(&f, (const uint64_t[]){2, 1, 4, 3}, (const uint32_t[]){2, 2, 0});
    ready_all(&f, 1, 4);
    assert_int_equal(sent(&f, 2, GW_MSG_WARM, 0)->warm.request.id, 7);
    assert_int_equal(sent(&f, 4, GW_MSG_WARM, 0)->warm.request.id, 8);
    assert_null(sent(&f, 1, GW_MSG_CANCEL, 0)); /* RELEASE has said it */
    warmed(&f, 2, 7, 1);
    warmed(&f, 4, 8, 1);
    assert_true(cut_over(&f));
    fixture_close(&f);
}

/* {1 2} alone is to replace all four: what was being copied to {3 4} is copied there. */
static void test_one_of_two_targets_breaks_and_its_copies_are_made_at_the_other(void **state)
{
    (void)state;
    struct fixture f;
    open_warming(&f);
    warmed(&f, 1, 7, 1);
    broken_as(&f, 3, f.prepared[3], f.prepared_generation[3]);
    assert_string_equal(picture(&f), "serving 1 2 3 4; ready 1 2");
    assert_int_equal(sent(&f, 1, GW_MSG_WARM, 0)->warm.request.id, 8);
    assert_int_equal(warms(&f), 1);
    warmed(&f, 1, 8, 1);
    assert_true(cut_over(&f));
    fixture_close(&f);
}

static void test_source_that_dies_while_warming_goes_to_its_target_at_once(void **state)
{
    (void)state;
    struct fixture f;
    open_two_pipelines(&f);
    submit(&f, 8, 1, 200); /* → 3 4 */
    keepers(&f, 2);
    plan_wide(&f, (const uint64_t[]){2, 5, 3, 4}, (const uint32_t[]){2, 2, 0});
    ready(&f, 2);
    ready(&f, 5);
    assert_int_equal(sent(&f, 2, GW_MSG_WARM, 0)->warm.request.id, 7);
    link_down(&f, 1);
    assert_non_null(sent(&f, 2, GW_MSG_START, 0));
    const struct gw_msg *m = sent(&f, 2, GW_MSG_SUBMIT, 0);
    assert_int_equal(m->submit.request.id, 7);
    assert_string_equal(holders(m), "2"); /* it has other cells there than now */
    assert_null(sent(&f, 2, GW_MSG_CANCEL, 0));
    fixture_close(&f);
}

static void test_request_that_ends_while_warming_is_taken_back(void **state)
{
    (void)state;
    struct fixture f;
    open_warming(&f);
    stop(&f, 7, 0, 4);
    assert_int_equal(sent(&f, 1, GW_MSG_CANCEL, 0)->cancel.request, 7);
    assert_int_equal(sent(&f, 1, GW_MSG_CANCEL, 0)->generation, f.generation[1]);
    assert_int_equal(sent(&f, 1, GW_MSG_CANCEL, 1)->cancel.request, 7);
    assert_int_equal(sent(&f, 1, GW_MSG_CANCEL, 1)->generation, f.prepared_generation[1]);
    assert_int_equal(sent(&f, 1, GW_MSG_CANCEL, 1)->cancel.attempt, 1);
    assert_false(cut_over(&f));
    cancel(&f, 8);
    assert_int_equal(sent(&f, 3, GW_MSG_CANCEL, 0)->generation, f.prepared_generation[3]);
    assert_non_null(sent(&f, 1, GW_MSG_START, 0)); /* nothing is left to wait for */
    fixture_close(&f);
}

static void test_request_that_leaves_while_warming_is_taken_back_where_it_does_not_go(void **state)
{
    (void)state;
    struct fixture f;
    open_warming(&f);
    tokens(&f, 1, 8, 1, 5, 1); /* a gap: submitted anew, to the only pipeline that serves */
    assert_int_equal(sent(&f, 1, GW_MSG_SUBMIT, 0)->submit.request.id, 8);
    assert_int_equal(sent(&f, 3, GW_MSG_CANCEL, 0)->cancel.attempt, 1);
    warmed(&f, 3, 8, 1);
    assert_int_equal(stats(&f).stale_frames, 1);
    warmed(&f, 1, 7, 1);
    assert_true(cut_over(&f)); /* its new attempt has not begun */
    fixture_close(&f);
}

/* ---- notices ---- */

static void test_margin_ends_the_copying(void **state)
{
    (void)state;
    struct fixture f;
    open_four(&f);
    int64_t start_us = f.now_us;
    notice(&f, "i-m1", GW_NOTICE_PREEMPT, 5 * S);
    plan_wide(&f, (const uint64_t[]){2, 3, 4}, (const uint32_t[]){3, 0});
    ready_all(&f, 2, 4);
    assert_int_equal(warms(&f), 2);
    assert_true(run(&f, 60 * S, cut_over));
    assert_in_range(f.now_us - start_us, 4 * S, 4 * S + 50 * MS);
    fixture_close(&f);
}

static void test_notice_while_warming_brings_the_margin_nearer(void **state)
{
    (void)state;
    struct fixture f;
    open_two_pipelines(&f);
    plan_wide(&f, (const uint64_t[]){2, 3}, (const uint32_t[]){2, 0}); /* one component of all */
    ready_all(&f, 2, 3);
    assert_int_equal(warms(&f), 1);
    int64_t start_us = f.now_us;
    notice(&f, "i-m4", GW_NOTICE_PREEMPT, 3 * S); /* a rank of the other old one; no new one has it */
    assert_false(cut_over(&f));
    assert_true(run(&f, 60 * S, cut_over)); /* both: the new one starts when both are empty */
    assert_in_range(f.now_us - start_us, 2 * S, 2 * S + 50 * MS);
    fixture_close(&f);
}

static void test_notice_to_a_target_while_warming_ends_it(void **state)
{
    (void)state;
    struct fixture f;
    open_four(&f);
    plan_wide(&f, (const uint64_t[]){2, 1}, (const uint32_t[]){2, 0});
    ready_all(&f, 1, 2);
    assert_int_equal(warms(&f), 2);
    notice(&f, "i-m2", GW_NOTICE_PREEMPT, 60 * S);
    assert_string_equal(picture(&f), "serving 1 2 3 4");
    assert_false(cut_over(&f));
    assert_true(plan_wanted(&f));
    run(&f, 12 * S, NULL); /* nobody waits for the old copy */
    assert_string_equal(picture(&f), "serving 1 2 3 4");
    fixture_close(&f);
}

static void test_cancelled_notice_ends_the_copying(void **state)
{
    (void)state;
    struct fixture f;
    open_four(&f);
    notice(&f, "i-m1", GW_NOTICE_PREEMPT, 60 * S);
    plan_wide(&f, (const uint64_t[]){2, 3, 4}, (const uint32_t[]){3, 0});
    ready_all(&f, 2, 4);
    notice(&f, "i-m1", GW_NOTICE_CANCEL, 0);
    plan_wide(&f, in_order, (const uint32_t[]){4, 0});
    assert_string_equal(picture(&f), "serving 1 2 3 4");
    run(&f, 12 * S, NULL);
    assert_string_equal(picture(&f), "serving 1 2 3 4");
    fixture_close(&f);
}

/* No heirs: what runs on the doomed one is copied to the one that stays. */
static void test_doomed_without_heirs_is_copied_to_the_one_that_stays(void **state)
{
    (void)state;
    struct fixture f;
    open_two_pipelines(&f);
    notice(&f, "i-m2", GW_NOTICE_PREEMPT, 60 * S);
    assert_int_equal(warms(&f), 0); /* a plan may bring heirs */
    plan_wide(&f, (const uint64_t[]){3, 4}, (const uint32_t[]){2, 0});
    const struct gw_msg *m = sent(&f, 3, GW_MSG_WARM, 0);
    assert_int_equal(m->generation, f.generation[3]);
    assert_string_equal(holders(m), "1 2");
    assert_false(cut_over(&f));
    submit(&f, 8, 1, 20);
    assert_non_null(sent(&f, 3, GW_MSG_SUBMIT, 0)); /* new work goes to the one that stays */
    warmed(&f, 3, 7, 1);
    assert_true(cut_over(&f));
    handoff(&f, 1, 7, 1);
    assert_int_equal(sent(&f, 3, GW_MSG_SUBMIT, 0)->submit.request.id, 7);
    fixture_close(&f);
}

/* Heirs come after all: what was being copied to the one that stays is copied to them, and that is not waited for. */
static void test_copy_where_it_will_not_go_is_taken_back(void **state)
{
    (void)state;
    struct fixture f;
    open_two_pipelines(&f);
    notice(&f, "i-m2", GW_NOTICE_PREEMPT, 60 * S);
    plan_wide(&f, (const uint64_t[]){3, 4}, (const uint32_t[]){2, 0});
    assert_non_null(sent(&f, 3, GW_MSG_WARM, 0));
    uint64_t five = keeper(&f);
    plan_wide(&f, (const uint64_t[]){3, 4, five, 1}, (const uint32_t[]){2, 2, 0});
    ready(&f, 1);
    ready(&f, five);
    assert_int_equal(sent(&f, 3, GW_MSG_CANCEL, 0)->cancel.request, 7);
    assert_int_equal(sent(&f, five, GW_MSG_WARM, 0)->warm.request.id, 7);
    warmed(&f, five, 7, 1);
    assert_true(cut_over(&f));
    fixture_close(&f);
}

static void test_staying_target_that_dies_while_warming_leaves_the_doomed_serving(void **state)
{
    (void)state;
    struct fixture f;
    open_two_pipelines(&f);
    notice(&f, "i-m2", GW_NOTICE_PREEMPT, 60 * S);
    plan_wide(&f, (const uint64_t[]){3, 4}, (const uint32_t[]){2, 0});
    link_down(&f, 3);
    assert_string_equal(picture(&f), "serving 1 2");
    run(&f, 20 * S, NULL);
    assert_string_equal(picture(&f), "serving 1 2");
    tokens(&f, 1, 7, 1, 4, 2);
    assert_int_equal(count(&f, GW_ACT_TOKENS), 1);
    fixture_close(&f);
}

/* Two stay: the idler one speaks protocol 2, or has another profile. */
static void test_copy_goes_where_it_can_be_used(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct fixture f;
        fixture_open(&f);
        fixture_start_grid(&f);
        keepers(&f, 2);
        struct gw_msg m = member_msg("m3", "i-m3");
        if (i == 1) {
            m.hello.proto = 3;
            snprintf(m.hello.pages, sizeof m.hello.pages, "10.0.0.3:9000");
            snprintf(m.hello.profile, sizeof m.hello.profile, "test-2");
        }
        hello(&f, &m);
        plan_wide(&f, in_order, (const uint32_t[]){1, 1, 1, 0});
        ready_all(&f, 1, 3);
        submit(&f, 7, 1, 200);
        submit(&f, 8, 1, 200);
        begin(&f, 1, 7, 1);
        begin(&f, 2, 8, 1);
        notice(&f, "i-m1", GW_NOTICE_PREEMPT, 60 * S);
        plan_wide(&f, (const uint64_t[]){2, 3}, (const uint32_t[]){1, 1, 0});
        assert_int_equal(sent(&f, 2, GW_MSG_WARM, 0)->warm.request.id, 7);
        assert_int_equal(warms(&f), 1);
        fixture_close(&f);
    }
}

/* The target has no room any more: the copy is taken back, and it runs where there is. */
static void test_full_target_is_not_preferred(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    f.config.worker_branches_target = 2;
    fixture_start_grid(&f);
    keepers(&f, 6);
    plan_wide(&f, in_order, (const uint32_t[]){2, 2, 2, 0});
    ready_all(&f, 1, 6);
    submit(&f, 7, 1, 200);
    begin(&f, 1, 7, 1);
    notice(&f, "i-m2", GW_NOTICE_PREEMPT, 60 * S);
    plan_wide(&f, (const uint64_t[]){3, 4, 5, 6}, (const uint32_t[]){2, 2, 0});
    assert_non_null(sent(&f, 3, GW_MSG_WARM, 0));
    submit(&f, 8, 2, 20); /* → 3 4, which is full then */
    assert_non_null(sent(&f, 3, GW_MSG_SUBMIT, 0));
    warmed(&f, 3, 7, 1);
    handoff(&f, 1, 7, 1);
    assert_int_equal(sent(&f, 5, GW_MSG_SUBMIT, 0)->submit.request.id, 7);
    assert_int_equal(sent(&f, 3, GW_MSG_CANCEL, 0)->cancel.request, 7);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ready_component_is_warmed_before_it_is_cut),
        cmocka_unit_test(test_requests_go_where_they_were_copied),
        cmocka_unit_test(test_copy_that_takes_too_long_is_not_waited_for),
        cmocka_unit_test(test_timeout_of_zero_copies_nothing),
        cmocka_unit_test(test_what_never_began_or_does_not_fit_is_not_copied),
        cmocka_unit_test(test_successors_of_protocol_2_are_not_warmed),
        cmocka_unit_test(test_sources_of_protocol_2_have_nothing_to_copy),
        cmocka_unit_test(test_origin_of_what_was_copied_ahead_is_moved),
        cmocka_unit_test(test_slow_copy_of_what_went_on_is_made_again_at_most_three_times),
        cmocka_unit_test(test_quick_copy_or_few_tokens_are_not_copied_again),
        cmocka_unit_test(test_request_that_begins_meanwhile_is_copied_in_the_next_round),
        cmocka_unit_test(test_warmed_by_others_or_of_others_is_stale),
        cmocka_unit_test(test_target_that_breaks_while_warming_lets_the_old_one_serve_on),
        cmocka_unit_test(test_one_of_two_targets_breaks_and_its_copies_are_made_at_the_other),
        cmocka_unit_test(test_source_that_dies_while_warming_goes_to_its_target_at_once),
        cmocka_unit_test(test_request_that_ends_while_warming_is_taken_back),
        cmocka_unit_test(test_request_that_leaves_while_warming_is_taken_back_where_it_does_not_go),
        cmocka_unit_test(test_margin_ends_the_copying),
        cmocka_unit_test(test_notice_while_warming_brings_the_margin_nearer),
        cmocka_unit_test(test_notice_to_a_target_while_warming_ends_it),
        cmocka_unit_test(test_cancelled_notice_ends_the_copying),
        cmocka_unit_test(test_doomed_without_heirs_is_copied_to_the_one_that_stays),
        cmocka_unit_test(test_copy_where_it_will_not_go_is_taken_back),
        cmocka_unit_test(test_staying_target_that_dies_while_warming_leaves_the_doomed_serving),
        cmocka_unit_test(test_copy_goes_where_it_can_be_used),
        cmocka_unit_test(test_full_target_is_not_preferred),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
