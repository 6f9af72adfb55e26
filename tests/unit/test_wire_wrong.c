/* migrate/wire: no bytes whatever do harm. */
#include "tests/unit/wire_samples.h"

#include <stdio.h>

#include "base/hash.h"
#include "tests/lib/seeded_rng.h"

#define MUTATIONS 4000 /* per message type: a second under ASan for all */

/* 0: protocol `proto` has all of it. */
static size_t length_without_extension(unsigned type, int proto)
{
    struct gw_msg m = sample(type);
    struct gw_buf b;
    if (!without_extension(&m, proto)) return 0;
    encode(&m, &b);
    size_t len = b.len;
    gw_buf_fini(&b);
    return len;
}

static void test_decode_truncated_anywhere_is_refused(void **state)
{
    (void)state;
    for (unsigned type = FIRST; type <= LAST; type++) {
        struct gw_msg in = sample(type), out;
        struct gw_buf b;
        size_t known[] = {length_without_extension(type, 2), length_without_extension(type, 3),
                          length_without_extension(type, 4)};
        encode(&in, &b);
        for (size_t len = 0; len < b.len; len++)
            if (len != known[0] && len != known[1] && len != known[2])
                assert_int_equal(decode_exact(type, b.data, len, &out), GW_ERR_PROTO);
        gw_buf_fini(&b);
    }
}

static void test_decode_with_a_byte_too_many_is_refused(void **state)
{
    (void)state;
    for (unsigned type = FIRST; type <= LAST; type++) {
        struct gw_msg in = sample(type), out;
        struct gw_buf b;
        encode(&in, &b);
        gw_buf_u8(&b, 0);
        assert_int_equal(decode_exact(type, b.data, b.len, &out), GW_ERR_PROTO);
        gw_buf_fini(&b);
        for (int proto = 4; proto >= 2; proto--) {
            if (!without_extension(&in, proto)) continue;
            encode(&in, &b);
            gw_buf_u8(&b, 0);
            assert_int_equal(decode_exact(type, b.data, b.len, &out), GW_ERR_PROTO);
            gw_buf_fini(&b);
        }
    }
}

static void test_decode_unknown_type_is_refused(void **state)
{
    (void)state;
    struct gw_msg out;
    assert_int_equal(decode_exact(0, "", 0, &out), GW_ERR_PROTO);
    assert_int_equal(decode_exact(LAST + 1, "", 0, &out), GW_ERR_PROTO);
    assert_int_equal(decode_exact(65535, "", 0, &out), GW_ERR_PROTO);
    assert_string_equal(gw_msg_name(0), "?");
    assert_string_equal(gw_msg_name(LAST + 1), "?");
    assert_string_equal(gw_msg_name(GW_MSG_TOKENS), "TOKENS");
}

/* Overwrites the u32 at `at` and decodes. */
static gw_err_t decode_with_u32(unsigned type, size_t at, uint32_t value)
{
    struct gw_msg in = sample(type), out;
    struct gw_buf b;
    encode(&in, &b);
    assert_true(at + 4 <= b.len);
    for (size_t i = 0; i < 4; i++) b.data[at + i] = (uint8_t)(value >> (8 * i));
    gw_err_t err = decode_exact(type, b.data, b.len, &out);
    if (err == GW_OK) gw_msg_fini(&out);
    gw_buf_fini(&b);
    return err;
}

/* Every count field, by its place in the byte tables, with lies small and large. */
static void test_decode_lying_counts_are_refused(void **state)
{
    (void)state;
    static const struct {
        unsigned type;
        size_t at;
        uint32_t honest;
    } counts[] = {
        {GW_MSG_SUBMIT, 12, 2},   /* n */
        {GW_MSG_SUBMIT, 32, 8},   /* prompt */
        {GW_MSG_SUBMIT, 114, 2},  /* stop ids: 36 + 32 of prompt + 46 */
        {GW_MSG_SUBMIT, 126, 2},  /* bias */
        {GW_MSG_SUBMIT, 147, 3},  /* first log */
        {GW_MSG_SUBMIT, 168, 2},  /* holders: the second log is 5 bytes, from 163 on */
        {GW_MSG_WARM, 168, 2},    /* the same */
        {GW_MSG_SUBMIT, 172, 14}, /* the first one's address */
        {GW_MSG_TOKENS, 21, 3},   /* records */
        {GW_MSG_CUTOVER, 0, 3},   /* items */
        {GW_MSG_HANDOFF, 12, 2},  /* branches */
        {GW_MSG_HELLO, 50, 2},    /* worker's name */
        {GW_MSG_REFUSE, 2, 11},   /* text */
        {GW_MSG_REJECT, 14, 8},   /* text */
        {GW_MSG_GOODBYE, 0, 7},   /* text */
    };
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        const uint32_t lies[] = {
            0,        counts[i].honest - 1, counts[i].honest + 1, 129,       5000, 1u << 20, (1u << 20) + 1,
            1u << 30, UINT32_MAX,           0x20000000,           0x40000001};
        assert_int_equal(decode_with_u32(counts[i].type, counts[i].at, counts[i].honest), GW_OK);
        for (size_t j = 0; j < sizeof lies / sizeof lies[0]; j++)
            assert_int_equal(decode_with_u32(counts[i].type, counts[i].at, lies[j]), GW_ERR_PROTO);
    }
}

