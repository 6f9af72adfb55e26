/* controller/text/chat_template: what jinja2 renders, on every golden case; hostile templates end in time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "controller/text/chat_template.h"
#include "tests/lib/text_goldens.h"

#define GOLDENS "tests/data/text/templates.json"

static const char *text_of(const cJSON *item, const char *field)
{
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(item, field));
}

static gw_err_t render_case(const cJSON *item, char **text, size_t *len, struct gw_err_ctx *ctx)
{
    struct gw_chat_template *t = NULL;
    const char *source = text_of(item, "template");
    struct gw_chat_vars vars = {
        .messages = cJSON_GetObjectItem(item, "messages"),
        .add_generation_prompt = cJSON_IsTrue(cJSON_GetObjectItem(item, "add_generation_prompt")),
        .bos_token = text_of(item, "bos_token"),
        .eos_token = text_of(item, "eos_token"),
        .date_string = text_of(item, "date_string"),
    };
    cJSON *extra = cJSON_CreateObject();
    const cJSON *thinking = cJSON_GetObjectItem(item, "enable_thinking");
    if (thinking) cJSON_AddBoolToObject(extra, "enable_thinking", cJSON_IsTrue(thinking));
    vars.extra = extra;
    gw_err_t err = gw_chat_template_create(source, strlen(source), &t, ctx);
    if (err == GW_OK) err = gw_chat_template_render(t, &vars, text, len, ctx);
    gw_chat_template_destroy(t);
    cJSON_Delete(extra);
    return err;
}

static void assert_case(const cJSON *item)
{
    const char *name = text_of(item, "name"), *expected = text_of(item, "expected");
    char *text = NULL;
    size_t len = 0;
    struct gw_err_ctx ctx = {0};
    gw_err_t err = render_case(item, &text, &len, &ctx);
    if (!expected) {
        if (err != GW_ERR_INPUT || !strstr(ctx.text, text_of(item, "message")) || !strstr(ctx.text, "line "))
            fail_msg("%s: should fail with '%s': %s", name, text_of(item, "message"), ctx.text);
    } else if (err != GW_OK) {
        fail_msg("%s: %s", name, ctx.text);
    } else if (strcmp(text, expected) != 0 || len != strlen(expected)) {
        fail_msg("%s:\n--- want\n%s\n--- got\n%s", name, expected, text);
    }
    free(text);
}

static void test_render_goldens_equal_the_reference(void **state)
{
    (void)state;
    cJSON *cases = goldens_read(GOLDENS), *item;
    assert_true(cJSON_GetArraySize(cases) > 50);
    cJSON_ArrayForEach(item, cases) assert_case(item);
    cJSON_Delete(cases);
}

static gw_err_t render(const char *source, const struct gw_chat_vars *vars, char **text,
                       struct gw_err_ctx *ctx)
{
    struct gw_chat_template *t = NULL;
    size_t len;
    gw_err_t err = gw_chat_template_create(source, strlen(source), &t, ctx);
    if (err == GW_OK) err = gw_chat_template_render(t, vars, text, &len, ctx);
    gw_chat_template_destroy(t);
    return err;
}

static void assert_renders(const char *source, const struct gw_chat_vars *vars, const char *want)
{
    char *text = NULL;
    struct gw_err_ctx ctx = {0};
    if (render(source, vars, &text, &ctx) != GW_OK) fail_msg("%s: %s", source, ctx.text);
    if (strcmp(text, want) != 0) fail_msg("%s: \"%s\", not \"%s\"", source, text, want);
    free(text);
}

/* Each output is what jinja2 3.1 with Python 3.11 gives. */
static void test_render_expressions_follow_python(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"{{ 1e20 }} {{ 1.5e-7 }} {{ 0.1 + 0.2 }} {{ 1 / 3 }} {{ 1e16 }} {{ -0.0 }}",
         "1e+20 1.5e-07 0.30000000000000004 0.3333333333333333 1e+16 -0.0"},
        {"{{ -7 // 2 }} {{ -7 % 3 }} {{ 7 % -3 }} {{ 2 ** -1 }} {{ 10 / 5 }} {{ 2 ** 3 ** 2 }}",
         "-4 2 -2 0.5 2.0 64"},
        {"{{ [\"a'b\", 'a\"b', \"\\n\\u200b\"] }} {{ (1,) }} {{ {1: none} }}",
         "[\"a'b\", 'a\"b', '\\n\\u200b'] (1,) {1: None}"},
        {"{{ 'abcdef'[4:1:-1] }} {{ 'aβγ'[1:] }} {{ [1, 2, 3][::-2] }} {{ 'abc'[-10:2] }}",
         "edc βγ [3, 1] ab"},
        {"{{ 'ß ﬁ'|upper }} {{ 'ΑΣ ΑΣΑ'|lower }} {{ \"it's a-b\"|title }} {{ \"it's a-b\".title() }}",
         "SS FI ας ασα It's A-B It'S A-B"},
        {"{{ 'a' in 'cat' and 1 not in [2] }} {{ 1 < 2 < 3 }} {{ 1 == 1.0 == true }} {{ 'a' == 1 }}",
         "True True True False"},
        {"{{ none or 'x' }} {{ 1 and 2 }} {{ 'a' if false }}|{{ not 'a' is defined }}", "x 2 |False"},
        {"{{ '  a  b c '.split() }} {{ '  a  b c '.split(none, 1) }} {{ 'a,b,,c'.split(',') }}",
         "['a', 'b', 'c'] ['a', 'b c '] ['a', 'b', '', 'c']"},
        {"{{ {'b': [1, {}], 'a': \"é\\n\"}|tojson(indent=1, sort_keys=true) }}",
         "{\n \"a\": \"é\\n\",\n \"b\": [\n  1,\n  {}\n ]\n}"},
        {"{{ 'é😀'|tojson(ensure_ascii=true) }}{{ [1, 2]|tojson(separators=(',', ':')) }}",
         "\"\\u00e9\\ud83d\\ude00\"[1,2]"},
        {"{{ 'x'|int(5) }} {{ '3.7'|int }} {{ ' 42 '|int }} {{ '3.5'|float }}", "5 3 42 3.5"},
        {"{% set x = 1 %}{% for i in [1, 2] %}{% set x = x + i %}{{ x }}{% endfor %}{{ x }}", "231"},
        {"{% for a, b in {'k': 'v'}.items() %}{{ a }}{{ b }}{{ loop.nextitem is defined }}{% endfor %}",
         "kvFalse"},
        {"{% set x | upper %} é {% endset %}[{{ x }}]", "[ É ]"},
        {"{% macro m(a, b=a) %}{{ a }}{{ b }}{% endmacro %}{{ m(1) }}{{ m(b=2, a=3) }}", "1132"},
        {"{{ 'a' 'b' }}{{ 1_000 }}{{ '\\x41\\u00e9\\q' }}", "ab1000Aé\\q"},
        {"{{ {'b': 1, 'A': 3, 'c': 2}|dictsort }}{{ {'b': 1, 'a': 2}|dictsort(by='value', reverse=true) }}",
         "[('A', 3), ('b', 1), ('c', 2)][('a', 2), ('b', 1)]"},
        {"{{ 1 if []|map('upper') else 2 }}{{ 1 if []|map('upper')|list else 2 }}", "12"},
        {"{{ messages.0.role }}{{ [[1, 2]].0.1 }}", "user2"},
    };
    cJSON *messages = cJSON_Parse("[{\"role\":\"user\"}]");
    struct gw_chat_vars vars = {.messages = messages};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) assert_renders(cases[i][0], &vars, cases[i][1]);
    cJSON_Delete(messages);
}

