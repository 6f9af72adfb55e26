/* Engines for tests: open a model, run requests, keep what came out.
 *
 * A recorder keeps, per (request, branch, position): the record, and a hash of the logit row it was drawn
 * from, so that two runs can be compared bit for bit. Tests run from the repository's root. */
#ifndef GW_TESTS_ENGINE_FIXTURE_H
#define GW_TESTS_ENGINE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/rng.h"
#include "tests/lib/solo_engine.h"

#define FIXTURE_RUNS_MAX     128
#define FIXTURE_BRANCHES_MAX 8
#define FIXTURE_TOKENS_MAX   160

struct fixture_record {
    uint32_t id;
    float logprob;
    struct gw_top top[GW_REQUEST_TOP_MAX];
    uint64_t logits; /* hash of the row */
};

struct fixture_branch {
    uint32_t first, len; /* records [first, len) were made by this run; those before came with the log */
    struct fixture_record records[FIXTURE_TOKENS_MAX];
};

struct fixture_run {
    uint64_t request;
    uint32_t attempt, started;
    struct fixture_branch branches[FIXTURE_BRANCHES_MAX];
};

struct fixture {
    struct gw_model *model;
    struct solo solo;
    struct gw_engine *engine; /* solo's */
    struct fixture_run *runs;
    uint32_t runs_len;
    float *last_row; /* [vocab], of the newest draw */
};

static inline struct fixture_run *fixture_run_of(struct fixture *f, uint64_t request)
{
    for (uint32_t i = 0; i < f->runs_len; i++)
        if (f->runs[i].request == request) return &f->runs[i];
    assert_true(f->runs_len < FIXTURE_RUNS_MAX);
    struct fixture_run *run = &f->runs[f->runs_len++];
    memset(run, 0, sizeof *run);
    run->request = request;
    return run;
}

static inline void fixture_started(void *arg, uint64_t request, uint32_t attempt)
{
    struct fixture_run *run = fixture_run_of(arg, request);
    run->attempt = attempt;
    run->started++;
}

static inline void fixture_logits(void *arg, uint64_t request, uint32_t branch, uint32_t position,
                                  const float *row)
{
    struct fixture *f = arg;
    uint32_t vocab = f->model->config.vocab;
    assert_true(branch < FIXTURE_BRANCHES_MAX && position < FIXTURE_TOKENS_MAX);
    fixture_run_of(f, request)->branches[branch].records[position].logits =
        gw_hash64(row, vocab * sizeof *row, 1);
    memcpy(f->last_row, row, vocab * sizeof *row);
}

static inline void fixture_tokens(void *arg, uint64_t request, uint32_t attempt, uint32_t branch,
                                  const struct gw_tokens *tokens)
{
    struct fixture_run *run = fixture_run_of(arg, request);
    struct fixture_branch *b = &run->branches[branch];
    assert_int_equal(attempt, run->attempt);
    assert_true(run->started > 0);
    if (b->len == 0) b->first = b->len = tokens->first;
    assert_int_equal(tokens->first, b->len);
    for (uint32_t i = 0; i < tokens->count; i++) {
        struct fixture_record *r = &b->records[b->len++];
        r->id = tokens->ids[i];
        r->logprob = tokens->logprobs[i];
        if (tokens->top_n)
            memcpy(r->top, tokens->top + (size_t)i * tokens->top_n, tokens->top_n * sizeof *r->top);
    }
}

static inline struct solo_config fixture_config(void)
{
    static const char key[] = "a cluster key for tests, 32 byte";
    struct solo_config c = {.threads = 2,
                            .kv_tokens = 8192,
                            .max_batch_tokens = 512,
                            .max_sequences = 64,
                            .poison = true,
                            .key = key,
                            .key_len = sizeof key - 1};
    return c;
}

