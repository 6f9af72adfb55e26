#include "tests/sim/sim.h"

#include <stdlib.h>
#include <string.h>

#define BATCH            16 /* branches per step */
#define PREFILL_PER_STEP 64 /* tokens */
#define OVERSHOOT        2  /* records behind the end */

/* ---- jobs ---- */

static uint32_t base_of(const struct sim_job *j, uint32_t branch)
{
    return j->submit.submit.logs[branch].len;
}

static void job_free(struct sim_job *j)
{
    for (uint32_t b = 0; b < j->submit.submit.request.n; b++) free(j->branches[b].records);
    free(j->branches);
    gw_msg_fini(&j->submit);
    free(j);
}

void sim_jobs_clear(struct sim_worker *w)
{
    while (w->jobs_len > 0) job_free(w->jobs[--w->jobs_len]);
}

static uint32_t job_index(const struct sim_worker *w, uint64_t request)
{
    uint32_t i = 0;
    while (i < w->jobs_len && w->jobs[i]->submit.submit.request.id != request) i++;
    return i;
}

static void job_remove(struct sim_worker *w, uint32_t i)
{
    job_free(w->jobs[i]);
    memmove(&w->jobs[i], &w->jobs[i + 1], (w->jobs_len - i - 1) * sizeof w->jobs[0]);
    w->jobs_len--;
}

static bool job_done(const struct sim_job *j)
{
    for (uint32_t b = 0; b < j->submit.submit.request.n; b++)
        if (!j->branches[b].done) return false;
    return true;
}

/* Takes over what submit owns. */
static struct sim_job *job_create(struct sim *sim, const struct sim_role *role, struct gw_msg *submit)
{
    const struct gw_request *q = &submit->submit.request;
    struct sim_job *j = sim_alloc(1, sizeof *j);
    uint32_t tokens = sim_kv_submit(sim, role, &submit->submit, &j->origin);
    j->submit = *submit;
    j->branches = sim_alloc(q->n, sizeof *j->branches);
    for (uint32_t b = 0; b < q->n; b++) {
        const struct gw_branch_log *log = &submit->submit.logs[b];
        sim_model_start(&j->branches[b].model, q, b, log->ids, log->len);
        j->branches[b].sent = log->len;
        j->branches[b].done = log->done;
    }
    j->prefill_steps = tokens / PREFILL_PER_STEP;
    memset(submit, 0, sizeof *submit);
    return j;
}

static void send_handoff(struct sim *sim, struct sim_worker *w, const struct sim_job *j)
{
    uint32_t log_len[GW_REQUEST_BRANCHES_MAX];
    struct gw_msg m = sim_worker_message(w, &w->serving, GW_MSG_HANDOFF);
    for (uint32_t b = 0; b < j->submit.submit.request.n; b++) log_len[b] = j->branches[b].sent;
    m.handoff = (struct gw_msg_handoff){j->submit.submit.request.id, j->submit.submit.attempt,
                                        j->submit.submit.request.n, log_len};
    sim_worker_send(sim, w, &m);
}

/* Records [first, first + count) of a branch; count 0 = a step has begun. */
static void send_tokens(struct sim *sim, struct sim_worker *w, const struct sim_job *j, uint32_t branch,
                        uint32_t first, uint32_t count, bool corrupt)
{
    uint32_t ids[SIM_TOKENS_MAX + OVERSHOOT + 1], top_n = j->submit.submit.request.sampling.top_logprobs;
    float logprobs[SIM_TOKENS_MAX + OVERSHOOT + 1];
    struct gw_top top[(SIM_TOKENS_MAX + OVERSHOOT + 1) * GW_REQUEST_TOP_MAX];
    struct gw_msg m = sim_worker_message(w, &w->serving, GW_MSG_TOKENS);
    for (uint32_t i = 0; i < count; i++) {
        const struct sim_record *r = &j->branches[branch].records[first + i - base_of(j, branch)];
        ids[i] = r->id;
        logprobs[i] = r->logprob;
        for (uint32_t t = 0; t < top_n; t++) top[i * top_n + t] = r->top[t];
    }
    if (corrupt && count > 0) ids[0] = (ids[0] + 1) % SIM_VOCAB;
    m.tokens = (struct gw_msg_tokens){j->submit.submit.request.id,
                                      j->submit.submit.attempt,
                                      branch,
                                      {first, count, top_n, ids, logprobs, top_n > 0 ? top : NULL}};
    sim_worker_send(sim, w, &m);
}

static void flush(struct sim *sim, struct sim_worker *w, struct sim_job *j, uint32_t branch)
{
    struct sim_job_branch *b = &j->branches[branch];
    uint32_t base = base_of(j, branch), end = base + b->made, first = b->sent;
    bool corrupt = false;
    if (first == end) return;
    if (w->repeats && first > base && sim_chance(sim, 3)) {
        first--;
        corrupt = w->corrupt > 0 && sim_chance(sim, w->corrupt);
        if (corrupt) sim_link_find(sim, w->link)->healthy = false;
    } else if (w->skips > 0 && end - first > 1 && sim_chance(sim, w->skips)) {
        first++;
    }
    send_tokens(sim, w, j, branch, first, end - first, corrupt);
    b->sent = end;
}

/* ---- steps ---- */

