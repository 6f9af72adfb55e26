#include "kernels/cuda/coll_device_internal.h"

#include <assert.h>
#include <sched.h>
#include <stdlib.h>
#include <time.h>

#include "kernels/coll_cut.h"

/* A wait asks without a break for so long: a step of a small model. Then it sleeps between two looks: a twentieth of what a
 * sum between GPUs takes, and little of a core. */
#define SPIN_US  200
#define SLEEP_NS 20000

static gw_err_t check_config(const struct gw_coll_device_config *c, struct gw_err_ctx *ctx)
{
    const struct gw_coll_cut cut = {.self = c->self,
                                    .ranks = c->ranks,
                                    .stage_first = c->stage_first,
                                    .stage_ranks = c->stage_ranks,
                                    .shares = c->shares,
                                    .share_at = c->share_at,
                                    .max_elems = c->max_elems,
                                    .deadline_us = c->deadline_us};
    return gw_coll_cut_check(&cut, ctx);
}

static void cut_tree(struct gw_coll_device *d, const struct gw_coll_device_config *c)
{
    for (uint32_t i = 0; i < c->stage_ranks; i++) {
        struct gw_coll_stage_rank *r = &d->stage[i];
        r->first = c->share_at[i];
        r->last = c->share_at[i + 1];
        r->roots_len = gw_share_tree_roots(c->shares, r->first, r->last, r->roots);
        if (r->roots_len > d->roots_max) d->roots_max = r->roots_len;
    }
    const struct gw_coll_stage_rank *own = &d->stage[d->stage_self];
    d->within_len = gw_share_tree_within(c->shares, own->first, own->last, d->within);
    d->rest_len = gw_share_tree_rest(c->shares, c->share_at, c->stage_ranks, d->rest);
}

static gw_err_t alloc_sums(struct gw_coll_device *d, struct gw_err_ctx *ctx)
{
    const struct gw_coll_stage_rank *own = &d->stage[d->stage_self];
    size_t row = d->config.max_elems * sizeof(float);
    void *memory = NULL;
    TRY(gw_coll_device_alloc(d, false, (own->last - own->first) * row, &memory, ctx));
    d->partials = memory;
    if (d->config.stage_ranks == 1) return GW_OK;
    TRY(gw_coll_device_alloc(d, false, (size_t)d->config.stage_ranks * d->roots_max * row, &memory, ctx));
    d->gathered = memory;
    return GW_OK;
}

gw_err_t gw_coll_device_init(struct gw_coll_device *d, const struct gw_coll_device_config *config,
                             const struct gw_coll_carrier *carrier, struct gw_err_ctx *ctx)
{
    d->carrier = carrier;
    d->config = *config;
    d->config.share_at = NULL;
    TRY(check_config(config, ctx));
    d->stage_self = config->self - config->stage_first;
    d->sums_digest = GW_COLL_DIGEST_BEGIN;
    cut_tree(d, config);
    TRY(config->ops->event_create(config->device, &d->event, ctx));
    return alloc_sums(d, ctx);
}

gw_err_t gw_coll_device_alloc(struct gw_coll_device *d, bool pinned, size_t bytes, void **out,
                              struct gw_err_ctx *ctx)
{
    const struct gw_coll_device_config *c = &d->config;
    assert(d->buffers_len < GW_COLL_BUFFERS_MAX);
    struct gw_coll_buffer *b = &d->buffers[d->buffers_len];
    *b = (struct gw_coll_buffer){.pinned = pinned};
    TRY(pinned ? c->ops->alloc_pinned(c->device, bytes, &b->memory, ctx)
               : c->ops->alloc(c->device, bytes, &b->memory, ctx));
    d->buffers_len++;
    *out = b->memory;
    return GW_OK;
}

gw_err_t gw_coll_device_copy(struct gw_coll_device *d, void *to, const void *from, size_t bytes,
                             struct gw_err_ctx *ctx)
{
    return d->config.ops->copy(d->config.device, to, from, bytes, d->config.stream, ctx);
}

float *gw_coll_block(const struct gw_coll_device *d, uint32_t stage_rank, size_t elems)
{
    return d->gathered + (size_t)stage_rank * d->roots_max * elems;
}

