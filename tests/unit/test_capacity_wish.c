/* controller/capacity_wish and capacity_churn: how many instances are wished for, and how often they are lost. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/clock.h"
#include "controller/capacity_churn.h"
#include "controller/capacity_wish.h"

#define S         GW_US_PER_S
#define SHRINK_US (600 * S)

static struct gw_capacity_wish wish_of(uint32_t spare)
{
    struct gw_capacity_wish w;
    gw_capacity_wish_init(&w, spare, SHRINK_US);
    return w;
}

static uint32_t at(struct gw_capacity_wish *w, int64_t s, uint32_t need, uint32_t serving, uint32_t leaving,
                   uint32_t queued)
{
    const struct gw_capacity_demand d = {need, serving, leaving, queued};
    return gw_capacity_wish_step(w, (1000 + s) * S, &d);
}

static void test_step_need_rises_at_once_and_falls_after_a_while(void **state)
{
    (void)state;
    struct gw_capacity_wish w = wish_of(0);
    assert_int_equal(at(&w, 0, 3, 3, 0, 0), 3);
    assert_int_equal(at(&w, 1, 5, 3, 0, 0), 5);
    assert_int_equal(at(&w, 2, 2, 5, 0, 0), 5);
    assert_int_equal(at(&w, 601, 2, 5, 0, 0), 5);
    assert_int_equal(at(&w, 602, 2, 5, 0, 0), 2);
}

static void test_step_fall_is_to_the_highest_of_the_time(void **state)
{
    (void)state;
    struct gw_capacity_wish w = wish_of(0);
    (void)at(&w, 0, 6, 6, 0, 0);
    (void)at(&w, 1, 1, 6, 0, 0);
    (void)at(&w, 300, 4, 6, 0, 0);
    assert_int_equal(at(&w, 601, 1, 6, 0, 0), 4);
}

static void test_step_fall_begins_anew_after_a_rise(void **state)
{
    (void)state;
    struct gw_capacity_wish w = wish_of(0);
    (void)at(&w, 0, 4, 4, 0, 0);
    (void)at(&w, 1, 2, 4, 0, 0);
    (void)at(&w, 500, 4, 4, 0, 0);
    assert_int_equal(at(&w, 700, 2, 4, 0, 0), 4);
}

static void test_step_spare_is_added(void **state)
{
    (void)state;
    struct gw_capacity_wish w = wish_of(2);
    assert_int_equal(at(&w, 0, 3, 3, 0, 0), 5);
}

static void test_step_unknown_need_keeps_what_serves_and_wants_a_first(void **state)
{
    (void)state;
    struct gw_capacity_wish w = wish_of(0);
    assert_int_equal(at(&w, 0, 0, 0, 0, 0), 1);
    assert_int_equal(at(&w, 1, 0, 4, 0, 0), 4);
}

static void test_step_leaving_ones_are_replaced_until_enough_serve(void **state)
{
    (void)state;
    struct gw_capacity_wish w = wish_of(0);
    assert_int_equal(at(&w, 0, 3, 1, 2, 0), 5);
    assert_int_equal(at(&w, 1, 3, 2, 2, 0), 5);
    assert_int_equal(at(&w, 2, 3, 3, 2, 0), 3); /* at once: a replacement that is there needs none */
}

static void test_step_queue_that_lasts_wants_one_more(void **state)
{
    (void)state;
    struct gw_capacity_wish w = wish_of(0);
    assert_int_equal(at(&w, 0, 2, 2, 0, 9), 2);
    assert_int_equal(at(&w, 10, 2, 2, 0, 0), 2);
    assert_int_equal(at(&w, 11, 2, 2, 0, 9), 2);
    assert_int_equal(at(&w, 25, 2, 2, 0, 9), 2);
    assert_int_equal(at(&w, 26, 2, 2, 0, 9), 3);
    assert_int_equal(at(&w, 27, 2, 3, 0, 9), 4); /* that one serves, and still they wait */
}

static void test_churn_one_early_loss_is_no_rate(void **state)
{
    (void)state;
    struct gw_churn c = {0};
    gw_churn_pass(&c, 1 * S, 4);
    gw_churn_lost(&c);
    assert_true(gw_churn_per_instance_h(&c) <= 1 / GW_CHURN_PRIOR_H);
}

static void test_churn_follows_what_is_lost_and_forgets_it(void **state)
{
    (void)state;
    struct gw_churn c = {0};
    int64_t now_us = S;
    for (int h = 0; h < 6; h++, now_us += 3600 * S) { /* 20 instances, 10 losses an hour: 0.5 */
        gw_churn_pass(&c, now_us, 20);
        for (int i = 0; i < 10; i++) gw_churn_lost(&c);
    }
    double busy = gw_churn_per_instance_h(&c);
    assert_true(busy > 0.35 && busy < 0.65);
    gw_churn_pass(&c, now_us + 24 * 3600 * S, 20);
    assert_true(gw_churn_per_instance_h(&c) < busy / 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_step_need_rises_at_once_and_falls_after_a_while),
        cmocka_unit_test(test_step_fall_is_to_the_highest_of_the_time),
        cmocka_unit_test(test_step_fall_begins_anew_after_a_rise),
        cmocka_unit_test(test_step_spare_is_added),
        cmocka_unit_test(test_step_unknown_need_keeps_what_serves_and_wants_a_first),
        cmocka_unit_test(test_step_leaving_ones_are_replaced_until_enough_serve),
        cmocka_unit_test(test_step_queue_that_lasts_wants_one_more),
        cmocka_unit_test(test_churn_one_early_loss_is_no_rate),
        cmocka_unit_test(test_churn_follows_what_is_lost_and_forgets_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
