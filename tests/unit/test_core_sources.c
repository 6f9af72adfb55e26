/* controller/core: who is named to a rank as having weights that it lacks, and what workers say of where theirs came from. */
#include "tests/unit/core_fixture.h"

/* A worker of protocol 4 in that zone; links count from 1. */
static uint64_t come(struct fixture *f, const char *instance, const char *zone, struct gw_cell_rect holds)
{
    char name[16];
    snprintf(name, sizeof name, "m%u", (unsigned)f->links + 1);
    struct gw_msg m = member_msg(name, instance);
    m.hello.proto = 4;
    m.hello.holds = holds;
    snprintf(m.hello.zone, sizeof m.hello.zone, "%s", zone);
    snprintf(m.hello.pages, sizeof m.hello.pages, "10.0.0.%u:9000", (unsigned)f->links + 1);
    return hello(f, &m);
}

static const struct gw_cell_rect ALL = {0, GROUPS, 0, SHARES}, NONE = {0};

static void open_core(struct fixture *f)
{
    fixture_open(f);
    fixture_start_grid(f);
}

/* "1 2 4": links of the sources that link's ASSIGN names, in order. */
static const char *sources(const struct fixture *f, uint64_t link)
{
    static char text[512];
    const struct gw_msg *m = sent(f, link, GW_MSG_ASSIGN, 0);
    size_t len = 0;
    text[0] = 0;
    assert_non_null(m);
    for (uint32_t i = 0; i < m->assign.sources_len; i++) {
        unsigned from;
        assert_int_equal(sscanf(m->assign.sources[i].pages, "10.0.0.%u:9000", &from), 1);
        len += (size_t)snprintf(text + len, sizeof text - len, "%s%u", i > 0 ? " " : "", from);
    }
    return text;
}

static void test_assign_names_who_has_what_the_rank_lacks(void **state)
{
    (void)state;
    struct fixture f;
    open_core(&f);
    come(&f, "i-1", "a", (struct gw_cell_rect){0, GROUPS, 0, 4});
    come(&f, "i-2", "a", (struct gw_cell_rect){0, GROUPS, 4, 8});
    come(&f, "i-3", "a", NONE);
    plan_wide(&f, (const uint64_t[]){1, 3}, (const uint32_t[]){2, 0});
    assert_string_equal(sources(&f, 1), ""); /* it has them */
    assert_string_equal(sources(&f, 3), "2");
    struct gw_cell_rect cells = sent(&f, 3, GW_MSG_ASSIGN, 0)->assign.sources[0].cells;
    assert_true(cells.s0 == 4 && cells.s1 == 8 && cells.g1 == GROUPS);
    fixture_close(&f);
}

static void test_assign_names_the_nearest_first(void **state)
{
    (void)state;
    struct fixture f;
    open_core(&f);
    come(&f, "i-1", "b", ALL);
    come(&f, "i-2", "a", ALL);
    come(&f, "i-3", "a", ALL);
    come(&f, "i-3", "a", NONE);
    plan_wide(&f, (const uint64_t[]){4}, (const uint32_t[]){1, 0});
    assert_string_equal(sources(&f, 4), "3 2 1");
    fixture_close(&f);
}

/* Those who come at once begin with different ones. */
static void test_assign_newcomers_ask_in_different_orders(void **state)
{
    (void)state;
    struct fixture f;
    open_core(&f);
    come(&f, "i-1", "a", ALL);
    come(&f, "i-2", "a", NONE);
    come(&f, "i-3", "a", ALL);
    come(&f, "i-4", "a", NONE);
    plan_wide(&f, (const uint64_t[]){2, 4}, (const uint32_t[]){1, 1, 0});
    assert_string_equal(sources(&f, 2), "3 1");
    assert_string_equal(sources(&f, 4), "1 3");
    fixture_close(&f);
}

static void test_assign_of_many_holders_names_a_few(void **state)
{
    (void)state;
    struct fixture f;
    char instance[16];
    open_core(&f);
    for (uint32_t i = 0; i < GW_WIRE_SOURCES_MAX + 3; i++) {
        snprintf(instance, sizeof instance, "i-%u", i + 1);
        come(&f, instance, "a", ALL);
    }
    uint64_t last = come(&f, "i-last", "a", NONE);
    plan_wide(&f, &last, (const uint32_t[]){1, 0});
    assert_string_equal(sources(&f, last), "1 2 3 4 5 6 7 8");
    fixture_close(&f);
}

