/* controller/text/tokenizer: the reference's ids on every golden text, and no text that takes long. What files
 * are accepted: test_tokenizer_files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"
#include "base/rng.h"
#include "controller/text/nfc.h"
#include "controller/text/split.h"
#include "controller/text/tokenizer.h"
#include "tests/lib/text_goldens.h"

#define MODEL_DIR "tests/models/tattler-3m"
#define GOLDENS   "tests/data/text/tokenizer.json"
#define PIECES    "tests/data/text/llama3_pattern.json"
#define LLAMA3                                                                                               \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*"  \
    "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define IDS_MAX    ((size_t)1 << 24)
#define HUGE_BYTES ((size_t)1 << 20)
/* A megabyte takes 0.1 to 0.5 s of processor time in this build; quadratic work would take hours. */
#define HUGE_CPU_S 10.0

static int open_model(void **state)
{
    struct gw_tokenizer *t = NULL;
    struct gw_err_ctx ctx = {0};
    if (gw_tokenizer_open(MODEL_DIR, &t, &ctx) != GW_OK) {
        print_error("%s\n", ctx.text);
        return -1;
    }
    *state = t;
    return 0;
}

static int close_model(void **state)
{
    gw_tokenizer_close(*state);
    return 0;
}

static void assert_ids(const struct gw_tokenizer *t, const char *text, size_t len, unsigned flags,
                       const cJSON *want)
{
    uint32_t *ids = NULL;
    size_t n = 0, i = 0;
    const cJSON *id;
    struct gw_err_ctx ctx = {0};
    if (gw_tokenizer_encode(t, text, len, flags, IDS_MAX, &ids, &n, &ctx) != GW_OK) fail_msg("%s", ctx.text);
    if (n != (size_t)cJSON_GetArraySize(want)) fail_msg("%zu ids for \"%.60s\"", n, text);
    cJSON_ArrayForEach(id, want)
    {
        if (ids[i] != (uint32_t)id->valuedouble) fail_msg("id %zu of \"%.60s\" is %u", i, text, ids[i]);
        i++;
    }
    free(ids);
}

static void test_encode_goldens_equal_the_reference(void **state)
{
    cJSON *cases = goldens_read(GOLDENS), *item;
    assert_true(cJSON_GetArraySize(cases) > 100);
    cJSON_ArrayForEach(item, cases)
    {
        const cJSON *ids = cJSON_GetObjectItem(item, "ids"), *plain = cJSON_GetObjectItem(item, "ids_plain");
        const char *text = cJSON_GetObjectItem(item, "text")->valuestring;
        assert_ids(*state, text, goldens_text_len(*state, ids), GW_ENCODE_PARSE_SPECIAL, ids);
        assert_ids(*state, text, goldens_text_len(*state, plain), 0, plain);
    }
    cJSON_Delete(cases);
}

static void assert_pieces(const struct gw_split *split, struct gw_matcher *m, const cJSON *item)
{
    const char *text = cJSON_GetObjectItem(item, "text")->valuestring, *word;
    const cJSON *piece;
    struct gw_split_walk walk = {.text = text, .len = strlen(text)};
    size_t len;
    cJSON_ArrayForEach(piece, cJSON_GetObjectItem(item, "pieces"))
    {
        assert_int_equal(gw_split_next(split, m, &walk, &word, &len, NULL), GW_OK);
        if (len != strlen(piece->valuestring) || memcmp(word, piece->valuestring, len) != 0)
            fail_msg("\"%s\": piece \"%.*s\", not \"%s\"", text, (int)len, word, piece->valuestring);
    }
    assert_int_equal(gw_split_next(split, m, &walk, &word, &len, NULL), GW_OK);
    assert_int_equal(len, 0);
}

static void test_split_next_llama3_goldens_equal_the_reference(void **state)
{
    (void)state;
    cJSON *cases = goldens_read(PIECES), *item;
    struct gw_split *split = NULL;
    struct gw_matcher m;
    int tried = 0;
    assert_int_equal(gw_split_create(LLAMA3, strlen(LLAMA3), &split, NULL), GW_OK);
    assert_int_equal(gw_matcher_init(&m, GOLDENS_BYTES_MAX), GW_OK);
    cJSON_ArrayForEach(item, cases)
    {
        const char *text = cJSON_GetObjectItem(item, "text")->valuestring;
        const cJSON *first = cJSON_GetObjectItem(item, "pieces")->child;
        if (strlen(text) == 0 || strlen(first->valuestring) == 0) continue; /* U+0000: cJSON cuts there */
        size_t total = 0;
        for (const cJSON *p = first; p; p = p->next) total += strlen(p->valuestring);
        if (total != strlen(text)) continue;
        assert_pieces(split, &m, item);
        tried++;
    }
    assert_true(tried > 150);
    cJSON_Delete(cases);
    gw_matcher_fini(&m);
    gw_split_destroy(split);
}

