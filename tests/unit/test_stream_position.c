/* controller/front/stream_position: what is written is read, and nothing else is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "controller/front/stream_position.h"

#define CHOICES 4

static const struct gw_position every[CHOICES] = {
    {0},
    {.begun = true},
    {.begun = true, .flushed = true, .records = 1048576},
    {.begun = true, .flushed = true, .finished = true, .records = 7},
};

static void test_put_and_parse_agree(void **state)
{
    (void)state;
    struct gw_buf b;
    struct gw_position got[CHOICES];
    bool usage = true;
    gw_buf_init(&b, 100);
    gw_position_put(&b, every, CHOICES, false);
    assert_string_equal(gw_buf_cstr(&b), "-,0,1048576f,7e");
    assert_int_equal(gw_position_parse(gw_buf_cstr(&b), got, CHOICES, &usage), GW_OK);
    assert_false(usage);
    for (int i = 0; i < CHOICES; i++) {
        assert_int_equal(got[i].records, every[i].records);
        assert_int_equal(got[i].begun, every[i].begun);
        assert_int_equal(got[i].flushed, every[i].flushed);
        assert_int_equal(got[i].finished, every[i].finished);
    }
    gw_buf_reset(&b);
    gw_position_put(&b, &every[3], 1, true);
    assert_string_equal(gw_buf_cstr(&b), "7e,u");
    assert_int_equal(gw_position_parse("7e,u", got, 1, &usage), GW_OK);
    assert_true(usage);
    gw_buf_fini(&b);
}

static void test_parse_what_is_never_written_is_refused(void **state)
{
    (void)state;
    struct gw_position got[2];
    bool usage;
    static const char *const one[] = {"",  "x",  "1x", "01", "+1",  " 1",  "1 ",  "1,",         "1,2",
                                      "e", "-e", "--", "1E", "1ee", "1fe", "7,u", "4294967297", "1048577"};
    static const char *const two[] = {"1", "1,", ",1", "1,2,3", "1;2", "1,2u", "1e,2,u", "1e,2e,u,u"};
    for (size_t i = 0; i < sizeof one / sizeof one[0]; i++)
        if (gw_position_parse(one[i], got, 1, &usage) != GW_ERR_INPUT) fail_msg("'%s' was taken", one[i]);
    for (size_t i = 0; i < sizeof two / sizeof two[0]; i++)
        if (gw_position_parse(two[i], got, 2, &usage) != GW_ERR_INPUT) fail_msg("'%s' was taken", two[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_put_and_parse_agree),
        cmocka_unit_test(test_parse_what_is_never_written_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
