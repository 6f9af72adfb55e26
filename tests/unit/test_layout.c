/* controller/layout: the service between a real core, an event loop and its planning thread. */
#include "tests/unit/core_fixture.h"

#include <event2/event.h>

#include "controller/layout.h"
#include "tests/lib/plan_fixture.h"

#define WAIT_S 10 /* a plan that is not there by then will not come */

struct service {
    struct fixture f;
    struct event_base *loop;
    struct gw_layouts *layouts;
    int plans; /* posted */
    struct gw_core_plan last;
    struct gw_core_plan_rank ranks[LINKS_MAX];
    uint64_t ticket, epoch; /* of the last `taken` */
    int64_t posted_us;
};

static int64_t core_now(void *arg)
{
    return ((struct service *)arg)->f.now_us;
}

/* What the core did goes to the service, as the hub does it. */
static void tell(struct service *s)
{
    for (size_t i = 0; i < s->f.len; i++) gw_layouts_on_action(s->layouts, &s->f.actions[i]);
}

static void post(void *arg, const struct gw_event *event)
{
    struct service *s = arg;
    assert_int_equal(event->type, GW_EV_PLAN);
    s->plans++;
    s->last = *event->plan;
    assert_true(s->last.ranks_len <= LINKS_MAX);
    memcpy(s->ranks, event->plan->ranks, s->last.ranks_len * sizeof *s->ranks);
    s->posted_us = gw_clock_mono_us();
    step(&s->f, event);
    tell(s);
}

static void taken(void *arg, uint64_t ticket, uint64_t epoch)
{
    struct service *s = arg;
    s->ticket = ticket;
    s->epoch = epoch;
    event_base_loopbreak(s->loop);
}

static void on_late(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what, (void)arg;
    fail_msg("no plan came");
}

/* A model of 4 x 8 cells, of about 96 MB; workers have 1 GiB. */
static struct gw_plan_model model_of_tests(void)
{
    return plan_model(GROUPS * 2, 2, 512, 8, 8, SHARES, 2048, 32000);
}

static void open_service(struct service *s, const char *layout)
{
    memset(s, 0, sizeof *s);
    fixture_open(&s->f);
    fixture_start_grid(&s->f);
    s->loop = event_base_new();
    assert_non_null(s->loop);
    const struct gw_layouts_config config = {.layout = layout,
                                             .model = model_of_tests(),
                                             .context = 4096,
                                             .check_us = 20 * MS,
                                             .sample_us = 5 * MS,
                                             .core = s->f.core,
                                             .clock = {core_now, s},
                                             .post = post,
                                             .taken = taken,
                                             .arg = s};
    struct gw_err_ctx ctx = {0};
    if (gw_layouts_create(s->loop, &config, &s->layouts, &ctx) != GW_OK) fail_msg("%s", ctx.text);
}

static void close_service(struct service *s)
{
    gw_layouts_destroy(s->layouts);
    event_base_free(s->loop);
    fixture_close(&s->f);
}

/* Until one more plan was posted. */
static void wait_for_plan(struct service *s)
{
    int before = s->plans;
    struct event *late = evtimer_new(s->loop, on_late, NULL);
    event_add(late, &(struct timeval){.tv_sec = WAIT_S});
    while (s->plans == before) event_base_dispatch(s->loop);
    event_free(late);
}

/* Everything that is due without waiting is done, and a little more. */
static void spin(struct service *s, int ms)
{
    event_base_loopexit(s->loop, &(struct timeval){.tv_usec = ms * 1000});
    event_base_dispatch(s->loop);
}

static uint64_t join_member(struct service *s)
{
    uint64_t link = member(&s->f);
    tell(s);
    return link;
}

static void join_members(struct service *s, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) join_member(s);
}

static struct gw_layout_view view(struct service *s)
{
    struct gw_layout_view v;
    gw_layouts_view(s->layouts, &v);
    return v;
}

