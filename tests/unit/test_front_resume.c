/* Streams that clients come back to, over real sockets with a fake core and a journal that says when it is durable. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/front_fixture.h"

#define CHAT    "/v1/chat/completions"
#define HELLO   "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"
#define STREAM  "{\"stream\":true,\"stream_options\":{\"include_usage\":true}," HELLO "}"
#define OPT_IN  "Godwit-Resume: 1\r\n"
#define STORY   "the tide comes in and the tide goes out again and the birds fly on"
#define WAITERS 64

/* What a journal would keep of one entry, and who waits for it. */
struct fake_journal {
    uint64_t entry;
    struct gw_buf pieces; /* each behind its u32 length */
    int appends, ends;
    struct {
        void (*durable)(void *arg, gw_err_t err);
        void *arg;
    } waiters[WAITERS];
    int waiters_len;
    bool held;    /* nothing is durable until journal_release */
    gw_err_t err; /* of the next appends */
};

struct fixture {
    struct front_fixture front;
    struct fake_journal journal;
    struct event *durable; /* tells the waiters, from the loop */
};

static void journal_release(struct fake_journal *j, gw_err_t err)
{
    int len = j->waiters_len;
    j->waiters_len = 0;
    for (int i = 0; i < len; i++) j->waiters[i].durable(j->waiters[i].arg, err);
}

static void on_durable(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    journal_release(arg, GW_OK);
}

static gw_err_t append(void *arg, uint64_t entry, const void *piece, size_t len,
                       void (*durable)(void *arg, gw_err_t err), void *durable_arg)
{
    struct fixture *f = arg;
    struct fake_journal *j = &f->journal;
    if (j->err != GW_OK) return j->err;
    j->entry = entry;
    j->appends++;
    gw_buf_bytes(&j->pieces, piece, len);
    if (!durable) return GW_OK;
    assert_true(j->waiters_len < WAITERS);
    j->waiters[j->waiters_len].durable = durable;
    j->waiters[j->waiters_len++].arg = durable_arg;
    if (!j->held) event_active(f->durable, EV_TIMEOUT, 0);
    return GW_OK;
}

static void end(void *arg, uint64_t entry)
{
    struct fixture *f = arg;
    f->journal.ends++;
    assert_int_equal(entry, f->journal.entry);
}

static void listen_again(struct fixture *f)
{
    f->front.config.port = f->front.config.admin_port = 0;
    f->front.config.journal = (struct gw_front_journal){.append = append, .end = end, .arg = f};
    f->front.config.resume_grace_us = GW_US_PER_S;
    f->front.config.sse_ping_us = GW_US_PER_S / 5; /* its tick is what ends a grace */
    fixture_listen(&f->front);
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    fixture_prepare(&f->front);
    gw_buf_init(&f->journal.pieces, 1 << 20);
    f->durable = evtimer_new(f->front.loop, on_durable, &f->journal);
    listen_again(f);
    fixture_say(&f->front, STORY);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    journal_release(&f->journal, GW_ERR_IO);
    event_free(f->durable);
    gw_buf_fini(&f->journal.pieces);
    fixture_end(&f->front);
    free(f);
    return 0;
}

/* A front that knows nothing but the journal takes the place of this one. */
static void restart(struct fixture *f)
{
    gw_front_destroy(f->front.front);
    fake_core_destroy(f->front.core);
    f->front.core = fake_core_create(f->front.loop);
    listen_again(f);
    fixture_say(&f->front, STORY);
    assert_int_equal(
        gw_front_restore(f->front.front, f->journal.entry, f->journal.pieces.data, f->journal.pieces.len),
        GW_OK);
}

static void value_of(const char *text, const char *name, char out[128])
{
    const char *at = strstr(text, name);
    if (!at) fail_msg("no %s in: %s", name, text);
    at += strlen(name);
    snprintf(out, 128, "%.*s", (int)strcspn(at, "\r\n"), at);
}

static void last_id_of(const char *text, char out[128])
{
    const char *last = NULL;
    for (const char *at = strstr(text, "id: "); at; at = strstr(at + 1, "id: "))
        if (at[-1] == '\n') last = at;
    assert_non_null(last);
    snprintf(out, 128, "%.*s", (int)strcspn(last + 4, "\n"), last + 4);
}

/* What a client counts as come: the rest of an event that was cut off is none. The caller frees. */
static char *whole_events(const char *text)
{
    const char *end = NULL;
    for (const char *at = strstr(text, "\n\n"); at; at = strstr(at + 1, "\n\n")) end = at + 2;
    assert_non_null(end);
    return strndup(text, (size_t)(end - text));
}