static void test_render_white_space_around_tags_is_jinjas(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"{% if true %}\nx\n{% endif %}\ny\n", "x\ny"},
        {"  {% if true %}\n  x\n  {% endif %}\n  y\n", "  x\n  y"},
        {"a {% if true %} b {% endif %} c", "a  b  c"},
        {"\t {%+ if true %}x{% endif %}\n", "\t x"},
        {"{% if true +%}\nx{% endif %}\n", "\nx"},
        {"  {#  c #}\nx", "x"},
        {"{{ 1 }}\n\n", "1\n"},
        {"x\r\ny\rz\n\n", "x\ny\nz\n"},
        {"\u00A0{% if true %}x{% endif %}", "x"},
        {"{% raw %}\n {{x}} \n{% endraw %}\n y", "\n {{x}} \n y"},
        {"{{ {'a': {'b': 1}} }}{{ '}}' }}{% if '%}' %}y{% endif %}", "{'a': {'b': 1}}}}y"},
        {"a   {{- 'x' -}}   b", "axb"},
    };
    struct gw_chat_vars vars = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) assert_renders(cases[i][0], &vars, cases[i][1]);
}

static void test_create_syntax_errors_name_the_line(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "{{",
        "{{ 1",
        "{% if",
        "{#",
        "{% raw %}x",
        "{{ 'a }}",
        "{{ 1 1 }}",
        "{{ }}",
        "{% set %}",
        "{{ a. }}",
        "{{ a[] }}",
        "{{ (1 }}",
        "{{ 1) }}",
        "{{ x| }}",
        "{{ x|nope }}",
        "{{ 1 is }}",
        "{{ 1 is nope }}",
        "{% nope %}",
        "{% endif %}",
        "{% break %}",
        "{{ $ }}",
        "{{ not }}",
        "{{ {1} }}",
        "{% for x %}",
        "{% if 1 %}x",
        "{% include 'x' %}",
        "{{ '\\x4' }}",
        "{{ a=1 }}",
        "{% call f() %}{% endcall %}",
        "{{ 99999999999999999999 }}",
        "{% set a.b, c %}{% endset %}",
        "{% if 1 %}{% else %}{% elif 2 %}{% endif %}",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct gw_chat_template *t = NULL;
        struct gw_err_ctx ctx = {0};
        char source[128];
        snprintf(source, sizeof source, "one\ntwo\n%s", bad[i]);
        if (gw_chat_template_create(source, strlen(source), &t, &ctx) != GW_ERR_INPUT) fail_msg("%s", bad[i]);
        if (!strstr(ctx.text, "line 3: ")) fail_msg("%s: %s", bad[i], ctx.text);
        assert_null(t);
    }
    struct gw_chat_template *t = NULL;
    assert_int_equal(gw_chat_template_create("\xFF", 1, &t, NULL), GW_ERR_INPUT);
}