gw_err_t gw_coll_look_event(struct gw_coll_device *d, void *arg, bool *done, struct gw_err_ctx *ctx)
{
    return d->config.ops->event_query(d->config.device, arg, done, ctx);
}

static gw_err_t await(struct gw_coll_device *d, const _Atomic bool *aborted, gw_coll_look_fn *look, void *arg,
                      int64_t us, const char *what, struct gw_err_ctx *ctx)
{
    int64_t start = gw_clock_mono_us();
    for (bool done = false;;) {
        if (aborted && (atomic_load(aborted) || (d->config.stop && atomic_load(d->config.stop))))
            return gw_fail(ctx, GW_ERR_IO, "aborted");
        int64_t waited = gw_clock_mono_us() - start;
        TRY(look(d, arg, &done, ctx));
        if (done) return GW_OK;
        if (waited > us) return gw_fail(ctx, GW_ERR_IO, "%s is slow", what);
        if (waited < SPIN_US)
            sched_yield();
        else
            (void)nanosleep(&(struct timespec){.tv_nsec = SLEEP_NS}, NULL);
    }
}

gw_err_t gw_coll_device_await(struct gw_coll_device *d, gw_coll_look_fn *look, void *arg, int64_t us,
                              const char *what, struct gw_err_ctx *ctx)
{
    return await(d, &d->aborted, look, arg, us, what, ctx);
}

bool gw_coll_device_await_end(struct gw_coll_device *d, gw_coll_look_fn *look, void *arg)
{
    int64_t us = d->config.end_us ? d->config.end_us : GW_COLL_END_US;
    return await(d, NULL, look, arg, us, "the end", NULL) == GW_OK;
}

/* Is the stream at rest? What was put there may name the memory. */
static bool drain(struct gw_coll_device *d)
{
    const struct gw_coll_device_config *c = &d->config;
    return d->event && c->ops->event_record(c->device, d->event, c->stream, NULL) == GW_OK &&
           gw_coll_device_await_end(d, gw_coll_look_event, d->event);
}

static void free_all(struct gw_coll_device *d)
{
    const struct gw_coll_device_config *c = &d->config;
    for (uint32_t i = 0; i < d->buffers_len; i++) {
        if (d->buffers[i].pinned)
            c->ops->free_pinned(c->device, d->buffers[i].memory);
        else
            c->ops->free(c->device, d->buffers[i].memory);
    }
}

bool gw_coll_device_destroy(struct gw_coll_device *d)
{
    if (!d) return true;
    bool rest = d->carrier->close(d);
    if (d->buffers_len > 0) rest = drain(d) && rest;
    if (rest) free_all(d);
    if (d->event) d->config.ops->event_destroy(d->config.device, d->event);
    free(d);
    return rest;
}

const char *gw_coll_device_carrier(const struct gw_coll_device *d)
{
    return d->carrier->name;
}

void gw_coll_device_begin(struct gw_coll_device *d, uint64_t step)
{
    d->step = step;
    if (d->carrier->begin) d->carrier->begin(d, step);
}

float *gw_coll_device_partials(struct gw_coll_device *d)
{
    return d->partials;
}

/* Every call ends here: the first error stays, and ends what is under way. */
static gw_err_t settle(struct gw_coll_device *d, gw_err_t err, struct gw_err_ctx *ctx)
{
    if (err == GW_OK) return GW_OK;
    gw_fail(&d->failed, err, "collectives failed");
    d->carrier->give_up(d);
    return gw_fail(ctx, d->failed.code, "%s", d->failed.text);
}

/* What a step begins with may be a receive: the device is not the thread's before that. */
static gw_err_t check_usable(struct gw_coll_device *d, struct gw_err_ctx *ctx)
{
    const struct gw_coll_device_config *c = &d->config;
    if (d->failed.code != GW_OK) return gw_fail(ctx, d->failed.code, "%s", d->failed.text);
    if (atomic_load(&d->aborted)) return settle(d, gw_fail(&d->failed, GW_ERR_IO, "aborted"), ctx);
    return c->ops->enter ? settle(d, c->ops->enter(c->device, &d->failed), ctx) : GW_OK;
}

