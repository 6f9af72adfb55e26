/* base/args: one table gives parsing, --help and --config; mistakes are named, never guessed at. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/args.h"

#define ARGS_MAX  16
#define WORDS_MAX 2

struct options {
    const char *model;
    int64_t port;
    int64_t seed;
    double ratio;
    bool verbose;
    const char *words[WORDS_MAX];
    int nwords;
    bool help;
    struct gw_err_ctx ctx;
};

static struct options defaults(void)
{
    return (struct options){.model = "none", .port = 80, .seed = 7, .ratio = 0.5, .nwords = -1};
}

/* line: the arguments, one blank between them. */
static gw_err_t parse(struct options *o, const char *line)
{
    static char text[512];
    const struct gw_flag flags[] = {
        {"model", GW_FLAG_STRING, &o->model, "DIR", "model directory"},
        {"port", GW_FLAG_INT, &o->port, "PORT", "port", .min = 0, .max = 65535},
        {"seed", GW_FLAG_INT, &o->seed, "N", "any integer"},
        {"ratio", GW_FLAG_DOUBLE, &o->ratio, "X", "a share", .min = 0, .max = 1},
        {"verbose", GW_FLAG_BOOL, &o->verbose, NULL, "say more"},
        {0},
    };
    char *argv[ARGS_MAX] = {"program"}, *rest = text;
    int argc = 1;
    snprintf(text, sizeof text, "%s", line);
    for (char *word; argc < ARGS_MAX && rest && (word = strsep(&rest, " "));)
        if (*word) argv[argc++] = word;
    return gw_args_parse(argc, argv, flags, o->words, WORDS_MAX, &o->nwords, &o->help, &o->ctx);
}

static void assert_refused(const char *line, const char *words_of_text)
{
    struct options o = defaults();
    if (parse(&o, line) != GW_ERR_INPUT) fail_msg("not refused: %s", line);
    if (!strstr(o.ctx.text, words_of_text))
        fail_msg("'%s' says '%s', not '%s'", line, o.ctx.text, words_of_text);
}

static void test_parse_of_nothing_keeps_the_defaults(void **state)
{
    (void)state;
    struct options o = defaults();
    assert_int_equal(parse(&o, ""), GW_OK);
    assert_string_equal(o.model, "none");
    assert_int_equal(o.port, 80);
    assert_int_equal(o.nwords, 0);
    assert_false(o.help);
}

static void test_parse_both_forms_set_every_type(void **state)
{
    (void)state;
    struct options o = defaults();
    assert_int_equal(parse(&o, "--model m --port=0 --seed -9223372036854775808 --ratio=.25 --verbose"),
                     GW_OK);
    assert_string_equal(o.model, "m");
    assert_int_equal(o.port, 0);
    assert_true(o.seed == INT64_MIN);
    assert_true(o.ratio == 0.25);
    assert_true(o.verbose);
    assert_int_equal(parse(&o, "--verbose=false --model= --seed=9223372036854775807"), GW_OK);
    assert_false(o.verbose);
    assert_string_equal(o.model, "");
    assert_true(o.seed == INT64_MAX);
}

static void test_parse_a_flag_given_twice_the_last_one_counts(void **state)
{
    (void)state;
    struct options o = defaults();
    assert_int_equal(parse(&o, "--port 1 --port 2 --verbose --verbose=0"), GW_OK);
    assert_int_equal(o.port, 2);
    assert_false(o.verbose);
}

static void test_parse_words_are_collected_up_to_the_maximum(void **state)
{
    (void)state;
    struct options o = defaults();
    assert_int_equal(parse(&o, "up --verbose false"), GW_OK);
    assert_int_equal(o.nwords, 2);
    assert_string_equal(o.words[0], "up");
    assert_string_equal(o.words[1], "false");
    assert_true(o.verbose);
    assert_refused("one two three", "'three'");
}

static void test_parse_mistakes_are_refused_by_name(void **state)
{
    (void)state;
    assert_refused("--prot 1", "--prot");
    assert_refused("--", "no flag is named --");
    assert_refused("--=1", "no flag is named --");
    assert_refused("--port", "--port needs a value");
    assert_refused("--model --port 1", "--model needs a value");
    assert_refused("--config", "--config needs a value");
    assert_refused("--port -1", "between 0 and 65535");
    assert_refused("--port 65536", "between 0 and 65535");
    assert_refused("--port 8080x", "--port 8080x");
    assert_refused("--port=", "--port");
    assert_refused("--port 0x50", "--port");
    assert_refused("--port 1e3", "--port");
    assert_refused("--seed 9223372036854775808", "--seed");
    assert_refused("--ratio 1.0001", "between 0 and 1");
    assert_refused("--ratio nan", "--ratio");
    assert_refused("--ratio inf", "--ratio");
    assert_refused("--ratio 1e999", "--ratio");
    assert_refused("--verbose=yes", "expected true or false");
}

static void test_parse_help_anywhere_wins_over_mistakes(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "--help", "-h", "--nonsense --help", "--port x -h", "a b c d --help", "--model --help"};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        struct options o = defaults();
        assert_int_equal(parse(&o, lines[i]), GW_OK);
        assert_true(o.help);
        assert_int_equal(o.port, 80);
    }
}

