/* The front's end: its stop, its release for a successor, its destruction, with requests in every state. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/front_fixture.h"

#define CHAT  "/v1/chat/completions"
#define HELLO "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"
#define MS    GW_US_PER_MS

static void on_stopped(void *arg)
{
    ++*(int *)arg;
}

static void test_stop_lets_running_requests_finish(void **state)
{
    struct front_fixture *f = *state;
    int stopped = 0;
    f->config.sse_ping_us = 40 * MS; /* the front looks at its end as often */
    fixture_listen(f);
    fixture_say(f, "to the end");
    struct http_client *c = fixture_client(f), *idle = fixture_client(f);
    fake_core_plan(f->core)->held = true;
    http_client_post(c, CHAT, "", "{" HELLO "}");
    http_client_wait_count(c, &fake_core_seen(f->core)->submits, 1);
    gw_front_stop(f->front, 10 * GW_US_PER_S, on_stopped, &stopped);
    http_client_wait_closed(idle);
    fake_core_plan(f->core)->held = false;
    fake_core_release(f->core);
    struct http_response r = http_client_response(c);
    assert_int_equal(r.status, 200);
    fixture_has(r.head, "Connection: close\r\n");
    fixture_has(r.body, "to the end");
    http_client_wait_closed(c);
    http_client_close(c);
    http_client_close(idle);
    http_client_wait_count(c, &stopped, 1);
    http_client_destroy(c);
    http_client_destroy(idle);
}

static void finish(struct http_client *c)
{
    http_client_wait_closed(c);
    http_client_close(c);
    http_client_destroy(c);
}

static void test_released_front_serves_who_had_just_connected(void **state)
{
    struct front_fixture *f = *state;
    int stopped = 0;
    f->config.sse_ping_us = 40 * MS; /* the front looks at its end as often */
    fixture_listen(f);
    fixture_say(f, "from here still");
    struct http_client *idle = fixture_client(f), *fresh = fixture_client(f), *resumable = fixture_client(f);
    http_client_get(idle, "/health"); /* behind its answer all three are accepted */
    assert_int_equal(http_client_response(idle).status, 200);
    gw_front_release(f->front, 10 * GW_US_PER_S, on_stopped, &stopped);
    finish(idle);
    http_client_post(fresh, CHAT, "", "{" HELLO "}");
    struct http_response r = http_client_response(fresh);
    assert_int_equal(r.status, 200);
    fixture_has(r.head, "Connection: close\r\n");
    fixture_has(r.body, "from here still");
    finish(fresh);
    http_client_post(resumable, CHAT, "Godwit-Resume: 1\r\n", "{" HELLO ",\"stream\":true}");
    r = http_client_response(resumable);
    assert_int_equal(r.status, 503); /* the entry that it needs is the successor's to write */
    fixture_has(r.head, "Retry-After: ");
    assert_int_equal(stopped, 0);
    http_client_wait_closed(resumable);
    http_client_close(resumable);
    http_client_wait_count(resumable, &stopped, 1);
    http_client_destroy(resumable);
}

static void test_request_that_is_on_its_way_is_answered_before_the_end(void **state)
{
    struct front_fixture *f = *state;
    int stopped = 0;
    f->config.sse_ping_us = 40 * MS;
    fixture_listen(f);
    struct http_client *c = fixture_client(f);
    http_client_get(c, "/health");
    assert_int_equal(http_client_response(c).status, 200);
    http_client_get(c, "/health"); /* the loop does not read it before the stop */
    gw_front_stop(f->front, 10 * GW_US_PER_S, on_stopped, &stopped);
    struct http_response r = http_client_response(c);
    assert_int_equal(r.status, 200);
    fixture_has(r.head, "Connection: close\r\n");
    http_client_wait_closed(c);
    http_client_close(c);
    http_client_wait_count(c, &stopped, 1);
    http_client_destroy(c);
}

static void test_stop_fails_what_does_not_end_in_time(void **state)
{
    struct front_fixture *f = *state;
    int stopped = 0;
    f->config.sse_ping_us = 40 * MS;
    fixture_listen(f);
    struct http_client *c = fixture_client(f);
    fake_core_plan(f->core)->held = true;
    http_client_post(c, CHAT, "", "{" HELLO "}");
    http_client_wait_count(c, &fake_core_seen(f->core)->submits, 1);
    gw_front_stop(f->front, 30 * MS, on_stopped, &stopped);
    struct http_response r = http_client_response(c);
    assert_int_equal(r.status, 503);
    http_client_wait_count(c, &fake_core_seen(f->core)->cancels, 1);
    http_client_close(c);
    http_client_wait_count(c, &stopped, 1);
    http_client_destroy(c);
}

static void test_destroy_with_requests_in_every_state_leaks_nothing(void **state)
{
    struct front_fixture *f = *state;
    fixture_listen(f);
    struct http_client *c[4];
    fake_core_plan(f->core)->held = true;
    for (int i = 0; i < 4; i++) c[i] = fixture_client(f);
    http_client_post(c[0], CHAT, "", "{\"stream\":true," HELLO "}");
    http_client_post(c[1], "/v1/completions", "",
                     "{\"prompt\":[\"a\",\"b\"],\"n\":3,\"stop\":\"x\",\"logprobs\":2}");
    http_client_send(c[2], "POST " CHAT " HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n{");
    http_client_wait_count(c[3], &fake_core_seen(f->core)->submits, 3);
    http_client_post(c[3], CHAT, "", "{" HELLO "}");
    for (int i = 0; i < 4; i++) http_client_destroy(c[i]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_set_up, fixture_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_stop_lets_running_requests_finish),
        TEST(test_stop_fails_what_does_not_end_in_time),
        TEST(test_released_front_serves_who_had_just_connected),
        TEST(test_request_that_is_on_its_way_is_answered_before_the_end),
        TEST(test_destroy_with_requests_in_every_state_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
