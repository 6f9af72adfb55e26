/* controller/layout_fleet: what the planner gets to see of the core's workers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "controller/layout_fleet.h"
#include "tests/lib/plan_fixture.h"

#define WORKERS_MAX 80
#define NOW_US      1000000

struct fixture {
    struct gw_core_worker_view workers[WORKERS_MAX];
    struct gw_core_device_view devices[WORKERS_MAX];
    struct gw_core_pipeline_view pipelines[4];
    struct gw_layout_seen seen;
    struct gw_plan_model model; /* 4 groups, 4 shares */
    struct gw_layout_fleet fleet;
};

static void near_to(double got, double expected, double within)
{
    if (!(fabs(got - expected) <= within)) fail_msg("%g, but %g was expected", got, expected);
}

/* A worker of protocol 2; its link is its number from 1 on. */
static uint32_t add(struct fixture *f, const char *worker, const char *instance, const char *kind)
{
    uint32_t i = (uint32_t)f->seen.workers_len++;
    assert_true(i < WORKERS_MAX);
    f->workers[i] = (struct gw_core_worker_view){.state = "up"};
    f->devices[i] = (struct gw_core_device_view){
        .link = i + 1, .proto = 2, .memory_bytes = 1 << 30, .bytes_s = 20 * GB, .flop_s = 500 * GB};
    snprintf(f->workers[i].worker, sizeof f->workers[i].worker, "%s", worker);
    snprintf(f->workers[i].instance, sizeof f->workers[i].instance, "%s", instance);
    snprintf(f->workers[i].profile, sizeof f->workers[i].profile, "cpu-1");
    snprintf(f->devices[i].device, sizeof f->devices[i].device, "%s", kind);
    f->devices[i].machine[0] = (uint8_t)(i + 1);
    return i;
}

static void make(struct fixture *f)
{
    gw_layout_fleet_fini(&f->fleet);
    assert_int_equal(gw_layout_fleet_make(&f->seen, &f->model, &f->fleet), GW_OK);
    struct gw_err_ctx ctx = {0};
    if (gw_plan_fleet_check(&f->fleet.plan, &f->model, &ctx) != GW_OK) fail_msg("%s", ctx.text);
}

static int set_up(void **state)
{
    static struct fixture f;
    memset(&f, 0, sizeof f);
    f.model = plan_model_small();
    f.seen = (struct gw_layout_seen){
        .workers = f.workers, .devices = f.devices, .pipelines = f.pipelines, .now_us = NOW_US};
    *state = &f;
    return 0;
}

static int tear_down(void **state)
{
    gw_layout_fleet_fini(&((struct fixture *)*state)->fleet);
    return 0;
}

/* The device that the worker became; NULL: it is none. */
static const struct gw_plan_device *device_of(const struct fixture *f, uint32_t worker)
{
    for (uint32_t d = 0; d < f->fleet.plan.devices_len; d++) {
        if (f->fleet.worker_of[d] != worker) continue;
        assert_int_equal(f->fleet.links[d], f->devices[worker].link);
        return &f->fleet.plan.devices[d];
    }
    return NULL;
}

static const struct gw_plan_type *type_of(const struct fixture *f, uint32_t worker)
{
    return &f->fleet.plan.types[device_of(f, worker)->type];
}

static void test_make_workers_of_an_instance_lie_together(void **state)
{
    struct fixture *f = *state;
    uint32_t a0 = add(f, "w0", "i-a", "cpu"), b0 = add(f, "w1", "i-b", "cpu"),
             a1 = add(f, "w2", "i-a", "cpu");
    make(f);
    assert_int_equal(f->fleet.plan.devices_len, 3);
    assert_int_equal(f->fleet.plan.instances_len, 2);
    assert_int_equal(f->fleet.plan.types_len, 1);
    assert_int_equal(device_of(f, a0)->instance, device_of(f, a1)->instance);
    assert_int_not_equal(device_of(f, a0)->instance, device_of(f, b0)->instance);
    assert_int_equal(device_of(f, a1)->index, 1);
    assert_string_equal(f->fleet.plan.zones[0], "default");
}

