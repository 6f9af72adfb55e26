#include "controller/core/core_internal.h"

#include <assert.h>
#include <string.h>

/* BACKGROUND: a worker is a rank of at most one pipeline that serves and of one that is prepared. Pipelines that
 * share workers, directly or through others, form a component: its new ones can start only together, when its old
 * ones have ended.
 *
 *     old       A: w1 w2 w3 w4                 new ones of w1 … w4 are B and C: one component {A, B, C}
 *     new       B: w1 w2     C: w3 w4          B may not start before C is ready, A serves until then
 *
 * BEHAVIOR: nothing about a transition is remembered. Each review looks at what is there and decides anew:
 *
 *     leave p      all new ones of its component are READY
 *                  or p is doomed or planned away, no new one will follow it, and another pipeline can take its requests
 *     drain p      it is to leave, and the copy of what runs on it is made (core_warm.c), of its whole component if new
 *                  ones follow
 *                  or p is doomed, and its deadline is nearer than the margin
 *                  or p is to leave, and another of its component drains: no START before that, so no time to copy
 *     serve on     otherwise; also when it was being drained (a new one broke, a notice was taken back). What was
 *                  cut over meanwhile is handed off and comes back like any other request
 *     start new    all new ones of a component are READY, and its old ones are drained and empty; these end
 *     end p        it is drained and empty, and no READY one is about to follow
 *
 * What is remembered of a copy is how long it may take, and what was sent.
 *
 * It converges because a review that changes a state asks for another, and states only go back when something was
 * lost or taken back from outside.
 *
 * What is handed off by pipelines whose new ones are READY waits for those (core->held): a moment later, but they do not
 * begin empty while others get everything.
 *
 * "No new one will follow" is known only when the last plan was made for the fleet as it is: until then p serves on. */

static struct core_pipeline *root_of(struct core_pipeline *p)
{
    while (p->root != p) {
        p->root = p->root->root;
        p = p->root;
    }
    return p;
}

static bool is_prepared(const struct core_pipeline *p)
{
    return p->state == CORE_FORMING || p->state == CORE_READY;
}

static bool is_drained(const struct core_pipeline *p)
{
    return p->state == CORE_DRAINING && p->requests.len == 0;
}

static bool is_doomed(const struct core_pipeline *p)
{
    return core_pipeline_deadline_us(p) != INT64_MAX;
}

static bool is_advised(const struct core_pipeline *p)
{
    for (uint32_t i = 0; i < p->ranks_len; i++)
        if (p->ranks[i].worker->advised) return true;
    return false;
}

/* Joins each new pipeline with the old ones of its workers, then sums up each component at its root. */
static void find_components(struct gw_core *core)
{
    for (struct core_pipeline *p = core->pipelines; p; p = p->next) {
        p->root = p;
        p->all_ready = p->all_drained = p->all_warm = true;
        p->heirs = false;
    }
    for (struct core_pipeline *p = core->pipelines; p; p = p->next)
        for (uint32_t i = 0; is_prepared(p) && i < p->ranks_len; i++) {
            struct core_pipeline *old = p->ranks[i].worker->serving;
            if (old) root_of(old)->root = root_of(p);
        }
    for (struct core_pipeline *p = core->pipelines; p; p = p->next) {
        struct core_pipeline *root = root_of(p);
        if (is_prepared(p)) {
            root->heirs = true;
            root->all_ready = root->all_ready && p->state == CORE_READY;
        } else {
            root->all_drained = root->all_drained && is_drained(p);
        }
    }
}

/* Which old ones are there to stay, and for which profiles there is a place to go. */
static void find_staying(struct gw_core *core)
{
    bool stays[CORE_PROFILES_MAX + 1] = {false};
    for (struct core_pipeline *p = core->pipelines; p; p = p->next) {
        p->advised = is_advised(p);
        p->stays = p->state == CORE_SERVING && !is_doomed(p) && (!p->retired || root_of(p)->heirs);
        if (p->stays && !p->alone) stays[CORE_PROFILE_NONE] = stays[p->profile] = true;
    }
    if (memcmp(stays, core->stays, sizeof stays) == 0) return;
    memcpy(core->stays, stays, sizeof stays);
    core->dispatch_due = true;
}

/* Is there a pipeline that what runs on p could go to? */
static bool has_target(const struct gw_core *core, const struct core_pipeline *p)
{
    return core->stays[core->config.profile_loss_continue ? CORE_PROFILE_NONE : p->profile];
}

