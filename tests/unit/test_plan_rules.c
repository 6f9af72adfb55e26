/* controller/plan: devices of several numerics profiles, and devices that must be apart. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "controller/plan/mapping.h"
#include "controller/plan/planner.h"
#include "controller/plan/search.h"
#include "tests/lib/plan_fixture.h"

#define OTHER 3 /* the type that has the other profile */

struct ground {
    struct plan_fleet *p;
    struct gw_plan_model m;
    struct gw_plan_load load;
    struct gw_planner_options options;
    struct gw_plan_input in;
};

static void set_up(struct ground *g, double rps)
{
    g->p = plan_fleet_create(3, 128);
    g->p->types[OTHER].profile = 1;
    g->m = plan_model_8b();
    g->load = plan_load(rps);
    g->options = (struct gw_planner_options){0};
    g->in = (struct gw_plan_input){&g->p->f, &g->m, &g->load};
}

static struct gw_plan run(struct ground *g)
{
    struct gw_plan plan;
    struct gw_err_ctx ctx = {0};
    if (gw_planner_run(&g->in, &g->options, &plan, &ctx) != GW_OK) fail_msg("%s", ctx.text);
    if (gw_layout_check(&plan.layout, &g->p->f, &g->m, &ctx) != GW_OK) fail_msg("%s", ctx.text);
    return plan;
}

/* Pipelines of a profile. */
static uint32_t serve(const struct ground *g, const struct gw_layout *l, uint32_t profile)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < l->ranks_len; i++)
        n += (i == 0 || l->ranks[i].pipeline != l->ranks[i - 1].pipeline) &&
             g->p->types[g->p->f.devices[l->ranks[i].device].type].profile == profile;
    return n;
}

/* One instance whose devices are of two profiles in turn. */
static void add_mixed(struct ground *g, uint32_t devices)
{
    uint32_t at = plan_add(g->p, 0, devices, 0);
    for (uint32_t d = 1; d < devices; d += 2)
        g->p->f.devices[g->p->f.instances[at].first_device + d].type = OTHER;
}

static void test_planner_one_instance_of_two_profiles_uses_both(void **state)
{
    (void)state;
    for (uint32_t devices = 2; devices <= 16; devices += 2) {
        struct ground g;
        set_up(&g, 1000);
        add_mixed(&g, devices);
        g.p->types[OTHER].memory_bytes = devices < 8 ? 75 * GB : 15 * GB; /* … of which it takes two */
        struct gw_plan plan = run(&g);
        assert_int_equal(plan.verdict, GW_VERDICT_MOVE);
        assert_true(serve(&g, &plan.layout, 0) > 0);
        assert_true(serve(&g, &plan.layout, 1) > 0);
        gw_plan_fini(&plan);
        plan_fleet_destroy(g.p);
    }
}

static void test_planner_two_mixed_instances_share_the_devices_of_a_profile(void **state)
{
    (void)state;
    struct ground g;
    set_up(&g, 1000);
    add_mixed(&g, 8);
    add_mixed(&g, 8);
    g.load.profiles = 3;
    g.p->types[OTHER].memory_bytes = 5 * GB; /* eight together hold the 16 GB and some KV */
    g.load.prompt_p99 = g.load.prompt_mean;
    struct gw_plan plan = run(&g);
    assert_true(serve(&g, &plan.layout, 0) > 0);
    assert_int_equal(serve(&g, &plan.layout, 1), 1);
    gw_plan_fini(&plan);
    plan_fleet_destroy(g.p);
}

/* Slow devices of another profile only make the P99 worse; for requests that need them they are used all the same. */
static void test_planner_profile_of_the_load_is_served(void **state)
{
    (void)state;
    for (uint32_t instances = 1; instances <= 8; instances *= 2) {
        struct ground g;
        set_up(&g, 0.1);
        for (uint32_t i = 0; i < instances; i++) plan_add(g.p, 0, 4, 0);
        plan_add(g.p, OTHER, 2, 1);
        struct gw_plan plan = run(&g);
        assert_int_equal(serve(&g, &plan.layout, 1), 0);
        gw_plan_fini(&plan);
        g.load.profiles = 3;
        plan = run(&g);
        assert_true(serve(&g, &plan.layout, 0) > 0);
        assert_true(serve(&g, &plan.layout, 1) > 0);
        assert_int_equal(plan.score.unserved, 0);
        gw_plan_fini(&plan);
        plan_fleet_destroy(g.p);
    }
}

