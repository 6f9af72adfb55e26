/* base/json: what is not JSON, too large, too deep or not finite is refused; getters name the field at fault.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <float.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"

#define TEXT_MAX 4096

static gw_err_t parse(const char *text, size_t len, struct gw_err_ctx *ctx)
{
    cJSON *tree = NULL;
    gw_err_t err = gw_json_parse(text, len, TEXT_MAX, &tree, ctx);
    if (err == GW_OK)
        assert_non_null(tree);
    else
        assert_null(tree);
    cJSON_Delete(tree);
    return err;
}

static cJSON *object(const char *text)
{
    cJSON *tree = NULL;
    assert_int_equal(gw_json_parse(text, strlen(text), TEXT_MAX, &tree, NULL), GW_OK);
    return tree;
}

static void test_parse_well_formed_text_is_accepted(void **state)
{
    (void)state;
    static const char *const good[] = {
        "{}",
        "[]",
        "null",
        "true",
        " \t\r\n1 \n",
        "-0",
        "1e308",
        "2.2250738585072014e-308",
        "\"\"",
        "{\"a\":{\"b\":[1,2,{}]}}",
        "\"\\u00e9\\ud83d\\ude00 \\\\u0000\"",
        "\"[[[[\\\"]]]]\"",
        "\"\xF0\x9F\x98\x80\"",
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        if (parse(good[i], strlen(good[i]), NULL) != GW_OK) fail_msg("refused: %s", good[i]);
}

static void test_parse_broken_text_is_an_input_error(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        " ",
        "{",
        "}",
        "[1,",
        "[1 2]",
        "{\"a\"}",
        "{\"a\":}",
        "{a:1}",
        "{'a':1}",
        "nul",
        "tru",
        "NaN",
        "-NaN",
        "nan",
        "Infinity",
        "-Infinity",
        "[NaN]",
        "{\"t\":Infinity}",
        "1e999",
        "-1e999",
        "[0,1e400]",
        "{\"a\":{\"b\":[1e999]}}",
        "{} x",
        "1 2",
        "[]]",
        "\"",
        "\"\\\"",
        "\"\\x41\"",
        "\"\\ud800\"",
        "\"\\udc00\"",
        "\"\\ud800\\u0041\"",
        "\"\\u12\"",
        "\"\\u0000\"",
        "{\"a\\u0000b\":1}",
        "// c\n1",
        "[1,]",
        "\xC0\x80",
        "\"\xED\xA0\x80\"",
        "\"\xFF\"",
        "\"\xC3\"",
        "--1",
        "+1",
        "1-2",
        "0x10",
        "]",
        "]]]]]]]]",
        "\xEF\xBB\xBF",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct gw_err_ctx ctx = {0};
        if (parse(bad[i], strlen(bad[i]), &ctx) != GW_ERR_INPUT) fail_msg("not refused: %s", bad[i]);
        assert_true(ctx.text[0] != '\0');
    }
}

/* cJSON alone takes each of these. */
static void test_parse_what_only_a_lenient_parser_takes_is_refused(void **state)
{
    (void)state;
    static const char *const lenient[] = {
        "1.",       "01",          "-01",         "1.e5",           "[1.]",       "\"a\nb\"",    "\"\t\"",
        "\"\x1f\"", "\"\\u12g4\"", "\"\\u 123\"", "\xEF\xBB\xBF{}", "{\"a\":00}", "\"\\u+041\"", "[1,2.,3]",
    };
    for (size_t i = 0; i < sizeof lenient / sizeof *lenient; i++)
        assert_int_equal(parse(lenient[i], strlen(lenient[i]), NULL), GW_ERR_INPUT);
}

static void test_parse_of_no_bytes_at_null_is_an_input_error(void **state)
{
    (void)state;
    assert_int_equal(parse(NULL, 0, NULL), GW_ERR_INPUT);
}

static void test_parse_nul_bytes_are_refused(void **state)
{
    (void)state;
    assert_int_equal(parse("{}\0", 3, NULL), GW_ERR_INPUT);
    assert_int_equal(parse("\"a\0b\"", 5, NULL), GW_ERR_INPUT);
}

/* Each cut is a heap block of its exact length: AddressSanitizer sees a read past the end. */
static void test_parse_every_truncation_is_refused_without_reading_past_it(void **state)
{
    (void)state;
    static const char text[] =
        "{\"key\": [\"v\\n\\u00e9\", -12.5e+3, true, false, null, {\"x\": []}], \"\xC3\xA9\": 1}";
    for (size_t len = 1; len < sizeof text - 1; len++) {
        char *cut = malloc(len);
        assert_non_null(cut);
        memcpy(cut, text, len);
        assert_int_equal(parse(cut, len, NULL), GW_ERR_INPUT);
        free(cut);
    }
    assert_int_equal(parse(text, sizeof text - 1, NULL), GW_OK);
}

