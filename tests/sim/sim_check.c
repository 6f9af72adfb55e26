#include "tests/sim/sim.h"

#include <string.h>

/* Deaths after which it goes on: one uncounted (it had progressed), two counted, two alone. */
#define POISON_MOVES_MAX 5

static struct sim_pipe *holder_of(struct sim *sim, const struct sim_request *r)
{
    return sim_pipe_find(sim, r->holder);
}

void sim_check_release(struct sim *sim, struct sim_request *r)
{
    struct sim_pipe *p = holder_of(sim, r);
    if (r->released || !p) return;
    r->released = true;
    p->held--;
    if (p->alone == r->request->id) p->alone = 0;
}

void sim_check_request_ended(struct sim *sim, struct sim_request *r)
{
    sim_check_release(sim, r);
}

void sim_check_link_gone(struct sim *sim, struct sim_link *l)
{
    sim_pipes_link_gone(sim, l);
}

/* Will m reach the core as the current attempt's word? */
static bool is_current(struct sim *sim, const struct gw_msg *m, const struct sim_link *l, uint64_t request,
                       uint32_t attempt)
{
    const struct sim_request *r = sim_request_by_id(sim, request);
    if (!l->core_open || !r || r->outcome != SIM_ACCEPTED || r->released) return false;
    const struct sim_pipe *p = holder_of(sim, r);
    return m->term == sim->config.term && p && sim_pipe_leader(p) == l->id &&
           m->generation == p->generation && m->pipeline == p->number && r->attempt == attempt;
}

/* A frame with wrong fences proves nothing about this incarnation; in protocol 2 an incarnation has one link. */
static bool shows_life(const struct sim *sim, const struct gw_msg *m, const struct sim_link *l)
{
    if (m->type == GW_MSG_HELLO) return true;
    return m->term == sim->config.term && (l->proto > 1 || m->generation == l->serving);
}

void sim_check_frame(struct sim *sim, const struct gw_msg *m, struct sim_link *l)
{
    if (shows_life(sim, m, l)) l->heard_us = l->quiet_us = sim->now_us;
    if (m->type == GW_MSG_TOKENS && is_current(sim, m, l, m->tokens.request, m->tokens.attempt))
        sim_request_by_id(sim, m->tokens.request)->begun = true;
    if (m->type == GW_MSG_HANDOFF && is_current(sim, m, l, m->handoff.request, m->handoff.attempt))
        sim_check_release(sim, sim_request_by_id(sim, m->handoff.request));
    if (m->type == GW_MSG_WARMED) sim_moves_warmed(sim, l, m);
    if (m->type == GW_MSG_ORIGIN && is_current(sim, m, l, m->origin.request, m->origin.attempt))
        sim_moves_origin(sim, sim_request_by_id(sim, m->origin.request), &m->origin);
    if (m->type == GW_MSG_READY) sim_pipes_ready(sim, l, m);
    if (m->type == GW_MSG_BROKEN) sim_pipes_broken(sim, l, m);
}

bool sim_check_diverges(struct sim *sim, const struct gw_msg *m, const struct sim_link *l)
{
    if (m->type != GW_MSG_TOKENS || !is_current(sim, m, l, m->tokens.request, m->tokens.attempt))
        return false;
    const struct gw_tokens *t = &m->tokens.tokens;
    const struct sim_request *r = sim_request_by_id(sim, m->tokens.request);
    const struct sim_branch *b = &r->branches[m->tokens.branch];
    for (uint32_t i = 0; i < t->count && t->first + i < b->got; i++)
        if (!b->ended && t->ids[i] != b->records[t->first + i].id) return true;
    return false;
}

/* ---- messages to workers ---- */

void sim_check_logs(struct sim *sim, const struct sim_request *r, const struct gw_msg_submit *s)
{
    unsigned id = (unsigned)r->request->id;
    const struct gw_request *q = r->request;
    if (s->request.n != q->n || s->request.prompt_len != q->prompt_len ||
        memcmp(s->request.prompt, q->prompt, q->prompt_len * sizeof *q->prompt) != 0 ||
        s->request.sampling.seed != q->sampling.seed)
        sim_fail(sim, "%u is submitted as another request", id);
    for (uint32_t b = 0; b < q->n && !sim->failed; b++) {
        if (s->logs[b].len != r->branches[b].got || s->logs[b].done != r->branches[b].ended)
            sim_fail(sim, "%u/%u: submitted with %u records, the front got %u", id, b, s->logs[b].len,
                     r->branches[b].got);
        for (uint32_t k = 0; k < s->logs[b].len && !sim->failed; k++)
            if (s->logs[b].ids[k] != r->branches[b].records[k].id)
                sim_fail(sim, "%u/%u: submitted with a wrong record", id, b);
    }
}

