/* controller/core: requests of an earlier controller go on from what its journal kept. */
#include "tests/unit/core_fixture.h"

#define RECORDS 16

struct kept {
    uint32_t ids[RECORDS];
    float logprobs[RECORDS];
};

static struct gw_core_restored branch_of(struct kept *k, uint32_t count, bool done)
{
    for (uint32_t i = 0; i < count; i++) {
        k->ids[i] = i + 1;
        k->logprobs[i] = -0.5f;
    }
    return (struct gw_core_restored){.tokens = {.count = count, .ids = k->ids, .logprobs = k->logprobs},
                                     .done = done};
}

static void restore(struct fixture *f, struct gw_request *request, const struct gw_core_restored *branches,
                    const char *profile)
{
    const struct gw_event e = {.type = GW_EV_RESTORE,
                               .restore = {.request = request, .branches = branches, .profile = profile}};
    step(f, &e);
}

static void open_core(struct fixture *f)
{
    fixture_open(f);
    fixture_start(f);
}

static void test_restore_goes_on_from_its_logs(void **state)
{
    (void)state;
    struct fixture f;
    struct kept kept[2];
    struct gw_tokens log;
    open_core(&f);
    const struct gw_core_restored branches[] = {branch_of(&kept[0], 3, false), branch_of(&kept[1], 5, true)};
    restore(&f, make_request(7, 2, 4, 10), branches, "test-1");
    assert_int_equal(find(&f, GW_ACT_ACCEPTED, 0)->accepted.request, 7);
    assert_int_equal(stats(&f).queued, 1);
    uint64_t link = join(&f, "w1", "i-1");
    const struct gw_msg *m = sent(&f, link, GW_MSG_SUBMIT, 0);
    assert_non_null(m);
    assert_int_equal(m->submit.attempt, 1);
    assert_int_equal(m->submit.logs[0].len, 3);
    assert_int_equal(m->submit.logs[0].ids[2], 3);
    assert_false(m->submit.logs[0].done);
    assert_int_equal(m->submit.logs[1].len, 5);
    assert_true(m->submit.logs[1].done);
    tokens(&f, link, 7, 1, 3, 2);
    assert_int_equal(find(&f, GW_ACT_TOKENS, 0)->tokens.tokens.first, 3);
    assert_string_equal(find(&f, GW_ACT_TOKENS, 0)->tokens.profile, "test-1");
    assert_true(gw_core_log(f.core, 7, 0, &log));
    assert_int_equal(log.count, 5);
    assert_true(log.logprobs[0] < -0.4f && log.logprobs[0] > -0.6f);
    fixture_close(&f);
}

static void test_restore_waits_for_its_profile_unless_it_has_no_records(void **state)
{
    (void)state;
    struct fixture f;
    struct kept kept;
    open_core(&f);
    const struct gw_core_restored with = branch_of(&kept, 2, false), without = {0};
    restore(&f, make_request(7, 1, 4, 10), &with, "other-1");
    restore(&f, make_request(8, 1, 4, 10), &without, "");
    uint64_t link = join(&f, "w1", "i-1");
    const struct gw_msg *m = sent(&f, link, GW_MSG_SUBMIT, 0);
    assert_int_equal(m->submit.request.id, 8);
    assert_null(sent(&f, link, GW_MSG_SUBMIT, 1));
    struct gw_msg other = hello_msg("w2", "i-2");
    snprintf(other.hello.profile, sizeof other.hello.profile, "other-1");
    link = hello(&f, &other);
    assert_int_equal(sent(&f, link, GW_MSG_SUBMIT, 0)->submit.request.id, 7);
    fixture_close(&f);
}

static void test_restore_is_served_before_new_ones_and_beyond_the_queue(void **state)
{
    (void)state;
    struct fixture f;
    struct kept kept;
    fixture_open(&f);
    f.config.max_queued = 1;
    fixture_start(&f);
    submit(&f, 1, 1, 10);
    const struct gw_core_restored branch = branch_of(&kept, 2, false);
    restore(&f, make_request(7, 1, 4, 10), &branch, "test-1");
    assert_int_equal(count(&f, GW_ACT_FAILED), 0);
    uint64_t link = join(&f, "w1", "i-1");
    assert_int_equal(sent(&f, link, GW_MSG_SUBMIT, 0)->submit.request.id, 7);
    assert_int_equal(sent(&f, link, GW_MSG_SUBMIT, 1)->submit.request.id, 1);
    fixture_close(&f);
}

static bool has_failed(const struct fixture *f)
{
    return count(f, GW_ACT_FAILED) > 0;
}

static void test_restore_waits_no_longer_than_others(void **state)
{
    (void)state;
    struct fixture f;
    struct kept kept;
    fixture_open(&f);
    f.config.max_queue_wait_us = 3 * S;
    fixture_start(&f);
    const struct gw_core_restored branch = branch_of(&kept, 2, false);
    restore(&f, make_request(7, 1, 4, 10), &branch, "test-1");
    assert_true(run(&f, 10 * S, has_failed));
    assert_int_equal(find(&f, GW_ACT_FAILED, 0)->failed.code, GW_ERR_LIMIT);
    fixture_close(&f);
}

