#include "tests/sim/sim.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FAULTS_MIN_MS 4000
#define FAULTS_MAX_MS 10000
#define QUIET_US      (8 * GW_US_PER_S)   /* after the last fault: freezes, graces and reconnects are over */
#define SETTLE_US     GW_US_PER_S         /* after the last end: CANCELs under way arrive */
#define LIMIT_US      (120 * GW_US_PER_S) /* what has not ended so long after the last fault never will */
#define LOGS_EVERY    16                  /* events between looks at a random request's log */

/* ---- helpers ---- */

void *sim_alloc(size_t count, size_t bytes)
{
    void *p = calloc(count, bytes);
    if (!p) abort();
    return p;
}

int64_t sim_between(struct sim *sim, int64_t low, int64_t high)
{
    return low + (int64_t)gw_rng_below(&sim->rng, (uint64_t)(high - low) + 1);
}

bool sim_chance(struct sim *sim, uint32_t one_in)
{
    return gw_rng_below(&sim->rng, one_in) == 0;
}

int64_t sim_core_now(const struct sim *sim)
{
    return sim->now_us + sim->skew_us;
}

void sim_fail(struct sim *sim, const char *fmt, ...)
{
    va_list ap;
    if (sim->failed) return;
    sim->failed = true;
    va_start(ap, fmt);
    vsnprintf(sim->failure, sizeof sim->failure, fmt, ap);
    va_end(ap);
}

void sim_trace(struct sim *sim, const char *fmt, ...)
{
    va_list ap;
    if (!sim->tracing) return;
    char *line = sim->trace[sim->trace_len++ % SIM_TRACE_LINES];
    int head = snprintf(line, SIM_TRACE_WIDTH, "%10.3f ms  ", (double)sim->now_us / 1000.0);
    va_start(ap, fmt);
    vsnprintf(line + head, (size_t)(SIM_TRACE_WIDTH - head), fmt, ap);
    va_end(ap);
    if (sim->options.verbose) printf("%s\n", line);
}

/* ---- the core ---- */

static void carry_out(struct sim *sim, const struct gw_action *a)
{
    struct sim_link *l = sim_link_find(sim, a->link.link);
    switch (a->type) {
    case GW_ACT_SEND:
        sim_check_send(sim, l, a->link.msg);
        sim_net_to_worker(sim, l, a->link.msg);
        break;
    case GW_ACT_CLOSE:
        sim_check_close(sim, l, a->link.reason);
        sim_link_close_by_core(sim, l);
        break;
    case GW_ACT_NOTE: sim_check_note(sim, &a->note); break;
    case GW_ACT_PLAN_WANTED: sim_plan_wanted(sim, a->plan_wanted.fleet); break;
    default: sim_front_action(sim, a);
    }
}

/* What the core forgives the workers when it was not run. */
static void forgive(struct sim *sim)
{
    int64_t gap_us = sim->now_us - sim->stepped_us;
    sim->stepped_us = sim->now_us;
    if (gap_us <= sim->config.heartbeat_timeout_us / 2) return;
    for (size_t i = 0; i < sim->links_len; i++) sim->links[i].quiet_us += gap_us;
}

void sim_step(struct sim *sim, const struct gw_event *e)
{
    size_t count;
    forgive(sim);
    sim->core_stepped_us = sim_core_now(sim);
    gw_core_step(sim->core, sim->core_stepped_us, e);
    const struct gw_action *actions = gw_core_actions(sim->core, &count);
    for (size_t i = 0; i < count && !sim->failed; i++) carry_out(sim, &actions[i]);
    if (e->type == GW_EV_TICK && gw_core_next_deadline_us(sim->core) <= sim_core_now(sim))
        sim_fail(sim, "a TICK leaves a deadline in the past");
}

/* ---- events ---- */

static bool for_worker(enum sim_event_type type)
{
    return type == SIM_FRAME_TO_WORKER || type == SIM_DOWN_TO_WORKER || type == SIM_WORKER_CONNECT ||
           type == SIM_WORKER_STEP || type == SIM_WORKER_BEAT || type == SIM_WORKER_PREPARE ||
           type == SIM_WORKER_COPIED;
}

static bool for_controller(enum sim_event_type type)
{
    return type == SIM_FRAME_TO_CORE || type == SIM_DOWN_TO_CORE || type == SIM_REQUEST ||
           type == SIM_CLIENT_GONE || type == SIM_FRONT_STOP || type == SIM_PLAN_BEGIN ||
           type == SIM_PLAN_DONE;
}

