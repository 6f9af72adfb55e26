/* worker/block_manager, worker/page_pool: references, names, eviction order; pages that do not overlap. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/seeded_rng.h"
#include "worker/block_manager.h"
#include "worker/page_pool.h"

static struct gw_block_name name_of(uint32_t n)
{
    struct gw_block_name name = {{0}};
    memcpy(name.bytes + 4, &n, sizeof n);
    memcpy(name.bytes, &(uint32_t){n % 3}, sizeof n); /* few buckets: chains are walked */
    return name;
}

static uint32_t take(struct gw_blocks *b)
{
    uint32_t slot;
    assert_int_equal(gw_blocks_take(b, &slot), GW_OK);
    return slot;
}

static bool has(const struct gw_blocks *b, uint32_t n)
{
    struct gw_block_name name = name_of(n);
    uint32_t slot;
    return gw_blocks_find(b, &name, &slot);
}

static uint32_t sealed(struct gw_blocks *b, uint32_t n)
{
    struct gw_block_name name = name_of(n);
    return gw_blocks_seal(b, take(b), &name);
}

static void test_take_all_slots_then_limit(void **state)
{
    (void)state;
    struct gw_blocks *b;
    bool seen[5] = {false};
    uint32_t slot = 99;
    assert_int_equal(gw_blocks_create(5, NULL, &b), GW_OK);
    for (int i = 0; i < 5; i++) {
        uint32_t s = take(b);
        assert_true(s < 5 && !seen[s]);
        seen[s] = true;
    }
    assert_int_equal(gw_blocks_available(b), 0);
    assert_int_equal(gw_blocks_take(b, &slot), GW_ERR_LIMIT);
    assert_int_equal(slot, 99);
    gw_blocks_unref(b, 3);
    assert_int_equal(take(b), 3);
    gw_blocks_destroy(b);
}

static void test_take_evicts_the_least_recently_released(void **state)
{
    (void)state;
    struct gw_blocks *b;
    uint32_t slots[4];
    assert_int_equal(gw_blocks_create(4, NULL, &b), GW_OK);
    for (uint32_t i = 0; i < 4; i++) slots[i] = sealed(b, i);
    gw_blocks_unref(b, slots[2]);
    gw_blocks_unref(b, slots[0]);
    gw_blocks_unref(b, slots[3]);
    assert_int_equal(gw_blocks_available(b), 3);
    gw_blocks_ref(b, slots[2]); /* used again: the newest when it comes back */
    gw_blocks_unref(b, slots[2]);
    assert_true(has(b, 0) && has(b, 1) && has(b, 2) && has(b, 3));
    assert_int_equal(take(b), slots[0]);
    assert_false(has(b, 0));
    assert_int_equal(take(b), slots[3]);
    assert_int_equal(take(b), slots[2]);
    assert_true(has(b, 1));
    assert_int_equal(gw_blocks_available(b), 0);
    gw_blocks_destroy(b);
}

static void test_seal_same_name_twice_shares_one_slot(void **state)
{
    (void)state;
    struct gw_blocks *b;
    assert_int_equal(gw_blocks_create(4, NULL, &b), GW_OK);
    uint32_t first = sealed(b, 7), second = sealed(b, 7);
    assert_int_equal(first, second);
    assert_int_equal(gw_blocks_refs(b, first), 2);
    assert_int_equal(gw_blocks_available(b), 3);
    gw_blocks_unref(b, first);
    gw_blocks_unref(b, first);
    assert_int_equal(gw_blocks_available(b), 4);
    assert_true(has(b, 7));
    assert_int_equal(sealed(b, 7), first); /* from the cache */
    gw_blocks_destroy(b);
}

/* Seals in both; the reference may move to a twin. */
static void seal_both(struct gw_blocks *b, uint32_t *refs, int64_t *name, uint32_t slot, uint32_t n)
{
    struct gw_block_name wanted = name_of(n);
    uint32_t now = gw_blocks_seal(b, slot, &wanted);
    refs[slot]--;
    refs[now]++;
    assert_true(now == slot || name[now] == n);
    name[now] = n;
}

/* A model of plain arrays beside it, driven at random. */
static void test_restored_blocks_are_found_and_evicted_from_the_last_on(void **state)
{
    (void)state;
    struct gw_blocks *b;
    struct gw_page_dir_block list[] = {{.slot = 1, .name = name_of(7)}, {.slot = 3, .name = name_of(8)}};
    uint32_t slot;
    assert_int_equal(gw_blocks_create(4, NULL, &b), GW_OK);
    gw_blocks_restore(b, list, 2);
    assert_int_equal(gw_blocks_available(b), 4);
    assert_true(gw_blocks_find(b, &list[0].name, &slot));
    assert_int_equal(slot, 1);
    assert_int_equal(take(b), 0); /* what holds nothing first */
    assert_int_equal(take(b), 2);
    assert_int_equal(take(b), 3);
    assert_true(has(b, 7));
    assert_false(has(b, 8));
    gw_blocks_ref(b, 1);
    assert_int_equal(gw_blocks_take(b, &slot), GW_ERR_LIMIT);
    gw_blocks_destroy(b);
}

