#include "kernels/cuda/coll_staged.h"

#include <stdlib.h>

#include "kernels/cuda/coll_device_internal.h"

struct coll_staged {
    struct gw_coll_device base;
    struct gw_coll *coll;
    char *out, *in;            /* pinned */
    struct gw_event *event[2]; /* of the two halves of out, or of in */
};

_Static_assert(offsetof(struct coll_staged, base) == 0, "a carrier begins with what all have in common");

static struct coll_staged *of(struct gw_coll_device *d)
{
    return (struct coll_staged *)d;
}

static gw_err_t mark(struct coll_staged *c, struct gw_event *event, struct gw_err_ctx *ctx)
{
    const struct gw_coll_device_config *g = &c->base.config;
    return g->ops->event_record(g->device, event, g->stream, ctx);
}

static gw_err_t await_mark(struct coll_staged *c, struct gw_event *event, struct gw_err_ctx *ctx)
{
    return gw_coll_device_await(&c->base, gw_coll_look_event, event, c->base.config.deadline_us, "the device",
                                ctx);
}

/* To all others of the stage, each beginning with its successor, so that not all send to one. */
static gw_err_t send_roots(struct coll_staged *c, size_t bytes, struct gw_err_ctx *ctx)
{
    const struct gw_coll_device *d = &c->base;
    for (uint32_t i = 1; i < d->config.stage_ranks; i++) {
        uint32_t to = d->config.stage_first + (d->stage_self + i) % d->config.stage_ranks;
        TRY(gw_coll_send(c->coll, to, GW_COLL_DATA, c->out, bytes, ctx));
    }
    return GW_OK;
}

static gw_err_t recv_roots(struct coll_staged *c, size_t elems, struct gw_err_ctx *ctx)
{
    struct gw_coll_device *d = &c->base;
    char *to = c->in;
    for (uint32_t i = 0; i < d->config.stage_ranks; i++) {
        size_t bytes = d->stage[i].roots_len * elems * sizeof(float);
        if (i == d->stage_self) continue;
        TRY(gw_coll_recv(c->coll, d->config.stage_first + i, to, bytes, ctx));
        TRY(gw_coll_device_copy(d, gw_coll_block(d, i, elems), to, bytes, ctx));
        to += bytes;
    }
    return GW_OK;
}

/* When the copy to `out` is done, so are those of the sum before from `in`: both are free. */
static gw_err_t gather(struct gw_coll_device *d, size_t elems, struct gw_err_ctx *ctx)
{
    struct coll_staged *c = of(d);
    size_t bytes = d->stage[d->stage_self].roots_len * elems * sizeof(float);
    TRY(gw_coll_device_copy(d, c->out, gw_coll_block(d, d->stage_self, elems), bytes, ctx));
    TRY(mark(c, d->event, ctx));
    TRY(await_mark(c, d->event, ctx));
    TRY(send_roots(c, bytes, ctx));
    return recv_roots(c, elems, ctx);
}

static size_t piece_len(size_t bytes, size_t at)
{
    return bytes - at < GW_COLL_STAGED_PIECE ? bytes - at : GW_COLL_STAGED_PIECE;
}

/* The piece that begins at `at` of data goes through this half of the pinned memory. */
static uint32_t half_of(size_t at)
{
    return (uint32_t)(at / GW_COLL_STAGED_PIECE % 2);
}

static gw_err_t fetch_piece(struct coll_staged *c, const char *data, size_t bytes, size_t at,
                            struct gw_err_ctx *ctx)
{
    uint32_t half = half_of(at);
    if (at >= bytes) return GW_OK;
    TRY(gw_coll_device_copy(&c->base, c->out + half * GW_COLL_STAGED_PIECE, data + at, piece_len(bytes, at),
                            ctx));
    return mark(c, c->event[half], ctx);
}

static gw_err_t send_bytes(struct gw_coll_device *d, uint32_t rank, const void *data, size_t bytes,
                           struct gw_err_ctx *ctx)
{
    struct coll_staged *c = of(d);
    TRY(fetch_piece(c, data, bytes, 0, ctx));
    for (size_t at = 0; at < bytes; at += GW_COLL_STAGED_PIECE) {
        TRY(fetch_piece(c, data, bytes, at + GW_COLL_STAGED_PIECE, ctx));
        TRY(await_mark(c, c->event[half_of(at)], ctx));
        TRY(gw_coll_send(c->coll, rank, GW_COLL_DATA, c->out + half_of(at) * GW_COLL_STAGED_PIECE,
                         piece_len(bytes, at), ctx));
    }
    return GW_OK;
}

