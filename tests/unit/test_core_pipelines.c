/* controller/core: the life of one pipeline of several ranks. Forming, serving, breaking, and who may speak for it. */
#include "tests/unit/core_fixture.h"

static void open_grid(struct fixture *f)
{
    fixture_open(f);
    fixture_start_grid(f);
}

/* Three members, links 1 … 3, are told to be one pipeline. */
static void open_forming(struct fixture *f)
{
    open_grid(f);
    members(f, 3);
    plan_wide(f, (const uint64_t[]){1, 2, 3}, (const uint32_t[]){3, 0});
}

/* … and serve as one; request 7 runs on it, four tokens are there. */
static void open_serving(struct fixture *f)
{
    open_grid(f);
    serve_wide(f, 3);
    submit(f, 7, 1, 20);
    tokens(f, 1, 7, 1, 0, 4);
}

static uint64_t fleet_wanted(const struct fixture *f)
{
    return find(f, GW_ACT_PLAN_WANTED, 0)->plan_wanted.fleet;
}

/* ---- coming ---- */

static void test_hello_of_protocol_2_is_welcomed_without_a_pipeline(void **state)
{
    (void)state;
    struct fixture f;
    struct gw_core_device_view device;
    struct gw_core_worker_view worker;
    struct gw_core_pipeline_view none;
    open_grid(&f);
    assert_int_equal(gw_core_epoch(f.core), 0);
    struct gw_msg m = member_msg("m1", "i-1");
    m.hello.bytes_s = 11;
    m.hello.flop_s = 12;
    m.hello.machine[3] = 9;
    m.hello.holds = (struct gw_cell_rect){0, 2, 0, 8};
    snprintf(m.hello.zone, sizeof m.hello.zone, "z-a");
    uint64_t link = hello(&f, &m);
    const struct gw_msg *welcome = sent(&f, link, GW_MSG_WELCOME, 0);
    assert_int_equal(welcome->pipeline, 0);
    assert_int_equal(welcome->generation, 0);
    assert_int_equal(fleet_wanted(&f), gw_core_fleet(f.core));
    submit(&f, 7, 1, 10);
    assert_int_equal(stats(&f).queued, 1);
    assert_false(gw_core_pipeline(f.core, 0, &none));
    assert_int_equal(gw_core_devices(f.core, &device, 1), 1);
    assert_int_equal(gw_core_workers(f.core, &worker, 1), 1);
    assert_int_equal(device.link, link);
    assert_int_equal(device.proto, 2);
    assert_string_equal(device.device, "cpu");
    assert_string_equal(device.zone, "z-a");
    assert_int_equal(device.machine[3], 9);
    assert_int_equal(device.memory_bytes, 1 << 30);
    assert_int_equal(device.bytes_s, 11);
    assert_int_equal(device.flop_s, 12);
    assert_int_equal(device.holds.g1, 2);
    assert_int_equal(worker.generation, 0);
    fixture_close(&f);
}

static void test_hello_each_wants_a_plan_with_a_new_number(void **state)
{
    (void)state;
    struct fixture f;
    open_grid(&f);
    member(&f);
    uint64_t first = fleet_wanted(&f);
    member(&f);
    assert_true(fleet_wanted(&f) > first);
    assert_int_equal(count(&f, GW_ACT_PLAN_WANTED), 1);
    join(&f, "old", "i-old"); /* protocol 1 is not planned */
    assert_false(plan_wanted(&f));
    fixture_close(&f);
}

/* ---- FORMING ---- */

static void test_plan_tells_each_rank_all_of_them(void **state)
{
    (void)state;
    struct fixture f;
    open_forming(&f);
    assert_int_equal(gw_core_epoch(f.core), 1);
    assert_int_equal(noted(&f, GW_NOTE_EPOCH, 0)->count, 1);
    assert_int_equal(noted(&f, GW_NOTE_EPOCH, 0)->generation, 1);
    const struct gw_note *forming = noted(&f, GW_NOTE_PIPELINE_FORMING, 0);
    assert_string_equal(forming->worker, "m1");
    assert_int_equal(forming->count, 3);
    for (uint64_t link = 1; link <= 3; link++) {
        const struct gw_msg *m = sent(&f, link, GW_MSG_ASSIGN, 0);
        assert_int_equal(m->generation, forming->generation);
        assert_int_equal(m->assign.epoch, 1);
        assert_int_equal(m->assign.self, link - 1);
        assert_int_equal(m->assign.ranks_len, 3);
        assert_string_equal(m->assign.ranks[2].worker, "m3");
        assert_string_equal(m->assign.ranks[2].data, "10.0.0.1:7000");
        assert_int_equal(m->assign.ranks[1].cells.s0, 2);
        assert_int_equal(m->assign.ranks[1].cells.s1, 5);
        assert_int_equal(m->assign.ranks[1].cells.g1, GROUPS);
    }
    assert_false(plan_wanted(&f));
    assert_string_equal(picture(&f), "forming 1 2 3");
    fixture_close(&f);
}

