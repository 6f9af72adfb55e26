/* migrate/page_seal: the documented bytes, and nothing but what was sealed for that place opens. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "base/hash.h"
#include "migrate/page_seal.h"

#define PAGE_BYTES   200
#define SEALED_BYTES (PAGE_BYTES + GW_PAGE_SEAL_BYTES)

static const char key[] = "0123456789abcdef";
static const uint8_t fingerprint[4] = {1, 2, 3, 4};
static const struct gw_block_name name = {"a block's name ."};
static const struct gw_page_id id = {3, 1};

struct fixture {
    struct gw_page_sealer *sealer;
    uint8_t page[PAGE_BYTES], sealed[SEALED_BYTES], out[PAGE_BYTES];
};

static struct gw_page_sealer *sealer_of(const char *secret, uint8_t print, const char *profile,
                                        const char *type)
{
    uint8_t f[4] = {print, 2, 3, 4};
    const struct gw_page_seal_config config = {secret, strlen(secret), f, sizeof f, profile, type};
    struct gw_page_sealer *s = NULL;
    assert_int_equal(gw_page_sealer_create(&config, &s, NULL), GW_OK);
    return s;
}

static int set_up(void **state)
{
    static struct fixture f;
    f.sealer = sealer_of(key, 1, "cpu", "bf16");
    for (int i = 0; i < PAGE_BYTES; i++) f.page[i] = (uint8_t)(i * 7);
    assert_int_equal(gw_page_seal(f.sealer, &name, id, f.page, PAGE_BYTES, f.sealed), GW_OK);
    *state = &f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    gw_page_sealer_destroy(f->sealer);
    return 0;
}

static gw_err_t open_as(struct fixture *f, struct gw_page_sealer *s, struct gw_block_name n,
                        struct gw_page_id i, size_t sealed_len, size_t len)
{
    memset(f->out, 0xAA, sizeof f->out);
    return gw_page_open(s, &n, i, f->sealed, sealed_len, f->out, len);
}

static void test_open_what_was_sealed_comes_back(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(open_as(f, f->sealer, name, id, SEALED_BYTES, PAGE_BYTES), GW_OK);
    assert_memory_equal(f->out, f->page, PAGE_BYTES);
    struct gw_page_sealer *other = sealer_of(key, 1, "cpu", "bf16"); /* another process of the cluster */
    assert_int_equal(open_as(f, other, name, id, SEALED_BYTES, PAGE_BYTES), GW_OK);
    assert_memory_equal(f->out, f->page, PAGE_BYTES);
    gw_page_sealer_destroy(other);
}

/* Sealed apart, in Python, by the byte table and the standards alone. */
static void test_open_known_seal_of_another_implementation_opens(void **state)
{
    struct fixture *f = *state;
    static const uint8_t known[] = {0x47, 0x57, 0x50, 0x31, 0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07,
                                    0x08, 0x09, 0x0a, 0x0b, 0xc5, 0xa6, 0x98, 0x77, 0x79, 0x5b, 0x25, 0x0e,
                                    0xb2, 0x1e, 0xfc, 0xc6, 0x4b, 0xf6, 0xb2, 0xeb, 0x44, 0x27, 0x8e, 0x85,
                                    0x20, 0xf2, 0xa5, 0x3c, 0xe9, 0xd2, 0x88, 0x6d, 0x57, 0xff, 0xae, 0x26};
    uint8_t out[16];
    assert_int_equal(gw_page_open(f->sealer, &name, id, known, sizeof known, out, sizeof out), GW_OK);
    assert_memory_equal(out, "sixteen bytes ..", 16);
}

static void test_seal_same_page_twice_has_other_bytes(void **state)
{
    struct fixture *f = *state;
    uint8_t again[SEALED_BYTES];
    assert_int_equal(gw_page_seal(f->sealer, &name, id, f->page, PAGE_BYTES, again), GW_OK);
    assert_memory_not_equal(again, f->sealed, SEALED_BYTES);
    assert_memory_not_equal(again + 4, f->sealed + 4, 12);
}

