#include "controller/core/core_internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

#define NOTICE_MAX_US (30 * 24 * 3600 * GW_US_PER_S) /* no cloud announces a reclaim earlier */

/* When w's notice, or its missing HANDOFFs, need a look next. */
static int64_t due_of(const struct gw_core *core, const struct core_worker *w)
{
    int64_t due_us = w->handoff_deadline_us ? w->handoff_deadline_us : INT64_MAX;
    if (w->state != CORE_DOOMED) return due_us;
    int64_t next_us = w->notice_deadline_us + core->config.doom_grace_us;
    if (w->requests.len > w->moving) next_us = w->notice_deadline_us - core->config.cutover_margin_us;
    return next_us < due_us ? next_us : due_us;
}

static void due_changed(struct gw_core *core, const struct core_worker *w)
{
    int64_t due_us = due_of(core, w);
    if (due_us < core->moves_due_us) core->moves_due_us = due_us;
}

/* ---- notices ---- */

static void doom(struct gw_core *core, struct core_worker *w, int64_t deadline_us)
{
    bool news = w->state != CORE_DOOMED, moved = !news && w->notice_deadline_us != deadline_us;
    core_worker_set_state(core, w, CORE_DOOMED);
    w->notice_deadline_us = deadline_us;
    if (w->alone && w->alone->state == CORE_QUEUED) core_release(core, w->alone);
    if (news || moved) {
        struct gw_note *n =
            core_note(core, GW_NOTE_WORKER_DOOMED, w, NULL, news ? "" : "the deadline was moved");
        n->announced = true;
        n->count = w->requests.len;
    }
    due_changed(core, w);
}

/* What was cut over stays so; its HANDOFFs are still awaited. */
static void undoom(struct gw_core *core, struct core_worker *w, const char *why)
{
    if (w->state != CORE_DOOMED) return;
    w->notice_deadline_us = 0;
    core_worker_set_state(core, w, CORE_UP);
    core_note(core, GW_NOTE_NOTICE_CANCELLED, w, NULL, why)->announced = true;
}

static int64_t clamp_deadline(int64_t now_us, int64_t deadline_us)
{
    if (deadline_us < now_us) return now_us;
    return deadline_us > now_us + NOTICE_MAX_US ? now_us + NOTICE_MAX_US : deadline_us;
}

void core_on_notice(struct gw_core *core, int64_t now_us, const char *name, uint8_t kind, int64_t deadline_us)
{
    bool cancel = kind == GW_NOTICE_CANCEL, is_worker = false;
    deadline_us = clamp_deadline(now_us, deadline_us);
    core_notice_remove(core, name, 0);
    for (uint32_t i = 0; i < core->workers_end; i++) {
        struct core_worker *w = core->workers[i];
        if (!w) continue;
        bool named = strcmp(w->hello.worker, name) == 0;
        if (!named && strcmp(w->hello.instance, name) != 0) continue;
        if (cancel) {
            core_notice_remove(core, w->hello.worker, 0);
            undoom(core, w, "the notice was cancelled");
            continue;
        }
        if (named) core_notice_put(core, name, w->hello.pid, deadline_us);
        is_worker = is_worker || named;
        doom(core, w, deadline_us);
    }
    if (!cancel && !is_worker) core_notice_put(core, name, 0, deadline_us);
}

void core_on_worker_notice(struct gw_core *core, struct core_worker *w, int64_t now_us,
                           const struct gw_msg_notice *m)
{
    int64_t deadline_us = clamp_deadline(now_us, now_us + (int64_t)m->deadline_ms * GW_US_PER_MS);
    if (m->kind == GW_NOTICE_CANCEL) {
        core_notice_remove(core, w->hello.worker, w->hello.pid);
        undoom(core, w, "the worker took its notice back");
        return;
    }
    core_notice_put(core, w->hello.worker, w->hello.pid, deadline_us);
    doom(core, w, deadline_us);
}

void core_moves_greet(struct gw_core *core, struct core_worker *w, int64_t now_us)
{
    int64_t deadline_us = core_notice_find(core, w, now_us);
    if (deadline_us != 0) doom(core, w, deadline_us);
}

/* ---- cutover ---- */

/* Marks the next (at most max) requests of w as MOVING and names them in m, which may be NULL. */
static struct core_request *mark_moving(struct core_worker *w, struct core_request *r, uint32_t max,
                                        struct gw_cutover_item *items, uint32_t *count)
{
    for (; r && *count < max; r = r->next) {
        if (r->state == CORE_MOVING) continue;
        r->state = CORE_MOVING;
        w->moving++;
        if (items) items[*count] = (struct gw_cutover_item){r->request->id, r->attempt};
        (*count)++;
    }
    return r;
}

