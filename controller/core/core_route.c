#include "controller/core/core_internal.h"

#include <assert.h>
#include <string.h>

#include "base/hash.h"
#include "migrate/plan.h"

/* BACKGROUND: a pipeline keeps KV of prompts that it has served (prefix cache). A request whose prompt begins
 * like an earlier one is cheap there and dear elsewhere.
 *
 * BEHAVIOR: prompts are hashed at 1, 2, 4, … 64 blocks of 16 tokens; a bounded table remembers which pipeline
 * last got each hash. The pipeline of the longest known prefix is taken unless it is much busier than the least
 * busy one (twice its load and a little); else the least busy one, the oldest of equals.
 *
 * A request goes where its KV was copied ahead, if there is room. One that is routed away from its prefix names the
 * pipeline that has it as a holder of pages (core_holders.c): the prefix cache is the whole cluster's.
 *
 * A pipeline with a worker whose instance its cloud recommends to leave (REBALANCE) counts as much busier than it is: new
 * work prefers others, and what runs there stays.
 *
 * Load counts branches; prompt tokens that wait for prefill count as PREFILL_PER_BRANCH each to a branch: a
 * chunk of prefill in a step takes about as long as so many decodes. */
#define BLOCK_TOKENS       16
#define PREFIXES           7 /* 1 … 64 blocks: system prompts are rarely beyond 1024 tokens */
#define PREFILL_PER_BRANCH 64
#define AFFINITY_FACTOR    2
#define AFFINITY_SLACK     4
#define ALONE_FRACTION     2 /* at most 1/so many pipelines are kept for poison suspects, but one always may */

static uint64_t load_of(const struct core_pipeline *p)
{
    return p->branches + p->prefill_tokens / PREFILL_PER_BRANCH;
}

/* Load as new work sees it: what its cloud would rather see gone is taken when others are much busier. */
static uint64_t weighed_load(const struct core_pipeline *p)
{
    return p->advised ? AFFINITY_FACTOR * load_of(p) + AFFINITY_SLACK : load_of(p);
}

/* Fills in hashes of the prompt's prefixes, shortest first; returns how many there are. */
static uint32_t prefix_hashes(const struct gw_request *q, uint64_t hashes[PREFIXES])
{
    uint64_t h = gw_hash64(q->tenant, sizeof q->tenant, 0);
    uint32_t count = 0, done = 0;
    for (uint32_t end = BLOCK_TOKENS; count < PREFIXES && end <= q->prompt_len; end *= 2) {
        h = gw_hash64(q->prompt + done, (end - done) * sizeof *q->prompt, h);
        hashes[count++] = h ? h : 1;
        done = end;
    }
    return count;
}

static struct core_affinity *affinity_slot(struct gw_core *core, uint64_t prefix)
{
    return &core->affinity[prefix & (CORE_AFFINITY_CAP - 1)];
}

/* The live pipeline that last got the longest known prefix, or NULL. */
static struct core_pipeline *affine_pipeline(struct gw_core *core, const uint64_t *hashes, uint32_t count)
{
    while (count > 0) {
        const struct core_affinity *a = affinity_slot(core, hashes[--count]);
        if (a->prefix != hashes[count]) continue;
        struct core_pipeline *p = core_pipeline_find(core, a->pipeline, a->generation);
        if (p) return p;
    }
    return NULL;
}

static void remember(struct gw_core *core, const uint64_t *hashes, uint32_t count,
                     const struct core_pipeline *p)
{
    for (uint32_t i = 0; i < count; i++)
        *affinity_slot(core, hashes[i]) = (struct core_affinity){hashes[i], p->number, p->generation};
}

static bool any_profile(const struct gw_core *core, const struct core_request *r)
{
    return r->profile == CORE_PROFILE_NONE || core->config.profile_loss_continue;
}

/* One that will go takes new work only while no other could. */
static bool takes_work(const struct gw_core *core, const struct core_request *r,
                       const struct core_pipeline *p)
{
    if (p->state != CORE_SERVING || p->alone) return false;
    return p->stays || !core->stays[any_profile(core, r) ? CORE_PROFILE_NONE : r->profile];
}

/* May r run on p at all, now? */
static bool eligible(const struct gw_core *core, const struct core_request *r, const struct core_pipeline *p)
{
    if (!any_profile(core, r) && r->profile != p->profile) return false;
    if (!takes_work(core, r, p)) return false;
    if (r->alone) return true; /* it waits until the pipeline is empty */
    return p->branches == 0 || p->branches + r->open <= core->config.worker_branches_target;
}

/* Can p hold r to its last token, as far as we know? */
static bool fits(const struct core_request *r, const struct core_pipeline *p)
{
    uint64_t need = (uint64_t)r->request->prompt_len + r->request->sampling.max_tokens;
    return (p->kv_tokens == 0 || need <= p->kv_tokens) && (p->context == 0 || need <= p->context);
}

static struct core_pipeline *least_loaded(const struct gw_core *core, const struct core_request *r)
{
    struct core_pipeline *best = NULL;
    for (struct core_pipeline *p = core->pipelines; p; p = p->next) {
        if (!eligible(core, r, p)) continue;
        bool better = !best || fits(r, p) > fits(r, best) ||
                      (fits(r, p) == fits(r, best) && weighed_load(p) < weighed_load(best));
        if (better) best = p;
    }
    return best;
}

