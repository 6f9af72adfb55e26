/* A device whose streams run late: kernels/cuda/stream.h's table over work that is done when a seed says so.
 *
 * Streams are lists of copies, records and waits. Nothing of them is done when it is asked for; each question after an event does some
 * of it, of streams in random turns, as far as waits allow. So a copy that does not wait for what it needs reads what nobody has
 * written yet. A call may fail, and a stream stand still. Any thread. */
#ifndef GW_TESTS_LIB_LATE_DEVICE_H
#define GW_TESTS_LIB_LATE_DEVICE_H

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "kernels/cuda/stream.h"
#include "kernels/device_backend.h"

#define LATE_WORK_MAX   4096
#define LATE_PIECES_MAX 256
#define LATE_STEPS      6 /* pieces of work that one question does at most */

enum late_stream { LATE_COMPUTE, LATE_OUT, LATE_IN, LATE_STREAMS };
enum late_kind { LATE_COPY, LATE_FILL, LATE_RECORD, LATE_WAIT };

struct gw_event {
    uint32_t asked, reached;
};

struct late_work {
    enum late_kind kind;
    void *to;
    const void *from;
    size_t bytes;
    uint8_t byte;
    struct gw_event *event;
    uint32_t turn; /* of the event: this record, or the one that is waited for */
};

struct gw_stream {
    struct late_work work[LATE_WORK_MAX];
    uint32_t first, len;
    bool still;
};

struct late_device {
    struct gw_device_base base; /* first */
    pthread_mutex_t lock;       /* guards the rest */
    struct gw_stream streams[LATE_STREAMS];
    struct gw_rng rng;
    uint32_t fails_of_1000;        /* copies and waits that are refused */
    void *pieces[LATE_PIECES_MAX]; /* of memory, and events, that are not given back */
    uint32_t pieces_len;
    int64_t deadline_us;
    bool left; /* nothing may be given back */
    gw_err_t left_err;
};

static inline struct late_device *late_of(void *self)
{
    return self;
}

static inline bool late_may_do(const struct gw_stream *s)
{
    const struct late_work *w = &s->work[s->first];
    if (s->len == 0 || s->still) return false;
    return w->kind != LATE_WAIT || (int32_t)(w->event->reached - w->turn) >= 0;
}

static inline bool late_do(struct gw_stream *s)
{
    const struct late_work *w = &s->work[s->first];
    if (!late_may_do(s)) return false;
    if (w->kind == LATE_COPY) memcpy(w->to, w->from, w->bytes);
    if (w->kind == LATE_FILL) memset(w->to, w->byte, w->bytes);
    if (w->kind == LATE_RECORD) w->event->reached = w->turn;
    s->first = (s->first + 1) % LATE_WORK_MAX;
    s->len--;
    return true;
}

static inline void late_do_some(struct late_device *d)
{
    for (uint64_t n = gw_rng_below(&d->rng, LATE_STEPS + 1); n > 0; n--)
        (void)late_do(&d->streams[gw_rng_below(&d->rng, LATE_STREAMS)]);
}

/* The stream has done all that it can. */
static inline void late_drain(struct late_device *d, enum late_stream stream)
{
    pthread_mutex_lock(&d->lock);
    while (late_do(&d->streams[stream])) continue;
    pthread_mutex_unlock(&d->lock);
}

static inline gw_err_t late_put(struct late_device *d, struct gw_stream *s, const struct late_work *work,
                                bool may_fail, struct gw_err_ctx *ctx)
{
    pthread_mutex_lock(&d->lock);
    bool fails = may_fail && gw_rng_below(&d->rng, 1000) < d->fails_of_1000;
    if (s->len == LATE_WORK_MAX) abort();
    if (!fails) {
        struct late_work w = *work;
        if (w.kind == LATE_RECORD) w.turn = ++w.event->asked;
        if (w.kind == LATE_WAIT) w.turn = w.event->asked;
        s->work[(s->first + s->len++) % LATE_WORK_MAX] = w;
    }
    pthread_mutex_unlock(&d->lock);
    return fails ? gw_fail(ctx, GW_ERR_CUDA, "planned fault") : GW_OK;
}

/* ---- stream.h ---- */

static inline gw_err_t late_alloc(void *self, size_t bytes, void **out, struct gw_err_ctx *ctx)
{
    (void)ctx;
    struct late_device *d = self;
    *out = malloc(bytes);
    if (!*out || d->pieces_len == LATE_PIECES_MAX) abort();
    memset(*out, 0xFF, bytes);
    d->pieces[d->pieces_len++] = *out;
    return GW_OK;
}

