/* cloud/web: one request, one done; limits, time-outs, cancels; what of a reply is read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <event2/buffer.h>
#include <event2/http.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cloud/web.h"

#define BODY_MAX   1000
#define DEADLINE_S 20

struct fixture {
    struct event_base *loop;
    struct evhttp *server;
    uint16_t port;
    struct gw_web_client *client;
    struct gw_web web;
    int dones;
    struct gw_web_reply last; /* its texts are gone */
    char body[BODY_MAX + 1], seen_header[64];
    char *taken;
    bool take;
};

static void answer(struct evhttp_request *r, int status, const void *body, size_t len)
{
    struct evbuffer *out = evbuffer_new();
    evbuffer_add(out, body, len);
    evhttp_send_reply(r, status, "", out);
    evbuffer_free(out);
}

static void on_request(struct evhttp_request *r, void *arg)
{
    struct fixture *f = arg;
    const char *path = evhttp_request_get_uri(r);
    const char *header = evhttp_find_header(evhttp_request_get_input_headers(r), "X-Test");
    snprintf(f->seen_header, sizeof f->seen_header, "%s", header ? header : "");
    struct evkeyvalq *out = evhttp_request_get_output_headers(r);
    char *big = calloc(1, BODY_MAX + 1);
    if (strcmp(path, "/silent") == 0) { /* never answered */
    } else if (strcmp(path, "/exact") == 0) {
        answer(r, 200, big, BODY_MAX);
    } else if (strcmp(path, "/big") == 0) {
        answer(r, 200, big, BODY_MAX + 1);
    } else if (strcmp(path, "/redirect") == 0) {
        evhttp_add_header(out, "Location", "/exact");
        answer(r, 302, "moved", 5);
    } else {
        evhttp_add_header(out, "ETag", "a1b2");
        evhttp_add_header(out, "Retry-After", "7");
        evhttp_add_header(out, "Metadata-Flavor", "Google");
        evhttp_remove_header(out, "Date");
        evhttp_add_header(out, "Date", "Mon, 19 Sep 2016 18:29:47 GMT");
        answer(r, 200, evhttp_request_get_command(r) == EVHTTP_REQ_PUT ? "put" : "other",
               evhttp_request_get_command(r) == EVHTTP_REQ_PUT ? 3 : 5);
    }
    free(big);
}

static void on_done(void *arg, const struct gw_web_reply *reply)
{
    struct fixture *f = arg;
    f->dones++;
    f->last = *reply;
    assert_non_null(reply->why);
    assert_int_equal(reply->body[reply->body_len], '\0');
    snprintf(f->body, sizeof f->body, "%s", reply->body);
    if (f->take) f->taken = gw_web_take_body(reply);
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    f->loop = event_base_new();
    f->server = evhttp_new(f->loop);
    evhttp_set_gencb(f->server, on_request, f);
    struct evhttp_bound_socket *s = evhttp_bind_socket_with_handle(f->server, "127.0.0.1", 0);
    assert_non_null(s);
    struct sockaddr_in addr;
    socklen_t len = sizeof addr;
    assert_int_equal(getsockname(evhttp_bound_socket_get_fd(s), (struct sockaddr *)&addr, &len), 0);
    f->port = ntohs(addr.sin_port);
    assert_int_equal(gw_web_client_create(f->loop, &f->client, NULL), GW_OK);
    f->web = gw_web_client_table(f->client);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    gw_web_client_destroy(f->client);
    evhttp_free(f->server);
    event_base_free(f->loop);
    free(f->taken);
    free(f);
    return 0;
}

static gw_err_t start(struct fixture *f, const char *method, const char *path, struct gw_web_flight **flight)
{
    char url[128];
    snprintf(url, sizeof url, "http://127.0.0.1:%u%s", f->port, path);
    const struct gw_web_request q = {.method = method,
                                     .url = url,
                                     .headers = {"X-Test: yes"},
                                     .body = strcmp(method, "PUT") == 0 ? "" : NULL,
                                     .timeout_us = 300 * GW_US_PER_MS,
                                     .body_max = BODY_MAX,
                                     .direct = true};
    return f->web.start(f->web.arg, &q, on_done, f, flight);
}

static void until_dones(struct fixture *f, int count)
{
    int64_t end_us = gw_clock_mono_us() + DEADLINE_S * GW_US_PER_S;
    while (f->dones < count && gw_clock_mono_us() < end_us) event_base_loop(f->loop, EVLOOP_ONCE);
    assert_int_equal(f->dones, count);
}

static void get(struct fixture *f, const char *method, const char *path)
{
    struct gw_web_flight *flight;
    int before = f->dones;
    assert_int_equal(start(f, method, path, &flight), GW_OK);
    assert_int_equal(f->dones, before); /* never from inside start */
    until_dones(f, before + 1);
}

