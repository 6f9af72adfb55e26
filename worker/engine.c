#include "worker/engine.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/hash.h"
#include "worker/forward.h"
#include "worker/sampler.h"
#include "worker/scheduler.h"

#define JOB_BUCKETS 4096 /* power of two */

struct gw_engine {
    struct gw_engine_config config;
    const struct gw_ops *ops;
    struct gw_device *device;
    struct gw_weights *weights;
    struct gw_page_pool *pool;
    struct gw_blocks *blocks;
    struct gw_block_namer namer;
    struct gw_scheduler *scheduler;
    struct gw_forward *forward;
    struct gw_sampler *sampler;
    uint32_t context;
    struct gw_job *jobs[JOB_BUCKETS];
    uint32_t jobs_len;
    uint64_t arrivals;
    /* one step's descriptors */
    uint32_t *ids;            /* [max_batch_tokens] */
    struct gw_seq_rows *seqs; /* [max_sequences] */
    uint64_t steps, step_us;
    struct gw_engine_stats stats;
};

/* ---- set-up ---- */

static const char *dtype_name(enum gw_dtype type)
{
    return type == GW_F32 ? "f32" : type == GW_BF16 ? "bf16" : "f16";
}

static gw_err_t create_pool(struct gw_engine *e, struct gw_err_ctx *ctx)
{
    const struct gw_engine_config *c = &e->config;
    uint32_t slots = gw_blocks_for(c->kv_tokens);
    TRY(gw_page_pool_create(&c->model->config, &c->model->cells, e->ops->kv, slots, c->poison, &e->pool,
                            ctx));
    gw_err_t err = gw_blocks_create(slots, e->pool, &e->blocks);
    if (err != GW_OK) return gw_fail(ctx, err, "no memory for %u block descriptors", slots);
    uint64_t capacity = (uint64_t)slots * GW_BLOCK_TOKENS;
    e->context = c->model->config.context;
    if (capacity < e->context) e->context = (uint32_t)capacity;
    return GW_OK;
}

static gw_err_t create_parts(struct gw_engine *e, struct gw_err_ctx *ctx)
{
    const struct gw_engine_config *c = &e->config;
    const struct gw_scheduler_config scheduler = {.max_batch_tokens = c->max_batch_tokens,
                                                  .max_sequences = c->max_sequences,
                                                  .max_chunk = c->max_chunk};
    TRY(gw_block_namer_init(&e->namer, c->key, c->key_len, c->fingerprint, sizeof c->fingerprint,
                            e->ops->profile, dtype_name(e->ops->kv), ctx));
    TRY(gw_weights_create(c->model, e->ops, &e->weights, ctx));
    TRY(create_pool(e, ctx));
    const struct gw_forward_config forward = {.model = c->model,
                                              .weights = e->weights,
                                              .pool = e->pool,
                                              .ops = e->ops,
                                              .device = e->device,
                                              .max_rows = c->max_batch_tokens,
                                              .positions = e->context};
    TRY(gw_forward_create(&forward, &e->forward, ctx));
    e->ids = calloc(c->max_batch_tokens, sizeof *e->ids);
    e->seqs = calloc(c->max_sequences, sizeof *e->seqs);
    if (!e->ids || !e->seqs || gw_sampler_create(c->model->config.vocab, &e->sampler) != GW_OK ||
        gw_scheduler_create(&scheduler, e->blocks, &e->namer, &e->scheduler) != GW_OK)
        return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    return GW_OK;
}

/* What the sampler was compiled for, whatever the operations need. */
static gw_err_t check_cpu(struct gw_err_ctx *ctx)
{
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return GW_OK;
    return gw_fail(ctx, GW_ERR_NOT_FOUND, "this CPU lacks avx2 or fma");
}