static void test_ready_of_all_ranks_starts_and_dispatches(void **state)
{
    (void)state;
    struct fixture f;
    open_forming(&f);
    submit(&f, 7, 1, 10);
    ready(&f, 2);
    ready(&f, 1);
    assert_int_equal(f.len, 0);
    ready(&f, 2); /* again: it is not the third */
    assert_int_equal(f.len, 0);
    assert_int_equal(stats(&f).stale_frames, 1);
    ready(&f, 3);
    for (uint64_t link = 1; link <= 3; link++) {
        assert_int_equal(sent(&f, link, GW_MSG_START, 0)->generation, f.prepared_generation[link]);
        assert_int_equal(sent(&f, link, GW_MSG_SUBMIT, 0) != NULL, link == 1);
    }
    assert_int_equal(sent(&f, 1, GW_MSG_SUBMIT, 0)->generation, f.prepared_generation[1]);
    assert_int_equal(noted(&f, GW_NOTE_PIPELINE_SERVING, 0)->count, 3);
    assert_string_equal(picture(&f), "serving 1 2 3");
    fixture_close(&f);
}

static void test_ready_says_what_the_smallest_rank_can(void **state)
{
    (void)state;
    struct fixture f;
    struct gw_core_pipeline_view v;
    open_forming(&f);
    const uint32_t kv[] = {900, 300, 600}, context[] = {80, 90, 70};
    for (uint64_t link = 1; link <= 3; link++) {
        struct gw_msg m = {.type = GW_MSG_READY, .term = TERM, .pipeline = f.prepared[link]};
        m.generation = f.prepared_generation[link];
        m.ready = (struct gw_msg_ready){kv[link - 1], context[link - 1], 8, link * 100, false};
        const struct gw_event e = {.type = GW_EV_MSG, .link = {.link = link, .msg = &m}};
        step(&f, &e);
    }
    assert_true(gw_core_pipeline(f.core, 0, &v));
    assert_int_equal(v.kv_tokens, 300);
    assert_int_equal(v.context, 70);
    assert_int_equal(v.ranks[1].loaded_bytes, 200);
    assert_true(v.ranks[1].ready);
    assert_int_equal(v.epoch, 1);
    struct gw_core_device_view devices[3];
    gw_core_devices(f.core, devices, 3);
    assert_int_equal(devices[1].holds.s0, 2);
    fixture_close(&f);
}

static bool any_dead(const struct fixture *f)
{
    return noted(f, GW_NOTE_PIPELINE_DEAD, 0) != NULL;
}

static void test_forming_for_too_long_is_released_and_planned_again(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    f.config.prepare_timeout_us = 5 * S;
    fixture_start_grid(&f);
    members(&f, 2);
    plan_wide(&f, (const uint64_t[]){1, 2}, (const uint32_t[]){2, 0});
    int64_t start_us = f.now_us;
    ready(&f, 1);
    assert_true(run(&f, 60 * S, any_dead));
    assert_in_range(f.now_us - start_us, 5 * S, 5 * S + 50 * MS);
    assert_non_null(sent(&f, 1, GW_MSG_RELEASE, 0));
    assert_non_null(sent(&f, 2, GW_MSG_RELEASE, 0));
    assert_false(plan_wanted(&f));
    assert_true(run(&f, 60 * S, plan_wanted));
    assert_in_range(f.now_us - start_us, 5100 * MS, 5200 * MS);
    assert_string_equal(picture(&f), "");
    fixture_close(&f);
}

