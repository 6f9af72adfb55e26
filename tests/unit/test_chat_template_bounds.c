/* controller/text/chat_template, bounds: whatever a template or a conversation says, it ends soon, with an error
 * that says which bound was hit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"
#include "controller/text/chat_template.h"

#define SOURCE_MAX ((size_t)4 << 20)
/* Ten million steps take 1 to 3 s of processor time in this build. */
#define CPU_MAX_S 20.0

static gw_err_t render(const char *source, const cJSON *messages, size_t *len, struct gw_err_ctx *ctx)
{
    struct gw_chat_template *t = NULL;
    char *text = NULL;
    struct gw_chat_vars vars = {.messages = messages, .bos_token = "", .eos_token = ""};
    gw_err_t err = gw_chat_template_create(source, strlen(source), &t, ctx);
    if (err == GW_OK) err = gw_chat_template_render(t, &vars, &text, len, ctx);
    gw_chat_template_destroy(t);
    free(text);
    return err;
}

static void assert_ends(const char *source, gw_err_t want, const char *why)
{
    cJSON *messages = cJSON_Parse("[{\"role\":\"user\",\"content\":\"hi\"}]");
    struct gw_err_ctx ctx = {0};
    size_t len = 0;
    clock_t start = clock();
    gw_err_t err = render(source, messages, &len, &ctx);
    double took = (double)(clock() - start) / CLOCKS_PER_SEC;
    if (err != want || !strstr(ctx.text, why) || took > CPU_MAX_S)
        fail_msg("%.80s: %s after %.1f s, \"%s\"", source, gw_err_name(err), took, ctx.text);
    cJSON_Delete(messages);
}

/* front, count times open, middle, count times close, back. */
static void assert_nested_ends(const char *front, const char *open, size_t count, const char *middle,
                               const char *close, const char *back, gw_err_t want, const char *why)
{
    struct gw_buf b;
    gw_buf_init(&b, SOURCE_MAX);
    gw_buf_puts(&b, front);
    for (size_t i = 0; i < count; i++) gw_buf_puts(&b, open);
    gw_buf_puts(&b, middle);
    for (size_t i = 0; i < count; i++) gw_buf_puts(&b, close);
    gw_buf_puts(&b, back);
    const char *source = gw_buf_cstr(&b);
    assert_non_null(source);
    assert_ends(source, want, why);
    gw_buf_fini(&b);
}

static void assert_long_ends(const char *front, const char *unit, size_t count, const char *back,
                             gw_err_t want, const char *why)
{
    assert_nested_ends(front, unit, count, "", "", back, want, why);
}

static void test_render_endless_loops_end_at_the_step_limit(void **state)
{
    (void)state;
    assert_ends("{% set r = range(100000) %}{% for i in r %}{% for j in r %}{% endfor %}{% endfor %}",
                GW_ERR_LIMIT, "steps");
    assert_ends(
        "{% set r = range(100000) %}{% for i in r %}{% for j in r if false %}{% endfor %}{% endfor %}",
        GW_ERR_LIMIT, "line 1");
    assert_ends("{% for i in range(100000) %}{{ range(100000)|sort|first }}{% endfor %}", GW_ERR_LIMIT,
                "line 1");
    assert_ends("{% macro f(n) %}{% for i in range(10) %}{{ f(n + 1) }}{% endfor %}{% endmacro %}{{ f(0) }}",
                GW_ERR_LIMIT, "line 1");
}

static void test_render_range_is_bounded(void **state)
{
    (void)state;
    assert_ends("{{ range(10 ** 9) }}", GW_ERR_LIMIT, "Range too big");
    assert_ends("{% for i in range(0, 0 - 10 ** 18, -1) %}{% endfor %}", GW_ERR_LIMIT, "Range too big");
    assert_ends("{{ range(100000)|length }}{{ range(9223372036854775806, 9223372036854775807, 5)|length }}",
                GW_OK, "");
}