static void test_decode_values_out_of_range_are_refused(void **state)
{
    (void)state;
    assert_int_equal(decode_with_u32(GW_MSG_SUBMIT, 0, 0), GW_ERR_PROTO);           /* attempt 0 */
    assert_int_equal(decode_with_u32(GW_MSG_SUBMIT, 68, 0x7fc00000), GW_ERR_PROTO); /* temperature NaN */
    assert_int_equal(decode_with_u32(GW_MSG_TOKENS, 12, 128), GW_ERR_PROTO);        /* branch */
    assert_int_equal(decode_with_u32(GW_MSG_TOKENS, 17, 1u << 20), GW_ERR_PROTO);   /* first + count */
    assert_int_equal(decode_with_u32(GW_MSG_TOKENS, 17, UINT32_MAX), GW_ERR_PROTO);
    assert_int_equal(decode_with_u32(GW_MSG_TOKENS, 37, 0x7f800000), GW_ERR_PROTO); /* logprob infinite */
    assert_int_equal(decode_with_u32(GW_MSG_TOKENS, 53, 0x7fc00000), GW_ERR_PROTO); /* top logprob NaN */
    assert_int_equal(decode_with_u32(GW_MSG_CANCEL, 12, 128), GW_ERR_PROTO);        /* branch */
    assert_int_equal(decode_with_u32(GW_MSG_HANDOFF, 16, (1u << 20) + 1), GW_ERR_PROTO);
    assert_int_equal(decode_with_u32(GW_MSG_SUBMIT, 190, 0x00020002),
                     GW_ERR_PROTO); /* holder's cells: none */
    assert_int_equal(decode_with_u32(GW_MSG_SUBMIT, 176, 0x01010101),
                     GW_ERR_PROTO); /* its address: not text */
    assert_int_equal(decode_with_u32(GW_MSG_WARMED, 12, (1u << 21) + 1), GW_ERR_PROTO);
    assert_int_equal(decode_with_u32(GW_MSG_ORIGIN, 12, 95), GW_ERR_PROTO);         /* more had than needed */
    assert_int_equal(decode_with_u32(GW_MSG_ORIGIN, 20, UINT32_MAX), GW_ERR_PROTO); /* the sum overflows */
    assert_int_equal(decode_with_u32(GW_MSG_HEARTBEAT, 56, 0), GW_ERR_PROTO);       /* a batch of no rows */
    assert_int_equal(decode_with_u32(GW_MSG_HEARTBEAT, 60, 11), GW_ERR_PROTO); /* more sequences than rows */
    assert_int_equal(decode_with_u32(GW_MSG_WELCOME, 32, 0), GW_ERR_PROTO);    /* heartbeat */
    assert_int_equal(decode_with_u32(GW_MSG_CHALLENGE, 0, 0x00010002), GW_ERR_PROTO); /* max < min */
}

static void test_decode_names_with_odd_bytes_are_refused(void **state)
{
    (void)state;
    const char odd[] = {'\0', '\n', '\x7f', '\x80', '\xff'};
    for (size_t i = 0; i < sizeof odd; i++) {
        struct gw_msg in = sample(GW_MSG_HELLO), out;
        struct gw_buf b;
        encode(&in, &b);
        b.data[54] = (uint8_t)odd[i]; /* first byte of the worker's name */
        assert_int_equal(decode_exact(GW_MSG_HELLO, b.data, b.len, &out), GW_ERR_PROTO);
        gw_buf_fini(&b);
    }
}

/* One to four random changes: bytes, bits, cuts, repeats. What still decodes must encode and decode again. */
static void mutate_once(struct gw_rng *rng, unsigned type, const struct gw_buf *honest)
{
    struct gw_msg out, out2;
    struct gw_buf b;
    gw_buf_init(&b, GW_FRAME_PAYLOAD_MAX);
    gw_buf_put(&b, honest->data, honest->len);
    if (b.len == 0) gw_buf_u8(&b, 0); /* of messages without a payload */
    for (uint64_t n = 1 + gw_rng_below(rng, 4); n > 0; n--) {
        size_t at = gw_rng_below(rng, b.len);
        uint64_t how = gw_rng_below(rng, 4);
        if (how == 0) b.data[at] = (uint8_t)gw_rng_next(rng);
        if (how == 1) b.data[at] ^= (uint8_t)(1u << gw_rng_below(rng, 8));
        if (how == 2) b.data[at] = gw_rng_below(rng, 2) ? 0xff : 0;
        if (how == 3 && b.len > 1) b.len -= gw_rng_below(rng, 2);
    }
    gw_err_t err = decode_exact(type, b.data, b.len, &out);
    assert_true(err == GW_OK || err == GW_ERR_PROTO);
    if (err == GW_OK) {
        struct gw_buf again;
        encode(&out, &again);
        assert_int_equal(decode_exact(type, again.data, again.len, &out2), GW_OK);
        gw_msg_fini(&out2);
        gw_msg_fini(&out);
        gw_buf_fini(&again);
    }
    gw_buf_fini(&b);
}

static void test_decode_mutated_bytes_do_no_harm(void **state)
{
    (void)state;
    struct gw_rng rng = seeded_rng(__func__);
    for (unsigned type = FIRST; type <= LAST; type++) {
        struct gw_msg in = sample(type);
        struct gw_buf honest;
        encode(&in, &honest);
        for (int i = 0; i < MUTATIONS; i++) mutate_once(&rng, type, &honest);
        gw_buf_fini(&honest);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decode_truncated_anywhere_is_refused),
        cmocka_unit_test(test_decode_with_a_byte_too_many_is_refused),
        cmocka_unit_test(test_decode_unknown_type_is_refused),
        cmocka_unit_test(test_decode_lying_counts_are_refused),
        cmocka_unit_test(test_decode_values_out_of_range_are_refused),
        cmocka_unit_test(test_decode_names_with_odd_bytes_are_refused),
        cmocka_unit_test(test_decode_mutated_bytes_do_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
