#include "controller/core/core_internal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* ---- tables ---- */

gw_err_t core_pipeline_create(struct gw_core *core, uint32_t ranks_len, struct core_pipeline **out)
{
    assert(ranks_len >= 1 && ranks_len <= GW_WIRE_RANKS_MAX);
    struct core_pipeline *p = calloc(1, sizeof *p + ranks_len * sizeof p->ranks[0]);
    if (!p) return GW_ERR_MEMORY;
    while (core->numbers[p->number]) p->number++;
    assert(p->number < core->config.max_workers * CORE_PIPELINES_PER_WORKER);
    core->numbers[p->number] = p;
    p->generation = ++core->last_generation;
    p->epoch = core->epoch;
    p->ranks_len = ranks_len;
    p->prev = core->last_pipeline;
    if (p->prev)
        p->prev->next = p;
    else
        core->pipelines = p;
    core->last_pipeline = p;
    core->review_due = true;
    *out = p;
    return GW_OK;
}

/* Out of the tables; its memory stays until the next step. */
static void pipeline_remove(struct gw_core *core, struct core_pipeline *p)
{
    core->numbers[p->number] = NULL;
    if (p->prev)
        p->prev->next = p->next;
    else
        core->pipelines = p->next;
    if (p->next)
        p->next->prev = p->prev;
    else
        core->last_pipeline = p->prev;
    p->next = core->dead_pipelines;
    core->dead_pipelines = p;
}

struct core_pipeline *core_pipeline_find(const struct gw_core *core, uint32_t number, uint64_t generation)
{
    if (number >= core->config.max_workers * CORE_PIPELINES_PER_WORKER) return NULL;
    struct core_pipeline *p = core->numbers[number];
    return p && p->generation == generation ? p : NULL;
}

/* ---- forming ---- */

/* All ranks as those that speak proto must know them; NULL without memory. */
static struct gw_assign_rank *assign_ranks(struct gw_core *core, const struct core_pipeline *p,
                                           uint16_t proto)
{
    struct gw_assign_rank *ranks = core_arena_alloc(core, p->ranks_len * sizeof *ranks);
    for (uint32_t i = 0; ranks && i < p->ranks_len; i++) {
        const struct gw_msg_hello *h = &p->ranks[i].worker->hello;
        memcpy(ranks[i].worker, h->worker, sizeof ranks[i].worker);
        memcpy(ranks[i].data, h->data, sizeof ranks[i].data);
        memcpy(ranks[i].machine, h->machine, sizeof ranks[i].machine);
        if (proto >= CORE_PROTO_KV && h->proto >= CORE_PROTO_KV)
            memcpy(ranks[i].pages, h->pages, sizeof ranks[i].pages);
        ranks[i].stage = p->ranks[i].stage;
        ranks[i].cells = p->ranks[i].cells;
    }
    return ranks;
}

void core_pipeline_assign(struct gw_core *core, struct core_pipeline *p, int64_t now_us)
{
    struct gw_assign_rank *older = assign_ranks(core, p, CORE_PROTO_PIPELINE);
    struct gw_assign_rank *newer = assign_ranks(core, p, CORE_PROTO_KV);
    p->state = CORE_FORMING;
    p->prepare_deadline_us = now_us + core->config.prepare_timeout_us;
    core_moves_due(core, p->prepare_deadline_us);
    core_note_pipeline(core, GW_NOTE_PIPELINE_FORMING, p, "")->count = p->ranks_len;
    for (uint32_t i = 0; i < p->ranks_len; i++) {
        assert(!p->ranks[i].worker->prepared);
        p->ranks[i].worker->prepared = p;
        struct gw_assign_rank *ranks = p->ranks[i].worker->hello.proto < CORE_PROTO_KV ? older : newer;
        /* Without memory it is not READY in time. */
        struct gw_msg *m = ranks ? core_send(core, p->ranks[i].worker, p, GW_MSG_ASSIGN) : NULL;
        if (!m) continue;
        m->assign =
            (struct gw_msg_assign){.epoch = p->epoch, .self = i, .ranks_len = p->ranks_len, .ranks = ranks};
        m->assign.sources_len = core_sources_for(core, p, i, &m->assign.sources);
    }
}