/* Opens dir's model and an engine of this configuration over it, which records what it does, but for logit rows. */
static inline void fixture_open_blind(struct fixture *f, const char *dir, struct solo_config config)
{
    struct gw_err_ctx ctx = {0};
    memset(f, 0, sizeof *f);
    if (gw_model_open(dir, &f->model, &ctx) != GW_OK) fail_msg("%s", ctx.text);
    f->runs = calloc(FIXTURE_RUNS_MAX, sizeof *f->runs);
    f->last_row = calloc(f->model->config.vocab, sizeof *f->last_row);
    config.sink.arg = f;
    config.sink.started = fixture_started;
    config.sink.tokens = fixture_tokens;
    if (solo_open(&f->solo, f->model, &config, &ctx) != GW_OK) fail_msg("%s", ctx.text);
    f->engine = f->solo.engine;
}

/* The same with logit rows. */
static inline void fixture_open(struct fixture *f, const char *dir, struct solo_config config)
{
    config.sink.logits = fixture_logits;
    fixture_open_blind(f, dir, config);
}

static inline void fixture_close(struct fixture *f)
{
    solo_close(&f->solo);
    gw_model_close(f->model);
    free(f->runs);
    free(f->last_row);
}

/* A plain greedy request over a copy of prompt; change its sampling before submitting. */
static inline struct gw_request fixture_request(uint64_t id, const uint32_t *prompt, uint32_t len,
                                                uint32_t max_tokens)
{
    struct gw_request r = {.id = id, .n = 1, .prompt_len = len, .prompt = malloc(len * sizeof *prompt)};
    memcpy(r.prompt, prompt, len * sizeof *prompt);
    r.sampling = (struct gw_sampling){.top_p = 1, .repetition_penalty = 1, .max_tokens = max_tokens};
    return r;
}

/* Submits request (taken over) with logs cut from the records of `from` (NULL: empty logs): keep[b] records
 * of branch b. */
static inline void fixture_submit(struct fixture *f, struct gw_request *request, uint32_t attempt,
                                  const struct fixture_run *from, const uint32_t *keep)
{
    struct gw_branch_log logs[FIXTURE_BRANCHES_MAX] = {0};
    uint32_t ids[FIXTURE_BRANCHES_MAX][FIXTURE_TOKENS_MAX];
    struct gw_err_ctx ctx = {0};
    for (uint32_t b = 0; from && b < request->n; b++) {
        logs[b].len = keep[b];
        logs[b].ids = ids[b];
        for (uint32_t i = 0; i < keep[b]; i++) ids[b][i] = from->branches[b].records[i].id;
        logs[b].done =
            keep[b] > 0 && gw_request_finish_at(&request->sampling, keep[b] - 1, ids[b][keep[b] - 1]);
    }
    struct gw_msg_submit submit = {.attempt = attempt, .request = *request, .logs = logs};
    if (gw_engine_submit(f->engine, &submit, &ctx) != GW_OK) fail_msg("%s", ctx.text);
    gw_request_fini(&submit.request);
}

/* A step, which must not fail. False if there was nothing to do. */
static inline bool fixture_step(struct fixture *f)
{
    struct gw_err_ctx ctx = {0};
    bool did;
    if (gw_engine_step(f->engine, &did, &ctx) != GW_OK) fail_msg("%s", ctx.text);
    return did;
}

static inline void fixture_drain(struct fixture *f)
{
    while (fixture_step(f)) continue;
    assert_int_equal(gw_engine_jobs(f->engine), 0);
}

/* Bit for bit the same records from position `first` on, and the same number of them? */
static inline void fixture_expect_same(const struct fixture_branch *want, const struct fixture_branch *got,
                                       uint32_t first, uint32_t top_n)
{
    assert_int_equal(want->len, got->len);
    for (uint32_t i = first; i < want->len; i++) {
        const struct fixture_record *a = &want->records[i], *b = &got->records[i];
        if (a->logits != b->logits) fail_msg("logits differ at position %u", i);
        assert_int_equal(a->id, b->id);
        assert_memory_equal(&a->logprob, &b->logprob, sizeof a->logprob);
        if (top_n) assert_memory_equal(a->top, b->top, top_n * sizeof *a->top);
    }
}

#endif
