/* base/buf: the first failure sticks, nothing passes the maximum, what a peer sent is never read past its
 * end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

static void test_put_beyond_max_is_sticky_and_keeps_what_was_there(void **state)
{
    (void)state;
    struct gw_buf b;
    gw_buf_init(&b, 5);
    gw_buf_puts(&b, "abc");
    gw_buf_puts(&b, "def");
    assert_int_equal(b.err, GW_ERR_LIMIT);
    gw_buf_puts(&b, "d");
    assert_int_equal(b.len, 3);
    assert_memory_equal(b.data, "abc", 3);
    assert_null(gw_buf_cstr(&b));
    gw_buf_reset(&b);
    gw_buf_puts(&b, "12345");
    assert_int_equal(b.err, GW_OK);
    assert_string_equal(gw_buf_cstr(&b), "12345");
    gw_buf_fini(&b);
}

static void test_put_one_by_one_up_to_max_keeps_the_invariants(void **state)
{
    (void)state;
    static const size_t maxima[] = {0, 1, 255, 256, 257, 1000};
    for (size_t m = 0; m < sizeof maxima / sizeof *maxima; m++) {
        struct gw_buf b;
        gw_buf_init(&b, maxima[m]);
        for (size_t i = 0; i < maxima[m]; i++) {
            gw_buf_u8(&b, (uint8_t)i);
            assert_int_equal(b.err, GW_OK);
            assert_int_equal(b.len, i + 1);
            assert_true(b.len < b.cap && b.cap <= b.max + 1);
        }
        assert_non_null(gw_buf_cstr(&b));
        gw_buf_u8(&b, 0);
        assert_int_equal(b.err, GW_ERR_LIMIT);
        for (size_t i = 0; i < maxima[m]; i++) assert_int_equal(b.data[i], (uint8_t)i);
        gw_buf_fini(&b);
        assert_null(b.data);
        assert_int_equal(b.cap, 0);
    }
}

static void test_put_with_the_largest_max_works(void **state)
{
    (void)state;
    struct gw_buf b;
    gw_buf_init(&b, SIZE_MAX);
    gw_buf_puts(&b, "x");
    assert_int_equal(b.err, GW_OK);
    assert_string_equal(gw_buf_cstr(&b), "x");
    gw_buf_fini(&b);
}

static void test_cstr_of_an_empty_buffer_is_the_empty_string(void **state)
{
    (void)state;
    struct gw_buf b;
    gw_buf_init(&b, 0);
    assert_string_equal(gw_buf_cstr(&b), "");
    gw_buf_fini(&b);
}

static void test_printf_that_just_fits_and_one_more_behave(void **state)
{
    (void)state;
    struct gw_buf b;
    gw_buf_init(&b, 8);
    gw_buf_printf(&b, "%s-%d", "abc", 1234);
    assert_int_equal(b.err, GW_OK);
    assert_string_equal(gw_buf_cstr(&b), "abc-1234");
    gw_buf_printf(&b, "%s", "");
    assert_int_equal(b.err, GW_OK);
    gw_buf_printf(&b, "%c", 'x');
    assert_int_equal(b.err, GW_ERR_LIMIT);
    gw_buf_fini(&b);
}

static void test_integers_are_little_endian(void **state)
{
    (void)state;
    struct gw_buf b;
    gw_buf_init(&b, 64);
    gw_buf_u16(&b, 0x0102);
    gw_buf_u32(&b, 0x03040506);
    gw_buf_u64(&b, 0x0708090A0B0C0D0E);
    gw_buf_bytes(&b, "hi", 2);
    assert_int_equal(b.len, 20);
    assert_memory_equal(b.data, "\x02\x01\x06\x05\x04\x03\x0E\x0D\x0C\x0B\x0A\x09\x08\x07\x02\x00\x00\x00hi",
                        20);
    gw_buf_fini(&b);
}

static void test_bytes_whose_length_fits_but_not_their_content_is_sticky(void **state)
{
    (void)state;
    struct gw_buf b;
    gw_buf_init(&b, 5);
    gw_buf_bytes(&b, "abc", 3);
    assert_int_equal(b.err, GW_ERR_LIMIT);
    gw_buf_fini(&b);
}

static void test_consume_moves_the_rest_to_the_front(void **state)
{
    (void)state;
    struct gw_buf b;
    gw_buf_init(&b, 16);
    gw_buf_puts(&b, "abcdef");
    gw_buf_consume(&b, 2);
    assert_string_equal(gw_buf_cstr(&b), "cdef");
    gw_buf_consume(&b, 4);
    assert_int_equal(b.len, 0);
    gw_buf_consume(&b, 0);
    gw_buf_puts(&b, "0123456789abcdef");
    assert_int_equal(b.err, GW_OK);
    gw_buf_fini(&b);
}

static void test_reader_returns_what_was_written(void **state)
{
    (void)state;
    struct gw_buf b;
    struct gw_reader r;
    const uint8_t *bytes;
    gw_buf_init(&b, 100);
    gw_buf_u8(&b, 255);
    gw_buf_u16(&b, 65535);
    gw_buf_u32(&b, UINT32_MAX);
    gw_buf_u64(&b, UINT64_MAX - 1);
    gw_buf_f32(&b, -0.0f);
    gw_buf_f64(&b, NAN);
    gw_buf_bytes(&b, "xyz", 3);
    gw_reader_init(&r, b.data, b.len);
    assert_int_equal(gw_read_u8(&r), 255);
    assert_int_equal(gw_read_u16(&r), 65535);
    assert_int_equal(gw_read_u32(&r), UINT32_MAX);
    assert_true(gw_read_u64(&r) == UINT64_MAX - 1);
    assert_true(signbit(gw_read_f32(&r)));
    assert_true(isnan(gw_read_f64(&r)));
    assert_int_equal(gw_read_bytes(&r, 3, &bytes), 3);
    assert_memory_equal(bytes, "xyz", 3);
    assert_int_equal(gw_reader_finish(&r), GW_OK);
    gw_buf_fini(&b);
}

/* The bytes are a heap block of their exact length: AddressSanitizer sees a read past the end. */
static void test_reader_every_truncation_fails_and_stays_failed(void **state)
{
    (void)state;
    uint8_t whole[15] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    for (size_t len = 0; len < sizeof whole; len++) {
        uint8_t *cut = malloc(len ? len : 1);
        struct gw_reader r;
        assert_non_null(cut);
        memcpy(cut, whole, len);
        gw_reader_init(&r, cut, len);
        gw_read_u8(&r);
        gw_read_u16(&r);
        gw_read_u32(&r);
        gw_read_u64(&r);
        assert_int_equal(r.err, GW_ERR_PROTO);
        assert_int_equal(r.pos, r.len);
        assert_int_equal(gw_read_u8(&r), 0);
        assert_null(gw_read_raw(&r, 0));
        assert_int_equal(gw_reader_finish(&r), GW_ERR_PROTO);
        free(cut);
    }
}