gw_err_t gw_engine_create(const struct gw_engine_config *config, struct gw_engine **out,
                          struct gw_err_ctx *ctx)
{
    gw_err_t err = GW_OK;
    assert(config->kv_tokens > 0 && config->max_batch_tokens > 0 && config->max_sequences > 0);
    struct gw_engine *e = calloc(1, sizeof *e);
    if (!e) return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    e->config = *config;
    if (!e->config.profile) e->config.profile = gw_model_profile(config->model);
    gw_device_enter_thread();
    TRY_GOTO(check_cpu(ctx), out);
    TRY_GOTO(gw_ops_cpu(e->config.profile, config->isa, &e->ops, ctx), out);
    TRY_GOTO(gw_device_cpu_create(config->threads, config->pin, &e->device, ctx), out);
    TRY_GOTO(create_parts(e, ctx), out);
    e->config.key = NULL; /* the namer has its own copy */
    *out = e;
    e = NULL;
out:
    gw_engine_destroy(e);
    return err;
}

void gw_engine_destroy(struct gw_engine *e)
{
    if (!e) return;
    if (e->scheduler) gw_engine_reset(e);
    gw_scheduler_destroy(e->scheduler);
    gw_sampler_destroy(e->sampler);
    gw_forward_destroy(e->forward);
    gw_blocks_destroy(e->blocks);
    gw_page_pool_destroy(e->pool);
    gw_weights_destroy(e->weights);
    if (e->device) gw_device_destroy(e->device);
    free(e->ids);
    free(e->seqs);
    gw_bytes_wipe(&e->namer, sizeof e->namer);
    free(e);
}

uint32_t gw_engine_kv_tokens_in(const struct gw_model *model, const char *profile, uint64_t bytes)
{
    const struct gw_ops *ops;
    if (gw_ops_cpu(profile ? profile : gw_model_profile(model), GW_ISA_AUTO, &ops, NULL) != GW_OK) return 0;
    uint64_t slots = bytes / gw_page_pool_slot_bytes(&model->config, &model->cells, ops->kv);
    if (slots > GW_BLOCKS_MAX / GW_BLOCK_TOKENS) slots = GW_BLOCKS_MAX / GW_BLOCK_TOKENS;
    return (uint32_t)slots * GW_BLOCK_TOKENS;
}

const struct gw_ops *gw_engine_ops(const struct gw_engine *e)
{
    return e->ops;
}

struct gw_device *gw_engine_device(const struct gw_engine *e)
{
    return e->device;
}

uint32_t gw_engine_context(const struct gw_engine *e)
{
    return e->context;
}

uint32_t gw_engine_kv_tokens(const struct gw_engine *e)
{
    return gw_blocks_total(e->blocks) * GW_BLOCK_TOKENS;
}

/* ---- jobs ---- */

static struct gw_job **find_job(struct gw_engine *e, uint64_t request)
{
    struct gw_job **link = &e->jobs[gw_mix64(request) & (JOB_BUCKETS - 1)];
    while (*link && (*link)->request.id != request) link = &(*link)->chain;
    return link;
}