static void test_parse_depth_limit_counts_levels_not_brackets(void **state)
{
    (void)state;
    char text[4 * GW_JSON_DEPTH_MAX + 8];
    memset(text, '[', GW_JSON_DEPTH_MAX + 1);
    memset(text + GW_JSON_DEPTH_MAX + 1, ']', GW_JSON_DEPTH_MAX + 1);
    assert_int_equal(parse(text, 2 * (GW_JSON_DEPTH_MAX + 1), NULL), GW_ERR_INPUT);
    assert_int_equal(parse(text + 1, 2 * GW_JSON_DEPTH_MAX, NULL), GW_OK);
    char *at = text;
    *at++ = '[';
    for (int i = 0; i < GW_JSON_DEPTH_MAX; i++) at = stpcpy(at, i ? ",[]" : "[]");
    *at++ = ']';
    assert_int_equal(parse(text, (size_t)(at - text), NULL), GW_OK);
}

static void test_parse_depth_bomb_is_refused(void **state)
{
    (void)state;
    size_t len = 1 << 20;
    char *text = malloc(len);
    cJSON *tree = NULL;
    assert_non_null(text);
    memset(text, '[', len);
    assert_int_equal(gw_json_parse(text, len, len, &tree, NULL), GW_ERR_INPUT);
    for (size_t i = 0; i + 5 <= len; i += 5) memcpy(text + i, "{\"a\":", 5);
    assert_int_equal(gw_json_parse(text, len, len, &tree, NULL), GW_ERR_INPUT);
    assert_null(tree);
    free(text);
}

static void test_parse_one_byte_more_than_max_is_a_limit_error(void **state)
{
    (void)state;
    cJSON *tree = NULL;
    assert_int_equal(gw_json_parse("[10]", 4, 3, &tree, NULL), GW_ERR_LIMIT);
    assert_null(tree);
    assert_int_equal(gw_json_parse("[10]", 4, 4, &tree, NULL), GW_OK);
    cJSON_Delete(tree);
}

/* A number of 40 digits with text behind it once made cJSON 1.7.15 read past its copy. */
static void test_parse_endless_digits_do_no_harm(void **state)
{
    (void)state;
    char text[2000];
    memset(text, '9', sizeof text);
    assert_int_equal(parse(text, sizeof text, NULL), GW_ERR_INPUT);
    const char *known =
        "{\"a\": true, \"b\": [ null,9999999999999999999999999999999999999999999999912345678901234567]}";
    assert_int_equal(parse(known, strlen(known), NULL), GW_OK);
}

static void test_parse_error_text_says_where(void **state)
{
    (void)state;
    struct gw_err_ctx ctx = {0};
    assert_int_equal(parse("{\"a\": ?}", 8, &ctx), GW_ERR_INPUT);
    assert_non_null(strstr(ctx.text, "byte 6"));
}

static void test_parse_file_names_the_file_in_its_errors(void **state)
{
    (void)state;
    char path[] = "/tmp/gw-test-json-XXXXXX";
    struct gw_err_ctx ctx = {0};
    cJSON *tree = NULL;
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "{\"a\": nope}", 11), 11);
    close(fd);
    assert_int_equal(gw_json_parse_file(path, 100, &tree, &ctx), GW_ERR_INPUT);
    assert_non_null(strstr(ctx.text, path));
    gw_err_reset(&ctx);
    assert_int_equal(gw_json_parse_file(path, 10, &tree, &ctx), GW_ERR_LIMIT);
    assert_non_null(strstr(ctx.text, path));
    unlink(path);
    assert_int_equal(gw_json_parse_file(path, 10, &tree, NULL), GW_ERR_NOT_FOUND);
    assert_null(tree);
}

static void test_int_accepts_whole_numbers_in_range_only(void **state)
{
    (void)state;
    static const struct {
        const char *value;
        gw_err_t err;
        int64_t out;
    } cases[] = {
        {"3", GW_OK, 3},
        {"3.0", GW_OK, 3},
        {"-5", GW_OK, -5},
        {"1e1", GW_OK, 10},
        {"10", GW_OK, 10},
        {"null", GW_OK, 77},
        {"3.5", GW_ERR_INPUT, 77},
        {"11", GW_ERR_INPUT, 77},
        {"-6", GW_ERR_INPUT, 77},
        {"1e300", GW_ERR_INPUT, 77},
        {"-1e300", GW_ERR_INPUT, 77},
        {"\"3\"", GW_ERR_INPUT, 77},
        {"true", GW_ERR_INPUT, 77},
        {"[3]", GW_ERR_INPUT, 77},
        {"{}", GW_ERR_INPUT, 77},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[64];
        int64_t out = 77;
        struct gw_err_ctx ctx = {0};
        snprintf(text, sizeof text, "{\"n\": %s}", cases[i].value);
        cJSON *tree = object(text);
        assert_int_equal(gw_json_int(tree, "n", -5, 10, &out, &ctx), cases[i].err);
        assert_int_equal(out, cases[i].out);
        if (cases[i].err != GW_OK) assert_non_null(strstr(ctx.text, "'n'"));
        cJSON_Delete(tree);
    }
}