static void test_forming_whose_rank_dies_is_released_and_planned_at_once(void **state)
{
    (void)state;
    struct fixture f;
    open_forming(&f);
    ready(&f, 1);
    link_down(&f, 2);
    assert_true(plan_wanted(&f));
    assert_non_null(sent(&f, 1, GW_MSG_RELEASE, 0));
    assert_null(sent(&f, 2, GW_MSG_RELEASE, 0));
    assert_non_null(sent(&f, 3, GW_MSG_RELEASE, 0));
    ready(&f, 3); /* under way */
    assert_int_equal(f.len, 0);
    assert_int_equal(stats(&f).stale_frames, 1);
    fixture_close(&f);
}

static void test_forming_whose_rank_is_doomed_is_released_and_planned_at_once(void **state)
{
    (void)state;
    struct fixture f;
    open_forming(&f);
    notice(&f, "i-m2", GW_NOTICE_PREEMPT, 30 * S);
    assert_true(plan_wanted(&f));
    assert_true(noted(&f, GW_NOTE_PIPELINE_DEAD, 0)->announced);
    for (uint64_t link = 1; link <= 3; link++) assert_non_null(sent(&f, link, GW_MSG_RELEASE, 0));
    assert_string_equal(picture(&f), "");
    fixture_close(&f);
}

/* ---- SERVING ---- */

static void test_tokens_count_only_from_the_leader_of_that_generation(void **state)
{
    (void)state;
    struct fixture f;
    open_serving(&f);
    assert_int_equal(stats(&f).tokens, 4);
    tokens(&f, 2, 7, 1, 4, 1); /* a rank, not the leader */
    assert_int_equal(f.len, 0);
    f.generation[1]--;
    tokens(&f, 1, 7, 1, 4, 1);
    handoff(&f, 1, 7, 1);
    f.generation[1]++;
    f.pipeline[1]++;
    tokens(&f, 1, 7, 1, 4, 1);
    f.pipeline[1] = UINT32_MAX;
    tokens(&f, 1, 7, 1, 4, 1);
    f.pipeline[1] = f.pipeline[2];
    assert_int_equal(stats(&f).stale_frames, 5);
    assert_int_equal(stats(&f).tokens, 4);
    tokens(&f, 1, 7, 1, 4, 1);
    assert_int_equal(stats(&f).tokens, 5);
    fixture_close(&f);
}

static void test_tokens_before_start_are_stale(void **state)
{
    (void)state;
    struct fixture f;
    open_forming(&f);
    f.pipeline[1] = f.prepared[1];
    f.generation[1] = f.prepared_generation[1];
    submit(&f, 7, 1, 10);
    tokens(&f, 1, 7, 0, 0, 1);
    assert_int_equal(stats(&f).stale_frames, 1);
    fixture_close(&f);
}

/* A worker may speak only for itself. */
static void test_ready_and_broken_of_who_is_no_rank_are_stale(void **state)
{
    (void)state;
    struct fixture f;
    open_serving(&f);
    members(&f, 2);
    plan_wide(&f, (const uint64_t[]){1, 2, 3, 4}, (const uint32_t[]){3, 1, 0});
    broken_as(&f, 5, f.pipeline[1], f.generation[1]);
    ready_as(&f, 5, f.prepared[4], f.prepared_generation[4]);
    assert_int_equal(stats(&f).stale_frames, 2);
    assert_string_equal(picture(&f), "serving 1 2 3; forming 4");
    fixture_close(&f);
}

/* A link of protocol 2 is one process: what it says of its past proves that it lives. */
static void test_stale_frames_of_a_member_count_as_life(void **state)
{
    (void)state;
    struct fixture f;
    open_serving(&f);
    f.beats[2] = false;
    for (int i = 0; i < 10; i++) {
        assert_false(run(&f, 500 * MS, any_dead));
        ready_as(&f, 2, 0, 999);
    }
    fixture_close(&f);
}

/* Whatever is not about a pipeline carries zeros. */
static void test_heartbeat_of_a_member_with_fences_is_stale(void **state)
{
    (void)state;
    struct fixture f;
    open_serving(&f);
    struct gw_msg m = {.type = GW_MSG_HEARTBEAT, .term = TERM, .generation = f.generation[1]};
    const struct gw_event e = {.type = GW_EV_MSG, .link = {.link = 1, .msg = &m}};
    step(&f, &e);
    assert_int_equal(stats(&f).stale_frames, 1);
    fixture_close(&f);
}

