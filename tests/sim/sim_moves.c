#include "tests/sim/sim.h"

/* Records since a copy that make another worth its message. */
#define AGAIN_TOKENS 64

static uint32_t committed(const struct sim_request *r)
{
    uint32_t sum = 0;
    for (uint32_t b = 0; b < r->request->n; b++) sum += r->branches[b].got;
    return sum;
}

/* The pipeline that has, or makes, r's copy; NULL if it is no more. */
static struct sim_pipe *copy_of(struct sim *sim, const struct sim_request *r)
{
    struct sim_pipe *p = r->copy_generation ? sim_pipe_find(sim, r->copy_generation) : NULL;
    return p && !p->ended ? p : NULL;
}

/* ---- holders ---- */

/* Was l ever a rank with these cells? */
static bool was_rank(const struct sim *sim, const struct sim_link *l, struct gw_cell_rect cells)
{
    for (size_t i = 0; i < sim->pipes_len; i++)
        for (uint32_t k = 0; k < sim->pipes[i].ranks_len; k++)
            if (sim->pipes[i].ranks[k].link == l->id && gw_rect_equal(sim->pipes[i].ranks[k].cells, cells))
                return true;
    return false;
}

const struct sim_link *sim_link_of_process(const struct sim *sim, uint32_t slot, uint32_t life)
{
    for (size_t i = sim->links_len; i > 0; i--)
        if (sim->links[i - 1].slot == slot && sim->links[i - 1].life == life && sim->links[i - 1].in_core)
            return &sim->links[i - 1];
    return NULL;
}

static void check_holder(struct sim *sim, const struct sim_pipe *p, unsigned id,
                         const struct gw_page_holder *h)
{
    uint32_t slot, life;
    if (!sim_kv_parse(h->pages, &slot, &life)) {
        sim_fail(sim, "%u: '%s' is nobody's address", id, h->pages);
        return;
    }
    const struct sim_link *l = sim_link_of_process(sim, slot, life);
    if (!l || !l->core_open) {
        sim_fail(sim, "%u: w%u is named as a holder, and is dead", id, slot);
        return;
    }
    if (l->proto < 3) sim_fail(sim, "%u: w%u is named as a holder, and has no pages to give", id, slot);
    if (l->profile != p->profile) sim_fail(sim, "%u: w%u is named as a holder, of another profile", id, slot);
    if (!was_rank(sim, l, h->cells)) sim_fail(sim, "%u: w%u never had those cells", id, slot);
}

static void check_holders(struct sim *sim, const struct sim_link *l, const struct sim_pipe *p,
                          const struct gw_msg_submit *s)
{
    unsigned id = (unsigned)s->request.id;
    if (s->holders_len > GW_WIRE_HOLDERS_MAX) sim_fail(sim, "%u: %u holders", id, s->holders_len);
    if (s->holders_len > 0 && l->proto < 3)
        sim_fail(sim, "%u: holders are named to w%u, of protocol 2", id, l->slot);
    for (uint32_t i = 0; i < s->holders_len && !sim->failed; i++) check_holder(sim, p, id, &s->holders[i]);
    sim->named += s->holders_len;
}

/* ---- WARM ---- */

static bool is_ready(const struct sim_pipe *p)
{
    for (uint32_t i = 0; i < p->ranks_len; i++)
        if (!p->ready[i]) return false;
    return true;
}

/* KV that runs on p, or is copied there. */
static uint64_t kv_of(struct sim *sim, const struct sim_pipe *p)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < sim->requests_len; i++) {
        const struct sim_request *r = &sim->requests[i];
        bool there = (r->holder == p->generation && !r->released) || r->copy_generation == p->generation;
        if (r->outcome == SIM_ACCEPTED && there) sum += r->request->prompt_len + committed(r);
    }
    return sum;
}

/* One that is READY, or serves and will stay. */
static void check_target(struct sim *sim, const struct sim_pipe *p, unsigned id)
{
    bool serves = p->started == p->ranks_len;
    if (!serves && (p->started > 0 || !is_ready(p))) sim_fail(sim, "%u: a copy for what is not READY", id);
    if (serves && (p->draining || sim_pipe_doomed(sim, p)))
        sim_fail(sim, "%u: a copy for what will go, too", id);
}

static void check_source(struct sim *sim, const struct sim_pipe *p, const struct sim_request *r,
                         const struct gw_msg_submit *s)
{
    unsigned id = (unsigned)r->request->id;
    const struct sim_pipe *source = sim_pipe_find(sim, r->holder);
    if (r->released || !source || source->ended) sim_fail(sim, "%u is copied, and runs nowhere", id);
    if (source == p) sim_fail(sim, "%u is copied to where it runs", id);
    if (source && source->profile != p->profile) sim_fail(sim, "%u is copied to another profile", id);
    if (!r->begun) sim_fail(sim, "%u is copied, and has not begun", id);
    if (s->attempt != r->attempt)
        sim_fail(sim, "%u: WARM of attempt %u, it is %u", id, s->attempt, r->attempt);
    if (s->holders_len == 0) sim_fail(sim, "%u: WARM without holders", id);
}