/* Is there a pipeline that will stay and takes work that r could be? One may be kept free for a poison suspect. */
static bool goes_elsewhere(struct sim *sim, const struct sim_request *r)
{
    for (uint32_t i = 0; i < sim->requests_len; i++)
        if (sim->requests[i].outcome == SIM_ACCEPTED && sim->requests[i].alone) return false;
    for (size_t i = 0; i < sim->pipes_len; i++) {
        const struct sim_pipe *p = &sim->pipes[i];
        if (sim_pipe_open(sim, p) && (r->profile == 0 || r->profile == p->profile)) return true;
    }
    return false;
}

static void check_place(struct sim *sim, const struct sim_pipe *p, const struct sim_link *l,
                        const struct sim_request *r)
{
    unsigned id = (unsigned)r->request->id;
    if (p->ended || p->started != p->ranks_len) sim_fail(sim, "%u goes to what does not serve", id);
    if (sim_pipe_leader(p) != l->id) sim_fail(sim, "%u goes to w%u, which does not lead", id, l->slot);
    if (p->draining) sim_fail(sim, "%u goes to a pipeline that drains", id);
    if (sim_pipe_doomed(sim, p) && goes_elsewhere(sim, r)) sim_fail(sim, "%u goes to a doomed worker", id);
    if (p->alone) sim_fail(sim, "%u goes to a worker on which %u shall be alone", id, p->alone);
    if (r->alone && p->held > 0) sim_fail(sim, "%u shall be alone, but the worker has %u", id, p->held);
    if (r->profile && r->profile != p->profile) sim_fail(sim, "%u goes on with another profile", id);
}

static void check_submit(struct sim *sim, const struct sim_link *l, struct sim_pipe *p,
                         const struct gw_msg_submit *s)
{
    struct sim_request *r = sim_request_by_id(sim, s->request.id);
    if (!r || r->outcome != SIM_ACCEPTED) {
        sim_fail(sim, "a request that is not live was submitted");
        return;
    }
    unsigned id = (unsigned)r->request->id;
    sim_trace(sim, "core   -> w%u submit %u attempt %u gen %llu", l->slot, id, s->attempt,
              (unsigned long long)p->generation);
    if (s->attempt != r->attempt + 1) sim_fail(sim, "%u: attempt %u after %u", id, s->attempt, r->attempt);
    if (!r->released) sim_fail(sim, "%u: two workers hold the current attempt", id);
    check_place(sim, p, l, r);
    sim_check_logs(sim, r, s);
    sim_moves_submit(sim, l, p, r, s);
    r->attempt = s->attempt;
    r->holder = p->generation;
    r->released = false;
    p->held++;
    if (r->alone) p->alone = id;
}

static void check_cancel(struct sim *sim, const struct sim_pipe *p, const struct gw_msg_cancel *c)
{
    struct sim_request *r = sim_request_by_id(sim, c->request);
    sim->cancels++;
    if (sim_moves_cancel(sim, p, c)) return;
    if (!r || r->holder != p->generation || r->attempt != c->attempt)
        sim_fail(sim, "CANCEL of what the worker does not have");
    else if (c->branch == GW_BRANCH_ALL)
        sim_check_release(sim, r);
}

static void check_cutover(struct sim *sim, const struct sim_pipe *p, const struct gw_msg_cutover *c)
{
    sim->cutovers++;
    if (p->single && !sim_pipe_doomed(sim, p)) sim_fail(sim, "CUTOVER to a worker that is not doomed");
    if (!p->single && !p->draining) sim_fail(sim, "CUTOVER to a pipeline that does not drain");
    if (c->count < 1 || c->count > GW_WIRE_CUTOVER_MAX) sim_fail(sim, "CUTOVER of %u", c->count);
    for (uint32_t i = 0; i < c->count; i++) {
        const struct sim_request *r = sim_request_by_id(sim, c->items[i].request);
        if (!r || r->holder != p->generation || r->attempt != c->items[i].attempt || r->released)
            sim_fail(sim, "CUTOVER of what the worker does not have");
    }
}

