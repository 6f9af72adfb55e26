#include "kernels/cuda/copy_ring.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"

#define LOOK_US 20 /* between looks at a copy: 2 MiB take 80 us on PCIe 5.0 x16 */

struct buffer {
    uint8_t *pinned;
    struct gw_event *event;
    int64_t begun_us;
    bool busy;
};

struct gw_copy_ring {
    struct gw_copy_ring_config config;
    struct gw_event *marks[GW_COPY_MARKS];
    pthread_mutex_t lock; /* guards the rest, and the lane's calls: one at a time */
    pthread_cond_t freed;
    struct buffer out[GW_COPY_BUFFERS], in[GW_COPY_BUFFERS];
    uint32_t next_mark;
    bool left;
};

/* ---- life ---- */

static gw_err_t enter(const struct gw_copy_lane *l, struct gw_err_ctx *ctx)
{
    return l->ops->enter ? l->ops->enter(l->self, ctx) : GW_OK;
}

static gw_err_t open_buffer(struct gw_copy_ring *r, struct buffer *b, struct gw_err_ctx *ctx)
{
    const struct gw_copy_lane *l = &r->config.lane;
    void *pinned;
    TRY(l->ops->event_create(l->self, &b->event, ctx));
    TRY(l->ops->alloc_pinned(l->self, r->config.bytes, &pinned, ctx));
    b->pinned = pinned;
    return GW_OK;
}

static gw_err_t open_all(struct gw_copy_ring *r, struct gw_err_ctx *ctx)
{
    const struct gw_copy_lane *l = &r->config.lane;
    TRY(enter(l, ctx));
    for (uint32_t i = 0; i < GW_COPY_MARKS; i++) TRY(l->ops->event_create(l->self, &r->marks[i], ctx));
    for (uint32_t i = 0; i < GW_COPY_BUFFERS; i++) {
        TRY(open_buffer(r, &r->out[i], ctx));
        TRY(open_buffer(r, &r->in[i], ctx));
    }
    return GW_OK;
}

static void close_buffer(struct gw_copy_ring *r, struct buffer *b)
{
    const struct gw_copy_lane *l = &r->config.lane;
    if (b->event) l->ops->event_destroy(l->self, b->event);
    if (b->pinned) l->ops->free_pinned(l->self, b->pinned);
}

static void close_all(struct gw_copy_ring *r)
{
    const struct gw_copy_lane *l = &r->config.lane;
    if (enter(l, NULL) != GW_OK) return; /* the process ends soon */
    for (uint32_t i = 0; i < GW_COPY_BUFFERS; i++) {
        close_buffer(r, &r->out[i]);
        close_buffer(r, &r->in[i]);
    }
    for (uint32_t i = 0; i < GW_COPY_MARKS; i++)
        if (r->marks[i]) l->ops->event_destroy(l->self, r->marks[i]);
}

gw_err_t gw_copy_ring_create(const struct gw_copy_ring_config *config, struct gw_copy_ring **out,
                             struct gw_err_ctx *ctx)
{
    pthread_condattr_t attr;
    struct gw_copy_ring *r = calloc(1, sizeof *r);
    if (!r) return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    assert(config->lane.ops->wait && config->bytes > 0);
    r->config = *config;
    pthread_mutex_init(&r->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&r->freed, &attr);
    pthread_condattr_destroy(&attr);
    gw_err_t err = open_all(r, ctx);
    if (err == GW_OK)
        *out = r;
    else
        gw_copy_ring_destroy(r);
    return err;
}

gw_err_t gw_copy_ring_open(struct gw_device *dev, size_t bytes, struct gw_copy_ring **out,
                           struct gw_err_ctx *ctx)
{
    const struct gw_device_backend *b = gw_device_backend(dev);
    struct gw_copy_ring_config config = {.device = dev, .bytes = bytes};
    *out = NULL;
    if (!b) return GW_OK;
    b->copy_lane(dev, &config.lane);
    gw_err_t err = gw_copy_ring_create(&config, out, ctx);
    return err == GW_OK ? GW_OK : gw_fail_prefix(ctx, err, "buffers for KV pages");
}

