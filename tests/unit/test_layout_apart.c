/* controller/layout_apart: for how long pairs of workers are apart. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "controller/layout_apart.h"

static void test_add_same_pair_again_doubles_its_time_up_to_the_most(void **state)
{
    (void)state;
    struct gw_aparts a = {0};
    int64_t now_us = 5;
    assert_true(gw_aparts_end_us(&a, now_us) == INT64_MAX);
    for (int64_t us = GW_APART_FIRST_US; us < GW_APART_MOST_US; us *= 2) {
        gw_aparts_add(&a, "w1", "w2", now_us);
        assert_true(gw_aparts_end_us(&a, now_us) == now_us + us);
        now_us += us;
        assert_true(gw_aparts_end_us(&a, now_us) == INT64_MAX); /* it may be tried again */
    }
    for (int i = 0; i < 3; i++) {
        gw_aparts_add(&a, "w2", "w1", now_us); /* in any order */
        assert_true(gw_aparts_end_us(&a, now_us) == now_us + GW_APART_MOST_US);
    }
    assert_int_equal(a.len, 1);
}

static void test_add_pair_that_was_long_well_begins_anew(void **state)
{
    (void)state;
    struct gw_aparts a = {0};
    gw_aparts_add(&a, "w1", "w2", 0);
    gw_aparts_add(&a, "w1", "w2", 0);
    int64_t now_us = 2 * GW_APART_FIRST_US + GW_APART_MOST_US;
    gw_aparts_add(&a, "w1", "w2", now_us);
    assert_int_equal(a.len, 1);
    assert_true(gw_aparts_end_us(&a, now_us) == now_us + GW_APART_FIRST_US);
}

static void test_add_more_than_there_is_room_for_forgets_the_oldest(void **state)
{
    (void)state;
    struct gw_aparts a = {0};
    char name[16];
    for (int i = 0; i <= GW_PLAN_APART_MAX; i++) {
        snprintf(name, sizeof name, "w%d", i);
        gw_aparts_add(&a, "w", name, i);
    }
    assert_int_equal(a.len, GW_PLAN_APART_MAX);
    assert_true(gw_aparts_end_us(&a, GW_PLAN_APART_MAX) == 1 + GW_APART_FIRST_US);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_add_same_pair_again_doubles_its_time_up_to_the_most),
        cmocka_unit_test(test_add_pair_that_was_long_well_begins_anew),
        cmocka_unit_test(test_add_more_than_there_is_room_for_forgets_the_oldest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
