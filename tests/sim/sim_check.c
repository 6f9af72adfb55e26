#include "tests/sim/sim.h"

#include <string.h>

/* Deaths after which it goes on: one uncounted (it had progressed), two counted, two alone. */
#define POISON_MOVES_MAX 5

static struct sim_link *link_of_generation(struct sim *sim, uint64_t generation)
{
    for (size_t i = 0; i < sim->links_len; i++)
        if (sim->links[i].generation == generation) return &sim->links[i];
    return NULL;
}

/* The worker that held r's current attempt has no claim on it any more. */
static void release(struct sim *sim, struct sim_request *r)
{
    struct sim_link *l = sim_link_find(sim, r->holder);
    if (r->released || !l) return;
    r->released = true;
    l->held--;
    if (l->alone == r->request->id) l->alone = 0;
}

void sim_check_request_ended(struct sim *sim, struct sim_request *r)
{
    release(sim, r);
}

void sim_check_link_gone(struct sim *sim, struct sim_link *l)
{
    for (uint32_t i = 0; i < sim->requests_len; i++)
        if (sim->requests[i].holder == l->id) release(sim, &sim->requests[i]);
}

void sim_check_handoff(struct sim *sim, const struct gw_msg *m, const struct sim_link *l)
{
    struct sim_request *r = sim_request_by_id(sim, m->handoff.request);
    bool own = m->generation == l->generation && m->term == sim->config.term;
    if (own && r && r->holder == l->id && r->attempt == m->handoff.attempt) release(sim, r);
}

/* Did m reach the core as the current attempt's word? */
static bool is_current(struct sim *sim, const struct gw_msg *m, const struct sim_link *l)
{
    const struct sim_request *r = sim_request_by_id(sim, m->tokens.request);
    return l->core_open && m->generation == l->generation && m->term == sim->config.term && r &&
           r->outcome == SIM_ACCEPTED && r->holder == l->id && r->attempt == m->tokens.attempt &&
           !r->released;
}

void sim_check_begun(struct sim *sim, const struct gw_msg *m, const struct sim_link *l)
{
    if (is_current(sim, m, l)) sim_request_by_id(sim, m->tokens.request)->begun = true;
}

bool sim_check_diverges(struct sim *sim, const struct gw_msg *m, const struct sim_link *l)
{
    if (m->type != GW_MSG_TOKENS || !is_current(sim, m, l)) return false;
    const struct gw_tokens *t = &m->tokens.tokens;
    const struct sim_request *r = sim_request_by_id(sim, m->tokens.request);
    const struct sim_branch *b = &r->branches[m->tokens.branch];
    for (uint32_t i = 0; i < t->count && t->first + i < b->got; i++)
        if (!b->ended && t->ids[i] != b->records[t->first + i].id) return true;
    return false;
}

/* ---- messages to workers ---- */

static void check_welcome(struct sim *sim, struct sim_link *l, const struct gw_msg *m)
{
    if (l->generation) sim_fail(sim, "link %llu was welcomed twice", (unsigned long long)l->id);
    if (m->generation <= sim->last_generation) sim_fail(sim, "a generation did not grow");
    for (size_t i = 0; i < sim->links_len; i++) {
        const struct sim_link *other = &sim->links[i];
        if (other->core_open && other->generation && other->pipeline == m->pipeline)
            sim_fail(sim, "two workers are pipeline %u", m->pipeline);
    }
    sim->last_generation = l->generation = m->generation;
    l->pipeline = m->pipeline;
}

static void check_submit_logs(struct sim *sim, const struct sim_request *r, const struct gw_msg_submit *s)
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

/* Is there a worker that is not doomed and takes work that r could be? One may be kept free for a poison suspect. */
static bool goes_elsewhere(const struct sim *sim, const struct sim_request *r)
{
    for (uint32_t i = 0; i < sim->requests_len; i++)
        if (sim->requests[i].outcome == SIM_ACCEPTED && sim->requests[i].alone) return false;
    for (size_t i = 0; i < sim->links_len; i++) {
        const struct sim_link *l = &sim->links[i];
        bool same_profile = r->profile == 0 || r->profile == l->profile;
        if (l->core_open && l->generation && !l->doomed && !l->alone && same_profile) return true;
    }
    return false;
}

