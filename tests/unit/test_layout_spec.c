/* controller/layout_spec: every form of a layout's name, and what is said of wrong ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "controller/layout_spec.h"

#define GROUPS 4
#define SHARES 8

static struct gw_layout_spec parse(const char *text)
{
    struct gw_layout_spec spec;
    struct gw_err_ctx ctx = {0};
    if (gw_layout_spec_parse(text, GROUPS, SHARES, &spec, &ctx) != GW_OK) fail_msg("%s: %s", text, ctx.text);
    assert_string_equal(spec.text, text);
    return spec;
}

/* "0:0-4/0-3 0:0-4/3-6 …": stage, groups, shares of each rank. */
static void has_ranks(const char *text, uint32_t kind, uint32_t copies, const char *expected)
{
    struct gw_layout_spec spec = parse(text);
    char got[1024];
    size_t len = 0;
    assert_int_equal(spec.mode, GW_LAYOUT_SHAPE);
    assert_true(kind < spec.kinds_len);
    const struct gw_layout_kind *k = &spec.kinds[kind];
    for (uint32_t i = 0; i < k->ranks_len; i++) {
        struct gw_cell_rect c = k->ranks[i].cells;
        len += (size_t)snprintf(got + len, sizeof got - len, "%s%u:%u-%u/%u-%u", i ? " " : "",
                                k->ranks[i].stage, c.g0, c.g1, c.s0, c.s1);
    }
    assert_string_equal(got, expected);
    assert_int_equal(k->copies, copies);
}

static void refused(const char *text, const char *why)
{
    struct gw_layout_spec spec = {.kinds_len = 77};
    struct gw_err_ctx ctx = {0};
    assert_int_equal(gw_layout_spec_parse(text, GROUPS, SHARES, &spec, &ctx), GW_ERR_INPUT);
    if (!strstr(ctx.text, why)) fail_msg("%s: '%s' does not say '%s'", text, ctx.text, why);
    assert_null(strchr(ctx.text, '\n'));
    assert_int_equal(spec.kinds_len, 77);
}

static void test_parse_modes_have_no_shapes(void **state)
{
    (void)state;
    assert_int_equal(parse("auto").mode, GW_LAYOUT_AUTO);
    assert_int_equal(parse("replicas").mode, GW_LAYOUT_REPLICAS);
    assert_int_equal(parse("auto").kinds_len, 0);
    struct gw_layout_spec spec = parse("replicas");
    assert_int_equal(gw_layout_spec_pipelines(&spec), 0);
}

static void test_parse_tp_deals_shares_first_ranks_get_more(void **state)
{
    (void)state;
    has_ranks("tp4", 0, 1, "0:0-4/0-2 0:0-4/2-4 0:0-4/4-6 0:0-4/6-8");
    has_ranks("tp3", 0, 1, "0:0-4/0-3 0:0-4/3-6 0:0-4/6-8");
    has_ranks("3+3+2", 0, 1, "0:0-4/0-3 0:0-4/3-6 0:0-4/6-8");
    has_ranks("tp1", 0, 1, "0:0-4/0-8");
    has_ranks("8", 0, 1, "0:0-4/0-8");
}

static void test_parse_pp_deals_groups(void **state)
{
    (void)state;
    has_ranks("pp2", 0, 1, "0:0-2/0-8 1:2-4/0-8");
    has_ranks("pp3", 0, 1, "0:0-2/0-8 1:2-3/0-8 2:3-4/0-8");
    has_ranks("tp2pp2", 0, 1, "0:0-2/0-4 0:0-2/4-8 1:2-4/0-4 1:2-4/4-8");
}

static void test_parse_stages_may_differ_in_width_and_depth(void **state)
{
    (void)state;
    has_ranks("3+5/8", 0, 1, "0:0-2/0-3 0:0-2/3-8 1:2-4/0-8");
    has_ranks("3+5:1/8:3", 0, 1, "0:0-1/0-3 0:0-1/3-8 1:1-4/0-8");
    has_ranks("8/4+4/8", 0, 1, "0:0-2/0-8 1:2-3/0-4 1:2-3/4-8 2:3-4/0-8");
}

