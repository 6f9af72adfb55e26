/* worker/page_offload and kernels/cuda/copy_ring: blocks leave and enter a device whose streams run late, in any order, and fail. What
 * has a name holds that block's bytes, whatever came in between. */
#include "tests/lib/kernels_fixture.h"

#include <stdatomic.h>

#include "kernels/cuda/copy_ring.h"
#include "migrate/checksum.h"
#include "tests/lib/late_device.h"
#include "tests/lib/small_pages.h"
#include "worker/page_offload.h"

#define SLOTS    8
#define PAGES    4
#define ROUNDS   60
#define TURNS    120
#define THREADED 2000
#define NEVER_US (INT64_MAX / 2) /* a copy's deadline */
#define PAST_US  (-1)

static const struct gw_cell_rect all = {0, 2, 0, 8};

struct bench {
    struct late_device device;
    struct gw_page_pool *pool;
    struct gw_page_dir *dir;
    struct gw_page_offload *offload;
    _Atomic uint32_t told; /* blocks */
    uint32_t sealed, next; /* next: number of a block that was never anywhere */
};

/* The number is in the name; a block's bytes are of its number alone. */
static struct gw_block_name name_of(uint32_t block)
{
    struct gw_block_name name = {.bytes = {1}};
    memcpy(name.bytes + 4, &block, sizeof block);
    return name;
}

static uint32_t block_of(const struct gw_block_name *name)
{
    uint32_t block;
    memcpy(&block, name->bytes + 4, sizeof block);
    return block;
}

static uint8_t byte_of(uint32_t block)
{
    return (uint8_t)(block * 37 + 11);
}

static void told(void *arg, const struct gw_block_name *name)
{
    struct bench *b = arg;
    (void)name;
    atomic_fetch_add(&b->told, 1);
}

static struct bench *open_bench_with(uint64_t seed, bool thread, int64_t deadline_us)
{
    struct bench *b = calloc(1, sizeof *b);
    struct gw_err_ctx ctx = {0};
    assert_non_null(b);
    struct gw_device *device = late_open(&b->device, seed);
    b->device.deadline_us = deadline_us;
    if (gw_page_pool_create_on(device, &config, &cells, all, GW_BF16, SLOTS, false, &b->pool, &ctx) != GW_OK)
        fail_msg("%s", ctx.text);
    assert_int_equal(gw_page_pool_pages(b->pool), PAGES);
    assert_int_equal(gw_page_dir_create(SLOTS, PAGES, &b->dir), GW_OK);
    const struct gw_page_offload_config c = {
        .pool = b->pool, .dir = b->dir, .slots = SLOTS, .landed = told, .arg = b, .no_thread = !thread};
    assert_int_equal(gw_page_offload_create(&c, &b->offload, &ctx), GW_OK);
    return b;
}

static struct bench *open_bench(uint64_t seed)
{
    return open_bench_with(seed, false, NEVER_US);
}

/* Returns what had not been given back. */
static uint32_t close_bench(struct bench *b)
{
    gw_page_offload_destroy(b->offload);
    late_drain(&b->device, LATE_COMPUTE); /* pages are not freed while a step writes them */
    gw_page_pool_destroy(b->pool);
    gw_page_dir_destroy(b->dir);
    uint32_t left = late_close(&b->device);
    free(b);
    return left;
}

static uint8_t *there(struct bench *b, uint32_t slot)
{
    size_t bytes = gw_page_pool_slot_bytes(&config, &cells, all, GW_BF16);
    return gw_page_pool_layer(b->pool, 0)->arena[0] + slot * bytes;
}

/* ---- what a worker does ---- */

/* A step writes the slot; of a slot that is taken anew, the directory knows at the leader alone. */
static void write_slot(struct bench *b, uint32_t slot, uint32_t block, bool leader)
{
    size_t bytes = gw_page_pool_slot_bytes(&config, &cells, all, GW_BF16);
    gw_page_offload_forget(b->offload, slot);
    if (leader) gw_page_dir_forget(b->dir, slot);
    late_write(&b->device, there(b, slot), byte_of(block), bytes);
}