static void test_death_of_a_rank_ends_the_pipeline_and_keeps_the_log(void **state)
{
    (void)state;
    struct fixture f;
    open_serving(&f);
    link_down(&f, 3);
    assert_true(plan_wanted(&f));
    assert_int_equal(noted(&f, GW_NOTE_WORKER_LOST, 0)->count, 1);
    const struct gw_note *dead = noted(&f, GW_NOTE_PIPELINE_DEAD, 0);
    assert_false(dead->announced);
    assert_int_equal(dead->count, 1);
    assert_non_null(sent(&f, 1, GW_MSG_RELEASE, 0));
    assert_non_null(sent(&f, 2, GW_MSG_RELEASE, 0));
    assert_null(sent(&f, 3, GW_MSG_RELEASE, 0));
    assert_int_equal(stats(&f).queued, 1);
    tokens(&f, 1, 7, 1, 4, 1); /* under way */
    assert_int_equal(f.len, 0);
    plan_wide(&f, (const uint64_t[]){2, 1}, (const uint32_t[]){2, 0});
    ready_all(&f, 1, 2);
    const struct gw_msg *m = sent(&f, 2, GW_MSG_SUBMIT, 0);
    assert_int_equal(m->submit.attempt, 2);
    assert_int_equal(m->submit.logs[0].len, 4);
    assert_false(noted(&f, GW_NOTE_REQUEST_MOVED, 0)->announced);
    fixture_close(&f);
}

static void test_death_of_a_doomed_rank_is_an_announced_loss(void **state)
{
    (void)state;
    struct fixture f;
    open_serving(&f);
    notice(&f, "i-m3", GW_NOTICE_PREEMPT, 30 * S);
    link_down(&f, 3);
    assert_true(noted(&f, GW_NOTE_WORKER_LOST, 0)->announced);
    assert_true(noted(&f, GW_NOTE_PIPELINE_DEAD, 0)->announced);
    assert_int_equal(stats(&f).losses, 0);
    fixture_close(&f);
}

static void broken_by(struct fixture *f, uint64_t link, uint32_t rank)
{
    struct gw_msg m = {.type = GW_MSG_BROKEN};
    m.broken = (struct gw_msg_broken){.rank = rank, .code = GW_ERR_IO, .text = "cannot be reached"};
    say(f, link, &m);
}

static void test_broken_by_a_rank_names_the_two_that_must_be_apart(void **state)
{
    (void)state;
    for (uint32_t rank = 0; rank <= 3; rank++) {
        struct fixture f;
        open_serving(&f);
        broken_by(&f, 2, rank == 3 ? GW_RANK_NONE : rank);
        const struct gw_note *apart = noted(&f, GW_NOTE_WORKERS_APART, 0);
        assert_non_null(noted(&f, GW_NOTE_PIPELINE_DEAD, 0));
        if (rank == 0 || rank == 2) {
            assert_string_equal(apart->worker, "m2");
            assert_string_equal(apart->text, rank == 0 ? "m1" : "m3");
        } else { /* itself; nobody */
            assert_null(apart);
        }
        fixture_close(&f);
    }
}

/* m3 sees m2's sockets close, and is heard first. */
static void test_broken_that_comes_late_names_the_two_as_well(void **state)
{
    (void)state;
    struct fixture f;
    open_serving(&f);
    uint64_t generation = f.generation[2];
    broken_by(&f, 3, GW_RANK_NONE);
    assert_null(noted(&f, GW_NOTE_WORKERS_APART, 0));
    f.generation[2] = generation;
    broken_by(&f, 2, 3); /* none of its ranks */
    assert_null(noted(&f, GW_NOTE_WORKERS_APART, 0));
    broken_by(&f, 2, 0);
    assert_string_equal(noted(&f, GW_NOTE_WORKERS_APART, 0)->worker, "m2");
    assert_string_equal(noted(&f, GW_NOTE_WORKERS_APART, 0)->text, "m1");
    assert_true(run(&f, 60 * S, plan_wanted));
    link_down(&f, 1);
    broken_by(&f, 2, 0);
    assert_null(noted(&f, GW_NOTE_WORKERS_APART, 0));
    fixture_close(&f);
}