static void says(struct service *s, const char *words)
{
    struct gw_layout_view v = view(s);
    if (!strstr(v.reason, words)) fail_msg("'%s' does not say '%s'", v.reason, words);
}

/* ---- tests ---- */

static void test_create_bad_layout_is_refused(void **state)
{
    (void)state;
    struct event_base *loop = event_base_new();
    struct gw_layouts *layouts = NULL;
    struct gw_err_ctx ctx = {0};
    const struct gw_layouts_config config = {
        .layout = "tp9", .model = model_of_tests(), .context = 4096, .clock = gw_clock_mono()};
    assert_int_equal(gw_layouts_create(loop, &config, &layouts, &ctx), GW_ERR_INPUT);
    assert_null(layouts);
    event_base_free(loop);
}

static void test_joining_together_is_one_plan(void **state)
{
    (void)state;
    struct service s;
    open_service(&s, "tp4");
    join_members(&s, 4);
    assert_true(view(&s).planning);
    wait_for_plan(&s);
    assert_int_equal(s.plans, 1);
    assert_int_equal(s.last.fleet, gw_core_fleet(s.f.core));
    assert_int_equal(s.last.ranks_len, 4);
    assert_int_equal(gw_core_epoch(s.f.core), 1);
    assert_int_equal(s.epoch, 1);
    struct gw_core_pipeline_view p;
    assert_true(gw_core_pipeline(s.f.core, 0, &p));
    assert_string_equal(p.state, "forming");
    assert_int_equal(p.ranks_len, 4);
    close_service(&s);
}

static void test_too_few_workers_wait_then_are_served(void **state)
{
    (void)state;
    struct service s;
    open_service(&s, "tp4");
    join_members(&s, 3);
    wait_for_plan(&s);
    assert_int_equal(s.last.ranks_len, 0);
    says(&s, "layout tp4 needs 4 workers, 3 are there");
    assert_string_equal(gw_layouts_why(s.layouts, "m1"), "the layout has no place for it");
    assert_string_equal(gw_layouts_why(s.layouts, "m4"), "it came after the last plan");
    join_member(&s);
    wait_for_plan(&s);
    assert_int_equal(s.last.ranks_len, 4);
    close_service(&s);
}

static void test_loss_does_not_wait(void **state)
{
    (void)state;
    struct service s;
    open_service(&s, "replicas");
    join_members(&s, 2);
    wait_for_plan(&s);
    assert_int_equal(s.last.ranks_len, 2);
    int64_t lost_us = gw_clock_mono_us();
    link_down(&s.f, 1);
    tell(&s);
    wait_for_plan(&s);
    assert_int_equal(s.last.ranks_len, 1);
    assert_int_equal(s.ranks[0].link, 2);
    /* planned without GW_LAYOUTS_QUIET_US; the rest is left to sanitizers and a busy machine */
    assert_true(s.posted_us - lost_us < GW_LAYOUTS_DELAY_US);
    close_service(&s);
}

static void test_doomed_worker_is_planned_away(void **state)
{
    (void)state;
    struct service s;
    open_service(&s, "replicas");
    join_members(&s, 3);
    wait_for_plan(&s);
    notice(&s.f, "i-m2", GW_NOTICE_PREEMPT, 20 * S);
    tell(&s);
    wait_for_plan(&s);
    assert_int_equal(s.last.ranks_len, 2);
    for (uint32_t i = 0; i < 2; i++) assert_int_not_equal(s.ranks[i].link, 2);
    assert_string_equal(gw_layouts_why(s.layouts, "m2"), "its instance is about to go");
    close_service(&s);
}

