/* worker/checkpoint and worker/store_fetch: what is sealed comes into a store, and from there into another pool, or it is
 * counted why not. */
#include "tests/lib/checkpoint_fixture.h"

#include "worker/store_fetch.h"

#define BLOCKS 20

static bool never(void *arg)
{
    (void)arg;
    return false;
}

static bool always(void *arg)
{
    (void)arg;
    return true;
}

/* Fetches blocks [0, len) into slots of `to`, in reverse order of slots; from[len]. */
static void fetch(struct bench *b, struct gw_shelf_pool *to, uint32_t len, bool (*is_over)(void *),
                  uint8_t *from)
{
    struct gw_block_name names[BENCH_SLOTS];
    uint32_t slots[BENCH_SLOTS];
    for (uint32_t i = 0; i < len; i++) {
        names[i] = store_name(i);
        slots[i] = len - 1 - i;
    }
    const struct gw_pull pull = {.names_len = len, .names = names, .slots = slots};
    const struct gw_store_fetch f = {.stores = b->stores,
                                     .pool = to,
                                     .pull = &pull,
                                     .deadline_us = gw_clock_mono_us() + STORE_CALL_US,
                                     .is_over = is_over};
    memset(from, GW_PULL_LOST, len);
    gw_store_fetch_run(&f, from);
}

static void test_offered_blocks_come_into_the_store_and_back(void **state)
{
    (void)state;
    struct bench b;
    uint8_t from[BLOCKS + 2];
    bench_open(&b, true, 1, 0);
    for (uint32_t i = 0; i < BLOCKS; i++) {
        seal(&b, i);
        offer(&b, i);
    }
    struct gw_checkpoint_stats s = until_done(&b);
    assert_int_equal(s.stored, BLOCKS);
    assert_int_equal(buddy_blocks(&b.buddy), BLOCKS);
    assert_true(s.bytes > 0);
    struct gw_shelf_pool *to = put_pool(&b, 2);
    fetch(&b, to, BLOCKS + 2, never, from); /* two were never offered */
    for (uint32_t i = 0; i < BLOCKS; i++) {
        assert_int_equal(from[i], GW_PULL_STORE);
        expect_block_in(to, i);
    }
    assert_int_equal(from[BLOCKS], GW_PULL_LOST);
    assert_int_equal(from[BLOCKS + 1], GW_PULL_LOST);
    gw_shelf_retire(b.shelf, to, 0);
    bench_close(&b);
}

static void test_block_that_is_stored_is_not_put_again(void **state)
{
    (void)state;
    struct bench b;
    bench_open(&b, true, 1, 0);
    seal(&b, 0);
    offer(&b, 0);
    until_done(&b);
    offer(&b, 0);
    struct gw_checkpoint_stats s = until_done(&b);
    assert_int_equal(s.stored, 1);
    assert_int_equal(s.there, 1);
    bench_close(&b);
}

static void test_slot_that_has_other_bytes_by_now_is_not_stored(void **state)
{
    (void)state;
    struct bench b;
    bench_open(&b, true, 1, 0);
    seal(&b, 0);
    fill(b.pool, 0, 1); /* written to before anybody said that the name is gone */
    offer(&b, 0);
    seal(&b, 2);
    gw_page_dir_forget(gw_shelf_dir(b.pool), 2);
    offer(&b, 2);
    struct gw_checkpoint_stats s = until_done(&b);
    assert_int_equal(s.gone, 2);
    assert_int_equal(buddy_blocks(&b.buddy), 0);
    bench_close(&b);
}

static void test_pool_that_is_over_is_stored_while_it_can_be_read(void **state)
{
    (void)state;
    struct bench b;
    bench_open(&b, true, 1, 0);
    seal(&b, 0);
    gw_shelf_retire(b.shelf, b.pool, STORE_WAIT_US); /* still there: the pointer stays good */
    offer(&b, 0);
    assert_int_equal(until_done(&b).stored, 1);
    gw_shelf_sweep(b.shelf, INT64_MAX);
    assert_null(gw_shelf_hold(b.shelf, (struct gw_shelf_key){1, 1}));
    b.pool = NULL;
    bench_close(&b);
}

static void test_pool_that_is_gone_is_not_stored(void **state)
{
    (void)state;
    struct bench b;
    bench_open(&b, true, 1e-6, 0);
    seal(&b, 0);
    offer(&b, 0);
    until_done(&b); /* its budget is spent for long: the next offers wait */
    for (uint32_t i = 0; i < BLOCKS; i++) offer(&b, i);
    gw_shelf_retire(b.shelf, b.pool, 0);
    gw_shelf_sweep(b.shelf, INT64_MAX);
    b.pool = NULL;
    bench_close(&b); /* nobody reads what is freed (ASan) */
}

static void test_tail_of_a_request_is_not_offered(void **state)
{
    (void)state;
    struct bench b;
    struct gw_block_name tail = store_name(0);
    memset(tail.bytes + GW_BLOCK_NAME_BYTES - 4, 0, 4);
    bench_open(&b, true, 1, 0);
    fill(b.pool, 0, 0);
    gw_shelf_seal(b.pool, 0, &tail);
    gw_checkpoint_offer(b.agent, b.pool, &tail);
    assert_int_equal(gw_checkpoint_stats(b.agent).offered, 0);
    bench_close(&b);
}