static void check_submit(struct sim *sim, struct sim_link *l, const struct gw_msg_submit *s)
{
    struct sim_request *r = sim_request_by_id(sim, s->request.id);
    if (!r || r->outcome != SIM_ACCEPTED) {
        sim_fail(sim, "a request that is not live was submitted");
        return;
    }
    unsigned id = (unsigned)r->request->id;
    sim_trace(sim, "core   -> w%u submit %u attempt %u", l->slot, id, s->attempt);
    if (s->attempt != r->attempt + 1) sim_fail(sim, "%u: attempt %u after %u", id, s->attempt, r->attempt);
    if (!r->released) sim_fail(sim, "%u: two workers hold the current attempt", id);
    if (l->doomed && goes_elsewhere(sim, r)) sim_fail(sim, "%u goes to a doomed worker", id);
    if (l->alone) sim_fail(sim, "%u goes to a worker on which %u shall be alone", id, l->alone);
    if (r->alone && l->held > 0) sim_fail(sim, "%u shall be alone, but the worker has %u", id, l->held);
    if (r->profile && r->profile != l->profile) sim_fail(sim, "%u goes on with another profile", id);
    check_submit_logs(sim, r, s);
    r->attempt = s->attempt;
    r->holder = l->id;
    r->released = false;
    l->held++;
    if (r->alone) l->alone = id;
}

static void check_cancel(struct sim *sim, const struct sim_link *l, const struct gw_msg_cancel *c)
{
    struct sim_request *r = sim_request_by_id(sim, c->request);
    sim->cancels++;
    if (!r || r->holder != l->id || r->attempt != c->attempt)
        sim_fail(sim, "CANCEL of what the worker does not have");
    else if (c->branch == GW_BRANCH_ALL)
        release(sim, r);
}

static void check_cutover(struct sim *sim, const struct sim_link *l, const struct gw_msg_cutover *c)
{
    sim->cutovers++;
    if (!l->doomed) sim_fail(sim, "CUTOVER to a worker that is not doomed");
    if (c->count < 1 || c->count > GW_WIRE_CUTOVER_MAX) sim_fail(sim, "CUTOVER of %u", c->count);
    for (uint32_t i = 0; i < c->count; i++) {
        const struct sim_request *r = sim_request_by_id(sim, c->items[i].request);
        if (!r || r->holder != l->id || r->attempt != c->items[i].attempt || r->released)
            sim_fail(sim, "CUTOVER of what the worker does not have");
    }
}

void sim_check_send(struct sim *sim, struct sim_link *l, const struct gw_msg *m)
{
    if (!l->core_open) sim_fail(sim, "%s to a link that is closed", gw_msg_name(m->type));
    if (m->type == GW_MSG_REFUSE) {
        sim_fail(sim, "w%u was refused: %s", l->slot, m->refuse.text);
        return;
    }
    if (m->type == GW_MSG_WELCOME) check_welcome(sim, l, m);
    if (m->term != sim->config.term || m->generation != l->generation || m->pipeline != l->pipeline)
        sim_fail(sim, "%s with wrong fences", gw_msg_name(m->type));
    if (m->type == GW_MSG_SUBMIT) check_submit(sim, l, &m->submit);
    if (m->type == GW_MSG_CANCEL) check_cancel(sim, l, &m->cancel);
    if (m->type == GW_MSG_CUTOVER) check_cutover(sim, l, &m->cutover);
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

void sim_check_note(struct sim *sim, const struct gw_note *n)
{
    struct sim_link *l = n->generation ? link_of_generation(sim, n->generation) : NULL;
    struct sim_request *r = sim_request_by_id(sim, n->request);
    sim_trace(sim, "note   kind=%d worker=%s request=%llu attempt=%u count=%u announced=%d %s", n->kind,
              n->worker, (unsigned long long)n->request, n->attempt, n->count, n->announced, n->text);
    if (n->kind == GW_NOTE_WORKER_DOOMED) l->doomed = true;
    if (n->kind == GW_NOTE_NOTICE_CANCELLED) l->doomed = false;
    if (n->kind == GW_NOTE_REQUEST_MOVED) check_moved(sim, r, n);
    if (n->kind == GW_NOTE_REQUEST_ALONE) {
        sim->alones++;
        r->alone = true;
        if (!r->begun || r->progressed || r->counted != 1)
            sim_fail(sim, "%u runs alone without reason", (unsigned)r->request->id);
    }
    if (n->kind == GW_NOTE_WORKER_LEFT && l->held > 0) sim_fail(sim, "a worker left with requests on it");
    if (n->kind == GW_NOTE_WORKER_LOST && n->announced != l->doomed) sim_fail(sim, "announced or not?");
}

/* ---- links ---- */

/* Was more than half of the fleet silent for the whole timeout? (The core also counts who is about to be.) */
static bool mass_silence(const struct sim *sim)
{
    uint32_t all = 0, silent = 0;
    for (size_t i = 0; i < sim->links_len; i++) {
        const struct sim_link *l = &sim->links[i];
        if (!l->core_open || !l->generation) continue;
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