static void test_force_is_taken_at_once_with_its_ticket(void **state)
{
    (void)state;
    struct service s;
    uint64_t ticket = 0;
    struct gw_err_ctx ctx = {0};
    open_service(&s, "replicas");
    join_members(&s, 4);
    wait_for_plan(&s);
    assert_int_equal(s.ticket, 0);
    assert_int_equal(gw_layouts_force(s.layouts, "2xtp2", &ticket, &ctx), GW_OK);
    wait_for_plan(&s);
    assert_int_equal(s.last.ranks_len, 4);
    assert_int_equal(s.ranks[2].pipeline, 1);
    assert_int_equal(s.ticket, ticket);
    assert_int_equal(s.epoch, 2);
    assert_string_equal(view(&s).layout, "2xtp2");
    close_service(&s);
}

static void test_force_of_nonsense_changes_nothing(void **state)
{
    (void)state;
    struct service s;
    uint64_t ticket = 77;
    struct gw_err_ctx ctx = {0};
    open_service(&s, "replicas");
    assert_int_equal(gw_layouts_force(s.layouts, "4+5", &ticket, &ctx), GW_ERR_INPUT);
    assert_non_null(strstr(ctx.text, "sum to 9"));
    assert_int_equal(ticket, 77);
    assert_string_equal(view(&s).layout, "replicas");
    assert_false(view(&s).planning);
    close_service(&s);
}

static void test_force_twice_the_later_ticket_answers_both(void **state)
{
    (void)state;
    struct service s;
    uint64_t first = 0, second = 0;
    struct gw_err_ctx ctx = {0};
    open_service(&s, "replicas");
    join_members(&s, 4);
    assert_int_equal(gw_layouts_force(s.layouts, "tp4", &first, &ctx), GW_OK);
    assert_int_equal(gw_layouts_force(s.layouts, "tp2", &second, &ctx), GW_OK);
    assert_true(second > first);
    wait_for_plan(&s);
    assert_int_equal(s.ticket, second);
    assert_int_equal(s.last.ranks_len, 2);
    close_service(&s);
}

static void test_protocol_1_wants_no_plan(void **state)
{
    (void)state;
    struct service s;
    open_service(&s, "auto");
    (void)join(&s.f, "w0", "i-w0");
    tell(&s);
    spin(&s, 120);
    assert_int_equal(s.plans, 0);
    join_member(&s);
    wait_for_plan(&s);
    assert_int_equal(s.last.ranks_len, 1);
    assert_int_equal(s.ranks[0].link, 2);
    assert_non_null(strstr(gw_layouts_why(s.layouts, "w0"), "protocol 1"));
    close_service(&s);
}

static void test_model_too_large_for_all_says_what_is_missing(void **state)
{
    (void)state;
    struct service s;
    open_service(&s, "auto");
    struct gw_msg m = member_msg("small", "i-small");
    m.hello.memory_bytes = 8 << 20;
    (void)hello(&s.f, &m);
    tell(&s);
    wait_for_plan(&s);
    assert_int_equal(s.last.ranks_len, 0);
    assert_true(view(&s).missing_bytes > 32 << 20);
    says(&s, "are missing");
    assert_non_null(strstr(gw_layouts_why(s.layouts, "small"), "memory"));
    close_service(&s);
}

/* 200 requests of 700 and 30 tokens. */
static void feed_load(struct service *s)
{
    for (uint64_t i = 1; i <= 200; i++) {
        const struct gw_event e = {.type = GW_EV_SUBMIT, .submit.request = make_request(i, 1, 700, 10)};
        gw_layouts_on_event(s->layouts, &e);
        gw_request_destroy(e.submit.request);
        struct gw_action a = {.type = GW_ACT_TOKENS, .tokens = {.request = i, .tokens.count = 30}};
        gw_layouts_on_action(s->layouts, &a);
        a = (struct gw_action){.type = GW_ACT_DONE, .done.request = i};
        gw_layouts_on_action(s->layouts, &a);
    }
}

