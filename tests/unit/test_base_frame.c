/* base/frame: what is put comes out whole; what is broken is refused, what is short waits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <event2/buffer.h>
#include <string.h>

#include "base/frame.h"

static struct gw_frame sample(void)
{
    return (struct gw_frame){.type = 7,
                             .len = 9,
                             .term = 3,
                             .pipeline = 2,
                             .generation = 5,
                             .payload = (const uint8_t *)"123456789"};
}

static void test_put_take_returns_the_same_frame(void **state)
{
    (void)state;
    struct evbuffer *b = evbuffer_new();
    struct gw_frame in = sample(), out;
    bool ready;
    assert_int_equal(gw_frame_put(b, &in), GW_OK);
    assert_int_equal(gw_frame_take(b, 100, &out, &ready, NULL), GW_OK);
    assert_true(ready);
    assert_int_equal(out.type, 7);
    assert_int_equal(out.term, 3);
    assert_int_equal(out.pipeline, 2);
    assert_int_equal(out.generation, 5);
    assert_int_equal(out.len, 9);
    assert_memory_equal(out.payload, "123456789", 9);
    gw_frame_drop(b, &out);
    assert_int_equal(evbuffer_get_length(b), 0);
    evbuffer_free(b);
}

/* The published check value of this CRC: crc("123456789") = CBF43926. */
static void test_put_writes_the_standard_crc(void **state)
{
    (void)state;
    struct evbuffer *b = evbuffer_new();
    struct gw_frame in = sample();
    uint8_t head[GW_FRAME_HEAD_BYTES];
    assert_int_equal(gw_frame_put(b, &in), GW_OK);
    evbuffer_copyout(b, head, sizeof head);
    assert_memory_equal(head + 12, "\x26\x39\xF4\xCB", 4);
    evbuffer_free(b);
}

static void test_take_waits_for_every_missing_byte(void **state)
{
    (void)state;
    struct evbuffer *whole = evbuffer_new(), *part = evbuffer_new();
    struct gw_frame in = sample(), out;
    bool ready;
    assert_int_equal(gw_frame_put(whole, &in), GW_OK);
    size_t total = evbuffer_get_length(whole);
    for (size_t i = 0; i < total; i++) {
        assert_int_equal(gw_frame_take(part, 100, &out, &ready, NULL), GW_OK);
        assert_false(ready);
        evbuffer_remove_buffer(whole, part, 1);
    }
    assert_int_equal(gw_frame_take(part, 100, &out, &ready, NULL), GW_OK);
    assert_true(ready);
    evbuffer_free(whole);
    evbuffer_free(part);
}

static void test_take_any_flipped_bit_of_guarded_bytes_is_refused(void **state)
{
    (void)state;
    struct gw_frame in = sample(), out;
    struct evbuffer *b = evbuffer_new();
    uint8_t bytes[GW_FRAME_HEAD_BYTES + 9];
    bool ready;
    assert_int_equal(gw_frame_put(b, &in), GW_OK);
    evbuffer_remove(b, bytes, sizeof bytes);
    for (size_t i = 0; i < sizeof bytes * 8; i++) {
        size_t at = i / 8;
        bool guarded = at < 4 || (at >= 6 && at < 8) || (at >= 12 && at < 16) || at >= GW_FRAME_HEAD_BYTES;
        if (!guarded) continue;
        bytes[at] ^= (uint8_t)(1u << (i % 8));
        evbuffer_add(b, bytes, sizeof bytes);
        assert_int_equal(gw_frame_take(b, 100, &out, &ready, NULL), GW_ERR_PROTO);
        evbuffer_drain(b, sizeof bytes);
        bytes[at] ^= (uint8_t)(1u << (i % 8));
    }
    evbuffer_free(b);
}

static void test_take_too_long_a_payload_is_refused_from_its_head_alone(void **state)
{
    (void)state;
    struct evbuffer *whole = evbuffer_new(), *head = evbuffer_new();
    struct gw_frame in = sample(), out;
    bool ready;
    assert_int_equal(gw_frame_put(whole, &in), GW_OK);
    evbuffer_remove_buffer(whole, head, GW_FRAME_HEAD_BYTES);
    assert_int_equal(gw_frame_take(head, 8, &out, &ready, NULL), GW_ERR_PROTO);
    evbuffer_free(whole);
    evbuffer_free(head);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_put_take_returns_the_same_frame),
        cmocka_unit_test(test_put_writes_the_standard_crc),
        cmocka_unit_test(test_take_waits_for_every_missing_byte),
        cmocka_unit_test(test_take_any_flipped_bit_of_guarded_bytes_is_refused),
        cmocka_unit_test(test_take_too_long_a_payload_is_refused_from_its_head_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
