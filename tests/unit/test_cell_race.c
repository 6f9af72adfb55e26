/* worker/cell_race: parts go where they are predicted to be sooner, whatever has been measured, and nobody waits for ever. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "worker/cell_race.h"

#define MB       ((uint64_t)1 << 20)
#define ALL      UINT64_MAX
#define ITEMS    8
#define START_US 1000000

static const struct cell_rate nothing_known[CELL_SIDES];

/* `len` parts of 1, 2, … MiB that the sources may have. */
static void open_race(struct cell_race *race, uint32_t len, uint64_t sources, const struct cell_rate *rates)
{
    struct cell_item items[ITEMS];
    for (uint32_t i = 0; i < len; i++)
        items[i] = (struct cell_item){.part = i, .bytes = (i + 1) * MB, .sources = sources};
    assert_int_equal(cell_race_init(race, items, len, rates), GW_OK);
}

static bool known(const struct cell_race *race, enum cell_side side)
{
    return race->rates[side].us > 0;
}

static uint32_t enter(struct cell_race *race, enum cell_side side, uint32_t source)
{
    uint32_t lane;
    assert_int_equal(cell_race_enter(race, side, source, START_US, &lane), GW_OK);
    if (known(race, side)) race->tried_us[side] = START_US; /* unless a test is about first parts */
    return lane;
}

/* Bytes per second of both sides. */
static void set_rates(struct cell_rate rates[CELL_SIDES], double disk, double peers)
{
    rates[CELL_DISK] = (struct cell_rate){disk, 1e6};
    rates[CELL_PEERS] = (struct cell_rate){peers, 1e6};
}

static void finish(struct cell_race *race, uint32_t lane, struct cell_item *item, int64_t now_us)
{
    assert_true(cell_race_moved(race, lane, item, item->bytes - item->moved, 1000, now_us));
    assert_true(cell_race_done(race, lane, item));
}

static void test_take_disk_alone_does_all_largest_first(void **state)
{
    (void)state;
    struct cell_race race;
    struct cell_rate rates[CELL_SIDES];
    set_rates(rates, 1e9, 1e12);
    open_race(&race, 3, ALL, rates);
    uint32_t disk = enter(&race, CELL_DISK, 0);
    for (uint32_t left = 3; left > 0; left--) {
        struct cell_item *item = cell_race_take(&race, disk, START_US);
        assert_int_equal(item->part, left - 1);
        finish(&race, disk, item, START_US);
    }
    assert_true(cell_race_is_over(&race));
    assert_null(cell_race_take(&race, disk, START_US));
    cell_race_fini(&race);
}

static void test_take_first_time_each_side_begins_with_the_smallest(void **state)
{
    (void)state;
    struct cell_race race;
    open_race(&race, 4, ALL, nothing_known);
    uint32_t disk = enter(&race, CELL_DISK, 0), peer = enter(&race, CELL_PEERS, 0);
    assert_int_equal(cell_race_take(&race, disk, START_US)->part, 0);
    assert_int_equal(cell_race_take(&race, peer, START_US)->part, 1);
    cell_race_fini(&race);
}

/* 10 MiB wait; the disk does 100 MB/s, the peers 10 GB/s: its smallest part takes 10 ms there, all of them 1 ms here. */
static void test_take_slow_disk_leaves_all_to_the_peers(void **state)
{
    (void)state;
    struct cell_race race;
    struct cell_rate rates[CELL_SIDES];
    set_rates(rates, 1e8, 1e10);
    open_race(&race, 4, ALL, rates);
    uint32_t disk = enter(&race, CELL_DISK, 0), peer = enter(&race, CELL_PEERS, 0);
    for (int i = 4; i > 0; i--) {
        assert_null(cell_race_take(&race, disk, START_US));
        struct cell_item *item = cell_race_take(&race, peer, START_US);
        assert_int_equal(item->part, i - 1);
        finish(&race, peer, item, START_US);
    }
    cell_race_fini(&race);
}

static void test_take_slow_peers_leave_all_to_the_disk(void **state)
{
    (void)state;
    struct cell_race race;
    struct cell_rate rates[CELL_SIDES];
    set_rates(rates, 1e10, 1e8);
    open_race(&race, 4, ALL, rates);
    uint32_t disk = enter(&race, CELL_DISK, 0), peer = enter(&race, CELL_PEERS, 0);
    for (int i = 0; i < 4; i++) {
        assert_null(cell_race_take(&race, peer, START_US));
        finish(&race, disk, cell_race_take(&race, disk, START_US), START_US);
    }
    assert_true(cell_race_is_over(&race));
    cell_race_fini(&race);
}