static void test_broken_by_a_rank_that_is_doomed_names_nobody(void **state)
{
    (void)state;
    struct fixture f;
    open_serving(&f);
    notice(&f, "i-m1", GW_NOTICE_PREEMPT, 20 * S);
    broken_by(&f, 2, 0);
    assert_null(noted(&f, GW_NOTE_WORKERS_APART, 0));
    fixture_close(&f);
}

static void test_broken_ends_the_pipeline_and_plans_after_a_wait(void **state)
{
    (void)state;
    struct fixture f;
    open_serving(&f);
    int64_t start_us = f.now_us;
    broken_as(&f, 2, f.pipeline[2], f.generation[2]);
    assert_string_equal(noted(&f, GW_NOTE_PIPELINE_DEAD, 0)->text, "a peer is gone");
    for (uint64_t link = 1; link <= 3; link++) assert_non_null(sent(&f, link, GW_MSG_RELEASE, 0));
    assert_false(plan_wanted(&f));
    broken_as(&f, 1, f.pipeline[1], f.generation[1]); /* the others notice too */
    assert_int_equal(f.len, 0);
    assert_true(gw_core_next_deadline_us(f.core) <= start_us + 100 * MS);
    assert_true(run(&f, 60 * S, plan_wanted));
    assert_in_range(f.now_us - start_us, 100 * MS, 150 * MS);
    fixture_close(&f);
}

/* Its peers may notice before we do that a doomed worker has gone. */
static void test_broken_while_a_rank_is_doomed_is_an_announced_loss(void **state)
{
    (void)state;
    struct fixture f;
    open_serving(&f);
    notice(&f, "i-m3", GW_NOTICE_PREEMPT, 30 * S);
    broken_as(&f, 1, f.pipeline[1], f.generation[1]);
    assert_true(noted(&f, GW_NOTE_PIPELINE_DEAD, 0)->announced);
    plan_wide(&f, (const uint64_t[]){1, 2}, (const uint32_t[]){2, 0});
    ready_all(&f, 1, 2);
    assert_true(noted(&f, GW_NOTE_REQUEST_MOVED, 0)->announced);
    fixture_close(&f);
}

/* Plans the two members again, they are READY, it breaks; returns how long it took until a plan was wanted. */
static int64_t break_again(struct fixture *f, bool works)
{
    plan_wide(f, (const uint64_t[]){1, 2}, (const uint32_t[]){2, 0});
    ready_all(f, 1, 2);
    uint32_t attempt = sent(f, 1, GW_MSG_SUBMIT, 0)->submit.attempt;
    uint32_t len = sent(f, 1, GW_MSG_SUBMIT, 0)->submit.logs[0].len;
    if (works) tokens(f, 1, 7, attempt, len, 1);
    int64_t start_us = f->now_us;
    broken_as(f, 1, f->pipeline[1], f->generation[1]);
    assert_true(run(f, 100 * S, plan_wanted));
    return f->now_us - start_us;
}

static void test_broken_again_and_again_waits_longer_each_time(void **state)
{
    (void)state;
    struct fixture f;
    open_grid(&f);
    members(&f, 2);
    submit(&f, 7, 1, 20);
    assert_in_range(break_again(&f, false), 100 * MS, 150 * MS);
    assert_in_range(break_again(&f, false), 200 * MS, 250 * MS);
    assert_in_range(break_again(&f, false), 400 * MS, 450 * MS);
    for (int i = 0; i < 7; i++) break_again(&f, false);
    assert_in_range(break_again(&f, false), 30 * S, 30 * S + 50 * MS);
    assert_in_range(break_again(&f, true), 100 * MS, 150 * MS); /* it had served */
    assert_in_range(break_again(&f, false), 200 * MS, 250 * MS);
    member(&f); /* another fleet */
    assert_in_range(break_again(&f, false), 100 * MS, 150 * MS);
    fixture_close(&f);
}

/* What serves beside it says nothing about what breaks. */
static void test_broken_beside_one_that_works_waits_longer_each_time(void **state)
{
    (void)state;
    struct fixture f;
    open_grid(&f);
    members(&f, 2);
    plan_wide(&f, (const uint64_t[]){1, 2}, (const uint32_t[]){1, 1, 0});
    ready(&f, 1);
    submit(&f, 7, 1, 60);
    for (uint32_t i = 0; i < 4; i++) {
        plan_wide(&f, (const uint64_t[]){1, 2}, (const uint32_t[]){1, 1, 0});
        tokens(&f, 1, 7, 1, i, 1);
        int64_t start_us = f.now_us;
        broken_as(&f, 2, f.prepared[2], f.prepared_generation[2]);
        tokens(&f, 1, 7, 1, i, 2);
        assert_true(run(&f, 100 * S, plan_wanted));
        assert_in_range(f.now_us - start_us, (100 << i) * MS, (100 << i) * MS + 50 * MS);
    }
    fixture_close(&f);
}

