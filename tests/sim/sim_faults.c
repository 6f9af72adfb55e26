#include "tests/sim/sim.h"

#include <string.h>

#define FAULT_EVERY_MAX_MS 500 /* between two faults */
#define GRACE_MAX_MS       5000

static int64_t ms(struct sim *sim, int64_t low, int64_t high)
{
    return sim_between(sim, low, high) * GW_US_PER_MS;
}

/* A random living worker, or NULL if chance hits a dead one. */
static struct sim_worker *some_worker(struct sim *sim)
{
    struct sim_worker *w = &sim->workers[gw_rng_below(&sim->rng, sim->slots)];
    return w->alive ? w : NULL;
}

static struct sim_link *link_of(struct sim *sim, const struct sim_worker *w)
{
    return sim_link_find(sim, w->link);
}

/* ---- death ---- */

/* The process is killed; its kernel says so at once. */
static void kill_process(struct sim *sim, struct sim_worker *w)
{
    sim_worker_die(sim, w, ms(sim, 20, 2000));
}

/* The machine is gone: no word, or a late one from a router. */
static void vanish(struct sim *sim, struct sim_worker *w)
{
    struct sim_link *l = link_of(sim, w);
    if (l) sim_link_cut(sim, l, sim_chance(sim, 3), false);
    sim_worker_die(sim, w, ms(sim, 20, 2000));
}

/* Never shortens: what waits for the thaw keeps its order. */
static void freeze_until(struct sim *sim, struct sim_worker *w, int64_t until_us)
{
    struct sim_link *l = link_of(sim, w);
    if (l) l->healthy = false;
    if (until_us > w->frozen_until_us) w->frozen_until_us = until_us;
}

static void freeze(struct sim *sim, struct sim_worker *w)
{
    freeze_until(sim, w, sim->now_us + ms(sim, 50, 4000));
}

static void freeze_many(struct sim *sim, struct sim_worker *w)
{
    int64_t until_us = sim->now_us + ms(sim, 300, 4000);
    freeze_until(sim, w, until_us);
    for (uint32_t i = 0; i < sim->slots; i++)
        if (sim->workers[i].alive && !sim_chance(sim, 4)) freeze_until(sim, &sim->workers[i], until_us);
}

static void cut(struct sim *sim, struct sim_worker *w)
{
    struct sim_link *l = link_of(sim, w);
    if (l) sim_link_cut(sim, l, sim_chance(sim, 2), sim_chance(sim, 2));
}

/* ---- notices ---- */

/* The truth behind a notice: it comes about when it says, earlier, later, or never. */
static void plan_reclaim(struct sim *sim, struct sim_worker *w, int64_t grace_us)
{
    if (sim_chance(sim, 3)) return;
    int64_t at_us = sim->now_us + grace_us + (sim_chance(sim, 3) ? ms(sim, -500, 500) : 0);
    if (at_us < sim->now_us) at_us = sim->now_us;
    sim_queue_push(sim, (struct sim_event){
                            .at_us = at_us, .type = SIM_WORKER_RECLAIM, .slot = w->slot, .life = w->life});
}

static void plan_cancel(struct sim *sim, const struct sim_worker *w)
{
    if (!sim_chance(sim, 4)) return;
    sim_queue_push(sim, (struct sim_event){.at_us = sim->now_us + ms(sim, 0, 3000),
                                           .type = SIM_NOTICE_CANCEL,
                                           .slot = w->slot,
                                           .life = w->life});
}

void sim_on_reclaim(struct sim *sim, const struct sim_event *e)
{
    struct sim_worker *w = &sim->workers[e->slot];
    if (w->life != e->life || !w->alive) return;
    sim_trace(sim, "fault  w%u is reclaimed", w->slot);
    if (sim_chance(sim, 2))
        vanish(sim, w);
    else
        kill_process(sim, w);
}

/* To the core by name: the instance's, sometimes the worker's, sometimes nobody's. */
static void admin_notice(struct sim *sim, const struct sim_worker *w, uint8_t kind, int64_t grace_us)
{
    const char *name = sim_chance(sim, 2) ? w->instance : w->name;
    if (sim_chance(sim, 12)) name = "i-nobody";
    struct gw_event e = {.type = GW_EV_NOTICE,
                         .notice = {.name = name, .kind = kind, .deadline_us = sim_core_now(sim) + grace_us}};
    sim_trace(sim, "admin  notice kind %u for %s in %lld ms", kind, name, (long long)grace_us / 1000);
    if (sim->now_us >= sim->stalled_until_us) sim_step(sim, &e);
}

