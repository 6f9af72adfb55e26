#include "tests/sim/sim.h"

#include <stdlib.h>
#include <string.h>

#define LATE_US (10 * GW_US_PER_S) /* by which the core may be late: stalls and jumps of its clock */

struct sim_pipe *sim_pipe_find(struct sim *sim, uint64_t generation)
{
    for (size_t i = sim->pipes_len; i > 0; i--)
        if (sim->pipes[i - 1].generation == generation) return &sim->pipes[i - 1];
    return NULL;
}

bool sim_pipe_doomed(struct sim *sim, const struct sim_pipe *p)
{
    for (uint32_t i = 0; i < p->ranks_len; i++)
        if (sim_link_find(sim, p->ranks[i].link)->doomed) return true;
    return false;
}

static bool serves(const struct sim_pipe *p)
{
    return !p->ended && p->started == p->ranks_len;
}

bool sim_pipe_open(struct sim *sim, const struct sim_pipe *p)
{
    return serves(p) && !p->draining && !p->alone && (p->planned || p->single) && !sim_pipe_doomed(sim, p);
}

/* ---- coming ---- */

static struct sim_pipe *pipe_open(struct sim *sim, const struct gw_msg *m)
{
    if (m->generation <= sim->last_generation) sim_fail(sim, "a generation did not grow");
    for (size_t i = 0; i < sim->pipes_len; i++)
        if (!sim->pipes[i].ended && sim->pipes[i].number == m->pipeline)
            sim_fail(sim, "two pipelines have number %u", m->pipeline);
    sim->last_generation = m->generation;
    if (sim->pipes_len == sim->pipes_cap) {
        sim->pipes_cap = sim->pipes_cap ? sim->pipes_cap * 2 : 64;
        sim->pipes = realloc(sim->pipes, sim->pipes_cap * sizeof *sim->pipes);
        if (!sim->pipes) abort();
    }
    struct sim_pipe *p = &sim->pipes[sim->pipes_len++];
    memset(p, 0, sizeof *p);
    p->generation = m->generation;
    p->number = m->pipeline;
    p->assigned_us = sim_core_now(sim);
    return p;
}

void sim_pipes_welcome(struct sim *sim, struct sim_link *l, const struct gw_msg *m)
{
    if (l->welcomed) sim_fail(sim, "link %llu was welcomed twice", (unsigned long long)l->id);
    l->welcomed = l->in_core = true;
    if (l->proto > 1) return;
    struct sim_pipe *p = pipe_open(sim, m);
    p->single = true;
    p->profile = l->profile;
    p->ranks_len = p->assigned = p->started = 1;
    p->ranks[0].link = l->id;
    l->serving = p->generation;
}

/* Every cell exactly once, by counting them all. */
static bool covers_grid(const struct sim *sim, const struct gw_core_plan_rank *ranks, uint32_t n)
{
    uint8_t held[SIM_GROUPS_MAX][SIM_SHARES_MAX] = {0};
    for (uint32_t i = 0; i < n; i++) {
        struct gw_cell_rect r = ranks[i].cells;
        if (r.g1 > sim->config.groups || r.s1 > sim->config.shares) return false;
        for (uint32_t g = r.g0; g < r.g1; g++)
            for (uint32_t s = r.s0; s < r.s1; s++) held[g][s]++;
    }
    for (uint32_t g = 0; g < sim->config.groups; g++)
        for (uint32_t s = 0; s < sim->config.shares; s++)
            if (held[g][s] != 1) return false;
    return true;
}

static struct sim_link *link_named(struct sim *sim, const char *worker)
{
    for (size_t i = sim->links_len; i > 0; i--) {
        struct sim_link *l = &sim->links[i - 1];
        if (l->core_open && l->welcomed && strcmp(l->worker, worker) == 0) return l;
    }
    return NULL;
}

static void fill_ranks(struct sim *sim, struct sim_pipe *p, const struct gw_msg_assign *a)
{
    p->ranks_len = a->ranks_len;
    for (uint32_t i = 0; i < a->ranks_len && i < SIM_WORKERS_MAX; i++) {
        const struct sim_link *l = link_named(sim, a->ranks[i].worker);
        if (!l) {
            sim_fail(sim, "a rank is nobody: %s", a->ranks[i].worker);
            return;
        }
        if (l->doomed) sim_fail(sim, "w%u is a rank of a new pipeline, and doomed", l->slot);
        if (i == 0) p->profile = l->profile;
        if (l->profile != p->profile) sim_fail(sim, "a pipeline of two profiles");
        p->ranks[i] =
            (struct gw_core_plan_rank){.link = l->id, .stage = a->ranks[i].stage, .cells = a->ranks[i].cells};
    }
    if (!covers_grid(sim, p->ranks, p->ranks_len)) sim_fail(sim, "a pipeline does not hold each cell once");
    if (p->ranks_len < sim->ranks_min) sim_fail(sim, "a pipeline of %u ranks", p->ranks_len);
}

