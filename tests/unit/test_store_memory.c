/* migrate/store_memory: what is kept within the bound, and what goes first. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "base/rng.h"
#include "migrate/store_memory.h"

#define PAGE       1000u
#define BLOCK_COST (GW_STORE_MEMORY_BLOCK_COST + GW_STORE_MEMORY_PAGE_COST + PAGE)

static struct gw_block_name name_of(uint32_t i)
{
    struct gw_block_name name = {{0}};
    memcpy(name.bytes + 3, &i, sizeof i);
    return name;
}

static gw_err_t put(struct gw_store_memory *m, uint32_t block, uint16_t head, uint32_t len, uint8_t fill)
{
    struct gw_block_name name = name_of(block);
    struct gw_memory_page *page = gw_memory_page_create((struct gw_page_id){1, head}, len);
    memset(page->bytes, fill, len);
    gw_err_t err = gw_store_memory_put(m, &name, &page, 1);
    if (err != GW_OK) gw_memory_page_unref(page);
    return err;
}

static struct gw_memory_page *get(struct gw_store_memory *m, uint32_t block, uint16_t head)
{
    struct gw_block_name name = name_of(block);
    return gw_store_memory_get(m, &name, (struct gw_page_id){1, head});
}

static struct gw_store_memory *memory_of(size_t bytes)
{
    struct gw_store_memory *m = NULL;
    assert_int_equal(gw_store_memory_create(bytes, &m), GW_OK);
    return m;
}

static struct gw_store_memory_stats stats_of(const struct gw_store_memory *m)
{
    struct gw_store_memory_stats s;
    gw_store_memory_stats(m, &s);
    return s;
}

static void test_put_more_than_fits_least_recently_used_block_goes(void **state)
{
    (void)state;
    struct gw_store_memory *m = memory_of(3 * BLOCK_COST);
    for (uint32_t i = 0; i < 3; i++) assert_int_equal(put(m, i, 0, PAGE, (uint8_t)i), GW_OK);
    assert_int_equal(stats_of(m).bytes, 3 * BLOCK_COST);
    assert_non_null(get(m, 0, 0)); /* now 1 is the oldest */
    assert_int_equal(put(m, 3, 0, PAGE, 3), GW_OK);
    assert_null(get(m, 1, 0));
    for (uint32_t i = 0; i < 4; i += 1 + (i == 0)) assert_int_equal(get(m, i, 0)->bytes[PAGE - 1], i);
    assert_int_equal(stats_of(m).evicted, 1);
    assert_int_equal(stats_of(m).blocks, 3);
    gw_store_memory_destroy(m);
}

static void test_put_page_again_replaces_it(void **state)
{
    (void)state;
    struct gw_store_memory *m = memory_of(10 * BLOCK_COST);
    assert_int_equal(put(m, 0, 0, PAGE, 1), GW_OK);
    assert_int_equal(put(m, 0, 1, PAGE, 2), GW_OK);
    struct gw_memory_page *held = get(m, 0, 0);
    gw_memory_page_ref(held);
    assert_int_equal(put(m, 0, 0, PAGE / 2, 3), GW_OK);
    assert_int_equal(held->bytes[0], 1); /* still being sent */
    gw_memory_page_unref(held);
    assert_int_equal(get(m, 0, 0)->bytes[0], 3);
    assert_int_equal(get(m, 0, 0)->len, PAGE / 2);
    assert_int_equal(get(m, 0, 1)->bytes[0], 2);
    assert_null(get(m, 0, 2));
    assert_null(get(m, 1, 0));
    assert_int_equal(stats_of(m).blocks, 1);
    assert_int_equal(stats_of(m).bytes,
                     GW_STORE_MEMORY_BLOCK_COST + 2 * GW_STORE_MEMORY_PAGE_COST + PAGE + PAGE / 2);
    gw_store_memory_destroy(m);
}

static void test_put_larger_than_all_is_refused_and_others_stay(void **state)
{
    (void)state;
    struct gw_store_memory *m = memory_of(3 * BLOCK_COST);
    for (uint32_t i = 0; i < 2; i++) assert_int_equal(put(m, i, 0, PAGE, 0), GW_OK);
    assert_int_equal(put(m, 2, 0, 3 * BLOCK_COST, 0), GW_ERR_LIMIT);
    assert_int_equal(put(m, 1, 1, 2 * BLOCK_COST, 0), GW_ERR_LIMIT); /* a block that would outgrow it */
    assert_int_equal(stats_of(m).blocks, 2);
    assert_non_null(get(m, 1, 0));
    assert_null(get(m, 1, 1));
    gw_store_memory_destroy(m);
}

static void test_put_of_a_block_never_evicts_itself(void **state)
{
    (void)state;
    struct gw_store_memory *m = memory_of(4 * BLOCK_COST);
    for (uint32_t i = 0; i < 4; i++) assert_int_equal(put(m, i, 0, PAGE, 0), GW_OK);
    for (uint16_t head = 1; head < 4; head++) assert_int_equal(put(m, 0, head, PAGE, 0), GW_OK);
    for (uint16_t head = 0; head < 4; head++) assert_non_null(get(m, 0, head));
    assert_true(stats_of(m).bytes <= 4 * BLOCK_COST);
    gw_store_memory_destroy(m);
}

static void test_any_sequence_stays_within_the_bound_and_adds_up(void **state)
{
    (void)state;
    struct gw_store_memory *m = memory_of(50 * BLOCK_COST);
    struct gw_rng rng;
    gw_rng_init(&rng, 5);
    for (int i = 0; i < 20000; i++) {
        uint32_t block = (uint32_t)gw_rng_below(&rng, 200);
        uint16_t head = (uint16_t)gw_rng_below(&rng, 4);
        if (gw_rng_below(&rng, 3) == 0)
            assert_int_equal(put(m, block, head, 1 + (uint32_t)gw_rng_below(&rng, 2 * PAGE), (uint8_t)block),
                             GW_OK);
        const struct gw_memory_page *page = get(m, block, head);
        assert_true(!page || page->bytes[page->len - 1] == (uint8_t)block);
        assert_true(stats_of(m).bytes <= 50 * BLOCK_COST);
    }
    size_t bytes = 0, blocks = 0;
    for (uint32_t block = 0; block < 200; block++) {
        bool any = false;
        for (uint16_t head = 0; head < 4; head++) {
            const struct gw_memory_page *page = get(m, block, head);
            bytes += page ? page->len + GW_STORE_MEMORY_PAGE_COST : 0;
            any |= page != NULL;
        }
        blocks += any;
    }
    assert_int_equal(stats_of(m).blocks, blocks);
    assert_int_equal(stats_of(m).bytes, bytes + blocks * GW_STORE_MEMORY_BLOCK_COST);
    assert_true(stats_of(m).evicted > 0);
    gw_store_memory_destroy(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_put_more_than_fits_least_recently_used_block_goes),
        cmocka_unit_test(test_put_page_again_replaces_it),
        cmocka_unit_test(test_put_larger_than_all_is_refused_and_others_stay),
        cmocka_unit_test(test_put_of_a_block_never_evicts_itself),
        cmocka_unit_test(test_any_sequence_stays_within_the_bound_and_adds_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
