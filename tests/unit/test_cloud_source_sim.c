/* cloud/source_sim: scenarios from a file and from a simulated service. */
#include "tests/lib/source_fixture.h"

static const char scenario[] = "[{\"instance\":\"i-1\",\"at_s\":5,\"kind\":\"preempt\",\"deadline_s\":30},"
                               "{\"instance\":\"i-2\",\"at_s\":6,\"kind\":\"preempt\",\"deadline_s\":30},"
                               "{\"instance\":\"i-1\",\"at_s\":7,\"kind\":\"preempt\",\"deadline_s\":28},"
                               "{\"instance\":\"i-1\",\"at_s\":9,\"kind\":\"preempt\",\"cancel\":true}]";

struct scenario_file {
    char path[64];
};

static struct scenario_file write_scenario(const char *text)
{
    struct scenario_file s;
    snprintf(s.path, sizeof s.path, "/tmp/godwit-scenario-%d.json", (int)getpid());
    assert_int_equal(gw_file_replace(s.path, text, strlen(text), 0600, NULL), GW_OK);
    return s;
}

static void test_file_steps_of_this_instance_come_at_their_times(void **state)
{
    struct source_fixture f;
    struct scenario_file file = write_scenario(scenario);
    (void)state;
    source_open(&f, &gw_source_sim, (struct gw_source_config){.base_url = file.path, .instance = "i-1"});
    assert_int_equal(ask(&f, 0), 5 * GW_US_PER_S);
    assert_null(f.request.url);
    f.ops->hear(f.source, 0, f.now, NULL);
    assert_int_equal(one_notice(&f, GW_CLOUD_PREEMPT, false).deadline_us, START_US + 35 * GW_US_PER_S);
    assert_int_equal(ask(&f, 0), 2 * GW_US_PER_S);
    f.ops->hear(f.source, 0, f.now, NULL); /* the same deadline again: nothing new */
    assert_int_equal(f.notices_len, 0);
    assert_int_equal(ask(&f, 0), 2 * GW_US_PER_S);
    f.ops->hear(f.source, 0, f.now, NULL);
    (void)one_notice(&f, GW_CLOUD_PREEMPT, true);
    assert_true(f.ops->next(f.source, 0, f.now, &f.request) == INT64_MAX);
    source_close(&f);
    unlink(file.path);
}

static void test_file_that_is_no_scenario_is_refused(void **state)
{
    static const char *const texts[] = {"",
                                        "{}",
                                        "[7]",
                                        "[{\"instance\":\"i-1\",\"kind\":\"explode\"}]",
                                        "[{\"instance\":\"i-1\",\"kind\":\"preempt\",\"at_s\":-1}]",
                                        "[{\"kind\":\"preempt\",\"at_s\":1}]"};
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct scenario_file file = write_scenario(texts[i]);
        void *source = NULL;
        const struct gw_source_config config = {.base_url = file.path, .instance = "i-1"};
        assert_int_not_equal(gw_source_sim.create(&config, &source), GW_OK);
        assert_null(source);
        unlink(file.path);
    }
}

static void test_http_notices_behind_the_last_sequence_are_played(void **state)
{
    struct source_fixture f;
    (void)state;
    source_open(&f, &gw_source_sim,
                (struct gw_source_config){.base_url = "http://127.0.0.1:9", .instance = "i-1"});
    ask(&f, 0);
    assert_string_equal(f.request.url, "http://127.0.0.1:9/v1/instances/i-1/notices?after=0&wait_s=8");
    hear(&f, 0,
         reply_of(200, "{\"sequence\":2,\"notices\":[{\"kind\":\"rebalance\"},"
                       "{\"kind\":\"scale-in\",\"deadline_in_s\":10}]}"));
    assert_int_equal(f.notices_len, 2);
    assert_int_equal(f.notices[0].kind, GW_CLOUD_REBALANCE);
    assert_int_equal(f.notices[1].kind, GW_CLOUD_SCALE_IN);
    assert_int_equal(f.notices[1].deadline_us, f.now.mono_us + 10 * GW_US_PER_S);
    assert_int_equal(ask(&f, 0), 0);
    assert_true(asked_for(&f, "after=2"));
    f.notices_len = 0;
    hear(&f, 0, reply_of(200, "{\"sequence\":1,\"notices\":[{\"kind\":\"preempt\"}]}")); /* it went back */
    ask(&f, 0);
    hear(&f, 0, reply_of(200, "{\"sequence\":3,\"notices\":[{\"kind\":\"preempt\"},{\"kind\":\"x\"}]}"));
    assert_int_equal(f.notices_len, 0);
    assert_int_equal(logged(&f, "not as documented"), 1);
    source_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_file_steps_of_this_instance_come_at_their_times),
        cmocka_unit_test(test_file_that_is_no_scenario_is_refused),
        cmocka_unit_test(test_http_notices_behind_the_last_sequence_are_played),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
