/* controller/capacity_fleet: what runs on instances, as the core shows it, and who may go first. */
#include "tests/unit/core_fixture.h"

#include "controller/capacity_fleet.h"

static struct gw_capacity_fleet look(const struct fixture *f)
{
    struct gw_capacity_fleet fleet;
    assert_int_equal(gw_capacity_fleet_read(f->core, &fleet), GW_OK);
    return fleet;
}

static int rank_of(struct gw_capacity_fleet *fleet, const char *id, enum gw_cloud_state state)
{
    struct gw_cloud_instance in = {.state = state};
    snprintf(in.id, sizeof in.id, "%s", id);
    return gw_capacity_fleet_rank(fleet, &in);
}

/* m1 and m2 serve, each alone; m3 is in no pipeline. Requests run on m1. */
static void open_three(struct fixture *f)
{
    const uint64_t links[] = {1, 2};
    fixture_open(f);
    fixture_start_grid(f);
    members(f, 3);
    plan_wide(f, links, (const uint32_t[]){1, 1, 0});
    ready_all(f, 1, 2);
    submit(f, 1, 1, 10);
}

static void test_read_serving_workers_are_busy_and_unplanned_ones_are_not(void **state)
{
    struct fixture f;
    uint32_t serving, leaving;
    (void)state;
    open_three(&f);
    struct gw_capacity_fleet fleet = look(&f);
    assert_int_equal(fleet.len, 3);
    assert_true(gw_capacity_fleet_find(&fleet, "i-m1")->busy);
    assert_int_equal(gw_capacity_fleet_find(&fleet, "i-m1")->requests, 1);
    assert_true(gw_capacity_fleet_find(&fleet, "i-m2")->busy); /* it may get work at any time */
    assert_false(gw_capacity_fleet_find(&fleet, "i-m3")->busy);
    assert_null(gw_capacity_fleet_find(&fleet, "i-m4"));
    gw_capacity_fleet_count(&fleet, &serving, &leaving);
    assert_int_equal(serving, 3);
    assert_int_equal(leaving, 0);
    gw_capacity_fleet_fini(&fleet);
    fixture_close(&f);
}

static void test_read_doomed_instance_leaves_and_is_drained_when_its_pipeline_has_ended(void **state)
{
    struct fixture f;
    uint32_t serving, leaving;
    (void)state;
    open_three(&f);
    notice(&f, "i-m2", GW_NOTICE_SCALE_IN, 600 * S);
    struct gw_capacity_fleet fleet = look(&f);
    const struct gw_capacity_host *h = gw_capacity_fleet_find(&fleet, "i-m2");
    assert_true(h->doomed);
    assert_int_equal(h->deadline_us, f.now_us + 600 * S);
    gw_capacity_fleet_count(&fleet, &serving, &leaving);
    assert_int_equal(leaving, 1);
    gw_capacity_fleet_fini(&fleet);
    plan_wide(&f, (const uint64_t[]){1}, (const uint32_t[]){1, 0});
    run(&f, 2 * S, NULL);
    fleet = look(&f);
    assert_false(gw_capacity_fleet_find(&fleet, "i-m2")->busy);
    assert_true(gw_capacity_fleet_find(&fleet, "i-m1")->busy);
    gw_capacity_fleet_fini(&fleet);
    fixture_close(&f);
}

static void test_rank_the_doomed_go_first_then_the_empty_then_by_requests(void **state)
{
    struct fixture f;
    (void)state;
    open_three(&f);
    notice(&f, "i-m3", GW_NOTICE_PREEMPT, 60 * S);
    struct gw_capacity_fleet fleet = look(&f);
    int doomed = rank_of(&fleet, "i-m3", GW_CLOUD_RUNNING), coming = rank_of(&fleet, "i-x", GW_CLOUD_PENDING),
        empty = rank_of(&fleet, "i-y", GW_CLOUD_RUNNING), idle = rank_of(&fleet, "i-m2", GW_CLOUD_RUNNING),
        busy = rank_of(&fleet, "i-m1", GW_CLOUD_RUNNING);
    assert_true(doomed < coming && coming < empty && empty < idle && idle < busy);
    gw_capacity_fleet_fini(&fleet);
    fixture_close(&f);
}

static void test_rank_advised_ones_go_before_those_that_may_stay(void **state)
{
    struct fixture f;
    uint32_t serving, leaving;
    (void)state;
    open_three(&f);
    notice(&f, "i-m1", GW_NOTICE_REBALANCE, 0);
    struct gw_capacity_fleet fleet = look(&f);
    assert_true(rank_of(&fleet, "i-m1", GW_CLOUD_RUNNING) < rank_of(&fleet, "i-m2", GW_CLOUD_RUNNING));
    gw_capacity_fleet_count(&fleet, &serving, &leaving);
    assert_int_equal(leaving, 1);
    gw_capacity_fleet_fini(&fleet);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read_serving_workers_are_busy_and_unplanned_ones_are_not),
        cmocka_unit_test(test_read_doomed_instance_leaves_and_is_drained_when_its_pipeline_has_ended),
        cmocka_unit_test(test_rank_the_doomed_go_first_then_the_empty_then_by_requests),
        cmocka_unit_test(test_rank_advised_ones_go_before_those_that_may_stay),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