static void seal(struct bench *b, uint32_t slot, bool leader)
{
    uint32_t block = ++b->next;
    const struct gw_block_name name = name_of(block);
    write_slot(b, slot, block, leader);
    gw_page_offload_seal(b->offload, slot, &name);
    b->sealed++;
}

/* A block comes from elsewhere, behind all steps so far. False: it did not reach the device. */
static bool receive(struct bench *b, uint32_t slot, uint32_t block)
{
    const struct gw_block_name name = name_of(block);
    uint32_t bytes;
    uint64_t sums[PAGES];
    late_drain(&b->device, LATE_COMPUTE);
    gw_page_offload_claim(b->offload, slot);
    gw_page_dir_forget(b->dir, slot);
    for (uint32_t i = 0; i < PAGES; i++) {
        uint8_t *page = gw_page_pool_page(b->pool, slot, i, &bytes);
        memset(page, byte_of(block), bytes);
    }
    gw_page_pool_sum(b->pool, slot, sums);
    if (gw_page_pool_push(b->pool, slot, NULL) != GW_OK) return false;
    gw_page_dir_publish(b->dir, slot, &name, sums);
    return true;
}

static bool is_all(const uint8_t *bytes, uint8_t byte, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (bytes[i] != byte) return false;
    return true;
}

/* What can be found is that block or, unless all_good, shows that it is not: where a slot was taken anew and the directory was not
 * told. Returns how many there are. */
static uint32_t check_found(struct bench *b, bool all_good)
{
    struct gw_page_dir_block list[SLOTS];
    uint32_t len = gw_page_dir_list(b->dir, list, SLOTS), good = 0, bytes, slot;
    uint64_t sums[PAGES];
    for (uint32_t i = 0; i < len; i++) {
        assert_true(gw_page_dir_find(b->dir, &list[i].name, &slot, sums));
        bool same = true;
        for (uint32_t k = 0; k < PAGES && same; k++) {
            const uint8_t *page = gw_page_pool_page(b->pool, slot, k, &bytes);
            same = gw_checksum(page, bytes) == sums[k];
            if (same) assert_true(is_all(page, byte_of(block_of(&list[i].name)), bytes));
        }
        assert_true(same || !all_good);
        good += same;
    }
    return good;
}

static void turn_until_settled(struct bench *b)
{
    while (!gw_page_offload_settle(b->offload, 0)) (void)gw_page_offload_turn(b->offload);
}

/* ---- tests ---- */

static void test_sealed_blocks_land_with_the_bytes_of_the_step_that_sealed_them(void **state)
{
    (void)state;
    struct gw_rng r = seeded_rng(__func__);
    struct bench *b = open_bench(gw_rng_next(&r));
    for (uint32_t slot = 0; slot < SLOTS; slot++) seal(b, slot, true); /* more than there are buffers */
    assert_int_equal(gw_page_dir_len(b->dir), 0);
    turn_until_settled(b);
    assert_int_equal(check_found(b, true), SLOTS);
    assert_int_equal(b->told, SLOTS);
    assert_int_equal(close_bench(b), 0);
}

/* Nothing is lost while the stream stands still: the queue has a place for every slot. */
static void test_blocks_wait_for_a_buffer(void **state)
{
    (void)state;
    struct gw_rng r = seeded_rng(__func__);
    struct bench *b = open_bench(gw_rng_next(&r));
    b->device.streams[LATE_OUT].still = true;
    for (uint32_t slot = 0; slot < SLOTS; slot++) seal(b, slot, true);
    for (uint32_t i = 0; i < TURNS; i++) (void)gw_page_offload_turn(b->offload);
    assert_int_equal(gw_page_dir_len(b->dir), 0);
    seal(b, SLOTS - 1, true); /* the queue still holds what this one replaces */
    seal(b, SLOTS - 1, true);
    b->device.streams[LATE_OUT].still = false;
    turn_until_settled(b);
    assert_int_equal(check_found(b, true), SLOTS);
    assert_int_equal(gw_page_offload_stats(b->offload).dropped, 2);
    assert_int_equal(close_bench(b), 0);
}

