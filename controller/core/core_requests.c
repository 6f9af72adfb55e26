#include "controller/core/core_internal.h"

#include <assert.h>
#include <stdlib.h>

/* ---- lists ---- */

void core_list_push(struct core_list *list, struct core_request *r)
{
    assert(!r->list);
    r->list = list;
    r->prev = list->last;
    r->next = NULL;
    if (list->last)
        list->last->next = r;
    else
        list->first = r;
    list->last = r;
    list->len++;
}

void core_list_remove(struct core_request *r)
{
    struct core_list *list = r->list;
    assert(list && list->len > 0);
    if (r->prev)
        r->prev->next = r->next;
    else
        list->first = r->next;
    if (r->next)
        r->next->prev = r->prev;
    else
        list->last = r->prev;
    list->len--;
    r->list = NULL;
    r->prev = r->next = NULL;
}

/* ---- on and off a pipeline ---- */

void core_release(struct gw_core *core, struct core_request *r)
{
    if (!r->reserved) return;
    assert(r->reserved->alone == r);
    r->reserved->alone = NULL;
    r->reserved = NULL;
    core->pipelines_reserved--;
    core->review_due = true;
    core->dispatch_due = true;
}

void core_request_attach(struct core_request *r, struct core_pipeline *p)
{
    core_list_remove(r);
    core_list_push(&p->requests, r);
    r->pipeline = p;
    r->state = CORE_RUNNING;
    r->attempt++;
    r->home = 0;
    r->started = r->has_origin = false;
    r->prefill_tokens = r->request->prompt_len + core_request_committed(r);
    p->branches += r->open;
    p->prefill_tokens += r->prefill_tokens;
}

void core_request_detach(struct gw_core *core, struct core_request *r)
{
    struct core_pipeline *p = r->pipeline;
    if (r->state == CORE_MOVING) p->moving--;
    if (r->warm.pending && --p->warming == 0) core->review_due = true;
    r->left = p->generation;
    p->branches -= r->open;
    p->prefill_tokens -= r->prefill_tokens;
    r->prefill_tokens = 0;
    r->pipeline = NULL;
    r->state = CORE_QUEUED;
    core_list_remove(r);
    core_release(core, r);
    if (p->moving == 0) p->handoff_deadline_us = 0;
    if (p->state == CORE_DRAINING && p->requests.len == 0) core->review_due = true;
    core->dispatch_due = true;
}

/* Detached → the right queue. What is held would else all go to other pipelines, and the successors begin empty. */
static void requeue(struct gw_core *core, struct core_request *r, int64_t now_us, bool hold)
{
    r->wait_until_us = now_us + core->config.max_queue_wait_us;
    core_list_push(r->alone ? &core->alone : hold ? &core->held : &core->retry[r->profile], r);
    core->dispatch_due = true;
}

void core_requests_unhold(struct gw_core *core, int64_t now_us)
{
    while (core->held.first) {
        struct core_request *r = core->held.first;
        core_list_remove(r);
        requeue(core, r, now_us, false);
    }
}

/* ---- ends ---- */

void core_request_free(struct core_request *r)
{
    for (uint32_t i = 0; i < r->request->n; i++) core_log_fini(&r->logs[i]);
    gw_request_destroy(r->request);
    free(r->holders);
    free(r);
}

static void forget(struct gw_core *core, struct core_request *r)
{
    core_warm_end(core, r, NULL);
    if (r->pipeline)
        core_request_detach(core, r);
    else {
        core_release(core, r);
        if (r->list) core_list_remove(r);
    }
    gw_id_map_remove(&core->requests, r->request->id);
    r->next = core->dead_requests;
    core->dead_requests = r;
}

void core_request_fail(struct gw_core *core, struct core_request *r, gw_err_t code, const char *text)
{
    if (r->pipeline) core_send_cancel(core, r, GW_BRANCH_ALL);
    struct gw_action *a = core_act(core, GW_ACT_FAILED);
    a->failed.request = r->request->id;
    a->failed.code = code;
    a->failed.text = text;
    core->stats.failed++;
    forget(core, r);
}

void core_branch_end(struct gw_core *core, struct core_request *r, uint32_t branch)
{
    assert(!r->logs[branch].done && r->open > 0);
    r->logs[branch].done = true;
    r->open--;
    if (r->pipeline) r->pipeline->branches--;
    core->dispatch_due = true;
    if (r->open > 0) return;
    core_act(core, GW_ACT_DONE)->done.request = r->request->id;
    core->stats.done++;
    forget(core, r);
}

/* ---- loss ---- */

/* Poison rule: a loss counts if the request had begun and nothing was committed since the last one. A commit
 * takes the suspicion back: what kills workers at one position kills them there each time. */
static void count_loss(struct gw_core *core, struct core_request *r)
{
    bool counts = r->started && !r->progressed;
    if (r->progressed) r->alone = false;
    r->progressed = false;
    if (!counts || ++r->idle_losses < CORE_IDLE_LOSSES || r->alone) return;
    r->alone = true;
    core_note(core, GW_NOTE_REQUEST_ALONE, NULL, r, "two workers were lost while it ran and nothing came");
}

static bool is_fatal_loss(const struct core_request *r)
{
    return r->started && !r->progressed && r->idle_losses + 1 >= CORE_FATAL_LOSSES;
}

