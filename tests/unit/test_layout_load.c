/* controller/layout_load: what is measured of the load, what fades, and what counts as a change. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>

#include "base/clock.h"
#include "controller/layout_load.h"

#define S       GW_US_PER_S
#define CONTEXT 8192

static void near_to(double got, double expected, double within)
{
    if (!(fabs(got - expected) <= within)) fail_msg("%g, but %g was expected", got, expected);
}

/* One request of that length, arriving and ending at once. */
static void serve(struct gw_load *l, uint64_t id, uint32_t prompt, uint32_t output, int64_t now_us)
{
    gw_load_arrived(l, id, 1, prompt, now_us);
    gw_load_tokens(l, id, output, now_us);
    gw_load_ended(l, id, true, now_us);
}

static struct gw_plan_load read_at(struct gw_load *l, int64_t now_us)
{
    struct gw_plan_load load = {0};
    gw_load_read(l, now_us, &load);
    assert_int_equal(gw_plan_load_check(&load, NULL), GW_OK);
    return load;
}

static void test_read_nothing_measured_gives_the_prior(void **state)
{
    (void)state;
    struct gw_load l;
    gw_load_init(&l, CONTEXT, 0);
    struct gw_plan_load load = read_at(&l, 0);
    near_to(load.arrival_rps, GW_LOAD_PRIOR_RPS, 1e-9);
    near_to(load.prompt_mean, GW_LOAD_PRIOR_PROMPT, 1e-9);
    near_to(load.output_p99, GW_LOAD_PRIOR_OUTPUT * GW_LOAD_PRIOR_P99, 1e-9);
    near_to(gw_load_rps(&l, 0), 0, 0);
    near_to(gw_load_tokens_s(&l, 0), 0, 0);
    gw_load_fini(&l);
}

static void test_read_small_context_bounds_lengths(void **state)
{
    (void)state;
    struct gw_load l;
    gw_load_init(&l, 100, 0);
    struct gw_plan_load load = read_at(&l, 0);
    assert_true(load.prompt_mean <= 100 && load.output_p99 <= 100 && load.prompt_p99 <= 100);
    gw_load_fini(&l);
}

static void test_read_steady_load_is_found(void **state)
{
    (void)state;
    struct gw_load l;
    int64_t now_us = 0;
    gw_load_init(&l, CONTEXT, 0);
    for (uint64_t i = 1; i <= 1000; i++, now_us += S / 5) /* 5 a second, one in 50 is long */
        serve(&l, i, i % 50 == 0 ? 2000 : 100, 40, now_us);
    struct gw_plan_load load = read_at(&l, now_us);
    near_to(load.arrival_rps, 5, 0.5);
    near_to(gw_load_rps(&l, now_us), 5, 0.1);
    near_to(load.prompt_mean, 138, 8);
    assert_true(load.prompt_p99 >= 2000 && load.prompt_p99 <= 2000 * 1.42);
    near_to(load.output_mean, 40, 6);
    assert_true(load.output_p99 >= 40 && load.output_p99 <= 40 * 1.42);
    near_to(gw_load_tokens_s(&l, now_us), 200, 10);
    gw_load_fini(&l);
}

static void test_read_old_load_is_forgotten(void **state)
{
    (void)state;
    struct gw_load l;
    int64_t window_us = (int64_t)GW_LOAD_SLOTS * GW_LOAD_SLOT_S * S;
    gw_load_init(&l, CONTEXT, 0);
    for (uint64_t i = 1; i <= 500; i++) serve(&l, i, 3000, 500, 0);
    assert_true(read_at(&l, S).prompt_mean > 2000);
    assert_true(read_at(&l, window_us - S).prompt_mean > 2000);
    struct gw_plan_load load = read_at(&l, window_us + 11 * S);
    near_to(load.prompt_mean, GW_LOAD_PRIOR_PROMPT, 1e-9);
    near_to(gw_load_rps(&l, window_us + 11 * S), 0, 0);
    near_to(read_at(&l, 1000 * window_us).prompt_mean, GW_LOAD_PRIOR_PROMPT, 1e-9);
    gw_load_fini(&l);
}

static void test_ended_cancelled_and_unknown_requests_do_not_count(void **state)
{
    (void)state;
    struct gw_load l;
    gw_load_init(&l, CONTEXT, 0);
    for (uint64_t i = 1; i <= 200; i++) {
        gw_load_arrived(&l, i, 1, 10, S);
        gw_load_tokens(&l, i, 4000, S);
        gw_load_ended(&l, i, false, S);
        gw_load_ended(&l, i, true, S);
        gw_load_tokens(&l, i, 4000, S);
    }
    near_to(read_at(&l, 2 * S).output_mean, GW_LOAD_PRIOR_OUTPUT, 1e-9);
    gw_load_arrived(&l, 7, 1, 10, S); /* still live at the end: fini frees it */
    gw_load_fini(&l);
}

static void test_arrived_branches_count_one_each(void **state)
{
    (void)state;
    struct gw_load l;
    gw_load_init(&l, CONTEXT, 0);
    for (uint64_t i = 1; i <= 100; i++) {
        gw_load_arrived(&l, i, 4, 50, S);
        gw_load_tokens(&l, i, 400, S);
        gw_load_ended(&l, i, true, S);
    }
    struct gw_plan_load load = read_at(&l, 10 * S);
    near_to(gw_load_rps(&l, 10 * S), 40, 1);
    near_to(load.output_mean, 100, 10);
    gw_load_fini(&l);
}

static void test_changed_needs_a_factor(void **state)
{
    (void)state;
    struct gw_plan_load a = {.arrival_rps = 1, .prompt_mean = 100, .output_mean = 100}, b = a;
    assert_false(gw_load_changed(&a, &b));
    b.arrival_rps = 1.25;
    assert_false(gw_load_changed(&a, &b));
    b.arrival_rps = 1.35;
    assert_true(gw_load_changed(&a, &b) && gw_load_changed(&b, &a));
    b = a;
    b.output_mean = 70;
    assert_true(gw_load_changed(&a, &b));
    a.arrival_rps = 0.001, b = a, b.arrival_rps = 0.09; /* nobody is there */
    assert_false(gw_load_changed(&a, &b));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read_nothing_measured_gives_the_prior),
        cmocka_unit_test(test_read_small_context_bounds_lengths),
        cmocka_unit_test(test_read_steady_load_is_found),
        cmocka_unit_test(test_read_old_load_is_forgotten),
        cmocka_unit_test(test_ended_cancelled_and_unknown_requests_do_not_count),
        cmocka_unit_test(test_arrived_branches_count_one_each),
        cmocka_unit_test(test_changed_needs_a_factor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
