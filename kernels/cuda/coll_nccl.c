#include "kernels/cuda/coll_nccl.h"

#include <stdlib.h>

#include "kernels/cuda/coll_device_internal.h"
#include "kernels/cuda/coll_tag.h"
#include "kernels/cuda/nccl_end.h"

struct coll_nccl {
    struct gw_coll_device base;
    const struct gw_nccl *nccl;
    struct gw_nccl_comm *comm; /* NULL: not yet, or ended */
    bool left;                 /* ended, but not known to have stopped */
    /* Tags of this step: [GW_COLL_TAGS_MAX] each. Ours go from host to device and out, others' come in and to the host. */
    struct gw_coll_tag *out_host, *in_host;
    struct gw_coll_tag *out, *in;
    struct gw_coll_tag want[GW_COLL_TAGS_MAX];
    uint32_t outs, ins;
};

_Static_assert(offsetof(struct coll_nccl, base) == 0, "a carrier begins with what all have in common");

static struct coll_nccl *of(struct gw_coll_device *d)
{
    return (struct coll_nccl *)d;
}

/* A call that came back with that: waits for what it has begun. Nothing may be put on the stream behind it before, since
 * NCCL itself may not have put its work there yet. */
static gw_err_t called(struct coll_nccl *c, enum gw_nccl_result result, const char *what, int64_t us,
                       struct gw_err_ctx *ctx)
{
    if (result == GW_NCCL_SUCCESS) return GW_OK;
    if (result != GW_NCCL_IN_PROGRESS) return gw_nccl_fail(c->nccl, c->comm, result, what, ctx);
    struct gw_nccl_asked asked = {.nccl = c->nccl, .comm = c->comm, .what = what};
    return gw_coll_device_await(&c->base, gw_nccl_look, &asked, us, what, ctx);
}

static gw_err_t group_called(struct coll_nccl *c, enum gw_nccl_result inside, struct gw_err_ctx *ctx)
{
    enum gw_nccl_result end = c->nccl->group_end(); /* also after an error: a group that was begun must end */
    bool fine = inside == GW_NCCL_SUCCESS || inside == GW_NCCL_IN_PROGRESS;
    return called(c, fine ? end : inside, "NCCL's transfers", c->base.config.deadline_us, ctx);
}

/* Is the work before the event done, and done well? The event first: what NCCL cuts short ends as well, after NCCL has
 * noted why. */
static gw_err_t look_done(struct gw_coll_device *d, void *event, bool *done, struct gw_err_ctx *ctx)
{
    struct coll_nccl *c = of(d);
    struct gw_nccl_asked asked = {.nccl = c->nccl, .comm = c->comm, .what = "NCCL"};
    bool ended = false, well = false;
    TRY(gw_coll_look_event(d, event, &ended, ctx));
    TRY(gw_nccl_look(d, &asked, &well, ctx));
    *done = ended && well;
    return GW_OK;
}

static gw_err_t await_stream(struct coll_nccl *c, const char *what, struct gw_err_ctx *ctx)
{
    const struct gw_coll_device_config *g = &c->base.config;
    TRY(g->ops->event_record(g->device, c->base.event, g->stream, ctx));
    return gw_coll_device_await(&c->base, look_done, c->base.event, g->deadline_us, what, ctx);
}

static enum gw_nccl_result swap(struct coll_nccl *c, const char *from, char *to, size_t bytes, uint32_t i)
{
    const struct gw_coll_device_config *g = &c->base.config;
    int rank = (int)(g->stage_first + i);
    enum gw_nccl_result result = c->nccl->send(from, bytes, GW_NCCL_UINT8, rank, c->comm, g->stream);
    if (result != GW_NCCL_SUCCESS && result != GW_NCCL_IN_PROGRESS) return result;
    return c->nccl->recv(to + i * bytes, bytes, GW_NCCL_UINT8, rank, c->comm, g->stream);
}

/* The all-gather of a stage that is a part of the group. */
static gw_err_t gather_among(struct coll_nccl *c, const char *from, char *to, size_t bytes,
                             struct gw_err_ctx *ctx)
{
    const struct gw_coll_device *d = &c->base;
    char *own = to + d->stage_self * bytes;
    if (own != from) TRY(gw_coll_device_copy(&c->base, own, from, bytes, ctx));
    enum gw_nccl_result result = c->nccl->group_start();
    if (result != GW_NCCL_SUCCESS) return gw_nccl_fail(c->nccl, c->comm, result, "ncclGroupStart", ctx);
    for (uint32_t i = 1; i < d->config.stage_ranks; i++) {
        result = swap(c, from, to, bytes, (d->stage_self + i) % d->config.stage_ranks);
        if (result != GW_NCCL_SUCCESS && result != GW_NCCL_IN_PROGRESS) break;
    }
    return group_called(c, result, ctx);
}

