/* cloud/watch: a source's questions are carried, its answers brought back; who is told when nothing is heard. The web is
 * the test's own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cloud/watch.h"

#define BLIND_US   (60 * GW_US_PER_MS)
#define DEADLINE_S 20

struct fixture {
    struct event_base *loop;
    struct gw_watch *watch;
    struct event *answer; /* answers what was asked, a little later */
    gw_web_done done;     /* of the question that is open; NULL: none */
    void *done_arg;
    char url[256];
    struct gw_web_reply reply; /* what every question is answered with */
    int asked, blinds, sights, notices, refuse;
};

static gw_err_t start(void *arg, const struct gw_web_request *q, gw_web_done done, void *done_arg,
                      struct gw_web_flight **out)
{
    struct fixture *f = arg;
    struct timeval soon = {.tv_usec = 2000};
    if (f->refuse > 0 && f->refuse--) return GW_ERR_LIMIT;
    assert_null(f->done); /* one question at a time */
    f->asked++;
    f->done = done;
    f->done_arg = done_arg;
    snprintf(f->url, sizeof f->url, "%s", q->url);
    *out = (struct gw_web_flight *)f;
    event_add(f->answer, &soon);
    return GW_OK;
}

static void on_answer(evutil_socket_t fd, short what, void *arg)
{
    struct fixture *f = arg;
    gw_web_done done = f->done;
    (void)fd;
    (void)what;
    f->done = NULL;
    done(f->done_arg, &f->reply);
}

static void on_notice(void *arg, const struct gw_cloud_notice *n)
{
    struct fixture *f = arg;
    assert_string_equal(n->instance, "i-1");
    f->notices++;
}

static void on_sees(void *arg, bool sees)
{
    struct fixture *f = arg;
    f->blinds += !sees;
    f->sights += sees;
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    f->loop = event_base_new();
    f->answer = evtimer_new(f->loop, on_answer, f);
    f->reply = (struct gw_web_reply){.why = "", .status = 200, .body = "{\"sequence\":0,\"notices\":[]}"};
    f->reply.body_len = strlen(f->reply.body);
    const struct gw_watch_config config = {
        .loop = f->loop,
        .fetcher = {.start = start, .arg = f},
        .ops = &gw_source_sim,
        .source = {.base_url = "http://127.0.0.1:9", .instance = "i-1", .sink = {on_notice, f}},
        .blind_us = BLIND_US,
        .sees = on_sees,
        .arg = f};
    assert_int_equal(gw_watch_create(&config, &f->watch, NULL), GW_OK);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    gw_watch_destroy(f->watch);
    event_free(f->answer);
    event_base_free(f->loop);
    free(f);
    return 0;
}

static void until(struct fixture *f, const int *counter, int value)
{
    int64_t end_us = gw_clock_mono_us() + DEADLINE_S * GW_US_PER_S;
    while (*counter < value && gw_clock_mono_us() < end_us) event_base_loop(f->loop, EVLOOP_ONCE);
    assert_true(*counter >= value);
}

static void test_watch_carries_questions_and_answers(void **state)
{
    struct fixture *f = *state;
    until(f, &f->asked, 3);
    assert_non_null(strstr(f->url, "/v1/instances/i-1/notices?after=0"));
    assert_int_equal(f->notices, 0);
    f->reply.body = "{\"sequence\":1,\"notices\":[{\"kind\":\"preempt\",\"deadline_in_s\":9}]}";
    f->reply.body_len = strlen(f->reply.body);
    until(f, &f->notices, 1);
    assert_string_equal(gw_watch_instance(f->watch), "i-1");
}

static void test_watch_silence_is_told_once_and_its_end_too(void **state)
{
    struct fixture *f = *state;
    const struct gw_web_reply good = f->reply;
    until(f, &f->asked, 2);
    assert_int_equal(f->blinds, 0);
    f->reply = (struct gw_web_reply){.err = GW_ERR_IO, .why = "timed out", .body = ""};
    until(f, &f->blinds, 1);
    int before = f->asked;
    until(f, &f->asked, before + 1);
    assert_int_equal(f->blinds, 1);
    assert_int_equal(f->sights, 0);
    f->reply = good;
    until(f, &f->sights, 1);
    assert_int_equal(f->blinds, 1);
}

static void test_watch_answers_that_refuse_are_no_sight(void **state)
{
    struct fixture *f = *state;
    f->reply.status = 503;
    until(f, &f->blinds, 1);
}

static void test_watch_question_that_finds_no_place_is_asked_again(void **state)
{
    struct fixture *f = *state;
    f->refuse = 1;
    until(f, &f->asked, 2);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_watch_carries_questions_and_answers),
        TEST(test_watch_silence_is_told_once_and_its_end_too),
        TEST(test_watch_answers_that_refuse_are_no_sight),
        TEST(test_watch_question_that_finds_no_place_is_asked_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
