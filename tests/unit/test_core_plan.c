/* controller/core: a plan against what is there. What is kept, what is made, what is ignored. */
#include "tests/unit/core_fixture.h"

/* Links 1 … n, protocol 2, no plan yet. */
static void open_members(struct fixture *f, uint32_t n)
{
    fixture_open(f);
    fixture_start_grid(f);
    members(f, n);
}

static const uint64_t in_order[] = {1, 2, 3, 4, 5, 6, 7, 8};

/* ---- what is kept ---- */

static void test_plan_again_changes_nothing_in_any_state(void **state)
{
    (void)state;
    struct fixture f;
    const uint32_t shape[] = {2, 2, 1, 0};
    open_members(&f, 5);
    plan_wide(&f, in_order, shape);
    ready_all(&f, 1, 3); /* 1 2 serve, 3 4 form, 5 forms */
    ready(&f, 5);        /* 5 serves */
    assert_string_equal(picture(&f), "serving 1 2; forming 3 4; serving 5");
    plan_wide(&f, in_order, shape);
    assert_int_equal(count(&f, GW_ACT_SEND), 0);
    assert_int_equal(f.len, 1);
    assert_int_equal(noted(&f, GW_NOTE_EPOCH, 0)->generation, 2);
    assert_int_equal(noted(&f, GW_NOTE_EPOCH, 0)->count, 3);
    assert_int_equal(gw_core_epoch(f.core), 2);
    struct gw_core_pipeline_view v;
    assert_true(gw_core_pipeline(f.core, 0, &v));
    assert_int_equal(v.epoch, 1); /* the plan that made it */
    ready(&f, 4);
    assert_string_equal(picture(&f), "serving 1 2; serving 3 4; serving 5");
    fixture_close(&f);
}

static void test_plan_with_other_cells_for_the_same_workers_is_another_pipeline(void **state)
{
    (void)state;
    struct fixture f;
    open_members(&f, 2);
    plan_wide(&f, in_order, (const uint32_t[]){2, 0});
    const struct gw_core_plan_rank uneven[] = {rank(0, 1, 0, 0, GROUPS, 0, 3),
                                               rank(0, 2, 0, 0, GROUPS, 3, 8)};
    plan(&f, uneven, 2);
    assert_non_null(sent(&f, 1, GW_MSG_RELEASE, 0));
    assert_int_equal(sent(&f, 1, GW_MSG_ASSIGN, 0)->assign.ranks[1].cells.s0, 3);
    const struct gw_core_plan_rank swapped[] = {rank(0, 2, 0, 0, GROUPS, 0, 3),
                                                rank(0, 1, 0, 0, GROUPS, 3, 8)};
    plan(&f, swapped, 2);
    assert_string_equal(picture(&f), "forming 2 1");
    const struct gw_core_plan_rank stages[] = {rank(0, 2, 0, 0, 1, 0, 8), rank(0, 1, 1, 1, GROUPS, 0, 8)};
    plan(&f, stages, 2);
    assert_int_equal(sent(&f, 1, GW_MSG_ASSIGN, 0)->assign.ranks[1].stage, 1);
    fixture_close(&f);
}

static void test_plan_without_a_prepared_pipeline_releases_it(void **state)
{
    (void)state;
    struct fixture f;
    open_members(&f, 4);
    plan_wide(&f, in_order, (const uint32_t[]){4, 0});
    ready_all(&f, 1, 4);
    plan_wide(&f, in_order, (const uint32_t[]){2, 2, 0});
    ready_all(&f, 1, 2);
    assert_string_equal(picture(&f), "serving 1 2 3 4; ready 1 2; forming 3 4");
    plan_wide(&f, in_order, (const uint32_t[]){4, 0});
    for (uint64_t link = 1; link <= 4; link++) {
        assert_int_equal(sent(&f, link, GW_MSG_RELEASE, 0)->generation, f.prepared_generation[link]);
        assert_null(sent(&f, link, GW_MSG_RELEASE, 1));
    }
    assert_true(noted(&f, GW_NOTE_PIPELINE_DEAD, 1)->announced);
    assert_string_equal(picture(&f), "serving 1 2 3 4");
    fixture_close(&f);
}

