/* The admin listener over real sockets: workers, notices, timeline, metrics, and who may ask. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "controller/front/timeline.h"
#include "tests/lib/front_fixture.h"

static char *get(struct front_fixture *f, const char *path)
{
    struct http_client *c = fixture_admin(f);
    http_client_get(c, path);
    struct http_response r = http_client_response(c);
    if (r.status != 200) fail_msg("%s: %s%s", path, r.head, r.body);
    char *body = strdup(r.body);
    http_client_destroy(c);
    return body;
}

static void note(struct front_fixture *f, enum gw_note_kind kind, const char *worker, const char *text)
{
    const struct gw_action action = {.type = GW_ACT_NOTE,
                                     .note = {.kind = kind,
                                              .worker = worker,
                                              .generation = 4,
                                              .request = 1234567890123456789u,
                                              .attempt = 2,
                                              .count = 3,
                                              .announced = true,
                                              .text = text}};
    gw_front_on_action(f->front, &action);
}

static void test_workers_and_stats_are_shown(void **state)
{
    struct front_fixture *f = *state;
    fixture_listen(f);
    char *body = get(f, "/admin/workers");
    fixture_has(body, "{\"worker\":\"w0\",\"instance\":\"i-0\",\"profile\":\"test\",\"state\":\"up\",");
    fixture_has(body, "\"worker\":\"w1\"");
    fixture_has(body, "\"deadline_in_s\":null");
    free(body);
    body = get(f, "/admin/stats");
    fixture_has(body, "\"workers_up\":2,");
    fixture_has(body, "\"losses\":3,");
    fixture_has(body, "\"kv_tokens\":{\"cache\":10,\"peer\":60,\"store\":20,\"recompute\":10},");
    free(body);
}

/* ---- notices ------------------------------------------------------------------------------------------- */

static int post_notice(struct front_fixture *f, const char *body)
{
    struct http_client *c = fixture_admin(f);
    http_client_post(c, "/admin/notice", "", body);
    int status = http_client_response(c).status;
    http_client_destroy(c);
    return status;
}

static void test_notice_reaches_the_core_with_its_deadline(void **state)
{
    struct front_fixture *f = *state;
    struct fake_core_seen *seen = fake_core_seen(f->core);
    fixture_listen(f);
    int64_t before = gw_clock_mono_us();
    assert_int_equal(post_notice(f, "{\"instance\":\"i-1\",\"kind\":\"preempt\",\"deadline_s\":12.5}"), 202);
    assert_int_equal(seen->notices, 1);
    assert_string_equal(seen->notice_name, "i-1");
    assert_int_equal(seen->notice_kind, GW_NOTICE_PREEMPT);
    int64_t in_us = seen->notice_deadline_us - before;
    assert_true(in_us >= 12500 * GW_US_PER_MS && in_us < 22500 * GW_US_PER_MS);
    assert_int_equal(post_notice(f, "{\"worker\":\"w0\",\"kind\":\"cancel\"}"), 202);
    assert_string_equal(seen->notice_name, "w0");
    assert_int_equal(seen->notice_kind, GW_NOTICE_CANCEL);
    assert_int_equal(seen->notice_deadline_us, 0);
}

static void test_notice_malformed_is_refused_and_not_posted(void **state)
{
    struct front_fixture *f = *state;
    fixture_listen(f);
    assert_int_equal(post_notice(f, ""), 400);
    assert_int_equal(post_notice(f, "{"), 400);
    assert_int_equal(post_notice(f, "[]"), 400);
    assert_int_equal(post_notice(f, "{\"kind\":\"preempt\"}"), 400);
    assert_int_equal(post_notice(f, "{\"worker\":\"w0\"}"), 400);
    assert_int_equal(post_notice(f, "{\"worker\":\"w0\",\"kind\":\"doom\"}"), 400);
    assert_int_equal(post_notice(f, "{\"worker\":7,\"kind\":\"preempt\"}"), 400);
    assert_int_equal(post_notice(f, "{\"worker\":\"w0\",\"instance\":\"i-0\",\"kind\":\"preempt\"}"), 400);
    assert_int_equal(post_notice(f, "{\"worker\":\"w0\",\"kind\":\"preempt\",\"deadline_s\":-1}"), 400);
    assert_int_equal(post_notice(f, "{\"worker\":\"w0\",\"kind\":\"preempt\",\"deadline_s\":1e9}"), 400);
    assert_int_equal(post_notice(f, "{\"worker\":\"w9\",\"kind\":\"preempt\"}"), 404);
    assert_int_equal(post_notice(f, "{\"worker\":\"i-0\",\"kind\":\"preempt\"}"), 404);
    assert_int_equal(fake_core_seen(f->core)->notices, 0);
}