static struct core_rank *rank_of(struct core_pipeline *p, const struct core_worker *w)
{
    uint32_t i = 0;
    while (p->ranks[i].worker != w) i++;
    return &p->ranks[i];
}

static uint32_t smaller(uint32_t a, uint32_t b)
{
    return a == 0 || b < a ? b : a;
}

void core_on_ready(struct gw_core *core, struct core_pipeline *p, struct core_worker *w,
                   const struct gw_msg_ready *m)
{
    struct core_rank *rank = rank_of(p, w);
    if (rank->ready) {
        core->stats.stale_frames++;
        return;
    }
    rank->ready = true;
    rank->loaded_bytes = m->loaded_bytes;
    p->kv_tokens = smaller(p->kv_tokens, m->kv_tokens);
    p->context = smaller(p->context, m->context);
    if (!w->serving) w->holds = rank->cells;
    if (++p->ready_len < p->ranks_len) return;
    p->state = CORE_READY;
    core->review_due = true;
}

void core_pipeline_start(struct gw_core *core, struct core_pipeline *p)
{
    p->state = CORE_SERVING;
    for (uint32_t i = 0; i < p->ranks_len; i++) {
        struct core_worker *w = p->ranks[i].worker;
        w->serving = p;
        w->prepared = NULL;
        w->holds = p->ranks[i].cells;
        (void)core_send(core, w, p, GW_MSG_START); /* without memory the first step fails: BROKEN */
    }
    core_note_pipeline(core, GW_NOTE_PIPELINE_SERVING, p, "")->count = p->ranks_len;
    core->review_due = true;
    core->dispatch_due = true;
}

/* ---- the end ---- */

/* Ranks that are dead, or serve in its successor, are no longer p's. */
static void release_ranks(struct gw_core *core, struct core_pipeline *p)
{
    for (uint32_t i = 0; i < p->ranks_len; i++) {
        struct core_worker *w = p->ranks[i].worker;
        if (w->serving != p && w->prepared != p) continue;
        if (w->serving == p) w->serving = NULL;
        if (w->prepared == p) w->prepared = NULL;
        (void)core_send(core, w, p, GW_MSG_RELEASE); /* without memory: until its next ASSIGN or START */
    }
}

void core_pipeline_end(struct gw_core *core, struct core_pipeline *p, int64_t now_us, const char *why,
                       bool announced)
{
    if (!p->single) {
        struct gw_note *n = core_note_pipeline(core, GW_NOTE_PIPELINE_DEAD, p, why);
        n->announced = announced;
        n->count = p->requests.len;
    }
    release_ranks(core, p);
    pipeline_remove(core, p);
    if (p->state == CORE_SERVING || p->state == CORE_DRAINING) core_holders_bury(core, p);
    core_warm_target_lost(core, p);
    if (p->alone) core_release(core, p->alone);
    while (p->requests.first) core_request_lost(core, p->requests.first, now_us, announced);
    core->review_due = true;
    core->dispatch_due = true;
}

void core_on_broken(struct gw_core *core, struct core_pipeline *p, const struct core_worker *w,
                    int64_t now_us, const struct gw_msg_broken *m)
{
    char *text = core_arena_alloc(core, sizeof m->text);
    if (text) memcpy(text, m->text, sizeof m->text);
    /* Of a doomed one it is most likely that worker's end, seen by its peers first. */
    bool announced = core_pipeline_deadline_us(p) != INT64_MAX;
    core_apart_blame(core, p, w, m->rank);
    core_pipeline_end(core, p, now_us, text ? text : "broken", announced);
    core_want_plan_later(core, now_us);
}

void core_pipeline_timed_out(struct gw_core *core, struct core_pipeline *p, int64_t now_us)
{
    core_pipeline_end(core, p, now_us, "not all of its ranks were ready in time", false);
    core_want_plan_later(core, now_us);
}
