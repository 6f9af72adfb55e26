/* migrate/block_name: the documented bytes, and a name of its own for everything that may change the KV. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "base/hash.h"
#include "migrate/block_name.h"

static const char key[] = "0123456789abcdef";
static const uint8_t tenant[] = "tenant0123456789";
static const uint8_t fingerprint[4] = {1, 2, 3, 4};

static struct gw_block_namer namer_of(const char *secret, uint8_t print, const char *profile,
                                      const char *type)
{
    struct gw_block_namer n;
    uint8_t f[4] = {print, 2, 3, 4};
    assert_int_equal(gw_block_namer_init(&n, secret, strlen(secret), f, sizeof f, profile, type, NULL),
                     GW_OK);
    return n;
}

static void expect_hex(const struct gw_block_name *name, const char *want)
{
    char hex[2 * GW_BLOCK_NAME_BYTES + 1];
    gw_hex(name->bytes, sizeof name->bytes, hex);
    assert_string_equal(hex, want);
}

static void count_up(uint32_t *ids, uint32_t first)
{
    for (uint32_t i = 0; i < GW_BLOCK_TOKENS; i++) ids[i] = first + i;
}

/* Computed apart, with Python's hmac. */
static void test_name_next_known_chain_has_the_documented_bytes(void **state)
{
    (void)state;
    struct gw_block_namer n = namer_of(key, 1, "cpu", "f32");
    uint32_t ids[GW_BLOCK_TOKENS];
    count_up(ids, 0);
    struct gw_block_name first = gw_block_name_next(&n, tenant, NULL, ids);
    expect_hex(&first, "7bf84317e60be036c3cbcceede3dfc28");
    count_up(ids, 100);
    struct gw_block_name second = gw_block_name_next(&n, tenant, &first, ids);
    expect_hex(&second, "c094ea9e99b409a58c61b17bf000acc9");
}

static void expect_other(const struct gw_block_name *a, struct gw_block_name b)
{
    assert_memory_not_equal(a->bytes, b.bytes, sizeof b.bytes);
}

static void test_name_next_every_input_makes_another_name(void **state)
{
    (void)state;
    struct gw_block_namer n = namer_of(key, 1, "cpu", "f32"), m;
    uint32_t ids[GW_BLOCK_TOKENS];
    uint8_t other[GW_REQUEST_TENANT_BYTES] = "somebody else 16";
    count_up(ids, 0);
    struct gw_block_name a = gw_block_name_next(&n, tenant, NULL, ids);
    expect_other(&a, gw_block_name_next(&n, other, NULL, ids));
    expect_other(&a, gw_block_name_next(&n, tenant, &a, ids));
    m = namer_of("0123456789abcdeg", 1, "cpu", "f32");
    expect_other(&a, gw_block_name_next(&m, tenant, NULL, ids));
    m = namer_of(key, 9, "cpu", "f32");
    expect_other(&a, gw_block_name_next(&m, tenant, NULL, ids));
    m = namer_of(key, 1, "cpv", "f32");
    expect_other(&a, gw_block_name_next(&m, tenant, NULL, ids));
    m = namer_of(key, 1, "cpu", "f16");
    expect_other(&a, gw_block_name_next(&m, tenant, NULL, ids));
    m = namer_of(key, 1, "cp", "uf32"); /* the same letters, cut elsewhere */
    expect_other(&a, gw_block_name_next(&m, tenant, NULL, ids));
    for (int i = 0; i < GW_BLOCK_TOKENS; i++) {
        ids[i] ^= 1u << 31;
        expect_other(&a, gw_block_name_next(&n, tenant, NULL, ids));
        ids[i] ^= 1u << 31;
    }
}

static void test_namer_init_bad_inputs_are_refused(void **state)
{
    (void)state;
    static const char long_name[] =
        "a profile name that is longer than any that travels: 0123456789012345678901234567890123"
        "4567890123456789012345678901234567890123456789012345678901234567890123456789";
    static uint8_t long_key[GW_CLUSTER_KEY_MAX + 1];
    struct gw_block_namer n = {.key_len = 7};
    assert_int_equal(gw_block_namer_init(&n, key, GW_CLUSTER_KEY_MIN - 1, fingerprint, 4, "p", "t", NULL),
                     GW_ERR_INPUT);
    assert_int_equal(gw_block_namer_init(&n, long_key, sizeof long_key, fingerprint, 4, "p", "t", NULL),
                     GW_ERR_INPUT);
    assert_int_equal(gw_block_namer_init(&n, key, 16, fingerprint, 4, long_name, "t", NULL), GW_ERR_LIMIT);
    assert_int_equal(n.key_len, 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_name_next_known_chain_has_the_documented_bytes),
        cmocka_unit_test(test_name_next_every_input_makes_another_name),
        cmocka_unit_test(test_namer_init_bad_inputs_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
