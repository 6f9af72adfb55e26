#include "worker/engine_internal.h"

#include "base/hash.h"

struct gw_job **engine_find_job(struct gw_engine *e, uint64_t request)
{
    struct gw_job **link = &e->jobs[gw_mix64(request) & (ENGINE_JOB_BUCKETS - 1)];
    while (*link && (*link)->request.id != request) link = &(*link)->chain;
    return link;
}

void engine_forget_job(struct gw_engine *e, struct gw_job **link)
{
    struct gw_job *job = *link;
    if (job->refilling) gw_refill_drop(e->refill, job);
    for (uint32_t i = job->request.n; i-- > 0;) gw_scheduler_finish(e->scheduler, &job->branches[i]);
    *link = job->chain;
    e->jobs_len--;
    job->forgotten = true;
    if (job->in_flight == 0) gw_job_destroy(job);
}

static gw_err_t check_log(const struct gw_request *r, const struct gw_branch_log *log, uint32_t vocab,
                          struct gw_err_ctx *ctx)
{
    if (log->len > r->sampling.max_tokens || (log->len == r->sampling.max_tokens && !log->done))
        return gw_fail(ctx, GW_ERR_INPUT, "a log of %u tokens where max_tokens is %u", log->len,
                       r->sampling.max_tokens);
    for (uint32_t i = 0; i < log->len; i++)
        if (log->ids[i] >= vocab)
            return gw_fail(ctx, GW_ERR_INPUT, "a log's token id %u is not below %u", log->ids[i], vocab);
    return GW_OK;
}

static gw_err_t check_submit(const struct gw_engine *e, const struct gw_msg_submit *submit,
                             struct gw_err_ctx *ctx)
{
    const struct gw_request *r = &submit->request;
    uint32_t vocab = e->config.model->config.vocab;
    TRY(gw_request_check(r, vocab, e->config.model->config.context, ctx));
    for (uint32_t i = 0; i < r->n; i++) TRY(check_log(r, &submit->logs[i], vocab, ctx));
    if (gw_blocks_for(gw_job_kv_tokens(r)) > gw_blocks_total(e->blocks))
        return gw_fail(ctx, GW_ERR_LIMIT, "needs KV for %u tokens, this worker has room for %u",
                       gw_job_kv_tokens(r), gw_engine_kv_tokens(e));
    if (e->jobs_len >= GW_ENGINE_JOBS_MAX)
        return gw_fail(ctx, GW_ERR_LIMIT, "%u requests are here already", e->jobs_len);
    return GW_OK;
}

static bool let_wait(struct gw_engine *e, struct gw_job *job, uint32_t tokens,
                     const struct gw_page_holder *holders, uint32_t holders_len)
{
    job->refilling = gw_refill_add(e->refill, job, tokens, holders, holders_len, false) == GW_OK;
    return job->refilling;
}

/* False: it need not wait for pages. */
static bool begin_refill(struct gw_engine *e, struct gw_job *job, const struct gw_msg_submit *submit)
{
    uint32_t tokens = e->refill ? gw_refill_wants(e->refill, job, submit, false) : 0;
    return tokens > 0 && let_wait(e, job, tokens, submit->holders, submit->holders_len);
}

bool engine_fetch_back(void *arg, struct gw_job *job)
{
    struct gw_engine *e = arg;
    uint32_t tokens = e->refill ? gw_refill_wants_back(e->refill, job) : 0;
    return tokens > 0 && let_wait(e, job, tokens, NULL, 0);
}

gw_err_t gw_engine_submit(struct gw_engine *e, struct gw_msg_submit *submit, struct gw_err_ctx *ctx)
{
    struct gw_job *job;
    struct gw_job **old = engine_find_job(e, submit->request.id);
    if (*old && (*old)->attempt >= submit->attempt) return GW_OK;
    TRY(check_submit(e, submit, ctx));
    gw_err_t err = gw_job_create(submit, e->arrivals, &job);
    if (err != GW_OK) return gw_fail(ctx, err, "out of memory");
    e->arrivals++;
    if (*old) engine_forget_job(e, old);
    struct gw_job **link = engine_find_job(e, job->request.id);
    if (job->live == 0) { /* nothing is left to do */
        gw_job_destroy(job);
        return GW_OK;
    }
    *link = job;
    e->jobs_len++;
    if (!begin_refill(e, job, submit)) gw_scheduler_add(e->scheduler, job);
    return GW_OK;
}