static gw_err_t sum(struct gw_coll_device *d, const struct gw_share_add *adds, uint32_t adds_len,
                    float *const *rows, float *residual, size_t elems, struct gw_err_ctx *ctx)
{
    if (adds_len == 0 && !residual) return GW_OK;
    struct gw_row_sum job = {
        .adds = adds, .adds_len = adds_len, .rows = rows, .residual = residual, .elems = elems};
    return d->config.ops->sum(d->config.device, &job, d->config.stream, ctx);
}

/* The roots of this rank's shares into its block. */
static gw_err_t pack_roots(struct gw_coll_device *d, float *const *rows, size_t elems, struct gw_err_ctx *ctx)
{
    const struct gw_coll_stage_rank *own = &d->stage[d->stage_self];
    float *block = gw_coll_block(d, d->stage_self, elems);
    for (uint32_t k = 0; k < own->roots_len; k++)
        TRY(gw_coll_device_copy(d, block + k * elems, rows[own->roots[k]], elems * sizeof(float), ctx));
    return GW_OK;
}

static void set_roots(const struct gw_coll_device *d, float *rows[GW_SHARES_MAX], size_t elems)
{
    for (uint32_t i = 0; i < d->config.stage_ranks; i++)
        for (uint32_t k = 0; k < d->stage[i].roots_len; k++)
            rows[d->stage[i].roots[k]] = gw_coll_block(d, i, elems) + k * elems;
}

static gw_err_t tree_add(struct gw_coll_device *d, float *residual, size_t elems, struct gw_err_ctx *ctx)
{
    const struct gw_coll_stage_rank *own = &d->stage[d->stage_self];
    float *rows[GW_SHARES_MAX] = {NULL};
    if (elems == 0) return GW_OK;
    for (uint32_t s = own->first; s < own->last; s++) rows[s] = d->partials + (s - own->first) * elems;
    if (d->config.stage_ranks == 1) return sum(d, d->within, d->within_len, rows, residual, elems, ctx);
    TRY(sum(d, d->within, d->within_len, rows, NULL, elems, ctx));
    TRY(pack_roots(d, rows, elems, ctx));
    d->sums++;
    d->sums_digest = gw_coll_digest(d->sums_digest, elems);
    TRY(d->carrier->gather(d, elems, ctx));
    set_roots(d, rows, elems);
    return sum(d, d->rest, d->rest_len, rows, residual, elems, ctx);
}

gw_err_t gw_coll_device_tree_add(struct gw_coll_device *d, float *residual, size_t elems,
                                 struct gw_err_ctx *ctx)
{
    assert(elems <= d->config.max_elems);
    TRY(check_usable(d, ctx));
    return settle(d, tree_add(d, residual, elems, &d->failed), ctx);
}

gw_err_t gw_coll_device_send(struct gw_coll_device *d, uint32_t rank, const void *data, size_t bytes,
                             struct gw_err_ctx *ctx)
{
    assert(rank < d->config.ranks && rank != d->config.self && bytes > 0);
    TRY(check_usable(d, ctx));
    return settle(d, d->carrier->send(d, rank, data, bytes, &d->failed), ctx);
}

gw_err_t gw_coll_device_recv(struct gw_coll_device *d, uint32_t rank, void *data, size_t bytes,
                             struct gw_err_ctx *ctx)
{
    assert(rank < d->config.ranks && rank != d->config.self && bytes > 0);
    TRY(check_usable(d, ctx));
    return settle(d, d->carrier->recv(d, rank, data, bytes, &d->failed), ctx);
}

gw_err_t gw_coll_device_finish(struct gw_coll_device *d, struct gw_err_ctx *ctx)
{
    TRY(check_usable(d, ctx));
    gw_err_t err = d->carrier->finish(d, &d->failed);
    d->sums = 0;
    d->sums_digest = GW_COLL_DIGEST_BEGIN;
    return settle(d, err, ctx);
}

void gw_coll_device_use(struct gw_coll_device *d, struct gw_stream *stream)
{
    d->config.stream = stream;
}

void gw_coll_device_abort(struct gw_coll_device *d)
{
    atomic_store(&d->aborted, true);
    if (d->carrier->wake) d->carrier->wake(d);
}