static void test_int_at_the_edges_of_64_bits_never_overflows(void **state)
{
    (void)state;
    int64_t out = 0;
    cJSON *tree = object(
        "{\"over\": 9223372036854775808, \"low\": -9223372036854775808, \"under\": -9223372036854777856}");
    assert_int_equal(gw_json_int(tree, "over", INT64_MIN, INT64_MAX, &out, NULL), GW_ERR_INPUT);
    assert_int_equal(gw_json_int(tree, "under", INT64_MIN, INT64_MAX, &out, NULL), GW_ERR_INPUT);
    assert_int_equal(gw_json_int(tree, "low", INT64_MIN, INT64_MAX, &out, NULL), GW_OK);
    assert_true(out == INT64_MIN);
    cJSON_Delete(tree);
}

static void test_getters_of_wrong_types_name_the_field_and_change_nothing(void **state)
{
    (void)state;
    struct gw_err_ctx ctx = {0};
    double d = 0.5;
    bool b = true;
    const char *s = "default";
    cJSON *tree = object("{\"d\": \"1\", \"b\": 1, \"s\": 2, \"big\": 2.5}");
    assert_int_equal(gw_json_double(tree, "d", 0, 2, &d, &ctx), GW_ERR_INPUT);
    assert_non_null(strstr(ctx.text, "'d'"));
    assert_int_equal(gw_json_double(tree, "big", 0, 2, &d, NULL), GW_ERR_INPUT);
    assert_int_equal(gw_json_bool(tree, "b", &b, NULL), GW_ERR_INPUT);
    assert_int_equal(gw_json_string(tree, "s", &s, NULL), GW_ERR_INPUT);
    assert_true(d == 0.5 && b);
    assert_string_equal(s, "default");
    cJSON_Delete(tree);
}

static void test_getters_of_absent_or_null_fields_keep_the_default(void **state)
{
    (void)state;
    double d = 0.5;
    bool b = true;
    const char *s = "default";
    cJSON *tree = object("{\"d\": null, \"b\": null, \"S\": \"other case\"}");
    assert_int_equal(gw_json_double(tree, "d", 0, 2, &d, NULL), GW_OK);
    assert_int_equal(gw_json_bool(tree, "b", &b, NULL), GW_OK);
    assert_int_equal(gw_json_string(tree, "s", &s, NULL), GW_OK);
    assert_true(d == 0.5 && b);
    assert_string_equal(s, "default");
    cJSON_Delete(tree);
}

static void test_getters_of_something_that_is_no_object_find_nothing(void **state)
{
    (void)state;
    static const char *const others[] = {"[1,2]", "3", "\"n\"", "null"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        int64_t out = 9;
        cJSON *tree = object(others[i]);
        assert_int_equal(gw_json_int(tree, "n", 0, 10, &out, NULL), GW_OK);
        assert_int_equal(out, 9);
        cJSON_Delete(tree);
    }
}

static void test_put_string_escapes_and_repairs(void **state)
{
    (void)state;
    static const struct {
        const char *in;
        size_t len;
        const char *out;
    } cases[] = {
        {"", 0, "\"\""},
        {"plain", 5, "\"plain\""},
        {"a\"b\\c", 5, "\"a\\\"b\\\\c\""},
        {"\n\r\t\b\0\x1f\x7f", 7, "\"\\n\\r\\t\\u0008\\u0000\\u001f\\u007f\""},
        {"\xC3\xA9\xF0\x9F\x98\x80", 6, "\"\xC3\xA9\xF0\x9F\x98\x80\""},
        {"\xFFz\xC3", 3, "\"\xEF\xBF\xBDz\xEF\xBF\xBD\""},
        {"\xED\xA0\x80", 3, "\"\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct gw_buf b;
        gw_buf_init(&b, 200);
        gw_json_put_string(&b, cases[i].in, cases[i].len);
        assert_string_equal(gw_buf_cstr(&b), cases[i].out);
        gw_buf_fini(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse_well_formed_text_is_accepted),
        cmocka_unit_test(test_parse_broken_text_is_an_input_error),
        cmocka_unit_test(test_parse_what_only_a_lenient_parser_takes_is_refused),
        cmocka_unit_test(test_parse_of_no_bytes_at_null_is_an_input_error),
        cmocka_unit_test(test_parse_nul_bytes_are_refused),
        cmocka_unit_test(test_parse_every_truncation_is_refused_without_reading_past_it),
        cmocka_unit_test(test_parse_depth_limit_counts_levels_not_brackets),
        cmocka_unit_test(test_parse_depth_bomb_is_refused),
        cmocka_unit_test(test_parse_one_byte_more_than_max_is_a_limit_error),
        cmocka_unit_test(test_parse_endless_digits_do_no_harm),
        cmocka_unit_test(test_parse_error_text_says_where),
        cmocka_unit_test(test_parse_file_names_the_file_in_its_errors),
        cmocka_unit_test(test_int_accepts_whole_numbers_in_range_only),
        cmocka_unit_test(test_int_at_the_edges_of_64_bits_never_overflows),
        cmocka_unit_test(test_getters_of_wrong_types_name_the_field_and_change_nothing),
        cmocka_unit_test(test_getters_of_absent_or_null_fields_keep_the_default),
        cmocka_unit_test(test_getters_of_something_that_is_no_object_find_nothing),
        cmocka_unit_test(test_put_string_escapes_and_repairs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