static void test_make_bytes_between_zones_cost_what_is_said(void **state)
{
    struct fixture *f = *state;
    const double usd_gb = 0.08;
    add(f, "w0", "i-a", "cpu");
    make(f);
    near_to(f->fleet.plan.zone_usd_gb, GW_LINK_ZONE_USD_GB, 1e-9);
    gw_layout_fleet_fini(&f->fleet);
    f->seen.zone_usd_gb = &usd_gb;
    make(f);
    near_to(f->fleet.plan.zone_usd_gb, usd_gb, 1e-9);
}

static void test_make_protocol_1_is_not_planned(void **state)
{
    struct fixture *f = *state;
    uint32_t old = add(f, "w0", "i-a", ""), new = add(f, "w1", "i-b", "cpu");
    f->devices[old].proto = 1;
    make(f);
    assert_null(device_of(f, old));
    assert_non_null(device_of(f, new));
    assert_int_equal(f->fleet.whys[old], GW_WHY_PROTOCOL);
    assert_int_equal(f->fleet.whys[new], GW_WHY_PLACED);
}

static void test_make_rates_are_medians_of_the_kind(void **state)
{
    struct fixture *f = *state;
    uint32_t w[3], other = add(f, "x", "i-x", "fast");
    for (uint32_t i = 0; i < 3; i++) w[i] = add(f, i ? i > 1 ? "w2" : "w1" : "w0", "i-a", "cpu");
    f->devices[w[0]].bytes_s = 10, f->devices[w[1]].bytes_s = 30 * GB, f->devices[w[2]].bytes_s = 20 * GB;
    f->devices[other].bytes_s = 900 * GB;
    make(f);
    assert_int_equal(f->fleet.plan.types_len, 2);
    near_to(type_of(f, w[0])->bytes_s, 20e9, 1);
    near_to(type_of(f, other)->bytes_s, 900e9, 1);
}

static void test_make_probe_of_nothing_is_no_zero(void **state)
{
    struct fixture *f = *state;
    uint32_t w = add(f, "w0", "i-a", "cpu");
    f->devices[w].bytes_s = f->devices[w].flop_s = f->devices[w].memory_bytes = 0;
    make(f); /* the fleet's check finds no number out of range */
    assert_true(type_of(f, w)->bytes_s > 0 && type_of(f, w)->memory_bytes >= 1);
}

static void test_make_nearly_equal_memory_is_one_type(void **state)
{
    struct fixture *f = *state;
    uint32_t a = add(f, "w0", "i-a", "cpu"), b = add(f, "w1", "i-b", "cpu"), c = add(f, "w2", "i-c", "cpu");
    f->devices[a].memory_bytes = 64 * GB;
    f->devices[b].memory_bytes = 64 * GB + 4096;
    f->devices[c].memory_bytes = 48 * GB;
    make(f);
    assert_int_equal(device_of(f, a)->type, device_of(f, b)->type);
    assert_int_not_equal(device_of(f, a)->type, device_of(f, c)->type);
    assert_true(type_of(f, a)->memory_bytes <= 64 * GB && type_of(f, a)->memory_bytes > 63 * GB);
}

static void test_make_doomed_worker_leaves_its_neighbours_usable(void **state)
{
    struct fixture *f = *state;
    uint32_t a = add(f, "w0", "i-a", "cpu"), b = add(f, "w1", "i-a", "cpu");
    f->workers[a].state = "doomed";
    f->workers[a].deadline_us = NOW_US + 3000000;
    make(f);
    const struct gw_plan_instance *in = f->fleet.plan.instances;
    near_to(in[device_of(f, a)->instance].doomed_at_s, 3, 1e-6);
    near_to(in[device_of(f, b)->instance].doomed_at_s, 0, 0);
    f->workers[a].deadline_us = NOW_US - 3000000; /* late: doomed all the same */
    make(f);
    assert_true(f->fleet.plan.instances[device_of(f, a)->instance].doomed_at_s > 0);
}