/* 0.7 GB/s of packing beside 2.9 GB/s from peers only takes their cores. */
static void test_take_side_that_is_much_slower_does_not_help(void **state)
{
    (void)state;
    struct cell_race race;
    struct cell_rate rates[CELL_SIDES];
    set_rates(rates, 0.7e9, 2.9e9);
    open_race(&race, 8, ALL, rates);
    uint32_t disk = enter(&race, CELL_DISK, 0), peer = enter(&race, CELL_PEERS, 0);
    assert_non_null(cell_race_take(&race, peer, START_US));
    assert_null(cell_race_take(&race, disk, START_US + CELL_RACE_AGAIN_US / 2));
    assert_int_equal(cell_race_take(&race, disk, START_US + CELL_RACE_AGAIN_US + 1)->part,
                     0); /* it may have erred */
    cell_race_fini(&race);
}

/* What earlier loads have measured does not keep a side from showing what it does now. */
static void test_take_each_side_is_tried_once_in_each_load(void **state)
{
    (void)state;
    struct cell_race race;
    struct cell_rate rates[CELL_SIDES];
    set_rates(rates, 1e10, 1e7);
    open_race(&race, 8, ALL, rates);
    uint32_t disk = enter(&race, CELL_DISK, 0), peer = enter(&race, CELL_PEERS, 0);
    race.tried_us[CELL_DISK] = race.tried_us[CELL_PEERS] = 0;
    struct cell_item *item = cell_race_take(&race, peer, START_US);
    assert_int_equal(item->part, 0);
    assert_true(cell_race_moved(&race, peer, item, item->bytes, 1, START_US)); /* it is fast now */
    assert_true(cell_race_done(&race, peer, item));
    assert_int_equal(cell_race_take(&race, disk, START_US)->part, 1);
    cell_race_fini(&race);
}

static void test_take_equal_sides_share(void **state)
{
    (void)state;
    struct cell_race race;
    struct cell_rate rates[CELL_SIDES];
    set_rates(rates, 1e9, 1e9);
    open_race(&race, 4, ALL, rates);
    uint32_t disk = enter(&race, CELL_DISK, 0), peer = enter(&race, CELL_PEERS, 0);
    assert_int_equal(cell_race_take(&race, disk, START_US)->part, 0);
    assert_int_equal(cell_race_take(&race, peer, START_US)->part, 3);
    cell_race_fini(&race);
}

static void test_take_what_no_peer_has_is_the_disk_s_even_if_peers_are_preferred(void **state)
{
    (void)state;
    struct cell_race race;
    struct cell_rate rates[CELL_SIDES];
    struct cell_item items[2] = {{.part = 0, .bytes = MB, .sources = 1},
                                 {.part = 1, .bytes = MB, .sources = 2}};
    set_rates(rates, 1e12, 1e3);
    assert_int_equal(cell_race_init(&race, items, 2, rates), GW_OK);
    race.prefer_peers = true;
    uint32_t disk = enter(&race, CELL_DISK, 0), peer = enter(&race, CELL_PEERS, 0);
    assert_int_equal(cell_race_take(&race, disk, START_US)->part, 1); /* source 1 is not there */
    assert_int_equal(cell_race_take(&race, peer, START_US)->part, 0);
    cell_race_fini(&race);
}

static void test_take_preferred_peers_get_all_until_they_leave(void **state)
{
    (void)state;
    struct cell_race race;
    struct cell_rate rates[CELL_SIDES];
    set_rates(rates, 1e12, 1e3);
    open_race(&race, 2, ALL, rates);
    race.prefer_peers = true;
    uint32_t disk = enter(&race, CELL_DISK, 0), peer = enter(&race, CELL_PEERS, 0);
    assert_null(cell_race_take(&race, disk, START_US));
    struct cell_item *item = cell_race_take(&race, peer, START_US);
    assert_non_null(item);
    assert_null(cell_race_take(&race, disk, START_US));
    assert_true(cell_race_back(&race, peer, item));
    cell_race_leave(&race, peer);
    assert_non_null(cell_race_take(&race, disk, START_US));
    cell_race_fini(&race);
}

static void test_take_silent_lane_loses_its_part(void **state)
{
    (void)state;
    struct cell_race race;
    struct cell_rate rates[CELL_SIDES];
    set_rates(rates, 1e9, 1e10);
    open_race(&race, 1, ALL, rates);
    uint32_t disk = enter(&race, CELL_DISK, 0), peer = enter(&race, CELL_PEERS, 0);
    struct cell_item *item = cell_race_take(&race, peer, START_US);
    assert_true(cell_race_moved(&race, peer, item, MB / 2, 50, START_US + 50));
    assert_null(cell_race_take(&race, disk, START_US + CELL_RACE_SILENCE_US));
    assert_ptr_equal(cell_race_take(&race, disk, START_US + CELL_RACE_SILENCE_US + 1000), item);
    assert_false(cell_race_moved(&race, peer, item, MB / 4, 1, START_US + 2 * CELL_RACE_SILENCE_US));
    assert_false(cell_race_done(&race, peer, item));
    assert_false(cell_race_back(&race, peer, item));
    finish(&race, disk, item, START_US + 2 * CELL_RACE_SILENCE_US);
    assert_true(cell_race_is_over(&race));
    cell_race_fini(&race);
}

