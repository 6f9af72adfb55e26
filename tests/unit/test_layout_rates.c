/* controller/layout_rates: what measured steps say of devices, and what they do not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "controller/layout_fleet.h"
#include "controller/plan/cost.h"
#include "tests/lib/plan_fixture.h"

#define WORKERS_MAX 16

struct fixture {
    struct gw_core_worker_view workers[WORKERS_MAX];
    struct gw_core_device_view devices[WORKERS_MAX];
    struct gw_core_pipeline_view pipelines[WORKERS_MAX];
    struct gw_layout_seen seen;
    struct gw_plan_model model; /* 4 groups, 4 shares */
    struct gw_rates rates;
};

/* A worker of that kind; its link is its number from 1 on. */
static uint32_t add(struct fixture *f, const char *kind)
{
    uint32_t i = (uint32_t)f->seen.workers_len++;
    assert_true(i < WORKERS_MAX);
    f->workers[i] = (struct gw_core_worker_view){.state = "up"};
    f->devices[i] = (struct gw_core_device_view){
        .link = i + 1, .proto = 3, .memory_bytes = 32 * GB, .bytes_s = 20 * GB, .flop_s = 500 * GB};
    snprintf(f->workers[i].worker, sizeof f->workers[i].worker, "w%u", i);
    snprintf(f->workers[i].instance, sizeof f->workers[i].instance, "i-%u", i);
    snprintf(f->workers[i].profile, sizeof f->workers[i].profile, "cpu-1");
    snprintf(f->devices[i].device, sizeof f->devices[i].device, "%s", kind);
    return i;
}

/* One stage over the given workers, the first of whom leads. */
static struct gw_core_pipeline_view *serve(struct fixture *f, uint32_t first, uint32_t n)
{
    struct gw_core_pipeline_view *p = &f->pipelines[f->seen.pipelines_len++];
    *p = (struct gw_core_pipeline_view){.pipeline = first, .state = "serving", .ranks_len = n};
    for (uint32_t i = 0; i < n; i++) {
        p->ranks[i].link = first + i + 1;
        p->ranks[i].cells =
            (struct gw_cell_rect){0, (uint16_t)f->model.groups, (uint16_t)(f->model.shares * i / n),
                                  (uint16_t)(f->model.shares * (i + 1) / n)};
    }
    return p;
}

/* The model's time of that batch on the pipeline that the worker leads. */
static struct gw_step_time predicted(struct fixture *f, uint32_t leader, uint32_t n, double rows,
                                     double sequences, double kv)
{
    struct gw_layout_fleet fleet;
    struct gw_layout_rank ranks[WORKERS_MAX];
    const struct gw_step_batch batch = {rows, sequences, kv};
    assert_int_equal(gw_layout_fleet_make(&f->seen, &f->model, &fleet), GW_OK);
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t d = 0; d < fleet.plan.devices_len; d++)
            if (fleet.worker_of[d] == leader + i)
                ranks[i] = (struct gw_layout_rank){.device = d,
                                                   .cells = {0, (uint16_t)f->model.groups,
                                                             (uint16_t)(f->model.shares * i / n),
                                                             (uint16_t)(f->model.shares * (i + 1) / n)}};
    const struct gw_plan_input in = {&fleet.plan, &f->model, NULL};
    struct gw_step_time t = gw_cost_step(&in, ranks, n, &batch);
    gw_layout_fleet_fini(&fleet);
    return t;
}

/* The leader says that a step of that batch took `times` as long as its ranks were predicted to. */
static void measure(struct fixture *f, uint32_t leader, uint32_t n, double times, uint32_t rows,
                    uint32_t sequences, uint64_t kv)
{
    struct gw_step_time t = predicted(f, leader, n, rows, sequences, (double)kv);
    struct gw_msg_heartbeat *h = &f->workers[leader].last;
    h->steps++;
    h->step_us = (uint64_t)lround((times * t.ranks_s + t.exchange_s) * 1e6);
    h->step_rows = rows;
    h->step_sequences = sequences;
    h->step_kv_tokens = kv;
}

static void look(struct fixture *f)
{
    assert_int_equal(gw_rates_look(&f->rates, &f->seen, &f->model), GW_OK);
}

static double decode(const struct fixture *f, const char *kind)
{
    double d, p;
    gw_rates_factors(&f->rates, kind, "cpu-1", &d, &p);
    return d;
}

static double prefill(const struct fixture *f, const char *kind)
{
    double d, p;
    gw_rates_factors(&f->rates, kind, "cpu-1", &d, &p);
    return p;
}

static void assert_near(double got, double expected)
{
    if (fabs(got - expected) > 0.02 * expected) fail_msg("%g, but %g was expected", got, expected);
}

static int set_up(void **state)
{
    static struct fixture f;
    memset(&f, 0, sizeof f);
    f.model = plan_model_small();
    f.seen = (struct gw_layout_seen){.workers = f.workers, .devices = f.devices, .pipelines = f.pipelines};
    *state = &f;
    return 0;
}