static gw_err_t recv_bytes(struct gw_coll_device *d, uint32_t rank, void *data, size_t bytes,
                           struct gw_err_ctx *ctx)
{
    struct coll_staged *c = of(d);
    /* Copies of a sum or a transfer before may still read from `in`. */
    for (int half = 0; half < 2; half++) TRY(mark(c, c->event[half], ctx));
    for (size_t at = 0; at < bytes; at += GW_COLL_STAGED_PIECE) {
        uint32_t half = half_of(at);
        char *in = c->in + half * GW_COLL_STAGED_PIECE;
        TRY(await_mark(c, c->event[half], ctx));
        TRY(gw_coll_recv(c->coll, rank, in, piece_len(bytes, at), ctx));
        TRY(gw_coll_device_copy(d, (char *)data + at, in, piece_len(bytes, at), ctx));
        TRY(mark(c, c->event[half], ctx));
    }
    return GW_OK;
}

static void begin(struct gw_coll_device *d, uint64_t step)
{
    gw_coll_begin(of(d)->coll, step);
}

static gw_err_t finish(struct gw_coll_device *d, struct gw_err_ctx *ctx)
{
    TRY(mark(of(d), d->event, ctx));
    return await_mark(of(d), d->event, ctx);
}

static void abort_frames(struct gw_coll_device *d)
{
    gw_coll_abort(of(d)->coll);
}

static bool close_staged(struct gw_coll_device *d)
{
    struct coll_staged *c = of(d);
    /* The others may still need what this rank has sent last; a failure is theirs to find. */
    if (d->failed.code == GW_OK && gw_coll_flush(c->coll, NULL) != GW_OK) gw_coll_abort(c->coll);
    for (int i = 0; i < 2; i++)
        if (c->event[i]) d->config.ops->event_destroy(d->config.device, c->event[i]);
    return true; /* what is under way names pinned memory alone: coll_device.c waits for the stream */
}

static const struct gw_coll_carrier carrier = {
    .name = "staged",
    .begin = begin,
    .gather = gather,
    .send = send_bytes,
    .recv = recv_bytes,
    .finish = finish,
    .wake = abort_frames,
    .give_up = abort_frames,
    .close = close_staged,
};

static gw_err_t alloc_pinned(struct coll_staged *c, uint32_t rows, char **out, struct gw_err_ctx *ctx)
{
    const struct gw_coll_device_config *g = &c->base.config;
    size_t bytes = rows * g->max_elems * sizeof(float);
    void *memory = NULL;
    if (bytes < 2 * GW_COLL_STAGED_PIECE) bytes = 2 * GW_COLL_STAGED_PIECE;
    TRY(gw_coll_device_alloc(&c->base, true, bytes, &memory, ctx));
    *out = memory;
    return GW_OK;
}

static gw_err_t set_up(struct coll_staged *c, const struct gw_coll_device_config *g, struct gw_err_ctx *ctx)
{
    TRY(gw_coll_device_init(&c->base, g, &carrier, ctx));
    uint32_t roots = 0, own = c->base.stage[c->base.stage_self].roots_len;
    for (uint32_t i = 0; i < g->stage_ranks; i++) roots += c->base.stage[i].roots_len;
    TRY(alloc_pinned(c, own, &c->out, ctx));
    TRY(alloc_pinned(c, roots - own, &c->in, ctx));
    for (int i = 0; i < 2; i++) TRY(g->ops->event_create(g->device, &c->event[i], ctx));
    return GW_OK;
}

gw_err_t gw_coll_staged_create(const struct gw_coll_staged_config *config, struct gw_coll_device **out,
                               struct gw_err_ctx *ctx)
{
    struct coll_staged *c = calloc(1, sizeof *c);
    if (!c) return gw_fail(ctx, GW_ERR_MEMORY, "no memory for collectives");
    c->base.carrier = &carrier;
    c->coll = config->coll;
    gw_err_t err = set_up(c, &config->group, ctx);
    if (err == GW_OK)
        *out = &c->base;
    else
        (void)gw_coll_device_destroy(&c->base); /* nothing is under way yet */
    return err;
}
