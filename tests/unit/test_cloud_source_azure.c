/* cloud/source_azure: which events are ours, deadlines, cancels, acknowledgements, and what is never a notice. */
#include "tests/lib/source_fixture.h"

#define NOT_BEFORE "Fri, 20 Nov 2026 12:00:30 GMT" /* 30 s after the start */
#define BODY_BYTES 2048

static struct gw_web_reply document(const char *events)
{
    static char body[BODY_BYTES];
    snprintf(body, sizeof body, "{\"DocumentIncarnation\":2,\"Events\":[%s]}", events);
    return reply_of(200, body);
}

static const char *event(const char *id, const char *type, const char *status, const char *resources,
                         const char *not_before)
{
    static char text[BODY_BYTES / 2];
    snprintf(
        text, sizeof text,
        "{\"EventId\":\"%s\",\"EventStatus\":\"%s\",\"EventType\":\"%s\",\"ResourceType\":\"VirtualMachine\","
        "\"Resources\":[%s],\"NotBefore\":\"%s\",\"Description\":\"\",\"DurationInSeconds\":-1}",
        id, status, type, resources, not_before);
    return text;
}

static int set_up(void **state)
{
    static struct source_fixture f;
    source_open(&f, &gw_source_azure, (struct gw_source_config){0});
    ask(&f, 0);
    assert_true(asked_for(&f, "http://169.254.169.254/metadata/instance/compute?api-version="));
    assert_string_equal(f.request.headers[0], "Metadata: true");
    hear(&f, 0, reply_of(200, "{\"vmId\":\"02aab8a4-74ef\",\"name\":\"gpu_7\"}"));
    assert_string_equal(f.ops->instance(f.source), "02aab8a4-74ef");
    *state = &f;
    return 0;
}

static int tear_down(void **state)
{
    source_close(*state);
    return 0;
}

static void answer(struct source_fixture *f, struct gw_web_reply reply)
{
    ask(f, 0);
    assert_string_equal(f->request.method, "GET");
    assert_true(asked_for(f, "/metadata/scheduledevents?api-version=2020-07-01"));
    hear(f, 0, reply);
}

static void test_next_first_question_may_take_two_minutes_later_ones_not(void **state)
{
    struct source_fixture *f = *state;
    assert_int_equal(ask(f, 0), 0);
    assert_true(f->request.timeout_us > 120 * GW_US_PER_S);
    hear(f, 0, document(""));
    for (int i = 0; i < 20; i++) {
        int64_t wait_us = ask(f, 0);
        assert_in_range(wait_us, 900 * GW_US_PER_MS, 1100 * GW_US_PER_MS);
        assert_true(f->request.timeout_us < 5 * GW_US_PER_S);
        hear(f, 0, document(""));
    }
}

static void test_hear_preempt_deadline_is_not_before(void **state)
{
    struct source_fixture *f = *state;
    answer(f, document(event("A-1", "Preempt", "Scheduled", "\"other_3\",\"GPU_7\"", NOT_BEFORE)));
    struct gw_cloud_notice n = one_notice(f, GW_CLOUD_PREEMPT, false);
    assert_about(n.deadline_us, START_US + 30 * GW_US_PER_S);
    assert_string_equal(n.instance, "02aab8a4-74ef");
    answer(f, document(event("A-1", "Preempt", "Scheduled", "\"gpu_7\"", NOT_BEFORE)));
    answer(f, document(event("A-1", "Preempt", "Started", "\"gpu_7\"", "")));
    answer(f, document(""));
    answer(f, document(""));
    answer(f, document(""));
    answer(f, document(""));
    assert_int_equal(f->notices_len,
                     0); /* what has begun does not count as cancelled when it leaves the list */
}

static void test_hear_started_at_first_sight_means_now(void **state)
{
    struct source_fixture *f = *state;
    answer(f, document(event("A-1", "Preempt", "Started", "\"gpu_7\"", "")));
    assert_int_equal(one_notice(f, GW_CLOUD_PREEMPT, false).deadline_us, f->now.mono_us);
}

static void test_hear_scheduled_event_gone_from_three_lists_is_cancelled(void **state)
{
    struct source_fixture *f = *state;
    answer(f, document(event("A-1", "Reboot", "Scheduled", "\"gpu_7\"", NOT_BEFORE)));
    (void)one_notice(f, GW_CLOUD_MAINTENANCE, false);
    answer(f, document(""));
    answer(f, document(""));
    answer(f, document(event("A-1", "Reboot", "Scheduled", "\"gpu_7\"", NOT_BEFORE)));
    answer(f, document(""));
    answer(f, document(""));
    assert_int_equal(f->notices_len, 0);
    answer(f, document(""));
    (void)one_notice(f, GW_CLOUD_MAINTENANCE, true);
}

static void test_hear_events_of_others_and_freezes_are_no_notice(void **state)
{
    struct source_fixture *f = *state;
    answer(f, document(event("A-1", "Preempt", "Scheduled", "\"gpu_70\",\"gpu\"", NOT_BEFORE)));
    answer(f, document(event("A-2", "Preempt", "Scheduled", "", NOT_BEFORE)));
    answer(f, document(event("A-3", "Freeze", "Scheduled", "\"gpu_7\"", NOT_BEFORE)));
    assert_int_equal(f->notices_len, 0);
    assert_int_equal(logged(f, "not as documented"), 0);
}