static void test_reader_finish_with_a_byte_left_over_fails(void **state)
{
    (void)state;
    struct gw_reader r;
    gw_reader_init(&r, "ab", 2);
    gw_read_u8(&r);
    assert_int_equal(gw_reader_finish(&r), GW_ERR_PROTO);
}

static void test_reader_of_nothing_is_finished(void **state)
{
    (void)state;
    struct gw_reader r;
    gw_reader_init(&r, NULL, 0);
    assert_int_equal(gw_reader_finish(&r), GW_OK);
}

static void test_read_bytes_longer_than_max_or_data_fails(void **state)
{
    (void)state;
    struct gw_reader r;
    const uint8_t *out = (const uint8_t *)"untouched";
    gw_reader_init(&r, "\x03\x00\x00\x00xyz", 7);
    assert_int_equal(gw_read_bytes(&r, 2, &out), 0);
    assert_null(out);
    assert_int_equal(r.err, GW_ERR_PROTO);
    gw_reader_init(&r, "\xFF\xFF\xFF\xFFxyz", 7);
    assert_int_equal(gw_read_bytes(&r, SIZE_MAX, &out), 0);
    assert_int_equal(r.err, GW_ERR_PROTO);
}

static void test_read_count_of_more_items_than_there_are_bytes_fails(void **state)
{
    (void)state;
    struct gw_reader r;
    gw_reader_init(&r,
                   "\x02\x00\x00\x00"
                   "12345678",
                   12);
    assert_int_equal(gw_read_count(&r, 2, 4), 2);
    assert_int_equal(r.err, GW_OK);
    gw_reader_init(&r,
                   "\x02\x00\x00\x00"
                   "1234567",
                   11);
    assert_int_equal(gw_read_count(&r, 2, 4), 0);
    assert_int_equal(r.err, GW_ERR_PROTO);
    gw_reader_init(&r,
                   "\x03\x00\x00\x00"
                   "123456789012",
                   16);
    assert_int_equal(gw_read_count(&r, 2, 4), 0);
    assert_int_equal(r.err, GW_ERR_PROTO);
    gw_reader_init(&r, "\xFF\xFF\xFF\xFF", 4);
    assert_int_equal(gw_read_count(&r, UINT32_MAX, 8), 0);
    assert_int_equal(r.err, GW_ERR_PROTO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_put_beyond_max_is_sticky_and_keeps_what_was_there),
        cmocka_unit_test(test_put_one_by_one_up_to_max_keeps_the_invariants),
        cmocka_unit_test(test_put_with_the_largest_max_works),
        cmocka_unit_test(test_cstr_of_an_empty_buffer_is_the_empty_string),
        cmocka_unit_test(test_printf_that_just_fits_and_one_more_behave),
        cmocka_unit_test(test_integers_are_little_endian),
        cmocka_unit_test(test_bytes_whose_length_fits_but_not_their_content_is_sticky),
        cmocka_unit_test(test_consume_moves_the_rest_to_the_front),
        cmocka_unit_test(test_reader_returns_what_was_written),
        cmocka_unit_test(test_reader_every_truncation_fails_and_stays_failed),
        cmocka_unit_test(test_reader_finish_with_a_byte_left_over_fails),
        cmocka_unit_test(test_reader_of_nothing_is_finished),
        cmocka_unit_test(test_read_bytes_longer_than_max_or_data_fails),
        cmocka_unit_test(test_read_count_of_more_items_than_there_are_bytes_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
