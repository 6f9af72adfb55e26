/* base/log: one line per event, whatever is in it; levels filter; a reader can cut it by columns. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"

/* What a logger of that level writes when asked at `level`. */
static const char *logged(enum gw_log_level least, enum gw_log_level level, const char *body)
{
    static char line[2 * GW_LOG_LINE_MAX];
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    const struct gw_log log = {.fd = ends[1], .level = least, .program = "worker w3"};
    gw_logf(&log, level, "%s", body);
    close(ends[1]);
    ssize_t n = read(ends[0], line, sizeof line - 1);
    close(ends[0]);
    assert_true(n >= 0);
    line[n] = '\0';
    return line;
}

static void test_logf_line_has_time_level_program_and_text(void **state)
{
    (void)state;
    int year, month, day, hour, minute, second, ms, end = 0;
    const char *line = logged(GW_LOG_DEBUG, GW_LOG_WARN, "request=r-17 lost");
    assert_int_equal(sscanf(line, "%4d-%2d-%2dT%2d:%2d:%2d.%3dZ %n", &year, &month, &day, &hour, &minute,
                            &second, &ms, &end),
                     7);
    assert_true(year >= 2020 && month >= 1 && month <= 12 && day <= 31 && hour <= 23 && ms <= 999);
    assert_int_equal(end, 25);
    assert_string_equal(line + end, "warn  worker w3    request=r-17 lost\n");
}

static void test_logf_below_the_level_or_nowhere_writes_nothing(void **state)
{
    (void)state;
    for (int least = GW_LOG_DEBUG; least <= GW_LOG_NONE; least++)
        for (int level = GW_LOG_DEBUG; level < GW_LOG_NONE; level++) {
            const char *line = logged((enum gw_log_level)least, (enum gw_log_level)level, "x");
            assert_int_equal(*line != '\0', level >= least);
        }
    const struct gw_log nowhere = {.fd = -1};
    gw_logf(&nowhere, GW_LOG_ERROR, "lost");
    gw_logf(NULL, GW_LOG_ERROR, "lost");
}

/* A text from outside cannot forge a second line, nor move a terminal's cursor. */
static void test_logf_control_bytes_become_question_marks(void **state)
{
    (void)state;
    const char *line = logged(GW_LOG_DEBUG, GW_LOG_INFO, "a\nb\rc\x1b[2Jd\x7f\te \xC3\xA9");
    assert_non_null(strstr(line, "a?b?c?[2Jd??e \xC3\xA9\n"));
    assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
}

static void test_logf_too_long_a_text_is_cut_and_still_one_line(void **state)
{
    (void)state;
    char body[3 * GW_LOG_LINE_MAX];
    memset(body, 'x', sizeof body - 1);
    body[sizeof body - 1] = '\0';
    const char *line = logged(GW_LOG_DEBUG, GW_LOG_INFO, body);
    size_t len = strlen(line);
    assert_true(len <= GW_LOG_LINE_MAX && len > GW_LOG_LINE_MAX - 8);
    assert_int_equal(line[len - 1], '\n');
    assert_int_equal(line[len - 2], 'x');
}

static void test_level_parse_knows_its_names_only(void **state)
{
    (void)state;
    assert_int_equal(gw_log_level_parse("debug"), GW_LOG_DEBUG);
    assert_int_equal(gw_log_level_parse("info"), GW_LOG_INFO);
    assert_int_equal(gw_log_level_parse("warn"), GW_LOG_WARN);
    assert_int_equal(gw_log_level_parse("error"), GW_LOG_ERROR);
    assert_int_equal(gw_log_level_parse("none"), GW_LOG_NONE);
    static const char *const wrong[] = {"", "Info", "warning", "debug ", "3"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_int_equal(gw_log_level_parse(wrong[i]), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_logf_line_has_time_level_program_and_text),
        cmocka_unit_test(test_logf_below_the_level_or_nowhere_writes_nothing),
        cmocka_unit_test(test_logf_control_bytes_become_question_marks),
        cmocka_unit_test(test_logf_too_long_a_text_is_cut_and_still_one_line),
        cmocka_unit_test(test_level_parse_knows_its_names_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
