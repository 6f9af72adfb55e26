/* cloud/source_gcp: long polls, ETags, deadlines, and what is never a notice. */
#include "tests/lib/source_fixture.h"

#define PREEMPTED   0
#define MAINTENANCE 1

static struct gw_web_reply value(const char *body, const char *etag)
{
    struct gw_web_reply reply = reply_of(200, body);
    reply.google = true;
    snprintf(reply.etag, sizeof reply.etag, "%s", etag);
    return reply;
}

static int set_up(void **state)
{
    static struct source_fixture f;
    source_open(&f, &gw_source_gcp, (struct gw_source_config){0});
    assert_true(f.ops->next(f.source, MAINTENANCE, f.now, &f.request) == INT64_MAX);
    ask(&f, PREEMPTED);
    assert_string_equal(f.request.url, "http://metadata.google.internal/computeMetadata/v1/instance/id");
    assert_string_equal(f.request.headers[0], "Metadata-Flavor: Google");
    hear(&f, PREEMPTED, value("4711017235489123456", ""));
    assert_string_equal(f.ops->instance(f.source), "4711017235489123456");
    *state = &f;
    return 0;
}

static int tear_down(void **state)
{
    source_close(*state);
    return 0;
}

static void first_value(struct source_fixture *f, int lane, const char *body)
{
    ask(f, lane);
    assert_null(strchr(f->request.url, '?'));
    hear(f, lane, value(body, "a1"));
}

static void test_next_after_first_value_waits_for_change(void **state)
{
    struct source_fixture *f = *state;
    first_value(f, PREEMPTED, "FALSE\n");
    assert_int_equal(ask(f, PREEMPTED), 0);
    assert_true(asked_for(f, "instance/preempted?wait_for_change=true&timeout_sec=8&last_etag=a1"));
    assert_true(f->request.timeout_us > 8 * GW_US_PER_S);
    first_value(f, MAINTENANCE, "NONE");
    assert_int_equal(ask(f, MAINTENANCE), 0);
    assert_true(asked_for(f, "instance/maintenance-event?wait_for_change=true&timeout_sec=8&last_etag=a1"));
    assert_int_equal(f->notices_len, 0);
}

static void test_hear_change_to_true_leaves_28_of_30_seconds(void **state)
{
    struct source_fixture *f = *state;
    first_value(f, PREEMPTED, "FALSE");
    ask(f, PREEMPTED);
    pass_us(f, 7 * GW_US_PER_S);
    hear(f, PREEMPTED, value("TRUE", "b2"));
    struct gw_cloud_notice n = one_notice(f, GW_CLOUD_PREEMPT, false);
    assert_int_equal(n.deadline_us, f->now.mono_us + 28 * GW_US_PER_S);
    assert_string_equal(n.instance, "4711017235489123456");
    ask(f, PREEMPTED);
    pass_us(f, 5 * GW_US_PER_S);
    hear(f, PREEMPTED, value("TRUE", "b2"));
    assert_int_equal(f->notices_len, 0);
}

static void test_hear_true_at_the_start_means_now(void **state)
{
    struct source_fixture *f = *state;
    first_value(f, PREEMPTED, "TRUE");
    assert_int_equal(one_notice(f, GW_CLOUD_PREEMPT, false).deadline_us, f->now.mono_us);
}

static void test_hear_old_values_at_once_are_asked_each_second(void **state)
{
    struct source_fixture *f = *state;
    first_value(f, PREEMPTED, "FALSE");
    ask(f, PREEMPTED);
    hear(f, PREEMPTED, value("FALSE", "a1"));
    assert_int_equal(ask(f, PREEMPTED), GW_US_PER_S);
    hear(f, PREEMPTED, value("FALSE", ""));
    assert_int_equal(ask(f, PREEMPTED), GW_US_PER_S);
    assert_null(strchr(f->request.url, '?'));
}