static void test_encode_add_special_puts_bos_in_front(void **state)
{
    uint32_t *ids = NULL, *plain = NULL;
    size_t n = 0, n_plain = 0, len;
    assert_int_equal(gw_tokenizer_encode(*state, "Hi", 2, GW_ENCODE_ADD_SPECIAL, 8, &ids, &n, NULL), GW_OK);
    assert_int_equal(gw_tokenizer_encode(*state, "Hi", 2, 0, 8, &plain, &n_plain, NULL), GW_OK);
    assert_int_equal(n, n_plain + 1);
    assert_memory_equal(ids + 1, plain, n_plain * sizeof *plain);
    const char *bos = gw_tokenizer_bytes(*state, ids[0], &len);
    assert_int_equal(len, strlen(gw_tokenizer_bos(*state)));
    assert_memory_equal(bos, gw_tokenizer_bos(*state), len);
    free(ids);
    free(plain);
}

static void test_encode_special_text_without_the_flag_is_plain(void **state)
{
    const char *text = "a<|eot_id|>b";
    uint32_t *ids = NULL;
    size_t n = 0;
    assert_int_equal(gw_tokenizer_encode(*state, text, strlen(text), 0, 100, &ids, &n, NULL), GW_OK);
    for (size_t i = 0; i < n; i++) assert_false(gw_tokenizer_is_special(*state, ids[i]));
    free(ids);
    assert_int_equal(
        gw_tokenizer_encode(*state, text, strlen(text), GW_ENCODE_PARSE_SPECIAL, 100, &ids, &n, NULL), GW_OK);
    assert_int_equal(n, 3);
    assert_true(gw_tokenizer_is_special(*state, ids[1]));
    free(ids);
}

static void test_encode_bad_text_is_refused_and_out_untouched(void **state)
{
    static char mark;
    uint32_t *ids = (uint32_t *)(void *)&mark;
    size_t n = 77;
    struct gw_err_ctx ctx = {0};
    char *huge = malloc(((size_t)16 << 20) + 1);
    assert_non_null(huge);
    memset(huge, 'a', ((size_t)16 << 20) + 1);
    assert_int_equal(gw_tokenizer_encode(*state, "a\xFF", 2, 0, 100, &ids, &n, &ctx), GW_ERR_INPUT);
    assert_int_equal(gw_tokenizer_encode(*state, "\xC3", 1, 0, 100, &ids, &n, NULL), GW_ERR_INPUT);
    assert_int_equal(gw_tokenizer_encode(*state, huge, ((size_t)16 << 20) + 1, 0, IDS_MAX, &ids, &n, NULL),
                     GW_ERR_LIMIT);
    assert_int_equal(gw_tokenizer_encode(*state, huge, 10000, 0, 100, &ids, &n, NULL), GW_ERR_LIMIT);
    assert_int_equal(gw_tokenizer_encode(*state, "a b c", 5, GW_ENCODE_ADD_SPECIAL, 3, &ids, &n, NULL),
                     GW_ERR_LIMIT);
    assert_ptr_equal(ids, &mark);
    assert_int_equal(n, 77);
    free(huge);
}

static void test_encode_empty_text_gives_no_ids(void **state)
{
    uint32_t *ids = NULL;
    size_t n = 77;
    assert_int_equal(gw_tokenizer_encode(*state, "", 0, 0, 0, &ids, &n, NULL), GW_OK);
    assert_int_equal(n, 0);
    free(ids);
}

static void put_random_char(struct gw_rng *rng, struct gw_buf *text)
{
    static const uint32_t limits[] = {0x80, 0x80, 0x300, 0x800, 0x3000, 0x10000, 0x110000};
    uint32_t c = (uint32_t)gw_rng_below(rng, limits[gw_rng_below(rng, 7)]);
    if (c >= 0xD800 && c < 0xE000) c = ' ';
    if (c < 0x80) {
        gw_buf_u8(text, (uint8_t)c);
    } else if (c < 0x800) {
        gw_buf_u8(text, (uint8_t)(0xC0 | c >> 6));
        gw_buf_u8(text, (uint8_t)(0x80 | (c & 0x3F)));
    } else {
        if (c < 0x10000) {
            gw_buf_u8(text, (uint8_t)(0xE0 | c >> 12));
        } else {
            gw_buf_u8(text, (uint8_t)(0xF0 | c >> 18));
            gw_buf_u8(text, (uint8_t)(0x80 | (c >> 12 & 0x3F)));
        }
        gw_buf_u8(text, (uint8_t)(0x80 | (c >> 6 & 0x3F)));
        gw_buf_u8(text, (uint8_t)(0x80 | (c & 0x3F)));
    }
}

