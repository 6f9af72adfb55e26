/* controller/capacity_intent: what the journal keeps of a write that is about to be made. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "controller/capacity_intent.h"

static void put(struct gw_buf *b, const char *instance, uint32_t desired)
{
    struct gw_capacity_action a = {.group = GW_CAPACITY_ON_DEMAND, .term = 77, .desired = desired};
    strcpy(a.instance, instance);
    gw_buf_init(b, 1024);
    gw_capacity_intent_put(b, &a);
    assert_int_equal(b->err, GW_OK);
}

static void test_get_gives_what_was_put(void **state)
{
    struct gw_buf b;
    struct gw_capacity_action a;
    (void)state;
    put(&b, "i-0123", 0);
    assert_true(gw_capacity_intent_is(b.data, b.len));
    assert_int_equal(gw_capacity_intent_get(b.data, b.len, &a), GW_OK);
    assert_int_equal(a.type, GW_CAPACITY_DELETE);
    assert_int_equal(a.group, GW_CAPACITY_ON_DEMAND);
    assert_int_equal(a.term, 77);
    assert_string_equal(a.instance, "i-0123");
    gw_buf_fini(&b);
    put(&b, "", 5);
    assert_int_equal(gw_capacity_intent_get(b.data, b.len, &a), GW_OK);
    assert_int_equal(a.type, GW_CAPACITY_SET_DESIRED);
    assert_int_equal(a.desired, 5);
    gw_buf_fini(&b);
}

static void test_get_refuses_every_cut_and_what_is_behind(void **state)
{
    struct gw_buf b;
    struct gw_capacity_action a;
    (void)state;
    put(&b, "i-0123", 0);
    for (size_t len = 0; len < b.len; len++)
        assert_int_equal(gw_capacity_intent_get(b.data, len, &a), GW_ERR_PROTO);
    gw_buf_u8(&b, 0);
    assert_int_equal(gw_capacity_intent_get(b.data, b.len, &a), GW_ERR_PROTO);
    gw_buf_fini(&b);
}

static void test_get_refuses_other_groups_versions_and_names_with_nul(void **state)
{
    struct gw_buf b;
    struct gw_capacity_action a;
    (void)state;
    static const size_t bytes[] = {0, 1, 2};
    put(&b, "i-0123", 0);
    for (size_t i = 0; i < sizeof bytes / sizeof bytes[0]; i++) {
        b.data[bytes[i]] ^= 2;
        assert_int_equal(gw_capacity_intent_get(b.data, b.len, &a), GW_ERR_PROTO);
        b.data[bytes[i]] ^= 2;
    }
    b.data[b.len - 2] = 0;
    assert_int_equal(gw_capacity_intent_get(b.data, b.len, &a), GW_ERR_PROTO);
    gw_buf_fini(&b);
}

static void test_is_tells_the_fronts_pieces_apart(void **state)
{
    (void)state;
    assert_false(gw_capacity_intent_is("\1\1\1", 3));
    assert_false(gw_capacity_intent_is("\2\1\1", 3));
    assert_false(gw_capacity_intent_is("C", 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_get_gives_what_was_put),
        cmocka_unit_test(test_get_refuses_every_cut_and_what_is_behind),
        cmocka_unit_test(test_get_refuses_other_groups_versions_and_names_with_nul),
        cmocka_unit_test(test_is_tells_the_fronts_pieces_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