/* The peers were fast once, and have become slow: what one has in flight is begun anew by the disk. */
static void test_take_slow_lane_loses_its_part_to_who_would_have_it_in_half_the_time(void **state)
{
    (void)state;
    struct cell_race race;
    struct cell_rate rates[CELL_SIDES];
    set_rates(rates, 1e9, 1e7);
    open_race(&race, 1, ALL, rates);
    uint32_t peer = enter(&race, CELL_PEERS, 0);
    struct cell_item *item = cell_race_take(&race, peer, START_US);
    assert_non_null(item);
    uint32_t disk = enter(&race, CELL_DISK, 0);
    assert_ptr_equal(cell_race_take(&race, disk, START_US + 1), item);
    cell_race_fini(&race);
}

static void test_moved_older_measurements_fade(void **state)
{
    (void)state;
    struct cell_race race;
    struct cell_rate rates[CELL_SIDES];
    set_rates(rates, 1e9, 0);
    open_race(&race, 1, 0, rates);
    uint32_t disk = enter(&race, CELL_DISK, 0);
    struct cell_item *item = cell_race_take(&race, disk, START_US);
    assert_true(cell_race_moved(&race, disk, item, MB / 2, 0, START_US)); /* tells nothing */
    assert_true(race.rates[CELL_DISK].bytes <= 50000000);
    for (int i = 0; i < 100; i++) /* 10 s without a byte */
        assert_true(cell_race_moved(&race, disk, item, 0, 100000, START_US));
    assert_true(race.rates[CELL_DISK].bytes / race.rates[CELL_DISK].us < 10);
    cell_race_fini(&race);
}

static void test_back_next_peer_goes_on_and_the_disk_begins_anew(void **state)
{
    (void)state;
    struct cell_race race;
    open_race(&race, 1, 3, nothing_known);
    uint32_t first = enter(&race, CELL_PEERS, 0), second = enter(&race, CELL_PEERS, 1);
    struct cell_item *item = cell_race_take(&race, first, START_US);
    item->whole = MB / 2;
    assert_true(cell_race_back(&race, first, item));
    cell_race_leave(&race, first);
    assert_ptr_equal(cell_race_take(&race, second, START_US), item);
    assert_int_equal(item->moved, MB / 2);
    assert_true(cell_race_back(&race, second, item));
    cell_race_leave(&race, second);
    uint32_t disk = enter(&race, CELL_DISK, 0);
    assert_ptr_equal(cell_race_take(&race, disk, START_US), item);
    assert_int_equal(item->moved, 0);
    cell_race_fini(&race);
}

static void test_enter_more_than_there_are_lanes_is_refused(void **state)
{
    (void)state;
    struct cell_race race;
    uint32_t lane;
    open_race(&race, 1, 0, nothing_known);
    for (int i = 0; i < CELL_RACE_LANES_MAX; i++) enter(&race, CELL_DISK, 0);
    assert_int_equal(cell_race_enter(&race, CELL_DISK, 0, START_US, &lane), GW_ERR_LIMIT);
    cell_race_leave(&race, 7);
    assert_int_equal(enter(&race, CELL_PEERS, 1), 7);
    cell_race_fini(&race);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_take_disk_alone_does_all_largest_first),
        cmocka_unit_test(test_take_first_time_each_side_begins_with_the_smallest),
        cmocka_unit_test(test_take_slow_disk_leaves_all_to_the_peers),
        cmocka_unit_test(test_take_slow_peers_leave_all_to_the_disk),
        cmocka_unit_test(test_take_side_that_is_much_slower_does_not_help),
        cmocka_unit_test(test_take_each_side_is_tried_once_in_each_load),
        cmocka_unit_test(test_take_equal_sides_share),
        cmocka_unit_test(test_take_what_no_peer_has_is_the_disk_s_even_if_peers_are_preferred),
        cmocka_unit_test(test_take_preferred_peers_get_all_until_they_leave),
        cmocka_unit_test(test_take_silent_lane_loses_its_part),
        cmocka_unit_test(test_take_slow_lane_loses_its_part_to_who_would_have_it_in_half_the_time),
        cmocka_unit_test(test_moved_older_measurements_fade),
        cmocka_unit_test(test_back_next_peer_goes_on_and_the_disk_begins_anew),
        cmocka_unit_test(test_enter_more_than_there_are_lanes_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
