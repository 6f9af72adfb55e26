/* controller/core: which worker is told in which zone others are, and what workers say of their bytes between zones. */
#include "tests/unit/core_fixture.h"

static uint64_t come(struct fixture *f, const char *zone, uint16_t proto)
{
    char name[16];
    snprintf(name, sizeof name, "m%u", (unsigned)f->links + 1);
    struct gw_msg m = member_msg(name, name);
    m.hello.proto = proto;
    snprintf(m.hello.zone, sizeof m.hello.zone, "%s", zone);
    snprintf(m.hello.data, sizeof m.hello.data, "10.0.0.%u:1", (unsigned)f->links + 1);
    snprintf(m.hello.pages, sizeof m.hello.pages, "10.0.0.%u:2", (unsigned)f->links + 1);
    return hello(f, &m);
}

static void open_core(struct fixture *f)
{
    fixture_open(f);
    fixture_start_grid(f);
}

/* "10.0.0.1:1=a 10.0.0.1:2=a": what link was told in this step. */
static const char *told(const struct fixture *f, uint64_t link)
{
    static char text[1024];
    const struct gw_msg *m = sent(f, link, GW_MSG_ZONES, 0);
    size_t len = 0;
    text[0] = 0;
    for (uint32_t i = 0; m && i < m->zones.len; i++)
        len += (size_t)snprintf(text + len, sizeof text - len, "%s%s=%s", i > 0 ? " " : "",
                                m->zones.workers[i].address, m->zones.workers[i].zone);
    return text;
}

static void test_newcomer_is_told_of_others_and_they_of_it_once(void **state)
{
    (void)state;
    struct fixture f;
    open_core(&f);
    come(&f, "a", 5);
    assert_string_equal(told(&f, 1), "");
    come(&f, "b", 5);
    assert_string_equal(told(&f, 1), "10.0.0.2:1=b 10.0.0.2:2=b");
    assert_string_equal(told(&f, 2), "10.0.0.1:1=a 10.0.0.1:2=a");
    come(&f, "a", 5);
    assert_string_equal(told(&f, 1), ""); /* of its own zone */
    assert_string_equal(told(&f, 2), "10.0.0.3:1=a 10.0.0.3:2=a");
    assert_string_equal(told(&f, 3), "10.0.0.2:1=b 10.0.0.2:2=b");
    fixture_close(&f);
}

static void test_workers_of_protocol_4_are_not_told_and_are_told_of(void **state)
{
    (void)state;
    struct fixture f;
    open_core(&f);
    come(&f, "a", 4);
    come(&f, "b", 5);
    assert_string_equal(told(&f, 1), "");
    assert_string_equal(told(&f, 2), "10.0.0.1:1=a 10.0.0.1:2=a");
    fixture_close(&f);
}

static void tell_bytes(struct fixture *f, uint64_t link, uint64_t pages_far, uint64_t steps_near)
{
    struct gw_msg m = {.type = GW_MSG_HEARTBEAT, .term = TERM};
    m.heartbeat.traffic.far[GW_TRAFFIC_PAGES] = pages_far;
    m.heartbeat.traffic.near[GW_TRAFFIC_STEPS] = steps_near;
    const struct gw_event e = {.type = GW_EV_MSG, .link = {.link = link, .msg = &m}};
    step(f, &e);
}

static void test_bytes_that_workers_tell_are_added_up_and_outlive_them(void **state)
{
    (void)state;
    struct fixture f;
    struct gw_core_stats s;
    open_core(&f);
    come(&f, "a", 5);
    come(&f, "b", 5);
    tell_bytes(&f, 1, 100, 5);
    tell_bytes(&f, 1, 600, 5);
    tell_bytes(&f, 2, 50, 7);
    gw_core_stats(f.core, &s);
    assert_int_equal(s.traffic.far[GW_TRAFFIC_PAGES], 650);
    assert_int_equal(s.traffic.near[GW_TRAFFIC_STEPS], 12);
    assert_true(s.far_bytes_s > 650 / GW_CORE_FAR_S * 0.99 && s.far_bytes_s <= 650 / GW_CORE_FAR_S);
    f.now_us += 120 * S; /* two time constants: e^-2 of it is left */
    tell_bytes(&f, 2, 50, 7);
    gw_core_stats(f.core, &s);
    assert_true(s.far_bytes_s > 1.4 && s.far_bytes_s < 1.5);
    assert_int_equal(s.traffic.far[GW_TRAFFIC_PAGES], 650);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_newcomer_is_told_of_others_and_they_of_it_once),
        cmocka_unit_test(test_workers_of_protocol_4_are_not_told_and_are_told_of),
        cmocka_unit_test(test_bytes_that_workers_tell_are_added_up_and_outlive_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