void sim_moves_warm(struct sim *sim, const struct sim_link *l, struct sim_pipe *p,
                    const struct gw_msg_submit *s)
{
    struct sim_request *r = sim_request_by_id(sim, s->request.id);
    if (!r || r->outcome != SIM_ACCEPTED) {
        sim_fail(sim, "a request that is not live is copied");
        return;
    }
    unsigned id = (unsigned)r->request->id;
    const struct sim_pipe *last = copy_of(sim, r);
    sim_trace(sim, "core   -> w%u warm %u attempt %u gen %llu", l->slot, id, s->attempt,
              (unsigned long long)p->generation);
    if (l->proto < 3) sim_fail(sim, "WARM to w%u, of protocol 2", l->slot);
    check_target(sim, p, id);
    check_source(sim, p, r, s);
    check_holders(sim, l, p, s);
    sim_check_logs(sim, r, s);
    if (last && last != p) sim_fail(sim, "%u is copied to two pipelines", id);
    if (last && r->copy_pending) sim_fail(sim, "%u is copied twice at once", id);
    if (last && committed(r) < r->copy_committed + AGAIN_TOKENS)
        sim_fail(sim, "%u is copied again without need", id);
    r->copy_generation = p->generation;
    r->copy_attempt = s->attempt;
    r->copy_committed = committed(r);
    r->copy_pending = true;
    r->copy_tokens = 0;
    if (last != p && kv_of(sim, p) > p->kv_tokens) sim_fail(sim, "%u is copied to where it has no room", id);
    sim->warms++;
}

bool sim_moves_cancel(struct sim *sim, const struct sim_pipe *p, const struct gw_msg_cancel *c)
{
    struct sim_request *r = sim_request_by_id(sim, c->request);
    if (!r || r->copy_generation != p->generation || r->copy_attempt != c->attempt) return false;
    if (c->branch != GW_BRANCH_ALL) sim_fail(sim, "CANCEL of a part of a copy");
    r->copy_generation = 0;
    return true;
}

void sim_moves_submit(struct sim *sim, const struct sim_link *l, const struct sim_pipe *p,
                      struct sim_request *r, const struct gw_msg_submit *s)
{
    const struct sim_pipe *copy = copy_of(sim, r);
    check_holders(sim, l, p, s);
    if (copy && copy != p) sim_fail(sim, "%u leaves a copy behind", (unsigned)r->request->id);
    r->copied = copy == p ? r->copy_tokens : 0;
    r->copy_generation = 0;
    r->helped = s->holders_len > 0;
    r->moved = false;
}

/* ---- what leaders say ---- */

void sim_moves_warmed(struct sim *sim, const struct sim_link *l, const struct gw_msg *m)
{
    struct sim_request *r = sim_request_by_id(sim, m->warmed.request);
    const struct sim_pipe *p = r ? copy_of(sim, r) : NULL;
    if (!p || m->term != sim->config.term || m->generation != p->generation || m->pipeline != p->number)
        return;
    if (sim_pipe_leader(p) != l->id || m->warmed.attempt != r->copy_attempt) return;
    sim->warmed += r->copy_pending;
    if (r->copy_pending) r->copy_tokens = m->warmed.tokens;
    r->copy_pending = false;
}

void sim_moves_origin(struct sim *sim, struct sim_request *r, const struct gw_msg_origin *o)
{
    if (r->moved || (r->attempt == 1 && !r->helped)) return;
    r->moved = true;
    sim->kv.total += o->total_tokens;
    /* What was copied ahead has moved, and is cached by now. */
    uint32_t ahead = r->copied > o->moved_tokens ? r->copied - o->moved_tokens : 0;
    if (ahead > o->cached_tokens) ahead = o->cached_tokens;
    sim->kv.cached += o->cached_tokens - ahead;
    sim->kv.moved += o->moved_tokens + ahead;
    sim->kv.stored += o->stored_tokens;
}

/* ---- now and then ---- */

/* The core was stepped behind the margin before a worker's deadline, and its pipeline has requests and serves on. */
static void check_margin(struct sim *sim, const struct gw_core_worker_view *v)
{
    const struct sim_pipe *p = sim_pipe_find(sim, v->generation);
    if (!p || p->ended || p->single || p->draining || p->held == 0 || v->deadline_us == 0) return;
    if (sim->core_stepped_us > v->deadline_us - sim->config.cutover_margin_us)
        sim_fail(sim, "generation %llu serves on behind its margin", (unsigned long long)p->generation);
}

void sim_moves_check(struct sim *sim)
{
    static struct gw_core_worker_view views[4 * SIM_WORKERS_MAX]; /* filled in anew each time */
    size_t len = gw_core_workers(sim->core, views, sizeof views / sizeof views[0]);
    for (size_t i = 0; i < len; i++) check_margin(sim, &views[i]);
    for (uint32_t i = 0; i < sim->requests_len; i++) {
        const struct sim_request *r = &sim->requests[i];
        if (r->outcome != SIM_ACCEPTED && r->outcome != SIM_PENDING && copy_of(sim, r))
            sim_fail(sim, "%u has ended, and its copy is kept", i + 1);
    }
}
