/* controller/layout: a storm of notices. 64 of 128 instances are told within a second that they will go: at most three epochs,
 * and no plan uses an instance that was known to be doomed when it was made. */
#define LINKS_MAX 160
#include "tests/unit/core_fixture.h"

#include <event2/event.h>

#include "base/clock.h"
#include "controller/layout.h"
#include "tests/lib/plan_fixture.h"

#define INSTANCES  128
#define DOOMED     64
#define STORM_US   (1 * S)
#define EPOCHS_MAX 3
#define WAIT_S     30
#define ROUND_US   5000

struct storm {
    struct fixture f;
    struct event_base *loop;
    struct gw_layouts *layouts;
    uint64_t known[LINKS_MAX +
                   1]; /* fleet's number from which on the link's instance is known to be doomed; 0: never */
    int plans;
};

static int64_t core_now(void *arg)
{
    return ((struct storm *)arg)->f.now_us;
}

static void tell(struct storm *s)
{
    for (size_t i = 0; i < s->f.len; i++) gw_layouts_on_action(s->layouts, &s->f.actions[i]);
}

static void post(void *arg, const struct gw_event *event)
{
    struct storm *s = arg;
    const struct gw_core_plan *plan = event->plan;
    s->plans++;
    for (uint32_t i = 0; i < plan->ranks_len; i++) {
        uint64_t link = plan->ranks[i].link;
        if (s->known[link] && s->known[link] <= plan->fleet)
            fail_msg("plan %d, of fleet %llu, uses link %llu, doomed since fleet %llu", s->plans,
                     (unsigned long long)plan->fleet, (unsigned long long)link,
                     (unsigned long long)s->known[link]);
    }
    step(&s->f, event);
    tell(s);
}

static void taken(void *arg, uint64_t ticket, uint64_t epoch)
{
    (void)ticket, (void)epoch;
    event_base_loopbreak(((struct storm *)arg)->loop);
}

static void on_late(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what, (void)arg;
    fail_msg("no plan came");
}

static void wait_until_planned(struct storm *s)
{
    struct gw_layout_view v;
    struct event *late = evtimer_new(s->loop, on_late, NULL);
    event_add(late, &(struct timeval){.tv_sec = WAIT_S});
    for (gw_layouts_view(s->layouts, &v); v.planning; gw_layouts_view(s->layouts, &v))
        event_base_dispatch(s->loop);
    event_free(late);
}

static void open_storm(struct storm *s, const char *layout)
{
    memset(s, 0, sizeof *s);
    fixture_open(&s->f);
    fixture_start_grid(&s->f);
    s->loop = event_base_new();
    assert_non_null(s->loop);
    const struct gw_layouts_config config = {.layout = layout,
                                             .model =
                                                 plan_model(GROUPS * 2, 2, 512, 8, 8, SHARES, 2048, 32000),
                                             .context = 4096,
                                             .core = s->f.core,
                                             .clock = {core_now, s},
                                             .post = post,
                                             .taken = taken,
                                             .arg = s};
    struct gw_err_ctx ctx = {0};
    if (gw_layouts_create(s->loop, &config, &s->layouts, &ctx) != GW_OK) fail_msg("%s", ctx.text);
    for (int i = 0; i < INSTANCES; i++) {
        (void)member(&s->f);
        tell(s);
    }
    wait_until_planned(s);
    assert_int_equal(gw_core_epoch(s->f.core), 1);
}

/* The notices come over a second of the core's clock; plans are made meanwhile. Returns how long that took here. */
static int64_t blow(struct storm *s)
{
    int64_t begun_us = gw_clock_mono_us();
    for (uint64_t link = 1; link <= DOOMED; link++) {
        char name[16];
        snprintf(name, sizeof name, "i-m%u", (unsigned)link);
        s->f.now_us += STORM_US / DOOMED;
        notice(&s->f, name, GW_NOTICE_PREEMPT, 120 * S);
        s->known[link] = gw_core_fleet(s->f.core);
        tell(s);
        event_base_loopexit(s->loop, &(struct timeval){.tv_usec = ROUND_US}); /* plans are made meanwhile */
        event_base_dispatch(s->loop);
    }
    return gw_clock_mono_us() - begun_us;
}

static void weather(const char *layout)
{
    static struct storm s;
    open_storm(&s, layout);
    int64_t took_us = blow(&s);
    wait_until_planned(&s);
    if (took_us < GW_LAYOUTS_STORM_US) /* else timers of this machine ran ahead of the core's clock */
        assert_in_range(gw_core_epoch(s.f.core) - 1, 1, EPOCHS_MAX);
    for (uint64_t link = 1; link <= DOOMED; link++) {
        char name[16];
        snprintf(name, sizeof name, "m%u", (unsigned)link);
        assert_string_equal(state_of(&s.f, name), "doomed");
        assert_string_equal(gw_layouts_why(s.layouts, name), "its instance is about to go");
    }
    print_message("# layout %s: %d epochs for %d notices\n", layout, s.plans - 1, DOOMED);
    gw_layouts_destroy(s.layouts);
    event_base_free(s.loop);
    fixture_close(&s.f);
}

static void test_storm_of_replicas_is_three_epochs_without_the_doomed(void **state)
{
    (void)state;
    weather("replicas");
}

static void test_storm_of_a_shape_is_three_epochs_without_the_doomed(void **state)
{
    (void)state;
    weather("16xtp4");
}

static void test_storm_of_planned_layouts_is_three_epochs_without_the_doomed(void **state)
{
    (void)state;
    weather("auto");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_storm_of_replicas_is_three_epochs_without_the_doomed),
        cmocka_unit_test(test_storm_of_a_shape_is_three_epochs_without_the_doomed),
        cmocka_unit_test(test_storm_of_planned_layouts_is_three_epochs_without_the_doomed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