/* The old one goes before the new one comes, on each link; its number is not used again at once. */
static void test_plan_releases_before_it_assigns(void **state)
{
    (void)state;
    struct fixture f;
    open_members(&f, 3);
    plan_wide(&f, in_order, (const uint32_t[]){2, 0});
    uint32_t number = f.prepared[1];
    plan_wide(&f, in_order, (const uint32_t[]){3, 0});
    bool released = false;
    for (size_t i = 0; i < f.len; i++) {
        const struct gw_action *a = &f.actions[i];
        if (a->type != GW_ACT_SEND || a->link.link != 1) continue;
        if (a->link.msg->type == GW_MSG_RELEASE) released = true;
        if (a->link.msg->type == GW_MSG_ASSIGN) assert_true(released);
    }
    assert_true(released);
    assert_int_not_equal(f.prepared[1], number);
    fixture_close(&f);
}

static void test_plan_of_nothing_lets_the_old_ones_serve(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    fixture_start_grid(&f);
    serve_wide(&f, 2);
    plan(&f, NULL, 0);
    assert_int_equal(count(&f, GW_ACT_SEND), 0);
    submit(&f, 7, 1, 10);
    assert_non_null(sent(&f, 1, GW_MSG_SUBMIT, 0));
    assert_false(run(&f, 60 * S, plan_wanted));
    assert_string_equal(picture(&f), "serving 1 2");
    fixture_close(&f);
}

static void test_plan_leaves_protocol_1_workers_alone(void **state)
{
    (void)state;
    struct fixture f;
    open_members(&f, 1);
    uint64_t old = join(&f, "w", "i-w");
    plan(&f, NULL, 0);
    plan_wide(&f, in_order, (const uint32_t[]){1, 0});
    assert_int_equal(f.len, 3); /* epoch, forming, ASSIGN */
    submit(&f, 7, 1, 10);
    assert_non_null(sent(&f, old, GW_MSG_SUBMIT, 0));
    fixture_close(&f);
}

/* ---- what is ignored ---- */

/* Plans ranks beside a good pipeline of link 8: the latter is taken, the former are not. */
static void expect_ignored(struct fixture *f, const struct gw_core_plan_rank *ranks, uint32_t n)
{
    struct gw_core_plan_rank all[GW_WIRE_RANKS_MAX + 4];
    assert_true(n < GW_WIRE_RANKS_MAX + 4);
    all[0] = wide(0, 8, 0, 1);
    for (uint32_t i = 0; i < n; i++) {
        all[i + 1] = ranks[i];
        all[i + 1].pipeline++;
    }
    plan(f, all, n + 1);
    assert_int_equal(noted(f, GW_NOTE_EPOCH, 0)->count, 1);
    assert_non_null(noted(f, GW_NOTE_PIPELINE_DEAD, 0));
    assert_int_equal(noted(f, GW_NOTE_PIPELINE_DEAD, 0)->generation, 0);
    assert_true(strlen(noted(f, GW_NOTE_PIPELINE_DEAD, 0)->text) > 0);
    for (uint64_t link = 1; link < 8; link++) assert_null(sent(f, link, GW_MSG_ASSIGN, 0));
    assert_non_null(strstr(picture(f), "forming 8"));
}

