/* worker/step_pace.h against a played machine, whose steps cost what the test says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/lib/seeded_rng.h"
#include "worker/step_pace.h"

#define TARGET_US UINT64_C(150000)
#define MAX_ROWS  512u

/* A step costs at least what reading the weights does, and so much for each row. */
struct machine {
    uint64_t weights_us, row_us;
};

static uint64_t cost_us(const struct machine *m, uint32_t rows)
{
    uint64_t us = rows * m->row_us;
    return us < m->weights_us ? m->weights_us : us;
}

/* One step as large as the pace allows; returns its time. */
static uint64_t step(struct gw_step_pace *pace, const struct machine *m, uint32_t decoding)
{
    uint32_t rows = gw_step_pace_rows(pace, decoding, MAX_ROWS);
    uint64_t us = cost_us(m, rows);
    gw_step_pace_measured(pace, rows, us);
    return us;
}

static void test_rows_without_target_are_all(void **state)
{
    struct gw_step_pace pace = {0};
    (void)state;
    assert_int_equal(gw_step_pace_rows(&pace, 0, MAX_ROWS), MAX_ROWS);
    gw_step_pace_measured(&pace, MAX_ROWS, 10 * TARGET_US);
    assert_int_equal(gw_step_pace_rows(&pace, 16, MAX_ROWS), MAX_ROWS);
}

static void test_rows_before_anything_is_known(void **state)
{
    struct gw_step_pace pace = {.target_us = TARGET_US};
    (void)state;
    assert_int_equal(gw_step_pace_rows(&pace, 1, MAX_ROWS), GW_STEP_PACE_FIRST);
    assert_int_equal(gw_step_pace_rows(&pace, 0, MAX_ROWS), GW_STEP_PACE_ALONE);
    assert_int_equal(gw_step_pace_rows(&pace, 200, MAX_ROWS), 200 + GW_STEP_PACE_LEAST);
    assert_int_equal(gw_step_pace_rows(&pace, 0, 10), 10);
}

static void test_rows_fit_the_target_after_two_steps(void **state)
{
    struct gw_step_pace pace = {.target_us = TARGET_US};
    const struct machine m = {.weights_us = 40000, .row_us = 3000};
    (void)state;
    step(&pace, &m, 0);
    assert_int_equal(step(&pace, &m, 1), TARGET_US);
    assert_int_equal(step(&pace, &m, 7), TARGET_US);
}

static void test_rows_of_a_fast_machine_are_all(void **state)
{
    struct gw_step_pace pace = {.target_us = TARGET_US};
    const struct machine m = {.weights_us = 8000, .row_us = 10};
    (void)state;
    step(&pace, &m, 0);
    assert_int_equal(gw_step_pace_rows(&pace, 64, MAX_ROWS), MAX_ROWS);
}

static void test_rows_of_a_slow_machine_advance_prompts(void **state)
{
    struct gw_step_pace pace = {.target_us = TARGET_US};
    const struct machine m = {.weights_us = 10 * TARGET_US, .row_us = TARGET_US};
    (void)state;
    for (int i = 0; i < 5; i++) step(&pace, &m, 16);
    assert_int_equal(gw_step_pace_rows(&pace, 16, MAX_ROWS), 16 + GW_STEP_PACE_LEAST);
    assert_int_equal(gw_step_pace_rows(&pace, 0, MAX_ROWS), GW_STEP_PACE_ALONE);
}

static void test_measured_few_rows_teach_nothing(void **state)
{
    struct gw_step_pace pace = {.target_us = TARGET_US};
    const struct machine m = {.weights_us = 40000, .row_us = 3000};
    (void)state;
    step(&pace, &m, 1);
    uint32_t rows = gw_step_pace_rows(&pace, 1, MAX_ROWS);
    gw_step_pace_measured(&pace, GW_STEP_PACE_LEAST - 1, cost_us(&m, 1));
    gw_step_pace_measured(&pace, 2, m.weights_us);
    assert_int_equal(gw_step_pace_rows(&pace, 1, MAX_ROWS), rows);
}

/* A step that waited for something else once costs the next ones little, and soon nothing; so does a first step that did. */
static void test_measured_stall_is_forgotten(void **state)
{
    const struct machine m = {.weights_us = 40000, .row_us = 1000};
    struct gw_step_pace pace = {.target_us = TARGET_US}, late = {.target_us = TARGET_US};
    (void)state;
    for (int i = 0; i < 3; i++) step(&pace, &m, 1);
    gw_step_pace_measured(&pace, 150, 100 * TARGET_US);
    assert_in_range(gw_step_pace_rows(&pace, 1, MAX_ROWS), 120, 149);
    gw_step_pace_measured(&late, GW_STEP_PACE_FIRST, 100 * TARGET_US);
    assert_int_equal(gw_step_pace_rows(&late, 1, MAX_ROWS), 1 + GW_STEP_PACE_LEAST);
    for (int i = 0; i < 20; i++) {
        step(&pace, &m, 1);
        step(&late, &m, 1);
    }
    assert_in_range(gw_step_pace_rows(&pace, 1, MAX_ROWS), 145, 150);
    assert_in_range(gw_step_pace_rows(&late, 0, MAX_ROWS), 145, 150);
}

/* Any history: between what is promised to prompts and the most, and soon near the target once the machine is steady. */
static void test_rows_random_history_stay_in_bounds(void **state)
{
    struct gw_rng r = seeded_rng(__func__);
    (void)state;
    for (int round = 0; round < 1000; round++) {
        struct gw_step_pace pace = {.target_us = 1 + gw_rng_below(&r, 1000000)};
        for (int i = 0; i < 30; i++) {
            uint32_t max = 1 + (uint32_t)gw_rng_below(&r, 2000), decoding = (uint32_t)gw_rng_below(&r, max);
            uint32_t rows = gw_step_pace_rows(&pace, decoding, max);
            uint32_t least = decoding ? decoding + GW_STEP_PACE_LEAST : GW_STEP_PACE_ALONE;
            assert_in_range(rows, least < max ? least : max, max);
            gw_step_pace_measured(&pace, 1 + (uint32_t)gw_rng_below(&r, 4000), gw_rng_below(&r, UINT32_MAX));
        }
        const struct machine m = {.row_us = 100 + gw_rng_below(&r, 3000)};
        pace.target_us = TARGET_US;
        for (int i = 0; i < 60; i++) step(&pace, &m, 1);
        uint32_t fits = (uint32_t)(TARGET_US / m.row_us);
        assert_in_range(gw_step_pace_rows(&pace, 1, MAX_ROWS), (fits < MAX_ROWS ? fits : MAX_ROWS) - 1,
                        fits < MAX_ROWS ? fits : MAX_ROWS);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_without_target_are_all),
        cmocka_unit_test(test_rows_before_anything_is_known),
        cmocka_unit_test(test_rows_fit_the_target_after_two_steps),
        cmocka_unit_test(test_rows_of_a_fast_machine_are_all),
        cmocka_unit_test(test_rows_of_a_slow_machine_advance_prompts),
        cmocka_unit_test(test_measured_few_rows_teach_nothing),
        cmocka_unit_test(test_measured_stall_is_forgotten),
        cmocka_unit_test(test_rows_random_history_stay_in_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