void core_request_lost(struct gw_core *core, struct core_request *r, int64_t now_us, bool announced)
{
    bool hold = r->pipeline->cutting;
    if (r->started) core_holders_left(r, r->pipeline);
    core_request_detach(core, r);
    r->announced = announced;
    if (!announced) {
        if (is_fatal_loss(r)) {
            core_request_fail(core, r, GW_ERR_INTERNAL, "each worker that ran this request was lost");
            return;
        }
        count_loss(core, r);
    }
    requeue(core, r, now_us, hold);
}

/* ---- events of the front ---- */

gw_err_t core_request_admit(struct gw_core *core, struct gw_request *request, struct core_request **out)
{
    TRY(core_actions_reserve(core, core->requests.len + 1, core->workers_len));
    struct core_request *r = calloc(1, sizeof *r + request->n * sizeof r->logs[0]);
    if (!r) return GW_ERR_MEMORY;
    gw_err_t err = gw_id_map_put(&core->requests, request->id, r);
    if (err != GW_OK) {
        free(r);
        return err;
    }
    r->request = request;
    r->open = request->n;
    *out = r;
    return GW_OK;
}

void core_on_submit(struct gw_core *core, int64_t now_us, struct gw_request *request)
{
    struct core_request *r = NULL;
    assert(request->id != 0 && request->n >= 1 && !gw_id_map_get(&core->requests, request->id));
    gw_err_t err =
        core->fresh.len >= core->config.max_queued ? GW_ERR_LIMIT : core_request_admit(core, request, &r);
    if (err != GW_OK) {
        struct gw_action *a = core_act(core, GW_ACT_FAILED);
        a->failed.request = request->id;
        a->failed.code = err;
        a->failed.text = err == GW_ERR_LIMIT ? "too many requests are waiting for a worker" : "out of memory";
        core->stats.failed++;
        gw_request_destroy(request);
        return;
    }
    core->stats.accepted++;
    core_act(core, GW_ACT_ACCEPTED)->accepted.request = request->id;
    r->wait_until_us = now_us + core->config.max_queue_wait_us;
    core_list_push(&core->fresh, r);
    core->dispatch_due = true;
}

void core_on_cancel(struct gw_core *core, uint64_t request)
{
    struct core_request *r = gw_id_map_get(&core->requests, request);
    if (!r) return;
    if (r->pipeline) core_send_cancel(core, r, GW_BRANCH_ALL);
    core->stats.cancelled++;
    forget(core, r);
}

void core_on_stop(struct gw_core *core, uint64_t request, uint32_t branch, uint32_t keep)
{
    struct core_request *r = gw_id_map_get(&core->requests, request);
    if (!r || branch >= r->request->n || r->logs[branch].done) return;
    if (keep < r->logs[branch].len) r->logs[branch].len = keep;
    if (r->pipeline) core_send_cancel(core, r, r->open == 1 ? GW_BRANCH_ALL : branch);
    core_branch_end(core, r, branch);
}

/* ---- events of workers ---- */

struct core_request *core_request_of(struct gw_core *core, const struct core_pipeline *p, uint64_t id,
                                     uint32_t attempt)
{
    struct core_request *r = gw_id_map_get(&core->requests, id);
    if (r && r->pipeline == p && r->attempt == attempt) return r;
    core->stats.stale_frames++;
    return NULL;
}

void core_on_reject(struct gw_core *core, const struct core_pipeline *p, const struct gw_msg_reject *m)
{
    struct core_request *r = core_request_of(core, p, m->request, m->attempt);
    if (!r) return;
    char *text = core_arena_alloc(core, sizeof m->text);
    if (text)
        for (size_t i = 0; m->text[i]; i++) text[i] = m->text[i];
    core_request_fail(core, r, (gw_err_t)m->code, text ? text : "the worker refused this request");
}

/* ---- queues ---- */

uint32_t core_request_committed(const struct core_request *r)
{
    uint32_t sum = 0;
    for (uint32_t i = 0; i < r->request->n; i++) sum += r->logs[i].len;
    return sum;
}

/* Each queue is in order of deadlines, so the first one tells. */
static void list_tick(struct gw_core *core, struct core_list *list, int64_t now_us)
{
    while (list->first && list->first->wait_until_us <= now_us)
        core_request_fail(core, list->first, GW_ERR_LIMIT, "no worker had room for it in time");
}

void core_queues_tick(struct gw_core *core, int64_t now_us)
{
    list_tick(core, &core->fresh, now_us);
    list_tick(core, &core->alone, now_us);
    list_tick(core, &core->held, now_us);
    for (uint32_t p = 0; p <= core->profiles_len; p++) list_tick(core, &core->retry[p], now_us);
}

static int64_t list_due_us(const struct core_list *list)
{
    return list->first ? list->first->wait_until_us : INT64_MAX;
}

int64_t core_queues_due_us(const struct gw_core *core)
{
    int64_t due_us = list_due_us(&core->fresh);
    if (list_due_us(&core->alone) < due_us) due_us = list_due_us(&core->alone);
    if (list_due_us(&core->held) < due_us) due_us = list_due_us(&core->held);
    for (uint32_t p = 0; p <= core->profiles_len; p++)
        if (list_due_us(&core->retry[p]) < due_us) due_us = list_due_us(&core->retry[p]);
    return due_us;
}

uint32_t core_queues_len(const struct gw_core *core)
{
    uint32_t len = core->fresh.len + core->alone.len + core->held.len;
    for (uint32_t p = 0; p <= core->profiles_len; p++) len += core->retry[p].len;
    return len;
}
