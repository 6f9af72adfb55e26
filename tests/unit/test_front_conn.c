/* Connections of the front over real sockets: keep-alive, pipelining, limits of time and size, slow readers. */
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

static void expect_status(struct http_client *c, int status)
{
    struct http_response r = http_client_response(c);
    if (r.status != status) fail_msg("wanted %d: %s%s", status, r.head, r.body);
}

/* ---- one connection, many requests --------------------------------------------------------------------- */

static void test_keep_alive_serves_one_request_after_another(void **state)
{
    struct front_fixture *f = *state;
    fixture_listen(f);
    struct http_client *c = fixture_client(f);
    for (int i = 0; i < 3; i++) {
        http_client_post(c, CHAT, "",
                         i == 1 ? "{\"stream\":true,\"max_tokens\":2," HELLO "}"
                                : "{\"max_tokens\":2," HELLO "}");
        expect_status(c, 200);
    }
    http_client_get(c, "/nothing/here");
    expect_status(c, 404);
    http_client_get(c, "/health");
    expect_status(c, 200);
    assert_false(http_client_closed(c));
    http_client_destroy(c);
}

static void test_pipelined_requests_are_answered_in_order(void **state)
{
    struct front_fixture *f = *state;
    fixture_listen(f);
    struct http_client *c = fixture_client(f);
    http_client_post(c, CHAT, "X-Request-Id: first\r\n", "{\"stream\":true,\"max_tokens\":5," HELLO "}");
    http_client_post(c, CHAT, "X-Request-Id: second\r\n", "{\"max_tokens\":1," HELLO "}");
    http_client_post(c, "/tokenize", "X-Request-Id: third\r\n", "{\"prompt\":\"x\"}");
    http_client_get(c, "/version");
    struct http_response r = http_client_response(c);
    fixture_has(r.head, "X-Request-Id: first\r\n");
    fixture_has(r.body, "[DONE]");
    r = http_client_response(c);
    fixture_has(r.head, "X-Request-Id: second\r\n");
    r = http_client_response(c);
    fixture_has(r.head, "X-Request-Id: third\r\n");
    fixture_has(r.body, "\"tokens\":[");
    r = http_client_response(c);
    fixture_has(r.body, "version");
    http_client_destroy(c);
}

static void test_pipelined_requests_before_a_half_close_are_all_answered(void **state)
{
    struct front_fixture *f = *state;
    fixture_listen(f);
    struct http_client *c = fixture_client(f);
    http_client_post(c, CHAT, "", "{\"max_tokens\":1," HELLO "}");
    http_client_post(c, CHAT, "", "{\"max_tokens\":1," HELLO "}");
    http_client_send(c, "GET /health HT"); /* never whole: dropped */
    http_client_shut_write(c);
    expect_status(c, 200);
    expect_status(c, 200);
    http_client_wait_closed(c);
    assert_string_equal(http_client_text(c), "");
    http_client_destroy(c);
}

