#include "controller/core/core_internal.h"

#include <assert.h>
#include <stdlib.h>

#include "base/clock.h"

/* BACKGROUND: a request that moves goes on at once where its KV is, and after a prefill of all that it has said where it
 * is not. Sealed pages never change, so most of its KV can be copied while it still runs.
 *
 * BEHAVIOR: a pipeline that is to leave (core_transitions.c) serves on while its requests are copied, in rounds:
 *
 *     round    every request that runs and has begun is given a target among those that may follow, the one that will
 *              have least KV to hold; those with most KV choose first, and one that fits nowhere is not copied. WARM to
 *              the target's leader. The round ends with its last WARMED
 *     again    for those that came meanwhile, whose target has ended, or whose copy took over a second, in which they
 *              went on by some blocks: at most CORE_WARM_ROUNDS rounds, each for less than the one before
 *     the end  no round is left, or warm_timeout, or (core_transitions.c) the margin before a deadline: what has not
 *              been copied is fetched or computed after the move
 *
 * A request has one copy at most: one that goes elsewhere, or ends, takes it back (CANCEL). dispatch prefers the target.
 *
 * It converges because rounds are counted, and the count starts anew only when what the pipeline leaves for has changed. */
#define CORE_WARM_ROUNDS  3
#define CORE_WARM_SLOW_US GW_US_PER_S
#define CORE_WARM_AGAIN_TOKENS                                                                               \
    64 /* records since the copy that make another worth its message: four blocks */

struct core_pipeline *core_warm_target(const struct gw_core *core, const struct core_request *r)
{
    return r->warm.generation ? core_pipeline_find(core, r->warm.number, r->warm.generation) : NULL;
}

static void no_longer_pending(struct gw_core *core, struct core_request *r)
{
    if (!r->warm.pending) return;
    r->warm.pending = false;
    if (!r->pipeline) return;
    assert(r->pipeline->warming > 0);
    if (--r->pipeline->warming == 0) core->review_due = true;
}

void core_warm_end(struct gw_core *core, struct core_request *r, const struct core_pipeline *to)
{
    const struct core_pipeline *target = core_warm_target(core, r);
    no_longer_pending(core, r);
    if (target && target != to) {
        struct gw_msg *m = core_send(core, core_leader(target), target, GW_MSG_CANCEL);
        /* Without memory its pages stay until others need the room. */
        if (m) m->cancel = (struct gw_msg_cancel){r->request->id, r->warm.attempt, GW_BRANCH_ALL};
    }
    r->warm = (struct core_warm){0};
}

void core_warm_target_lost(struct gw_core *core, const struct core_pipeline *target)
{
    if (core_leader(target)->hello.proto < CORE_PROTO_KV) return;
    for (struct core_pipeline *p = core->pipelines; p; p = p->next)
        for (struct core_request *r = p->requests.first; r && p->warming > 0; r = r->next)
            if (r->warm.generation == target->generation) no_longer_pending(core, r);
}

/* ---- a round ---- */

static bool is_target(struct core_pipeline *p, struct core_pipeline *to)
{
    return core_leader(to)->hello.proto >= CORE_PROTO_KV && to->profile == p->profile &&
           core_may_follow(p, to);
}

/* Shall r, which runs on p, be copied in the next round? */
static bool wants_copy(const struct gw_core *core, struct core_pipeline *p, const struct core_request *r)
{
    if (r->state != CORE_RUNNING || !r->started || r->alone) return false;
    struct core_pipeline *target = core_warm_target(core, r);
    if (!target || !is_target(p, target)) return true;
    if (r->warm.pending || r->warm.took_us <= CORE_WARM_SLOW_US) return false;
    return core_request_committed(r) >= r->warm.committed + CORE_WARM_AGAIN_TOKENS;
}

/* Most KV first; the older of equals. */
static int by_kv(const void *a, const void *b)
{
    const struct core_request *x = *(struct core_request *const *)a, *y = *(struct core_request *const *)b;
    uint32_t kv_x = core_request_kv_tokens(x), kv_y = core_request_kv_tokens(y);
    if (kv_x != kv_y) return kv_x > kv_y ? -1 : 1;
    return x->request->id < y->request->id ? -1 : 1;
}

/* *out = who wants a copy, in order; returns how many. None without memory: then nothing is copied ahead. */
static uint32_t list_wanting(struct gw_core *core, struct core_pipeline *p, struct core_request ***out)
{
    uint32_t len = 0;
    if (p->requests.len == 0) return 0;
    struct core_request **list = core_arena_alloc(core, p->requests.len * sizeof(struct core_request *));
    for (struct core_request *r = p->requests.first; list && r; r = r->next)
        if (wants_copy(core, p, r)) list[len++] = r;
    if (len > 0) qsort(list, len, sizeof(struct core_request *), by_kv);
    *out = list;
    return len;
}

/* Adds what is being copied for those of list, which run on p, or on nothing. */
static void sum_up_copies(struct gw_core *core, const struct core_list *list, const struct core_pipeline *p)
{
    for (const struct core_request *r = list->first; r; r = r->next) {
        struct core_pipeline *target = core_warm_target(core, r);
        if (target && target != p) target->warm_tokens += core_request_kv_tokens(r);
    }
}

/* What each pipeline has to hold already: what runs on it, and what is being copied there, be it for one whose own
 * pipeline has ended since and that waits for a place. */