/* Nothing is given back from here on. err: as gw_device_backend.leave has it. */
static void leave(struct gw_copy_ring *r, gw_err_t err, const struct gw_err_ctx *ctx)
{
    r->left = true;
    if (r->config.device) gw_device_backend(r->config.device)->leave(r->config.device, err, ctx);
}

static void nap(void)
{
    (void)nanosleep(&(struct timespec){.tv_nsec = LOOK_US * 1000}, NULL);
}

void gw_copy_ring_destroy(struct gw_copy_ring *r)
{
    if (!r) return;
    for (uint32_t i = 0; i < GW_COPY_BUFFERS; i++)
        while (r->out[i].busy && gw_copy_ring_look(r, i) == GW_COPY_BUSY) nap();
    if (!r->left) close_all(r);
    pthread_cond_destroy(&r->freed);
    pthread_mutex_destroy(&r->lock);
    free(r);
}

/* ---- one copy; the lock is held ---- */

static gw_err_t check_usable(const struct gw_copy_ring *r, struct gw_err_ctx *ctx)
{
    return r->left ? gw_fail(ctx, GW_ERR_CUDA, "a copy of pages has not ended: none are copied any more")
                   : enter(&r->config.lane, ctx);
}

static struct buffer *find_free(struct buffer buffers[GW_COPY_BUFFERS])
{
    for (uint32_t i = 0; i < GW_COPY_BUFFERS; i++)
        if (!buffers[i].busy) return &buffers[i];
    return NULL;
}

/* Once the copy is on the stream nothing but its event says when it is over. in: it writes device memory. */
static gw_err_t begin(struct gw_copy_ring *r, struct buffer *b, bool in, void *to, const void *from,
                      size_t bytes, struct gw_err_ctx *ctx)
{
    const struct gw_copy_lane *l = &r->config.lane;
    struct gw_stream *stream = in ? l->in : l->out;
    TRY(l->ops->copy(l->self, to, from, bytes, stream, ctx));
    b->begun_us = gw_clock_mono_us();
    b->busy = true;
    gw_err_t err = l->ops->event_record(l->self, b->event, stream, ctx);
    if (err != GW_OK) leave(r, in ? err : GW_OK, ctx);
    return err;
}

static enum gw_copy_state look(struct gw_copy_ring *r, struct buffer *b, bool in, struct gw_err_ctx *ctx)
{
    const struct gw_copy_lane *l = &r->config.lane;
    bool done = false;
    if (r->left) return GW_COPY_FAILED;
    if (enter(l, ctx) != GW_OK || l->ops->event_query(l->self, b->event, &done, ctx) != GW_OK) {
        leave(r, in ? GW_ERR_CUDA : GW_OK, ctx); /* nobody knows what the stream will do with the rest */
        return GW_COPY_FAILED;
    }
    if (done) return GW_COPY_DONE;
    if (gw_clock_mono_us() - b->begun_us <= l->deadline_us) return GW_COPY_BUSY;
    (void)!gw_fail(ctx, GW_ERR_CUDA, "a copy of pages has not ended for %.1f s",
                   (double)l->deadline_us / 1e6);
    leave(r, in ? GW_ERR_CUDA : GW_OK, ctx);
    return GW_COPY_FAILED;
}

/* ---- out ---- */

gw_err_t gw_copy_ring_mark(struct gw_copy_ring *r, uint32_t *mark, struct gw_err_ctx *ctx)
{
    const struct gw_copy_lane *l = &r->config.lane;
    pthread_mutex_lock(&r->lock);
    gw_err_t err = check_usable(r, ctx);
    if (err == GW_OK) err = l->ops->event_record(l->self, r->marks[r->next_mark], l->compute, ctx);
    if (err == GW_OK) {
        *mark = r->next_mark;
        r->next_mark = (r->next_mark + 1) % GW_COPY_MARKS;
    }
    pthread_mutex_unlock(&r->lock);
    return err;
}

static gw_err_t begin_out(struct gw_copy_ring *r, uint32_t mark, const void *device, size_t bytes,
                          uint32_t *buffer, struct gw_err_ctx *ctx)
{
    const struct gw_copy_lane *l = &r->config.lane;
    struct buffer *b = find_free(r->out);
    TRY(check_usable(r, ctx));
    if (!b) return gw_fail(ctx, GW_ERR_LIMIT, "all buffers are in use");
    TRY(l->ops->wait(l->self, l->out, r->marks[mark], ctx));
    TRY(begin(r, b, false, b->pinned, device, bytes, ctx));
    *buffer = (uint32_t)(b - r->out);
    return GW_OK;
}