static void test_render_doubling_ends_at_a_limit(void **state)
{
    (void)state;
    const char *const doublings[] = {
        "{% set ns = namespace(x='ab') %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{% set ns = namespace(x='ab') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        "{% set ns = namespace(x='ab') %}{% for i in range(99) %}{% set ns.x = ns.x * 2 %}{% endfor %}",
        "{% set ns = namespace(x='ab') %}{% for i in range(99) %}{% set ns.x = ns.x|replace('b', 'bb') %}{% "
        "endfor %}",
        "{% set ns = namespace(x='ab') %}{% for i in range(99) %}{% set ns.x = [ns.x, ns.x]|join %}{% endfor "
        "%}",
        "{% set ns = namespace(x='ab') %}{% for i in range(99) %}{% set ns.x %}{{ ns.x }}{{ ns.x }}{% endset "
        "%}{% endfor %}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(99) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ "
        "ns.x }}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(99) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ "
        "ns.x|tojson }}",
        "{% set ns = namespace(x=[1], y=[1]) %}{% for i in range(99) %}{% set ns.x = [ns.x, ns.x] %}"
        "{% set ns.y = [ns.y, ns.y] %}{% endfor %}{{ ns.x == ns.y }}",
        "{{ 'a' * 10 ** 12 }}",
        "{{ [1] * 10 ** 12 }}",
        "{{ 'a' * 9223372036854775807 }}",
    };
    for (size_t i = 0; i < sizeof doublings / sizeof *doublings; i++)
        assert_ends(doublings[i], GW_ERR_LIMIT, "line 1");
}

static void test_render_output_is_bounded(void **state)
{
    (void)state;
    assert_ends("{% set x = 'a' * 100000 %}{% for i in range(1000) %}{{ x }}{% endfor %}", GW_ERR_LIMIT,
                "longer than");
    assert_ends("{% for i in range(100) %}{{ range(100000) }}{% endfor %}", GW_ERR_LIMIT, "line 1");
    assert_ends("{{ [[1] * 1000] * 1000|tojson(indent=32) }}", GW_ERR_INPUT, "line 1"); /* list * text */
    assert_ends("{{ ([[1] * 1000] * 1000)|tojson(indent=32) }}", GW_ERR_LIMIT, "line 1");
    assert_ends("{{ []|tojson(indent=1000000) }}", GW_ERR_LIMIT, "indent");
}

static void test_render_deep_values_end_at_the_depth_limit(void **state)
{
    (void)state;
    const char *const build =
        "{% set ns = namespace(x=[], y=[]) %}{% for i in range(5000) %}{% set ns.x = [ns.x] %}"
        "{% set ns.y = [ns.y] %}{% endfor %}";
    const char *const uses[] = {"{{ ns.x }}",        "{{ ns.x|tojson }}",    "{{ ns.x == ns.y }}",
                                "{{ ns.x < ns.y }}", "{{ ns.x in [ns.y] }}", "{{ {ns.x: 1}[ns.y] }}",
                                "{{ ns.x|string }}"};
    for (size_t i = 0; i < sizeof uses / sizeof *uses; i++)
        assert_long_ends(build, uses[i], 1, "", GW_ERR_LIMIT, "levels");
}

static void test_render_deep_recursion_ends_at_the_depth_limit(void **state)
{
    (void)state;
    assert_ends("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", GW_ERR_LIMIT, "levels");
    assert_ends("{% macro f(n) %}{{ f(n=[n]) }}{% endmacro %}{{ f(1) }}", GW_ERR_LIMIT, "levels");
    assert_ends("{% macro f(n=f()) %}{% endmacro %}{{ f() }}", GW_ERR_LIMIT, "levels");
}

static void test_create_deep_nesting_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *front, *open, *middle, *close, *back;
    } cases[] = {
        {"{{ ", "(", "1", ")", " }}"},        {"{{ ", "[", "1", "]", " }}"},
        {"{{ ", "{1:", "1", "}", " }}"},      {"{{ ", "f(a=", "1", ")", " }}"},
        {"{{ a", "[a", "", "]", " }}"},       {"{{ a", "|d(a", "", ")", " }}"},
        {"{{ a", " is eq(a", "", ")", " }}"}, {"{{ ", "not ", "1", "", " }}"},
        {"{{ ", "- ", "1", "", " }}"},        {"{{ ", "1 if 1 else ", "1", "", " }}"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_nested_ends(cases[i].front, cases[i].open, 4000, cases[i].middle, cases[i].close,
                           cases[i].back, GW_ERR_LIMIT, "nested");
    }
    assert_long_ends("", "{% if 1 %}", 5000, "", GW_ERR_LIMIT, "nested");
    assert_long_ends("", "{% for a in a %}", 4000, "", GW_ERR_LIMIT, "nested");
    assert_long_ends("", "{% macro a() %}", 4000, "", GW_ERR_LIMIT, "nested");
    assert_long_ends("", "{% set a %}", 4000, "", GW_ERR_LIMIT, "nested");
    assert_long_ends("", "{% generation %}", 4000, "", GW_ERR_LIMIT, "nested");
}