/* Who does not run gets the event when it does; order is kept. */
static bool postpone(struct sim *sim, struct sim_event *e)
{
    const struct sim_worker *w = &sim->workers[e->slot];
    if (for_controller(e->type) && sim->stalled_until_us > sim->now_us)
        e->at_us = sim->stalled_until_us;
    else if (for_worker(e->type) && e->life == w->life && sim_worker_frozen(sim, w))
        e->at_us = w->frozen_until_us;
    else
        return false;
    sim_queue_push(sim, *e);
    return true;
}

static void dispatch(struct sim *sim, const struct sim_event *e)
{
    switch (e->type) {
    case SIM_FRAME_TO_CORE: sim_on_frame_to_core(sim, e); break;
    case SIM_DOWN_TO_CORE: sim_on_down_to_core(sim, e); break;
    case SIM_REQUEST:
    case SIM_CLIENT_GONE:
    case SIM_FRONT_STOP: sim_on_front_event(sim, e); break;
    case SIM_FAULT: sim_on_fault(sim); break;
    case SIM_STRIKE: sim_on_strike(sim, e); break;
    case SIM_PLAN_BEGIN:
    case SIM_PLAN_DONE: sim_on_plan_event(sim, e); break;
    case SIM_WORKER_RECLAIM: sim_on_reclaim(sim, e); break;
    case SIM_NOTICE_CANCEL: sim_on_notice_cancel(sim, e); break;
    default: sim_on_worker_event(sim, e);
    }
}

static void check(struct sim *sim)
{
    sim->events++;
    if (sim->failed) return;
    sim_check_totals(sim);
    sim_stores_check(sim);
    sim_front_check_log(sim, sim->touched);
    if (sim->events % LOGS_EVERY == 0) sim_pipes_check_views(sim);
    if (sim->events % LOGS_EVERY == 0) sim_moves_check(sim);
    if (sim->events % LOGS_EVERY == 0)
        sim_front_check_log(sim, (uint32_t)(sim->events / LOGS_EVERY % sim->requests_len));
}

static void run_event(struct sim *sim)
{
    struct sim_event e;
    if (!sim_queue_pop(sim, &e)) return;
    if (e.at_us > sim->now_us) sim->now_us = e.at_us;
    if (postpone(sim, &e)) return;
    dispatch(sim, &e);
    free((void *)e.frame.payload);
    check(sim);
}

/* When the core wants its next TICK, on the world's clock. A stalled loop runs late. */
static int64_t tick_us(const struct sim *sim)
{
    int64_t due_us = gw_core_next_deadline_us(sim->core);
    if (due_us == INT64_MAX) return INT64_MAX;
    due_us -= sim->skew_us;
    if (due_us < sim->stalled_until_us) due_us = sim->stalled_until_us;
    return due_us < sim->now_us ? sim->now_us : due_us;
}

/* ---- a run ---- */

static void configure_core(struct sim *sim)
{
    struct gw_core_config *c = &sim->config;
    gw_core_config_default(c);
    c->term = 7;
    c->cutover_margin_us = sim_between(sim, 200, 1000) * GW_US_PER_MS;
    c->handoff_timeout_us = sim_between(sim, 100, 2000) * GW_US_PER_MS;
    c->doom_grace_us = sim_between(sim, 1, 5) * GW_US_PER_S;
    c->max_workers = 4 * SIM_WORKERS_MAX;
    c->prepare_timeout_us = sim_between(sim, 2, 8) * GW_US_PER_S;
    c->replan_wait_us = sim_between(sim, 20, 200) * GW_US_PER_MS;
    c->warm_timeout_us = sim_chance(sim, 8) ? 0 : sim_between(sim, 50, 10000) * GW_US_PER_MS;
    if (sim_chance(sim, 3)) c->worker_branches_target = (uint32_t)sim_between(sim, 2, 8);
    if (sim_chance(sim, 8)) c->max_queued = (uint32_t)sim_between(sim, 1, 5);
    if (sim_chance(sim, 8)) c->max_queue_wait_us = sim_between(sim, 1, 5) * GW_US_PER_S;
}

static void configure_sessions(struct sim *sim)
{
    sim->profiles = 1;
    sim->old_protocol = 0;
    if (!sim_chance(sim, 6)) sim->middle_protocol = 0;
    sim->config.warm_timeout_us = sim_between(sim, 500, 10000) * GW_US_PER_MS;
    sim->kv_tokens = (uint32_t)sim_between(sim, 500, 4000);
}