static void make_record(struct sim_job *j, uint32_t branch)
{
    struct sim_job_branch *b = &j->branches[branch];
    if (b->made == b->made_cap) {
        b->made_cap = b->made_cap ? b->made_cap * 2 : 8;
        b->records = realloc(b->records, b->made_cap * sizeof *b->records);
        if (!b->records) abort();
    }
    sim_model_next(&b->model, j->submit.submit.request.sampling.top_logprobs, &b->records[b->made++]);
}

static void decode_branch(struct sim *sim, struct sim_worker *w, struct sim_job *j, uint32_t branch)
{
    struct sim_job_branch *b = &j->branches[branch];
    const struct gw_sampling *s = &j->submit.submit.request.sampling;
    uint32_t position = b->model.position;
    make_record(j, branch);
    b->done = gw_request_finish_at(s, position, b->records[b->made - 1].id) != GW_FINISH_NONE;
    if (b->done && w->overshoots)
        for (int i = 0; i < OVERSHOOT; i++) make_record(j, branch);
    if (b->done || w->steps % w->flush_every == 0) flush(sim, w, j, branch);
}

/* Will computing the next token kill the process? */
static bool poisonous(struct sim *sim, const struct sim_job *j)
{
    struct sim_request *r = sim_request_by_id(sim, j->submit.submit.request.id);
    return !j->branches[0].done && j->prefill_steps == 0 && r->poison_at == j->branches[0].model.position;
}

/* It kills one rank or another. */
static void die_of(struct sim *sim, struct sim_worker *w, struct sim_request *r)
{
    const struct sim_role *role = &w->serving;
    uint32_t slot = role->slots[gw_rng_below(&sim->rng, role->ranks_len)];
    sim_trace(sim, "w%u dies of request %llu", slot, (unsigned long long)r->request->id);
    r->killed = true;
    sim_worker_die(sim, &sim->workers[slot], sim_between(sim, 100, 1500) * GW_US_PER_MS);
}

/* Its first step. */
static void begin(struct sim *sim, struct sim_worker *w, struct sim_job *j)
{
    struct gw_msg m = sim_worker_message(w, &w->serving, GW_MSG_ORIGIN);
    send_tokens(sim, w, j, 0, 0, 0, false);
    j->begun = true;
    m.origin = j->origin;
    if (w->proto > 2) sim_worker_send(sim, w, &m);
}

/* One job's part of a step; false if the pipeline died of it. */
static bool step_job(struct sim *sim, struct sim_worker *w, struct sim_job *j, uint32_t *room)
{
    const struct gw_request *q = &j->submit.submit.request;
    if (!j->begun) begin(sim, w, j);
    if (poisonous(sim, j)) {
        die_of(sim, w, sim_request_by_id(sim, j->submit.submit.request.id));
        return false;
    }
    if (j->prefill_steps > 0) {
        j->prefill_steps--;
        return true;
    }
    for (uint32_t b = 0; b<q->n && * room> 0; b++) {
        if (j->branches[b].done) continue;
        decode_branch(sim, w, j, b);
        (*room)--;
    }
    sim_kv_computed(sim, &w->serving, q->id, q->prompt_len + j->branches[0].model.position - 1);
    return true;
}

static void finish_cutover(struct sim *sim, struct sim_worker *w, uint32_t i)
{
    for (uint32_t b = 0; b < w->jobs[i]->submit.submit.request.n; b++) flush(sim, w, w->jobs[i], b);
    send_handoff(sim, w, w->jobs[i]);
    job_remove(w, i);
}

void sim_jobs_step(struct sim *sim, struct sim_worker *w)
{
    uint32_t room = BATCH;
    w->steps++;
    for (uint32_t i = 0; i < w->jobs_len;) {
        if (w->jobs[i]->cutover) {
            finish_cutover(sim, w, i);
            continue;
        }
        if (room > 0 && !step_job(sim, w, w->jobs[i], &room)) return;
        if (job_done(w->jobs[i]))
            job_remove(w, i);
        else
            i++;
    }
}

/* ---- frames ---- */

void sim_jobs_submit(struct sim *sim, struct sim_worker *w, struct gw_msg *m)
{
    uint64_t id = m->submit.request.id;
    if (job_index(w, id) < w->jobs_len) {
        sim_fail(sim, "request %llu is submitted to w%u, which has it", (unsigned long long)id, w->slot);
        return;
    }
    if (sim_request_by_id(sim, id)->too_big) {
        struct gw_msg reject = sim_worker_message(w, &w->serving, GW_MSG_REJECT);
        reject.reject = (struct gw_msg_reject){id, m->submit.attempt, GW_ERR_INPUT, "too big"};
        sim_worker_send(sim, w, &reject);
        return;
    }
    sim_kv_begin(w, id);
    w->jobs[w->jobs_len++] = job_create(sim, &w->serving, m);
}

void sim_jobs_cancel(struct sim_worker *w, const struct gw_msg_cancel *c)
{
    uint32_t i = job_index(w, c->request);
    if (i == w->jobs_len || w->jobs[i]->submit.submit.attempt != c->attempt) return;
    if (c->branch != GW_BRANCH_ALL) w->jobs[i]->branches[c->branch].done = true;
    if (c->branch == GW_BRANCH_ALL || job_done(w->jobs[i])) job_remove(w, i);
}

void sim_jobs_cutover(struct sim_worker *w, const struct gw_msg_cutover *c)
{
    for (uint32_t k = 0; k < c->count && !w->forgets; k++) {
        uint32_t i = job_index(w, c->items[k].request);
        if (i < w->jobs_len && w->jobs[i]->submit.submit.attempt == c->items[k].attempt)
            w->jobs[i]->cutover = true;
    }
}
