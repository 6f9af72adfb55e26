#include "tests/sim/sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BATCH              16 /* branches per step */
#define PREFILL_PER_STEP   64 /* tokens */
#define WELCOME_TIMEOUT_US (5 * GW_US_PER_S)
#define OVERSHOOT          2 /* records behind the end */

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

static void jobs_clear(struct sim_worker *w)
{
    while (w->jobs_len > 0) job_free(w->jobs[--w->jobs_len]);
}

void sim_worker_fini(struct sim_worker *w)
{
    jobs_clear(w);
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
static struct sim_job *job_create(struct gw_msg *submit)
{
    const struct gw_request *q = &submit->submit.request;
    struct sim_job *j = sim_alloc(1, sizeof *j);
    uint32_t tokens = q->prompt_len;
    j->submit = *submit;
    j->branches = sim_alloc(q->n, sizeof *j->branches);
    for (uint32_t b = 0; b < q->n; b++) {
        const struct gw_branch_log *log = &submit->submit.logs[b];
        sim_model_start(&j->branches[b].model, q, b, log->ids, log->len);
        j->branches[b].sent = log->len;
        j->branches[b].done = log->done;
        tokens += log->len;
    }
    j->prefill_steps = tokens / PREFILL_PER_STEP;
    memset(submit, 0, sizeof *submit);
    return j;
}

/* ---- sending ---- */

static struct sim_link *link_of(struct sim *sim, const struct sim_worker *w)
{
    return sim_link_find(sim, w->link);
}

static struct gw_msg message(const struct sim_worker *w, enum gw_msg_type type)
{
    return (struct gw_msg){
        .type = type, .term = w->term, .pipeline = w->pipeline, .generation = w->generation};
}

static void send_msg(struct sim *sim, struct sim_worker *w, const struct gw_msg *m)
{
    struct sim_link *l = link_of(sim, w);
    if (l) sim_net_to_core(sim, l, m);
}

void sim_worker_send_notice(struct sim *sim, struct sim_worker *w, uint8_t kind, uint32_t deadline_ms)
{
    struct gw_msg m = message(w, GW_MSG_NOTICE);
    m.notice = (struct gw_msg_notice){kind, deadline_ms};
    if (w->welcome) send_msg(sim, w, &m);
}

static void send_handoff(struct sim *sim, struct sim_worker *w, const struct sim_job *j)
{
    uint32_t log_len[GW_REQUEST_BRANCHES_MAX];
    struct gw_msg m = message(w, GW_MSG_HANDOFF);
    for (uint32_t b = 0; b < j->submit.submit.request.n; b++) log_len[b] = j->branches[b].sent;
    m.handoff = (struct gw_msg_handoff){j->submit.submit.request.id, j->submit.submit.attempt,
                                        j->submit.submit.request.n, log_len};
    send_msg(sim, w, &m);
}

/* Records [first, first + count) of a branch; count 0 = a step has begun. */
static void send_tokens(struct sim *sim, struct sim_worker *w, const struct sim_job *j, uint32_t branch,
                        uint32_t first, uint32_t count, bool corrupt)
{
    uint32_t ids[SIM_TOKENS_MAX + OVERSHOOT + 1], top_n = j->submit.submit.request.sampling.top_logprobs;
    float logprobs[SIM_TOKENS_MAX + OVERSHOOT + 1];
    struct gw_top top[(SIM_TOKENS_MAX + OVERSHOOT + 1) * GW_REQUEST_TOP_MAX];
    struct gw_msg m = message(w, GW_MSG_TOKENS);
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
    send_msg(sim, w, &m);
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
        if (corrupt) link_of(sim, w)->healthy = false;
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

/* One job's part of a step; false if the process died of it. */
static bool step_job(struct sim *sim, struct sim_worker *w, struct sim_job *j, uint32_t *room)
{
    if (!j->begun) send_tokens(sim, w, j, 0, 0, 0, false);
    j->begun = true;
    if (poisonous(sim, j)) {
        struct sim_request *r = sim_request_by_id(sim, j->submit.submit.request.id);
        sim_trace(sim, "w%u dies of request %llu", w->slot, (unsigned long long)r->request->id);
        r->killed = true;
        sim_worker_die(sim, w, sim_between(sim, 100, 1500) * GW_US_PER_MS);
        return false;
    }
    if (j->prefill_steps > 0) {
        j->prefill_steps--;
        return true;
    }
    for (uint32_t b = 0; b<j->submit.submit.request.n && * room> 0; b++) {
        if (j->branches[b].done) continue;
        decode_branch(sim, w, j, b);
        (*room)--;
    }
    return true;
}

static void finish_cutover(struct sim *sim, struct sim_worker *w, uint32_t i)
{
    for (uint32_t b = 0; b < w->jobs[i]->submit.submit.request.n; b++) flush(sim, w, w->jobs[i], b);
    send_handoff(sim, w, w->jobs[i]);
    job_remove(w, i);
}

static void leave(struct sim *sim, struct sim_worker *w)
{
    struct gw_msg m = message(w, GW_MSG_GOODBYE);
    snprintf(m.goodbye.text, sizeof m.goodbye.text, "the instance goes");
    send_msg(sim, w, &m);
    sim_worker_die(sim, w, sim_between(sim, 300, 2000) * GW_US_PER_MS);
}

static void on_step(struct sim *sim, struct sim_worker *w)
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

static void push(struct sim *sim, const struct sim_worker *w, enum sim_event_type type, int64_t after_us)
{
    sim_queue_push(sim, (struct sim_event){
                            .at_us = sim->now_us + after_us, .type = type, .slot = w->slot, .life = w->life});
}

/* ---- the process ---- */

void sim_worker_start(struct sim *sim, uint32_t slot, bool same_identity)
{
    struct sim_worker *w = &sim->workers[slot];
    struct sim_worker old = *w;
    memset(w, 0, sizeof *w);
    w->slot = slot;
    w->life = old.life + 1;
    w->alive = true;
    w->profile = 1 + slot % sim->profiles;
    w->pid = ++sim->next_pid;
    if (same_identity) {
        memcpy(w->name, old.name, sizeof w->name);
        memcpy(w->instance, old.instance, sizeof w->instance);
    } else {
        snprintf(w->name, sizeof w->name, "w%u-%u", slot, w->life);
        snprintf(w->instance, sizeof w->instance, "i-%u", sim->next_instance++ / 2); /* two share one */
    }
    w->max_term = sim->config.term - 1;
    w->step_us = sim_between(sim, 4, 40) * GW_US_PER_MS;
    w->flush_every = (uint32_t)sim_between(sim, 1, 4);
    w->overshoots = sim_chance(sim, 4);
    w->repeats = sim_chance(sim, 4);
    w->forgets = sim_chance(sim, 8);
    w->corrupt = sim_chance(sim, 20) ? 20 : 0;
    w->skips = sim_chance(sim, 20) ? 20 : 0;
    push(sim, w, SIM_WORKER_CONNECT, sim_between(sim, 0, 200) * GW_US_PER_MS);
    push(sim, w, SIM_WORKER_STEP, w->step_us);
}

/* How the other end learns of it is up to the link: cut it before, if the machine goes with the process. */
void sim_worker_die(struct sim *sim, struct sim_worker *w, int64_t replace_after_us)
{
    struct sim_link *l = link_of(sim, w);
    sim_trace(sim, "w%u is gone", w->slot);
    if (l) sim_link_close_by_worker(sim, l);
    jobs_clear(w);
    w->alive = false;
    w->link = 0;
    push(sim, w, SIM_WORKER_START, replace_after_us);
}

static void on_connect(struct sim *sim, struct sim_worker *w)
{
    struct sim_link *l = sim_link_open(sim, w);
    struct gw_msg m = {.type = GW_MSG_HELLO};
    struct gw_msg_hello *h = &m.hello;
    w->link = l->id;
    w->heard_us = sim->now_us;
    h->proto = 1;
    memcpy(h->worker, w->name, sizeof h->worker);
    memcpy(h->instance, w->instance, sizeof h->instance);
    snprintf(h->profile, sizeof h->profile, "sim-%u", w->profile);
    h->max_term = w->max_term;
    h->pid = w->pid;
    h->vocab = SIM_VOCAB;
    h->context = SIM_CONTEXT;
    h->kv_tokens = 1 << 16;
    h->max_sequences = BATCH;
    sim_queue_push(sim, (struct sim_event){.at_us = sim->now_us + WELCOME_TIMEOUT_US,
                                           .type = SIM_WORKER_BEAT,
                                           .slot = w->slot,
                                           .life = w->life,
                                           .link = l->id});
    sim_trace(sim, "w%u %s connects by link %llu", w->slot, w->name, (unsigned long long)l->id);
    send_msg(sim, w, &m);
}

static void reconnect(struct sim *sim, struct sim_worker *w)
{
    jobs_clear(w);
    w->link = 0;
    w->welcome = false;
    push(sim, w, SIM_WORKER_CONNECT, sim_between(sim, 20, 500) * GW_US_PER_MS);
}

/* A handshake that takes too long is begun again. */
static void check_welcome(struct sim *sim, struct sim_worker *w, uint64_t link)
{
    if (w->link != link || w->welcome) return;
    sim_link_find(sim, link)->healthy = false;
    sim_link_close_by_worker(sim, sim_link_find(sim, link));
    reconnect(sim, w);
}

static void on_beat(struct sim *sim, struct sim_worker *w)
{
    struct gw_msg m = message(w, GW_MSG_HEARTBEAT);
    struct sim_link *l = link_of(sim, w);
    if (!l || !w->welcome) return;
    if (sim->now_us - w->heard_us > w->timeout_us) {
        if (l->healthy) sim_fail(sim, "w%u heard nothing from a living controller", w->slot);
        sim_link_close_by_worker(sim, l);
        reconnect(sim, w);
        return;
    }
    m.heartbeat.steps = w->steps;
    m.heartbeat.running = w->jobs_len;
    send_msg(sim, w, &m);
    push(sim, w, SIM_WORKER_BEAT, w->beat_us);
    if (w->leaves && w->jobs_len == 0) leave(sim, w);
}

/* ---- frames ---- */

static void on_welcome(struct sim *sim, struct sim_worker *w, const struct gw_msg *m)
{
    w->welcome = true;
    w->term = w->max_term = m->term;
    w->pipeline = m->pipeline;
    w->generation = m->generation;
    w->beat_us = m->welcome.heartbeat_ms * GW_US_PER_MS;
    w->timeout_us = m->welcome.controller_timeout_ms * GW_US_PER_MS;
    push(sim, w, SIM_WORKER_BEAT, w->beat_us);
}

static void on_submit(struct sim *sim, struct sim_worker *w, struct gw_msg *m)
{
    uint64_t id = m->submit.request.id;
    if (job_index(w, id) < w->jobs_len) {
        sim_fail(sim, "request %llu is submitted to w%u, which has it", (unsigned long long)id, w->slot);
        return;
    }
    if (sim_request_by_id(sim, id)->too_big) {
        struct gw_msg reject = message(w, GW_MSG_REJECT);
        reject.reject = (struct gw_msg_reject){id, m->submit.attempt, GW_ERR_INPUT, "too big"};
        send_msg(sim, w, &reject);
        return;
    }
    w->jobs[w->jobs_len++] = job_create(m);
}

static void on_cancel(struct sim_worker *w, const struct gw_msg_cancel *c)
{
    uint32_t i = job_index(w, c->request);
    if (i == w->jobs_len || w->jobs[i]->submit.submit.attempt != c->attempt) return;
    if (c->branch != GW_BRANCH_ALL) w->jobs[i]->branches[c->branch].done = true;
    if (c->branch == GW_BRANCH_ALL || job_done(w->jobs[i])) job_remove(w, i);
}

static void on_cutover(struct sim_worker *w, const struct gw_msg_cutover *c)
{
    for (uint32_t k = 0; k < c->count && !w->forgets; k++) {
        uint32_t i = job_index(w, c->items[k].request);
        if (i < w->jobs_len && w->jobs[i]->submit.submit.attempt == c->items[k].attempt)
            w->jobs[i]->cutover = true;
    }
}

static void on_frame(struct sim *sim, struct sim_worker *w, const struct sim_event *e)
{
    struct gw_msg m;
    if (gw_msg_decode(&e->frame, &m, NULL) != GW_OK) {
        sim_fail(sim, "a %s does not decode", gw_msg_name(e->frame.type));
        return;
    }
    if (m.type != GW_MSG_PING) sim_trace(sim, "w%u     <- %s", w->slot, gw_msg_name(m.type));
    w->heard_us = sim->now_us;
    switch (m.type) {
    case GW_MSG_WELCOME: on_welcome(sim, w, &m); break;
    case GW_MSG_SUBMIT: on_submit(sim, w, &m); break;
    case GW_MSG_CANCEL: on_cancel(w, &m.cancel); break;
    case GW_MSG_CUTOVER: on_cutover(w, &m.cutover); break;
    case GW_MSG_PING: break;
    default: sim_fail(sim, "a worker was sent a %s", gw_msg_name(m.type));
    }
    gw_msg_fini(&m);
}

/* ---- events ---- */

bool sim_worker_frozen(const struct sim *sim, const struct sim_worker *w)
{
    return w->alive && w->frozen_until_us > sim->now_us;
}

static void on_down(struct sim *sim, struct sim_worker *w, const struct sim_event *e)
{
    struct sim_link *l = sim_link_find(sim, e->link);
    l->worker_open = false;
    if (w->link != e->link) return;
    sim_trace(sim, "w%u     <- link %llu down", w->slot, (unsigned long long)e->link);
    reconnect(sim, w);
}

void sim_on_worker_event(struct sim *sim, const struct sim_event *e)
{
    struct sim_worker *w = &sim->workers[e->slot];
    if (e->life != w->life) return;
    if (e->type == SIM_WORKER_START) {
        sim_worker_start(sim, e->slot, sim_chance(sim, 2));
        return;
    }
    if (!w->alive) return;
    switch (e->type) {
    case SIM_WORKER_CONNECT: on_connect(sim, w); break;
    case SIM_WORKER_STEP:
        push(sim, w, SIM_WORKER_STEP, w->step_us);
        on_step(sim, w);
        break;
    case SIM_WORKER_BEAT:
        if (e->link != 0)
            check_welcome(sim, w, e->link);
        else
            on_beat(sim, w);
        break;
    case SIM_FRAME_TO_WORKER:
        if (e->link != 0 && e->link == w->link) on_frame(sim, w, e);
        break;
    default: on_down(sim, w, e);
    }
}