static void test_start_reply_has_status_body_and_headers(void **state)
{
    struct fixture *f = *state;
    get(f, "PUT", "/");
    assert_int_equal(f->last.err, GW_OK);
    assert_int_equal(f->last.status, 200);
    assert_string_equal(f->body, "put");
    assert_string_equal(f->seen_header, "yes");
    assert_string_equal(f->last.etag, "a1b2");
    assert_int_equal(f->last.retry_after_s, 7);
    assert_true(f->last.google);
    assert_int_equal(f->last.date_unix_ms, 1474309787000);
    get(f, "GET", "/");
    assert_string_equal(f->body, "other");
}

static void test_start_body_at_its_bound_is_whole_and_one_more_is_a_limit(void **state)
{
    struct fixture *f = *state;
    get(f, "GET", "/exact");
    assert_int_equal(f->last.err, GW_OK);
    assert_int_equal(f->last.body_len, BODY_MAX);
    get(f, "GET", "/big");
    assert_int_equal(f->last.err, GW_ERR_LIMIT);
    assert_int_equal(f->last.body_len, BODY_MAX); /* its first bytes, for the log */
}

static void test_start_redirect_is_a_status_like_any(void **state)
{
    struct fixture *f = *state;
    get(f, "GET", "/redirect");
    assert_int_equal(f->last.err, GW_OK);
    assert_int_equal(f->last.status, 302);
    assert_string_equal(f->body, "moved");
}

static void test_start_silent_server_is_an_error_after_the_time_out(void **state)
{
    struct fixture *f = *state;
    int64_t before_us = gw_clock_mono_us();
    get(f, "GET", "/silent");
    int64_t took_us = gw_clock_mono_us() - before_us;
    assert_int_equal(f->last.err, GW_ERR_IO);
    assert_false(f->last.cancelled);
    assert_true(took_us >= 250 * GW_US_PER_MS && took_us < 5 * GW_US_PER_S);
}

static void test_start_nobody_there_and_other_protocols_are_errors(void **state)
{
    static const char *const urls[] = {"http://127.0.0.1:1/", "file:///etc/passwd", "gopher://127.0.0.1/",
                                       "nonsense://"};
    struct fixture *f = *state;
    for (size_t i = 0; i < sizeof urls / sizeof urls[0]; i++) {
        struct gw_web_flight *flight;
        const struct gw_web_request q = {
            .method = "GET", .url = urls[i], .timeout_us = GW_US_PER_S, .body_max = BODY_MAX, .direct = true};
        int before = f->dones;
        assert_int_equal(f->web.start(f->web.arg, &q, on_done, f, &flight), GW_OK);
        until_dones(f, before + 1);
        assert_int_equal(f->last.err, GW_ERR_IO);
        assert_int_equal(f->last.body_len, 0);
    }
}

static void test_cancel_done_comes_once_and_says_so(void **state)
{
    struct fixture *f = *state;
    struct gw_web_flight *flight;
    assert_int_equal(start(f, "GET", "/silent", &flight), GW_OK);
    f->web.cancel(f->web.arg, flight);
    assert_int_equal(f->dones, 0);
    until_dones(f, 1);
    assert_true(f->last.cancelled && f->last.err == GW_ERR_IO);
    get(f, "GET", "/");
    assert_int_equal(f->dones, 2);
}

static void test_destroy_ends_what_is_in_flight(void **state)
{
    struct fixture *f = *state;
    struct gw_web_flight *flight;
    for (int i = 0; i < 5; i++) assert_int_equal(start(f, "GET", "/silent", &flight), GW_OK);
    event_base_loop(f->loop, EVLOOP_NONBLOCK);
    gw_web_client_destroy(f->client);
    f->client = NULL;
    assert_int_equal(f->dones, 5);
    assert_true(f->last.cancelled);
}

static void test_start_more_than_the_maximum_is_refused_without_a_done(void **state)
{
    struct fixture *f = *state;
    struct gw_web_flight *flight;
    for (int i = 0; i < GW_WEB_FLIGHTS_MAX; i++) assert_int_equal(start(f, "GET", "/", &flight), GW_OK);
    assert_int_equal(start(f, "GET", "/", &flight), GW_ERR_LIMIT);
    gw_web_client_destroy(f->client);
    f->client = NULL;
    assert_int_equal(f->dones, GW_WEB_FLIGHTS_MAX);
}

static void test_take_body_it_lives_on(void **state)
{
    struct fixture *f = *state;
    f->take = true;
    get(f, "GET", "/");
    assert_string_equal(f->taken, "other");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_start_reply_has_status_body_and_headers),
        TEST(test_start_body_at_its_bound_is_whole_and_one_more_is_a_limit),
        TEST(test_start_redirect_is_a_status_like_any),
        TEST(test_start_silent_server_is_an_error_after_the_time_out),
        TEST(test_start_nobody_there_and_other_protocols_are_errors),
        TEST(test_cancel_done_comes_once_and_says_so),
        TEST(test_destroy_ends_what_is_in_flight),
        TEST(test_start_more_than_the_maximum_is_refused_without_a_done),
        TEST(test_take_body_it_lives_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