static void test_plan_with_cells_that_are_not_the_grid_is_ignored(void **state)
{
    (void)state;
    const struct {
        uint32_t len;
        struct gw_core_plan_rank ranks[3];
    } bad[] = {
        {1, {rank(0, 1, 0, 0, GROUPS, 0, SHARES - 1)}},
        {1, {rank(0, 1, 0, 0, GROUPS - 1, 0, SHARES)}},
        {1, {rank(0, 1, 0, 0, GROUPS + 1, 0, SHARES)}},
        {1, {rank(0, 1, 0, 0, GROUPS, 0, SHARES + 1)}},
        {1, {rank(0, 1, 0, 1, GROUPS, 0, SHARES)}},
        {1, {rank(0, 1, 0, 0, GROUPS, 1, SHARES)}},
        {1, {rank(0, 1, 1, 0, GROUPS, 0, SHARES)}},
        {1, {rank(0, 1, 0, 0, 0, 0, SHARES)}},
        {2, {rank(0, 1, 0, 0, GROUPS, 0, 4), rank(0, 2, 0, 0, GROUPS, 5, 8)}},     /* a gap */
        {2, {rank(0, 1, 0, 0, GROUPS, 0, 4), rank(0, 2, 0, 0, GROUPS, 3, 8)}},     /* twice */
        {2, {rank(0, 1, 0, 0, GROUPS, 0, 8), rank(0, 2, 0, 0, GROUPS, 0, 8)}},     /* all twice */
        {2, {rank(0, 1, 0, 0, GROUPS, 4, 8), rank(0, 2, 0, 0, GROUPS, 0, 4)}},     /* not sorted */
        {2, {rank(0, 1, 0, 0, GROUPS, 0, 4), rank(0, 2, 0, 0, GROUPS - 1, 4, 8)}}, /* ragged */
        {2, {rank(0, 1, 0, 0, GROUPS, 0, 4), rank(0, 2, 1, 0, GROUPS, 4, 8)}},     /* stages of one */
        {2, {rank(0, 1, 0, 0, 2, 0, 8), rank(0, 2, 0, 2, GROUPS, 0, 8)}},          /* one stage of two */
        {2, {rank(0, 1, 0, 0, 2, 0, 8), rank(0, 2, 1, 3, GROUPS, 0, 8)}},          /* a group left out */
        {2, {rank(0, 1, 0, 0, 2, 0, 8), rank(0, 2, 2, 2, GROUPS, 0, 8)}},          /* a stage left out */
        {2, {rank(0, 1, 0, 0, 2, 0, 8), rank(0, 2, 1, 2, GROUPS, 0, 4)}},          /* half a stage */
        {3,
         {rank(0, 1, 0, 0, 2, 0, 4), rank(0, 2, 0, 0, 2, 4, 8), rank(0, 3, 1, 2, 3, 0, 8)}}, /* too short */
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct fixture f;
        open_members(&f, 8);
        expect_ignored(&f, bad[i].ranks, bad[i].len);
        fixture_close(&f);
    }
}

static void test_plan_with_workers_that_cannot_is_ignored(void **state)
{
    (void)state;
    struct fixture f;
    open_members(&f, 8);
    uint64_t old = join(&f, "w", "i-w");
    struct gw_msg other = member_msg("other", "i-o");
    snprintf(other.hello.profile, sizeof other.hello.profile, "test-2");
    uint64_t odd = hello(&f, &other);
    notice(&f, "i-m1", GW_NOTICE_PREEMPT, 60 * S);
    link_down(&f, 2);
    const uint64_t bad[] = {1,   2, 99, old,
                            odd, 3, 8}; /* doomed, gone, never was, protocol, profile, itself, taken */
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        const struct gw_core_plan_rank ranks[] = {wide(0, 3, 0, 2), wide(0, bad[i], 1, 2)};
        expect_ignored(&f, ranks, 2);
    }
    fixture_close(&f);
}

static void test_plan_with_too_many_ranks_is_ignored(void **state)
{
    (void)state;
    struct fixture f;
    struct gw_core_plan_rank ranks[GW_WIRE_RANKS_MAX + 1];
    fixture_open(&f);
    f.config.groups = GW_WIRE_RANKS_MAX + 1;
    f.config.shares = 1;
    fixture_start(&f);
    members(&f, 2);
    for (uint16_t i = 0; i <= GW_WIRE_RANKS_MAX; i++)
        ranks[i] = rank(0, i + 1u, i, i, (uint16_t)(i + 1), 0, 1);
    plan(&f, ranks, GW_WIRE_RANKS_MAX + 1);
    assert_int_equal(noted(&f, GW_NOTE_EPOCH, 0)->count, 0);
    assert_non_null(noted(&f, GW_NOTE_PIPELINE_DEAD, 0));
    fixture_close(&f);
}