static inline void late_free(void *self, void *memory)
{
    struct late_device *d = self;
    uint32_t at = 0;
    if (d->left) abort(); /* somebody may still use it */
    while (d->pieces[at] != memory) at++;
    d->pieces[at] = d->pieces[--d->pieces_len];
    free(memory);
}

static inline gw_err_t late_event_create(void *self, struct gw_event **out, struct gw_err_ctx *ctx)
{
    void *event;
    TRY(late_alloc(self, sizeof **out, &event, ctx));
    *out = event;
    **out = (struct gw_event){0};
    return GW_OK;
}

static inline void late_event_destroy(void *self, struct gw_event *event)
{
    late_free(self, event);
}

static inline gw_err_t late_record(void *self, struct gw_event *event, struct gw_stream *stream,
                                   struct gw_err_ctx *ctx)
{
    return late_put(self, stream, &(struct late_work){.kind = LATE_RECORD, .event = event}, false, ctx);
}

static inline gw_err_t late_query(void *self, struct gw_event *event, bool *done, struct gw_err_ctx *ctx)
{
    struct late_device *d = self;
    (void)ctx;
    pthread_mutex_lock(&d->lock);
    late_do_some(d);
    *done = event->reached == event->asked;
    pthread_mutex_unlock(&d->lock);
    return GW_OK;
}

static inline gw_err_t late_wait(void *self, struct gw_stream *stream, struct gw_event *event,
                                 struct gw_err_ctx *ctx)
{
    return late_put(self, stream, &(struct late_work){.kind = LATE_WAIT, .event = event}, true, ctx);
}

static inline gw_err_t late_copy(void *self, void *to, const void *from, size_t bytes,
                                 struct gw_stream *stream, struct gw_err_ctx *ctx)
{
    const struct late_work w = {.kind = LATE_COPY, .to = to, .from = from, .bytes = bytes};
    return late_put(self, stream, &w, true, ctx);
}

static const struct gw_stream_ops late_ops = {.alloc = late_alloc,
                                              .free = late_free,
                                              .alloc_pinned = late_alloc,
                                              .free_pinned = late_free,
                                              .event_create = late_event_create,
                                              .event_destroy = late_event_destroy,
                                              .event_record = late_record,
                                              .event_query = late_query,
                                              .wait = late_wait,
                                              .copy = late_copy};

/* ---- the device: what a page pool asks of it ---- */

static inline gw_err_t late_memory_alloc(struct gw_device *dev, struct gw_memory *m, struct gw_err_ctx *ctx)
{
    return late_alloc(dev, m->bytes, &m->device, ctx);
}

static inline void late_memory_free(struct gw_device *dev, struct gw_memory *m)
{
    struct late_device *d = late_of(dev);
    if (!d->left) late_free(d, m->device);
}

static inline void late_copy_lane(struct gw_device *dev, struct gw_copy_lane *out)
{
    struct late_device *d = late_of(dev);
    *out = (struct gw_copy_lane){.ops = &late_ops,
                                 .self = d,
                                 .compute = &d->streams[LATE_COMPUTE],
                                 .out = &d->streams[LATE_OUT],
                                 .in = &d->streams[LATE_IN],
                                 .deadline_us = d->deadline_us};
}

static inline void late_leave(struct gw_device *dev, gw_err_t err, const struct gw_err_ctx *ctx)
{
    struct late_device *d = late_of(dev);
    (void)ctx;
    d->left = true;
    if (d->left_err == GW_OK) d->left_err = err;
}

static const struct gw_device_backend late_backend = {
    .alloc = late_memory_alloc, .free = late_memory_free, .copy_lane = late_copy_lane, .leave = late_leave};

static inline struct gw_device *late_open(struct late_device *d, uint64_t seed)
{
    memset(d, 0, sizeof *d);
    d->base.backend = &late_backend;
    d->deadline_us = INT64_MAX / 2;
    gw_rng_init(&d->rng, seed);
    pthread_mutex_init(&d->lock, NULL);
    return (struct gw_device *)(void *)d;
}

/* A step's write to device memory. */
static inline void late_write(struct late_device *d, void *to, uint8_t byte, size_t bytes)
{
    const struct late_work w = {.kind = LATE_FILL, .to = to, .byte = byte, .bytes = bytes};
    if (late_put(d, &d->streams[LATE_COMPUTE], &w, false, NULL) != GW_OK) abort();
}

/* Returns how many pieces had not been given back; they are gone, too. */
static inline uint32_t late_close(struct late_device *d)
{
    pthread_mutex_destroy(&d->lock);
    for (uint32_t i = 0; i < d->pieces_len; i++) free(d->pieces[i]);
    return d->pieces_len;
}

#endif