/* To the leader of the pipeline that its head names. */
static void check_leader_send(struct sim *sim, const struct sim_link *l, const struct gw_msg *m)
{
    struct sim_pipe *p = sim_pipe_find(sim, m->generation);
    if (!p || p->ended || p->number != m->pipeline || sim_pipe_leader(p) != l->id) {
        sim_fail(sim, "%s to w%u, which does not lead generation %llu", gw_msg_name(m->type), l->slot,
                 (unsigned long long)m->generation);
        return;
    }
    if (m->type == GW_MSG_SUBMIT) check_submit(sim, l, p, &m->submit);
    if (m->type == GW_MSG_WARM) sim_moves_warm(sim, l, p, &m->warm);
    if (m->type == GW_MSG_CANCEL) check_cancel(sim, p, &m->cancel);
    if (m->type == GW_MSG_CUTOVER) check_cutover(sim, p, &m->cutover);
}

static void check_link_send(struct sim *sim, const struct sim_link *l, const struct gw_msg *m)
{
    const struct sim_pipe *p = l->proto > 1 ? NULL : sim_pipe_find(sim, l->serving);
    if (m->generation != (p ? p->generation : 0) || m->pipeline != (p ? p->number : 0))
        sim_fail(sim, "%s with wrong fences", gw_msg_name(m->type));
}

void sim_check_send(struct sim *sim, struct sim_link *l, const struct gw_msg *m)
{
    if (!l->core_open) sim_fail(sim, "%s to a link that is closed", gw_msg_name(m->type));
    if (m->term != sim->config.term) sim_fail(sim, "%s under a wrong term", gw_msg_name(m->type));
    switch (m->type) {
    case GW_MSG_REFUSE: sim_fail(sim, "w%u was refused: %s", l->slot, m->refuse.text); break;
    case GW_MSG_ASSIGN: sim_pipes_assign(sim, l, m); break;
    case GW_MSG_START: sim_pipes_start(sim, l, m); break;
    case GW_MSG_RELEASE: sim_pipes_release(sim, l, m); break;
    case GW_MSG_SUBMIT:
    case GW_MSG_WARM:
    case GW_MSG_CANCEL:
    case GW_MSG_CUTOVER: check_leader_send(sim, l, m); break;
    case GW_MSG_STORES:
        sim_stores_told(sim, l, &m->stores);
        check_link_send(sim, l, m);
        break;
    case GW_MSG_WELCOME: sim_pipes_welcome(sim, l, m); __attribute__((fallthrough));
    default: check_link_send(sim, l, m);
    }
}

/* ---- notes ---- */

static void check_moved(struct sim *sim, struct sim_request *r, const struct gw_note *n)
{
    uint32_t committed = 0;
    for (uint32_t b = 0; b < r->request->n; b++) committed += r->branches[b].got;
    if (n->count != committed)
        sim_fail(sim, "moved note of %u records, %u are committed", n->count, committed);
    if (n->attempt != r->attempt + 1) sim_fail(sim, "moved note out of turn");
    bool counts = !n->announced && r->begun && !r->progressed;
    bool killed = r->killed && r->begun;
    r->begun = r->killed = false;
    if (n->announced) return;
    if (r->progressed) r->alone = false;
    r->progressed = false;
    r->counted += counts;
    if (r->counted >= 2 && !r->alone) sim_fail(sim, "%u shall run alone", (unsigned)r->request->id);
    r->deaths += killed;
    if (r->deaths > POISON_MOVES_MAX)
        sim_fail(sim, "%u has killed %u workers in a row", (unsigned)r->request->id, r->deaths);
}

/* The registered link of that worker. */
static struct sim_link *link_named(struct sim *sim, const char *worker)
{
    for (size_t i = 0; i < sim->links_len; i++) {
        struct sim_link *l = &sim->links[i];
        if (l->welcomed && l->in_core && strcmp(l->worker, worker) == 0) return l;
    }
    return NULL;
}

static void check_worker_note(struct sim *sim, const struct gw_note *n)
{
    struct sim_link *l = link_named(sim, n->worker);
    if (!l) {
        sim_fail(sim, "a note about %s, which is not there", n->worker);
        return;
    }
    const struct sim_pipe *p = sim_pipe_find(sim, l->serving);
    if (n->kind == GW_NOTE_WORKER_DOOMED) l->doomed = true;
    if (n->kind == GW_NOTE_NOTICE_CANCELLED) l->doomed = false;
    if (n->kind == GW_NOTE_WORKER_LEFT && p && p->held > 0)
        sim_fail(sim, "a worker left with requests on it");
    if (n->kind == GW_NOTE_WORKER_LOST && n->announced != l->doomed) sim_fail(sim, "announced or not?");
    if (n->kind == GW_NOTE_WORKER_LEFT || n->kind == GW_NOTE_WORKER_LOST) l->in_core = false;
}

