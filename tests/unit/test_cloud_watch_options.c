/* cloud/watch_options and cloud/detect: defaults, what is refused and why, which firmware means which cloud. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "cloud/detect.h"
#include "cloud/watch_options.h"

#define ARGS_MAX 12

static gw_err_t parse(const char *const *words, struct gw_watch_options *o, struct gw_err_ctx *ctx)
{
    char *argv[ARGS_MAX + 1] = {"godwit-watch"};
    int argc = 1;
    bool help;
    for (; words[argc - 1]; argc++) argv[argc] = (char *)words[argc - 1];
    return gw_watch_options_parse(argc, argv, o, &help, ctx);
}

#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})

static void test_parse_urls_point_into_the_result(void **state)
{
    struct gw_watch_options o;
    (void)state;
    assert_int_equal(
        parse(WORDS("--cloud", "gcp", "--controller", "http://127.0.0.1:1,https://b.example,http://[::1]:2"),
              &o, NULL),
        GW_OK);
    assert_ptr_equal(o.source, &gw_source_gcp);
    assert_string_equal(o.urls[0], "http://127.0.0.1:1");
    assert_string_equal(o.urls[1], "https://b.example");
    assert_string_equal(o.urls[2], "http://[::1]:2");
    assert_null(o.urls[3]);
    assert_true(o.urls[0] >= o.urls_text && o.urls[0] < o.urls_text + sizeof o.urls_text);
}

static void test_parse_none_needs_no_cloud(void **state)
{
    struct gw_watch_options o;
    (void)state;
    assert_int_equal(parse(WORDS("--cloud", "none"), &o, NULL), GW_OK);
    assert_null(o.source);
}

static void test_parse_wrong_values_are_refused_by_name(void **state)
{
    static const struct {
        const char *words[5];
        const char *text;
    } cases[] = {{{"--cloud", "ibm"}, "aws, gcp, azure"},
                 {{"--cloud", "sim"}, "--metadata-url"},
                 {{"--cloud", "aws", "--instance-id", "i 1"}, "--instance-id"},
                 {{"--cloud", "aws", "--instance-id", ""}, "--instance-id"},
                 {{"--cloud", "aws", "--controller", "127.0.0.1:8001"}, "expected http://"},
                 {{"--cloud", "aws", "--controller", "http://10.0.0.1:8001"}, "--insecure-plaintext"},
                 {{"--cloud", "aws", "--controller", "http://localhost.evil:8001"}, "--insecure-plaintext"},
                 {{"--cloud", "aws", "--controller", "https://a b"}, "spaces"},
                 {{"--cloud", "aws", "--controller", "https://a,https://b,https://c,https://d,https://e"},
                  "at most 4"},
                 {{"--cloud", "aws", "--log-level", "loud"}, "--log-level"}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct gw_watch_options o = {.gcp_notice_s = 4711};
        struct gw_err_ctx ctx = {0};
        assert_int_equal(parse(cases[i].words, &o, &ctx), GW_ERR_INPUT);
        if (!strstr(ctx.text, cases[i].text))
            fail_msg("'%s' does not speak of '%s'", ctx.text, cases[i].text);
        assert_true(o.gcp_notice_s == 4711);
    }
}

static const char *detect_with(const char *file, const char *text)
{
    char dir[] = "/tmp/godwit-dmi-XXXXXX", path[64];
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/%s", dir, file);
    assert_int_equal(gw_file_replace(path, text, strlen(text), 0600, NULL), GW_OK);
    const char *cloud = gw_cloud_detect(dir);
    unlink(path);
    rmdir(dir);
    return cloud;
}

static void test_detect_firmware_names_the_cloud(void **state)
{
    (void)state;
    assert_string_equal(detect_with("sys_vendor", "Amazon EC2\n"), "aws");
    assert_string_equal(detect_with("bios_version", "4.11.amazon\n"), "aws");
    assert_string_equal(detect_with("product_name", "Google Compute Engine\n"), "gcp");
    assert_string_equal(detect_with("chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77\n"), "azure");
    assert_string_equal(detect_with("sys_vendor", "Microsoft Corporation\n"), "none"); /* Hyper-V at home */
    assert_string_equal(gw_cloud_detect("/nowhere"), "none");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse_urls_point_into_the_result),
        cmocka_unit_test(test_parse_none_needs_no_cloud),
        cmocka_unit_test(test_parse_wrong_values_are_refused_by_name),
        cmocka_unit_test(test_detect_firmware_names_the_cloud),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