bool core_may_follow(struct core_pipeline *p, struct core_pipeline *to)
{
    if (root_of(p)->heirs) return to->state == CORE_READY && root_of(to) == root_of(p);
    return to->stays && to != p;
}

static bool at_margin(const struct gw_core *core, const struct core_pipeline *p, int64_t now_us)
{
    int64_t deadline_us = core_pipeline_deadline_us(p);
    return deadline_us != INT64_MAX && now_us >= deadline_us - core->config.cutover_margin_us;
}

static bool must_leave(const struct gw_core *core, struct core_pipeline *p)
{
    const struct core_pipeline *root = root_of(p);
    if (root->heirs && root->all_ready) return true;
    if (root->heirs || (!is_doomed(p) && !p->retired)) return false;
    return (p->single || !core_plan_pending(core)) && has_target(core, p);
}

/* Begins the copies that are due, and finds whose are made. */
static void warm_up(struct gw_core *core, int64_t now_us)
{
    for (struct core_pipeline *p = core->pipelines; p; p = p->next) {
        if (is_prepared(p)) continue;
        bool leaves = must_leave(core, p);
        if (!leaves) core_warm_stop(p);
        if (p->state == CORE_SERVING && leaves)
            p->warm = at_margin(core, p, now_us) || core_warm_up(core, p, now_us);
        if (p->state == CORE_SERVING && !p->warm) root_of(p)->all_warm = false;
    }
    for (struct core_pipeline *p = core->pipelines; p; p = p->next)
        if (!is_prepared(p) && (p->state == CORE_DRAINING || at_margin(core, p, now_us)))
            root_of(p)->all_warm = true;
}

static bool must_drain(const struct gw_core *core, struct core_pipeline *p, int64_t now_us)
{
    const struct core_pipeline *root = root_of(p);
    if (at_margin(core, p, now_us)) return true;
    return must_leave(core, p) && (root->heirs ? root->all_warm : p->warm);
}

static void drain_or_serve(struct gw_core *core, struct core_pipeline *p, int64_t now_us)
{
    bool drain = must_drain(core, p, now_us);
    if (drain && p->state == CORE_SERVING) core_pipeline_drain(core, p, now_us);
    if (drain || p->state != CORE_DRAINING) return;
    p->state = CORE_SERVING;
    core->review_due = true;
    core->dispatch_due = true;
    if (!p->single) core_note_pipeline(core, GW_NOTE_PIPELINE_SERVING, p, "it goes on")->count = p->ranks_len;
}

/* New ones start before old ones end: then it is clear whose worker each is. */
static void start_ready(struct gw_core *core)
{
    for (struct core_pipeline *p = core->pipelines; p; p = p->next) {
        const struct core_pipeline *root = root_of(p);
        if (p->state == CORE_READY && root->all_ready && root->all_drained) core_pipeline_start(core, p);
    }
}

static void end_drained(struct gw_core *core, int64_t now_us)
{
    struct core_pipeline *next;
    for (struct core_pipeline *p = core->pipelines; p; p = next) {
        next = p->next;
        const struct core_pipeline *root = root_of(p);
        bool waits = root->heirs && root->all_ready && !root->all_drained; /* for others of its component */
        if (!p->single && is_drained(p) && !waits) core_pipeline_end(core, p, now_us, "drained", true);
    }
}

/* Which old ones are being emptied for new ones that are READY. */
static void find_cutting(struct gw_core *core, int64_t now_us)
{
    bool any = false;
    for (struct core_pipeline *p = core->pipelines; p; p = p->next) {
        const struct core_pipeline *root = root_of(p);
        p->cutting = !is_prepared(p) && root->heirs && root->all_ready && root->all_warm;
        any = any || p->cutting;
    }
    if (!any) core_requests_unhold(core, now_us);
}

void core_transitions_review(struct gw_core *core, int64_t now_us)
{
    while (core->review_due) {
        core->review_due = false;
        find_components(core);
        find_staying(core);
        warm_up(core, now_us);
        find_cutting(core, now_us);
        for (struct core_pipeline *p = core->pipelines; p; p = p->next)
            if (!is_prepared(p)) drain_or_serve(core, p, now_us);
        find_components(core);
        start_ready(core);
        end_drained(core, now_us);
    }
}