static void test_plan_out_of_order_is_ignored(void **state)
{
    (void)state;
    struct fixture f;
    open_members(&f, 2);
    const struct gw_core_plan_rank ranks[] = {wide(1, 1, 0, 1), wide(0, 2, 0, 1)};
    plan(&f, ranks, 2);
    assert_string_equal(picture(&f), "forming 1");
    fixture_close(&f);
}

/* ---- which fleet ---- */

static void test_plan_for_an_older_fleet_is_taken_as_far_as_it_can_be(void **state)
{
    (void)state;
    struct fixture f;
    open_members(&f, 4);
    uint64_t fleet = gw_core_fleet(f.core);
    link_down(&f, 4);
    const struct gw_core_plan_rank ranks[] = {wide(0, 1, 0, 2), wide(0, 2, 1, 2), wide(1, 3, 0, 2),
                                              wide(1, 4, 1, 2)};
    plan_of(&f, fleet, ranks, 4);
    assert_string_equal(picture(&f), "forming 1 2");
    assert_true(plan_wanted(&f));
    assert_true(find(&f, GW_ACT_PLAN_WANTED, 0)->plan_wanted.fleet > fleet + 1);
    fixture_close(&f);
}

static void test_plan_for_an_older_fleet_that_can_be_taken_wants_no_other(void **state)
{
    (void)state;
    struct fixture f;
    open_members(&f, 2);
    uint64_t fleet = gw_core_fleet(f.core);
    member(&f); /* a plan is wanted already */
    const struct gw_core_plan_rank ranks[] = {wide(0, 1, 0, 2), wide(0, 2, 1, 2)};
    plan_of(&f, fleet, ranks, 2);
    assert_string_equal(picture(&f), "forming 1 2");
    assert_false(plan_wanted(&f));
    fixture_close(&f);
}

/* A planner that errs about the fleet as it is: not in circles, but not for ever either. */
static void test_plan_that_is_wrong_for_this_fleet_wants_another_after_a_wait(void **state)
{
    (void)state;
    struct fixture f;
    open_members(&f, 2);
    int64_t start_us = f.now_us;
    const struct gw_core_plan_rank ranks[] = {wide(0, 1, 0, 2), wide(0, 99, 1, 2)};
    plan(&f, ranks, 2);
    assert_false(plan_wanted(&f));
    assert_true(run(&f, 60 * S, plan_wanted));
    assert_in_range(f.now_us - start_us, 100 * MS, 150 * MS);
    plan(&f, ranks, 2);
    start_us = f.now_us;
    assert_true(run(&f, 60 * S, plan_wanted));
    assert_in_range(f.now_us - start_us, 200 * MS, 250 * MS);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plan_again_changes_nothing_in_any_state),
        cmocka_unit_test(test_plan_with_other_cells_for_the_same_workers_is_another_pipeline),
        cmocka_unit_test(test_plan_without_a_prepared_pipeline_releases_it),
        cmocka_unit_test(test_plan_releases_before_it_assigns),
        cmocka_unit_test(test_plan_of_nothing_lets_the_old_ones_serve),
        cmocka_unit_test(test_plan_leaves_protocol_1_workers_alone),
        cmocka_unit_test(test_plan_with_cells_that_are_not_the_grid_is_ignored),
        cmocka_unit_test(test_plan_with_workers_that_cannot_is_ignored),
        cmocka_unit_test(test_plan_with_too_many_ranks_is_ignored),
        cmocka_unit_test(test_plan_out_of_order_is_ignored),
        cmocka_unit_test(test_plan_for_an_older_fleet_is_taken_as_far_as_it_can_be),
        cmocka_unit_test(test_plan_for_an_older_fleet_that_can_be_taken_wants_no_other),
        cmocka_unit_test(test_plan_that_is_wrong_for_this_fleet_wants_another_after_a_wait),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