static void test_hear_etag_that_is_none_is_not_put_into_a_url(void **state)
{
    struct source_fixture *f = *state;
    ask(f, PREEMPTED);
    hear(f, PREEMPTED, value("FALSE", "a&recursive=true"));
    ask(f, PREEMPTED);
    assert_null(strstr(f->request.url, "recursive"));
}

static void test_hear_false_again_three_times_cancels(void **state)
{
    struct source_fixture *f = *state;
    first_value(f, PREEMPTED, "FALSE");
    ask(f, PREEMPTED);
    hear(f, PREEMPTED, value("TRUE", "b2"));
    f->notices_len = 0;
    for (int i = 0; i < GW_SOURCE_ABSENT_MIN; i++) {
        assert_int_equal(f->notices_len, 0);
        assert_true(ask(f, PREEMPTED) <= GW_US_PER_S);
        hear(f, PREEMPTED, value("FALSE", "c3"));
    }
    (void)one_notice(f, GW_CLOUD_PREEMPT, true);
}

static void test_hear_maintenance_only_termination_is_a_notice(void **state)
{
    struct source_fixture *f = *state;
    first_value(f, MAINTENANCE, "NONE");
    ask(f, MAINTENANCE);
    hear(f, MAINTENANCE, value("MIGRATE_ON_HOST_MAINTENANCE", "b2"));
    assert_int_equal(f->notices_len, 0);
    ask(f, MAINTENANCE);
    hear(f, MAINTENANCE, value("TERMINATE_ON_HOST_MAINTENANCE", "c3"));
    assert_int_equal(one_notice(f, GW_CLOUD_MAINTENANCE, false).deadline_us,
                     f->now.mono_us + 3600 * GW_US_PER_S);
}

static void test_hear_other_answers_are_logged_once_and_no_notice(void **state)
{
    struct source_fixture *f = *state;
    static const char *const bodies[] = {"", "true", "TRUE FALSE", "<html>", "1"};
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        ask(f, PREEMPTED);
        hear(f, PREEMPTED, value(bodies[i], "x"));
    }
    ask(f, PREEMPTED);
    hear(f, PREEMPTED,
         reply_of(200, "TRUE")); /* without Metadata-Flavor: something else answers at that address */
    ask(f, PREEMPTED);
    hear(f, PREEMPTED, reply_of(404, "TRUE"));
    assert_int_equal(f->notices_len, 0);
    assert_int_equal(logged(f, "not as documented"), 1);
}

static void test_hear_503_backs_off_and_keeps_the_etag(void **state)
{
    struct source_fixture *f = *state;
    first_value(f, PREEMPTED, "FALSE");
    int64_t waited_us = 0;
    for (int i = 0; i < 6; i++) {
        ask(f, PREEMPTED);
        hear(f, PREEMPTED, reply_of(503, "Service Unavailable"));
        waited_us = ask(f, PREEMPTED);
    }
    assert_in_range(waited_us, 7 * GW_US_PER_S, 9 * GW_US_PER_S);
    assert_true(asked_for(f, "last_etag=a1"));
    hear(f, PREEMPTED, value("TRUE", "b2"));
    assert_int_equal(one_notice(f, GW_CLOUD_PREEMPT, false).deadline_us, f->now.mono_us + 28 * GW_US_PER_S);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_next_after_first_value_waits_for_change),
        TEST(test_hear_change_to_true_leaves_28_of_30_seconds),
        TEST(test_hear_true_at_the_start_means_now),
        TEST(test_hear_old_values_at_once_are_asked_each_second),
        TEST(test_hear_etag_that_is_none_is_not_put_into_a_url),
        TEST(test_hear_false_again_three_times_cancels),
        TEST(test_hear_maintenance_only_termination_is_a_notice),
        TEST(test_hear_other_answers_are_logged_once_and_no_notice),
        TEST(test_hear_503_backs_off_and_keeps_the_etag),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