static void test_restore_can_be_cancelled_and_stopped(void **state)
{
    (void)state;
    struct fixture f;
    struct kept kept;
    open_core(&f);
    const struct gw_core_restored branch = branch_of(&kept, 4, false);
    restore(&f, make_request(7, 1, 4, 10), &branch, "test-1");
    restore(&f, make_request(8, 1, 4, 10), &branch, "test-1");
    cancel(&f, 7);
    const struct gw_event stop = {.type = GW_EV_STOP, .stop = {.request = 8, .branch = 0, .keep = 3}};
    step(&f, &stop);
    assert_int_equal(find(&f, GW_ACT_DONE, 0)->done.request, 8);
    uint64_t link = join(&f, "w1", "i-1");
    assert_null(sent(&f, link, GW_MSG_SUBMIT, 0));
    fixture_close(&f);
}

/* ---- those that go back to who ran them ---- */

/* A worker that registers again: it has cells of before, if any, and says which request it ran. */
static uint64_t comes_again(struct fixture *f, struct gw_cell_rect holds, uint64_t ran)
{
    char name[16], instance[16];
    snprintf(name, sizeof name, "m%u", (unsigned)f->links + 1);
    snprintf(instance, sizeof instance, "i-m%u", (unsigned)f->links + 1);
    struct gw_msg m = member_msg(name, instance);
    struct gw_msg resync = {.type = GW_MSG_RESYNC, .resync = {.count = 1, .requests = &ran}};
    m.hello.proto = GW_WIRE_PROTO;
    m.hello.holds = holds;
    uint64_t link = hello(f, &m);
    say(f, link, &resync);
    return link;
}

static const struct gw_cell_rect everything = {0, GROUPS, 0, SHARES};
static const uint64_t both[] = {1, 2};

/* Requests 7 and 8 of an earlier controller; worker 1 says that it ran 8, worker 2 that it ran 7; both prepare. */
static void open_two(struct fixture *f, struct kept *kept, struct gw_cell_rect second_holds)
{
    fixture_open(f);
    fixture_start_grid(f);
    const struct gw_core_restored branch = branch_of(kept, 4, false);
    restore(f, make_request(7, 1, 4, 10), &branch, "test-1");
    restore(f, make_request(8, 1, 4, 10), &branch, "test-1");
    assert_int_equal(comes_again(f, everything, 8), 1);
    assert_int_equal(comes_again(f, second_holds, 7), 2);
    plan_wide(f, both, (const uint32_t[]){1, 1, 0});
}

static void test_resync_brings_requests_back_to_who_ran_them(void **state)
{
    (void)state;
    struct fixture f;
    struct kept kept;
    open_two(&f, &kept, everything);
    ready(&f, 1);
    assert_null(sent(&f, 1, GW_MSG_SUBMIT, 0)); /* 7 is first, and worker 2 is nearly there */
    ready(&f, 2);
    assert_int_equal(sent(&f, 2, GW_MSG_SUBMIT, 0)->submit.request.id, 7);
    assert_int_equal(sent(&f, 1, GW_MSG_SUBMIT, 0)->submit.request.id, 8);
    fixture_close(&f);
}

static void test_resync_of_who_must_load_first_or_is_gone_keeps_nobody_waiting(void **state)
{
    (void)state;
    struct fixture f;
    struct kept kept;
    open_two(&f, &kept, (struct gw_cell_rect){0});
    ready(&f, 1);
    assert_int_equal(sent(&f, 1, GW_MSG_SUBMIT, 0)->submit.request.id, 7);
    assert_int_equal(sent(&f, 1, GW_MSG_SUBMIT, 1)->submit.request.id, 8);
    fixture_close(&f);
    open_two(&f, &kept, everything);
    ready(&f, 1);
    assert_null(sent(&f, 1, GW_MSG_SUBMIT, 0));
    link_down(&f, 2);
    assert_int_equal(sent(&f, 1, GW_MSG_SUBMIT, 0)->submit.request.id, 7);
    fixture_close(&f);
}

static void test_resync_of_unknown_and_running_requests_changes_nothing(void **state)
{
    (void)state;
    struct fixture f;
    struct kept kept;
    uint64_t others[] = {7, 99};
    struct gw_msg late = {.type = GW_MSG_RESYNC, .resync = {.count = 2, .requests = others}};
    open_two(&f, &kept, everything);
    ready(&f, 1);
    ready(&f, 2);
    say(&f, 1, &late);
    link_down(&f, 2); /* 7 moves like any other */
    assert_int_equal(sent(&f, 1, GW_MSG_SUBMIT, 0)->submit.request.id, 7);
    assert_false(closed(&f, 1));
    fixture_close(&f);
}

static void test_resync_of_an_older_protocol_ends_the_link(void **state)
{
    (void)state;
    struct fixture f;
    uint64_t ran = 7;
    struct gw_msg resync = {.type = GW_MSG_RESYNC, .resync = {.count = 1, .requests = &ran}};
    fixture_open(&f);
    fixture_start_grid(&f);
    uint64_t link = keeper(&f);
    say(&f, link, &resync);
    assert_true(closed(&f, link));
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_restore_goes_on_from_its_logs),
        cmocka_unit_test(test_restore_waits_for_its_profile_unless_it_has_no_records),
        cmocka_unit_test(test_restore_is_served_before_new_ones_and_beyond_the_queue),
        cmocka_unit_test(test_restore_waits_no_longer_than_others),
        cmocka_unit_test(test_restore_can_be_cancelled_and_stopped),
        cmocka_unit_test(test_resync_brings_requests_back_to_who_ran_them),
        cmocka_unit_test(test_resync_of_who_must_load_first_or_is_gone_keeps_nobody_waiting),
        cmocka_unit_test(test_resync_of_unknown_and_running_requests_changes_nothing),
        cmocka_unit_test(test_resync_of_an_older_protocol_ends_the_link),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
