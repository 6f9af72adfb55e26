/* migrate/rate: what goes is paid for to the byte, pauses are not saved up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "migrate/rate.h"

#define START_US 1000000

/* Sends pieces as soon as each may go, for a second; returns the bytes. */
static uint64_t send_for_a_second(struct gw_rate *r, size_t piece, int64_t from_us)
{
    uint64_t bytes = 0;
    int64_t now_us = from_us;
    while (now_us < from_us + GW_US_PER_S) {
        gw_rate_charge(r, piece, now_us);
        bytes += piece;
        if (r->due_us > now_us) now_us = r->due_us;
    }
    return bytes;
}

static void test_charge_any_piece_keeps_the_rate(void **state)
{
    (void)state;
    static const struct {
        double bytes_s;
        size_t piece;
    } cases[] = {{1e6, 1000}, {1e9, 1 << 20}, {3e9, 4096}, {1e10, 1500}, {7.0 / 3 * 1e6, 17}, {10e9, 16384}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct gw_rate r = {.bytes_s = cases[i].bytes_s};
        double bytes = (double)send_for_a_second(&r, cases[i].piece, START_US);
        assert_true(bytes >= cases[i].bytes_s * 0.999);
        /* What goes in one microsecond goes together. */
        assert_true(bytes <= cases[i].bytes_s * 1.001 + 2 * (double)cases[i].piece + cases[i].bytes_s * 1e-6);
    }
}

static void test_charge_pause_is_not_saved_up(void **state)
{
    (void)state;
    struct gw_rate r = {.bytes_s = 1e6};
    gw_rate_charge(&r, 1000, START_US);
    assert_int_equal(r.due_us, START_US + 1000);
    gw_rate_charge(&r, 1000, START_US + 60 * GW_US_PER_S);
    assert_int_equal(r.due_us, START_US + 60 * GW_US_PER_S + 1000);
}

static void test_charge_senders_that_go_together_owe_together(void **state)
{
    (void)state;
    struct gw_rate r = {.bytes_s = 1e6};
    for (int i = 0; i < 8; i++) gw_rate_charge(&r, 1000, START_US);
    assert_int_equal(r.due_us, START_US + 8000);
}

static void test_charge_no_limit_and_no_rate_at_all_are_bounded(void **state)
{
    (void)state;
    struct gw_rate none = {0}, tiny = {.bytes_s = 1e-300};
    gw_rate_charge(&none, SIZE_MAX, START_US);
    assert_int_equal(none.due_us, 0);
    gw_rate_charge(&tiny, SIZE_MAX, START_US);
    assert_int_equal(tiny.due_us, START_US + GW_RATE_DEBT_US);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_charge_any_piece_keeps_the_rate),
        cmocka_unit_test(test_charge_pause_is_not_saved_up),
        cmocka_unit_test(test_charge_senders_that_go_together_owe_together),
        cmocka_unit_test(test_charge_no_limit_and_no_rate_at_all_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