/* The worker that ran r in an earlier session, or NULL. */
static const struct core_worker *home_of(const struct gw_core *core, const struct core_request *r)
{
    return r->home ? gw_id_map_get(&core->links, r->home) : NULL;
}

/* The pipeline that it leads now, or NULL. */
static struct core_pipeline *home_pipeline(const struct gw_core *core, const struct core_request *r)
{
    const struct core_worker *w = home_of(core, r);
    return w && w->serving && core_leader(w->serving) == w ? w->serving : NULL;
}

/* It is alone in a pipeline that has all that it needs, but has not said so yet: it is a matter of milliseconds. */
static bool awaits_home(const struct gw_core *core, const struct core_request *r)
{
    const struct core_worker *w = home_of(core, r);
    const struct core_pipeline *p = w && !w->serving ? w->prepared : NULL;
    return p && p->ranks_len == 1 && gw_rect_equal(p->ranks[0].cells, w->holds);
}

static struct core_pipeline *pick(struct gw_core *core, const struct core_request *r, const uint64_t *hashes,
                                  uint32_t count)
{
    struct core_pipeline *least = least_loaded(core, r);
    struct core_pipeline *warm = core_warm_target(core, r);
    struct core_pipeline *affine = affine_pipeline(core, hashes, count);
    struct core_pipeline *home = home_pipeline(core, r);
    if (warm && eligible(core, r, warm) && fits(r, warm)) return warm;
    if (home && eligible(core, r, home) && fits(r, home)) return home;
    if (!least || !affine || !eligible(core, r, affine)) return least;
    if (fits(r, affine) < fits(r, least)) return least;
    return weighed_load(affine) <= AFFINITY_FACTOR * weighed_load(least) + AFFINITY_SLACK ? affine : least;
}

/* ---- submission ---- */

static void note_move(struct gw_core *core, const struct core_pipeline *p, const struct core_request *r)
{
    if (r->attempt == 1) return;
    struct gw_note *n = core_note(core, GW_NOTE_REQUEST_MOVED, core_leader(p), r, "");
    n->announced = r->announced;
    n->count = core_request_committed(r);
    n->left = r->left;
    if (r->announced)
        core->stats.announced_moves++;
    else
        core->stats.unannounced_moves++;
}

static void assign(struct gw_core *core, struct core_request *r, struct core_pipeline *p)
{
    r->copied_tokens = core_warm_target(core, r) == p ? r->warm.tokens : 0;
    core_warm_end(core, r, p);
    core_request_attach(r, p);
    note_move(core, p, r);
    if (core_send_request(core, r, p, GW_MSG_SUBMIT) != GW_OK)
        core_request_fail(core, r, GW_ERR_MEMORY, "out of memory");
}

/* Who has the longest known prefix, if that is not where r goes. */
static void name_prefix_holders(struct gw_core *core, struct core_request *r, const uint64_t *hashes,
                                uint32_t count, const struct core_pipeline *p)
{
    while (count > 0) {
        const struct core_affinity *a = affinity_slot(core, hashes[--count]);
        if (a->prefix != hashes[count]) continue;
        if (a->generation == p->generation || core_holders_prefix(core, r, a)) return;
    }
}

/* ---- queues ---- */

/* In order; the first that finds no room keeps the others waiting. */
static void dispatch_list(struct gw_core *core, struct core_list *list)
{
    uint64_t hashes[PREFIXES];
    while (list->first) {
        uint32_t count = prefix_hashes(list->first->request, hashes);
        struct core_pipeline *p = pick(core, list->first, hashes, count);
        if (!p || awaits_home(core, list->first)) return;
        name_prefix_holders(core, list->first, hashes, count, p);
        remember(core, hashes, count, p);
        assign(core, list->first, p);
    }
}

static void reserve(struct gw_core *core, struct core_request *r)
{
    struct core_pipeline *p = least_loaded(core, r);
    if (!p) return;
    p->alone = r;
    r->reserved = p;
    core->pipelines_reserved++;
    core->review_due = true;
}

static uint32_t staying(const struct gw_core *core)
{
    uint32_t count = 0;
    for (const struct core_pipeline *p = core->pipelines; p; p = p->next) count += p->stays;
    return count;
}

/* Poison suspects: keep pipelines free for the first few, and start those whose pipeline has become empty. */
static void dispatch_alone(struct gw_core *core)
{
    if (!core->alone.first) return;
    uint32_t most = staying(core) / ALONE_FRACTION;
    if (most == 0) most = 1;
    for (struct core_request *r = core->alone.first; r && core->pipelines_reserved < most; r = r->next)
        if (!r->reserved) reserve(core, r);
    for (struct core_pipeline *p = core->pipelines; p; p = p->next)
        if (p->alone && p->alone->state == CORE_QUEUED && p->requests.len == 0) assign(core, p->alone, p);
}

void core_dispatch(struct gw_core *core)
{
    if (!core->dispatch_due) return;
    core->dispatch_due = false;
    dispatch_alone(core);
    /* Clients that have seen text wait for more; then those that have waited longest. */
    for (uint32_t p = 1; p <= core->profiles_len; p++) dispatch_list(core, &core->retry[p]);
    dispatch_list(core, &core->retry[CORE_PROFILE_NONE]);
    dispatch_list(core, &core->fresh);
}