/* How many instances there are, and what is on them. Half of the fleets are small: more happens to each pipeline. */
static void configure_fleet(struct sim *sim)
{
    uint32_t instances = sim->options.instances;
    sim->kv_tokens = 1 << 16;
    if (instances == 0) instances = (uint32_t)sim_between(sim, 1, sim_chance(sim, 2) ? 6 : SIM_INSTANCES_MAX);
    sim->per_instance = sim_chance(sim, 4) ? 2 : 1;
    sim->slots = instances * sim->per_instance;
    sim->profiles = sim->slots > 1 && sim_chance(sim, 4) ? 2 : 1;
    if (sim_chance(sim, 3)) sim->old_protocol = (uint32_t)sim_between(sim, 1, 4);
    if (sim_chance(sim, 4)) sim->middle_protocol = (uint32_t)sim_between(sim, 1, 4);
    if (sim->options.sessions) configure_sessions(sim);
    sim->stores = sim_chance(sim, 2);
}

/* The model: its grid, and how many workers of one profile hold it at least (as many as there can be). */
static void configure_model(struct sim *sim)
{
    /* The planner may leave a profile without a pipeline, and what began there then waits: not the core's question. */
    sim->planner = sim_chance(sim, 4) ? SIM_PLANNER_REAL : SIM_PLANNER_RANDOM;
    if (sim->planner == SIM_PLANNER_REAL) sim->profiles = 1;
    uint32_t most = sim->slots / sim->profiles;
    if (sim->old_protocol > 1) most -= (sim->slots + sim->old_protocol - 1) / sim->old_protocol;
    if ((int32_t)most < 1) most = 1;
    sim->config.groups = (uint32_t)sim_between(sim, 1, SIM_GROUPS_MAX);
    sim->config.shares = (uint32_t)sim_between(sim, 1, SIM_SHARES_MAX);
    if (sim->planner == SIM_PLANNER_REAL) sim_planner_configure(sim);
    if (most > 4) most = 4;
    if (most > sim->config.shares) most = sim->config.shares;
    sim->ranks_min = (uint32_t)sim_between(sim, 1, most);
    /* Four shares and four groups are not cut into three equal parts. */
    if (sim->planner == SIM_PLANNER_REAL && sim->ranks_min == 3) sim->ranks_min = 2;
}

static void configure(struct sim *sim)
{
    configure_core(sim);
    configure_fleet(sim);
    configure_model(sim);
    sim->requests_len = sim->options.requests;
    if (sim->requests_len == 0) sim->requests_len = (uint32_t)sim_between(sim, 20, 20 + 3 * sim->slots);
    sim->faults_end_us = sim_between(sim, FAULTS_MIN_MS, FAULTS_MAX_MS) * GW_US_PER_MS;
}

static void build(struct sim *sim)
{
    configure(sim);
    if (gw_core_create(&sim->config, &sim->core) != GW_OK) abort();
    for (uint32_t i = 0; i < sim->slots; i++) sim_worker_start(sim, i, false);
    sim_front_plan(sim);
    sim_faults_plan(sim);
}

static bool over(const struct sim *sim)
{
    return sim->failed || (sim->ended == sim->requests_len && sim->now_us > sim->faults_end_us + QUIET_US &&
                           sim->now_us > sim->ended_us + SETTLE_US);
}

static void loop(struct sim *sim)
{
    const struct gw_event tick = {.type = GW_EV_TICK};
    while (!over(sim)) {
        int64_t due_us = tick_us(sim);
        if (due_us >= sim_queue_next_us(sim)) {
            run_event(sim);
        } else {
            sim->now_us = due_us;
            sim_step(sim, &tick);
            check(sim);
        }
        if (sim->now_us > sim->faults_end_us + LIMIT_US) {
            sim_front_check_end(sim);
            return;
        }
    }
}

bool sim_run(struct sim *sim, uint64_t seed, const struct sim_options *options, bool tracing)
{
    memset(sim, 0, sizeof *sim);
    sim->seed = seed;
    sim->options = *options;
    sim->tracing = tracing;
    if (tracing) sim->trace = sim_alloc(SIM_TRACE_LINES, SIM_TRACE_WIDTH);
    gw_rng_init(&sim->rng, seed);
    build(sim);
    loop(sim);
    if (!sim->failed) sim_front_check_end(sim);
    if (!sim->failed) sim_check_end(sim);
    return !sim->failed;
}

void sim_fini(struct sim *sim)
{
    struct sim_event e;
    while (sim_queue_pop(sim, &e)) free((void *)e.frame.payload);
    free(sim->queue);
    free(sim->links);
    free(sim->pipes);
    for (uint32_t i = 0; i < SIM_WORKERS_MAX; i++) sim_worker_fini(&sim->workers[i]);
    sim_front_fini(sim);
    gw_core_destroy(sim->core);
    free(sim->trace);
}