static bool same_ranks(const struct sim_pipe *p, const struct gw_core_plan_rank *ranks, uint32_t n)
{
    if (p->single || p->ranks_len != n) return false;
    for (uint32_t i = 0; i < n; i++)
        if (p->ranks[i].link != ranks[i].link || p->ranks[i].stage != ranks[i].stage ||
            !gw_rect_equal(p->ranks[i].cells, ranks[i].cells))
            return false;
    return true;
}

static bool is_planned(const struct gw_core_plan *plan, const struct sim_pipe *p)
{
    for (uint32_t at = 0, n; at < plan->ranks_len; at += n) {
        n = 1;
        while (at + n < plan->ranks_len && plan->ranks[at + n].pipeline == plan->ranks[at].pipeline) n++;
        if (same_ranks(p, &plan->ranks[at], n)) return true;
    }
    return false;
}

/* A wrong plan may have a worker in several pipelines: which of them is taken is the core's choice. */
static bool named_once(const struct gw_core_plan *plan, uint64_t link)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < plan->ranks_len; i++) count += plan->ranks[i].link == link;
    return count == 1;
}

/* Must p serve on, or form on, for all that is known? */
static bool is_kept(struct sim *sim, const struct gw_core_plan *plan, const struct sim_pipe *p)
{
    if (!is_planned(plan, p) || sim_pipe_doomed(sim, p)) return false;
    for (uint32_t i = 0; i < p->ranks_len; i++)
        if (!named_once(plan, p->ranks[i].link)) return false;
    return true;
}

void sim_pipes_plan(struct sim *sim, const struct gw_core_plan *plan)
{
    for (size_t i = 0; i < sim->pipes_len; i++)
        sim->pipes[i].planned = !sim->pipes[i].ended && is_kept(sim, plan, &sim->pipes[i]);
}

void sim_pipes_assign(struct sim *sim, struct sim_link *l, const struct gw_msg *m)
{
    struct sim_pipe *p = sim_pipe_find(sim, m->generation);
    if (!p) {
        p = pipe_open(sim, m);
        fill_ranks(sim, p, &m->assign);
        p->planned = is_kept(sim, &sim->plan, p);
        if (!is_planned(&sim->plan, p))
            sim_fail(sim, "generation %llu is in no plan", (unsigned long long)p->generation);
        sim->formed++;
    }
    if (sim->failed) return;
    if (m->assign.ranks_len != p->ranks_len || p->ranks[m->assign.self].link != l->id)
        sim_fail(sim, "w%u is assigned another rank", l->slot);
    if (l->prepared) sim_fail(sim, "w%u is assigned two pipelines", l->slot);
    sim_sources_check(sim, l, &m->assign);
    l->prepared = p->generation;
    p->assigned++;
}

/* ---- the end ---- */

static void pipe_end(struct sim *sim, struct sim_pipe *p)
{
    if (p->ended) return;
    p->ended = true;
    for (uint32_t i = 0; i < sim->requests_len; i++)
        if (sim->requests[i].holder == p->generation) sim_check_release(sim, &sim->requests[i]);
}

void sim_pipes_link_gone(struct sim *sim, struct sim_link *l)
{
    struct sim_pipe *serving = sim_pipe_find(sim, l->serving), *prepared = sim_pipe_find(sim, l->prepared);
    if (serving) pipe_end(sim, serving);
    if (prepared) pipe_end(sim, prepared);
}

void sim_pipes_broken(struct sim *sim, struct sim_link *l, const struct gw_msg *m)
{
    struct sim_pipe *p = sim_pipe_find(sim, m->generation);
    bool mine = p && (l->serving == p->generation || l->prepared == p->generation);
    if (!mine || p->number != m->pipeline || m->term != sim->config.term || p->ended) return;
    sim->broken++;
    pipe_end(sim, p);
}

/* The core lets a pipeline go that nothing has ended: has it a reason? */
static void check_released(struct sim *sim, const struct sim_pipe *p)
{
    unsigned long long gen = (unsigned long long)p->generation;
    bool late = sim_core_now(sim) - p->assigned_us >= sim->config.prepare_timeout_us;
    if (p->single) sim_fail(sim, "RELEASE to a worker of protocol 1");
    if (serves(p)) {
        if (!p->draining) sim_fail(sim, "generation %llu serves and is released", gen);
        if (p->held > 0) sim_fail(sim, "generation %llu is released with %u requests", gen, p->held);
    } else if (p->planned && !sim_pipe_doomed(sim, p) && !late) {
        sim_fail(sim, "generation %llu is released while it forms", gen);
    }
}

void sim_pipes_release(struct sim *sim, struct sim_link *l, const struct gw_msg *m)
{
    struct sim_pipe *p = sim_pipe_find(sim, m->generation);
    if (!p || (l->serving != p->generation && l->prepared != p->generation)) {
        sim_fail(sim, "w%u is released from what it is not in", l->slot);
        return;
    }
    if (!p->ended) check_released(sim, p);
    pipe_end(sim, p);
    if (l->serving == p->generation) l->serving = 0;
    if (l->prepared == p->generation) l->prepared = 0;
}

