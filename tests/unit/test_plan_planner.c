/* controller/plan/planner, cost and wish: when it moves, when it keeps, what it wishes, what a loss does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>

#include "controller/plan/planner.h"
#include "tests/lib/plan_fixture.h"

struct ground {
    struct plan_fleet *p;
    struct gw_plan_model m;
    struct gw_plan_load load;
    struct gw_planner_options options;
    struct gw_plan_input in;
};

static void set_up(struct ground *g, uint32_t instances, double rps)
{
    g->p = plan_fleet_create(2, 256);
    g->m = plan_model_70b();
    g->load = plan_load(rps);
    g->options = (struct gw_planner_options){0};
    g->in = (struct gw_plan_input){&g->p->f, &g->m, &g->load};
    for (uint32_t i = 0; i < instances; i++) plan_add(g->p, 0, 4, 0);
}

static struct gw_plan run(struct ground *g)
{
    struct gw_plan plan;
    struct gw_err_ctx ctx = {0};
    if (gw_planner_run(&g->in, &g->options, &plan, &ctx) != GW_OK) fail_msg("%s", ctx.text);
    assert_int_equal(gw_layout_check(&plan.layout, &g->p->f, &g->m, NULL), GW_OK);
    return plan;
}

/* Plans, and lets the fleet serve that. */
static void serve(struct ground *g, uint64_t kv_cell_bytes)
{
    struct gw_plan plan = run(g);
    assert_int_equal(plan.verdict, GW_VERDICT_MOVE);
    plan_hold(g->p, &plan.layout, kv_cell_bytes);
    gw_plan_fini(&plan);
}

static void test_planner_served_layout_is_kept_without_a_step(void **state)
{
    (void)state;
    struct ground g;
    set_up(&g, 8, 5);
    serve(&g, 100000000);
    struct gw_plan plan = run(&g);
    assert_int_equal(plan.verdict, GW_VERDICT_KEEP);
    assert_int_equal(plan.move.steps_len, 0);
    gw_plan_fini(&plan);
    plan_fleet_destroy(g.p);
}

/* More load: a better layout pays over ten minutes, and not over ten seconds, in which the weights are not even there. */
static void test_planner_move_must_pay_within_the_horizon(void **state)
{
    (void)state;
    struct ground g;
    set_up(&g, 8, 0.5);
    serve(&g, 100000000);
    g.load.arrival_rps = 80;
    g.p->f.store_bytes_s = 1e9;
    for (uint32_t i = 0; i < g.p->f.instances_len; i++) g.p->f.instances[i].inter.bytes_s = 2e9;
    struct gw_plan plan = run(&g);
    assert_int_equal(plan.verdict, GW_VERDICT_MOVE);
    assert_true(plan.gain > plan.loss);
    assert_true(gw_score_compare(&plan.score, &plan.current_score) > 0);
    gw_plan_fini(&plan);
    g.options.horizon_s = 10;
    plan = run(&g);
    assert_int_equal(plan.verdict, GW_VERDICT_KEEP);
    assert_int_equal(plan.move.weight_bytes, 0);
    gw_plan_fini(&plan);
    plan_fleet_destroy(g.p);
}

/* One device of each pipeline holds a shape that search finds no better than by a hair: nothing moves for a hair. */
static void test_planner_lost_pipeline_does_not_touch_the_others(void **state)
{
    (void)state;
    struct ground g;
    set_up(&g, 8, 40);
    serve(&g, 10000000);
    g.p->f.instances[2].doomed_at_s = 120;
    struct gw_plan plan = run(&g);
    assert_true(plan.current.pipelines > 0);
    assert_true(plan.move.touched <= 1);
    for (uint32_t i = 0; i < plan.layout.ranks_len; i++)
        assert_int_not_equal(g.p->f.devices[plan.layout.ranks[i].device].instance, 2);
    gw_plan_fini(&plan);
    plan_fleet_destroy(g.p);
}

static void test_planner_model_too_large_waits_and_wishes(void **state)
{
    (void)state;
    struct ground g;
    set_up(&g, 0, 2);
    plan_add(g.p, 3, 1, 0); /* 21 GB for 141 GB */
    struct gw_plan plan = run(&g);
    assert_int_equal(plan.verdict, GW_VERDICT_NO_FIT);
    assert_int_equal(plan.layout.pipelines, 0);
    assert_false(plan.wish.impossible);
    assert_true(plan.wish.instances * plan.wish.devices >= 7);
    /* the wish comes true: it serves */
    uint32_t type = plan.wish.type, devices = plan.wish.devices, count = plan.wish.instances;
    gw_plan_fini(&plan);
    for (uint32_t i = 0; i < count; i++) plan_add(g.p, type, devices, 0);
    plan = run(&g);
    assert_int_equal(plan.verdict, GW_VERDICT_MOVE);
    assert_int_equal(plan.score.promise, GW_PROMISE_SLO);
    gw_plan_fini(&plan);
    plan_fleet_destroy(g.p);
}

static void test_planner_tight_memory_gives_up_headroom_and_says_so(void **state)
{
    (void)state;
    struct ground g;
    set_up(&g, 2, 1);
    /* two instances: half of each is headroom; the model needs more than half of both */
    g.p->types[0].memory_bytes = 25 * GB;
    struct gw_plan plan = run(&g);
    assert_int_equal(plan.verdict, GW_VERDICT_MOVE);
    assert_false(plan.headroom_kept);
    gw_plan_fini(&plan);
    plan_fleet_destroy(g.p);
}