void sim_on_notice_cancel(struct sim *sim, const struct sim_event *e)
{
    struct sim_worker *w = &sim->workers[e->slot];
    if (w->life != e->life || !w->alive) return;
    if (sim_chance(sim, 2))
        sim_worker_send_notice(sim, w, GW_NOTICE_CANCEL, 0);
    else
        admin_notice(sim, w, GW_NOTICE_CANCEL, 0);
}

/* Its cloud thinks that it may go; mostly it does not. */
static void advise(struct sim *sim, struct sim_worker *w)
{
    if (sim_chance(sim, 2))
        sim_worker_send_notice(sim, w, GW_NOTICE_REBALANCE, 0);
    else
        admin_notice(sim, w, GW_NOTICE_REBALANCE, 0);
    plan_cancel(sim, w);
}

static void announce(struct sim *sim, struct sim_worker *w)
{
    if (sim_chance(sim, 8)) {
        advise(sim, w);
        return;
    }
    int64_t grace_us = sim_chance(sim, 6) ? 0 : ms(sim, 0, GRACE_MAX_MS);
    if (sim_chance(sim, 2)) {
        sim_worker_send_notice(sim, w, GW_NOTICE_PREEMPT, (uint32_t)(grace_us / GW_US_PER_MS));
        w->leaves = w->welcome && sim_chance(sim, 2);
    } else {
        admin_notice(sim, w, GW_NOTICE_PREEMPT, grace_us);
    }
    plan_reclaim(sim, w, grace_us);
    plan_cancel(sim, w);
}

/* ---- the controller's own troubles ---- */

static void stall(struct sim *sim, struct sim_worker *w)
{
    (void)w;
    /* Workers give a controller up after a silence of 5 s: one stall must not follow close upon another. */
    if (sim->now_us < sim->stalled_until_us + 2 * GW_US_PER_S) return;
    sim->stalled_until_us = sim->now_us + ms(sim, 100, 3000);
}

static void jump(struct sim *sim, struct sim_worker *w)
{
    (void)w;
    sim->skew_us += ms(sim, 600, 5000);
}

/* ---- odd frames ---- */

#define STALE_TRIES 16

/* A live request that has been submitted, or NULL. */
static struct sim_request *running_request(struct sim *sim)
{
    for (int i = 0; i < STALE_TRIES; i++) {
        struct sim_request *r = &sim->requests[gw_rng_below(&sim->rng, sim->requests_len)];
        if (r->outcome == SIM_ACCEPTED && r->attempt > 0) return r;
    }
    return NULL;
}

/* A worker that speaks of what it does not have: an attempt that has passed, another worker's, or under fences that
 * are not its own. Were it heard, a wrong record or a lost attempt would show. */
static void stale_frame(struct sim *sim, struct sim_worker *w)
{
    struct sim_link *l = link_of(sim, w);
    struct sim_request *r = running_request(sim);
    uint32_t id = SIM_VOCAB - 1, log_len[GW_REQUEST_BRANCHES_MAX] = {0};
    float logprob = 1;
    if (!l || !r || !w->welcome || sim_worker_frozen(sim, w)) return;
    struct gw_msg m = sim_worker_message(w, &w->serving, GW_MSG_TOKENS);
    const struct sim_pipe *p = sim_pipe_find(sim, r->holder);
    uint32_t attempt = r->attempt;
    if (sim_chance(sim, 3))
        m.generation--;
    else if (sim_chance(sim, 8))
        m.term--;
    else if ((p && sim_pipe_leader(p) == l->id) || sim_chance(sim, 2))
        attempt--;
    if (w->proto > 2 && sim_chance(sim, 4)) {
        m.type = GW_MSG_WARMED; /* of what it was never told to copy, or of another attempt */
        m.warmed = (struct gw_msg_warmed){r->request->id, r->copy_attempt + (uint32_t)sim_chance(sim, 2), 16};
        if (r->copy_generation == m.generation) m.warmed.attempt = r->copy_attempt + 1;
    } else if (sim_chance(sim, 2)) {
        m.tokens = (struct gw_msg_tokens){
            r->request->id, attempt, 0, {r->branches[0].got, 1, 0, &id, &logprob, NULL}};
    } else {
        m.type = GW_MSG_HANDOFF;
        m.handoff = (struct gw_msg_handoff){r->request->id, attempt, r->request->n, log_len};
    }
    sim_net_to_core(sim, l, &m);
}

/* ---- layouts ---- */

static void relayout(struct sim *sim, struct sim_worker *w)
{
    (void)w;
    sim_plan_force(sim);
}