static void test_load_of_the_front_is_seen(void **state)
{
    (void)state;
    struct service s;
    open_service(&s, "auto");
    feed_load(&s);
    s.f.now_us += 10 * S;
    struct gw_layout_view v = view(&s);
    assert_true(v.measured_rps > 19.9 && v.measured_rps < 20.1);
    assert_true(v.tokens_s > 599 && v.tokens_s < 601);
    assert_true(v.load.prompt_mean > 600 && v.load.output_mean < 60);
    close_service(&s);
}

static void test_changed_load_is_planned_for_unchanged_layouts_are_no_epoch(void **state)
{
    (void)state;
    struct service s;
    open_service(&s, "auto");
    join_member(&s); /* one worker: there is no other layout */
    wait_for_plan(&s);
    spin(&s, 100); /* some looks at a load that is as before */
    assert_int_equal(view(&s).plans, 1);
    feed_load(&s);
    for (int i = 0; i < 100 && view(&s).plans == 1; i++) spin(&s, 50);
    assert_int_equal(view(&s).plans, 2);
    says(&s, "kept");
    assert_int_equal(s.plans, 1); /* none was posted */
    assert_int_equal(gw_core_epoch(s.f.core), 1);
    close_service(&s);
}

static void test_changed_load_leaves_forced_layouts_alone(void **state)
{
    (void)state;
    struct service s;
    open_service(&s, "replicas");
    join_member(&s);
    wait_for_plan(&s);
    feed_load(&s);
    spin(&s, 150);
    assert_int_equal(view(&s).plans, 1);
    close_service(&s);
}

/* A leader whose steps take ten times as long as the model says. */
static void beat_slowly(struct service *s, uint64_t link, uint64_t steps)
{
    struct gw_msg m = {.type = GW_MSG_HEARTBEAT};
    m.heartbeat = (struct gw_msg_heartbeat){
        .steps = steps, .step_us = 60000, .step_rows = 4, .step_sequences = 4, .step_kv_tokens = 400};
    say(&s->f, link, &m);
}

static void test_measured_steps_are_planned_with(void **state)
{
    (void)state;
    struct service s;
    open_service(&s, "auto");
    struct gw_msg m = member_msg("m1", "i-m1");
    m.hello.bytes_s = 20000000000;
    m.hello.flop_s = 500000000000;
    uint64_t link = hello(&s.f, &m);
    tell(&s);
    wait_for_plan(&s);
    ready(&s.f, link);
    tell(&s);
    spin(&s, 60);
    uint64_t plans = view(&s).plans;
    for (uint64_t steps = 1; view(&s).plans == plans; steps++) {
        assert_true(steps < WAIT_S * 100);
        beat_slowly(&s, link, steps);
        spin(&s, 10);
    }
    assert_int_equal(s.plans, 1); /* there is no better one */
    close_service(&s);
}

static uint64_t join_with_profile(struct service *s, const char *worker, const char *profile,
                                  uint64_t bytes_s)
{
    struct gw_msg m = member_msg(worker, worker);
    snprintf(m.hello.profile, sizeof m.hello.profile, "%s", profile);
    snprintf(m.hello.device, sizeof m.hello.device, "of %s", profile);
    m.hello.bytes_s = bytes_s;
    m.hello.flop_s = 10 * bytes_s;
    uint64_t link = hello(&s->f, &m);
    tell(s);
    return link;
}

static bool has_rank(const struct service *s, uint64_t link)
{
    for (uint32_t i = 0; i < s->last.ranks_len; i++)
        if (s->ranks[i].link == link) return true;
    return false;
}