static void test_planner_loss_serves_on_or_waits(void **state)
{
    (void)state;
    struct ground g;
    set_up(&g, 6, 20);
    struct gw_plan plan = run(&g), then;
    struct gw_err_ctx ctx = {0};
    uint32_t used = g.p->f.devices[plan.layout.ranks[0].device].instance;
    assert_true(plan.layout.pipelines >= 2);
    assert_int_equal(gw_planner_loss(&g.in, &g.options, &plan, used, 0, &then, &ctx), GW_OK);
    assert_true(then.current.pipelines < plan.layout.pipelines && then.current.pipelines > 0);
    assert_true(then.layout.pipelines > 0);
    for (uint32_t i = 0; i < then.move.steps_len; i++) /* who is gone gives nothing */
        assert_true(then.move.steps[i].source == GW_PLAN_NONE ||
                    g.p->f.devices[then.move.steps[i].source].instance != used);
    gw_plan_fini(&then);
    gw_plan_fini(&plan);
    plan_fleet_destroy(g.p);
    set_up(&g, 1, 1);
    plan = run(&g);
    assert_int_equal(gw_planner_loss(&g.in, &g.options, &plan, 0, 120, &then, &ctx), GW_OK);
    assert_int_equal(then.verdict, GW_VERDICT_NO_FIT);
    gw_plan_fini(&then);
    gw_plan_fini(&plan);
    plan_fleet_destroy(g.p);
}

static void test_wish_grows_with_load_and_preemptions(void **state)
{
    (void)state;
    struct ground g;
    set_up(&g, 2, 1);
    struct gw_plan plan = run(&g);
    assert_int_equal(plan.wish.instances, 0);
    assert_false(plan.wish.on_demand);
    gw_plan_fini(&plan);
    g.load.arrival_rps = 200;
    plan = run(&g);
    uint32_t calm = plan.wish.instances * plan.wish.devices;
    double usd_h = plan.wish.usd_h;
    assert_int_equal(plan.score.promise, GW_PROMISE_NONE);
    assert_true(calm > 0);
    gw_plan_fini(&plan);
    g.options.preemptions = (struct gw_preemptions){.per_instance_h = 2, .replace_s = 600};
    plan = run(&g);
    assert_true(plan.wish.usd_h > usd_h);
    assert_true(plan.wish.on_demand);
    gw_plan_fini(&plan);
    plan_fleet_destroy(g.p);
}

static void test_planner_wrong_input_is_refused_in_words(void **state)
{
    (void)state;
    struct ground g;
    struct gw_plan plan;
    struct gw_err_ctx ctx = {0};
    set_up(&g, 1, 1);
    g.p->f.devices[1].holds = (struct gw_cell_rect){0, 99, 0, 1};
    assert_int_equal(gw_planner_run(&g.in, &g.options, &plan, &ctx), GW_ERR_INPUT);
    assert_non_null(strstr(ctx.text, "i-0"));
    g.p->f.devices[1].holds = (struct gw_cell_rect){0};
    gw_err_reset(&ctx);
    g.load.output_p99 = 0.0 / 0.0;
    assert_int_equal(gw_planner_run(&g.in, &g.options, &plan, &ctx), GW_ERR_INPUT);
    plan_fleet_destroy(g.p);
}

static void test_cost_more_bandwidth_or_less_load_is_never_slower(void **state)
{
    (void)state;
    struct ground g;
    set_up(&g, 1, 1);
    struct gw_plan plan = run(&g);
    struct gw_score base, fast, slow, corrected;
    assert_int_equal(gw_cost_layout(&g.in, 0, &plan.layout, &base), GW_OK);
    g.p->types[0].bytes_s *= 2;
    assert_int_equal(gw_cost_layout(&g.in, 0, &plan.layout, &fast), GW_OK);
    assert_true(fast.latency_p99_s < base.latency_p99_s && fast.throughput_rps >= base.throughput_rps);
    g.p->types[0].bytes_s /= 2;
    g.load.arrival_rps = base.throughput_rps * 0.9;
    assert_int_equal(gw_cost_layout(&g.in, 0, &plan.layout, &slow), GW_OK);
    assert_true(slow.latency_p99_s > base.latency_p99_s);
    g.load.arrival_rps = 1;
    g.p->types[0].decode_factor = 2;
    assert_int_equal(gw_cost_layout(&g.in, 0, &plan.layout, &corrected), GW_OK);
    assert_true(corrected.tpot_s > base.tpot_s * 1.5);
    gw_plan_fini(&plan);
    plan_fleet_destroy(g.p);
}

static void test_cost_correct_nears_what_is_measured_within_bounds(void **state)
{
    (void)state;
    double factor = 1;
    for (int i = 0; i < 200; i++) factor = gw_cost_correct(factor, 0.010, 0.013);
    assert_true(fabs(factor - 1.3) < 1e-6);
    for (int i = 0; i < 2000; i++) factor = gw_cost_correct(factor, 0.010, 100);
    assert_true(fabs(factor - 16) < 1e-9);
    assert_true(gw_cost_correct(2, 0, 1) == 2);
    assert_true(gw_cost_correct(2, 1, -1) == 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_planner_served_layout_is_kept_without_a_step),
        cmocka_unit_test(test_planner_move_must_pay_within_the_horizon),
        cmocka_unit_test(test_planner_lost_pipeline_does_not_touch_the_others),
        cmocka_unit_test(test_planner_model_too_large_waits_and_wishes),
        cmocka_unit_test(test_planner_tight_memory_gives_up_headroom_and_says_so),
        cmocka_unit_test(test_planner_loss_serves_on_or_waits),
        cmocka_unit_test(test_wish_grows_with_load_and_preemptions),
        cmocka_unit_test(test_planner_wrong_input_is_refused_in_words),
        cmocka_unit_test(test_cost_more_bandwidth_or_less_load_is_never_slower),
        cmocka_unit_test(test_cost_correct_nears_what_is_measured_within_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