/* Whatever the text, the bytes of its ids are the text. */
static void test_encode_random_texts_keep_every_byte(void **state)
{
    struct gw_rng rng;
    struct gw_buf text, back;
    gw_rng_init(&rng, 3);
    gw_buf_init(&text, 4096);
    gw_buf_init(&back, 4096);
    for (int round = 0; round < 1000; round++) {
        uint32_t *ids = NULL;
        size_t n = 0, len;
        gw_buf_reset(&text);
        gw_buf_reset(&back);
        for (uint64_t i = gw_rng_below(&rng, 60); i > 0; i--) put_random_char(&rng, &text);
        assert_int_equal(
            gw_tokenizer_encode(*state, gw_buf_cstr(&text), text.len, 0, IDS_MAX, &ids, &n, NULL), GW_OK);
        for (size_t i = 0; i < n; i++) {
            const char *bytes = gw_tokenizer_bytes(*state, ids[i], &len);
            gw_buf_put(&back, bytes, len);
        }
        assert_int_equal(back.len, text.len);
        assert_memory_equal(back.data ? back.data : text.data, text.data, text.len);
        free(ids);
    }
    gw_buf_fini(&text);
    gw_buf_fini(&back);
}

static double cpu_s(void)
{
    return (double)clock() / CLOCKS_PER_SEC;
}

static char *repeated(const char *unit, size_t *len)
{
    size_t n = strlen(unit);
    *len = HUGE_BYTES / n * n;
    char *text = malloc(*len);
    assert_non_null(text);
    for (size_t i = 0; i < *len; i += n) memcpy(text + i, unit, n);
    return text;
}

static void test_encode_a_megabyte_of_anything_takes_about_linear_time(void **state)
{
    static const char *const units[] = {" ",          "a",
                                        "\u0301",     "1",
                                        "\n",         " \n",
                                        "    \n  x",  "  x",
                                        "\r\n",       "ab",
                                        "the ",       "!",
                                        "'s",         "<",
                                        "<|",         "<|reserved_special_token_",
                                        "<|eot_id|>", "e\u0301",
                                        "\u00A0",     "Aa",
                                        "🦆",       "\u0301\u0316",
                                        "\u2028\t"};
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        size_t len, n = 0;
        uint32_t *ids = NULL;
        char *text = repeated(units[i], &len);
        double start = cpu_s();
        gw_err_t err =
            gw_tokenizer_encode(*state, text, len, GW_ENCODE_PARSE_SPECIAL, IDS_MAX, &ids, &n, NULL);
        if (err != GW_OK || cpu_s() - start > HUGE_CPU_S)
            fail_msg("1 MB of \"%s\": %s after %.1f s", units[i], gw_err_name(err), cpu_s() - start);
        free(ids);
        free(text);
    }
}

static void test_nfc_a_megabyte_of_alternating_marks_takes_about_linear_time(void **state)
{
    (void)state;
    size_t len, out_len = 0;
    char *text = repeated("\u0301\u0316", &len), *out = NULL;
    double start = cpu_s();
    assert_int_equal(gw_nfc(text, len, &out, &out_len), GW_OK);
    assert_true(cpu_s() - start < HUGE_CPU_S);
    assert_int_equal(out_len, len);
    assert_memory_equal(out, "\u0316\u0316", 4); /* class 220 before class 230 */
    assert_memory_equal(out + len - 4, "\u0301\u0301", 4);
    free(text);
    free(out);
}

/* From NormalizationTest.txt, and UAX #15's examples. */
static void test_nfc_composes_and_orders(void **state)
{
    (void)state;
    static const char *const pairs[][2] = {
        {"", ""},
        {"abc", "abc"},
        {"e\u0301", "é"},
        {"\u1E0A", "\u1E0A"},
        {"D\u0307", "\u1E0A"},
        {"\u1E0C\u0307", "\u1E0C\u0307"},
        {"\u1E0A\u0323", "\u1E0C\u0307"},
        {"D\u0307\u0323", "\u1E0C\u0307"},
        {"\u212B", "\u00C5"},
        {"\u0344", "\u0308\u0301"},
        {"\u1112\u1161\u11AB", "\uD55C"},
        {"\uAC00\u11A8", "\uAC01"},
        {"\u0958", "\u0915\u093C"}, /* composition exclusion */
        {"\u1F82", "\u1F82"},
        {"a\u0315\u0300\u05AE\u0301b", "\u00E0\u05AE\u0301\u0315b"},
        {"q\u0323\u0307", "q\u0323\u0307"},
        {"q\u0307\u0323", "q\u0323\u0307"},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        char *out = NULL;
        size_t len = 0;
        assert_int_equal(gw_nfc(pairs[i][0], strlen(pairs[i][0]), &out, &len), GW_OK);
        assert_string_equal(out, pairs[i][1]);
        assert_int_equal(len, strlen(out));
        if (gw_nfc_trivial(pairs[i][0], strlen(pairs[i][0]))) assert_string_equal(out, pairs[i][0]);
        free(out);
    }
}