static void go_on(struct http_client *c, const char *stream, const char *last_id)
{
    char text[400];
    snprintf(text, sizeof text, "GET /v1/streams/%s HTTP/1.1\r\nHost: x\r\n%s%s%s\r\n", stream,
             last_id ? "Last-Event-ID: " : "", last_id ? last_id : "", last_id ? "\r\n" : "");
    http_client_send(c, text);
}

/* Begins a stream, and leaves once the text has come; its id and the last event's. */
static void begin_and_leave(struct fixture *f, const char *body, const char *text, char stream[128],
                            char last[128], char **got)
{
    struct http_client *c = fixture_client(&f->front);
    http_client_post(c, CHAT, OPT_IN, body);
    http_client_wait_for(c, text);
    fake_core_plan(f->front.core)->held = true;
    *got = whole_events(http_client_text(c));
    value_of(*got, "Godwit-Stream: ", stream);
    last_id_of(*got, last);
    http_client_reset(c);
    http_client_destroy(c);
}

static void let_go(struct fixture *f)
{
    fake_core_plan(f->front.core)->held = false;
    fake_core_release(f->front.core);
}

static void expect_rest(struct fixture *f, const char *first, const char *stream, const char *last)
{
    struct http_client *c = fixture_client(&f->front);
    go_on(c, stream, last);
    struct http_response r = http_client_response(c);
    assert_int_equal(r.status, 200);
    char *a = fixture_join(first, "content"), *b = fixture_join(r.body, "content");
    char whole[2 * sizeof STORY];
    snprintf(whole, sizeof whole, "%s%s", a, b);
    assert_string_equal(whole, STORY);
    assert_int_equal(fixture_count(first, "assistant") + fixture_count(r.body, "assistant"), 1);
    assert_int_equal(fixture_count(r.body, "\"prompt_tokens\""), 1);
    assert_int_equal(fixture_count(r.body, "[DONE]"), 1);
    free(a);
    free(b);
    http_client_destroy(c);
}

/* ---- coming back --------------------------------------------------------------------------------------- */

static void test_resume_sends_what_is_missing_once(void **state)
{
    struct fixture *f = *state;
    char stream[128], last[128], *first;
    begin_and_leave(f, STREAM, "tide", stream, last, &first);
    let_go(f);
    expect_rest(f, first, stream, last);
    assert_int_equal(fake_core_seen(f->front.core)->cancels, 0);
    free(first);
}

static void test_resume_without_an_id_sends_all(void **state)
{
    struct fixture *f = *state;
    char stream[128], last[128], *first;
    begin_and_leave(f, STREAM, "tide", stream, last, &first);
    let_go(f);
    expect_rest(f, "", stream, NULL);
    expect_rest(f, "", stream, ""); /* and again: it is held */
    free(first);
}

static void test_resume_after_a_restart_goes_on_from_the_journal(void **state)
{
    struct fixture *f = *state;
    char stream[128], last[128], *first;
    begin_and_leave(f, STREAM, " goes", stream, last, &first);
    restart(f);
    assert_int_equal(fake_core_seen(f->front.core)->restores, 1);
    assert_int_equal(fake_core_seen(f->front.core)->submits, 0);
    expect_rest(f, first, stream, last);
    free(first);
}

/* The journal lost its tail: the client has seen more than the new controller knows. */
static void test_resume_ahead_of_the_journal_waits_for_its_place(void **state)
{
    struct fixture *f = *state;
    char stream[128], last[128], *first;
    struct gw_reader r;
    const uint8_t *piece;
    begin_and_leave(f, STREAM, " goes", stream, last, &first);
    gw_reader_init(&r, f->journal.pieces.data, f->journal.pieces.len);
    gw_read_bytes(&r, 1 << 20, &piece); /* BEGIN, and a few records */
    for (int i = 0; i < 3; i++) gw_read_bytes(&r, 1 << 20, &piece);
    assert_int_equal(r.err, GW_OK);
    assert_true(r.pos < f->journal.pieces.len);
    f->journal.pieces.len = r.pos;
    restart(f);
    expect_rest(f, first, stream, last);
    free(first);
}

static void test_restored_stream_that_had_ended_can_be_read(void **state)
{
    struct fixture *f = *state;
    char stream[128];
    struct http_client *c = fixture_client(&f->front);
    http_client_post(c, CHAT, OPT_IN, STREAM);
    struct http_response r = http_client_response(c);
    value_of(r.head, "Godwit-Stream: ", stream);
    http_client_destroy(c);
    restart(f);
    assert_int_equal(fake_core_seen(f->front.core)->restores, 0);
    expect_rest(f, "", stream, NULL);
}

