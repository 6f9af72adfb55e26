/* worker/traffic: which addresses are in other zones, and where bytes are added. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "worker/traffic.h"

static void learn(struct gw_traffic *t, const char *address, const char *zone)
{
    struct gw_worker_zone one = {0};
    snprintf(one.address, sizeof one.address, "%s", address);
    snprintf(one.zone, sizeof one.zone, "%s", zone);
    gw_traffic_learn(t, &(struct gw_msg_zones){1, &one});
}

static void test_counter_goes_by_what_was_learnt_last(void **state)
{
    (void)state;
    struct gw_traffic *t;
    struct gw_traffic_bytes b;
    assert_int_equal(gw_traffic_create("a", &t), GW_OK);
    gw_traffic_add(gw_traffic_counter(t, GW_TRAFFIC_PAGES, "1:1"), 3);
    learn(t, "1:1", "b");
    learn(t, "1:1", "c");
    learn(t, "2:2", "a");
    gw_traffic_add(gw_traffic_counter(t, GW_TRAFFIC_PAGES, "1:1"), 5);
    gw_traffic_add(gw_traffic_counter(t, GW_TRAFFIC_STORES, "2:2"), 7);
    learn(t, "1:1", "a");
    gw_traffic_add(gw_traffic_counter(t, GW_TRAFFIC_PAGES, "1:1"), 11);
    gw_traffic_read(t, &b);
    assert_int_equal(b.near[GW_TRAFFIC_PAGES], 14);
    assert_int_equal(b.far[GW_TRAFFIC_PAGES], 5);
    assert_int_equal(b.near[GW_TRAFFIC_STORES], 7);
    assert_int_equal(b.far[GW_TRAFFIC_STORES], 0);
    gw_traffic_destroy(t);
}

static void test_without_traffic_nothing_is_counted_and_all_are_near(void **state)
{
    (void)state;
    struct gw_traffic_bytes b;
    gw_traffic_learn(NULL, &(struct gw_msg_zones){0});
    assert_false(gw_traffic_is_far(NULL, "1:1"));
    assert_null(gw_traffic_counter(NULL, GW_TRAFFIC_STEPS, "1:1"));
    gw_traffic_add(NULL, 5);
    gw_traffic_read(NULL, &b);
    for (int k = 0; k < GW_TRAFFIC_KINDS; k++) assert_int_equal(b.near[k] | b.far[k], 0);
    gw_traffic_destroy(NULL);
}

static void test_more_addresses_than_are_kept_stay_near(void **state)
{
    (void)state;
    struct gw_traffic *t;
    char address[24];
    assert_int_equal(gw_traffic_create("a", &t), GW_OK);
    for (int i = 0; i <= GW_TRAFFIC_FAR_MAX; i++) {
        snprintf(address, sizeof address, "h:%d", i);
        learn(t, address, "b");
    }
    assert_true(gw_traffic_is_far(t, "h:0"));
    assert_false(gw_traffic_is_far(t, address));
    learn(t, "h:0", "a"); /* makes room for one */
    learn(t, address, "b");
    assert_true(gw_traffic_is_far(t, address));
    gw_traffic_destroy(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counter_goes_by_what_was_learnt_last),
        cmocka_unit_test(test_without_traffic_nothing_is_counted_and_all_are_near),
        cmocka_unit_test(test_more_addresses_than_are_kept_stay_near),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
