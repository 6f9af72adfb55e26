#include "tests/sim/sim.h"

#include <stdlib.h>
#include <string.h>

#define FATAL_AFTER    4 /* counted losses that a request survives; the next one fails it */
#define SHARED_PROMPTS 4 /* prefixes that requests have in common: food for prefix affinity */

/* ---- what clients ask ---- */

static void fill_prompt(struct sim *sim, struct gw_request *q)
{
    q->prompt_len = (uint32_t)sim_between(sim, 1, sim->options.sessions ? 400 : 80);
    q->prompt = sim_alloc(q->prompt_len, sizeof *q->prompt);
    uint64_t shared = gw_rng_below(&sim->rng, SHARED_PROMPTS);
    uint32_t common = (uint32_t)sim_between(sim, 0, q->prompt_len);
    for (uint32_t i = 0; i < q->prompt_len; i++)
        q->prompt[i] = (uint32_t)(i < common ? shared * 7 + i : gw_rng_next(&sim->rng)) % SIM_VOCAB;
}

static struct gw_request *make_request(struct sim *sim, uint64_t id)
{
    struct gw_request *q = sim_alloc(1, sizeof *q);
    struct gw_sampling *s = &q->sampling;
    q->id = id;
    q->n = sim_chance(sim, 3) ? (uint32_t)sim_between(sim, 2, 4) : 1;
    fill_prompt(sim, q);
    *s = (struct gw_sampling){.top_p = 1, .repetition_penalty = 1, .seed = gw_rng_next(&sim->rng)};
    s->max_tokens = (uint32_t)sim_between(sim, 1, SIM_TOKENS_MAX);
    if (sim_chance(sim, 4)) s->min_tokens = (uint32_t)sim_between(sim, 0, s->max_tokens);
    s->logprobs = sim_chance(sim, 3);
    if (s->logprobs) s->top_logprobs = (uint32_t)sim_between(sim, 0, 3);
    s->stop_ids_len = (uint32_t)sim_between(sim, 0, 3);
    s->stop_ids = s->stop_ids_len ? sim_alloc(s->stop_ids_len, sizeof *s->stop_ids) : NULL;
    for (uint32_t i = 0; i < s->stop_ids_len; i++)
        s->stop_ids[i] = (uint32_t)gw_rng_below(&sim->rng, SIM_VOCAB);
    return q;
}

/* The whole result, computed before the run. */
static void foresee(struct sim *sim, const struct gw_request *q, uint32_t branch, struct sim_branch *b)
{
    struct sim_model m;
    sim_model_start(&m, q, branch, NULL, 0);
    b->reason = GW_FINISH_NONE;
    while (b->reason == GW_FINISH_NONE) {
        sim_model_next(&m, q->sampling.top_logprobs, &b->records[b->len]);
        b->reason = gw_request_finish_at(&q->sampling, b->len, b->records[b->len].id);
        b->len++;
    }
    b->stop_at = SIM_NEVER;
    if (!sim_chance(sim, 8)) return;
    b->stop_at = (uint32_t)sim_between(sim, 1, b->len);
    b->stop_keep = (uint32_t)sim_between(sim, 0, b->stop_at);
}

static void plan_request(struct sim *sim, uint32_t i)
{
    struct sim_request *r = &sim->requests[i];
    r->request = make_request(sim, i + 1);
    r->branches = sim_alloc(r->request->n, sizeof *r->branches);
    for (uint32_t b = 0; b < r->request->n; b++) foresee(sim, r->request, b, &r->branches[b]);
    r->poison_at = SIM_NEVER;
    if (sim_chance(sim, 40)) r->poison_at = (uint32_t)sim_between(sim, 0, 20);
    r->too_big = sim_chance(sim, 40);
    r->cancel_after_us = sim_chance(sim, 10) ? sim_between(sim, 0, 3000) * GW_US_PER_MS : 0;
    r->released = true;
    sim_queue_push(sim, (struct sim_event){.at_us = sim_between(sim, 0, sim->faults_end_us),
                                           .type = SIM_REQUEST,
                                           .request = i});
}

void sim_front_plan(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->requests_len; i++) plan_request(sim, i);
}

void sim_front_fini(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->requests_len; i++) {
        gw_request_destroy(sim->requests[i].request);
        free(sim->requests[i].branches);
    }
}

struct sim_request *sim_request_by_id(struct sim *sim, uint64_t id)
{
    return id >= 1 && id <= sim->requests_len ? &sim->requests[id - 1] : NULL;
}

/* ---- what clients do ---- */

