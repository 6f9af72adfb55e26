/* controller/text/stops: nothing of a stop string is shown, however the text is cut. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "controller/text/stops.h"

#define TEXT_MAX 4096

/* Feeds text in pieces of at most `piece` bytes and flushes; *hit says whether a stop string was found. */
static void run(const char *const *strings, int len, bool include, const char *text, size_t piece,
                char *shown, bool *hit)
{
    struct gw_stops s;
    struct gw_buf out;
    gw_buf_init(&out, TEXT_MAX);
    assert_int_equal(gw_stops_init(&s, strings, len, include), GW_OK);
    for (size_t i = 0, n = strlen(text); i < n; i += piece)
        gw_stops_push(&s, text + i, n - i < piece ? n - i : piece, &out);
    *hit = s.hit;
    if (!s.hit) gw_stops_flush(&s, &out);
    const char *all = gw_buf_cstr(&out);
    assert_non_null(all);
    strcpy(shown, all);
    gw_stops_fini(&s);
    gw_buf_fini(&out);
}

static void assert_shown(const char *const *strings, int len, bool include, const char *text,
                         const char *want, bool want_hit)
{
    char shown[TEXT_MAX];
    bool hit;
    for (size_t piece = 1; piece <= strlen(text); piece++) {
        run(strings, len, include, text, piece, shown, &hit);
        assert_string_equal(shown, want);
        assert_int_equal(hit, want_hit);
    }
}

static void test_push_text_without_a_stop_is_shown_whole(void **state)
{
    (void)state;
    const char *const stops[] = {"END", "###"};
    assert_shown(stops, 2, false, "no end here, EN## and ##", "no end here, EN## and ##", false);
    assert_shown(stops, 0, false, "nothing to stop at", "nothing to stop at", false);
}

static void test_push_cuts_before_the_stop_or_behind_it(void **state)
{
    (void)state;
    const char *const stops[] = {"END"};
    assert_shown(stops, 1, false, "one ENEND two END", "one EN", true);
    assert_shown(stops, 1, true, "one ENEND two END", "one ENEND", true);
    assert_shown(stops, 1, false, "END", "", true);
}

static void test_push_the_match_that_ends_first_wins(void **state)
{
    (void)state;
    const char *const stops[] = {"abcdef", "cd"};
    assert_shown(stops, 2, false, "xabcdefg", "xab", true);
}

static void test_push_of_matches_that_end_together_the_longest_wins(void **state)
{
    (void)state;
    const char *const stops[] = {"cd", "abcd", "bcd"};
    assert_shown(stops, 3, false, "xabcdefg", "x", true);
    assert_shown(stops, 3, false, "x-bcdefg", "x-", true);
}

static void test_push_holds_only_the_beginning_of_a_stop(void **state)
{
    (void)state;
    const char *const stops[] = {"\n\nUser:"};
    struct gw_stops s;
    struct gw_buf out;
    gw_buf_init(&out, TEXT_MAX);
    assert_int_equal(gw_stops_init(&s, stops, 1, false), GW_OK);
    assert_false(gw_stops_push(&s, "hello\n", 6, &out));
    assert_int_equal(out.len, 5);
    assert_false(gw_stops_push(&s, "\n", 1, &out));
    assert_int_equal(out.len, 5);
    assert_false(gw_stops_push(&s, "\n", 1, &out)); /* the first newline is out of the game */
    assert_int_equal(out.len, 6);
    assert_false(gw_stops_push(&s, "Use of", 6, &out));
    assert_int_equal(out.len, 14);
    assert_true(gw_stops_push(&s, "\n\nUser: more", 12, &out));
    assert_string_equal(gw_buf_cstr(&out), "hello\n\n\nUse of");
    assert_true(gw_stops_push(&s, "and more", 8, &out));
    assert_int_equal(out.len, 14);
    gw_stops_fini(&s);
    gw_buf_fini(&out);
}

static void test_init_too_many_too_long_or_empty_is_refused(void **state)
{
    (void)state;
    struct gw_stops s;
    const char *many[GW_STOPS_MAX + 1];
    char longest[GW_STOPS_BYTES_MAX + 2];
    const char *one = longest;
    for (int i = 0; i <= GW_STOPS_MAX; i++) many[i] = "x";
    assert_int_equal(gw_stops_init(&s, many, GW_STOPS_MAX + 1, false), GW_ERR_LIMIT);
    memset(longest, 'y', sizeof longest);
    longest[GW_STOPS_BYTES_MAX + 1] = '\0';
    assert_int_equal(gw_stops_init(&s, &one, 1, false), GW_ERR_LIMIT);
    gw_stops_fini(&s);
    longest[GW_STOPS_BYTES_MAX] = '\0';
    assert_int_equal(gw_stops_init(&s, &one, 1, false), GW_OK);
    gw_stops_fini(&s);
    longest[0] = '\0';
    assert_int_equal(gw_stops_init(&s, &one, 1, false), GW_ERR_LIMIT);
}

/* The definition, spelt out: the end of the first match, then its earliest beginning. */
static size_t expected(const char *const *stops, int len, const char *text, size_t *cut)
{
    for (size_t end = 1; end <= strlen(text); end++) {
        size_t best = 0;
        for (int i = 0; i < len; i++) {
            size_t n = strlen(stops[i]);
            if (n <= end && n > best && memcmp(text + end - n, stops[i], n) == 0) best = n;
        }
        *cut = end - best;
        if (best > 0) return end;
    }
    *cut = strlen(text);
    return 0;
}

static void test_push_random_texts_equal_the_definition(void **state)
{
    (void)state;
    struct gw_rng rng;
    gw_rng_init(&rng, 11);
    for (int round = 0; round < 3000; round++) {
        char words[3][8], text[40], shown[TEXT_MAX];
        const char *stops[3] = {words[0], words[1], words[2]};
        for (int i = 0; i < 3; i++) {
            size_t n = 1 + gw_rng_below(&rng, 6);
            for (size_t k = 0; k < n; k++) words[i][k] = (char)('a' + gw_rng_below(&rng, 2));
            words[i][n] = '\0';
        }
        size_t len = gw_rng_below(&rng, 30), cut;
        for (size_t k = 0; k < len; k++) text[k] = (char)('a' + (gw_rng_below(&rng, 8) == 0));
        text[len] = '\0';
        size_t end = expected(stops, 3, text, &cut);
        bool hit;
        run(stops, 3, false, text, 1 + gw_rng_below(&rng, 5), shown, &hit);
        assert_int_equal(hit, end > 0);
        assert_int_equal(strlen(shown), cut);
        assert_memory_equal(shown, text, cut);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_push_text_without_a_stop_is_shown_whole),
        cmocka_unit_test(test_push_cuts_before_the_stop_or_behind_it),
        cmocka_unit_test(test_push_the_match_that_ends_first_wins),
        cmocka_unit_test(test_push_of_matches_that_end_together_the_longest_wins),
        cmocka_unit_test(test_push_holds_only_the_beginning_of_a_stop),
        cmocka_unit_test(test_init_too_many_too_long_or_empty_is_refused),
        cmocka_unit_test(test_push_random_texts_equal_the_definition),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