/* ---- START ---- */

/* What l served in until now ends: it must have nothing left. */
static void check_replaced(struct sim *sim, const struct sim_link *l)
{
    struct sim_pipe *old = sim_pipe_find(sim, l->serving);
    if (!old || old->ended) return;
    if (!old->draining) sim_fail(sim, "w%u starts while its old pipeline serves", l->slot);
    if (old->held > 0) sim_fail(sim, "w%u starts while its old pipeline has %u requests", l->slot, old->held);
}

static void check_may_start(struct sim *sim, const struct sim_pipe *p)
{
    for (uint32_t i = 0; i < p->ranks_len; i++) {
        if (!p->ready[i])
            sim_fail(sim, "generation %llu starts before all are READY", (unsigned long long)p->generation);
        check_replaced(sim, sim_link_find(sim, p->ranks[i].link));
    }
}

void sim_pipes_start(struct sim *sim, struct sim_link *l, const struct gw_msg *m)
{
    struct sim_pipe *p = sim_pipe_find(sim, m->generation);
    if (!p || p->ended || l->prepared != p->generation) {
        sim_fail(sim, "w%u shall start what it does not prepare", l->slot);
        return;
    }
    if (p->started == 0) check_may_start(sim, p);
    struct sim_pipe *old = sim_pipe_find(sim, l->serving);
    if (old) pipe_end(sim, old);
    l->serving = p->generation;
    l->prepared = 0;
    sim->started += ++p->started == p->ranks_len;
}

void sim_pipes_ready(struct sim *sim, struct sim_link *l, const struct gw_msg *m)
{
    struct sim_pipe *p = sim_pipe_find(sim, m->generation);
    if (!p || p->ended || l->prepared != p->generation) return;
    for (uint32_t i = 0; i < p->ranks_len; i++)
        if (p->ranks[i].link == l->id) p->ready[i] = true;
    p->kv_tokens = m->ready.kv_tokens;
}

/* ---- notes ---- */

void sim_pipes_note(struct sim *sim, const struct gw_note *n)
{
    struct sim_pipe *p = sim_pipe_find(sim, n->generation);
    if (n->kind == GW_NOTE_PIPELINE_DRAINING) {
        if (!p || !serves(p)) sim_fail(sim, "what does not serve drains");
        if (p && p->planned && !sim_pipe_doomed(sim, p)) sim_fail(sim, "what should serve on drains");
        if (p) p->draining = true;
    }
    if (n->kind == GW_NOTE_PIPELINE_SERVING && p) p->draining = false;
    if (p && n->kind == GW_NOTE_PIPELINE_DRAINING) sim_faults_chance(sim, p, true);
}

/* ---- views ---- */

/* Each rank was told so, by a message on its link; so none is in two that serve, or in two that form. */
static void check_ranks(struct sim *sim, const struct gw_core_pipeline_view *v, bool serving)
{
    for (uint32_t i = 0; i < v->ranks_len; i++) {
        const struct sim_link *l = sim_link_find(sim, v->ranks[i].link);
        if (!l->core_open) sim_fail(sim, "a rank's link is closed");
        if ((serving ? l->serving : l->prepared) != v->generation)
            sim_fail(sim, "w%u was not told that it is in generation %llu", l->slot,
                     (unsigned long long)v->generation);
    }
}

void sim_pipes_check_views(struct sim *sim)
{
    static struct gw_core_pipeline_view v; /* 10 KiB, filled in anew each time */
    uint64_t last = 0;
    size_t live = 0, count = 0;
    for (; gw_core_pipeline(sim->core, count, &v) && !sim->failed; count++) {
        const struct sim_pipe *p = sim_pipe_find(sim, v.generation);
        bool serving = strcmp(v.state, "serving") == 0 || strcmp(v.state, "draining") == 0;
        if (!p || p->ended) {
            sim_fail(sim, "generation %llu lives on in the core", (unsigned long long)v.generation);
            return;
        }
        if (v.state[0] == 'f' &&
            sim_core_now(sim) - p->assigned_us > sim->config.prepare_timeout_us + LATE_US)
            sim_fail(sim, "generation %llu forms for ever", (unsigned long long)v.generation);
        if (v.generation <= last) sim_fail(sim, "pipelines are not in order");
        if (serving != serves(p)) sim_fail(sim, "a pipeline is said to be %s", v.state);
        if (!p->single && serving && p->draining != (v.state[0] == 'd')) sim_fail(sim, "drains or not?");
        if (v.requests != p->held) sim_fail(sim, "%u requests, %u were submitted", v.requests, p->held);
        last = v.generation;
        check_ranks(sim, &v, serving);
    }
    for (size_t i = 0; i < sim->pipes_len; i++) live += !sim->pipes[i].ended;
    if (live != count) sim_fail(sim, "the core knows %zu pipelines of %zu", count, live);
}