static void test_make_cells_are_those_of_what_serves(void **state)
{
    struct fixture *f = *state;
    uint32_t a = add(f, "w0", "i-a", "cpu"), b = add(f, "w1", "i-b", "cpu"), c = add(f, "w2", "i-c", "cpu");
    f->pipelines[0] = (struct gw_core_pipeline_view){.pipeline = 9, .state = "forming", .ranks_len = 2};
    f->pipelines[0].ranks[0] = (struct gw_core_rank_view){.link = a + 1, .cells = {0, 4, 0, 2}};
    f->pipelines[0].ranks[1] = (struct gw_core_rank_view){.link = b + 1, .cells = {0, 4, 2, 4}};
    f->pipelines[1] = (struct gw_core_pipeline_view){.pipeline = 5, .state = "serving", .ranks_len = 1};
    f->pipelines[1].ranks[0] = (struct gw_core_rank_view){.link = a + 1, .cells = {0, 4, 0, 4}};
    f->seen.pipelines_len = 2;
    f->devices[c].holds = (struct gw_cell_rect){1, 2, 0, 1};
    make(f);
    assert_int_equal(device_of(f, a)->pipeline, 5);
    assert_true(gw_rect_equal(device_of(f, a)->holds, (struct gw_cell_rect){0, 4, 0, 4}));
    assert_int_equal(device_of(f, b)->pipeline, 9);
    assert_int_equal(device_of(f, c)->pipeline, GW_PLAN_NONE);
    assert_true(gw_rect_equal(device_of(f, c)->holds, (struct gw_cell_rect){1, 2, 0, 1}));
}

static void test_make_cells_beyond_the_model_are_dropped(void **state)
{
    struct fixture *f = *state;
    uint32_t a = add(f, "w0", "i-a", "cpu");
    f->devices[a].holds = (struct gw_cell_rect){0, 5, 0, 4};
    make(f);
    assert_true(gw_rect_empty(device_of(f, a)->holds));
}

static void test_make_one_machine_has_fast_links(void **state)
{
    struct fixture *f = *state;
    uint32_t a = add(f, "w0", "i-a", "cpu"), b = add(f, "w1", "i-b", "cpu");
    make(f);
    near_to(f->fleet.plan.instances[0].inter.bytes_s, GW_LINK_NETWORK_BYTES_S, 0);
    memset(f->devices[a].machine, 7, GW_MACHINE_BYTES);
    memset(f->devices[b].machine, 7, GW_MACHINE_BYTES);
    make(f);
    near_to(f->fleet.plan.instances[1].inter.bytes_s, GW_LINK_MACHINE_BYTES_S, 0);
    memset(f->devices[a].machine, 0, GW_MACHINE_BYTES); /* both unknown: not the same */
    memset(f->devices[b].machine, 0, GW_MACHINE_BYTES);
    make(f);
    near_to(f->fleet.plan.instances[1].inter.bytes_s, GW_LINK_NETWORK_BYTES_S, 0);
}

static void test_make_too_many_kinds_are_left_out(void **state)
{
    struct fixture *f = *state;
    for (uint32_t i = 0; i < GW_PLAN_TYPES_MAX + 2; i++) {
        char name[16];
        snprintf(name, sizeof name, "k%02u", i);
        add(f, name, name, name);
    }
    make(f);
    assert_int_equal(f->fleet.plan.devices_len, GW_PLAN_TYPES_MAX);
    assert_int_equal(f->fleet.whys[GW_PLAN_TYPES_MAX], GW_WHY_KINDS);
    assert_int_equal(f->fleet.whys[0], GW_WHY_PLACED);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_make_workers_of_an_instance_lie_together),
        TEST(test_make_bytes_between_zones_cost_what_is_said),
        TEST(test_make_protocol_1_is_not_planned),
        TEST(test_make_rates_are_medians_of_the_kind),
        TEST(test_make_probe_of_nothing_is_no_zero),
        TEST(test_make_nearly_equal_memory_is_one_type),
        TEST(test_make_doomed_worker_leaves_its_neighbours_usable),
        TEST(test_make_cells_are_those_of_what_serves),
        TEST(test_make_cells_beyond_the_model_are_dropped),
        TEST(test_make_one_machine_has_fast_links),
        TEST(test_make_too_many_kinds_are_left_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