/* No HANDOFF came, or will: the log is what we have. */
static void give_up(struct gw_core *core, struct core_worker *w, int64_t now_us, bool only_moving)
{
    w->handoff_deadline_us = 0;
    struct core_request *next;
    for (struct core_request *r = w->requests.first; r; r = next) {
        next = r->next;
        if (only_moving && r->state != CORE_MOVING) continue;
        core_send_cancel(core, r, GW_BRANCH_ALL);
        core_request_lost(core, r, now_us, true);
    }
}

/* All requests that are still scheduled on w shall leave it. Without memory for the message nobody hands off,
 * and the deadline does what it does for any lost worker. */
static void cutover(struct gw_core *core, struct core_worker *w, int64_t now_us)
{
    int64_t until_us = now_us + core->config.handoff_timeout_us;
    if (until_us > w->notice_deadline_us) until_us = w->notice_deadline_us;
    if (until_us <= now_us) {
        give_up(core, w, now_us, false);
        return;
    }
    struct core_request *r = w->requests.first;
    while (w->requests.len > w->moving) {
        uint32_t left = w->requests.len - w->moving, count = 0;
        uint32_t max = left < GW_WIRE_CUTOVER_MAX ? left : GW_WIRE_CUTOVER_MAX;
        struct gw_cutover_item *items = core_arena_alloc(core, max * sizeof *items);
        struct gw_msg *m = items ? core_send(core, w, GW_MSG_CUTOVER) : NULL;
        r = mark_moving(w, r, max, m ? items : NULL, &count);
        if (m) m->cutover = (struct gw_msg_cutover){count, items};
    }
    /* An earlier cutover's deadline holds for both: too early costs a recomputation, too late a stall. */
    if (w->handoff_deadline_us == 0 || until_us < w->handoff_deadline_us) w->handoff_deadline_us = until_us;
    due_changed(core, w);
}

void core_on_handoff(struct gw_core *core, struct core_worker *w, int64_t now_us,
                     const struct gw_msg_handoff *m)
{
    struct core_request *r = core_request_of(core, w, m->request, m->attempt);
    if (!r) return;
    /* Unasked: it has stopped working on it all the same. That counts, or it could go in circles for ever. */
    core_request_lost(core, r, now_us, r->state == CORE_MOVING);
    if (w->moving == 0) w->handoff_deadline_us = 0;
}

/* Is there a worker that what runs on w could go to? */
static bool has_target(const struct gw_core *core, const struct core_worker *w, const bool *profile_up)
{
    if (!core->config.profile_loss_continue) return profile_up[w->profile];
    for (uint32_t p = 1; p <= core->profiles_len; p++)
        if (profile_up[p]) return true;
    return false;
}

void core_moves_review(struct gw_core *core, int64_t now_us)
{
    bool profile_up[CORE_PROFILES_MAX + 1] = {false};
    if (!core->fleet_changed) return;
    core->fleet_changed = false;
    for (uint32_t i = 0; i < core->workers_end; i++) {
        const struct core_worker *w = core->workers[i];
        if (w && w->state == CORE_UP && !w->alone) profile_up[w->profile] = true;
    }
    for (uint32_t i = 0; i < core->workers_end; i++) {
        struct core_worker *w = core->workers[i];
        if (!w || w->state != CORE_DOOMED || w->requests.len == w->moving) continue;
        if (has_target(core, w, profile_up)) cutover(core, w, now_us);
    }
}

static void worker_tick(struct gw_core *core, struct core_worker *w, int64_t now_us)
{
    if (w->handoff_deadline_us != 0 && w->handoff_deadline_us <= now_us) give_up(core, w, now_us, true);
    if (w->state != CORE_DOOMED) return;
    if (w->requests.len > w->moving && now_us >= w->notice_deadline_us - core->config.cutover_margin_us)
        cutover(core, w, now_us);
    if (now_us >= w->notice_deadline_us + core->config.doom_grace_us)
        undoom(core, w, "its deadline has long passed and it lives");
}

void core_moves_tick(struct gw_core *core, int64_t now_us)
{
    if (now_us < core->moves_due_us) return;
    int64_t due_us = INT64_MAX;
    for (uint32_t i = 0; i < core->workers_end; i++) {
        struct core_worker *w = core->workers[i];
        if (!w) continue;
        worker_tick(core, w, now_us);
        if (due_of(core, w) < due_us) due_us = due_of(core, w);
    }
    core->moves_due_us = due_us;
}
