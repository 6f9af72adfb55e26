/* cloud/source_aws: tokens, documents, deadlines, and what is never a notice. */
#include "tests/lib/source_fixture.h"

#define TOKEN    "AQAEAKjKd-f0K3cF_x1mLw=="
#define ACTION   "spot/instance-action"
#define DOCUMENT "{\"action\":\"terminate\",\"time\":\"2026-11-20T12:01:48Z\"}" /* 108 s after the start */

static void give_token(struct source_fixture *f)
{
    ask(f, 0);
    assert_true(asked_for(f, "/latest/api/token"));
    assert_string_equal(f->request.method, "PUT");
    assert_string_equal(f->request.headers[0], "X-aws-ec2-metadata-token-ttl-seconds: 21600");
    hear(f, 0, reply_of(200, TOKEN));
}

static int set_up(void **state)
{
    static struct source_fixture f;
    source_open(&f, &gw_source_aws, (struct gw_source_config){0});
    give_token(&f);
    ask(&f, 0);
    assert_true(asked_for(&f, "http://169.254.169.254/latest/meta-data/instance-id"));
    hear(&f, 0, reply_of(200, "i-0abc"));
    *state = &f;
    return 0;
}

static int tear_down(void **state)
{
    source_close(*state);
    return 0;
}

/* Answers 404 to every question until `part` is asked for. */
static void until_asked_for(struct source_fixture *f, const char *part)
{
    for (int i = 0; i < 200; i++) {
        ask(f, 0);
        if (asked_for(f, part)) return;
        hear(f, 0, reply_of(404, ""));
    }
    fail_msg("%s is never asked for", part);
}

static void answer(struct source_fixture *f, const char *part, struct gw_web_reply reply)
{
    until_asked_for(f, part);
    hear(f, 0, reply);
}

static void test_next_cycle_asks_each_document_every_two_seconds(void **state)
{
    struct source_fixture *f = *state;
    until_asked_for(f, ACTION);
    assert_string_equal(f->request.headers[0], "X-aws-ec2-metadata-token: " TOKEN);
    assert_true(f->request.direct && f->request.timeout_us == 2 * GW_US_PER_S);
    hear(f, 0, reply_of(404, ""));
    until_asked_for(f, "autoscaling/target-lifecycle-state");
    until_asked_for(f, "events/recommendations/rebalance");
    until_asked_for(f, "events/maintenance/scheduled");
    hear(f, 0, reply_of(404, ""));
    for (int i = 0; i < 20; i++) {
        int64_t before_us = f->now.mono_us;
        answer(f, ACTION, reply_of(404, ""));
        int64_t span_us = f->now.mono_us - before_us;
        assert_in_range(span_us, 1800 * GW_US_PER_MS, 2200 * GW_US_PER_MS);
    }
}

static void test_hear_action_deadline_is_its_time(void **state)
{
    struct source_fixture *f = *state;
    answer(f, ACTION, reply_of(200, DOCUMENT));
    struct gw_cloud_notice n = one_notice(f, GW_CLOUD_PREEMPT, false);
    assert_string_equal(n.instance, "i-0abc");
    assert_string_equal(n.raw, DOCUMENT);
    assert_about(n.deadline_us, START_US + 108 * GW_US_PER_S);
    for (int i = 0; i < 5; i++) answer(f, ACTION, reply_of(200, DOCUMENT));
    assert_int_equal(f->notices_len, 0); /* said once */
}

static void test_hear_action_with_this_clock_wrong_believes_the_service(void **state)
{
    struct source_fixture *f = *state;
    until_asked_for(f, ACTION);
    struct gw_web_reply reply = reply_of(200, "{\"action\":\"stop\",\"time\":\"2026-11-20T13:00:39Z\"}");
    assert_int_equal(gw_time_parse_iso("2026-11-20T13:00:00Z", &reply.date_unix_ms), GW_OK);
    hear(f, 0, reply);
    assert_about(one_notice(f, GW_CLOUD_PREEMPT, false).deadline_us, f->now.mono_us + 39 * GW_US_PER_S);
}

static void test_hear_hibernate_deadline_is_now(void **state)
{
    struct source_fixture *f = *state;
    answer(f, ACTION, reply_of(200, "{\"action\":\"hibernate\",\"time\":\"2026-11-20T12:05:00Z\"}"));
    assert_int_equal(one_notice(f, GW_CLOUD_PREEMPT, false).deadline_us, f->now.mono_us);
    answer(f, ACTION, reply_of(200, "{\"action\":\"hibernate\",\"time\":\"2026-11-20T12:05:00Z\"}"));
    assert_int_equal(f->notices_len, 0);
}