static void test_look_decode_steps_move_the_decode_factor(void **state)
{
    struct fixture *f = *state;
    uint32_t w = add(f, "cpu");
    serve(f, w, 1);
    assert_near(decode(f, "cpu"), 1);
    measure(f, w, 1, 3, 8, 8, 8000);
    look(f);
    assert_near(decode(f, "cpu"), 1 + 2.0 / 8);
    for (int i = 0; i < 60; i++) {
        measure(f, w, 1, 3, 8, 8, 8000);
        look(f);
    }
    assert_near(decode(f, "cpu"), 3);
    assert_near(prefill(f, "cpu"), 1);
    assert_near(decode(f, "another"), 1);
}

static void test_look_prefill_steps_move_the_prefill_factor(void **state)
{
    struct fixture *f = *state;
    uint32_t w = add(f, "cpu");
    serve(f, w, 1);
    for (int i = 0; i < 60; i++) {
        measure(f, w, 1, 0.5, 512, 1, 512 * 256);
        look(f);
    }
    assert_near(prefill(f, "cpu"), 0.5);
    assert_near(decode(f, "cpu"), 1);
    measure(f, w, 1, 9, 20, 10, 1000); /* half and half says nothing */
    look(f);
    assert_near(prefill(f, "cpu"), 0.5);
    assert_near(decode(f, "cpu"), 1);
}

static void test_look_a_step_counts_once(void **state)
{
    struct fixture *f = *state;
    uint32_t w = add(f, "cpu");
    serve(f, w, 1);
    measure(f, w, 1, 3, 8, 8, 8000);
    look(f);
    double once = decode(f, "cpu");
    look(f);
    assert_true(decode(f, "cpu") == once);
}

static void test_look_one_slow_worker_or_step_changes_nothing(void **state)
{
    struct fixture *f = *state;
    for (uint32_t i = 0; i < 5; i++) serve(f, add(f, "cpu"), 1);
    for (int round = 0; round < 40; round++) {
        for (uint32_t i = 0; i < 5; i++) measure(f, i, 1, i == 4 ? 20 : round % 5 == 4 ? 10 : 2, 4, 4, 400);
        look(f);
    }
    assert_near(decode(f, "cpu"), 2);
}

static void test_look_nonsense_is_ignored(void **state)
{
    struct fixture *f = *state;
    uint32_t w = add(f, "cpu");
    serve(f, w, 1);
    const struct gw_msg_heartbeat wrong[] = {
        {.steps = 1, .step_us = 5000},                                               /* no batch */
        {.steps = 2, .step_us = 0, .step_rows = 8, .step_sequences = 8},             /* no time */
        {.steps = 3, .step_us = 1, .step_rows = 8, .step_sequences = 8},             /* faster than any */
        {.steps = 4, .step_us = UINT64_MAX, .step_rows = 8, .step_sequences = 8},    /* for ever */
        {.steps = 5, .step_us = 5000, .step_rows = UINT32_MAX, .step_sequences = 1}, /* no such batch */
        {.steps = 6, .step_us = 5000, .step_rows = 8, .step_sequences = 9},          /* nor such */
        {.steps = 7, .step_us = 5000, .step_rows = 8, .step_sequences = 0},
        {.steps = 8, .step_us = 5000, .step_rows = 8, .step_sequences = 8, .step_kv_tokens = UINT64_MAX},
        {.steps = 9, .step_us = 59999999, .step_rows = 1, .step_sequences = 1}, /* 64 times off, and more */
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        f->workers[w].last = wrong[i];
        look(f);
        assert_true(decode(f, "cpu") == 1 && prefill(f, "cpu") == 1);
    }
    f->workers[w].last.steps = 10;
    measure(f, w, 1, 2, 8, 8, 800);
    look(f);
    assert_true(decode(f, "cpu") > 1);
}

static void test_look_only_serving_pipelines_of_one_kind(void **state)
{
    struct fixture *f = *state;
    uint32_t a = add(f, "cpu"), b = add(f, "cpu"), c = add(f, "slow");
    struct gw_core_pipeline_view *p = serve(f, a, 1);
    serve(f, b, 2); /* "cpu" leads "slow" */
    p->state = "draining";
    measure(f, a, 1, 3, 8, 8, 800);
    measure(f, b, 2, 3, 8, 8, 800);
    look(f);
    assert_true(decode(f, "cpu") == 1 && decode(f, "slow") == 1);
    (void)c;
}

/* What ranks lose on each other is not the device's. */
static void test_look_pipelines_of_fewest_ranks_speak_for_the_kind(void **state)
{
    struct fixture *f = *state;
    for (uint32_t i = 0; i < 7; i++) add(f, "cpu");
    serve(f, 0, 2);
    serve(f, 2, 2);
    serve(f, 4, 2);
    serve(f, 6, 1);
    for (int round = 0; round < 60; round++) {
        for (uint32_t i = 0; i < 6; i += 2) measure(f, i, 2, 5, 8, 8, 800);
        measure(f, 6, 1, 2, 8, 8, 800);
        look(f);
    }
    assert_near(decode(f, "cpu"), 2);
}

