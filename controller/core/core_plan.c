#include "controller/core/core_internal.h"

#include "base/clock.h"

#define REPLAN_WAIT_MAX_US                                                                                   \
    (30 * GW_US_PER_S) /* two ranks that cannot reach each other are retried so often */

/* ---- wanting one ---- */

void core_want_plan(struct gw_core *core)
{
    core->plan_due = true;
    core->replan_at_us = INT64_MAX;
    core->replan_wait_us = 0; /* another fleet: what broke may have been the one that left */
}

void core_want_plan_later(struct gw_core *core, int64_t now_us)
{
    core->broken_generation = core->last_generation;
    if (core->plan_due || core->replan_at_us != INT64_MAX) return;
    int64_t wait_us = core->replan_wait_us > 0 ? core->replan_wait_us * 2 : core->config.replan_wait_us;
    core->replan_wait_us = wait_us < REPLAN_WAIT_MAX_US ? wait_us : REPLAN_WAIT_MAX_US;
    core->replan_at_us = now_us + core->replan_wait_us;
    core_moves_due(core, core->replan_at_us);
}

void core_plan_tick(struct gw_core *core, int64_t now_us)
{
    if (now_us < core->replan_at_us) return;
    core->replan_at_us = INT64_MAX;
    core->plan_due = true;
}

void core_plan_say(struct gw_core *core)
{
    if (!core->plan_due) return;
    core->plan_due = false;
    core_act(core, GW_ACT_PLAN_WANTED)->plan_wanted.fleet = ++core->fleet;
}

bool core_plan_pending(const struct gw_core *core)
{
    return core->plan_due || core->replan_at_us != INT64_MAX || core->planned_fleet < core->fleet;
}

void core_plan_works(struct gw_core *core, const struct core_pipeline *p)
{
    if (p->generation > core->broken_generation) core->replan_wait_us = 0;
}

/* ---- is it one that can be served? ---- */

/* The ranks of one planned pipeline. */
struct run {
    const struct gw_core_plan_rank *ranks;
    uint32_t len;
};

static struct run next_run(const struct gw_core_plan *plan, uint32_t at)
{
    struct run run = {&plan->ranks[at], 1};
    while (at + run.len < plan->ranks_len && run.ranks[run.len].pipeline == run.ranks[0].pipeline) run.len++;
    return run;
}

/* Sorted by stage and share, each stage all shares of its groups, the stages all groups: every cell once. */
static bool tiles_grid(const struct gw_core *core, const struct run *run)
{
    uint32_t group = 0, share = 0, stage = 0;
    for (uint32_t i = 0; i < run->len; i++) {
        const struct gw_core_plan_rank *r = &run->ranks[i], *last = &run->ranks[i > 0 ? i - 1 : 0];
        if (share == core->config.shares) {
            group = last->cells.g1;
            share = 0;
            stage++;
        }
        bool same_groups = share == 0 || r->cells.g1 == last->cells.g1;
        if (r->stage != stage || r->cells.g0 != group || r->cells.g1 <= group || !same_groups) return false;
        if (r->cells.s0 != share || r->cells.s1 <= share || r->cells.s1 > core->config.shares) return false;
        share = r->cells.s1;
    }
    return share == core->config.shares && run->ranks[run->len - 1].cells.g1 == core->config.groups;
}

static bool names_twice(const struct run *run, uint32_t i)
{
    for (uint32_t k = 0; k < i; k++)
        if (run->ranks[k].link == run->ranks[i].link) return true;
    return false;
}

/* Why w cannot be rank i of the run; NULL if it can. */
static const char *judge_worker(const struct gw_core *core, const struct core_worker *w,
                                const struct core_worker *leader)
{
    if (!w) return "planned, but one of its workers is gone";
    if (w->state == CORE_DOOMED) return "planned, but one of its workers will go";
    if (w->hello.proto < CORE_PROTO_PIPELINE) return "planned with a worker that is a pipeline of its own";
    if (w->epoch == core->epoch) return "planned with a worker that another pipeline has";
    if (w->profile != leader->profile) return "planned with two numerics profiles";
    return NULL;
}