static void test_hear_odd_event_hides_no_other(void **state)
{
    struct source_fixture *f = *state;
    char events[BODY_BYTES - 100];
    snprintf(events, sizeof events, "%s,", event("A-1", "Teleport", "Scheduled", "\"gpu_7\"", NOT_BEFORE));
    size_t len = strlen(events);
    snprintf(events + len, sizeof events - len, "%s",
             event("A-2", "Terminate", "Scheduled", "\"gpu_7\"", NOT_BEFORE));
    answer(f, document(events));
    (void)one_notice(f, GW_CLOUD_SCALE_IN, false);
    for (int i = 0; i < 5; i++)
        answer(f, document(event("A-1", "Teleport", "Scheduled", "\"gpu_7\"", NOT_BEFORE)));
    assert_int_equal(f->notices_len, 0); /* it may be what could not be read: not cancelled */
    assert_int_equal(logged(f, "not as documented"), 1);
}

static void test_hear_undocumented_answers_are_logged_once_and_no_notice(void **state)
{
    struct source_fixture *f = *state;
    static const char *const bodies[] = {"",      "null", "[]", "{}", "{\"Events\":{}}", "{\"Events\":[7]}",
                                         "<html>"};
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) answer(f, reply_of(200, bodies[i]));
    answer(f, document(event("A-1", "Preempt", "Perhaps", "\"gpu_7\"", NOT_BEFORE)));
    answer(f, document(event("A-1", "Preempt", "Scheduled", "\"gpu_7\"", "tomorrow")));
    answer(f, document(event("A-1", "Preempt", "Scheduled", "\"gpu_7\"", "")));
    answer(f, document(event("A-1", "Preempt", "Scheduled", "7", NOT_BEFORE)));
    answer(f, document(event("A\\\"1", "Preempt", "Scheduled", "\"gpu_7\"", NOT_BEFORE)));
    answer(f, reply_of(400, "Bad Request"));
    assert_int_equal(f->notices_len, 0);
    assert_int_equal(logged(f, "not as documented"), 1);
}

static void test_hear_more_events_than_are_tracked_survives(void **state)
{
    struct source_fixture *f = *state;
    for (int i = 0; i < 20; i++) {
        char id[16];
        snprintf(id, sizeof id, "A-%d", i);
        answer(f, document(event(id, "Preempt", "Scheduled", "\"gpu_7\"", NOT_BEFORE)));
    }
    (void)one_notice(f, GW_CLOUD_PREEMPT, false); /* one deadline for all of a kind */
    for (int i = 0; i < GW_SOURCE_ABSENT_MIN; i++) answer(f, document(""));
    (void)one_notice(f, GW_CLOUD_PREEMPT, true);
}

static void test_hear_earliest_of_two_events_counts_and_its_end_leaves_the_other(void **state)
{
    struct source_fixture *f = *state;
    char events[BODY_BYTES - 100];
    snprintf(events, sizeof events, "%s,",
             event("A-1", "Preempt", "Scheduled", "\"gpu_7\"", "Fri, 20 Nov 2026 12:10:00 GMT"));
    size_t len = strlen(events);
    snprintf(events + len, sizeof events - len, "%s",
             event("A-2", "Preempt", "Scheduled", "\"gpu_7\"", NOT_BEFORE));
    answer(f, document(events));
    assert_about(one_notice(f, GW_CLOUD_PREEMPT, false).deadline_us, START_US + 30 * GW_US_PER_S);
    for (int i = 0; i < GW_SOURCE_ABSENT_MIN; i++)
        answer(f,
               document(event("A-1", "Preempt", "Scheduled", "\"gpu_7\"", "Fri, 20 Nov 2026 12:10:00 GMT")));
    assert_about(one_notice(f, GW_CLOUD_PREEMPT, false).deadline_us, START_US + 600 * GW_US_PER_S);
}

static void test_drained_acknowledges_what_names_this_instance_alone(void **state)
{
    struct source_fixture *f = *state;
    answer(f, document(event("A-1", "Preempt", "Scheduled", "\"gpu_7\"", NOT_BEFORE)));
    answer(f, document(event("A-1", "Preempt", "Scheduled", "\"gpu_7\"",
                             NOT_BEFORE))); /* not before it is drained */
    f->ops->drained(f->source);
    assert_int_equal(ask(f, 0), 0);
    assert_string_equal(f->request.method, "POST");
    assert_string_equal(f->request.body, "{\"StartRequests\":[{\"EventId\":\"A-1\"}]}");
    hear(f, 0, reply_of(200, ""));
    answer(f, document(event("A-1", "Preempt", "Started", "\"gpu_7\"", ""))); /* asked once */
}

static void test_drained_never_acknowledges_for_others(void **state)
{
    struct source_fixture *f = *state;
    answer(f, document(event("A-1", "Preempt", "Scheduled", "\"gpu_7\",\"gpu_8\"", NOT_BEFORE)));
    f->ops->drained(f->source);
    answer(f, document(event("A-1", "Preempt", "Scheduled", "\"gpu_7\",\"gpu_8\"", NOT_BEFORE)));
    answer(f, document(event("A-2", "Reboot", "Scheduled", "\"gpu_7\"", NOT_BEFORE)));
    answer(f, document(""));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_next_first_question_may_take_two_minutes_later_ones_not),
        TEST(test_hear_preempt_deadline_is_not_before),
        TEST(test_hear_started_at_first_sight_means_now),
        TEST(test_hear_scheduled_event_gone_from_three_lists_is_cancelled),
        TEST(test_hear_events_of_others_and_freezes_are_no_notice),
        TEST(test_hear_odd_event_hides_no_other),
        TEST(test_hear_undocumented_answers_are_logged_once_and_no_notice),
        TEST(test_hear_more_events_than_are_tracked_survives),
        TEST(test_hear_earliest_of_two_events_counts_and_its_end_leaves_the_other),
        TEST(test_drained_acknowledges_what_names_this_instance_alone),
        TEST(test_drained_never_acknowledges_for_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