static void test_connection_close_is_obeyed(void **state)
{
    struct front_fixture *f = *state;
    fixture_listen(f);
    struct http_client *c = fixture_client(f);
    http_client_send(c, "GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    struct http_response r = http_client_response(c);
    fixture_has(r.head, "Connection: close\r\n");
    http_client_wait_closed(c);
    http_client_destroy(c);
}

static void test_http_1_0_gets_unchunked_answers(void **state)
{
    struct front_fixture *f = *state;
    fixture_listen(f);
    struct http_client *c = fixture_client(f);
    http_client_send(c, "GET /health HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    struct http_response r = http_client_response(c);
    fixture_has(r.head, "Connection: keep-alive\r\n");
    const char *body = "{\"stream\":true,\"max_tokens\":3," HELLO "}";
    char request[512];
    snprintf(request, sizeof request, "POST " CHAT " HTTP/1.0\r\nContent-Length: %zu\r\n\r\n%s", strlen(body),
             body);
    http_client_send(c, request);
    r = http_client_response(c);
    assert_null(strstr(r.head, "Transfer-Encoding"));
    assert_memory_equal(r.body, "data: {", 7);
    fixture_has(r.body, "data: [DONE]\n\n");
    http_client_destroy(c);
}

static void test_head_gets_the_head_alone(void **state)
{
    struct front_fixture *f = *state;
    fixture_listen(f);
    struct http_client *c = fixture_client(f);
    http_client_send(c, "HEAD /v1/models HTTP/1.1\r\nHost: a\r\n\r\nHEAD /nothing HTTP/1.1\r\nHost: a\r\n\r\n"
                        "GET /version HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    http_client_wait_closed(c);
    const char *text = http_client_text(c);
    assert_null(strstr(text, "tattler"));
    assert_null(strstr(text, "error"));
    assert_int_equal(fixture_count(text, "HTTP/1.1 200 OK"), 2);
    assert_int_equal(fixture_count(text, "HTTP/1.1 404 Not Found"), 1);
    fixture_has(text, "{\"version\"");
    http_client_destroy(c);
}

static void test_expect_continue_is_answered_before_the_body(void **state)
{
    struct front_fixture *f = *state;
    fixture_listen(f);
    struct http_client *c = fixture_client(f);
    http_client_send(
        c, "POST /tokenize HTTP/1.1\r\nHost: a\r\nContent-Length: 14\r\nExpect: 100-continue\r\n\r\n");
    http_client_wait_for(c, "HTTP/1.1 100 Continue\r\n\r\n");
    http_client_send(c, "{\"prompt\":\"x\"}");
    expect_status(c, 200);
    http_client_destroy(c);
}

static void test_chunked_request_body_is_read(void **state)
{
    struct front_fixture *f = *state;
    fixture_listen(f);
    struct http_client *c = fixture_client(f);
    http_client_send(c, "POST /tokenize HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                        "7\r\n{\"promp\r\n7\r\nt\":\"x\"}\r\n0\r\n\r\n");
    expect_status(c, 200);
    http_client_destroy(c);
}

/* ---- what is refused ----------------------------------------------------------------------------------- */

static void test_malformed_request_is_answered_and_closed(void **state)
{
    struct front_fixture *f = *state;
    fixture_listen(f);
    struct http_client *c = fixture_client(f);
    http_client_send(
        c, "POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc"
           "GET /health HTTP/1.1\r\nHost: a\r\n\r\n");
    struct http_response r = http_client_response(c);
    assert_int_equal(r.status, 400);
    fixture_has(r.head, "Connection: close\r\n");
    fixture_has(r.body, "{\"error\":{\"message\":\"more than one Content-Length header\"");
    http_client_wait_closed(c);
    assert_string_equal(http_client_text(c), ""); /* the second request was never looked at */
    http_client_destroy(c);
}

static void test_wrong_method_is_405_with_allow(void **state)
{
    struct front_fixture *f = *state;
    fixture_listen(f);
    struct http_client *c = fixture_client(f);
    http_client_get(c, CHAT);
    struct http_response r = http_client_response(c);
    assert_int_equal(r.status, 405);
    fixture_has(r.head, "Allow: POST\r\n");
    http_client_post(c, "/v1/models", "", "{}");
    r = http_client_response(c);
    assert_int_equal(r.status, 405);
    fixture_has(r.head, "Allow: GET, HEAD\r\n");
    http_client_wait_closed(c); /* its body was not read */
    http_client_destroy(c);
}

/* The answer must reach a client that is still sending: no reset may destroy it. */
static void test_body_beyond_the_limit_is_413_and_the_client_gets_to_read_it(void **state)
{
    struct front_fixture *f = *state;
    f->config.max_body_bytes = 1000;
    fixture_listen(f);
    struct http_client *c = fixture_client(f);
    http_client_send(c, "POST /tokenize HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n");
    char *body = calloc(1, 1000000);
    assert_non_null(body);
    http_client_send_bytes(c, body, 1000000);
    free(body);
    expect_status(c, 413);
    http_client_wait_closed(c);
    assert_false(http_client_was_reset(c));
    http_client_destroy(c);
}

static void test_many_large_bodies_at_once_get_503(void **state)
{
    struct front_fixture *f = *state;
    f->config.max_bodies_bytes = 100000;
    fixture_listen(f);
    char *spaces = calloc(1, 60001);
    assert_non_null(spaces);
    memset(spaces, ' ', 60000);
    struct http_client *c[2];
    for (int i = 0; i < 2; i++) {
        c[i] = fixture_client(f);
        http_client_send(c[i], "POST /tokenize HTTP/1.1\r\nHost: a\r\nContent-Length: 60014\r\n\r\n");
        http_client_send(c[i], spaces);
        http_client_run(c[i], 50);
    }
    expect_status(c[1], 503);
    http_client_send(c[0], "{\"prompt\":\"x\"}");
    expect_status(c[0], 200);
    http_client_send(c[0], "POST /tokenize HTTP/1.1\r\nHost: a\r\nContent-Length: 60014\r\n\r\n");
    http_client_send(c[0], spaces); /* the first one's memory has come back */
    http_client_send(c[0], "{\"prompt\":\"x\"}");
    expect_status(c[0], 200);
    free(spaces);
    http_client_destroy(c[0]);
    http_client_destroy(c[1]);
}

static void test_connections_beyond_the_maximum_get_503(void **state)
{
    struct front_fixture *f = *state;
    f->config.max_connections = 2;
    fixture_listen(f);
    struct http_client *c[3];
    for (int i = 0; i < 3; i++) c[i] = fixture_client(f);
    http_client_get(c[0], "/health");
    expect_status(c[0], 200);
    http_client_get(c[1], "/health");
    expect_status(c[1], 200);
    http_client_get(c[2], "/health");
    struct http_response r = http_client_response(c[2]);
    assert_int_equal(r.status, 503);
    fixture_has(r.head, "Retry-After: ");
    http_client_wait_closed(c[2]);
    http_client_close(c[0]);
    http_client_run(c[1], 50);
    struct http_client *again = fixture_client(f);
    http_client_get(again, "/health");
    expect_status(again, 200);
    for (int i = 0; i < 3; i++) http_client_destroy(c[i]);
    http_client_destroy(again);
}

/* ---- time ---------------------------------------------------------------------------------------------- */

static void test_head_that_trickles_in_is_408(void **state)
{
    struct front_fixture *f = *state;
    f->config.head_timeout_us = 100 * MS;
    fixture_listen(f);
    struct http_client *c = fixture_client(f);
    http_client_send(c, "GET /health HTTP/1.1\r\n");
    for (int i = 0; i < 100 && !http_client_closed(c); i++) { /* progress does not help */
        http_client_send(c, "X: y\r\n");
        http_client_run(c, 10);
    }
    assert_true(http_client_closed(c));
    expect_status(c, 408);
    http_client_destroy(c);
}

static void test_connection_that_says_nothing_is_closed(void **state)
{
    struct front_fixture *f = *state;
    f->config.head_timeout_us = 50 * MS;
    fixture_listen(f);
    struct http_client *c = fixture_client(f);
    http_client_wait_closed(c);
    assert_string_equal(http_client_text(c), "");
    http_client_destroy(c);
}

static void test_body_that_does_not_come_is_408(void **state)
{
    struct front_fixture *f = *state;
    f->config.body_timeout_us = 50 * MS;
    fixture_listen(f);
    struct http_client *c = fixture_client(f);
    http_client_send(c, "POST /tokenize HTTP/1.1\r\nHost: a\r\nContent-Length: 14\r\n\r\n{\"p");
    expect_status(c, 408);
    http_client_wait_closed(c);
    http_client_destroy(c);
}

static void test_idle_connection_is_closed_after_its_time(void **state)
{
    struct front_fixture *f = *state;
    f->config.idle_timeout_us = 100 * MS;
    fixture_listen(f);
    struct http_client *c = fixture_client(f);
    http_client_get(c, "/health");
    expect_status(c, 200);
    http_client_wait_closed(c);
    http_client_destroy(c);
}

static void test_waiting_for_an_answer_is_not_idling(void **state)
{
    struct front_fixture *f = *state;
    f->config.idle_timeout_us = f->config.head_timeout_us = f->config.body_timeout_us = 50 * MS;
    fixture_listen(f);
    fake_core_plan(f->core)->held = true;
    struct http_client *c = fixture_client(f);
    http_client_post(c, CHAT, "", "{\"max_tokens\":1," HELLO "}");
    http_client_run(c, 200);
    assert_false(http_client_closed(c));
    fake_core_plan(f->core)->held = false;
    fake_core_release(f->core);
    expect_status(c, 200);
    http_client_destroy(c);
}

/* ---- slow readers -------------------------------------------------------------------------------------- */

/* Long tokens without end, so that much is sent soon: a choice with logprobs of 20 alternatives. */
#define FLOOD "{\"stream\":true,\"ignore_eos\":true,\"n\":8,\"logprobs\":true,\"top_logprobs\":20," HELLO "}"

static void test_reader_that_is_too_slow_is_dropped_and_cancelled(void **state)
{
    struct front_fixture *f = *state;
    f->config.context = 1 << 20;
    f->config.max_queued_bytes = 100000;
    fixture_listen(f);
    fake_core_plan(f->core)->batch = 64;
    struct http_client *c = fixture_client(f), *other = fixture_client(f);
    http_client_stop_reading(c);
    http_client_post(c, CHAT, "", FLOOD);
    http_client_wait_count(other, &fake_core_seen(f->core)->cancels, 1);
    assert_int_equal(fake_core_live(f->core), 0);
    http_client_get(other, "/health");
    expect_status(other, 200);
    http_client_destroy(c);
    http_client_destroy(other);
}

static void test_write_that_stalls_is_dropped_and_cancelled(void **state)
{
    struct front_fixture *f = *state;
    f->config.context = 1 << 20;
    f->config.max_queued_bytes = 1u << 30;
    f->config.stall_timeout_us = 100 * MS;
    fixture_listen(f);
    fake_core_plan(f->core)->batch = 8;
    struct http_client *c = fixture_client(f), *other = fixture_client(f);
    http_client_stop_reading(c);
    http_client_post(c, CHAT, "", FLOOD);
    http_client_wait_count(other, &fake_core_seen(f->core)->cancels, 1);
    http_client_destroy(c);
    http_client_destroy(other);
}

/* ---- keys ---------------------------------------------------------------------------------------------- */

static void expect_with_key(struct front_fixture *f, const char *header, int status)
{
    struct http_client *c = fixture_client(f);
    http_client_post(c, CHAT, header, "{\"max_tokens\":1," HELLO "}");
    expect_status(c, status);
    http_client_destroy(c);
}

static void test_api_keys_guard_all_but_health_and_ready(void **state)
{
    struct front_fixture *f = *state;
    char path[64];
    fixture_write_file(path, "# keys\nacme:sk-one\nglobex:sk-two\n");
    f->config.api_keys_file = path;
    fixture_listen(f);
    remove(path);
    expect_with_key(f, "", 401);
    expect_with_key(f, "Authorization: Bearer sk-three\r\n", 401);
    expect_with_key(f, "Authorization: Bearer acme\r\n", 401);
    expect_with_key(f, "Authorization: Basic sk-one\r\n", 401);
    expect_with_key(f, "Authorization: Bearer sk-one\r\n", 200);
    uint8_t acme[GW_REQUEST_TENANT_BYTES];
    memcpy(acme, fake_core_seen(f->core)->last_tenant, sizeof acme);
    assert_memory_equal(acme, "\x82\x2b\x33\xad", 4); /* SHA-256 of "acme" begins so */
    expect_with_key(f, "authorization: bearer sk-two\r\n", 200);
    assert_memory_not_equal(acme, fake_core_seen(f->core)->last_tenant, sizeof acme);
    struct http_client *c = fixture_client(f);
    http_client_get(c, "/health");
    expect_status(c, 200);
    http_client_get(c, "/ready");
    expect_status(c, 200);
    http_client_get(c, "/version");
    expect_status(c, 401);
    http_client_get(c, "/nothing");
    expect_status(c, 401);
    http_client_destroy(c);
}

/* Without a key nobody has a body read. */
static void test_api_key_is_asked_for_before_the_body(void **state)
{
    struct front_fixture *f = *state;
    char path[64];
    fixture_write_file(path, "acme:sk-one\n");
    f->config.api_keys_file = path;
    fixture_listen(f);
    remove(path);
    struct http_client *c = fixture_client(f);
    http_client_send(c, "POST " CHAT
                        " HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n\r\n");
    http_client_wait_for(c, "HTTP/1.1 401 ");
    http_client_wait_closed(c);
    assert_null(strstr(http_client_text(c), "100 Continue"));
    http_client_destroy(c);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_set_up, fixture_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_keep_alive_serves_one_request_after_another),
        TEST(test_pipelined_requests_are_answered_in_order),
        TEST(test_pipelined_requests_before_a_half_close_are_all_answered),
        TEST(test_connection_close_is_obeyed),
        TEST(test_http_1_0_gets_unchunked_answers),
        TEST(test_head_gets_the_head_alone),
        TEST(test_expect_continue_is_answered_before_the_body),
        TEST(test_chunked_request_body_is_read),
        TEST(test_malformed_request_is_answered_and_closed),
        TEST(test_wrong_method_is_405_with_allow),
        TEST(test_body_beyond_the_limit_is_413_and_the_client_gets_to_read_it),
        TEST(test_many_large_bodies_at_once_get_503),
        TEST(test_connections_beyond_the_maximum_get_503),
        TEST(test_head_that_trickles_in_is_408),
        TEST(test_connection_that_says_nothing_is_closed),
        TEST(test_body_that_does_not_come_is_408),
        TEST(test_idle_connection_is_closed_after_its_time),
        TEST(test_waiting_for_an_answer_is_not_idling),
        TEST(test_reader_that_is_too_slow_is_dropped_and_cancelled),
        TEST(test_write_that_stalls_is_dropped_and_cancelled),
        TEST(test_api_keys_guard_all_but_health_and_ready),
        TEST(test_api_key_is_asked_for_before_the_body),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
