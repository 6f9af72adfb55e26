/* worker/shelf and page_dir: pools whose blocks can be had by name, while they are written to and after their pipelines. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "migrate/checksum.h"
#include "tests/lib/small_pages.h"
#include "worker/shelf.h"

#define SLOTS 8
#define HOUR  (3600 * GW_US_PER_S)

static const struct gw_geometry_heads heads = {.share_heads = 1, .query_group = 4};
static const struct gw_cell_rect all = {0, 2, 0, 8}, left = {0, 2, 0, 4}, right = {0, 2, 4, 8};

static struct gw_block_name name_of(uint8_t n)
{
    struct gw_block_name name;
    memset(name.bytes, n, sizeof name.bytes);
    return name;
}

static struct gw_shelf_pool *put(struct gw_shelf *s, uint64_t generation, struct gw_cell_rect r)
{
    struct gw_page_pool *memory;
    struct gw_shelf_pool *pool;
    assert_int_equal(gw_page_pool_create(&config, &cells, r, GW_BF16, SLOTS, false, &memory, NULL), GW_OK);
    assert_int_equal(gw_shelf_put(s, (struct gw_shelf_key){1, generation}, gw_geometry_pages(heads, r),
                                  memory, SLOTS, &pool, NULL),
                     GW_OK);
    return pool;
}

/* A page's bytes say of which block, group and KV head it is. */
static void fill(struct gw_shelf_pool *p, uint32_t slot, uint8_t block)
{
    struct gw_page_rect r = gw_shelf_pages(p);
    for (uint32_t i = 0; i < gw_page_rect_pages(r); i++) {
        uint32_t bytes, group = r.g0 + i / gw_page_rect_heads(r), head = r.h0 + i % gw_page_rect_heads(r);
        uint8_t *page = gw_page_pool_page(gw_shelf_memory(p), slot, i, &bytes);
        memset(page, block * 16 + (int)(group * 2 + head), bytes);
    }
}

static void write_block(struct gw_shelf_pool *p, uint32_t slot, uint8_t block)
{
    const struct gw_block_name name = name_of(block);
    fill(p, slot, block);
    gw_shelf_seal(p, slot, &name);
}

/* Does a reader get that page of the block, and is it what was sealed? */
static bool gives(struct gw_shelf *s, uint8_t block, uint16_t group, uint16_t head)
{
    const struct gw_page_source source = gw_shelf_source(s);
    const struct gw_block_name name = name_of(block);
    uint32_t slot, bytes;
    uint64_t sum;
    if (!source.pin(source.arg, &name, &slot)) return false;
    const uint8_t *page = source.page(source.arg, slot, (struct gw_page_id){group, head}, &bytes, &sum);
    bool good = page && gw_checksum(page, bytes) == sum && page[0] == block * 16 + group * 2 + head;
    source.unpin(source.arg, slot);
    return good;
}

static void test_source_gives_what_is_sealed_and_nothing_else(void **state)
{
    struct gw_shelf *s = *state;
    struct gw_shelf_pool *p = put(s, 1, left);
    fill(p, 3, 7);
    assert_false(gives(s, 7, 0, 0));
    write_block(p, 3, 7);
    assert_true(gives(s, 7, 0, 0));
    assert_true(gives(s, 7, 1, 0));
    assert_false(gives(s, 7, 0, 1)); /* another rank's */
    gw_page_dir_forget(gw_shelf_dir(p), 3);
    assert_false(gives(s, 7, 0, 0));
}

static void test_source_of_an_overwritten_slot_gives_no_page_that_fits(void **state)
{
    struct gw_shelf *s = *state;
    struct gw_shelf_pool *p = put(s, 1, all);
    write_block(p, 3, 7);
    fill(p, 3, 8); /* given to another sequence, which this rank has not been told */
    assert_false(gives(s, 7, 0, 0));
    write_block(p, 3, 8);
    assert_false(gives(s, 7, 0, 0));
    assert_true(gives(s, 8, 0, 0));
}

static void test_pinned_block_whose_slot_is_sealed_anew_is_not_taken_for_the_new_one(void **state)
{
    struct gw_shelf *s = *state;
    struct gw_shelf_pool *p = put(s, 1, all);
    const struct gw_page_source source = gw_shelf_source(s);
    const struct gw_block_name name = name_of(7);
    uint32_t slot, again, bytes;
    uint64_t sum;
    write_block(p, 3, 7);
    assert_true(source.pin(source.arg, &name, &slot));
    write_block(p, 3, 8);
    assert_null(source.page(source.arg, slot, (struct gw_page_id){0, 0}, &bytes, &sum));
    assert_false(source.pin(source.arg, &name, &again));
    source.unpin(source.arg, slot);
}