static void test_look_factor_stays_within_its_bounds(void **state)
{
    struct fixture *f = *state;
    uint32_t w = add(f, "cpu");
    serve(f, w, 1);
    for (int i = 0; i < 200; i++) {
        measure(f, w, 1, 60, 8, 8, 8000);
        look(f);
    }
    assert_near(decode(f, "cpu"), 16);
}

static void test_look_more_kinds_than_there_is_room_for_are_left_out(void **state)
{
    struct fixture *f = *state;
    uint32_t w = add(f, "cpu");
    serve(f, w, 1);
    for (int i = 0; i < GW_RATES_KINDS_MAX + 4; i++) {
        snprintf(f->devices[w].device, sizeof f->devices[w].device, "cpu %d", i);
        measure(f, w, 1, 3, 8, 8, 8000);
        look(f);
    }
    assert_int_equal(f->rates.kinds_len, GW_RATES_KINDS_MAX);
    assert_true(decode(f, "cpu 31") > 1);
    assert_true(decode(f, "cpu 32") == 1);
}

static void test_changed_by_a_third(void **state)
{
    struct fixture *f = *state;
    uint32_t w = add(f, "cpu");
    serve(f, w, 1);
    struct gw_rates before = f->rates;
    measure(f, w, 1, 3, 8, 8, 8000);
    look(f);
    assert_false(gw_rates_changed(&before, &f->rates)); /* 1.25 */
    measure(f, w, 1, 3, 8, 8, 8000);
    look(f);
    assert_true(gw_rates_changed(&before, &f->rates));
    before = f->rates;
    assert_false(gw_rates_changed(&before, &f->rates));
}

static void test_fleet_has_the_factors(void **state)
{
    struct fixture *f = *state;
    struct gw_layout_fleet fleet;
    uint32_t w = add(f, "cpu");
    add(f, "other");
    serve(f, w, 1);
    for (int i = 0; i < 60; i++) {
        measure(f, w, 1, 3, 8, 8, 8000);
        look(f);
    }
    f->seen.rates = &f->rates;
    assert_int_equal(gw_layout_fleet_make(&f->seen, &f->model, &fleet), GW_OK);
    for (uint32_t t = 0; t < fleet.plan.types_len; t++)
        assert_near(fleet.plan.types[t].decode_factor, strcmp(fleet.plan.types[t].name, "cpu") == 0 ? 3 : 1);
    gw_layout_fleet_fini(&fleet);
}

/* The time of a step is what layouts are costed by: one token of a mean context, and a mean prompt of one chunk. */
static void test_step_takes_what_the_plan_says(void **state)
{
    struct fixture *f = *state;
    struct gw_layout_fleet fleet;
    struct gw_pipe_cost cost;
    const struct gw_plan_load load = plan_load(1);
    for (int i = 0; i < 4; i++) add(f, "cpu");
    assert_int_equal(gw_layout_fleet_make(&f->seen, &f->model, &fleet), GW_OK);
    const struct gw_plan_input in = {&fleet.plan, &f->model, &load};
    const uint16_t g = (uint16_t)f->model.groups, s = (uint16_t)f->model.shares;
    const struct gw_layout_rank shapes[][4] = {
        {{.cells = {0, g, 0, s}}},
        {{.cells = {0, g, 0, s / 2}}, {.device = 1, .cells = {0, g, s / 2, s}}},
        {{.cells = {0, 1, 0, s}}, {.device = 1, .stage = 1, .cells = {1, g, 0, s}}}};
    for (uint32_t i = 0; i < 3; i++) {
        uint32_t n = i == 0 ? 1 : 2;
        double context = load.prompt_mean + load.output_mean / 2, prompt = load.prompt_mean;
        const struct gw_step_batch token = {1, 1, context}, chunk = {prompt, 1, prompt * prompt / 2};
        assert_true(gw_cost_pipeline(&in, 0, shapes[i], n, &cost));
        struct gw_step_time t = gw_cost_step(&in, shapes[i], n, &token);
        assert_near(t.ranks_s + t.exchange_s, cost.cycle_s[0]);
        assert_true((t.exchange_s > 0) == (n > 1));
        if (i == 2) continue; /* of two stages the slower one counts for prompts in a row */
        t = gw_cost_step(&in, shapes[i], n, &chunk);
        assert_near(t.ranks_s + t.exchange_s, cost.prefill_work_s);
    }
    gw_layout_fleet_fini(&fleet);
}

#define TEST(name) cmocka_unit_test_setup(name, set_up)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_look_decode_steps_move_the_decode_factor),
        TEST(test_look_prefill_steps_move_the_prefill_factor),
        TEST(test_look_a_step_counts_once),
        TEST(test_look_one_slow_worker_or_step_changes_nothing),
        TEST(test_look_nonsense_is_ignored),
        TEST(test_look_only_serving_pipelines_of_one_kind),
        TEST(test_look_pipelines_of_fewest_ranks_speak_for_the_kind),
        TEST(test_look_factor_stays_within_its_bounds),
        TEST(test_look_more_kinds_than_there_is_room_for_are_left_out),
        TEST(test_changed_by_a_third),
        TEST(test_fleet_has_the_factors),
        TEST(test_step_takes_what_the_plan_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