static void test_stop_string_ends_at_the_same_place_after_a_restart(void **state)
{
    struct fixture *f = *state;
    char stream[128], last[128], *first;
    begin_and_leave(f, "{\"stream\":true,\"stop\":[\"out again\"]," HELLO "}", " comes", stream, last,
                    &first);
    restart(f);
    struct http_client *c = fixture_client(&f->front);
    go_on(c, stream, last);
    struct http_response r = http_client_response(c);
    char *a = fixture_join(first, "content"), *b = fixture_join(r.body, "content"), whole[200];
    snprintf(whole, sizeof whole, "%s%s", a, b);
    assert_string_equal(whole, "the tide comes in and the tide goes ");
    fixture_has(r.body, "\"finish_reason\":\"stop\"");
    free(a);
    free(b);
    free(first);
    http_client_destroy(c);
}

/* ---- durability ---------------------------------------------------------------------------------------- */

static void test_begin_is_durable_before_anything_is_submitted(void **state)
{
    struct fixture *f = *state;
    struct http_client *c = fixture_client(&f->front);
    f->journal.held = true;
    http_client_post(c, CHAT, OPT_IN, STREAM);
    http_client_wait_count(c, &f->journal.appends, 1);
    http_client_run(c, 50);
    assert_int_equal(fake_core_seen(f->front.core)->submits, 0);
    assert_string_equal(http_client_text(c), "");
    f->journal.held = false;
    journal_release(&f->journal, GW_OK);
    assert_int_equal(http_client_response(c).status, 200);
    http_client_destroy(c);
}

static void test_begin_that_is_not_durable_is_503(void **state)
{
    struct fixture *f = *state;
    for (int late = 0; late < 2; late++) {
        struct http_client *c = fixture_client(&f->front);
        f->journal.held = true;
        f->journal.err = late ? GW_OK : GW_ERR_LIMIT;
        http_client_post(c, CHAT, OPT_IN, STREAM);
        if (late) {
            http_client_wait_count(c, &f->journal.appends, 1);
            journal_release(&f->journal, GW_ERR_IO);
        }
        struct http_response r = http_client_response(c);
        assert_int_equal(r.status, 503);
        fixture_has(r.body, "not_durable");
        fixture_has(r.head, "Retry-After");
        http_client_destroy(c);
    }
    assert_int_equal(fake_core_seen(f->front.core)->submits, 0);
}

static void test_others_never_touch_the_journal(void **state)
{
    struct fixture *f = *state;
    char *answer;
    assert_int_equal(fixture_ask(&f->front, CHAT, STREAM, &answer), 200);
    fixture_has_not(answer, "id: ");
    free(answer);
    assert_int_equal(f->journal.appends + f->journal.ends, 0);
}

/* What another run would not give again must not be seen before it is kept. */
static void test_records_of_an_inexact_profile_wait_for_the_journal(void **state)
{
    struct fixture *f = *state;
    struct http_client *c = fixture_client(&f->front);
    fake_core_plan(f->front.core)->profile = "cuda-sm90-fast";
    fake_core_plan(f->front.core)->held = true;
    http_client_post(c, CHAT, OPT_IN, STREAM);
    http_client_wait_for(c, "Godwit-Stream");
    f->journal.held = true;
    let_go(f);
    http_client_wait_count(c, &f->journal.appends, 6);
    const char *seen = strstr(http_client_text(c), "data: ");
    char *text = fixture_join(seen ? seen : "", "content");
    assert_int_equal(strlen(text), 0);
    free(text);
    f->journal.held = false;
    journal_release(&f->journal, GW_OK);
    struct http_response r = http_client_response(c);
    text = fixture_join(r.body, "content");
    assert_string_equal(text, STORY);
    free(text);
    http_client_destroy(c);
}

static void test_records_of_an_inexact_profile_that_are_lost_end_the_stream(void **state)
{
    struct fixture *f = *state;
    struct http_client *c = fixture_client(&f->front);
    fake_core_plan(f->front.core)->profile = "cuda-sm90-fast";
    fake_core_plan(f->front.core)->held = true;
    http_client_post(c, CHAT, OPT_IN, STREAM);
    http_client_wait_for(c, "Godwit-Stream");
    f->journal.held = true;
    let_go(f);
    http_client_wait_count(c, &f->journal.appends, 3);
    journal_release(&f->journal, GW_ERR_IO);
    struct http_response r = http_client_response(c);
    fixture_has(r.body, "not_durable");
    fixture_has_not(r.body, "[DONE]");
    http_client_destroy(c);
}

/* ---- ends ---------------------------------------------------------------------------------------------- */