static void test_source_puts_pools_of_several_cuts_together(void **state)
{
    struct gw_shelf *s = *state;
    write_block(put(s, 1, left), 1, 7);
    write_block(put(s, 2, right), 2, 7);
    assert_true(gives(s, 7, 1, 0));
    assert_true(gives(s, 7, 1, 1));
}

static void test_retired_pool_is_found_for_its_lease(void **state)
{
    struct gw_shelf *s = *state;
    struct gw_shelf_pool *p = put(s, 1, all), *q = put(s, 2, all);
    const int64_t now_us = gw_clock_mono_us();
    write_block(p, 1, 7);
    write_block(q, 1, 8);
    gw_shelf_retire(s, p, HOUR);
    gw_shelf_retire(s, q, 0);
    assert_null(gw_shelf_take(s, (struct gw_shelf_key){1, 1})); /* nobody writes to it any more */
    assert_true(gives(s, 7, 0, 0));
    assert_false(gives(s, 8, 0, 0));
    gw_shelf_sweep(s, now_us + 2 * HOUR);
    assert_false(gives(s, 7, 0, 0));
}

static void test_revived_pool_holds_what_it_held_and_is_written_under_its_new_key_alone(void **state)
{
    struct gw_shelf *s = *state;
    const struct gw_shelf_key former = {1, 1}, now = {2, 1};
    struct gw_shelf_pool *p = put(s, 1, all);
    const struct gw_page_rect pages = gw_shelf_pages(p);
    write_block(p, 1, 7);
    gw_shelf_stepped(p, 5);
    assert_null(gw_shelf_revive(s, now, pages, SLOTS)); /* it is still somebody's */
    gw_shelf_retire(s, p, HOUR);
    assert_null(gw_shelf_revive(s, now, pages, SLOTS - 1));
    assert_null(gw_shelf_revive(s, now, gw_geometry_pages(heads, left), SLOTS));
    struct gw_shelf_pool *reader = gw_shelf_hold(s, former);
    assert_ptr_equal(gw_shelf_revive(s, now, pages, SLOTS), p);
    assert_null(gw_shelf_revive(s, now, pages, SLOTS)); /* once */
    assert_true(gives(s, 7, 0, 0));
    assert_null(gw_shelf_take(s, former));
    assert_ptr_equal(gw_shelf_take(s, now), p);
    assert_ptr_equal(gw_shelf_hold(s, former), reader);
    assert_false(gw_shelf_wait_step(s, p, 1, 0)); /* its steps are counted anew */
    gw_shelf_let_go(s, reader);
    gw_shelf_let_go(s, reader);
    gw_shelf_give(s, p);
    gw_shelf_retire(s, p, 0);
    assert_false(gives(s, 7, 0, 0));
}

static void test_pool_that_somebody_writes_to_is_not_revived(void **state)
{
    struct gw_shelf *s = *state;
    struct gw_shelf_pool *p = put(s, 1, all);
    const struct gw_page_rect pages = gw_shelf_pages(p);
    struct gw_shelf_pool *writer = gw_shelf_take(s, gw_shelf_key_of(p));
    gw_shelf_retire(s, p, HOUR);
    assert_null(gw_shelf_revive(s, (struct gw_shelf_key){2, 1}, pages, SLOTS));
    gw_shelf_give(s, writer);
    assert_ptr_equal(gw_shelf_revive(s, (struct gw_shelf_key){2, 1}, pages, SLOTS), p);
    gw_shelf_retire(s, p, 0);
}

static void test_is_wanted_after_retirement_and_after_each_question(void **state)
{
    struct gw_shelf *s = *state;
    struct gw_shelf_pool *p = put(s, 1, all);
    write_block(p, 1, 7);
    assert_false(gw_shelf_is_wanted(s, gw_clock_mono_us(), HOUR, HOUR)); /* it serves its own pipeline */
    gw_shelf_retire(s, p, 4 * HOUR);
    int64_t now_us = gw_clock_mono_us();
    assert_true(gw_shelf_is_wanted(s, now_us, HOUR, 0));
    assert_false(gw_shelf_is_wanted(s, now_us + 2 * HOUR, HOUR, 3 * HOUR)); /* nobody came */
    assert_true(gives(s, 7, 0, 0));
    assert_true(gw_shelf_is_wanted(s, now_us + 2 * HOUR, HOUR, 3 * HOUR));
}