static void on_request(struct sim *sim, uint32_t i)
{
    struct sim_request *r = &sim->requests[i];
    struct gw_event e = {.type = GW_EV_SUBMIT};
    struct gw_core_stats stats;
    gw_core_stats(sim->core, &stats);
    sim->queued_before = stats.queued;
    if (gw_request_copy(r->request, &e.submit.request) != GW_OK) abort();
    r->submitted_us = sim->now_us;
    sim_trace(sim, "front  submits %llu: n=%u prompt=%u max=%u%s%s", (unsigned long long)r->request->id,
              r->request->n, r->request->prompt_len, r->request->sampling.max_tokens,
              r->poison_at != SIM_NEVER ? " POISON" : "", r->too_big ? " TOO BIG" : "");
    sim_step(sim, &e);
    if (r->outcome == SIM_PENDING) sim_fail(sim, "request %u was neither accepted nor failed", i + 1);
    if (r->cancel_after_us)
        sim_queue_push(sim, (struct sim_event){.at_us = sim->now_us + r->cancel_after_us,
                                               .type = SIM_CLIENT_GONE,
                                               .request = i});
}

static void end_request(struct sim *sim, struct sim_request *r, enum sim_outcome outcome)
{
    if (r->outcome == SIM_ACCEPTED)
        sim->live--;
    else
        sim->turned_away++;
    r->outcome = outcome;
    sim->ended++;
    sim->ended_us = sim->now_us;
    sim_check_request_ended(sim, r);
}

/* The client's will, which the worker that has the request must be told of. */
static void step_and_expect_cancel(struct sim *sim, const struct sim_request *r, const struct gw_event *e)
{
    bool held = !r->released;
    uint64_t before = sim->cancels;
    sim_step(sim, e);
    if (held && sim->cancels == before)
        sim_fail(sim, "nobody told the worker of request %u", (unsigned)r->request->id);
}

static void on_client_gone(struct sim *sim, uint32_t i)
{
    struct sim_request *r = &sim->requests[i];
    struct gw_event e = {.type = GW_EV_CANCEL, .cancel = {.request = i + 1}};
    sim_trace(sim, "front  cancels %u", i + 1);
    bool was_live = r->outcome == SIM_ACCEPTED;
    if (!was_live) {
        sim_step(sim, &e);
        return;
    }
    r->outcome = SIM_CANCELLED; /* nothing may be said about it from here on */
    step_and_expect_cancel(sim, r, &e);
    r->outcome = SIM_ACCEPTED;
    end_request(sim, r, SIM_CANCELLED);
}

static void on_stop(struct sim *sim, const struct sim_event *ev)
{
    struct sim_request *r = &sim->requests[ev->request];
    struct sim_branch *b = &r->branches[ev->branch];
    struct gw_event e = {.type = GW_EV_STOP,
                         .stop = {.request = ev->request + 1, .branch = ev->branch, .keep = ev->keep}};
    sim_trace(sim, "front  stops %u/%u at %u", ev->request + 1, ev->branch, ev->keep);
    if (r->outcome != SIM_ACCEPTED || b->ended) {
        sim_step(sim, &e);
        return;
    }
    b->ended = true;
    b->got = ev->keep;
    step_and_expect_cancel(sim, r, &e);
}

void sim_on_front_event(struct sim *sim, const struct sim_event *e)
{
    if (e->type == SIM_REQUEST) on_request(sim, e->request);
    if (e->type == SIM_CLIENT_GONE) on_client_gone(sim, e->request);
    if (e->type == SIM_FRONT_STOP) on_stop(sim, e);
}

/* ---- what clients get ---- */

static bool same_record(const struct sim_record *want, const struct gw_tokens *t, uint32_t i)
{
    if (t->ids[i] != want->id || t->logprobs[i] != want->logprob) return false;
    return t->top_n == 0 || memcmp(&t->top[i * t->top_n], want->top, t->top_n * sizeof *t->top) == 0;
}

static void find_stop_string(struct sim *sim, struct sim_request *r, uint32_t branch)
{
    struct sim_branch *b = &r->branches[branch];
    if (b->stopping || b->stop_at > b->got) return;
    b->stopping = true;
    sim_queue_push(
        sim, (struct sim_event){.at_us = sim->now_us + (sim_chance(sim, 2) ? 0 : sim_between(sim, 0, 50000)),
                                .type = SIM_FRONT_STOP,
                                .request = (uint32_t)(r->request->id - 1),
                                .branch = branch,
                                .keep = b->stop_keep});
}

static void on_tokens(struct sim *sim, struct sim_request *r, uint32_t branch, const struct gw_tokens *t)
{
    unsigned id = (unsigned)r->request->id;
    struct sim_branch *b = &r->branches[branch];
    if (branch >= r->request->n || b->ended) sim_fail(sim, "tokens for ended branch %u/%u", id, branch);
    if (t->first != b->got) sim_fail(sim, "%u/%u: tokens from %u, had %u", id, branch, t->first, b->got);
    if (t->count == 0 || t->count > b->len - b->got)
        sim_fail(sim, "%u/%u: %u tokens after %u of %u", id, branch, t->count, b->got, b->len);
    if (t->top_n != r->request->sampling.top_logprobs) sim_fail(sim, "%u: top_n %u", id, t->top_n);
    if (sim->failed) return;
    for (uint32_t i = 0; i < t->count; i++)
        if (!same_record(&b->records[b->got + i], t, i))
            sim_fail(sim, "%u/%u: wrong record at %u", id, branch, b->got + i);
    b->got += t->count;
    sim->touched = (uint32_t)(r->request->id - 1);
    r->counted = r->deaths = 0;
    r->progressed = true;
    r->profile = sim_pipe_find(sim, r->holder)->profile;
    find_stop_string(sim, r, branch);
}