/* A slow worker makes a layout's P99 worse, and is used all the same when requests wait for its profile. */
static void test_profile_that_requests_wait_for_is_planned(void **state)
{
    (void)state;
    for (int waits = 0; waits <= 1; waits++) {
        struct service s;
        open_service(&s, "auto");
        uint64_t first = join_with_profile(&s, "m1", waits ? "slow-1" : "fast-1", 2000000000);
        wait_for_plan(&s);
        ready(&s.f, first);
        submit(&s.f, 7, 1, 10);
        tokens(&s.f, first, 7, 1, 0, 2);
        uint64_t fast = join_with_profile(&s, "m2", "fast-1", 200000000000);
        uint64_t slow = join_with_profile(&s, "m3", "slow-1", 2000000000);
        link_down(&s.f, first);
        tell(&s);
        wait_for_plan(&s);
        assert_true(has_rank(&s, waits ? slow : fast));
        assert_int_equal(has_rank(&s, slow), waits);
        ready(&s.f, waits ? slow : fast);
        assert_non_null(sent(&s.f, waits ? slow : fast, GW_MSG_SUBMIT, 0));
        close_service(&s);
    }
}

/* Three workers, of which two can hold the model: two that do not reach each other are not those two. */
static void test_workers_that_do_not_reach_each_other_are_planned_apart(void **state)
{
    (void)state;
    struct service s;
    open_service(&s, "auto");
    for (int i = 1; i <= 3; i++) {
        char name[8];
        snprintf(name, sizeof name, "m%d", i);
        struct gw_msg m = member_msg(name, name);
        m.hello.memory_bytes = 100 << 20;
        hello(&s.f, &m);
        tell(&s);
    }
    wait_for_plan(&s);
    assert_true(s.last.ranks_len >= 2);
    assert_int_equal(s.ranks[0].pipeline, s.ranks[1].pipeline);
    uint64_t a = s.ranks[0].link, b = s.ranks[1].link;
    struct gw_msg broken = {.type = GW_MSG_BROKEN};
    broken.broken = (struct gw_msg_broken){.rank = 0, .code = GW_ERR_IO, .text = "cannot be reached"};
    s.f.pipeline[b] = s.f.prepared[b];
    s.f.generation[b] = s.f.prepared_generation[b];
    say(&s.f, b, &broken);
    tell(&s);
    assert_true(run(&s.f, 2 * S, plan_wanted));
    tell(&s);
    wait_for_plan(&s);
    assert_int_equal(s.last.ranks_len, 2);
    assert_false(has_rank(&s, a) && has_rank(&s, b));
    close_service(&s);
}

static void test_destroy_while_a_plan_is_made_is_quiet(void **state)
{
    (void)state;
    struct service s;
    uint64_t ticket;
    open_service(&s, "auto");
    join_members(&s, 12);
    assert_int_equal(gw_layouts_force(s.layouts, "auto", &ticket, NULL), GW_OK);
    event_base_loop(s.loop, EVLOOP_ONCE); /* the job is submitted */
    close_service(&s);
    assert_true(s.plans <= 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_create_bad_layout_is_refused),
        cmocka_unit_test(test_joining_together_is_one_plan),
        cmocka_unit_test(test_too_few_workers_wait_then_are_served),
        cmocka_unit_test(test_loss_does_not_wait),
        cmocka_unit_test(test_doomed_worker_is_planned_away),
        cmocka_unit_test(test_force_is_taken_at_once_with_its_ticket),
        cmocka_unit_test(test_force_of_nonsense_changes_nothing),
        cmocka_unit_test(test_force_twice_the_later_ticket_answers_both),
        cmocka_unit_test(test_protocol_1_wants_no_plan),
        cmocka_unit_test(test_model_too_large_for_all_says_what_is_missing),
        cmocka_unit_test(test_load_of_the_front_is_seen),
        cmocka_unit_test(test_changed_load_is_planned_for_unchanged_layouts_are_no_epoch),
        cmocka_unit_test(test_changed_load_leaves_forced_layouts_alone),
        cmocka_unit_test(test_measured_steps_are_planned_with),
        cmocka_unit_test(test_profile_that_requests_wait_for_is_planned),
        cmocka_unit_test(test_workers_that_do_not_reach_each_other_are_planned_apart),
        cmocka_unit_test(test_destroy_while_a_plan_is_made_is_quiet),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