/* Bytes of each rank of the stage to each: to[stage_ranks][bytes]. */
static gw_err_t gather_bytes(struct coll_nccl *c, const void *from, void *to, size_t bytes,
                             struct gw_err_ctx *ctx)
{
    const struct gw_coll_device_config *g = &c->base.config;
    if (g->stage_ranks < g->ranks) return gather_among(c, from, to, bytes, ctx);
    enum gw_nccl_result result = c->nccl->all_gather(from, to, bytes, GW_NCCL_UINT8, c->comm, g->stream);
    return called(c, result, "ncclAllGather", g->deadline_us, ctx);
}

static gw_err_t gather(struct gw_coll_device *d, size_t elems, struct gw_err_ctx *ctx)
{
    size_t bytes =
        d->roots_max * elems * sizeof(float); /* of a rank with fewer roots the last rows are junk */
    return gather_bytes(of(d), gw_coll_block(d, d->stage_self, elems), d->gathered, bytes, ctx);
}

static struct gw_coll_tag tag_of(const struct coll_nccl *c, enum gw_coll_tag_kind kind, uint32_t rank,
                                 uint64_t count, uint64_t digest)
{
    const struct gw_coll_device_config *g = &c->base.config;
    return gw_coll_tag_make(kind, &(struct gw_coll_tag){.rank = rank,
                                                        .pipeline = g->pipeline,
                                                        .term = g->term,
                                                        .generation = g->generation,
                                                        .step = c->base.step,
                                                        .count = count,
                                                        .digest = digest});
}

/* Puts a tag of ours where NCCL can send it from: *at in device memory. */
static gw_err_t put_tag(struct coll_nccl *c, struct gw_coll_tag tag, struct gw_coll_tag **at,
                        struct gw_err_ctx *ctx)
{
    if (c->outs == GW_COLL_TAGS_MAX)
        return gw_fail(ctx, GW_ERR_LIMIT, "more than %d transfers in a step", GW_COLL_TAGS_MAX);
    c->out_host[c->outs] = tag;
    *at = &c->out[c->outs];
    TRY(gw_coll_device_copy(&c->base, *at, &c->out_host[c->outs], sizeof tag, ctx));
    c->outs++;
    return GW_OK;
}

/* Room for `len` tags of others, which are looked at in finish. */
static gw_err_t want_tags(struct coll_nccl *c, uint32_t len, struct gw_coll_tag **at, struct gw_err_ctx *ctx)
{
    if (len > GW_COLL_TAGS_MAX - c->ins)
        return gw_fail(ctx, GW_ERR_LIMIT, "more than %d transfers in a step", GW_COLL_TAGS_MAX);
    *at = &c->in[c->ins];
    c->ins += len;
    return GW_OK;
}

static gw_err_t send_bytes(struct gw_coll_device *d, uint32_t rank, const void *data, size_t bytes,
                           struct gw_err_ctx *ctx)
{
    struct coll_nccl *c = of(d);
    const struct gw_nccl *n = c->nccl;
    struct gw_coll_tag *tag = NULL;
    TRY(put_tag(c, tag_of(c, GW_COLL_TAG_DATA, d->config.self, bytes, 0), &tag, ctx));
    enum gw_nccl_result result = n->group_start();
    if (result != GW_NCCL_SUCCESS) return gw_nccl_fail(n, c->comm, result, "ncclGroupStart", ctx);
    result = n->send(data, bytes, GW_NCCL_UINT8, (int)rank, c->comm, d->config.stream);
    if (result == GW_NCCL_SUCCESS || result == GW_NCCL_IN_PROGRESS)
        result = n->send(tag, sizeof *tag, GW_NCCL_UINT8, (int)rank, c->comm, d->config.stream);
    return group_called(c, result, ctx);
}

static gw_err_t recv_bytes(struct gw_coll_device *d, uint32_t rank, void *data, size_t bytes,
                           struct gw_err_ctx *ctx)
{
    struct coll_nccl *c = of(d);
    const struct gw_nccl *n = c->nccl;
    struct gw_coll_tag *tag = NULL;
    TRY(want_tags(c, 1, &tag, ctx));
    c->want[tag - c->in] = tag_of(c, GW_COLL_TAG_DATA, rank, bytes, 0);
    enum gw_nccl_result result = n->group_start();
    if (result != GW_NCCL_SUCCESS) return gw_nccl_fail(n, c->comm, result, "ncclGroupStart", ctx);
    result = n->recv(data, bytes, GW_NCCL_UINT8, (int)rank, c->comm, d->config.stream);
    if (result == GW_NCCL_SUCCESS || result == GW_NCCL_IN_PROGRESS)
        result = n->recv(tag, sizeof *tag, GW_NCCL_UINT8, (int)rank, c->comm, d->config.stream);
    return group_called(c, result, ctx);
}

/* A tag of each rank of the stage to each. */
static gw_err_t exchange_tags(struct coll_nccl *c, enum gw_coll_tag_kind kind, uint64_t count,
                              uint64_t digest, struct gw_err_ctx *ctx)
{
    const struct gw_coll_device_config *g = &c->base.config;
    struct gw_coll_tag *own = NULL, *all = NULL;
    if (g->stage_ranks == 1) return GW_OK;
    TRY(want_tags(c, g->stage_ranks, &all, ctx));
    for (uint32_t i = 0; i < g->stage_ranks; i++)
        c->want[all - c->in + i] = tag_of(c, kind, g->stage_first + i, count, digest);
    TRY(put_tag(c, tag_of(c, kind, g->self, count, digest), &own, ctx));
    return gather_bytes(c, own, all, sizeof *own, ctx);
}