gw_err_t gw_copy_ring_out(struct gw_copy_ring *r, uint32_t mark, const void *device, size_t bytes,
                          uint32_t *buffer, struct gw_err_ctx *ctx)
{
    assert(mark < GW_COPY_MARKS && bytes <= r->config.bytes);
    pthread_mutex_lock(&r->lock);
    gw_err_t err = begin_out(r, mark, device, bytes, buffer, ctx);
    pthread_mutex_unlock(&r->lock);
    return err;
}

enum gw_copy_state gw_copy_ring_look(struct gw_copy_ring *r, uint32_t buffer)
{
    struct gw_err_ctx ctx = {0};
    pthread_mutex_lock(&r->lock);
    enum gw_copy_state state = look(r, &r->out[buffer], false, &ctx);
    pthread_mutex_unlock(&r->lock);
    return state;
}

const uint8_t *gw_copy_ring_bytes(const struct gw_copy_ring *r, uint32_t buffer)
{
    return r->out[buffer].pinned;
}

void gw_copy_ring_release(struct gw_copy_ring *r, uint32_t buffer)
{
    pthread_mutex_lock(&r->lock);
    assert(r->out[buffer].busy);
    r->out[buffer].busy = false;
    pthread_mutex_unlock(&r->lock);
}

/* ---- in ---- */

/* Waits for a free buffer, which is then the caller's. */
static gw_err_t take_in(struct gw_copy_ring *r, struct buffer **out, struct gw_err_ctx *ctx)
{
    int64_t until_us = gw_clock_mono_us() + r->config.lane.deadline_us;
    const struct timespec until = {until_us / GW_US_PER_S, until_us % GW_US_PER_S * 1000};
    struct buffer *b;
    TRY(check_usable(r, ctx));
    while (!(b = find_free(r->in)) && !r->left)
        if (pthread_cond_timedwait(&r->freed, &r->lock, &until) != 0 && gw_clock_mono_us() >= until_us) break;
    TRY(check_usable(r, ctx));
    if (!b) return gw_fail(ctx, GW_ERR_LIMIT, "all buffers are in use");
    b->busy = true;
    *out = b;
    return GW_OK;
}

/* The lock is held, but for while it waits. */
static gw_err_t wait_in(struct gw_copy_ring *r, struct buffer *b, struct gw_err_ctx *ctx)
{
    enum gw_copy_state state;
    while ((state = look(r, b, true, ctx)) == GW_COPY_BUSY) {
        pthread_mutex_unlock(&r->lock);
        nap();
        pthread_mutex_lock(&r->lock);
    }
    if (state == GW_COPY_DONE) return GW_OK;
    return ctx && ctx->code != GW_OK ? ctx->code : gw_fail(ctx, GW_ERR_CUDA, "a copy of pages has not ended");
}

gw_err_t gw_copy_ring_in(struct gw_copy_ring *r, void *device, const void *host, size_t bytes,
                         struct gw_err_ctx *ctx)
{
    struct gw_err_ctx mine = {0};
    struct buffer *b = NULL;
    assert(bytes <= r->config.bytes);
    pthread_mutex_lock(&r->lock);
    gw_err_t err = take_in(r, &b, &mine);
    pthread_mutex_unlock(&r->lock);
    if (err != GW_OK) return gw_fail(ctx, err, "%s", mine.text);
    memcpy(b->pinned, host, bytes);
    pthread_mutex_lock(&r->lock);
    err = check_usable(r, &mine);
    if (err == GW_OK) err = begin(r, b, true, device, b->pinned, bytes, &mine);
    if (err == GW_OK) err = wait_in(r, b, &mine);
    b->busy = false;
    pthread_cond_broadcast(&r->freed);
    pthread_mutex_unlock(&r->lock);
    return err == GW_OK ? GW_OK : gw_fail(ctx, err, "%s", mine.text);
}