static void test_start_gives_it_what_found_no_room_elsewhere(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    f.config.worker_branches_target = 1;
    fixture_start_grid(&f);
    serve_wide(&f, 1);
    submit(&f, 7, 1, 20);
    submit(&f, 8, 1, 20);
    assert_int_equal(stats(&f).queued, 1);
    member(&f);
    plan_wide(&f, (const uint64_t[]){1, 2}, (const uint32_t[]){1, 1, 0});
    ready(&f, 2);
    assert_int_equal(sent(&f, 2, GW_MSG_SUBMIT, 0)->submit.request.id, 8);
    fixture_close(&f);
}

static void test_ready_of_a_protocol_1_worker_drops_it(void **state)
{
    (void)state;
    struct fixture f;
    open_grid(&f);
    join(&f, "w1", "i-1");
    struct gw_msg m = {.type = GW_MSG_BROKEN, .broken = {0, GW_ERR_IO, "?"}};
    say(&f, 1, &m);
    assert_true(closed(&f, 1));
    fixture_close(&f);
}

static void test_route_prefers_a_pipeline_whose_context_holds_it(void **state)
{
    (void)state;
    struct fixture f;
    open_grid(&f);
    serve_wide(&f, 1); /* context 500 */
    struct gw_msg big = hello_msg("w", "i-w");
    uint64_t link = hello(&f, &big); /* 4096 */
    submit(&f, 1, 1, 400);
    assert_non_null(sent(&f, 1, GW_MSG_SUBMIT, 0));
    cancel(&f, 1);
    submit(&f, 2, 1, 600);
    assert_non_null(sent(&f, link, GW_MSG_SUBMIT, 0));
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hello_of_protocol_2_is_welcomed_without_a_pipeline),
        cmocka_unit_test(test_hello_each_wants_a_plan_with_a_new_number),
        cmocka_unit_test(test_plan_tells_each_rank_all_of_them),
        cmocka_unit_test(test_ready_of_all_ranks_starts_and_dispatches),
        cmocka_unit_test(test_ready_says_what_the_smallest_rank_can),
        cmocka_unit_test(test_forming_for_too_long_is_released_and_planned_again),
        cmocka_unit_test(test_forming_whose_rank_dies_is_released_and_planned_at_once),
        cmocka_unit_test(test_forming_whose_rank_is_doomed_is_released_and_planned_at_once),
        cmocka_unit_test(test_tokens_count_only_from_the_leader_of_that_generation),
        cmocka_unit_test(test_tokens_before_start_are_stale),
        cmocka_unit_test(test_ready_and_broken_of_who_is_no_rank_are_stale),
        cmocka_unit_test(test_stale_frames_of_a_member_count_as_life),
        cmocka_unit_test(test_heartbeat_of_a_member_with_fences_is_stale),
        cmocka_unit_test(test_death_of_a_rank_ends_the_pipeline_and_keeps_the_log),
        cmocka_unit_test(test_death_of_a_doomed_rank_is_an_announced_loss),
        cmocka_unit_test(test_broken_ends_the_pipeline_and_plans_after_a_wait),
        cmocka_unit_test(test_broken_by_a_rank_names_the_two_that_must_be_apart),
        cmocka_unit_test(test_broken_that_comes_late_names_the_two_as_well),
        cmocka_unit_test(test_broken_by_a_rank_that_is_doomed_names_nobody),
        cmocka_unit_test(test_broken_while_a_rank_is_doomed_is_an_announced_loss),
        cmocka_unit_test(test_broken_again_and_again_waits_longer_each_time),
        cmocka_unit_test(test_broken_beside_one_that_works_waits_longer_each_time),
        cmocka_unit_test(test_start_gives_it_what_found_no_room_elsewhere),
        cmocka_unit_test(test_ready_of_a_protocol_1_worker_drops_it),
        cmocka_unit_test(test_route_prefers_a_pipeline_whose_context_holds_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
