/* base/err: the first error wins, text is cut and never overflows, every category has a name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "base/err.h"

static void test_fail_keeps_the_first_error_but_returns_its_own_code(void **state)
{
    (void)state;
    struct gw_err_ctx ctx = {0};
    assert_int_equal(gw_fail(&ctx, GW_ERR_IO, "disk %d", 7), GW_ERR_IO);
    assert_int_equal(gw_fail(&ctx, GW_ERR_INPUT, "later"), GW_ERR_INPUT);
    assert_int_equal(ctx.code, GW_ERR_IO);
    assert_string_equal(ctx.text, "disk 7");
    gw_err_reset(&ctx);
    assert_int_equal(ctx.code, GW_OK);
    assert_string_equal(ctx.text, "");
    assert_int_equal(gw_fail(&ctx, GW_ERR_INPUT, "later"), GW_ERR_INPUT);
    assert_string_equal(ctx.text, "later");
}

static void test_fail_without_a_context_returns_the_code(void **state)
{
    (void)state;
    assert_int_equal(gw_fail(NULL, GW_ERR_LIMIT, "%s", "lost"), GW_ERR_LIMIT);
    assert_int_equal(gw_fail_prefix(NULL, GW_ERR_LIMIT, "%s", "lost"), GW_ERR_LIMIT);
    gw_err_reset(NULL);
}

static void test_fail_prefix_goes_in_front_again_and_again(void **state)
{
    (void)state;
    struct gw_err_ctx ctx = {0};
    gw_fail(&ctx, GW_ERR_INPUT, "not a number");
    assert_int_equal(gw_fail_prefix(&ctx, GW_ERR_INPUT, "field %s", "n"), GW_ERR_INPUT);
    gw_fail_prefix(&ctx, GW_ERR_INPUT, "request.json");
    assert_string_equal(ctx.text, "request.json: field n: not a number");
}

static void test_fail_text_that_is_too_long_is_cut(void **state)
{
    (void)state;
    char big[4 * GW_ERR_TEXT_MAX];
    struct {
        struct gw_err_ctx ctx;
        char behind[16];
    } s = {.behind = "untouched"};
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = '\0';
    gw_fail(&s.ctx, GW_ERR_INPUT, "%s", big);
    assert_int_equal(strlen(s.ctx.text), GW_ERR_TEXT_MAX - 1);
    gw_fail_prefix(&s.ctx, GW_ERR_INPUT, "%s", big);
    gw_fail_prefix(&s.ctx, GW_ERR_INPUT, "head");
    assert_int_equal(strlen(s.ctx.text), GW_ERR_TEXT_MAX - 1);
    assert_memory_equal(s.ctx.text, "head: xxx", 9);
    assert_string_equal(s.behind, "untouched");
}

static void test_name_of_every_category_is_its_own(void **state)
{
    (void)state;
    for (int a = GW_OK; a <= GW_ERR_INTERNAL; a++)
        for (int b = GW_OK; b < a; b++)
            assert_string_not_equal(gw_err_name((gw_err_t)a), gw_err_name((gw_err_t)b));
    assert_string_equal(gw_err_name(GW_OK), "ok");
    assert_string_equal(gw_err_name(GW_ERR_INTERNAL), "internal");
    assert_string_equal(gw_err_name((gw_err_t)999), "unknown");
}

static gw_err_t returns(gw_err_t err)
{
    return err;
}

static gw_err_t tries(gw_err_t first, int *reached)
{
    TRY(returns(first));
    *reached = 1;
    return GW_ERR_LIMIT;
}

static gw_err_t tries_with_cleanup(gw_err_t first, int *cleaned)
{
    gw_err_t err = GW_OK;
    TRY_GOTO(returns(first), out);
    err = GW_ERR_LIMIT;
out:
    *cleaned += 1;
    return err;
}

static void test_try_leaves_on_the_first_error_only(void **state)
{
    (void)state;
    int reached = 0, cleaned = 0;
    assert_int_equal(tries(GW_ERR_IO, &reached), GW_ERR_IO);
    assert_int_equal(reached, 0);
    assert_int_equal(tries(GW_OK, &reached), GW_ERR_LIMIT);
    assert_int_equal(reached, 1);
    assert_int_equal(tries_with_cleanup(GW_ERR_IO, &cleaned), GW_ERR_IO);
    assert_int_equal(tries_with_cleanup(GW_OK, &cleaned), GW_ERR_LIMIT);
    assert_int_equal(cleaned, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fail_keeps_the_first_error_but_returns_its_own_code),
        cmocka_unit_test(test_fail_without_a_context_returns_the_code),
        cmocka_unit_test(test_fail_prefix_goes_in_front_again_and_again),
        cmocka_unit_test(test_fail_text_that_is_too_long_is_cut),
        cmocka_unit_test(test_name_of_every_category_is_its_own),
        cmocka_unit_test(test_try_leaves_on_the_first_error_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