static void test_copy_takes_a_whole_block_of_another_pool(void **state)
{
    struct gw_shelf *s = *state;
    struct gw_shelf_pool *from = put(s, 1, all), *to = put(s, 2, right), *half = put(s, 3, left);
    const struct gw_block_name name = name_of(7), other = name_of(9);
    write_block(from, 5, 7);
    write_block(half, 5, 9);
    assert_true(gw_shelf_copy(s, to, 2, &name));
    assert_false(gw_shelf_copy(s, to, 3, &other)); /* its half is not what this rank needs */
    gw_shelf_retire(s, from, 0);
    assert_true(gives(s, 7, 1, 1));
    fill(half, 5, 1);
    struct gw_shelf_pool *third = put(s, 4, left);
    assert_false(gw_shelf_copy(s, third, 0, &other)); /* overwritten */
}

static void test_put_beyond_the_maximum_takes_the_place_of_a_retired_pool(void **state)
{
    struct gw_shelf *s = *state;
    struct gw_shelf_pool *pools[GW_SHELF_POOLS_MAX], *one_more;
    struct gw_page_pool *memory;
    for (uint32_t i = 0; i < GW_SHELF_POOLS_MAX; i++) pools[i] = put(s, i + 1, all);
    assert_int_equal(gw_page_pool_create(&config, &cells, all, GW_BF16, SLOTS, false, &memory, NULL), GW_OK);
    assert_int_equal(gw_shelf_put(s, (struct gw_shelf_key){1, 99}, gw_geometry_pages(heads, all), memory,
                                  SLOTS, &one_more, NULL),
                     GW_ERR_LIMIT);
    gw_shelf_retire(s, pools[4], HOUR);
    one_more = put(s, 100, all);
    write_block(one_more, 0, 3);
    assert_true(gives(s, 3, 0, 0));
}

static void test_wait_step_ends_with_the_step_and_with_the_pipeline(void **state)
{
    struct gw_shelf *s = *state;
    struct gw_shelf_pool *p = put(s, 1, all);
    gw_shelf_stepped(p, 4);
    assert_true(gw_shelf_wait_step(s, p, 4, gw_clock_mono_us() + HOUR));
    assert_false(gw_shelf_wait_step(s, p, 5, gw_clock_mono_us() + 1000));
    struct gw_shelf_pool *held = gw_shelf_take(s, (struct gw_shelf_key){1, 1});
    gw_shelf_retire(s, p, HOUR);
    assert_false(gw_shelf_wait_step(s, held, 5, gw_clock_mono_us() + HOUR));
    gw_shelf_give(s, held);
}

static void test_touched_bytes_count_every_pool_up_to_its_last_slot(void **state)
{
    struct gw_shelf *s = *state;
    struct gw_shelf_pool *p = put(s, 1, all);
    uint64_t slot = gw_page_pool_slot_bytes(&config, &cells, all, GW_BF16);
    assert_int_equal(gw_shelf_touched_bytes(s), 0);
    gw_page_pool_touch(gw_shelf_memory(p), 2);
    gw_page_pool_touch(gw_shelf_memory(p), 0);
    assert_int_equal(gw_shelf_touched_bytes(s), 3 * slot);
    gw_shelf_retire(s, p, 0);
    assert_int_equal(gw_shelf_touched_bytes(s), 0);
}

static int create(void **state)
{
    struct gw_shelf *s = NULL;
    if (gw_shelf_create(&s) != GW_OK) return -1;
    *state = s;
    return 0;
}

static int destroy(void **state)
{
    gw_shelf_destroy(*state);
    return 0;
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, create, destroy)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_source_gives_what_is_sealed_and_nothing_else),
        TEST(test_source_of_an_overwritten_slot_gives_no_page_that_fits),
        TEST(test_pinned_block_whose_slot_is_sealed_anew_is_not_taken_for_the_new_one),
        TEST(test_source_puts_pools_of_several_cuts_together),
        TEST(test_retired_pool_is_found_for_its_lease),
        TEST(test_revived_pool_holds_what_it_held_and_is_written_under_its_new_key_alone),
        TEST(test_pool_that_somebody_writes_to_is_not_revived),
        TEST(test_is_wanted_after_retirement_and_after_each_question),
        TEST(test_copy_takes_a_whole_block_of_another_pool),
        TEST(test_put_beyond_the_maximum_takes_the_place_of_a_retired_pool),
        TEST(test_wait_step_ends_with_the_step_and_with_the_pipeline),
        TEST(test_touched_bytes_count_every_pool_up_to_its_last_slot),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