/* Writes a config file of len bytes and parses `before --config FILE after`. */
static gw_err_t parse_with_config(struct options *o, const char *before, const char *text, size_t len,
                                  const char *after)
{
    char path[] = "/tmp/gw-test-args-XXXXXX", line[300];
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, len), len);
    close(fd);
    snprintf(line, sizeof line, "%s --config %s %s", before, path, after);
    gw_err_t err = parse(o, line);
    unlink(path);
    return err;
}

static void assert_config_refused(const char *text, size_t len, const char *words_of_text)
{
    struct options o = defaults();
    if (parse_with_config(&o, "", text, len, "") != GW_ERR_INPUT) fail_msg("not refused: %s", text);
    if (!strstr(o.ctx.text, words_of_text)) fail_msg("'%s' says '%s'", text, o.ctx.text);
    assert_non_null(strstr(o.ctx.text, "/tmp/gw-test-args-"));
}

static void test_config_lines_blanks_and_comments_are_read(void **state)
{
    (void)state;
    static const char text[] =
        "# a comment\n\n  model = /srv/my model = 2 \r\n\tport=8080\nverbose = true\n  # ratio = 9\nseed=-1";
    struct options o = defaults();
    assert_int_equal(parse_with_config(&o, "", text, sizeof text - 1, ""), GW_OK);
    assert_string_equal(o.model, "/srv/my model = 2");
    assert_int_equal(o.port, 8080);
    assert_true(o.verbose);
    assert_true(o.ratio == 0.5);
    assert_int_equal(o.seed, -1);
}

static void test_config_loses_against_the_command_line_on_both_sides(void **state)
{
    (void)state;
    static const char text[] = "port = 1\nseed = 1\nratio = 1\n";
    struct options o = defaults();
    assert_int_equal(parse_with_config(&o, "--port 2", text, sizeof text - 1, "--seed 3"), GW_OK);
    assert_int_equal(o.port, 2);
    assert_int_equal(o.seed, 3);
    assert_true(o.ratio == 1);
}

static void test_config_mistakes_name_file_and_line(void **state)
{
    (void)state;
    assert_config_refused("port = 1\n\nprot = 1\n", 19, ":3: no flag is named 'prot'");
    assert_config_refused("port\n", 5, ":1: 'port': expected name = value");
    assert_config_refused("port = x\n", 9, ":1: --port x");
    assert_config_refused("config = other\n", 15, ":1: no flag is named 'config'");
    assert_config_refused("verbose =\n", 10, ":1: --verbose");
    assert_config_refused("port = 1\0seed = x\n", 18, "not a text file");
}

static void test_config_that_is_missing_or_no_file_is_an_error(void **state)
{
    (void)state;
    struct options o = defaults();
    assert_int_equal(parse(&o, "--config /nonexistent/godwit.conf"), GW_ERR_NOT_FOUND);
    assert_non_null(strstr(o.ctx.text, "/nonexistent/godwit.conf"));
    o = defaults();
    assert_int_equal(parse(&o, "--config=/tmp"), GW_ERR_IO);
}

static void test_help_shows_every_flag_with_its_default(void **state)
{
    (void)state;
    char path[] = "/tmp/gw-test-help-XXXXXX", text[1024] = "";
    const char *model = "tattler";
    int64_t port = 8080;
    bool on = true;
    const struct gw_flag flags[] = {
        {"model", GW_FLAG_STRING, &model, "DIR", "model directory"},
        {"port", GW_FLAG_INT, &port, "PORT", "HTTP port"},
        {"on", GW_FLAG_BOOL, &on, NULL, "a switch"},
        {0},
    };
    int fd = mkstemp(path), saved = dup(1);
    assert_true(fd >= 0 && saved >= 0);
    fflush(stdout);
    dup2(fd, 1);
    gw_args_help("godwit up [flags]", "Runs a cluster.", flags);
    fflush(stdout);
    dup2(saved, 1);
    assert_true(pread(fd, text, sizeof text - 1, 0) > 0);
    close(fd);
    close(saved);
    unlink(path);
    static const char *const wanted[] = {"usage: godwit up [flags]\n",
                                         "Runs a cluster.",
                                         "--model DIR",
                                         "(default tattler)",
                                         "--port PORT",
                                         "(default 8080)",
                                         "--on",
                                         "(default true)",
                                         "--config FILE",
                                         "--help"};
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
        if (!strstr(text, wanted[i])) fail_msg("'%s' is not in:\n%s", wanted[i], text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse_of_nothing_keeps_the_defaults),
        cmocka_unit_test(test_parse_both_forms_set_every_type),
        cmocka_unit_test(test_parse_a_flag_given_twice_the_last_one_counts),
        cmocka_unit_test(test_parse_words_are_collected_up_to_the_maximum),
        cmocka_unit_test(test_parse_mistakes_are_refused_by_name),
        cmocka_unit_test(test_parse_help_anywhere_wins_over_mistakes),
        cmocka_unit_test(test_config_lines_blanks_and_comments_are_read),
        cmocka_unit_test(test_config_loses_against_the_command_line_on_both_sides),
        cmocka_unit_test(test_config_mistakes_name_file_and_line),
        cmocka_unit_test(test_config_that_is_missing_or_no_file_is_an_error),
        cmocka_unit_test(test_help_shows_every_flag_with_its_default),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