static void test_hear_moved_deadline_is_said_again(void **state)
{
    struct source_fixture *f = *state;
    answer(f, ACTION, reply_of(200, DOCUMENT));
    (void)one_notice(f, GW_CLOUD_PREEMPT, false);
    answer(f, ACTION, reply_of(200, "{\"action\":\"terminate\",\"time\":\"2026-11-20T12:01:30Z\"}"));
    assert_about(one_notice(f, GW_CLOUD_PREEMPT, false).deadline_us, START_US + 90 * GW_US_PER_S);
}

static void test_hear_404_between_two_answers_changes_nothing(void **state)
{
    struct source_fixture *f = *state;
    answer(f, ACTION, reply_of(200, DOCUMENT));
    f->notices_len = 0;
    for (int i = 0; i < 4; i++) {
        answer(f, ACTION, reply_of(404, ""));
        answer(f, ACTION, reply_of(404, ""));
        answer(f, ACTION, reply_of(200, DOCUMENT));
    }
    assert_int_equal(f->notices_len, 0);
}

static void test_hear_three_404_in_a_row_cancel(void **state)
{
    struct source_fixture *f = *state;
    answer(f, ACTION, reply_of(200, DOCUMENT));
    f->notices_len = 0;
    for (int i = 0; i < GW_SOURCE_ABSENT_MIN; i++) answer(f, ACTION, reply_of(404, ""));
    (void)one_notice(f, GW_CLOUD_PREEMPT, true);
    answer(f, ACTION, reply_of(404, ""));
    assert_int_equal(f->notices_len, 0);
    answer(f, ACTION, reply_of(200, DOCUMENT));
    (void)one_notice(f, GW_CLOUD_PREEMPT, false);
}

static void test_hear_failures_are_no_cancel(void **state)
{
    struct source_fixture *f = *state;
    answer(f, ACTION, reply_of(200, DOCUMENT));
    f->notices_len = 0;
    for (int i = 0; i < 10; i++) {
        until_asked_for(f, ACTION);
        if (i % 3 == 0) hear(f, 0, reply_of(503, "busy"));
        if (i % 3 == 1) hear(f, 0, reply_of(200, "<html>"));
        if (i % 3 == 2) hear_nothing(f, 0);
    }
    assert_int_equal(f->notices_len, 0);
}

static void test_hear_terminated_lifecycle_is_scale_in_within_the_hook(void **state)
{
    struct source_fixture *f = *state;
    answer(f, "target-lifecycle-state", reply_of(200, "InService"));
    assert_int_equal(f->notices_len, 0);
    answer(f, "target-lifecycle-state", reply_of(200, "Terminated"));
    assert_about(one_notice(f, GW_CLOUD_SCALE_IN, false).deadline_us, f->now.mono_us + 90 * GW_US_PER_S);
    answer(f, "target-lifecycle-state", reply_of(200, "Terminated"));
    assert_int_equal(f->notices_len, 0);
}

static void test_hear_rebalance_has_no_deadline(void **state)
{
    struct source_fixture *f = *state;
    answer(f, "rebalance", reply_of(200, "{\"noticeTime\":\"2026-11-20T12:00:01Z\"}"));
    assert_int_equal(one_notice(f, GW_CLOUD_REBALANCE, false).deadline_us, 0);
}

static void test_hear_maintenance_earliest_active_event_counts(void **state)
{
    struct source_fixture *f = *state;
    answer(
        f, "maintenance",
        reply_of(
            200,
            "[{\"Code\":\"system-reboot\",\"State\":\"active\",\"NotBefore\":\"20 Nov 2026 13:00:00 GMT\"},"
            "{\"Code\":\"instance-stop\",\"State\":\"active\",\"NotBefore\":\"20 Nov 2026 12:30:00 GMT\"},"
            "{\"Code\":\"x\",\"State\":\"completed\",\"NotBefore\":\"20 Nov 2026 12:10:00 GMT\"}]"));
    assert_about(one_notice(f, GW_CLOUD_MAINTENANCE, false).deadline_us, START_US + 1800 * GW_US_PER_S);
    for (int i = 0; i < GW_SOURCE_ABSENT_MIN; i++) answer(f, "maintenance", reply_of(200, "[]"));
    (void)one_notice(f, GW_CLOUD_MAINTENANCE, true);
}

static void test_hear_undocumented_answers_are_logged_once_and_no_notice(void **state)
{
    static const char *const bodies[] = {
        "",
        "terminate",
        "{",
        "[]",
        "null",
        "{\"action\":\"terminate\"}",
        "{\"action\":7,\"time\":\"2026-11-20T12:01:48Z\"}",
        "{\"action\":\"explode\",\"time\":\"2026-11-20T12:01:48Z\"}",
        "{\"action\":\"terminate\",\"time\":\"soon\"}",
        "{\"action\":\"terminate\",\"time\":\"2026-11-20T12:01:48Z\"} trailing"};
    struct source_fixture *f = *state;
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        answer(f, ACTION, reply_of(200, bodies[i]));
        answer(f, "rebalance", reply_of(200, bodies[i]));
        answer(f, "target-lifecycle-state", reply_of(200, bodies[i]));
        if (i != 3) answer(f, "maintenance", reply_of(200, bodies[i])); /* [] says that there is none */
    }
    answer(f, ACTION, reply_of(302, "elsewhere"));
    assert_int_equal(f->notices_len, 0);
    assert_int_equal(logged(f, ACTION ": an answer that is not as documented"), 1);
    assert_int_equal(logged(f, "not as documented"), 4);
}