static void sum_up_targets(struct gw_core *core)
{
    for (struct core_pipeline *p = core->pipelines; p; p = p->next) {
        p->warm_tokens = 0;
        for (const struct core_request *r = p->requests.first; r; r = r->next)
            p->warm_tokens += core_request_kv_tokens(r);
    }
    for (struct core_pipeline *p = core->pipelines; p; p = p->next) sum_up_copies(core, &p->requests, p);
    sum_up_copies(core, &core->alone, NULL);
    sum_up_copies(core, &core->held, NULL);
    for (uint32_t i = 0; i <= core->profiles_len; i++) sum_up_copies(core, &core->retry[i], NULL);
}

static struct core_pipeline *choose(const struct gw_core *core, struct core_pipeline *p, uint32_t tokens)
{
    struct core_pipeline *best = NULL;
    for (struct core_pipeline *to = core->pipelines; to; to = to->next) {
        if (!is_target(p, to)) continue;
        if (to->kv_tokens != 0 && to->warm_tokens + tokens > to->kv_tokens) continue;
        if (!best || to->warm_tokens < best->warm_tokens) best = to;
    }
    return best;
}

/* Again to the same target if it may still be one: it has most of the pages. */
static bool send_warm(struct gw_core *core, struct core_pipeline *p, struct core_request *r, int64_t now_us)
{
    uint32_t tokens = core_request_kv_tokens(r);
    struct core_pipeline *to = core_warm_target(core, r);
    bool again = to && is_target(p, to);
    if (!again) to = choose(core, p, tokens);
    if (!to) return false;
    core_warm_end(core, r, to);
    if (core_send_request(core, r, to, GW_MSG_WARM) != GW_OK) return false;
    if (!again) to->warm_tokens += tokens;
    r->warm = (struct core_warm){.generation = to->generation,
                                 .number = to->number,
                                 .attempt = r->attempt,
                                 .committed = core_request_committed(r),
                                 .pending = true,
                                 .sent_us = now_us};
    p->warming++;
    core->stats.warms++;
    return true;
}

static void begin_round(struct gw_core *core, struct core_pipeline *p, int64_t now_us)
{
    struct core_request **list = NULL;
    uint32_t len = list_wanting(core, p, &list), sent = 0;
    if (len == 0) return;
    sum_up_targets(core);
    for (uint32_t i = 0; i < len; i++) sent += send_warm(core, p, list[i], now_us);
    if (sent == 0) return;
    p->warm_rounds++;
    core_note_pipeline(core, GW_NOTE_PIPELINE_WARMING, p, "")->count = sent;
}

/* Copies from before, where p's requests will not go as things stand: nobody waits for them. */
static void drop_useless(struct gw_core *core, struct core_pipeline *p)
{
    for (struct core_request *r = p->requests.first; r; r = r->next) {
        struct core_pipeline *target = core_warm_target(core, r);
        if (target && !is_target(p, target)) core_warm_end(core, r, NULL);
    }
}

bool core_warm_up(struct gw_core *core, struct core_pipeline *p, int64_t now_us)
{
    if (p->warm_until_us == 0) {
        drop_useless(core, p);
        p->warm_until_us = now_us + core->config.warm_timeout_us;
        p->warm_rounds = 0;
        core_moves_due(core, p->warm_until_us);
    }
    if (now_us >= p->warm_until_us) return true;
    if (p->warming == 0 && p->warm_rounds < CORE_WARM_ROUNDS) begin_round(core, p, now_us);
    return p->warming == 0;
}

void core_warm_stop(struct core_pipeline *p)
{
    p->warm_until_us = 0;
    p->warm = false;
}

/* ---- what leaders say ---- */

void core_on_warmed(struct gw_core *core, struct core_pipeline *p, int64_t now_us,
                    const struct gw_msg_warmed *m)
{
    struct core_request *r = gw_id_map_get(&core->requests, m->request);
    if (!r || !r->warm.pending || r->warm.generation != p->generation || r->warm.attempt != m->attempt) {
        core->stats.stale_frames++;
        return;
    }
    r->warm.took_us = now_us - r->warm.sent_us;
    r->warm.tokens = m->tokens;
    core->stats.warmed++;
    no_longer_pending(core, r);
}

/* What was copied ahead is in its pipeline's cache when it begins: it moved all the same. */
static struct gw_kv_origin origin_of(const struct core_request *r, const struct gw_msg_origin *m)
{
    uint64_t had = (uint64_t)m->cached_tokens + m->moved_tokens;
    uint64_t moved = r->copied_tokens < had ? r->copied_tokens : had;
    if (m->moved_tokens > moved) moved = m->moved_tokens;
    return (struct gw_kv_origin){m->total_tokens, had - moved, moved, m->stored_tokens};
}

void core_on_origin(struct gw_core *core, const struct core_pipeline *p, const struct gw_msg_origin *m)
{
    struct core_request *r = core_request_of(core, p, m->request, m->attempt);
    if (!r) return;
    if (r->has_origin) {
        core->stats.stale_frames++;
        return;
    }
    r->has_origin = true;
    if (r->attempt == 1 && !r->helped) return; /* a new request computes its prompt: no news */
    struct gw_kv_origin origin = origin_of(r, m), *sum = &core->stats.kv;
    sum->total += origin.total;
    sum->cached += origin.cached;
    sum->moved += origin.moved;
    sum->stored += origin.stored;
    struct gw_note *n = core_note(core, GW_NOTE_REQUEST_ORIGIN, core_leader(p), r, "");
    n->announced = r->announced;
    n->left = r->left;
    n->origin = origin;
}