static void test_parse_copies_and_lists_of_shapes(void **state)
{
    (void)state;
    has_ranks("2xtp2", 0, 2, "0:0-4/0-4 0:0-4/4-8");
    has_ranks("2xtp2pp2", 0, 2, "0:0-2/0-4 0:0-2/4-8 1:2-4/0-4 1:2-4/4-8");
    has_ranks("tp3,12x8", 0, 1, "0:0-4/0-3 0:0-4/3-6 0:0-4/6-8");
    has_ranks("tp3,12x8", 1, 12, "0:0-4/0-8");
    struct gw_layout_spec spec = parse("tp3,12x8,1024xpp2");
    assert_int_equal(spec.kinds_len, 3);
    assert_int_equal(gw_layout_spec_pipelines(&spec), 1 + 12 + 1024);
}

static void test_parse_wrong_words_say_where(void **state)
{
    (void)state;
    refused("", "a layout is needed");
    refused("automatic", "expected tp, pp or a number of shares at character 1");
    refused("tp", "expected a number from 1 on at character 3");
    refused("tp0", "expected a number from 1 on at character 3");
    refused("tp-2", "a number from 1 on");
    refused("tp04", "a number from 1 on");
    refused("tp2pp", "a number from 1 on at character 6");
    refused("tp2pp2x", "expected an end");
    refused("2x", "expected tp, pp or a number");
    refused("2x2xtp2", "sum to 2");
    refused("4+4/", "a number from 1 on");
    refused("4+", "a number from 1 on");
    refused("4+4,", "tp, pp or a number");
    refused("tp2 ", "no spaces");
    refused("tp2\n", "no spaces");
    refused("tp2\x80", "special");
    refused("99999999999999999999", "a smaller number");
    refused("65536", "a smaller number");
}

static void test_parse_what_the_model_has_not_is_refused(void **state)
{
    (void)state;
    refused("tp9", "needs as many shares, the model has 8");
    refused("pp5", "needs as many layer groups, the model has 4");
    refused("3+3", "sum to 6, but the model has 8 shares");
    refused("4+4/4+3", "widths of stage 1 sum to 7");
    refused("8/8/8/8/8", "5 stages");
    refused("8:1/8:2", "groups sum to 3");
    refused("8:1/8", "every stage or none");
    refused("8:5", "groups sum to 5");
    refused("1025xtp2", "at most 1024 pipelines");
}

static void test_parse_bounds_are_kept(void **state)
{
    (void)state;
    char text[GW_LAYOUT_TEXT_MAX + 2];
    struct gw_layout_spec spec;
    struct gw_err_ctx ctx = {0};
    memset(text, '1', sizeof text);
    text[sizeof text - 1] = '\0';
    refused(text, "at most 256 characters");
    refused("8,8,8,8,8,8,8,8,8,8,8,8,8,8,8,8,8", "at most 16 shapes");
    assert_int_equal(gw_layout_spec_parse("8,8,8,8,8,8,8,8,8,8,8,8,8,8,8,8", GROUPS, SHARES, &spec, &ctx),
                     GW_OK);
    assert_int_equal(gw_layout_spec_parse("tp16pp4", 8, 32, &spec, &ctx), GW_OK);
    assert_int_equal(spec.kinds[0].ranks_len, GW_LAYOUT_RANKS_MAX);
    assert_int_equal(gw_layout_spec_parse("tp13pp5", 8, 32, &spec, &ctx), GW_ERR_INPUT);
    assert_non_null(strstr(ctx.text, "at most 64 ranks"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse_modes_have_no_shapes),
        cmocka_unit_test(test_parse_tp_deals_shares_first_ranks_get_more),
        cmocka_unit_test(test_parse_pp_deals_groups),
        cmocka_unit_test(test_parse_stages_may_differ_in_width_and_depth),
        cmocka_unit_test(test_parse_copies_and_lists_of_shapes),
        cmocka_unit_test(test_parse_wrong_words_say_where),
        cmocka_unit_test(test_parse_what_the_model_has_not_is_refused),
        cmocka_unit_test(test_parse_bounds_are_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