static void test_planner_profile_over_two_zones_is_served(void **state)
{
    (void)state;
    struct ground g;
    set_up(&g, 0.1);
    for (uint32_t i = 0; i < 4; i++) plan_add(g.p, 0, 4, 0);
    g.p->types[OTHER].memory_bytes = 14 * GB; /* one of the two is too small */
    plan_add(g.p, OTHER, 1, 1);
    plan_add(g.p, OTHER, 1, 2);
    g.load.profiles = 2;
    struct gw_plan plan = run(&g);
    assert_int_equal(serve(&g, &plan.layout, 1), 1);
    gw_plan_fini(&plan);
    plan_fleet_destroy(g.p);
}

/* What serves has requests of its profile: they go on elsewhere when its instance is doomed. */
static void test_planner_profile_of_a_doomed_pipeline_is_served_on(void **state)
{
    (void)state;
    struct ground g;
    set_up(&g, 0.1);
    for (uint32_t i = 0; i < 3; i++) plan_add(g.p, 0, 4, 0);
    plan_add(g.p, OTHER, 2, 0);
    plan_add(g.p, OTHER, 2, 1);
    g.load.profiles = 3;
    struct gw_plan plan = run(&g), then;
    struct gw_err_ctx ctx = {0};
    uint32_t used = plan.layout.ranks[plan.layout.ranks_len - 1].device;
    for (uint32_t i = 0; i < plan.layout.ranks_len; i++)
        if (g.p->f.devices[plan.layout.ranks[i].device].type == OTHER) used = plan.layout.ranks[i].device;
    g.load.profiles = 0;
    for (int notice = 0; notice <= 1; notice++) {
        assert_int_equal(gw_planner_loss(&g.in, &g.options, &plan, g.p->f.devices[used].instance,
                                         notice ? 60 : 0, &then, &ctx),
                         GW_OK);
        assert_true(serve(&g, &then.layout, 0) > 0);
        assert_true(serve(&g, &then.layout, 1) > 0);
        gw_plan_fini(&then);
    }
    gw_plan_fini(&plan);
    plan_fleet_destroy(g.p);
}

static void test_planner_profile_with_too_few_devices_is_left(void **state)
{
    (void)state;
    struct ground g;
    set_up(&g, 0.1);
    for (uint32_t i = 0; i < 4; i++) plan_add(g.p, 0, 4, 0);
    g.p->types[OTHER].memory_bytes = 4 * GB;
    plan_add(g.p, OTHER, 2, 0);
    g.load.profiles = 3;
    struct gw_plan plan = run(&g);
    assert_true(serve(&g, &plan.layout, 0) > 0);
    assert_int_equal(plan.score.unserved, 1);
    assert_true(plan.headroom_kept);
    gw_plan_fini(&plan);
    plan_fleet_destroy(g.p);
}

/* ---- apart ---- */

static void keep_apart(struct gw_plan_fleet *f, uint32_t a, uint32_t b)
{
    f->apart[f->apart_len++] = (struct gw_plan_pair){a, b};
}

/* Two devices that hold the model only together: with them apart nothing can serve. */
static void test_planner_pair_that_is_needed_together_waits(void **state)
{
    (void)state;
    struct gw_plan_pair apart[1];
    struct ground g;
    set_up(&g, 0.1);
    plan_add(g.p, OTHER, 1, 0);
    plan_add(g.p, OTHER, 1, 0);
    g.p->types[OTHER].memory_bytes = 14 * GB;
    struct gw_plan plan = run(&g);
    assert_int_equal(plan.verdict, GW_VERDICT_MOVE);
    plan_hold(g.p, &plan.layout, 0);
    gw_plan_fini(&plan);
    g.p->f.apart = apart;
    keep_apart(&g.p->f, 1, 0);
    plan = run(&g); /* it serves now, and is no layout any more */
    assert_int_equal(plan.verdict, GW_VERDICT_NO_FIT);
    assert_int_equal(plan.current.pipelines, 0);
    assert_false(plan.wish.impossible);
    gw_plan_fini(&plan);
    plan_fleet_destroy(g.p);
}