/* Chains are no nesting for the parser; what is deep for the evaluator ends there. */
static void test_render_long_chains_are_bounded(void **state)
{
    (void)state;
    assert_long_ends("{{ 1", " + 1", 300, " }}", GW_OK, "");
    assert_long_ends("{{ 1", " + 1", 20000, " }}", GW_ERR_LIMIT, "levels");
    assert_long_ends("{{ 1", " ~ 1", 20000, " }}", GW_OK, "");
    assert_long_ends("{{ 1", " < 2", 1, " }}", GW_OK, "");
    assert_long_ends("{{ 1", " == 1", 20000, " }}", GW_OK, "");
    assert_long_ends("{{ 1", " and 1", 20000, " }}", GW_ERR_LIMIT, "levels");
    assert_long_ends("{{ messages", "[0]", 20000, " }}", GW_ERR_LIMIT, "levels");
    assert_long_ends("{{ 'a'", "|trim", 20000, " }}", GW_ERR_LIMIT, "levels");
    assert_long_ends("{{ [", "1,", 100000, "]|length }}", GW_OK, "");
    assert_long_ends("{% if 0 %}", "{% elif 0 %}", 5000, "{% endif %}", GW_OK, "");
    assert_long_ends("{{ 'a' ", "'b' ", 1000, "}}", GW_OK, "");
    assert_long_ends("{{ 1", " if 1", 20000, " }}", GW_ERR_LIMIT, "levels");
}

static void test_create_sources_are_bounded(void **state)
{
    (void)state;
    assert_long_ends("", "x", ((size_t)1 << 20) + 1, "", GW_ERR_LIMIT, "at most");
    assert_long_ends("", "x", (size_t)1 << 20, "", GW_OK, "");
    assert_long_ends("{{ [", "1,", 400000, "] }}", GW_ERR_LIMIT, "too long");
    assert_long_ends("", "{{{%{#", 1000, "", GW_ERR_INPUT, "line 1");
    assert_long_ends("{{ f(", "1,", 17, ") }}", GW_ERR_LIMIT, "arguments");
}

/* Many messages are the client's doing: the work must stay in proportion. */
static void test_render_many_messages_take_linear_time(void **state)
{
    (void)state;
    const char *const source =
        "{% set ns = namespace(n=0) %}{% for m in messages %}{% if m.role == 'user' or loop.last %}"
        "{% set ns.n = ns.n + 1 %}{% endif %}{{ '<|' + m['role'] + '|>' + m.content | trim + '</s>' }}"
        "{% if not loop.first and messages[loop.index0 - 1].role == m.role %}!{% endif %}{% endfor %}";
    cJSON *messages = cJSON_CreateArray();
    for (int i = 0; i < 20000; i++) {
        cJSON *m = cJSON_CreateObject();
        cJSON_AddStringToObject(m, "role", "user");
        cJSON_AddStringToObject(m, "content", " some text of a client ");
        cJSON_AddItemToArray(messages, m);
    }
    size_t len = 0;
    struct gw_err_ctx ctx = {0};
    clock_t start = clock();
    if (render(source, messages, &len, &ctx) != GW_OK) fail_msg("%s", ctx.text);
    assert_true((double)(clock() - start) / CLOCKS_PER_SEC < CPU_MAX_S);
    assert_int_equal(len, 20000 * strlen("<|user|>some text of a client</s>!") - 1);
    cJSON_Delete(messages);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_render_endless_loops_end_at_the_step_limit),
        cmocka_unit_test(test_render_range_is_bounded),
        cmocka_unit_test(test_render_doubling_ends_at_a_limit),
        cmocka_unit_test(test_render_output_is_bounded),
        cmocka_unit_test(test_render_deep_values_end_at_the_depth_limit),
        cmocka_unit_test(test_render_deep_recursion_ends_at_the_depth_limit),
        cmocka_unit_test(test_create_deep_nesting_is_refused),
        cmocka_unit_test(test_render_long_chains_are_bounded),
        cmocka_unit_test(test_create_sources_are_bounded),
        cmocka_unit_test(test_render_many_messages_take_linear_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