static void test_without_a_store_offers_are_refused(void **state)
{
    (void)state;
    struct bench b;
    bench_open(&b, false, 1, 0);
    seal(&b, 0);
    offer(&b, 0);
    assert_int_equal(until_done(&b).refused, 1);
    bench_close(&b);
}

static void test_offers_over_the_queue_are_dropped_and_counted(void **state)
{
    (void)state;
    struct bench b;
    bench_open(&b, true, 1e-6, 0);
    seal(&b, 0);
    offer(&b, 0);
    until_done(&b); /* 10 us of work cost 10 s now: the next offers wait */
    for (uint32_t i = 0; i < GW_CHECKPOINT_QUEUE + 2 * GW_CHECKPOINT_BATCH; i++) offer(&b, 0);
    struct gw_checkpoint_stats s = gw_checkpoint_stats(b.agent);
    assert_true(s.dropped >= GW_CHECKPOINT_BATCH);
    bench_close(&b);
}

static void test_budget_of_bytes_is_kept(void **state)
{
    (void)state;
    struct bench b;
    bench_open(&b, true, 1, 1);
    for (uint32_t i = 0; i < 3; i++) seal(&b, i);
    for (uint32_t i = 0; i < 3; i++) offer(&b, i);
    int64_t deadline_us = gw_clock_mono_us() + STORE_WAIT_US;
    while (gw_checkpoint_stats(b.agent).stored == 0 && gw_clock_mono_us() < deadline_us) usleep(1000);
    usleep(100000); /* a byte a second: the second block is hours away */
    assert_int_equal(gw_checkpoint_stats(b.agent).stored, 1);
    bench_close(&b);
}

static void test_budget_of_time_is_kept(void **state)
{
    (void)state;
    struct bench b;
    const double share = 0.05;
    bench_open(&b, true, share, 0);
    for (uint32_t i = 0; i < BLOCKS; i++) seal(&b, i);
    int64_t start_us = gw_clock_mono_us();
    for (uint32_t i = 0; i < BLOCKS; i++) offer(&b, i);
    struct gw_checkpoint_stats s = until_done(&b);
    double wall_us = (double)(gw_clock_mono_us() - start_us);
    double last_us = (double)s.cpu_us / BLOCKS * 4; /* of the last few, which nobody waits for */
    assert_int_equal(s.stored, BLOCKS);
    if (((double)s.cpu_us - last_us) / wall_us > share)
        fail_msg("%.1f ms of work in %.1f ms", (double)s.cpu_us / 1000, wall_us / 1000);
    bench_close(&b);
}

static void test_fetch_that_is_over_asks_for_nothing(void **state)
{
    (void)state;
    struct bench b;
    uint8_t from[1];
    bench_open(&b, true, 1, 0);
    seal(&b, 0);
    offer(&b, 0);
    until_done(&b);
    struct gw_shelf_pool *to = put_pool(&b, 2);
    fetch(&b, to, 1, always, from);
    assert_int_equal(from[0], GW_PULL_LOST);
    gw_shelf_retire(b.shelf, to, 0);
    bench_close(&b);
}

static void test_fetch_from_a_store_that_dies_leaves_blocks_lost(void **state)
{
    (void)state;
    struct bench b;
    uint8_t from[BLOCKS];
    bench_open(&b, true, 1, 0);
    for (uint32_t i = 0; i < BLOCKS; i++) {
        seal(&b, i);
        offer(&b, i);
    }
    until_done(&b);
    buddy_close(&b.buddy);
    struct gw_shelf_pool *to = put_pool(&b, 2);
    fetch(&b, to, BLOCKS, never, from);
    for (uint32_t i = 0; i < BLOCKS; i++) {
        struct gw_block_name name = store_name(i);
        uint32_t slot;
        assert_int_equal(from[i], GW_PULL_LOST);
        assert_false(gw_page_dir_find(gw_shelf_dir(to), &name, &slot, NULL));
    }
    gw_shelf_retire(b.shelf, to, 0);
    bench_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_offered_blocks_come_into_the_store_and_back),
        cmocka_unit_test(test_block_that_is_stored_is_not_put_again),
        cmocka_unit_test(test_slot_that_has_other_bytes_by_now_is_not_stored),
        cmocka_unit_test(test_pool_that_is_over_is_stored_while_it_can_be_read),
        cmocka_unit_test(test_pool_that_is_gone_is_not_stored),
        cmocka_unit_test(test_tail_of_a_request_is_not_offered),
        cmocka_unit_test(test_without_a_store_offers_are_refused),
        cmocka_unit_test(test_offers_over_the_queue_are_dropped_and_counted),
        cmocka_unit_test(test_budget_of_bytes_is_kept),
        cmocka_unit_test(test_budget_of_time_is_kept),
        cmocka_unit_test(test_fetch_that_is_over_asks_for_nothing),
        cmocka_unit_test(test_fetch_from_a_store_that_dies_leaves_blocks_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