/* Steps go on while the copies of those before are late. */
static void test_copy_waits_for_its_own_step_alone(void **state)
{
    (void)state;
    struct gw_rng r = seeded_rng(__func__);
    struct bench *b = open_bench(gw_rng_next(&r));
    seal(b, 0, true);
    late_drain(&b->device, LATE_COMPUTE);
    b->device.streams[LATE_COMPUTE].still = true; /* the next step takes long */
    write_slot(b, 1, ++b->next, true);
    turn_until_settled(b);
    assert_int_equal(check_found(b, true), 1);
    b->device.streams[LATE_COMPUTE].still = false;
    assert_int_equal(close_bench(b), 0);
}

static void one_of_all(struct bench *b, struct gw_rng *r)
{
    uint32_t slot = (uint32_t)gw_rng_below(r, SLOTS);
    switch (gw_rng_below(r, 6)) {
    case 0: seal(b, slot, true); break;
    case 1: seal(b, slot, false); break; /* of a follower */
    case 2: write_slot(b, slot, ++b->next, true); break;
    case 3: (void)receive(b, slot, ++b->next); break;
    default: (void)gw_page_offload_turn(b->offload); break;
    }
}

static void run_interleaved(struct gw_rng *r, uint32_t fails_of_1000)
{
    struct bench *b = open_bench(gw_rng_next(r));
    b->device.fails_of_1000 = fails_of_1000;
    for (uint32_t i = 0; i < TURNS; i++) {
        one_of_all(b, r);
        (void)check_found(b, false);
    }
    turn_until_settled(b);
    (void)check_found(b, false);
    const struct gw_page_offload_stats s = gw_page_offload_stats(b->offload);
    assert_int_equal(s.landed, b->told);
    assert_int_equal(s.landed + s.dropped + s.failed, b->sealed);
    if (fails_of_1000 == 0) assert_int_equal(s.failed, 0);
    assert_int_equal(close_bench(b), 0);
}

static void test_interleavings_never_name_other_bytes(void **state)
{
    (void)state;
    struct gw_rng r = seeded_rng(__func__);
    for (uint32_t i = 0; i < ROUNDS; i++) run_interleaved(&r, 0);
}

static void test_copies_that_fail_are_blocks_that_are_not_there(void **state)
{
    (void)state;
    struct gw_rng r = seeded_rng(__func__);
    for (uint32_t i = 0; i < ROUNDS; i++) run_interleaved(&r, 200);
}

static void test_received_block_is_on_the_device_when_it_has_its_name(void **state)
{
    (void)state;
    struct gw_rng r = seeded_rng(__func__);
    struct bench *b = open_bench(gw_rng_next(&r));
    size_t bytes = gw_page_pool_slot_bytes(&config, &cells, all, GW_BF16);
    seal(b, 3, true); /* what it takes the place of is on its way */
    (void)gw_page_offload_turn(b->offload);
    assert_true(receive(b, 3, 77));
    assert_true(is_all(there(b, 3), byte_of(77), bytes));
    turn_until_settled(b);
    assert_int_equal(check_found(b, true), 1);
    b->device.fails_of_1000 = 1000;
    assert_false(receive(b, 4, 78));
    assert_int_equal(check_found(b, true), 1);
    assert_false(b->device.left); /* it was refused: nothing is under way */
    assert_int_equal(close_bench(b), 0);
}

