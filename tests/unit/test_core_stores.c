/* controller/core: who is told which workers keep pages for others, and when. */
#include "tests/unit/core_fixture.h"

#define FLEET 80 /* more than a message names */

static struct gw_msg hello_of(uint32_t i, uint16_t proto, uint64_t store_bytes)
{
    char worker[16], instance[16];
    snprintf(worker, sizeof worker, "w%u", i);
    snprintf(instance, sizeof instance, "i-%u", i);
    struct gw_msg m = hello_msg(worker, instance);
    m.hello.proto = proto;
    snprintf(m.hello.data, sizeof m.hello.data, "10.0.0.%u:7000", i);
    snprintf(m.hello.device, sizeof m.hello.device, "test");
    m.hello.memory_bytes = 1 << 30;
    if (proto >= 3) snprintf(m.hello.pages, sizeof m.hello.pages, "10.0.0.%u:9000", i);
    m.hello.store_bytes = store_bytes;
    return m;
}

static uint64_t come(struct fixture *f, uint32_t i, uint16_t proto, uint64_t store_bytes)
{
    const struct gw_msg m = hello_of(i, proto, store_bytes);
    return hello(f, &m);
}

/* What this step said to link; NULL: nothing. */
static const struct gw_msg_stores *told(const struct fixture *f, uint64_t link)
{
    const struct gw_msg *m = sent(f, link, GW_MSG_STORES, 0);
    assert_null(sent(f, link, GW_MSG_STORES, 1));
    return m ? &m->stores : NULL;
}

static bool names(const struct gw_msg_stores *m, uint32_t i)
{
    char address[32], instance[16];
    snprintf(address, sizeof address, "10.0.0.%u:9000", i);
    snprintf(instance, sizeof instance, "i-%u", i);
    for (uint32_t k = 0; k < m->len; k++)
        if (strcmp(m->hosts[k].address, address) == 0) return strcmp(m->hosts[k].instance, instance) == 0;
    return false;
}

static void test_worker_that_comes_is_named_to_all(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    fixture_start(&f);
    uint64_t first = come(&f, 1, 3, 100);
    assert_int_equal(told(&f, first)->len, 1);
    uint64_t second = come(&f, 2, 3, 100);
    for (uint64_t link = first; link <= second; link++) {
        assert_int_equal(told(&f, link)->len, 2);
        assert_true(names(told(&f, link), 1) && names(told(&f, link), 2));
    }
    fixture_close(&f);
}

static void test_worker_that_keeps_nothing_is_told_and_not_named(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    fixture_start(&f);
    uint64_t keeper = come(&f, 1, 3, 100), other = come(&f, 2, 3, 0);
    assert_null(told(&f, keeper)); /* nothing has changed for it */
    assert_int_equal(told(&f, other)->len, 1);
    assert_true(names(told(&f, other), 1));
    fixture_close(&f);
}

static void test_worker_of_protocol_2_is_neither_told_nor_named(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    fixture_start(&f);
    uint64_t older = come(&f, 1, 2, 0), keeper = come(&f, 2, 3, 100);
    assert_null(told(&f, older));
    assert_int_equal(told(&f, keeper)->len, 1);
    fixture_close(&f);
}

static void test_worker_that_is_lost_is_named_no_more(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    fixture_start(&f);
    uint64_t first = come(&f, 1, 3, 100), second = come(&f, 2, 3, 100);
    link_down(&f, first);
    assert_int_equal(told(&f, second)->len, 1);
    assert_false(names(told(&f, second), 1));
    link_down(&f, second);
    assert_int_equal(told(&f, come(&f, 3, 3, 100))->len, 1);
    fixture_close(&f);
}

static void test_worker_that_will_go_is_named_no_more_until_it_will_not(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    fixture_start(&f);
    uint64_t first = come(&f, 1, 3, 100), second = come(&f, 2, 3, 100);
    struct gw_msg m = {.type = GW_MSG_NOTICE, .notice = {GW_NOTICE_PREEMPT, 30000}};
    say(&f, first, &m);
    assert_false(names(told(&f, second), 1));
    assert_false(names(told(&f, first), 1)); /* it may want pages, too */
    m.notice = (struct gw_msg_notice){GW_NOTICE_CANCEL, 0};
    say(&f, first, &m);
    assert_true(names(told(&f, second), 1));
    fixture_close(&f);
}

static void test_nothing_is_said_where_nobody_keeps_pages(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    fixture_start(&f);
    assert_null(told(&f, come(&f, 1, 3, 0)));
    tick(&f);
    assert_null(told(&f, 1));
    fixture_close(&f);
}

/* Those that STORES named last; returns how many messages of it this step has sent. */
static uint32_t note_named(const struct fixture *f, bool *named)
{
    uint32_t messages = 0;
    for (size_t i = 0; i < f->len; i++) {
        const struct gw_action *a = &f->actions[i];
        if (a->type != GW_ACT_SEND || a->link.msg->type != GW_MSG_STORES) continue;
        assert_true(a->link.msg->stores.len <= GW_WIRE_STORES_MAX);
        for (uint32_t w = 1; w <= FLEET; w++) named[w] = names(&a->link.msg->stores, w);
        messages++;
    }
    return messages;
}

static uint32_t differences(const bool *a, const bool *b)
{
    uint32_t n = 0;
    for (uint32_t w = 1; w <= FLEET; w++) n += a[w] != b[w];
    return n;
}

static void test_of_a_larger_fleet_the_same_ones_are_named_as_long_as_they_stay(void **state)
{
    (void)state;
    struct fixture f;
    bool named[FLEET + 1] = {0}, now[FLEET + 1] = {0};
    fixture_open(&f);
    fixture_start(&f);
    for (uint32_t i = 1; i <= FLEET; i++) {
        const struct gw_msg m = hello_of(i, 3, 100);
        const struct gw_event e = {.type = GW_EV_HELLO, .link = {.link = i, .msg = &m}};
        memcpy(named, now, sizeof now);
        gw_core_step(f.core, f.now_us, &e);
        f.actions = gw_core_actions(f.core, &f.len);
        assert_true(note_named(&f, now) >= 1); /* at least who has come */
        assert_true(differences(named, now) <= 2);
    }
    for (uint32_t gone = 1; gone <= 10; gone++) {
        const struct gw_event e = {.type = GW_EV_LINK_DOWN, .link = {.link = gone}};
        memcpy(named, now, sizeof now);
        gw_core_step(f.core, f.now_us, &e);
        f.actions = gw_core_actions(f.core, &f.len);
        uint32_t messages = note_named(&f, now);
        assert_int_equal(messages, named[gone] ? FLEET - gone : 0);
        assert_int_equal(differences(named, now), named[gone] ? 2 : 0);
    }
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_worker_that_comes_is_named_to_all),
        cmocka_unit_test(test_worker_that_keeps_nothing_is_told_and_not_named),
        cmocka_unit_test(test_worker_of_protocol_2_is_neither_told_nor_named),
        cmocka_unit_test(test_worker_that_is_lost_is_named_no_more),
        cmocka_unit_test(test_worker_that_will_go_is_named_no_more_until_it_will_not),
        cmocka_unit_test(test_nothing_is_said_where_nobody_keeps_pages),
        cmocka_unit_test(test_of_a_larger_fleet_the_same_ones_are_named_as_long_as_they_stay),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