static void check_alone(struct sim *sim, struct sim_request *r)
{
    sim->alones++;
    r->alone = true;
    if (!r->begun || r->progressed || r->counted != 1)
        sim_fail(sim, "%u runs alone without reason", (unsigned)r->request->id);
}

void sim_check_note(struct sim *sim, const struct gw_note *n)
{
    sim_trace(sim, "note   kind=%d worker=%s gen=%llu request=%llu attempt=%u count=%u announced=%d %s",
              n->kind, n->worker, (unsigned long long)n->generation, (unsigned long long)n->request,
              n->attempt, n->count, n->announced, n->text);
    switch (n->kind) {
    case GW_NOTE_WORKER_DOOMED:
    case GW_NOTE_NOTICE_CANCELLED:
    case GW_NOTE_WORKER_LEFT:
    case GW_NOTE_WORKER_LOST: check_worker_note(sim, n); break;
    case GW_NOTE_REQUEST_MOVED: check_moved(sim, sim_request_by_id(sim, n->request), n); break;
    case GW_NOTE_REQUEST_ALONE: check_alone(sim, sim_request_by_id(sim, n->request)); break;
    default: sim_pipes_note(sim, n);
    }
}

/* ---- links ---- */

/* Was more than half of the fleet silent for the whole timeout? (The core also counts who is about to be.) */
static bool mass_silence(const struct sim *sim)
{
    uint32_t all = 0, silent = 0;
    for (size_t i = 0; i < sim->links_len; i++) {
        const struct sim_link *l = &sim->links[i];
        if (!l->core_open || !l->welcomed) continue;
        all++;
        if (sim->now_us - l->quiet_us >= sim->config.heartbeat_timeout_us) silent++;
    }
    return all >= 2 && silent * 2 > all;
}

/* After a stall the HELLO of a worker's earlier link may be read behind that of its present one. */
static bool overtaken(const struct sim *sim, const struct sim_link *l)
{
    for (size_t i = 0; i < l->id - 1; i++) {
        const struct sim_link *older = &sim->links[i];
        if (older->slot == l->slot && older->core_open) return true;
    }
    return false;
}

void sim_check_close(struct sim *sim, struct sim_link *l, const char *reason)
{
    int64_t silent_us = sim->now_us - l->heard_us;
    sim_trace(sim, "core   closes link %llu of w%u: %s", (unsigned long long)l->id, l->slot, reason);
    if (!l->core_open) sim_fail(sim, "link %llu is closed twice", (unsigned long long)l->id);
    if (strcmp(reason, "no frame in time") == 0) {
        sim->silences++;
        if (silent_us < sim->config.heartbeat_timeout_us)
            sim_fail(sim, "w%u was declared dead after %lld ms", l->slot, (long long)silent_us / 1000);
        if (mass_silence(sim) &&
            silent_us < sim->config.heartbeat_timeout_us + sim->config.mass_loss_recheck_us)
            sim_fail(sim, "most of the fleet was silent, and nobody looked twice");
    }
    if (l->healthy && l->worker_open && !overtaken(sim, l))
        sim_fail(sim, "a healthy worker's link is closed: %s", reason);
    sim_check_link_gone(sim, l);
}

/* ---- totals ---- */

void sim_check_totals(struct sim *sim)
{
    struct gw_core_stats s;
    gw_core_stats(sim->core, &s);
    if (s.accepted != sim->accepted)
        sim_fail(sim, "accepted: %u, counted %u", (unsigned)sim->accepted, (unsigned)s.accepted);
    if (s.accepted + sim->turned_away != s.done + s.failed + s.cancelled + sim->live)
        sim_fail(sim, "totals do not add up");
    if (memcmp(&s.kv, &sim->kv, sizeof s.kv) != 0) sim_fail(sim, "KV is not counted as it was said");
    if (s.queued + s.running != sim->live)
        sim_fail(sim, "%u queued and %u running, %u are live", s.queued, s.running, sim->live);
}

void sim_check_end(struct sim *sim)
{
    for (uint32_t i = 0; i < SIM_WORKERS_MAX; i++)
        if (sim->workers[i].jobs_len > 0 && sim->workers[i].welcome)
            sim_fail(sim, "w%u still computes request %llu, which has ended", i,
                     (unsigned long long)sim->workers[i].jobs[0]->submit.submit.request.id);
}
