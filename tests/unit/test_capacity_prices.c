/* controller/price_file: what instances cost, as the operator says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "controller/price_file.h"

static char path[] = "/tmp/godwit-prices-XXXXXX";

static gw_err_t read_text(const char *text, struct gw_price_file *out, struct gw_err_ctx *ctx)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
    return gw_price_file_read(path, out, ctx);
}

static double price(const struct gw_price_file *f, bool spot, const char *type, const char *zone)
{
    double usd_h = -1;
    return gw_price_file_find(f, spot, type, zone, &usd_h) ? usd_h : -1;
}

static void test_find_the_row_that_names_most_counts(void **state)
{
    struct gw_price_file f;
    struct gw_err_ctx ctx = {0};
    (void)state;
    assert_int_equal(read_text("{\"prices\":[{\"market\":\"spot\",\"usd_h\":1},{\"market\":\"spot\",\"zone\":"
                               "\"z-a\",\"usd_h\":2},"
                               "{\"market\":\"spot\",\"type\":\"t1\",\"usd_h\":3},"
                               "{\"market\":\"spot\",\"type\":\"t1\",\"zone\":\"z-b\",\"usd_h\":4},"
                               "{\"market\":\"spot\",\"type\":\"t1\",\"zone\":\"z-b\",\"usd_h\":5},"
                               "{\"market\":\"on-demand\",\"type\":\"t2\",\"usd_h\":9,\"note\":\"of May\"}]}",
                               &f, &ctx),
                     GW_OK);
    assert_true(price(&f, true, "t0", "z-c") == 1);
    assert_true(price(&f, true, "t0", "z-a") == 2);
    assert_true(price(&f, true, "t1", "z-a") == 3);
    assert_true(price(&f, true, "t1", "z-b") == 4);
    assert_true(price(&f, true, "", "z-a") == 3);
    assert_true(price(&f, false, "t2", "z-a") == 9);
    assert_true(price(&f, false, "t1", "z-a") == -1);
    gw_price_file_fini(&f);
}

static void test_read_empty_list_has_no_price(void **state)
{
    struct gw_price_file f;
    struct gw_err_ctx ctx = {0};
    (void)state;
    assert_int_equal(read_text("{\"prices\":[]}", &f, &ctx), GW_OK);
    assert_true(price(&f, true, "t1", "z-a") == -1);
    gw_price_file_fini(&f);
}

static void test_read_wrong_rows_are_named(void **state)
{
    static const struct {
        const char *text, *why;
    } wrong[] = {{"{}", "'prices'"},
                 {"{\"prices\":{}}", "'prices'"},
                 {"{\"prices\":[{\"market\":\"spot\",\"usd_h\":1},{\"usd_h\":1}]}", "price 2: 'market'"},
                 {"{\"prices\":[{\"market\":\"cheap\",\"usd_h\":1}]}", "price 1: 'market'"},
                 {"{\"prices\":[{\"market\":\"spot\"}]}", "price 1: 'usd_h'"},
                 {"{\"prices\":[{\"market\":\"spot\",\"usd_h\":-1}]}", "price 1: "},
                 {"{\"prices\":[{\"market\":\"spot\",\"usd_h\":\"1\"}]}", "price 1: "},
                 {"{\"prices\":[{\"market\":\"spot\",\"type\":7,\"usd_h\":1}]}", "price 1: "},
                 {"{\"prices\":[7]}", "price 1: "},
                 {"{\"prices\":[{\"market\":\"spot\",\"usd_h\":1,\"zone\":\""
                  "zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz\"}]}",
                  "price 1: 'zone'"},
                 {"{\"prices\":[", ""}};
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct gw_price_file f = {.len = 77};
        struct gw_err_ctx ctx = {0};
        assert_int_not_equal(read_text(wrong[i].text, &f, &ctx), GW_OK);
        assert_non_null(strstr(ctx.text, wrong[i].why));
        assert_non_null(strstr(ctx.text, path));
        assert_int_equal(f.len, 77);
    }
}

static void test_read_too_many_rows_are_refused(void **state)
{
    struct gw_price_file f;
    struct gw_err_ctx ctx = {0};
    size_t row_len = strlen("{\"market\":\"spot\",\"usd_h\":1},"), rows = GW_PRICE_ROWS_MAX + 1;
    char *text = malloc(rows * row_len + 32), *at = text;
    (void)state;
    assert_non_null(text);
    at += sprintf(at, "{\"prices\":[");
    for (size_t i = 0; i < rows; i++) at += sprintf(at, "%s{\"market\":\"spot\",\"usd_h\":1}", i ? "," : "");
    (void)sprintf(at, "]}");
    assert_int_equal(read_text(text, &f, &ctx), GW_ERR_LIMIT);
    free(text);
}

static void test_read_absent_file_is_not_found(void **state)
{
    struct gw_price_file f;
    struct gw_err_ctx ctx = {0};
    (void)state;
    assert_int_equal(gw_price_file_read("/nowhere/prices.json", &f, &ctx), GW_ERR_NOT_FOUND);
}

static int make_path(void **state)
{
    (void)state;
    int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int remove_path(void **state)
{
    (void)state;
    return unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_find_the_row_that_names_most_counts),
        cmocka_unit_test(test_read_empty_list_has_no_price),
        cmocka_unit_test(test_read_wrong_rows_are_named),
        cmocka_unit_test(test_read_too_many_rows_are_refused),
        cmocka_unit_test(test_read_absent_file_is_not_found),
    };
    return cmocka_run_group_tests(tests, make_path, remove_path);
}