static void test_render_errors_name_the_line_and_leave_out_untouched(void **state)
{
    (void)state;
    static const char *const bad[][2] = {
        {"{{ nope.x }}", "'nope' is undefined"},
        {"{{ {}.x.y }}", "'dict object' has no attribute 'x'"},
        {"{{ [][0].y }}", "list object has no element 0"},
        {"{{ none.x.y }}", "'None' has no attribute 'x'"},
        {"{{ 'x' + none }}", "can only concatenate str (not \"NoneType\") to str"},
        {"{{ nope + 1 }}", "'nope' is undefined"},
        {"{{ 1 < 'a' }}", "no order"},
        {"{{ 1 // 0 }}", "division by zero"},
        {"{{ 1 in 'a' }}", "requires string"},
        {"{% for x in 5 %}{% endfor %}", "not iterable"},
        {"{% for a, b in [(1,)] %}{% endfor %}", "not enough values"},
        {"{% set x = 1 %}{% set x.y = 2 %}", "non-namespace"},
        {"{{ 'x'() }}", "not callable"},
        {"{{ nope|tojson }}", "not JSON serializable"},
        {"{{ [1]|select|length }}", "'generator' has no len()"},
        {"{{ raise_exception('because') }}", "because"},
        {"{{ strftime_now('%Y') }}", "'strftime_now' is undefined"},
        {"{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}", "macro 'm'"},
    };
    struct gw_chat_vars vars = {0};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct gw_err_ctx ctx = {0};
        char source[128], *text = source;
        snprintf(source, sizeof source, "one\n%s", bad[i][0]);
        if (render(source, &vars, &text, &ctx) != GW_ERR_INPUT || !strstr(ctx.text, "line 2: ") ||
            !strstr(ctx.text, bad[i][1]))
            fail_msg("%s: %s", bad[i][0], ctx.text);
        assert_ptr_equal(text, source);
    }
}