static void test_grace_over_cancels_and_ends_the_entry(void **state)
{
    struct fixture *f = *state;
    char stream[128], last[128], *first;
    begin_and_leave(f, STREAM, "tide", stream, last, &first);
    struct http_client *c = fixture_client(&f->front);
    http_client_wait_count(c, &fake_core_seen(f->front.core)->cancels, 1);
    assert_int_equal(f->journal.ends, 1);
    go_on(c, stream, last);
    assert_int_equal(http_client_response(c).status, 404);
    http_client_destroy(c);
    free(first);
}

static void test_left_before_it_was_told_the_id_is_cancelled(void **state)
{
    struct fixture *f = *state;
    struct http_client *c = fixture_client(&f->front), *other = fixture_client(&f->front);
    f->journal.held = true;
    http_client_post(c, CHAT, OPT_IN, STREAM);
    http_client_wait_count(other, &f->journal.appends, 1);
    http_client_reset(c);
    http_client_run(other, 100);
    journal_release(&f->journal, GW_OK);
    http_client_wait_count(other, &f->journal.ends, 1);
    assert_int_equal(fake_core_seen(f->front.core)->submits, 0);
    http_client_destroy(c);
    http_client_destroy(other);
}

static void test_failed_stream_shows_its_error_to_who_comes_back(void **state)
{
    struct fixture *f = *state;
    char stream[128], last[128], *first;
    begin_and_leave(f, STREAM, "tide", stream, last, &first);
    fake_core_plan(f->front.core)->fail_at = 1;
    fake_core_plan(f->front.core)->fail_code = GW_ERR_INTERNAL;
    let_go(f);
    struct http_client *c = fixture_client(&f->front);
    http_client_wait_count(c, &f->journal.ends, 1);
    go_on(c, stream, last);
    struct http_response r = http_client_response(c);
    fixture_has(r.body, "as planned");
    fixture_has_not(r.body, "[DONE]");
    http_client_destroy(c);
    free(first);
}

static void test_restore_of_another_model_or_of_nonsense_ends_the_entry(void **state)
{
    struct fixture *f = *state;
    char stream[128], last[128], *first;
    begin_and_leave(f, STREAM, "tide", stream, last, &first);
    f->front.config.fingerprint[0] ^= 1;
    restart(f);
    assert_int_equal(f->journal.ends, 1);
    assert_int_equal(fake_core_seen(f->front.core)->restores, 0);
    assert_int_equal(gw_front_restore(f->front.front, f->journal.entry, "\1\0\0\0\7", 5), GW_OK);
    assert_int_equal(f->journal.ends, 2);
    assert_int_equal(gw_front_restore(f->front.front, f->journal.entry, "\x09\0\0\0\1", 5), GW_OK);
    assert_int_equal(f->journal.ends, 3);
    free(first);
}

static void on_stopped(void *arg)
{
    *(int *)arg = 1;
}

static void test_stop_leaves_the_entry_to_the_next_controller(void **state)
{
    struct fixture *f = *state;
    struct http_client *c = fixture_client(&f->front);
    char stream[128], last[128];
    int stopped = 0;
    http_client_post(c, CHAT, OPT_IN, STREAM);
    http_client_wait_for(c, "tide");
    fake_core_plan(f->front.core)->held = true;
    value_of(http_client_text(c), "Godwit-Stream: ", stream);
    gw_front_stop(f->front.front, 0, on_stopped, &stopped);
    http_client_wait_closed(c);
    http_client_wait_count(c, &stopped, 1);
    char *first = whole_events(http_client_text(c));
    last_id_of(first, last);
    fixture_has_not(first, "[DONE]");
    fixture_has_not(first, "\"error\"");
    assert_int_equal(f->journal.ends, 0);
    http_client_destroy(c);
    restart(f);
    expect_rest(f, first, stream, last);
    free(first);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_resume_sends_what_is_missing_once),
        TEST(test_resume_without_an_id_sends_all),
        TEST(test_resume_after_a_restart_goes_on_from_the_journal),
        TEST(test_resume_ahead_of_the_journal_waits_for_its_place),
        TEST(test_restored_stream_that_had_ended_can_be_read),
        TEST(test_stop_string_ends_at_the_same_place_after_a_restart),
        TEST(test_begin_is_durable_before_anything_is_submitted),
        TEST(test_begin_that_is_not_durable_is_503),
        TEST(test_others_never_touch_the_journal),
        TEST(test_records_of_an_inexact_profile_wait_for_the_journal),
        TEST(test_records_of_an_inexact_profile_that_are_lost_end_the_stream),
        TEST(test_grace_over_cancels_and_ends_the_entry),
        TEST(test_left_before_it_was_told_the_id_is_cancelled),
        TEST(test_failed_stream_shows_its_error_to_who_comes_back),
        TEST(test_restore_of_another_model_or_of_nonsense_ends_the_entry),
        TEST(test_stop_leaves_the_entry_to_the_next_controller),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