static void test_open_any_bit_flipped_is_refused_and_leaves_nothing(void **state)
{
    struct fixture *f = *state;
    static const uint8_t zeros[PAGE_BYTES];
    for (size_t bit = 0; bit < 8 * SEALED_BYTES; bit++) {
        f->sealed[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_equal(open_as(f, f->sealer, name, id, SEALED_BYTES, PAGE_BYTES), GW_ERR_PROTO);
        assert_memory_not_equal(f->out, f->page, PAGE_BYTES);
        if (bit >= 32) assert_memory_equal(f->out, zeros, PAGE_BYTES);
        f->sealed[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}

static void test_open_other_length_is_refused(void **state)
{
    struct fixture *f = *state;
    for (size_t len = 0; len < SEALED_BYTES; len++)
        assert_int_equal(open_as(f, f->sealer, name, id, len, PAGE_BYTES), GW_ERR_PROTO);
    for (size_t cut = 1; cut < PAGE_BYTES; cut++)
        assert_int_equal(open_as(f, f->sealer, name, id, SEALED_BYTES - cut, PAGE_BYTES - cut), GW_ERR_PROTO);
    assert_int_equal(open_as(f, f->sealer, name, id, SEALED_BYTES, PAGE_BYTES - 1), GW_ERR_PROTO);
}

static void test_open_at_another_place_is_refused(void **state)
{
    struct fixture *f = *state;
    struct gw_block_name other = name;
    other.bytes[15] ^= 1;
    assert_int_equal(open_as(f, f->sealer, other, id, SEALED_BYTES, PAGE_BYTES), GW_ERR_PROTO);
    assert_int_equal(open_as(f, f->sealer, name, (struct gw_page_id){2, 1}, SEALED_BYTES, PAGE_BYTES),
                     GW_ERR_PROTO);
    assert_int_equal(open_as(f, f->sealer, name, (struct gw_page_id){3, 0}, SEALED_BYTES, PAGE_BYTES),
                     GW_ERR_PROTO);
    assert_int_equal(open_as(f, f->sealer, name, (struct gw_page_id){1, 3}, SEALED_BYTES, PAGE_BYTES),
                     GW_ERR_PROTO);
    assert_int_equal(open_as(f, f->sealer, name, id, SEALED_BYTES, PAGE_BYTES), GW_OK);
}

static void expect_refused_by(struct fixture *f, struct gw_page_sealer *s)
{
    assert_int_equal(open_as(f, s, name, id, SEALED_BYTES, PAGE_BYTES), GW_ERR_PROTO);
    gw_page_sealer_destroy(s);
}

static void test_open_of_another_key_or_context_is_refused(void **state)
{
    struct fixture *f = *state;
    expect_refused_by(f, sealer_of("0123456789abcdeF", 1, "cpu", "bf16"));
    expect_refused_by(f, sealer_of(key, 2, "cpu", "bf16"));
    expect_refused_by(f, sealer_of(key, 1, "cpv", "bf16"));
    expect_refused_by(f, sealer_of(key, 1, "cpu", "f16"));
    expect_refused_by(f, sealer_of(key, 1, "cpub", "f16")); /* the same letters, cut elsewhere */
}

static void test_sealer_create_bad_inputs_are_refused(void **state)
{
    (void)state;
    static char long_profile[200];
    memset(long_profile, 'p', sizeof long_profile - 1);
    struct gw_page_sealer *s = NULL;
    struct gw_page_seal_config config = {key, GW_CLUSTER_KEY_MIN - 1, fingerprint, sizeof fingerprint, "p",
                                         "t"};
    assert_int_equal(gw_page_sealer_create(&config, &s, NULL), GW_ERR_INPUT);
    config.key_len = GW_CLUSTER_KEY_MAX + 1;
    assert_int_equal(gw_page_sealer_create(&config, &s, NULL), GW_ERR_INPUT);
    config.key_len = sizeof key - 1;
    config.profile = long_profile;
    assert_int_equal(gw_page_sealer_create(&config, &s, NULL), GW_ERR_LIMIT);
    assert_null(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_open_what_was_sealed_comes_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_open_known_seal_of_another_implementation_opens, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_seal_same_page_twice_has_other_bytes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_open_any_bit_flipped_is_refused_and_leaves_nothing, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_open_other_length_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_open_at_another_place_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_open_of_another_key_or_context_is_refused, set_up, tear_down),
        cmocka_unit_test(test_sealer_create_bad_inputs_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