static void say_warmed(struct gw_engine *e, struct gw_job *job)
{
    const struct gw_engine_sink *sink = &e->config.sink;
    uint32_t tokens = e->refill ? gw_refill_have(e->refill, job) : 0;
    if (sink->warmed) sink->warmed(sink->arg, job->request.id, job->attempt, tokens);
}

gw_err_t gw_engine_warm(struct gw_engine *e, struct gw_msg_submit *submit, struct gw_err_ctx *ctx)
{
    struct gw_job *job;
    TRY(check_submit(e, submit, ctx));
    gw_err_t err = gw_job_create(submit, 0, &job);
    if (err != GW_OK) return gw_fail(ctx, err, "out of memory");
    uint32_t tokens = e->refill ? gw_refill_wants(e->refill, job, submit, true) : 0;
    if (tokens > 0 &&
        gw_refill_add(e->refill, job, tokens, submit->holders, submit->holders_len, true) == GW_OK)
        return GW_OK;
    say_warmed(e, job);
    gw_job_destroy(job);
    return GW_OK;
}

void gw_engine_tend(struct gw_engine *e)
{
    struct gw_job *job;
    bool warm;
    if (!e->refill) return;
    gw_refill_turn(e->refill, gw_rank_steps(e->config.rank));
    while (gw_refill_next(e->refill, &job, &warm)) {
        if (warm) {
            say_warmed(e, job);
        } else {
            job->refilling = false;
            gw_scheduler_add(e->scheduler, job);
        }
    }
}

void gw_engine_use_all_slots(struct gw_engine *e)
{
    gw_blocks_set_limit(e->blocks, gw_blocks_total(e->blocks));
}

void gw_engine_cancel(struct gw_engine *e, uint64_t request, uint32_t attempt, uint32_t branch)
{
    struct gw_job **link = engine_find_job(e, request);
    if (!*link || (*link)->attempt > attempt) return;
    if (branch == GW_BRANCH_ALL) {
        engine_forget_job(e, link);
    } else if (branch < (*link)->request.n) {
        gw_scheduler_finish(e->scheduler, &(*link)->branches[branch]);
        if ((*link)->live == 0) engine_forget_job(e, link);
    }
}

/* The block that the branch writes to can be had as far as it is full, since nobody will write to it any more. */
static void publish_tail(struct gw_engine *e, struct gw_branch *b)
{
    uint32_t whole = gw_branch_whole(b);
    if (b->state != GW_BRANCH_RUNNING || gw_branch_tail(b) == 0) return;
    if (b->computed + 1 != gw_branch_len(b) || b->blocks_len <= whole) return;
    const struct gw_block_name name = gw_branch_tail_name(b, &e->namer);
    gw_rank_seal_slot(e->config.rank, b->blocks[whole], &name);
}

bool gw_engine_hand_off(struct gw_engine *e, uint64_t request, uint32_t attempt,
                        uint32_t log_len[GW_REQUEST_BRANCHES_MAX], uint32_t *n)
{
    struct gw_job **link = engine_find_job(e, request);
    if (!*link || (*link)->attempt != attempt) return false;
    *n = (*link)->request.n;
    for (uint32_t i = 0; i < *n; i++) {
        log_len[i] = (*link)->branches[i].output_len;
        publish_tail(e, &(*link)->branches[i]);
    }
    gw_rank_settle_pages(e->config.rank);
    engine_forget_job(e, link);
    return true;
}

void gw_engine_reset(struct gw_engine *e)
{
    for (uint32_t i = 0; i < ENGINE_JOB_BUCKETS; i++)
        while (e->jobs[i]) engine_forget_job(e, &e->jobs[i]);
}

uint32_t gw_engine_list(const struct gw_engine *e, uint64_t *requests, uint32_t max)
{
    uint32_t len = 0;
    for (uint32_t i = 0; i < ENGINE_JOB_BUCKETS; i++)
        for (const struct gw_job *job = e->jobs[i]; job && len < max; job = job->chain)
            requests[len++] = job->request.id;
    return len;
}

uint32_t gw_engine_jobs(const struct gw_engine *e)
{
    return e->jobs_len;
}
