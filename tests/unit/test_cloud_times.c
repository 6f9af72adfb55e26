/* cloud/times: the forms that clouds write, and nothing else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "cloud/times.h"

#define UNTOUCHED 4711

static void test_parse_iso_known_times_are_right(void **state)
{
    static const struct {
        const char *text;
        int64_t ms;
    } cases[] = {{"1970-01-01T00:00:00Z", 0},
                 {"2017-09-18T08:22:00Z", 1505722920000},
                 {"2020-10-26T22:02:14Z", 1603749734000},
                 {"2024-02-29T23:59:59.987Z", 1709251199987},
                 {"2000-03-01T00:00:00.1234567Z", 951868800123},
                 {"2399-12-31T23:59:59Z", 13569465599000}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int64_t ms = UNTOUCHED;
        assert_int_equal(gw_time_parse_iso(cases[i].text, &ms), GW_OK);
        assert_int_equal(ms, cases[i].ms);
    }
}

static void test_parse_http_known_times_are_right(void **state)
{
    int64_t ms = UNTOUCHED;
    (void)state;
    assert_int_equal(gw_time_parse_http("Mon, 19 Sep 2016 18:29:47 GMT", &ms), GW_OK);
    assert_int_equal(ms, 1474309787000);
    assert_int_equal(gw_time_parse_http("21 Jan 2019 09:00:43 GMT", &ms), GW_OK);
    assert_int_equal(ms, 1548061243000);
}

static void test_parse_iso_other_texts_are_refused(void **state)
{
    static const char *const cases[] = {"",
                                        "now",
                                        "2017-09-18",
                                        "2017-09-18T08:22:00",
                                        "2017-09-18T08:22:00+01:00",
                                        "2017-9-18T08:22:00Z",
                                        "2017-13-18T08:22:00Z",
                                        "2017-02-29T08:22:00Z",
                                        "2017-09-18T24:22:00Z",
                                        "2017-09-18T08:60:00Z",
                                        "1969-12-31T23:59:59Z",
                                        "9999-12-31T23:59:59Z",
                                        "2017-09-18T08:22:00Z ",
                                        " 2017-09-18T08:22:00Z",
                                        "2017-09-18t08:22:00Z",
                                        "-017-09-18T08:22:00Z"};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int64_t ms = UNTOUCHED;
        assert_int_equal(gw_time_parse_iso(cases[i], &ms), GW_ERR_INPUT);
        assert_int_equal(ms, UNTOUCHED);
    }
}

static void test_parse_http_other_texts_are_refused(void **state)
{
    static const char *const cases[] = {"",
                                        "Mon, 19 Sep 2016 18:29:47",
                                        "Mon, 19 Sep 2016 18:29:47 CET",
                                        "Monday, 19 Sep 2016 18:29:47 GMT",
                                        "Mon,19 Sep 2016 18:29:47 GMT",
                                        "19 Sept 2016 18:29:47 GMT",
                                        "31 Jun 2016 18:29:47 GMT",
                                        "1 Jan 2019 09:00:43 GMT",
                                        "2017-09-18T08:22:00Z",
                                        "Mon, 19 Sep 2016 18:29:47 GMT\n"};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int64_t ms = UNTOUCHED;
        assert_int_equal(gw_time_parse_http(cases[i], &ms), GW_ERR_INPUT);
        assert_int_equal(ms, UNTOUCHED);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse_iso_known_times_are_right),
        cmocka_unit_test(test_parse_http_known_times_are_right),
        cmocka_unit_test(test_parse_iso_other_texts_are_refused),
        cmocka_unit_test(test_parse_http_other_texts_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
