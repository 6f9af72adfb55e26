/* base/id_map: the same answers as a plain table, after any history of puts and removals. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "base/id_map.h"
#include "base/rng.h"

#define IDS   240 /* half of the smallest map: runs of full slots form and are cut in every way */
#define STEPS 20000

static void *value_of(uint64_t id)
{
    return (void *)(uintptr_t)(id * 2 + 1);
}

static void check_all(const struct gw_id_map *m, const uint64_t *ids, const bool *present)
{
    size_t len = 0;
    for (int i = 0; i < IDS; i++) {
        len += present[i];
        assert_ptr_equal(gw_id_map_get(m, ids[i]), present[i] ? value_of(ids[i]) : NULL);
    }
    assert_int_equal(m->len, len);
    assert_true(2 * m->len <= m->cap || m->len == 0);
}

/* stride: how the ids lie; a map that only looked at the low bits would pile them up. */
static void check_history(uint64_t seed, uint64_t stride)
{
    struct gw_id_map m = {0};
    struct gw_rng rng;
    uint64_t ids[IDS];
    bool present[IDS] = {0};
    gw_rng_init(&rng, seed);
    for (uint64_t i = 0; i < IDS; i++) ids[i] = 1 + i * stride;
    for (int step = 0; step < STEPS; step++) {
        size_t i = (size_t)gw_rng_below(&rng, IDS);
        if (present[i])
            gw_id_map_remove(&m, ids[i]);
        else
            assert_int_equal(gw_id_map_put(&m, ids[i], value_of(ids[i])), GW_OK);
        present[i] = !present[i];
        if (step % 16 == 0) check_all(&m, ids, present);
    }
    check_all(&m, ids, present);
    gw_id_map_fini(&m);
}

static void test_map_agrees_with_a_table_after_any_history(void **state)
{
    (void)state;
    static const uint64_t strides[] = {1, 64, 1u << 20, UINT64_C(1) << 48, UINT64_C(0x9E3779B97F4A7C15)};
    for (size_t i = 0; i < sizeof strides / sizeof *strides; i++) check_history(i + 1, strides[i]);
}

static void test_empty_map_has_nothing_and_removes_nothing(void **state)
{
    (void)state;
    struct gw_id_map m = {0};
    assert_null(gw_id_map_get(&m, 1));
    gw_id_map_remove(&m, 1);
    assert_int_equal(m.len, 0);
    gw_id_map_fini(&m);
}

static void test_map_grows_to_many_and_gives_all_back(void **state)
{
    (void)state;
    struct gw_id_map m = {0};
    for (uint64_t id = 1; id <= 100000; id++) assert_int_equal(gw_id_map_put(&m, id, value_of(id)), GW_OK);
    assert_int_equal(m.len, 100000);
    for (uint64_t id = 1; id <= 100000; id++) assert_ptr_equal(gw_id_map_get(&m, id), value_of(id));
    assert_null(gw_id_map_get(&m, 100001));
    for (uint64_t id = 1; id <= 100000; id++) gw_id_map_remove(&m, id);
    assert_int_equal(m.len, 0);
    gw_id_map_fini(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_map_agrees_with_a_table_after_any_history),
        cmocka_unit_test(test_empty_map_has_nothing_and_removes_nothing),
        cmocka_unit_test(test_map_grows_to_many_and_gives_all_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
