#include "kernels/cpu/coll_in.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct gw_coll_frame {
    struct gw_coll_frame *next;
    struct gw_coll_head head;
    uint8_t payload[];
};

gw_err_t gw_coll_in_init(struct gw_coll_in *in, const struct gw_coll_fence *fence)
{
    *in = (struct gw_coll_in){.fence = fence, .stage = malloc(GW_COLL_STAGE_BYTES)};
    return in->stage ? GW_OK : GW_ERR_MEMORY;
}

void gw_coll_in_fini(struct gw_coll_in *in)
{
    for (int kind = 0; kind < GW_COLL_KINDS; kind++)
        for (struct gw_coll_frame *f = in->queues[kind].first, *next; f; f = next) {
            next = f->next;
            free(f);
        }
    free(in->frame);
    free(in->stage);
    *in = (struct gw_coll_in){0};
}

static struct gw_coll_queue *queue_of(struct gw_coll_in *in, uint8_t kind)
{
    return &in->queues[kind - 1];
}

static size_t queued_bytes(const struct gw_coll_head *head)
{
    return sizeof(struct gw_coll_frame) + head->bytes;
}

static void queue_push(struct gw_coll_in *in, struct gw_coll_frame *frame)
{
    struct gw_coll_queue *q = queue_of(in, frame->head.kind);
    if (q->last)
        q->last->next = frame;
    else
        q->first = frame;
    q->last = frame;
}

static gw_err_t check_want(const struct gw_coll_in *in, const struct gw_coll_head *head,
                           struct gw_err_ctx *ctx)
{
    if (head->step != in->want.step)
        return gw_fail(ctx, GW_ERR_PROTO, "a frame of step %" PRIu64 ", not %" PRIu64, head->step,
                       in->want.step);
    if (head->bytes != in->want.bytes)
        return gw_fail(ctx, GW_ERR_PROTO, "a frame of %u bytes, not %zu", head->bytes, in->want.bytes);
    return GW_OK;
}

/* Decides where the payload of in->head goes. */
static gw_err_t begin_payload(struct gw_coll_in *in, struct gw_err_ctx *ctx)
{
    in->reading = true;
    in->got = 0;
    if (in->head.kind == GW_COLL_DATA && in->want.to) {
        /* nothing is queued before it: the want would have had that */
        in->payload = in->want.to;
        return check_want(in, &in->head, ctx);
    }
    if (queued_bytes(&in->head) > GW_COLL_QUEUE_MAX - in->queued)
        return gw_fail(ctx, GW_ERR_LIMIT, "over %zu bytes wait to be received", GW_COLL_QUEUE_MAX);
    in->frame = malloc(queued_bytes(&in->head));
    if (!in->frame) return gw_fail(ctx, GW_ERR_MEMORY, "no memory for a frame of %u bytes", in->head.bytes);
    in->queued += queued_bytes(&in->head);
    *in->frame = (struct gw_coll_frame){.head = in->head};
    in->payload = in->frame->payload;
    return GW_OK;
}

/* Gives the first queued DATA frame to the want. */
static gw_err_t serve_want(struct gw_coll_in *in, struct gw_err_ctx *ctx)
{
    struct gw_coll_head head;
    if (!in->want.to || !gw_coll_in_first(in, GW_COLL_DATA, &head)) return GW_OK;
    TRY(check_want(in, &head, ctx));
    gw_coll_in_take(in, GW_COLL_DATA, in->want.to);
    in->want.to = NULL;
    return GW_OK;
}

static gw_err_t end_payload(struct gw_coll_in *in, struct gw_err_ctx *ctx)
{
    in->reading = false;
    if (!in->frame) {
        in->want.to = NULL;
        return GW_OK;
    }
    queue_push(in, in->frame);
    in->frame = NULL;
    return serve_want(in, ctx);
}

int gw_coll_in_room(struct gw_coll_in *in, struct iovec iov[2])
{
    int len = 0;
    if (in->reading) iov[len++] = (struct iovec){in->payload + in->got, in->head.bytes - in->got};
    iov[len++] = (struct iovec){in->stage + in->staged, GW_COLL_STAGE_BYTES - in->staged};
    return len;
}

/* Takes one head, or bytes of a payload, off the stage at *at; *more = false: there is no whole one. */
static gw_err_t cut(struct gw_coll_in *in, size_t *at, bool *more, struct gw_err_ctx *ctx)
{
    size_t left = in->staged - *at;
    *more = in->reading ? left > 0 : left >= GW_COLL_HEAD_BYTES;
    if (!*more) return GW_OK;
    if (!in->reading) {
        TRY(gw_coll_head_get(in->stage + *at, in->fence, &in->head, ctx));
        *at += GW_COLL_HEAD_BYTES;
        TRY(begin_payload(in, ctx));
    } else {
        size_t missing = in->head.bytes - in->got, n = missing < left ? missing : left;
        memcpy(in->payload + in->got, in->stage + *at, n);
        *at += n;
        in->got += n;
    }
    return in->got == in->head.bytes ? end_payload(in, ctx) : GW_OK;
}

gw_err_t gw_coll_in_got(struct gw_coll_in *in, size_t bytes, struct gw_err_ctx *ctx)
{
    if (in->reading) {
        size_t missing = in->head.bytes - in->got, n = missing < bytes ? missing : bytes;
        in->got += n;
        bytes -= n;
        if (in->got == in->head.bytes) TRY(end_payload(in, ctx));
    }
    in->staged += bytes;
    assert(in->staged <= GW_COLL_STAGE_BYTES);
    size_t at = 0;
    for (bool more = true; more;) TRY(cut(in, &at, &more, ctx));
    in->staged -= at;
    memmove(in->stage, in->stage + at, in->staged);
    return GW_OK;
}

gw_err_t gw_coll_in_want(struct gw_coll_in *in, void *to, size_t bytes, uint64_t step, struct gw_err_ctx *ctx)
{
    assert(!in->want.to && to && bytes > 0);
    in->want = (struct gw_coll_want){.to = to, .bytes = bytes, .step = step};
    return serve_want(in, ctx);
}

bool gw_coll_in_first(const struct gw_coll_in *in, uint8_t kind, struct gw_coll_head *head)
{
    const struct gw_coll_frame *f = in->queues[kind - 1].first;
    if (f) *head = f->head;
    return f != NULL;
}

void gw_coll_in_take(struct gw_coll_in *in, uint8_t kind, void *to)
{
    struct gw_coll_queue *q = queue_of(in, kind);
    struct gw_coll_frame *f = q->first;
    assert(f);
    if (f->head.bytes > 0) memcpy(to, f->payload, f->head.bytes);
    in->queued -= queued_bytes(&f->head);
    q->first = f->next;
    if (!q->first) q->last = NULL;
    free(f);
}