static void forget_job(struct gw_engine *e, struct gw_job **link)
{
    struct gw_job *job = *link;
    for (uint32_t i = job->request.n; i-- > 0;) gw_scheduler_finish(e->scheduler, &job->branches[i]);
    *link = job->chain;
    e->jobs_len--;
    gw_job_destroy(job);
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

gw_err_t gw_engine_submit(struct gw_engine *e, struct gw_msg_submit *submit, struct gw_err_ctx *ctx)
{
    struct gw_job *job;
    struct gw_job **old = find_job(e, submit->request.id);
    if (*old && (*old)->attempt >= submit->attempt) return GW_OK;
    TRY(check_submit(e, submit, ctx));
    gw_err_t err = gw_job_create(submit, e->arrivals, &job);
    if (err != GW_OK) return gw_fail(ctx, err, "out of memory");
    e->arrivals++;
    if (*old) forget_job(e, old);
    struct gw_job **link = find_job(e, job->request.id);
    if (job->live == 0) { /* nothing is left to do */
        gw_job_destroy(job);
        return GW_OK;
    }
    *link = job;
    e->jobs_len++;
    gw_scheduler_add(e->scheduler, job);
    return GW_OK;
}

void gw_engine_cancel(struct gw_engine *e, uint64_t request, uint32_t attempt, uint32_t branch)
{
    struct gw_job **link = find_job(e, request);
    if (!*link || (*link)->attempt > attempt) return;
    if (branch == GW_BRANCH_ALL) {
        forget_job(e, link);
    } else if (branch < (*link)->request.n) {
        gw_scheduler_finish(e->scheduler, &(*link)->branches[branch]);
        if ((*link)->live == 0) forget_job(e, link);
    }
}

bool gw_engine_hand_off(struct gw_engine *e, uint64_t request, uint32_t attempt,
                        uint32_t log_len[GW_REQUEST_BRANCHES_MAX], uint32_t *n)
{
    struct gw_job **link = find_job(e, request);
    if (!*link || (*link)->attempt != attempt) return false;
    *n = (*link)->request.n;
    for (uint32_t i = 0; i < *n; i++) log_len[i] = (*link)->branches[i].output_len;
    forget_job(e, link);
    return true;
}

void gw_engine_reset(struct gw_engine *e)
{
    for (uint32_t i = 0; i < JOB_BUCKETS; i++)
        while (e->jobs[i]) forget_job(e, &e->jobs[i]);
}

uint32_t gw_engine_jobs(const struct gw_engine *e)
{
    return e->jobs_len;
}

/* ---- a step ---- */

/* Row-major: sequences one after another, in the step's order. */
static void describe(struct gw_engine *e, const struct gw_step *step)
{
    uint32_t row = 0;
    for (uint32_t i = 0; i < step->items_len; i++) {
        const struct gw_step_item *item = &step->items[i];
        struct gw_branch *b = item->branch;
        gw_branch_copy_ids(b, b->computed, item->rows, e->ids + row);
        e->seqs[i] = (struct gw_seq_rows){
            .row = row, .rows = item->rows, .position = b->computed, .blocks = b->blocks};
        row += item->rows;
    }
}

static void announce(struct gw_engine *e, const struct gw_step *step)
{
    const struct gw_engine_sink *sink = &e->config.sink;
    for (uint32_t i = 0; i < step->items_len; i++) {
        struct gw_job *job = step->items[i].branch->job;
        if (job->started) continue;
        job->started = true;
        if (sink->started) sink->started(sink->arg, job->request.id, job->attempt);
    }
}

/* One logit row and what is known of it. */
struct row {
    const float *logits;
    float max, sum;
};

static void emit(struct gw_engine *e, const struct gw_branch *b, struct gw_sample_out *drawn)
{
    const struct gw_engine_sink *sink = &e->config.sink;
    struct gw_tokens tokens = {.first = b->output_len - 1,
                               .count = 1,
                               .top_n = b->job->request.sampling.top_logprobs,
                               .ids = &drawn->id,
                               .logprobs = &drawn->logprob,
                               .top = drawn->top};
    e->stats.tokens++;
    if (sink->tokens) sink->tokens(sink->arg, b->job->request.id, b->job->attempt, b->index, &tokens);
}

/* Draws the next token of b from the row, appends and says it; the branch may end by that. */
static void draw(struct gw_engine *e, struct gw_branch *b, const struct row *row)
{
    const struct gw_request *r = &b->job->request;
    const struct gw_engine_sink *sink = &e->config.sink;
    struct gw_sample_out drawn;
    const struct gw_sample_in in = {.logits = row->logits,
                                    .params = &r->sampling,
                                    .prompt = r->prompt,
                                    .prompt_len = r->prompt_len,
                                    .output = b->output,
                                    .output_len = b->output_len,
                                    .branch = b->index,
                                    .max = row->max,
                                    .sum = row->sum};
    if (sink->logits) sink->logits(sink->arg, r->id, b->index, b->output_len, row->logits);
    gw_sampler_draw(e->sampler, &in, &drawn);
    b->output[b->output_len++] = drawn.id;
    emit(e, b, &drawn);
    if (gw_request_finish_at(&r->sampling, b->output_len - 1, drawn.id) != GW_FINISH_NONE)
        gw_scheduler_finish(e->scheduler, b);
}

/* Siblings that were HELD until b had computed their prompt. Those that begin with it draw their first token
 * from the same row. */
static void let_siblings_go(struct gw_engine *e, struct gw_branch *b, const struct row *row)
{
    struct gw_job *job = b->job;
    for (uint32_t i = 0; row && b->output_len == 0 && i < job->request.n; i++) {
        struct gw_branch *to = &job->branches[i];
        if (to->state != GW_BRANCH_HELD || to->output_len != 0) continue;
        if (gw_scheduler_fork(e->scheduler, b, to)) draw(e, to, row);
    }
    gw_scheduler_release(e->scheduler, job);
}

/* The item's rows are computed; row is its last one's logits, NULL unless item->sample. */
static void settle(struct gw_engine *e, const struct gw_step_item *item, const struct row *row)
{
    struct gw_branch *b = item->branch;
    struct gw_job *job = b->job;
    gw_scheduler_computed(e->scheduler, item);
    if (job->held > 0 && b->computed >= job->request.prompt_len) let_siblings_go(e, b, row);
    if (row) draw(e, b, row);
    if (job->live == 0) forget_job(e, find_job(e, job->request.id));
}

/* Logits of items[first .. first + count), all of which sample, and their draws. */
static void sample_some(struct gw_engine *e, const struct gw_step_item *const *items, const uint32_t *rows,
                        uint32_t count)
{
    float max[GW_FORWARD_LOGIT_ROWS] = {0}, sum[GW_FORWARD_LOGIT_ROWS] = {0};
    bool stats = false;
    int64_t start_us = gw_clock_mono_us();
    const float *logits = gw_forward_logits(e->forward, rows, count);
    for (uint32_t i = 0; i < count; i++) stats |= items[i]->branch->job->request.sampling.logprobs;
    if (stats) gw_forward_stats(e->forward, count, max, sum);
    e->stats.kernel_us += (uint64_t)(gw_clock_mono_us() - start_us);
    for (uint32_t i = 0; i < count; i++) {
        const struct row row = {
            .logits = logits + (size_t)i * e->config.model->config.vocab, .max = max[i], .sum = sum[i]};
        settle(e, items[i], &row);
    }
}

static void settle_all(struct gw_engine *e, const struct gw_step *step)
{
    const struct gw_step_item *items[GW_FORWARD_LOGIT_ROWS];
    uint32_t rows[GW_FORWARD_LOGIT_ROWS], count = 0, end = 0;
    for (uint32_t i = 0; i < step->items_len; i++) {
        const struct gw_step_item *item = &step->items[i];
        end += item->rows;
        if (!item->sample) {
            settle(e, item, NULL);
            continue;
        }
        items[count] = item;
        rows[count++] = end - 1;
        if (count < GW_FORWARD_LOGIT_ROWS) continue;
        sample_some(e, items, rows, count);
        count = 0;
    }
    if (count) sample_some(e, items, rows, count);
}

bool gw_engine_step(struct gw_engine *e)
{
    int64_t start_us = gw_clock_mono_us();
    const struct gw_step *step = gw_scheduler_plan(e->scheduler);
    if (step->items_len == 0) return false;
    describe(e, step);
    announce(e, step);
    int64_t forward_us = gw_clock_mono_us();
    gw_forward_run(e->forward, e->ids, step->rows, e->seqs, step->items_len);
    e->stats.kernel_us += (uint64_t)(gw_clock_mono_us() - forward_us);
    settle_all(e, step);
    e->steps++;
    e->step_us = (uint64_t)(gw_clock_mono_us() - start_us);
    e->stats.rows += step->rows;
    e->stats.busy_us += e->step_us;
    return true;
}

void gw_engine_stats(const struct gw_engine *e, struct gw_engine_stats *out)
{
    const struct gw_scheduler_stats s = gw_scheduler_stats(e->scheduler);
    uint32_t total = gw_blocks_total(e->blocks);
    *out = e->stats;
    out->progress = (struct gw_msg_heartbeat){
        .steps = e->steps,
        .step_us = e->step_us,
        .running = s.running,
        .waiting = s.waiting,
        .kv_used_tokens = (total - gw_blocks_available(e->blocks)) * GW_BLOCK_TOKENS,
        .kv_total_tokens = total * GW_BLOCK_TOKENS,
        .prefix_hit_tokens = s.prefix_hit_tokens,
        .prefix_query_tokens = s.prefix_query_tokens,
        .preemptions = s.preemptions,
    };
}