static void test_layout_check_pair_in_one_pipeline_is_refused(void **state)
{
    (void)state;
    struct gw_plan_pair apart[2];
    struct gw_err_ctx ctx = {0};
    struct ground g;
    set_up(&g, 0.1);
    plan_add(g.p, 0, 2, 0);
    struct gw_layout_rank ranks[] = {{0, 0, 0, {0, 8, 0, 4}}, {1, 0, 0, {0, 8, 4, 8}}};
    struct gw_layout l = {ranks, 2, 1};
    assert_int_equal(gw_layout_check(&l, &g.p->f, &g.m, &ctx), GW_OK);
    g.p->f.apart = apart;
    keep_apart(&g.p->f, 0, 1);
    assert_int_equal(gw_layout_check(&l, &g.p->f, &g.m, &ctx), GW_ERR_INPUT);
    assert_non_null(strstr(ctx.text, "apart"));
    assert_int_equal(gw_plan_fleet_check(&g.p->f, &g.m, &ctx), GW_OK);
    keep_apart(&g.p->f, 0, 2);
    gw_err_reset(&ctx);
    assert_int_equal(gw_plan_fleet_check(&g.p->f, &g.m, &ctx), GW_ERR_INPUT);
    plan_fleet_destroy(g.p);
}

/* Fleets of any size, some pairs apart: no pipeline has both, before and after the mapping (gw_layout_check asks). */
static void check_pairs(uint64_t seed)
{
    struct gw_plan_pair apart[GW_PLAN_APART_MAX];
    struct gw_rng r;
    struct ground g;
    gw_rng_init(&r, seed);
    set_up(&g, 300 * gw_rng_unit(&r));
    plan_fill(g.p, &r, 2 + (uint32_t)gw_rng_below(&r, 60), PLAN_TYPES, 8);
    struct gw_plan plan = run(&g);
    plan_hold(g.p, &plan.layout, 1000000);
    g.p->f.apart = apart;
    for (uint64_t pairs = 1 + gw_rng_below(&r, 6); pairs > 0; pairs--) {
        uint32_t a = (uint32_t)gw_rng_below(&r, g.p->f.devices_len);
        uint32_t b = (uint32_t)gw_rng_below(&r, g.p->f.devices_len);
        /* half of them inside what serves now */
        if (gw_rng_below(&r, 2) && plan.layout.ranks_len > 1) {
            uint64_t i = gw_rng_below(&r, plan.layout.ranks_len - 1);
            a = plan.layout.ranks[i].device;
            b = plan.layout.ranks[i + 1].device;
        }
        if (a != b) keep_apart(&g.p->f, a, b);
    }
    struct gw_plan then = run(&g);
    assert_int_equal(gw_layout_check(&then.runner_up, &g.p->f, &g.m, NULL), GW_OK);
    gw_plan_fini(&then);
    gw_plan_fini(&plan);
    plan_fleet_destroy(g.p);
}

static void test_planner_random_fleets_keep_pairs_apart(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 60; seed++) check_pairs(seed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_planner_one_instance_of_two_profiles_uses_both),
        cmocka_unit_test(test_planner_two_mixed_instances_share_the_devices_of_a_profile),
        cmocka_unit_test(test_planner_profile_of_the_load_is_served),
        cmocka_unit_test(test_planner_profile_over_two_zones_is_served),
        cmocka_unit_test(test_planner_profile_of_a_doomed_pipeline_is_served_on),
        cmocka_unit_test(test_planner_profile_with_too_few_devices_is_left),
        cmocka_unit_test(test_planner_pair_that_is_needed_together_waits),
        cmocka_unit_test(test_layout_check_pair_in_one_pipeline_is_refused),
        cmocka_unit_test(test_planner_random_fleets_keep_pairs_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
