#include "controller/core/core_internal.h"

#include <stdlib.h>

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

int64_t core_pipeline_deadline_us(const struct core_pipeline *p)
{
    int64_t deadline_us = INT64_MAX;
    for (uint32_t i = 0; i < p->ranks_len; i++)
        if (p->ranks[i].worker->state == CORE_DOOMED)
            deadline_us = earlier(deadline_us, p->ranks[i].worker->notice_deadline_us);
    return deadline_us;
}

/* ---- cutover ---- */

/* Marks the next (at most max) requests of p as MOVING and names them in items, which may be NULL. */
static struct core_request *mark_moving(struct core_pipeline *p, struct core_request *r, uint32_t max,
                                        struct gw_cutover_item *items, uint32_t *count)
{
    for (; r && *count < max; r = r->next) {
        if (r->state == CORE_MOVING) continue;
        r->state = CORE_MOVING;
        p->moving++;
        if (items) items[*count] = (struct gw_cutover_item){r->request->id, r->attempt};
        (*count)++;
    }
    return r;
}

/* No HANDOFF came, or will: the log is what we have. */
static void give_up(struct gw_core *core, struct core_pipeline *p, int64_t now_us, bool only_moving)
{
    p->handoff_deadline_us = 0;
    struct core_request *next;
    for (struct core_request *r = p->requests.first; r; r = next) {
        next = r->next;
        if (only_moving && r->state != CORE_MOVING) continue;
        core_send_cancel(core, r, GW_BRANCH_ALL);
        core_request_lost(core, r, now_us, true);
    }
}

/* Without memory for the message nobody hands off, and the deadline does what it does for any lost worker. */
static void cutover(struct gw_core *core, struct core_pipeline *p)
{
    struct core_request *r = p->requests.first;
    while (p->requests.len > p->moving) {
        uint32_t left = p->requests.len - p->moving, count = 0;
        uint32_t max = left < GW_WIRE_CUTOVER_MAX ? left : GW_WIRE_CUTOVER_MAX;
        struct gw_cutover_item *items = core_arena_alloc(core, max * sizeof *items);
        struct gw_msg *m = items ? core_send(core, core_leader(p), p, GW_MSG_CUTOVER) : NULL;
        r = mark_moving(p, r, max, m ? items : NULL, &count);
        if (m) m->cutover = (struct gw_msg_cutover){count, items};
    }
}

void core_pipeline_drain(struct gw_core *core, struct core_pipeline *p, int64_t now_us)
{
    int64_t until_us = earlier(now_us + core->config.handoff_timeout_us, core_pipeline_deadline_us(p));
    p->state = CORE_DRAINING;
    core->review_due = true;
    if (!p->single) core_note_pipeline(core, GW_NOTE_PIPELINE_DRAINING, p, "")->count = p->requests.len;
    if (p->alone && p->alone->state == CORE_QUEUED) core_release(core, p->alone);
    if (until_us <= now_us) {
        give_up(core, p, now_us, false);
        return;
    }
    if (p->requests.len == p->moving) return;
    cutover(core, p);
    /* An earlier cutover's deadline holds for both: too early costs a recomputation, too late a stall. */
    if (p->handoff_deadline_us == 0 || until_us < p->handoff_deadline_us) p->handoff_deadline_us = until_us;
    core_moves_due(core, p->handoff_deadline_us);
}

void core_on_handoff(struct gw_core *core, struct core_pipeline *p, int64_t now_us,
                     const struct gw_msg_handoff *m)
{
    struct core_request *r = core_request_of(core, p, m->request, m->attempt);
    if (!r) return;
    /* Unasked: it has stopped working on it all the same. That counts, or it could go in circles for ever. */
    core_request_lost(core, r, now_us, r->state == CORE_MOVING);
}

/* ---- deadlines ---- */

void core_moves_due(struct gw_core *core, int64_t due_us)
{
    if (due_us < core->moves_due_us) core->moves_due_us = due_us;
}

/* When p needs a look next. */
static int64_t pipeline_due_us(const struct gw_core *core, const struct core_pipeline *p)
{
    int64_t due_us = p->handoff_deadline_us ? p->handoff_deadline_us : INT64_MAX;
    int64_t deadline_us = core_pipeline_deadline_us(p);
    if (p->state == CORE_FORMING) return p->prepare_deadline_us;
    if (p->state == CORE_SERVING && p->warm_until_us != 0 && !p->warm)
        due_us = earlier(due_us, p->warm_until_us);
    if (p->state != CORE_SERVING || deadline_us == INT64_MAX) return due_us;
    return earlier(due_us, deadline_us - core->config.cutover_margin_us);
}

static int64_t worker_due_us(const struct gw_core *core, const struct core_worker *w)
{
    return w->state == CORE_DOOMED ? w->notice_deadline_us + core->config.doom_grace_us : INT64_MAX;
}

/* p may be gone afterwards. */
static void pipeline_tick(struct gw_core *core, struct core_pipeline *p, int64_t now_us)
{
    if (p->handoff_deadline_us != 0 && p->handoff_deadline_us <= now_us) give_up(core, p, now_us, true);
    if (pipeline_due_us(core, p) > now_us) return;
    if (p->state == CORE_FORMING)
        core_pipeline_timed_out(core, p, now_us);
    else
        core->review_due = true; /* the margin is reached */
}

void core_moves_tick(struct gw_core *core, int64_t now_us)
{
    if (now_us < core->moves_due_us) return;
    struct core_pipeline *next;
    for (struct core_pipeline *p = core->pipelines; p; p = next) {
        next = p->next;
        pipeline_tick(core, p, now_us);
    }
    for (uint32_t i = 0; i < core->workers_end; i++) {
        struct core_worker *w = core->workers[i];
        if (w && worker_due_us(core, w) <= now_us)
            core_worker_undoom(core, w, "its deadline has long passed and it lives");
    }
    core_plan_tick(core, now_us);
}

void core_moves_rearm(struct gw_core *core)
{
    int64_t due_us = core->replan_at_us;
    for (const struct core_pipeline *p = core->pipelines; p; p = p->next)
        due_us = earlier(due_us, pipeline_due_us(core, p));
    for (uint32_t i = 0; i < core->workers_end; i++)
        if (core->workers[i]) due_us = earlier(due_us, worker_due_us(core, core->workers[i]));
    core->moves_due_us = due_us;
}