static void on_finish(struct sim *sim, struct sim_request *r, uint32_t branch, enum gw_finish reason)
{
    struct sim_branch *b = &r->branches[branch];
    if (b->ended) sim_fail(sim, "branch %u/%u ended twice", (unsigned)r->request->id, branch);
    if (b->got != b->len || reason != b->reason)
        sim_fail(sim, "%u/%u: finish %d at %u, should be %d at %u", (unsigned)r->request->id, branch, reason,
                 b->got, b->reason, b->len);
    b->ended = true;
}

static void on_done(struct sim *sim, struct sim_request *r)
{
    for (uint32_t b = 0; b < r->request->n; b++)
        if (!r->branches[b].ended) sim_fail(sim, "%u is done but for branch %u", (unsigned)r->request->id, b);
    end_request(sim, r, SIM_DONE);
}

/* The few reasons for which a request may fail. */
static bool may_fail(struct sim *sim, const struct sim_request *r, gw_err_t code)
{
    if (code == GW_ERR_LIMIT && r->outcome == SIM_PENDING)
        return sim->queued_before >= sim->config.max_queued;
    if (r->outcome != SIM_ACCEPTED) return false;
    if (code == GW_ERR_LIMIT)
        return sim->now_us + sim->skew_us - r->submitted_us >= sim->config.max_queue_wait_us;
    if (code == GW_ERR_INPUT) return r->too_big;
    if (r->poison_at == SIM_NEVER) sim->collateral++;
    return code == GW_ERR_INTERNAL && r->alone && r->begun && !r->progressed && r->counted >= FATAL_AFTER;
}

static void on_failed(struct sim *sim, struct sim_request *r, gw_err_t code, const char *text)
{
    if (!text || !text[0]) sim_fail(sim, "%u failed without a word", (unsigned)r->request->id);
    if (!may_fail(sim, r, code))
        sim_fail(sim, "%u must not fail: %s: %s", (unsigned)r->request->id, gw_err_name(code), text);
    end_request(sim, r, SIM_FAILED);
}

void sim_front_action(struct sim *sim, const struct gw_action *a)
{
    uint64_t id = a->type == GW_ACT_TOKENS   ? a->tokens.request
                  : a->type == GW_ACT_FINISH ? a->finish.request
                  : a->type == GW_ACT_FAILED ? a->failed.request
                                             : a->done.request;
    struct sim_request *r = sim_request_by_id(sim, id);
    bool first = a->type == GW_ACT_ACCEPTED || a->type == GW_ACT_FAILED;
    if (!r || !(r->outcome == SIM_ACCEPTED || (first && r->outcome == SIM_PENDING))) {
        sim_fail(sim, "action %d for request %llu, which is not live", a->type, (unsigned long long)id);
        return;
    }
    switch (a->type) {
    case GW_ACT_ACCEPTED:
        if (r->outcome != SIM_PENDING) sim_fail(sim, "%u was accepted twice", (unsigned)id);
        r->outcome = SIM_ACCEPTED;
        sim->live++;
        sim->accepted++;
        break;
    case GW_ACT_TOKENS: on_tokens(sim, r, a->tokens.branch, &a->tokens.tokens); break;
    case GW_ACT_FINISH: on_finish(sim, r, a->finish.branch, a->finish.reason); break;
    case GW_ACT_DONE: on_done(sim, r); break;
    default: on_failed(sim, r, a->failed.code, a->failed.text);
    }
}

/* ---- logs ---- */

void sim_front_check_log(struct sim *sim, uint32_t i)
{
    const struct sim_request *r = &sim->requests[i];
    for (uint32_t b = 0; b < r->request->n && !sim->failed; b++) {
        struct gw_tokens log;
        bool known = gw_core_log(sim->core, i + 1, b, &log);
        if (known != (r->outcome == SIM_ACCEPTED)) {
            sim_fail(sim, "the core %s request %u, outcome %d", known ? "still knows" : "forgot", i + 1,
                     r->outcome);
            return;
        }
        if (!known) continue;
        if (log.first != 0 || log.count != r->branches[b].got)
            sim_fail(sim, "%u/%u: log of %u, the front got %u", i + 1, b, log.count, r->branches[b].got);
        for (uint32_t k = 0; k < log.count && !sim->failed; k++)
            if (!same_record(&r->branches[b].records[k], &log, k))
                sim_fail(sim, "%u/%u: log differs at %u", i + 1, b, k);
    }
}

void sim_front_check_end(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->requests_len; i++) {
        if (sim->requests[i].outcome <= SIM_ACCEPTED) sim_fail(sim, "request %u never ended", i + 1);
        sim_front_check_log(sim, i);
    }
}