/* Waits for all that was begun, and looks at what the others said with it. */
static gw_err_t settle_tags(struct coll_nccl *c, struct gw_err_ctx *ctx)
{
    if (c->ins > 0) TRY(gw_coll_device_copy(&c->base, c->in_host, c->in, c->ins * sizeof *c->in, ctx));
    TRY(await_stream(c, "a rank of the group", ctx));
    for (uint32_t i = 0; i < c->ins; i++) TRY(gw_coll_tag_check(&c->in_host[i], &c->want[i], ctx));
    c->ins = c->outs = 0;
    return GW_OK;
}

static gw_err_t finish(struct gw_coll_device *d, struct gw_err_ctx *ctx)
{
    TRY(exchange_tags(of(d), GW_COLL_TAG_FENCE, d->sums, d->sums_digest, ctx));
    return settle_tags(of(d), ctx);
}

static void give_up(struct gw_coll_device *d)
{
    struct coll_nccl *c = of(d);
    if (c->comm && !gw_nccl_end_by_force(d, c->nccl, c->comm)) c->left = true;
    c->comm = NULL;
}

static bool close_comm(struct gw_coll_device *d)
{
    struct coll_nccl *c = of(d);
    if (c->comm && d->failed.code == GW_OK && !atomic_load(&d->aborted)) {
        c->left = !gw_nccl_end_in_peace(d, c->nccl, c->comm);
        c->comm = NULL;
    }
    give_up(d);
    return !c->left;
}

static const struct gw_coll_carrier carrier = {
    .name = "nccl",
    .gather = gather,
    .send = send_bytes,
    .recv = recv_bytes,
    .finish = finish,
    .give_up = give_up,
    .close = close_comm,
};

static gw_err_t alloc_tags(struct coll_nccl *c, struct gw_err_ctx *ctx)
{
    size_t bytes = GW_COLL_TAGS_MAX * sizeof(struct gw_coll_tag);
    struct gw_coll_tag **to[] = {&c->out_host, &c->in_host, &c->out, &c->in};
    for (int i = 0; i < 4; i++) {
        void *memory = NULL;
        TRY(gw_coll_device_alloc(&c->base, i < 2, bytes, &memory, ctx));
        *to[i] = memory;
    }
    return GW_OK;
}

static gw_err_t init_comm(struct coll_nccl *c, const struct gw_coll_nccl_config *config,
                          struct gw_err_ctx *ctx)
{
    const struct gw_coll_device_config *g = &config->group;
    struct gw_nccl_config options = {
        .size = sizeof options, .magic = GW_NCCL_CONFIG_MAGIC, .version = GW_NCCL_VERSION_MIN, .blocking = 0};
    enum gw_nccl_result result =
        c->nccl->comm_init_rank_config(&c->comm, (int)g->ranks, config->id, (int)g->self, &options);
    return called(c, result, "ncclCommInitRankConfig", config->init_us, ctx);
}

/* Of what must be the same at every rank of the stage. */
static uint64_t cut_digest(const struct gw_coll_device_config *g)
{
    uint64_t digest = GW_COLL_DIGEST_BEGIN;
    for (uint32_t i = 0; i <= g->stage_ranks; i++) digest = gw_coll_digest(digest, g->share_at[i]);
    return gw_coll_digest(digest, g->max_elems);
}

static gw_err_t set_up(struct coll_nccl *c, const struct gw_coll_nccl_config *config, struct gw_err_ctx *ctx)
{
    if (config->init_us < 1) return gw_fail(ctx, GW_ERR_INPUT, "collectives without a time to form in");
    TRY(gw_coll_device_init(&c->base, &config->group, &carrier, ctx));
    TRY(alloc_tags(c, ctx));
    TRY(init_comm(c, config, ctx));
    TRY(exchange_tags(c, GW_COLL_TAG_HELLO, config->group.shares, cut_digest(&config->group), ctx));
    return settle_tags(c, ctx);
}

gw_err_t gw_coll_nccl_create(const struct gw_coll_nccl_config *config, struct gw_coll_device **out,
                             struct gw_err_ctx *ctx)
{
    struct coll_nccl *c = calloc(1, sizeof *c);
    if (!c) return gw_fail(ctx, GW_ERR_MEMORY, "no memory for collectives");
    c->base.carrier = &carrier;
    c->nccl = config->nccl;
    gw_err_t err = set_up(c, config, &c->base.failed);
    if (err == GW_OK) {
        *out = &c->base;
        return GW_OK;
    }
    struct gw_err_ctx failed = c->base.failed;
    bool rest = gw_coll_device_destroy(&c->base);
    return gw_fail(ctx, err, "%s%s", failed.text, rest ? "" : " (and what it had begun did not end)");
}