static void test_assign_worker_that_will_go_is_a_source_and_one_that_went_is_none(void **state)
{
    (void)state;
    struct fixture f;
    open_core(&f);
    come(&f, "i-1", "a", ALL);
    come(&f, "i-2", "a", ALL);
    come(&f, "i-3", "a", NONE);
    notice(&f, "i-1", GW_NOTICE_PREEMPT, 60000000);
    link_down(&f, 2);
    plan_wide(&f, (const uint64_t[]){3}, (const uint32_t[]){1, 0});
    assert_string_equal(sources(&f, 3), "1");
    fixture_close(&f);
}

static void test_assign_older_workers_are_neither_told_nor_named(void **state)
{
    (void)state;
    struct fixture f;
    open_core(&f);
    struct gw_msg m = member_msg("m1", "i-m1");
    m.hello.proto = 3;
    m.hello.holds = ALL;
    snprintf(m.hello.pages, sizeof m.hello.pages, "10.0.0.1:9000");
    hello(&f, &m);
    come(&f, "i-2", "a", NONE);
    come(&f, "i-3", "a", ALL);
    m = member_msg("m4", "i-m4");
    m.hello.proto = 3;
    snprintf(m.hello.pages, sizeof m.hello.pages, "10.0.0.4:9000");
    hello(&f, &m);
    plan_wide(&f, (const uint64_t[]){2, 4}, (const uint32_t[]){1, 1, 0});
    assert_string_equal(sources(&f, 2), "3");
    assert_string_equal(sources(&f, 4), "");
    fixture_close(&f);
}

static void test_assign_weights_of_another_profile_are_not_named(void **state)
{
    (void)state;
    struct fixture f;
    open_core(&f);
    struct gw_msg m = member_msg("m1", "i-m1");
    m.hello.proto = 4;
    m.hello.holds = ALL;
    snprintf(m.hello.pages, sizeof m.hello.pages, "10.0.0.1:9000");
    snprintf(m.hello.profile, sizeof m.hello.profile, "test-2");
    hello(&f, &m);
    come(&f, "i-2", "a", NONE);
    plan_wide(&f, (const uint64_t[]){2}, (const uint32_t[]){1, 0});
    assert_string_equal(sources(&f, 2), "");
    fixture_close(&f);
}

/* After START it has what it serves, and no more. */
static void test_assign_names_what_workers_serve_now(void **state)
{
    (void)state;
    struct fixture f;
    open_core(&f);
    come(&f, "i-1", "a", NONE);
    come(&f, "i-2", "a", NONE);
    come(&f, "i-3", "a", NONE);
    plan_wide(&f, (const uint64_t[]){1, 2}, (const uint32_t[]){2, 0});
    assert_string_equal(sources(&f, 2), ""); /* nobody has any yet */
    ready_all(&f, 1, 2);
    plan_wide(&f, (const uint64_t[]){1, 2, 3}, (const uint32_t[]){2, 1, 0});
    assert_string_equal(sources(&f, 3), "1 2");
    fixture_close(&f);
}

static void loaded(struct fixture *f, uint64_t link, uint64_t disk, uint64_t peer)
{
    struct gw_msg m = {.type = GW_MSG_HEARTBEAT, .term = TERM};
    m.heartbeat.weight_disk_bytes = disk;
    m.heartbeat.weight_peer_bytes = peer;
    const struct gw_event e = {.type = GW_EV_MSG, .link = {.link = link, .msg = &m}};
    step(f, &e);
}

static void test_heartbeats_of_all_sessions_add_up(void **state)
{
    (void)state;
    struct fixture f;
    open_core(&f);
    come(&f, "i-1", "a", NONE);
    come(&f, "i-2", "a", NONE);
    loaded(&f, 1, 10, 0);
    loaded(&f, 2, 5, 100);
    loaded(&f, 1, 10, 0);
    loaded(&f, 1, 12, 3);
    loaded(&f, 1, 0, 0); /* never goes back */
    link_down(&f, 1);
    come(&f, "i-1", "a", NONE);
    loaded(&f, 3, 1, 0);
    assert_int_equal(stats(&f).weight_disk_bytes, 18);
    assert_int_equal(stats(&f).weight_peer_bytes, 103);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_assign_names_who_has_what_the_rank_lacks),
        cmocka_unit_test(test_assign_names_the_nearest_first),
        cmocka_unit_test(test_assign_newcomers_ask_in_different_orders),
        cmocka_unit_test(test_assign_of_many_holders_names_a_few),
        cmocka_unit_test(test_assign_worker_that_will_go_is_a_source_and_one_that_went_is_none),
        cmocka_unit_test(test_assign_older_workers_are_neither_told_nor_named),
        cmocka_unit_test(test_assign_weights_of_another_profile_are_not_named),
        cmocka_unit_test(test_assign_names_what_workers_serve_now),
        cmocka_unit_test(test_heartbeats_of_all_sessions_add_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
