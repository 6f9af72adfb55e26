/* What happens to a request whose core fails it or whose client leaves, over real sockets with a fake core. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/front_fixture.h"

#define CHAT        "/v1/chat/completions"
#define COMPLETIONS "/v1/completions"
#define HELLO       "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"

/* ---- failures ------------------------------------------------------------------------------------------ */

static void fails_with(struct front_fixture *f, const char *body, int status, const char *part)
{
    char *answer;
    assert_int_equal(fixture_ask(f, CHAT, body, &answer), status);
    fixture_has(answer, "{\"error\":{\"message\":\"");
    fixture_has(answer, part);
    free(answer);
}

static void test_failed_queue_full_is_429(void **state)
{
    struct front_fixture *f = *state;
    fake_core_plan(f->core)->full = true;
    fails_with(f, "{" HELLO "}", 429, "rate_limit_error");
}

static void test_failed_after_acceptance_without_token_is_503_with_retry(void **state)
{
    struct front_fixture *f = *state;
    fake_core_plan(f->core)->fail_at = 0;
    fake_core_plan(f->core)->fail_code = GW_ERR_LIMIT;
    struct http_client *c = fixture_client(f);
    http_client_post(c, CHAT, "", "{\"stream\":true," HELLO "}");
    struct http_response r = http_client_response(c);
    assert_int_equal(r.status, 503);
    fixture_has(r.head, "Retry-After: ");
    fixture_has(r.body, "as planned");
    http_client_destroy(c);
}

static void test_failed_by_input_is_400_and_otherwise_500(void **state)
{
    struct front_fixture *f = *state;
    fake_core_plan(f->core)->fail_at = 2;
    fake_core_plan(f->core)->fail_code = GW_ERR_INPUT;
    fails_with(f, "{" HELLO "}", 400, "invalid_request_error");
    fake_core_plan(f->core)->fail_code = GW_ERR_INTERNAL;
    fails_with(f, "{" HELLO "}", 500, "server_error");
}

static void test_failed_in_mid_stream_is_an_error_event_without_done(void **state)
{
    struct front_fixture *f = *state;
    fake_core_plan(f->core)->fail_at = 3;
    fake_core_plan(f->core)->fail_code = GW_ERR_INTERNAL;
    struct http_client *c = fixture_client(f);
    http_client_post(c, CHAT, "", "{\"stream\":true," HELLO "}");
    struct http_response r = http_client_response(c);
    assert_int_equal(r.status, 200);
    fixture_has(r.body, "data: {\"error\":{\"message\":\"as planned\"");
    fixture_has_not(r.body, "[DONE]");
    http_client_wait_closed(c);
    http_client_destroy(c);
}

static void test_failed_part_cancels_the_other_prompts(void **state)
{
    struct front_fixture *f = *state;
    char *answer;
    fake_core_plan(f->core)->fail_at = 2;
    fake_core_plan(f->core)->fail_code = GW_ERR_INTERNAL;
    assert_int_equal(fixture_ask(f, COMPLETIONS, "{\"prompt\":[\"a\",\"b\",\"c\"]}", &answer), 500);
    free(answer);
    struct http_client *c = fixture_client(f);
    http_client_wait_count(c, &fake_core_seen(f->core)->cancels, 2);
    http_client_destroy(c);
    assert_int_equal(fake_core_live(f->core), 0);
}

/* ---- clients that leave -------------------------------------------------------------------------------- */

static void leaves(struct front_fixture *f, const char *body, void (*leave)(struct http_client *),
                   bool after_text)
{
    struct http_client *c = fixture_client(f), *other = fixture_client(f);
    int before = fake_core_seen(f->core)->cancels, submits = fake_core_seen(f->core)->submits;
    fake_core_plan(f->core)->held = !after_text;
    http_client_post(c, CHAT, "", body);
    http_client_wait_count(c, &fake_core_seen(f->core)->submits, submits + 1);
    if (after_text) http_client_wait_for(c, "\"delta\"");
    leave(c);
    http_client_wait_count(other, &fake_core_seen(f->core)->cancels, before + 1);
    assert_int_equal(fake_core_live(f->core), 0);
    http_client_destroy(c);
    http_client_destroy(other);
}

static void test_client_reset_cancels_the_request(void **state)
{
    leaves(*state, "{" HELLO "}", http_client_reset, false);
    leaves(*state, "{\"stream\":true,\"ignore_eos\":true," HELLO "}", http_client_reset, true);
}

/* A close looks like a half-close until something is sent: the early bytes of the answer find out. */
static void test_client_close_cancels_the_request(void **state)
{
    leaves(*state, "{" HELLO "}", http_client_close, false);
    leaves(*state, "{\"stream\":true," HELLO "}", http_client_close, false);
    leaves(*state, "{\"stream\":true,\"ignore_eos\":true," HELLO "}", http_client_close, true);
}

static void test_client_half_close_still_gets_the_answer(void **state)
{
    struct front_fixture *f = *state;
    static const char *const bodies[] = {"{" HELLO "}", "{\"stream\":true," HELLO "}"};
    fixture_say(f, "still here");
    for (int i = 0; i < 2; i++) {
        struct http_client *c = fixture_client(f);
        fake_core_plan(f->core)->held = true;
        http_client_post(c, CHAT, "", bodies[i]);
        http_client_shut_write(c);
        http_client_wait_count(c, &fake_core_seen(f->core)->submits, i + 1);
        http_client_run(c, 300); /* longer than the front looks for resets */
        fake_core_plan(f->core)->held = false;
        fake_core_release(f->core);
        struct http_response r = http_client_response(c);
        assert_int_equal(r.status, 200);
        assert_memory_equal(r.head, "HTTP/1.1 200 OK\r\n", 17);
        char *text = fixture_join(r.body, "content");
        assert_string_equal(text, "still here");
        free(text);
        http_client_wait_closed(c);
        http_client_destroy(c);
    }
    assert_int_equal(fake_core_seen(f->core)->cancels, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_set_up_listening, fixture_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_failed_queue_full_is_429),
        TEST(test_failed_after_acceptance_without_token_is_503_with_retry),
        TEST(test_failed_by_input_is_400_and_otherwise_500),
        TEST(test_failed_in_mid_stream_is_an_error_event_without_done),
        TEST(test_failed_part_cancels_the_other_prompts),
        TEST(test_client_reset_cancels_the_request),
        TEST(test_client_close_cancels_the_request),
        TEST(test_client_half_close_still_gets_the_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