static void test_random_operations_keep_the_books(void **state)
{
    (void)state;
    enum { SLOTS = 24, NAMES = 40, STEPS = 20000 };
    struct gw_blocks *b;
    uint32_t refs[SLOTS] = {0};
    int64_t name[SLOTS];
    struct gw_rng r = seeded_rng(__func__);
    for (int i = 0; i < SLOTS; i++) name[i] = -1;
    assert_int_equal(gw_blocks_create(SLOTS, NULL, &b), GW_OK);
    for (int step = 0; step < STEPS; step++) {
        uint32_t slot = (uint32_t)gw_rng_below(&r, SLOTS), n = (uint32_t)gw_rng_below(&r, NAMES), used = 0;
        switch (gw_rng_below(&r, 4)) {
        case 0:
            if (gw_blocks_take(b, &slot) != GW_OK) break;
            assert_int_equal(refs[slot], 0);
            refs[slot] = 1;
            name[slot] = -1;
            break;
        case 1:
            if (refs[slot] == 0) break;
            gw_blocks_unref(b, slot);
            refs[slot]--;
            break;
        case 2:
            if (refs[slot] == 0 || name[slot] >= 0) break;
            seal_both(b, refs, name, slot, n);
            break;
        default:
            if (!has(b, n)) break;
            struct gw_block_name wanted = name_of(n);
            assert_true(gw_blocks_find(b, &wanted, &slot));
            assert_int_equal(name[slot], n);
            gw_blocks_ref(b, slot);
            refs[slot]++;
        }
        for (int i = 0; i < SLOTS; i++) used += refs[i] > 0;
        assert_int_equal(gw_blocks_available(b), SLOTS - used);
    }
    gw_blocks_destroy(b);
}

/* ---- pages ---- */

static const struct gw_model_config shape = {
    .hidden = 64, .layers = 5, .heads = 8, .kv_heads = 2, .head_dim = 16, .intermediate = 64};

static float *page_cell(const struct gw_page_pool *pool, uint32_t layer, uint32_t cell, uint32_t slot)
{
    const struct gw_kv_layer *kv = gw_page_pool_layer(pool, layer);
    return (float *)(void *)(kv->arena[cell] + slot * kv->page_bytes);
}

static void test_pool_pages_do_not_overlap(void **state)
{
    (void)state;
    enum { SLOTS = 3, FLOATS = 2 * GW_BLOCK_TOKENS * 16 };
    struct gw_cells cells = gw_cells_of(&shape);
    struct gw_page_pool *pool;
    assert_int_equal(
        gw_page_pool_create(&shape, &cells, gw_cells_all(&cells), GW_F32, SLOTS, false, &pool, NULL), GW_OK);
    assert_int_equal(gw_page_pool_slot_bytes(&shape, &cells, gw_cells_all(&cells), GW_F32),
                     FLOATS * sizeof(float) * 5 * 2);
    for (uint32_t i = 0; i < 5 * 2 * SLOTS; i++) {
        float *p = page_cell(pool, i / (2 * SLOTS), i / SLOTS % 2, i % SLOTS);
        for (int k = 0; k < FLOATS; k++) p[k] = (float)i;
    }
    gw_page_pool_copy(pool, 2, 0);
    for (uint32_t i = 0; i < 5 * 2 * SLOTS; i++) {
        const float *p = page_cell(pool, i / (2 * SLOTS), i / SLOTS % 2, i % SLOTS);
        for (int k = 0; k < FLOATS; k++) assert_true(p[k] == (float)(i % SLOTS ? i : i + 2));
    }
    const struct gw_kv_layer *kv = gw_page_pool_layer(pool, 4);
    assert_int_equal(kv->cells * kv->heads_per_cell, 2);
    gw_page_pool_destroy(pool);
}

static void forget_slot(void *pool, uint32_t slot)
{
    gw_page_pool_forget(pool, slot);
}

static void test_pool_poison_makes_taken_slots_nan(void **state)
{
    (void)state;
    struct gw_cells cells = gw_cells_of(&shape);
    struct gw_page_pool *pool;
    struct gw_blocks *b;
    assert_int_equal(gw_page_pool_create(&shape, &cells, gw_cells_all(&cells), GW_F32, 2, true, &pool, NULL),
                     GW_OK);
    const struct gw_blocks_pages pages = {.arg = pool, .forget = forget_slot};
    assert_int_equal(gw_blocks_create(2, &pages, &b), GW_OK);
    for (int round = 0; round < 2; round++) {
        uint32_t slot = take(b);
        for (uint32_t layer = 0; layer < shape.layers; layer++) {
            float *p = page_cell(pool, layer, 1, slot);
            for (int k = 0; k < 2 * GW_BLOCK_TOKENS * 16; k++) {
                assert_true(isnan(p[k]));
                p[k] = 1;
            }
        }
        gw_blocks_unref(b, slot);
    }
    gw_blocks_destroy(b);
    gw_page_pool_destroy(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_take_all_slots_then_limit),
        cmocka_unit_test(test_take_evicts_the_least_recently_released),
        cmocka_unit_test(test_seal_same_name_twice_shares_one_slot),
        cmocka_unit_test(test_restored_blocks_are_found_and_evicted_from_the_last_on),
        cmocka_unit_test(test_random_operations_keep_the_books),
        cmocka_unit_test(test_pool_pages_do_not_overlap),
        cmocka_unit_test(test_pool_poison_makes_taken_slots_nan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