static void test_notice_of_a_blind_watch_is_counted_and_not_posted(void **state)
{
    struct front_fixture *f = *state;
    fixture_listen(f);
    assert_int_equal(post_notice(f, "{\"instance\":\"i-0\",\"kind\":\"blind\"}"), 202);
    assert_int_equal(post_notice(f, "{\"instance\":\"i-0\",\"kind\":\"sees\"}"), 202);
    assert_int_equal(post_notice(f, "{\"instance\":\"i-9\",\"kind\":\"blind\"}"), 404);
    assert_int_equal(fake_core_seen(f->core)->notices, 0);
    char *m = get(f, "/metrics");
    assert_non_null(strstr(m, "godwit:watches_blind_total{model_name=\"tattler\"} 1\n"));
    free(m);
}

/* ---- timeline ------------------------------------------------------------------------------------------ */

static void test_events_are_streamed_as_they_happen(void **state)
{
    struct front_fixture *f = *state;
    fixture_listen(f);
    struct http_client *c = fixture_admin(f);
    note(f, GW_NOTE_WORKER_UP, "w\"0", "first");
    http_client_get(c, "/admin/events");
    http_client_wait_for(c, "id: 1\ndata: {\"id\":1,\"time_ms\":");
    http_client_wait_for(c,
                         "\"kind\":\"worker_up\",\"worker\":\"w\\\"0\",\"generation\":4,"
                         "\"request\":\"1234567890123456789\",\"attempt\":2,\"count\":3,\"announced\":true,"
                         "\"text\":\"first\"}\n\n");
    note(f, GW_NOTE_WORKER_LOST, "w1", "no heartbeat");
    http_client_wait_for(c, "id: 2\n");
    http_client_wait_for(c, "\"kind\":\"worker_lost\"");
    http_client_destroy(c);
}

static void test_events_late_joiner_gets_the_last_256(void **state)
{
    struct front_fixture *f = *state;
    fixture_listen(f);
    for (int i = 0; i < 300; i++) note(f, GW_NOTE_REQUEST_MOVED, "w0", "");
    struct http_client *c = fixture_admin(f);
    http_client_get(c, "/admin/events");
    http_client_wait_for(c, "id: 300\n");
    const char *text = http_client_text(c);
    assert_int_equal(fixture_count(text, "\nid: "), 256);
    assert_null(strstr(text, "id: 44\n"));
    fixture_has(text, "id: 45\n");
    http_client_destroy(c);
}

static void test_events_go_on_behind_the_last_event_id(void **state)
{
    struct front_fixture *f = *state;
    fixture_listen(f);
    for (int i = 0; i < 5; i++) note(f, GW_NOTE_REQUEST_MOVED, "w0", "");
    struct http_client *c = fixture_admin(f);
    http_client_send(c, "GET /admin/events HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: 3\r\n\r\n");
    http_client_wait_for(c, "id: 5\n");
    assert_null(strstr(http_client_text(c), "id: 3\n"));
    fixture_has(http_client_text(c), "id: 4\n");
    http_client_destroy(c);
}

static void test_events_watchers_are_bounded_and_forgotten_when_gone(void **state)
{
    struct front_fixture *f = *state;
    fixture_listen(f);
    struct http_client *c[GW_TIMELINE_WATCHERS + 1];
    note(f, GW_NOTE_WORKER_UP, "w0", "");
    for (int i = 0; i < GW_TIMELINE_WATCHERS; i++) {
        c[i] = fixture_admin(f);
        http_client_get(c[i], "/admin/events");
        http_client_wait_for(c[i], "id: 1\n");
    }
    c[GW_TIMELINE_WATCHERS] = fixture_admin(f);
    http_client_get(c[GW_TIMELINE_WATCHERS], "/admin/events");
    assert_int_equal(http_client_response(c[GW_TIMELINE_WATCHERS]).status, 503);
    http_client_reset(c[0]);
    http_client_run(c[1], 50);
    http_client_get(c[GW_TIMELINE_WATCHERS], "/admin/events");
    http_client_wait_for(c[GW_TIMELINE_WATCHERS], "id: 1\n");
    note(f, GW_NOTE_WORKER_LOST, "w0", "");
    http_client_wait_for(c[1], "id: 2\n");
    for (int i = 0; i <= GW_TIMELINE_WATCHERS; i++) http_client_destroy(c[i]);
}

/* ---- metrics ------------------------------------------------------------------------------------------- */

