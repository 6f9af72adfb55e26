/* worker/forecast: each request goes where its KV is there first, behind those that went there before. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/clock.h"
#include "worker/forecast.h"

#define BLOCK  16
#define NOW_US (100 * GW_US_PER_S)
#define MS     ((double)GW_US_PER_MS)

/* A block takes 1 ms to fetch and `compute_ms` to compute, a round trip 1 ms. */
static struct gw_forecast measured(uint32_t compute_ms)
{
    struct gw_forecast f = {.block_bytes = 1000};
    gw_forecast_pulled(&f, 1, GW_US_PER_MS);
    gw_forecast_pulled(&f, 100, 100 * GW_US_PER_MS);
    gw_forecast_computed(&f, BLOCK * 100, compute_ms * 100 * GW_US_PER_MS);
    return f;
}

static void test_prefers_fetch_nothing_measured_is_fetched(void **state)
{
    struct gw_forecast f = {.block_bytes = 1000};
    assert_true(gw_forecast_prefers_fetch(&f, BLOCK, 0, NOW_US));
    gw_forecast_leave(&f, BLOCK, NOW_US);
    assert_true(gw_forecast_prefers_fetch(&f, BLOCK, 0, NOW_US));
    (void)state;
}

static void test_prefers_fetch_nothing_missing_is_not(void **state)
{
    struct gw_forecast f = {.block_bytes = 1000, .always = true};
    assert_false(gw_forecast_prefers_fetch(&f, 0, 0, NOW_US));
    assert_true(gw_forecast_prefers_fetch(&f, 1, 1000 * MS, NOW_US));
    (void)state;
}

static void test_prefers_fetch_takes_what_is_over_first(void **state)
{
    struct gw_forecast f = measured(2);
    assert_true(gw_forecast_prefers_fetch(&f, 10 * BLOCK, 0, NOW_US)); /* 11 ms, 20 ms */
    assert_true(gw_forecast_prefers_fetch(&f, 10 * BLOCK, 8 * MS, NOW_US));
    assert_false(gw_forecast_prefers_fetch(&f, 10 * BLOCK, 10 * MS, NOW_US));
    f = measured(1);
    assert_false(gw_forecast_prefers_fetch(&f, 10 * BLOCK, 0, NOW_US)); /* 11 ms, 10 ms */
    (void)state;
}

static void test_leave_lines_up_until_its_time_has_come(void **state)
{
    struct gw_forecast f = measured(2);
    gw_forecast_leave(&f, 10 * BLOCK, NOW_US);
    gw_forecast_leave(&f, 10 * BLOCK, NOW_US); /* 40 ms of computing */
    assert_true(gw_forecast_prefers_fetch(&f, 10 * BLOCK, 48 * MS, NOW_US));
    assert_false(gw_forecast_prefers_fetch(&f, 10 * BLOCK, 50 * MS, NOW_US));
    assert_false(gw_forecast_prefers_fetch(&f, 10 * BLOCK, 48 * MS, NOW_US + 3 * GW_US_PER_MS));
    assert_false(gw_forecast_prefers_fetch(&f, 10 * BLOCK, 10 * MS, NOW_US + GW_US_PER_S));
    (void)state;
}

/* Thirty requests at once, 11 ms to fetch and 20 to compute each: both sides are busy until about the same time, and all is
 * over in a third less than by fetching alone. */
static void test_prefers_fetch_many_at_once_use_both_sides(void **state)
{
    struct gw_forecast f = measured(2);
    double ahead_us = 0;
    uint32_t fetched = 0, computed = 0;
    for (uint32_t i = 0; i < 30; i++) {
        if (gw_forecast_prefers_fetch(&f, 10 * BLOCK, ahead_us, NOW_US)) {
            ahead_us += gw_forecast_fetch_us(&f, 10 * BLOCK);
            fetched++;
        } else {
            gw_forecast_leave(&f, 10 * BLOCK, NOW_US);
            computed++;
        }
    }
    assert_int_equal(fetched, 20);
    assert_int_equal(computed, 10);
    (void)state;
}

static void test_pulled_small_pulls_say_nothing_about_bytes(void **state)
{
    struct gw_forecast f = {.block_bytes = 1000};
    gw_forecast_pulled(&f, 3, 5 * GW_US_PER_MS);
    assert_true(gw_forecast_fetch_us(&f, BLOCK) == 0);
    gw_forecast_pulled(&f, 0, 5 * GW_US_PER_MS);
    gw_forecast_computed(&f, GW_FORECAST_ROWS_MIN - 1, 5 * GW_US_PER_MS);
    assert_true(gw_forecast_compute_us(&f, BLOCK) == 0);
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_prefers_fetch_nothing_measured_is_fetched),
        cmocka_unit_test(test_prefers_fetch_nothing_missing_is_not),
        cmocka_unit_test(test_prefers_fetch_takes_what_is_over_first),
        cmocka_unit_test(test_leave_lines_up_until_its_time_has_come),
        cmocka_unit_test(test_prefers_fetch_many_at_once_use_both_sides),
        cmocka_unit_test(test_pulled_small_pulls_say_nothing_about_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
