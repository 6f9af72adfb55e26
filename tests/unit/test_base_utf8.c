/* base/utf8: table 3-7 of the Unicode standard, at every edge, and each cut of a good sequence asks for more.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

/* What a decoder straight from the definition says about the four bytes: code point from the pattern of bits,
 * then overlong forms, surrogates and the end of the code space ruled out. Length or 0. */
static int reference_sequence(const uint8_t *p)
{
    static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
    int n = p[0] < 0x80             ? 1
            : (p[0] & 0xE0) == 0xC0 ? 2
            : (p[0] & 0xF0) == 0xE0 ? 3
            : (p[0] & 0xF8) == 0xF0 ? 4
                                    : 0;
    if (n <= 1) return n;
    uint32_t code = p[0] & (0x7Fu >> n);
    for (int i = 1; i < n; i++) {
        if ((p[i] & 0xC0) != 0x80) return 0;
        code = code << 6 | (p[i] & 0x3Fu);
    }
    if (code < smallest[n] || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF)) return 0;
    return n;
}

static void test_sequence_every_lead_and_second_byte_agrees_with_the_definition(void **state)
{
    (void)state;
    static const uint8_t tails[] = {0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xFF};
    for (int lead = 0; lead < 256; lead++)
        for (int second = 0; second < 256; second++)
            for (size_t i = 0; i < sizeof tails; i++)
                for (size_t j = 0; j < sizeof tails; j++) {
                    uint8_t p[4] = {(uint8_t)lead, (uint8_t)second, tails[i], tails[j]};
                    if (gw_utf8_sequence(p, 4) != reference_sequence(p))
                        fail_msg("%02x %02x %02x %02x", p[0], p[1], p[2], p[3]);
                }
}

/* Each prefix is a heap block of its exact length: AddressSanitizer sees a read past the end. */
static void test_sequence_cut_short_asks_for_more(void **state)
{
    (void)state;
    static const char *const good[] = {"\xC2\x80",     "\xDF\xBF",         "\xE0\xA0\x80",    "\xED\x9F\xBF",
                                       "\xEF\xBF\xBF", "\xF0\x90\x80\x80", "\xF4\x8F\xBF\xBF"};
    for (size_t g = 0; g < sizeof good / sizeof *good; g++) {
        size_t whole = strlen(good[g]);
        for (size_t len = 1; len <= whole; len++) {
            uint8_t *cut = malloc(len);
            assert_non_null(cut);
            memcpy(cut, good[g], len);
            assert_int_equal(gw_utf8_sequence(cut, len), len == whole ? (int)whole : -1);
            assert_int_equal(gw_utf8_valid((const char *)cut, len), len == whole);
            free(cut);
        }
    }
}

static void test_sequence_malformed_prefix_is_not_worth_waiting_for(void **state)
{
    (void)state;
    static const char *const bad[] = {"\x80",
                                      "\xBF",
                                      "\xC0",
                                      "\xC1",
                                      "\xF5",
                                      "\xFF",
                                      "\xE0\x9F",
                                      "\xED\xA0",
                                      "\xF0\x8F",
                                      "\xF4\x90",
                                      "\xC2\x41",
                                      "\xE1\x80\x41",
                                      "\xF1\x80\x80\x41",
                                      "\xF1\x80\x41",
                                      "\xE1\xFF"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(gw_utf8_sequence((const uint8_t *)bad[i], strlen(bad[i])), 0);
        assert_false(gw_utf8_valid(bad[i], strlen(bad[i])));
    }
}

static void test_valid_looks_at_every_byte(void **state)
{
    (void)state;
    char text[] = "plain \xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80 end";
    size_t len = sizeof text - 1;
    assert_true(gw_utf8_valid(text, len));
    assert_true(gw_utf8_valid("", 0));
    assert_true(gw_utf8_valid("a\0b", 3));
    for (size_t i = 0; i < len; i++) {
        char old = text[i];
        text[i] = (char)0xFF;
        assert_false(gw_utf8_valid(text, len));
        text[i] = old;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sequence_every_lead_and_second_byte_agrees_with_the_definition),
        cmocka_unit_test(test_sequence_cut_short_asks_for_more),
        cmocka_unit_test(test_sequence_malformed_prefix_is_not_worth_waiting_for),
        cmocka_unit_test(test_valid_looks_at_every_byte),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