/* Other workers cannot reach it, the controller can. */
static void isolate(struct sim *sim, struct sim_worker *w)
{
    w->unreachable_until_us = sim->now_us + ms(sim, 50, 3000);
}

/* ---- storms ---- */

static void strike(struct sim *sim, struct sim_worker *w)
{
    switch (gw_rng_below(&sim->rng, 4)) {
    case 0: announce(sim, w); break;
    case 1: vanish(sim, w); break;
    default: kill_process(sim, w);
    }
}

/* Each process with a chance of 1 in so many, within a second. */
static void strike_many(struct sim *sim, uint32_t one_in)
{
    sim->storms++;
    for (uint32_t i = 0; i < sim->slots; i++) {
        if (!sim->workers[i].alive || !sim_chance(sim, one_in)) continue;
        sim_queue_push(sim, (struct sim_event){.at_us = sim->now_us + ms(sim, 0, 1000),
                                               .type = SIM_STRIKE,
                                               .slot = i,
                                               .life = sim->workers[i].life});
    }
}

static void half(struct sim *sim, struct sim_worker *w)
{
    (void)w;
    strike_many(sim, 2);
}

static void everything(struct sim *sim, struct sim_worker *w)
{
    (void)w;
    strike_many(sim, 1);
}

void sim_on_strike(struct sim *sim, const struct sim_event *e)
{
    struct sim_worker *w = &sim->workers[e->slot];
    if (w->life != e->life || !w->alive) return;
    sim_trace(sim, "fault  strikes w%u", w->slot);
    strike(sim, w);
}

static void strike_rank(struct sim *sim, const struct sim_pipe *p, uint32_t rank, int64_t after_us)
{
    const struct sim_link *l = sim_link_find(sim, p->ranks[rank].link);
    sim_queue_push(
        sim, (struct sim_event){
                 .at_us = sim->now_us + after_us, .type = SIM_STRIKE, .slot = l->slot, .life = l->life});
}

static void strike_leader(struct sim *sim, struct sim_worker *w)
{
    const struct sim_link *l = link_of(sim, w);
    const struct sim_pipe *p = l ? sim_pipe_find(sim, l->serving) : NULL;
    if (p) strike_rank(sim, p, 0, 0);
}

void sim_faults_chance(struct sim *sim, const struct sim_pipe *p, bool draining)
{
    if (sim->now_us >= sim->faults_end_us || !sim_chance(sim, draining ? 4 : 8)) return;
    uint32_t rank = draining ? 0 : (uint32_t)gw_rng_below(&sim->rng, p->ranks_len);
    sim->storms++;
    strike_rank(sim, p, rank, draining ? sim_between(sim, 0, 30000) : ms(sim, 0, 500));
}

/* ---- all of them ---- */

void sim_on_fault(struct sim *sim)
{
    static const struct {
        const char *name;
        uint32_t weight;
        void (*act)(struct sim *sim, struct sim_worker *w);
    } kinds[] = {{"kill", 8, kill_process},
                 {"vanish", 8, vanish},
                 {"freeze", 8, freeze},
                 {"cut", 8, cut},
                 {"notice", 16, announce},
                 {"freeze many", 2, freeze_many},
                 {"stall", 2, stall},
                 {"jump", 2, jump},
                 {"stale frame", 20, stale_frame},
                 {"relayout", 12, relayout},
                 {"isolate", 4, isolate},
                 {"leader", 4, strike_leader},
                 {"half", 1, half},
                 {"everything", 1, everything}};
    const size_t notice = 4, change = 9; /* what sessions have more of */
    uint32_t total = 0;
    size_t i = 0;
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) total += kinds[k].weight;
    uint32_t pick = (uint32_t)gw_rng_below(&sim->rng, total);
    while (pick >= kinds[i].weight) pick -= kinds[i++].weight;
    if (sim->options.sessions && sim_chance(sim, 2)) i = sim_chance(sim, 2) ? notice : change;
    struct sim_worker *w = some_worker(sim);
    if (w) {
        sim->faults++;
        sim_trace(sim, "fault  %s w%u", kinds[i].name, w->slot);
        kinds[i].act(sim, w);
    }
    int64_t next_us = sim->now_us + ms(sim, 1, FAULT_EVERY_MAX_MS);
    if (next_us < sim->faults_end_us)
        sim_queue_push(sim, (struct sim_event){.at_us = next_us, .type = SIM_FAULT});
}

void sim_faults_plan(struct sim *sim)
{
    if (sim_chance(sim, 10)) return; /* a quiet run */
    sim_queue_push(sim, (struct sim_event){.at_us = ms(sim, 200, 1500), .type = SIM_FAULT});
}