static void test_metrics_count_what_was_served(void **state)
{
    struct front_fixture *f = *state;
    fixture_listen(f);
    struct http_client *c = fixture_client(f);
    http_client_post(c, "/v1/completions", "", "{\"prompt\":[1,2,3],\"max_tokens\":5,\"n\":2}");
    assert_int_equal(http_client_response(c).status, 200);
    http_client_post(c, "/v1/completions", "", "{\"prompt\":[1,2,3],\"n\":0}");
    assert_int_equal(http_client_response(c).status, 400);
    char *m = get(f, "/metrics");
    fixture_has(m, "vllm:prompt_tokens_total{model_name=\"tattler\"} 3\n");
    fixture_has(m, "vllm:generation_tokens_total{model_name=\"tattler\"} 10\n");
    fixture_has(m, "vllm:request_success_total{model_name=\"tattler\",finished_reason=\"length\"} 2\n");
    fixture_has(m, "# TYPE vllm:time_to_first_token_seconds histogram\n");
    fixture_has(m, "vllm:time_to_first_token_seconds_bucket{model_name=\"tattler\",le=\"+Inf\"} 1\n");
    fixture_has(m, "vllm:inter_token_latency_seconds_count{model_name=\"tattler\"} 8\n");
    fixture_has(m, "godwit:workers_up{model_name=\"tattler\"} 2\n");
    fixture_has(m, "godwit:losses_total{model_name=\"tattler\"} 3\n");
    fixture_has(m, "godwit:moves_total{model_name=\"tattler\",announced=\"true\"} 0\n");
    fixture_has(m, "godwit:kv_tokens_total{model_name=\"tattler\",from=\"peer\"} 60\n");
    fixture_has(m, "godwit:kv_tokens_total{model_name=\"tattler\",from=\"recompute\"} 10\n");
    fixture_has(m, "godwit:http_errors_total{model_name=\"tattler\",class=\"4xx\"} 1\n");
    free(m);
    http_client_destroy(c);
}

/* ---- who may ask --------------------------------------------------------------------------------------- */

static int raw(struct front_fixture *f, const char *request)
{
    struct http_client *c = fixture_admin(f);
    http_client_send(c, request);
    int status = http_client_response(c).status;
    http_client_destroy(c);
    return status;
}

static void test_listeners_do_not_serve_each_others_routes(void **state)
{
    struct front_fixture *f = *state;
    fixture_listen(f);
    assert_int_equal(raw(f, "GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n"), 404);
    struct http_client *c = fixture_client(f);
    http_client_get(c, "/admin/stats");
    assert_int_equal(http_client_response(c).status, 404);
    http_client_get(c, "/metrics");
    assert_int_equal(http_client_response(c).status, 404);
    http_client_destroy(c);
}

static void test_admin_token_is_needed_and_api_keys_do_not_help(void **state)
{
    struct front_fixture *f = *state;
    char token[64], keys[64];
    fixture_write_file(token, "let-me-in\n");
    fixture_write_file(keys, "acme:sk-one\n");
    f->config.admin_token_file = token;
    f->config.api_keys_file = keys;
    fixture_listen(f);
    remove(token);
    remove(keys);
    assert_int_equal(raw(f, "GET /admin/stats HTTP/1.1\r\nHost: a\r\n\r\n"), 401);
    assert_int_equal(raw(f, "GET /metrics HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer sk-one\r\n\r\n"), 401);
    assert_int_equal(raw(f, "GET /metrics HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer let-me-in\r\n\r\n"),
                     200);
    assert_int_equal(raw(f, "GET /health HTTP/1.1\r\nHost: a\r\n\r\n"), 200);
}

/* A page in the operator's browser must not drain the fleet. */
static void test_admin_without_token_refuses_foreign_pages(void **state)
{
    struct front_fixture *f = *state;
    fixture_listen(f);
    assert_int_equal(raw(f, "GET /admin/stats HTTP/1.1\r\nHost: localhost:8001\r\n\r\n"), 200);
    assert_int_equal(raw(f, "GET /admin/stats HTTP/1.1\r\nHost: [::1]:8001\r\n\r\n"), 200);
    assert_int_equal(
        raw(f, "GET /admin/stats HTTP/1.1\r\nHost: 127.0.0.1:9\r\nOrigin: http://127.0.0.1:9\r\n\r\n"), 200);
    assert_int_equal(
        raw(f, "GET /admin/stats HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: http://evil.example\r\n\r\n"), 403);
    assert_int_equal(raw(f, "GET /admin/stats HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: null\r\n\r\n"), 403);
    assert_int_equal(
        raw(f, "GET /admin/stats HTTP/1.1\r\nHost: evil.example\r\nOrigin: http://evil.example\r\n\r\n"),
        403);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_set_up, fixture_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_workers_and_stats_are_shown),
        TEST(test_notice_reaches_the_core_with_its_deadline),
        TEST(test_notice_malformed_is_refused_and_not_posted),
        TEST(test_events_are_streamed_as_they_happen),
        TEST(test_events_late_joiner_gets_the_last_256),
        TEST(test_events_go_on_behind_the_last_event_id),
        TEST(test_events_watchers_are_bounded_and_forgotten_when_gone),
        TEST(test_notice_of_a_blind_watch_is_counted_and_not_posted),
        TEST(test_metrics_count_what_was_served),
        TEST(test_listeners_do_not_serve_each_others_routes),
        TEST(test_admin_token_is_needed_and_api_keys_do_not_help),
        TEST(test_admin_without_token_refuses_foreign_pages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