static void test_hear_huge_body_is_odd_even_if_it_begins_well(void **state)
{
    struct source_fixture *f = *state;
    until_asked_for(f, ACTION);
    struct gw_web_reply reply = reply_of(200, DOCUMENT);
    reply.err = GW_ERR_LIMIT;
    hear(f, 0, reply);
    assert_int_equal(f->notices_len, 0);
    assert_int_equal(logged(f, "terminate"), 1);
}

static void test_hear_401_gets_one_new_token_and_asks_again(void **state)
{
    struct source_fixture *f = *state;
    answer(f, ACTION, reply_of(401, ""));
    assert_int_equal(ask(f, 0), 0);
    assert_true(asked_for(f, "/latest/api/token"));
    hear(f, 0, reply_of(200, "TWO="));
    assert_int_equal(ask(f, 0), 0);
    assert_true(asked_for(f, ACTION));
    assert_string_equal(f->request.headers[0], "X-aws-ec2-metadata-token: TWO=");
    hear(f, 0, reply_of(200, DOCUMENT));
    (void)one_notice(f, GW_CLOUD_PREEMPT, false);
}

static void test_hear_401_storm_backs_off_to_eight_seconds(void **state)
{
    struct source_fixture *f = *state;
    int64_t begin_us = f->now.mono_us;
    int questions = 0;
    for (; f->now.mono_us < begin_us + 60 * GW_US_PER_S; questions++) {
        ask(f, 0);
        hear(f, 0, asked_for(f, "api/token") ? reply_of(200, TOKEN) : reply_of(401, ""));
    }
    assert_in_range(questions, 20, 60); /* two of each per try: 5 tries to 8 s, then one each 8 s */
    ask(f, 0);
    assert_true(f->now.mono_us - begin_us < 70 * GW_US_PER_S);
}

static void test_hear_throttling_waits_as_asked(void **state)
{
    struct source_fixture *f = *state;
    until_asked_for(f, ACTION);
    struct gw_web_reply reply = reply_of(429, "");
    reply.retry_after_s = 5;
    hear(f, 0, reply);
    int64_t wait_us = ask(f, 0);
    assert_in_range(wait_us, 4500 * GW_US_PER_MS, 5500 * GW_US_PER_MS);
    assert_true(asked_for(f, ACTION));
}

static void test_next_token_is_renewed_before_it_ends(void **state)
{
    struct source_fixture *f = *state;
    pass_us(f, (21600 - 600) * GW_US_PER_S - GW_US_PER_S);
    until_asked_for(f, ACTION);
    hear(f, 0, reply_of(404, ""));
    pass_us(f, 2 * GW_US_PER_S);
    give_token(f);
    until_asked_for(f, ACTION);
}

static void test_hear_token_that_is_none_never_becomes_a_header_nor_a_line(void **state)
{
    struct source_fixture *f = *state;
    answer(f, ACTION, reply_of(401, ""));
    for (int i = 0; i < 3; i++) {
        ask(f, 0);
        assert_true(asked_for(f, "api/token"));
        hear(f, 0, reply_of(200, "secretish\r\nX-Evil: 1"));
    }
    assert_int_equal(logged(f, "IMDSv2 token"), 1);
    assert_int_equal(logged(f, "secretish"), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_next_cycle_asks_each_document_every_two_seconds),
        TEST(test_hear_action_deadline_is_its_time),
        TEST(test_hear_action_with_this_clock_wrong_believes_the_service),
        TEST(test_hear_hibernate_deadline_is_now),
        TEST(test_hear_moved_deadline_is_said_again),
        TEST(test_hear_404_between_two_answers_changes_nothing),
        TEST(test_hear_three_404_in_a_row_cancel),
        TEST(test_hear_failures_are_no_cancel),
        TEST(test_hear_terminated_lifecycle_is_scale_in_within_the_hook),
        TEST(test_hear_rebalance_has_no_deadline),
        TEST(test_hear_maintenance_earliest_active_event_counts),
        TEST(test_hear_undocumented_answers_are_logged_once_and_no_notice),
        TEST(test_hear_huge_body_is_odd_even_if_it_begins_well),
        TEST(test_hear_401_gets_one_new_token_and_asks_again),
        TEST(test_hear_401_storm_backs_off_to_eight_seconds),
        TEST(test_hear_throttling_waits_as_asked),
        TEST(test_next_token_is_renewed_before_it_ends),
        TEST(test_hear_token_that_is_none_never_becomes_a_header_nor_a_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