static const char *judge(const struct gw_core *core, const struct gw_core_plan *plan, const struct run *run)
{
    if (run->ranks > plan->ranks && run->ranks[-1].pipeline > run->ranks[0].pipeline)
        return "planned out of order";
    if (run->len > GW_WIRE_RANKS_MAX) return "planned with too many ranks";
    const struct core_worker *leader = gw_id_map_get(&core->links, run->ranks[0].link);
    for (uint32_t i = 0; i < run->len; i++) {
        const struct core_worker *w = gw_id_map_get(&core->links, run->ranks[i].link);
        const char *why = judge_worker(core, w, leader);
        if (why) return why;
        if (names_twice(run, i)) return "planned with one worker twice";
    }
    return tiles_grid(core, run) ? NULL : "planned without holding each cell once";
}

/* ---- against what is there ---- */

static bool is_run(const struct core_pipeline *p, const struct run *run)
{
    if (p->single || p->ranks_len != run->len) return false;
    for (uint32_t i = 0; i < run->len; i++) {
        const struct gw_core_plan_rank *r = &run->ranks[i];
        if (p->ranks[i].worker->link != r->link || p->ranks[i].stage != r->stage) return false;
        struct gw_cell_rect a = p->ranks[i].cells, b = r->cells;
        if (a.g0 != b.g0 || a.g1 != b.g1 || a.s0 != b.s0 || a.s1 != b.s1) return false;
    }
    return true;
}

/* The pipeline that is what run wants. With the same ranks one may serve and another be prepared (that replaces one
 * that was being drained): the older, which serves. */
static struct core_pipeline *find_same(const struct gw_core *core, const struct run *run)
{
    for (struct core_pipeline *p = core->pipelines; p; p = p->next)
        if (is_run(p, run)) return p;
    return NULL;
}

static gw_err_t create(struct gw_core *core, const struct run *run, struct core_pipeline **out)
{
    TRY(core_pipeline_create(core, run->len, out));
    for (uint32_t i = 0; i < run->len; i++) {
        const struct gw_core_plan_rank *r = &run->ranks[i];
        struct core_worker *w = gw_id_map_get(&core->links, r->link);
        (*out)->ranks[i] = (struct core_rank){.worker = w, .stage = r->stage, .cells = r->cells};
    }
    (*out)->profile = core_leader(*out)->profile;
    return GW_OK;
}

/* Marks the pipeline that is run, or makes it. Returns why there is none, or NULL. */
static const char *take(struct gw_core *core, const struct gw_core_plan *plan, const struct run *run)
{
    const char *why = judge(core, plan, run);
    if (why) return why;
    struct core_pipeline *p = find_same(core, run);
    if (!p && create(core, run, &p) != GW_OK) return "planned, but the controller is out of memory";
    p->planned = true;
    for (uint32_t i = 0; i < run->len; i++) p->ranks[i].worker->epoch = core->epoch;
    return NULL;
}

/* Returns how many pipelines were taken. */
static uint32_t take_all(struct gw_core *core, int64_t now_us, const struct gw_core_plan *plan)
{
    uint32_t taken = 0;
    for (uint32_t at = 0; at < plan->ranks_len;) {
        struct run run = next_run(plan, at);
        const char *why = take(core, plan, &run);
        at += run.len;
        taken += why == NULL;
        if (!why) continue;
        core_note(core, GW_NOTE_PIPELINE_DEAD, NULL, NULL, why);
        /* A planner that errs about the fleet as it is errs again; but not at once, and the fleet changes. */
        if (plan->fleet != core->fleet)
            core->plan_due = true;
        else
            core_want_plan_later(core, now_us);
    }
    return taken;
}

void core_on_plan(struct gw_core *core, int64_t now_us, const struct gw_core_plan *plan)
{
    core->epoch++;
    core->planned_fleet = plan->fleet;
    core->review_due = true;
    for (struct core_pipeline *p = core->pipelines; p; p = p->next) p->planned = p->single;
    struct gw_note *n = core_note(core, GW_NOTE_EPOCH, NULL, NULL, "");
    size_t note = core->actions_len - 1;
    n->generation = core->epoch;
    uint32_t taken = take_all(core, now_us, plan);
    core->actions[note].note.count = taken; /* the list may have moved */
    struct core_pipeline *next;
    for (struct core_pipeline *p = core->pipelines; p; p = next) {
        next = p->next;
        p->retired = !p->planned;
        bool prepared = p->state == CORE_FORMING || p->state == CORE_READY;
        if (prepared && !p->planned) core_pipeline_end(core, p, now_us, "planned away", true);
    }
    for (struct core_pipeline *p = core->pipelines; p; p = p->next)
        if (p->epoch == core->epoch && !p->single) core_pipeline_assign(core, p, now_us);
}