/* What a copy that has not ended may still use is never given back, and nothing lands behind it; steps go on. */
static void test_copy_out_that_passes_its_deadline_is_a_block_that_is_not_there(void **state)
{
    (void)state;
    struct gw_rng r = seeded_rng(__func__);
    struct bench *b = open_bench_with(gw_rng_next(&r), false, PAST_US);
    b->device.streams[LATE_OUT].still = true;
    seal(b, 0, true);
    turn_until_settled(b);
    assert_true(b->device.left && b->device.left_err == GW_OK);
    seal(b, 1, true);
    turn_until_settled(b);
    assert_int_equal(gw_page_dir_len(b->dir), 0);
    assert_int_equal(gw_page_offload_stats(b->offload).failed, 2);
    assert_false(receive(b, 2, 77));
    assert_true(close_bench(b) > 0);
}

/* It may write to the slot when that is another block's: the device must end. */
static void test_copy_in_that_passes_its_deadline_ends_the_device(void **state)
{
    (void)state;
    struct gw_rng r = seeded_rng(__func__);
    struct bench *b = open_bench_with(gw_rng_next(&r), false, PAST_US);
    b->device.streams[LATE_IN].still = true;
    assert_false(receive(b, 2, 77));
    assert_int_equal(gw_page_dir_len(b->dir), 0);
    assert_true(b->device.left && b->device.left_err == GW_ERR_CUDA);
    assert_true(close_bench(b) > 0);
}

/* A pool that is retired waits for no stream. */
static void test_abandon_lets_nothing_land(void **state)
{
    (void)state;
    struct gw_rng r = seeded_rng(__func__);
    struct bench *b = open_bench(gw_rng_next(&r));
    for (uint32_t slot = 0; slot < SLOTS; slot++) seal(b, slot, true);
    (void)gw_page_offload_turn(b->offload);
    uint32_t landed = b->told;
    gw_page_offload_abandon(b->offload);
    turn_until_settled(b);
    assert_int_equal(b->told, landed);
    assert_int_equal(check_found(b, true), landed);
    seal(b, 5, true); /* it is revived */
    turn_until_settled(b);
    assert_int_equal(b->told, landed + 1);
    assert_int_equal(close_bench(b), 0);
}

/* The same with the offload's own thread, for the sanitizers. */
static void test_thread_lands_what_others_seal_claim_and_forget(void **state)
{
    (void)state;
    struct gw_rng r = seeded_rng(__func__);
    struct bench *b = open_bench_with(gw_rng_next(&r), true, NEVER_US);
    for (uint32_t i = 0; i < THREADED; i++) {
        uint32_t slot = (uint32_t)gw_rng_below(&r, SLOTS);
        uint64_t what = gw_rng_below(&r, 4);
        if (what == 0)
            assert_true(receive(b, slot, ++b->next));
        else if (what == 1)
            (void)check_found(b, true);
        else
            seal(b, slot, true);
    }
    assert_true(gw_page_offload_settle(b->offload, NEVER_US));
    const struct gw_page_offload_stats s = gw_page_offload_stats(b->offload);
    assert_int_equal(s.landed + s.dropped, b->sealed);
    assert_int_equal(s.landed, b->told);
    assert_int_equal(close_bench(b), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sealed_blocks_land_with_the_bytes_of_the_step_that_sealed_them),
        cmocka_unit_test(test_blocks_wait_for_a_buffer),
        cmocka_unit_test(test_copy_waits_for_its_own_step_alone),
        cmocka_unit_test(test_interleavings_never_name_other_bytes),
        cmocka_unit_test(test_copies_that_fail_are_blocks_that_are_not_there),
        cmocka_unit_test(test_received_block_is_on_the_device_when_it_has_its_name),
        cmocka_unit_test(test_copy_out_that_passes_its_deadline_is_a_block_that_is_not_there),
        cmocka_unit_test(test_copy_in_that_passes_its_deadline_ends_the_device),
        cmocka_unit_test(test_abandon_lets_nothing_land),
        cmocka_unit_test(test_thread_lands_what_others_seal_claim_and_forget),
    };
    return cmocka_run_group_tests_name("page_offload", tests, NULL, NULL);
}