/* What Oniguruma and PCRE2 read differently: U+180E is no white space, U+0085 is. */
static void test_split_next_white_space_is_unicodes(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"\\s+", "a\xC2\x85\u2003b"}, {"\\s+", "a\u3000b"}, {"\\S+", "\u2028a\u2029"}};
    struct gw_matcher m;
    const char *word;
    size_t len;
    assert_int_equal(gw_matcher_init(&m, 100), GW_OK);
    for (int i = 0; i < 3; i++) {
        struct gw_split *s = NULL;
        struct gw_split_walk walk = {.text = cases[i][1], .len = strlen(cases[i][1])};
        int words = 0;
        assert_int_equal(gw_split_create(cases[i][0], 3, &s, NULL), GW_OK);
        do {
            assert_int_equal(gw_split_next(s, &m, &walk, &word, &len, NULL), GW_OK);
            words += len > 0;
        } while (len > 0);
        assert_int_equal(words, 3);
        gw_split_destroy(s);
    }
    struct gw_split *s = NULL;
    struct gw_split_walk walk = {.text = "a\u180Eb", .len = 5};
    assert_int_equal(gw_split_create("[\\s]", 4, &s, NULL), GW_OK);
    assert_int_equal(gw_split_next(s, &m, &walk, &word, &len, NULL), GW_OK);
    assert_int_equal(len, 5);
    gw_split_destroy(s);
    gw_matcher_fini(&m);
}

static void test_split_create_patterns_that_mean_something_else_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "\\w+", "\\b", "a\\h", "[a[bc]]", "[a-z&&[^b]]", "(?R)",  "(?<n>a)", "(?x)a",  "(*UTF)a", "a*",
        "",     "a|",  "(",    "[a",      "a\\",         "\\x41", "\\u0041", "(?C1)a", "\\Ka",    "(?i-s:a)"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct gw_split *s = NULL;
        struct gw_err_ctx ctx = {0};
        if (gw_split_create(bad[i], strlen(bad[i]), &s, &ctx) != GW_ERR_INPUT) fail_msg("%s", bad[i]);
        assert_null(s);
        assert_true(strlen(ctx.text) > 0);
    }
}

/* A pattern with exponential backtracking ends at the step limit. */
static void test_split_next_runaway_backtracking_ends_at_the_limit(void **state)
{
    (void)state;
    static const char text[] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa1x";
    struct gw_split *s = NULL;
    struct gw_matcher m;
    const char *word;
    size_t len;
    struct gw_split_walk walk = {.text = text, .len = strlen(text)};
    assert_int_equal(gw_split_create("(?:a+)+\\d\\d", 11, &s, NULL), GW_OK);
    assert_int_equal(gw_matcher_init(&m, strlen(text)), GW_OK);
    assert_int_equal(gw_split_next(s, &m, &walk, &word, &len, NULL), GW_ERR_LIMIT);
    gw_matcher_fini(&m);
    gw_split_destroy(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_encode_goldens_equal_the_reference),
        cmocka_unit_test(test_split_next_llama3_goldens_equal_the_reference),
        cmocka_unit_test(test_encode_add_special_puts_bos_in_front),
        cmocka_unit_test(test_encode_special_text_without_the_flag_is_plain),
        cmocka_unit_test(test_encode_bad_text_is_refused_and_out_untouched),
        cmocka_unit_test(test_encode_empty_text_gives_no_ids),
        cmocka_unit_test(test_encode_random_texts_keep_every_byte),
        cmocka_unit_test(test_encode_a_megabyte_of_anything_takes_about_linear_time),
        cmocka_unit_test(test_nfc_a_megabyte_of_alternating_marks_takes_about_linear_time),
        cmocka_unit_test(test_nfc_composes_and_orders),
        cmocka_unit_test(test_split_next_white_space_is_unicodes),
        cmocka_unit_test(test_split_create_patterns_that_mean_something_else_are_refused),
        cmocka_unit_test(test_split_next_runaway_backtracking_ends_at_the_limit),
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