static void test_render_variables_are_the_servers(void **state)
{
    (void)state;
    cJSON *extra = cJSON_Parse("{\"bos_token\":\"evil\",\"messages\":7,\"mine\":[1,{\"a\":null}]}");
    cJSON *messages = cJSON_Parse("[{\"role\":\"user\",\"content\":\"{{ 7 * 7 }}{% if %}\"}]");
    struct gw_chat_vars vars = {
        .messages = messages, .add_generation_prompt = true, .bos_token = "<s>", .eos_token = "</s>"};
    assert_renders("{{ bos_token }}{{ eos_token }}{{ add_generation_prompt }}", &vars, "<s></s>True");
    assert_renders("{{ messages[0].content }}", &vars, "{{ 7 * 7 }}{% if %}");
    assert_renders("{{ date_string is defined }}{{ strftime_now is defined }}", &vars, "FalseFalse");
    vars.extra = extra;
    assert_renders("{{ bos_token }}{{ messages|length }}{{ mine[1].a }}", &vars, "<s>1None");
    vars.date_string = "20 Nov 2026";
    assert_renders("{{ date_string }} {{ strftime_now('%Y-%m-%d, %A %j') }}", &vars,
                   "20 Nov 2026 2026-11-20, Friday 324");
    vars.date_string = NULL;
    vars.today = "1 Jan 2027";
    assert_renders("{{ date_string is defined }} {{ strftime_now('%d.%m.%y') }}", &vars, "False 01.01.27");
    vars.today = "today";
    assert_renders("{{ strftime_now('%Y') }}", &vars, "today");
    cJSON_Delete(extra);
    cJSON_Delete(messages);
}

/* ---- opening ------------------------------------------------------------------------------------------------ */

static void write_file(const char *dir, const char *name, const char *text)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    assert_int_equal(gw_file_replace(path, text, strlen(text), 0644, NULL), GW_OK);
}

static void assert_opens(const char *dir, const char *want)
{
    struct gw_chat_template *t = NULL;
    struct gw_chat_vars vars = {0};
    struct gw_err_ctx ctx = {0};
    char *text = NULL;
    size_t len;
    if (gw_chat_template_open(dir, &t, &ctx) != GW_OK) fail_msg("%s", ctx.text);
    assert_int_equal(gw_chat_template_render(t, &vars, &text, &len, NULL), GW_OK);
    assert_string_equal(text, want);
    free(text);
    gw_chat_template_destroy(t);
}

static void assert_not_opened(const char *dir, gw_err_t want, const char *why)
{
    struct gw_chat_template *t = NULL;
    struct gw_err_ctx ctx = {0};
    if (gw_chat_template_open(dir, &t, &ctx) != want || !strstr(ctx.text, why)) fail_msg("%s", ctx.text);
    assert_null(t);
}

static void test_open_finds_the_template_where_models_keep_it(void **state)
{
    (void)state;
    static const char *const names[] = {"tokenizer_config.json", "chat_template.jinja"};
    char dir[] = "/tmp/godwit-template-XXXXXX", path[128];
    assert_non_null(mkdtemp(dir));
    assert_not_opened(dir, GW_ERR_NOT_FOUND, "no chat template");
    write_file(dir, "tokenizer_config.json", "{\"bos_token\":\"x\"}");
    assert_not_opened(dir, GW_ERR_NOT_FOUND, "no chat template");
    write_file(dir, "chat_template.jinja", "file {{ 1 + 1 }}\n");
    assert_opens(dir, "file 2");
    write_file(dir, "tokenizer_config.json", "{\"chat_template\":\"config {{ 1 + 2 }}\"}");
    assert_opens(dir, "config 3");
    write_file(dir, "tokenizer_config.json",
               "{\"chat_template\":[{\"name\":\"tool\",\"template\":\"no\"},{\"name\":\"default\","
               "\"template\":\"list\"}]}");
    assert_opens(dir, "list");
    write_file(dir, "tokenizer_config.json", "{\"chat_template\":\"{{\"}");
    assert_not_opened(dir, GW_ERR_INPUT, "tokenizer_config.json");
    write_file(dir, "tokenizer_config.json", "{");
    assert_not_opened(dir, GW_ERR_INPUT, "tokenizer_config.json");
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        unlink(path);
    }
    assert_int_equal(rmdir(dir), 0);
}

static void test_open_the_shipped_model_has_a_template(void **state)
{
    (void)state;
    struct gw_chat_template *t = NULL;
    assert_int_equal(gw_chat_template_open("tests/models/tattler-3m", &t, NULL), GW_OK);
    gw_chat_template_destroy(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_render_goldens_equal_the_reference),
        cmocka_unit_test(test_render_expressions_follow_python),
        cmocka_unit_test(test_render_white_space_around_tags_is_jinjas),
        cmocka_unit_test(test_create_syntax_errors_name_the_line),
        cmocka_unit_test(test_render_errors_name_the_line_and_leave_out_untouched),
        cmocka_unit_test(test_render_variables_are_the_servers),
        cmocka_unit_test(test_open_finds_the_template_where_models_keep_it),
        cmocka_unit_test(test_open_the_shipped_model_has_a_template),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
