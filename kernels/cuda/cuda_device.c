#include "kernels/cuda/cuda_device.h"

#include <assert.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "kernels/cuda/cuda_device_internal.h"

#define DEADLINE_US (120 * GW_US_PER_S) /* where the caller names none */
/* A step of decoding takes some milliseconds: who waits for longer sleeps between looks. */
#define SPIN_US  (20 * GW_US_PER_MS)
#define SLEEP_NS 50000

/* ---- errors ---- */

/* Is this thread's work being recorded? Then that has come to nothing. */
static bool spoil(struct gw_cuda_device *d)
{
    if (atomic_load(&d->recorder) != (uintptr_t)pthread_self()) return false;
    d->spoiled = true;
    return true;
}

void gw_cuda_record(struct gw_cuda_device *d)
{
    d->spoiled = false;
    atomic_store(&d->recorder, (uintptr_t)pthread_self());
}

bool gw_cuda_recorded(struct gw_cuda_device *d)
{
    atomic_store(&d->recorder, 0);
    return !d->spoiled && !atomic_load(&d->failed);
}

void gw_cuda_note(struct gw_cuda_device *d, gw_err_t err, const struct gw_err_ctx *ctx)
{
    if (err == GW_OK || spoil(d)) return;
    pthread_mutex_lock(&d->lock);
    if (d->error.code == GW_OK) {
        d->error = *ctx;
        d->error.code = err;
    }
    pthread_mutex_unlock(&d->lock);
    atomic_store(&d->failed, true);
}

bool gw_cuda_begin(struct gw_cuda_device *d)
{
    const struct gw_cuda_lane *l = &d->config.compute;
    struct gw_err_ctx ctx = {0};
    if (atomic_load(&d->failed)) return false;
    gw_cuda_note(d, l->ops->enter ? l->ops->enter(l->self, &ctx) : GW_OK, &ctx);
    return !atomic_load(&d->failed);
}

static gw_err_t enter(const struct gw_cuda_lane *l, struct gw_err_ctx *ctx)
{
    return l->ops->enter ? l->ops->enter(l->self, ctx) : GW_OK;
}

/* ---- waiting ---- */

static void look_away(int64_t waited_us)
{
    const struct timespec nap = {.tv_nsec = SLEEP_NS};
    if (waited_us < SPIN_US)
        sched_yield();
    else
        nanosleep(&nap, NULL);
}

/* Until the stream has done all that is on it. */
static gw_err_t wait_for(struct gw_cuda_device *d, const struct gw_cuda_bounce *b, struct gw_err_ctx *ctx)
{
    const struct gw_cuda_lane *l = b->lane;
    int64_t start_us = gw_clock_mono_us();
    bool done = false;
    assert(atomic_load(&d->recorder) != (uintptr_t)pthread_self()); /* it would be for ever */
    TRY(l->ops->event_record(l->self, b->event, l->stream, ctx));
    for (;;) {
        TRY(l->ops->event_query(l->self, b->event, &done, ctx));
        if (done) return GW_OK;
        int64_t waited_us = gw_clock_mono_us() - start_us;
        if (waited_us > d->config.deadline_us) {
            atomic_store(&d->hangs, true);
            return gw_fail(ctx, GW_ERR_CUDA, "the device has not done its work for %.1f s",
                           (double)waited_us / 1e6);
        }
        look_away(waited_us);
    }
}

/* ---- copies between the device and unpinned memory ---- */

static gw_err_t bounce_in(struct gw_cuda_device *d, const struct gw_cuda_bounce *b, uint8_t *to,
                          const uint8_t *from, size_t bytes, struct gw_err_ctx *ctx)
{
    const struct gw_cuda_lane *l = b->lane;
    for (size_t at = 0; at < bytes; at += GW_CUDA_BOUNCE_BYTES) {
        size_t piece = bytes - at < GW_CUDA_BOUNCE_BYTES ? bytes - at : GW_CUDA_BOUNCE_BYTES;
        memcpy(b->pinned, from + at, piece);
        TRY(l->ops->copy(l->self, to + at, b->pinned, piece, l->stream, ctx));
        TRY(wait_for(d, b, ctx));
    }
    return GW_OK;
}

static gw_err_t bounce_out(struct gw_cuda_device *d, const struct gw_cuda_bounce *b, uint8_t *to,
                           const uint8_t *from, size_t bytes, struct gw_err_ctx *ctx)
{
    const struct gw_cuda_lane *l = b->lane;
    for (size_t at = 0; at < bytes; at += GW_CUDA_BOUNCE_BYTES) {
        size_t piece = bytes - at < GW_CUDA_BOUNCE_BYTES ? bytes - at : GW_CUDA_BOUNCE_BYTES;
        TRY(l->ops->copy(l->self, b->pinned, from + at, piece, l->stream, ctx));
        TRY(wait_for(d, b, ctx));
        memcpy(to + at, b->pinned, piece);
    }
    return GW_OK;
}

/* Does all of it lie in memory that copies may go straight to? */
static bool is_pinned(struct gw_cuda_device *d, const uint8_t *host, size_t bytes)
{
    bool found = false;
    pthread_mutex_lock(&d->lock);
    for (size_t i = 0; i < GW_CUDA_PINNED_MAX && !found; i++) {
        const struct gw_cuda_pinned *p = &d->pinned[i];
        found = p->host && host >= p->host && host + bytes <= p->host + p->bytes;
    }
    pthread_mutex_unlock(&d->lock);
    return found;
}

/* What is not listed is copied more slowly. */
static void list_pinned(struct gw_cuda_device *d, const void *host, size_t bytes)
{
    pthread_mutex_lock(&d->lock);
    for (size_t i = 0; i < GW_CUDA_PINNED_MAX; i++) {
        if (d->pinned[i].host) continue;
        d->pinned[i] = (struct gw_cuda_pinned){host, bytes};
        break;
    }
    pthread_mutex_unlock(&d->lock);
}

static void unlist_pinned(struct gw_cuda_device *d, const void *host)
{
    pthread_mutex_lock(&d->lock);
    for (size_t i = 0; i < GW_CUDA_PINNED_MAX; i++)
        if (d->pinned[i].host == host) d->pinned[i] = (struct gw_cuda_pinned){0};
    pthread_mutex_unlock(&d->lock);
}

/* ---- what operations are told ---- */

/* The step's room is free again: nothing on the stream reads it any more. */
static void begin_room(struct gw_cuda_device *d)
{
    d->step_used = 0;
    d->told = (struct gw_cuda_told){0};
}

bool gw_cuda_reserve(struct gw_cuda_device *d, size_t bytes)
{
    struct gw_err_ctx ctx = {0};
    gw_err_t err = GW_OK;
    if (spoil(d)) return false; /* it would be told once, and then no more */
    if (bytes > d->config.step_bytes)
        err = gw_fail(&ctx, GW_ERR_LIMIT, "a step has %zu bytes to tell the device: %zu at most", bytes,
                      d->config.step_bytes);
    if (err == GW_OK && bytes > d->config.step_bytes - d->step_used) {
        err = wait_for(d, &d->in_order, &ctx);
        begin_room(d);
    }
    gw_cuda_note(d, err, &ctx);
    return err == GW_OK;
}

struct gw_cuda_piece gw_cuda_take(struct gw_cuda_device *d, size_t bytes)
{
    struct gw_cuda_piece p = {d->step_pinned + d->step_used, d->step_device + d->step_used, bytes};
    d->step_used += gw_cuda_padded(bytes);
    assert(d->step_used <= d->config.step_bytes);
    return p;
}

bool gw_cuda_send(struct gw_cuda_device *d, struct gw_cuda_piece p)
{
    const struct gw_cuda_lane *l = &d->config.compute;
    struct gw_err_ctx ctx = {0};
    gw_cuda_note(d, l->ops->copy(l->self, p.device, p.pinned, p.bytes, l->stream, &ctx), &ctx);
    return !atomic_load(&d->failed);
}

void *gw_cuda_tell(struct gw_cuda_device *d, const void *from, size_t bytes)
{
    if (!gw_cuda_reserve(d, gw_cuda_padded(bytes))) return NULL;
    struct gw_cuda_piece p = gw_cuda_take(d, bytes);
    memcpy(p.pinned, from, bytes);
    return gw_cuda_send(d, p) ? p.device : NULL;
}

/* ---- kernels/device_memory.h ---- */

static gw_err_t alloc_pinned(struct gw_cuda_device *d, size_t bytes, void **out, struct gw_err_ctx *ctx)
{
    const struct gw_cuda_lane *l = &d->config.transfer;
    gw_err_t err = l->ops->alloc_pinned(l->self, bytes, out, ctx);
    if (err != GW_OK) return gw_fail_prefix(ctx, err, "%zu bytes of pinned memory", bytes);
    memset(*out, 0, bytes);
    return GW_OK;
}

static gw_err_t alloc_device(struct gw_cuda_device *d, size_t bytes, void **out, struct gw_err_ctx *ctx)
{
    const struct gw_cuda_lane *l = &d->config.transfer;
    gw_err_t err = l->ops->alloc(l->self, bytes, out, ctx);
    return err == GW_OK ? GW_OK : gw_fail_prefix(ctx, err, "%zu bytes on the device", bytes);
}

static gw_err_t memory_alloc(struct gw_device *dev, struct gw_memory *m, struct gw_err_ctx *ctx)
{
    struct gw_cuda_device *d = gw_cuda_of(dev);
    const struct gw_cuda_lane *l = &d->config.transfer;
    TRY(enter(l, ctx));
    TRY(alloc_device(d, m->bytes, &m->device, ctx));
    if (m->kind != GW_MEMORY_PINNED) return GW_OK;
    gw_err_t err = alloc_pinned(d, m->bytes, &m->host, ctx);
    if (err == GW_OK)
        list_pinned(d, m->host, m->bytes);
    else
        l->ops->free(l->self, m->device);
    return err;
}

static void memory_free(struct gw_device *dev, struct gw_memory *m)
{
    struct gw_cuda_device *d = gw_cuda_of(dev);
    const struct gw_cuda_lane *l = &d->config.transfer;
    if (atomic_load(&d->hangs) || enter(l, NULL) != GW_OK) return; /* the process ends soon */
    l->ops->free(l->self, m->device);
    if (m->kind != GW_MEMORY_PINNED) return;
    unlist_pinned(d, m->host);
    l->ops->free_pinned(l->self, m->host);
}

/* Through the step's room: nobody waits unless that is full. */
static void memory_put(struct gw_device *dev, void *device, const void *host, size_t bytes)
{
    struct gw_cuda_device *d = gw_cuda_of(dev);
    const struct gw_cuda_lane *l = &d->config.compute;
    struct gw_err_ctx ctx = {0};
    size_t most = d->config.step_bytes / 2;
    for (size_t at = 0; at < bytes && gw_cuda_begin(d); at += most) {
        size_t piece = bytes - at < most ? bytes - at : most;
        if (!gw_cuda_reserve(d, gw_cuda_padded(piece))) return;
        struct gw_cuda_piece p = gw_cuda_take(d, piece);
        memcpy(p.pinned, (const uint8_t *)host + at, piece);
        gw_cuda_note(d, l->ops->copy(l->self, (uint8_t *)device + at, p.pinned, piece, l->stream, &ctx),
                     &ctx);
    }
}

static void memory_put_now(struct gw_device *dev, void *device, const void *host, size_t bytes)
{
    struct gw_cuda_device *d = gw_cuda_of(dev);
    struct gw_err_ctx ctx = {0};
    if (atomic_load(&d->failed)) return;
    pthread_mutex_lock(&d->transfer_lock);
    gw_err_t err = enter(&d->config.transfer, &ctx);
    if (err == GW_OK) err = bounce_in(d, &d->now, device, host, bytes, &ctx);
    pthread_mutex_unlock(&d->transfer_lock);
    gw_cuda_note(d, err, &ctx);
}

static gw_err_t get_pinned(struct gw_cuda_device *d, void *host, const void *device, size_t bytes,
                           struct gw_err_ctx *ctx)
{
    const struct gw_cuda_lane *l = &d->config.compute;
    TRY(l->ops->copy(l->self, host, device, bytes, l->stream, ctx));
    return wait_for(d, &d->in_order, ctx);
}

static void memory_get(struct gw_device *dev, void *host, const void *device, size_t bytes)
{
    struct gw_cuda_device *d = gw_cuda_of(dev);
    struct gw_err_ctx ctx = {0};
    if (spoil(d)) {
        memset(host, 0, bytes);
        return;
    }
    if (gw_cuda_begin(d) && bytes > 0)
        gw_cuda_note(d,
                     is_pinned(d, host, bytes) ? get_pinned(d, host, device, bytes, &ctx)
                                               : bounce_out(d, &d->in_order, host, device, bytes, &ctx),
                     &ctx);
    if (atomic_load(&d->failed)) memset(host, 0, bytes);
}

static void memory_move(struct gw_device *dev, void *to, const void *from, size_t bytes)
{
    struct gw_cuda_device *d = gw_cuda_of(dev);
    const struct gw_cuda_lane *l = &d->config.compute;
    struct gw_err_ctx ctx = {0};
    if (bytes > 0 && gw_cuda_begin(d))
        gw_cuda_note(d, l->ops->copy(l->self, to, from, bytes, l->stream, &ctx), &ctx);
}

static void memory_fill(struct gw_device *dev, void *device, uint8_t byte, size_t bytes)
{
    struct gw_cuda_device *d = gw_cuda_of(dev);
    const struct gw_cuda_lane *l = &d->config.compute;
    struct gw_err_ctx ctx = {0};
    if (bytes > 0 && gw_cuda_begin(d))
        gw_cuda_note(d, l->ops->fill(l->self, device, byte, bytes, l->stream, &ctx), &ctx);
}

static gw_err_t finish(struct gw_device *dev, struct gw_err_ctx *ctx)
{
    struct gw_cuda_device *d = gw_cuda_of(dev);
    struct gw_err_ctx mine = {0};
    if (gw_cuda_begin(d)) gw_cuda_note(d, wait_for(d, &d->in_order, &mine), &mine);
    begin_room(d);
    if (!atomic_load(&d->failed)) return GW_OK;
    pthread_mutex_lock(&d->lock);
    mine = d->error;
    pthread_mutex_unlock(&d->lock);
    (void)!gw_fail(ctx, GW_ERR_CUDA, "%s: %s", d->name, mine.text);
    return GW_ERR_CUDA;
}

static void lane(struct gw_device *dev, struct gw_device_lane *out)
{
    const struct gw_cuda_device_config *c = &gw_cuda_of(dev)->config;
    *out = (struct gw_device_lane){
        .ops = c->compute.ops, .self = c->compute.self, .stream = c->compute.stream, .meet = c->meet};
    memcpy(out->gpu, c->gpu, sizeof out->gpu);
}

static void copy_lane(struct gw_device *dev, struct gw_copy_lane *out)
{
    const struct gw_cuda_device_config *c = &gw_cuda_of(dev)->config;
    *out = (struct gw_copy_lane){.ops = c->pages_out.ops,
                                 .self = c->pages_out.self,
                                 .compute = c->compute.stream,
                                 .out = c->pages_out.stream,
                                 .in = c->pages_in,
                                 .deadline_us = c->deadline_us};
}

static void leave(struct gw_device *dev, gw_err_t err, const struct gw_err_ctx *ctx)
{
    struct gw_cuda_device *d = gw_cuda_of(dev);
    atomic_store(&d->hangs, true);
    gw_cuda_note(d, err, ctx);
}

/* ---- life ---- */

static void close_bounce(struct gw_cuda_bounce *b)
{
    if (b->event) b->lane->ops->event_destroy(b->lane->self, b->event);
    if (b->pinned) b->lane->ops->free_pinned(b->lane->self, b->pinned);
}

static gw_err_t open_bounce(struct gw_cuda_device *d, const struct gw_cuda_lane *lane,
                            struct gw_cuda_bounce *b, struct gw_err_ctx *ctx)
{
    void *pinned;
    b->lane = lane;
    TRY(lane->ops->event_create(lane->self, &b->event, ctx));
    TRY(alloc_pinned(d, GW_CUDA_BOUNCE_BYTES, &pinned, ctx));
    b->pinned = pinned;
    return GW_OK;
}

static void free_device(const struct gw_cuda_lane *l, void *memory)
{
    if (memory) l->ops->free(l->self, memory);
}

static void free_rooms(struct gw_cuda_device *d)
{
    const struct gw_cuda_lane *l = &d->config.transfer;
    (void)!enter(l, NULL); /* what fails here has failed before */
    close_bounce(&d->in_order);
    close_bounce(&d->now);
    gw_cublas_destroy(d->cublas);
    if (d->step_pinned) l->ops->free_pinned(l->self, d->step_pinned);
    if (d->picked) l->ops->free_pinned(l->self, d->picked);
    free_device(l, d->step_device);
    free_device(l, d->scratch);
    free_device(l, d->arena_lists);
    free_device(l, d->graph_seqs);
    free_device(l, d->cublas_room);
}

static void destroy(struct gw_device *dev)
{
    struct gw_cuda_device *d = gw_cuda_of(dev);
    if (!atomic_load(&d->hangs)) free_rooms(d); /* else giving back would wait for it, for ever */
    pthread_mutex_destroy(&d->transfer_lock);
    pthread_mutex_destroy(&d->lock);
    free(d->arena_kept);
    free(d);
}

static const struct gw_device_backend backend = {.destroy = destroy,
                                                 .alloc = memory_alloc,
                                                 .free = memory_free,
                                                 .put = memory_put,
                                                 .put_now = memory_put_now,
                                                 .get = memory_get,
                                                 .move = memory_move,
                                                 .fill = memory_fill,
                                                 .finish = finish,
                                                 .lane = lane,
                                                 .copy_lane = copy_lane,
                                                 .leave = leave,
                                                 .graphs = &gw_cuda_graphs};

/* cuBLASLt, where the profile is fast. */
static gw_err_t open_cublas(struct gw_cuda_device *d, struct gw_err_ctx *ctx)
{
    void *room;
    if (!d->config.cublas) return GW_OK;
    TRY(alloc_device(d, d->config.cublas_bytes, &room, ctx));
    d->cublas_room = room;
    TRY(gw_cublas_create(d->config.cublas, d->ops.act, room, d->config.cublas_bytes, &d->cublas, ctx));
    gw_cuda_take_fast(d);
    return GW_OK;
}

static gw_err_t alloc_rooms(struct gw_cuda_device *d, struct gw_err_ctx *ctx)
{
    size_t kept = GW_CUDA_ARENA_LISTS * (size_t)GW_CUDA_ARENA_LIST_MAX;
    void *pinned, *step, *scratch, *lists, *seqs;
    TRY(enter(&d->config.transfer, ctx));
    TRY(open_bounce(d, &d->config.compute, &d->in_order, ctx));
    TRY(open_bounce(d, &d->config.transfer, &d->now, ctx));
    TRY(alloc_pinned(d, d->config.step_bytes, &pinned, ctx));
    d->step_pinned = pinned;
    TRY(alloc_pinned(d, GW_CUDA_PICKED_BYTES, &pinned, ctx));
    d->picked = pinned;
    list_pinned(d, pinned, GW_CUDA_PICKED_BYTES);
    TRY(alloc_device(d, d->config.step_bytes, &step, ctx));
    d->step_device = step;
    TRY(alloc_device(d, d->config.scratch_bytes, &scratch, ctx));
    d->scratch = scratch;
    TRY(alloc_device(d, kept * sizeof *d->arena_kept, &lists, ctx));
    d->arena_lists = lists;
    TRY(alloc_device(d, GW_GRAPH_ROWS_MAX * sizeof(struct gw_seq_rows), &seqs, ctx));
    d->graph_seqs = seqs;
    d->arena_kept = calloc(kept, sizeof *d->arena_kept);
    return d->arena_kept ? open_cublas(d, ctx) : gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
}

/* For what its bits depend on. */
static void name_profile(struct gw_cuda_device *d)
{
    const struct gw_cuda_device_config *c = &d->config;
    snprintf(d->profile, sizeof d->profile, "%s-%s%s%s%s%s", d->name, c->cublas ? "fast" : "exact",
             c->act == GW_F32 ? "-f32" : "",
             c->weight == GW_I8   ? "-int8"
             : c->weight == GW_F8 ? "-fp8"
                                  : "",
             c->kv == GW_I8 ? "-kv8" : "", c->cublas ? "" : "-1");
}

static void describe(struct gw_cuda_device *d, const struct gw_cuda_device_config *config)
{
    d->base = (struct gw_device_base){.backend = &backend, .host = config->host};
    d->config = *config;
    if (!gw_cuda_can_be_fast(config->act, config->weight)) d->config.cublas = NULL;
    if (d->config.step_bytes == 0) d->config.step_bytes = GW_CUDA_STEP_BYTES;
    if (d->config.scratch_bytes == 0) d->config.scratch_bytes = GW_CUDA_SCRATCH_BYTES;
    if (d->config.deadline_us == 0) d->config.deadline_us = DEADLINE_US;
    if (d->config.cublas_bytes == 0) d->config.cublas_bytes = GW_CUBLAS_WORKSPACE_BYTES;
    if (d->config.fast_rows == 0) d->config.fast_rows = GW_CUDA_FAST_ROWS;
    snprintf(d->name, sizeof d->name, "%s", config->name);
    name_profile(d);
    d->ops = gw_cuda_table;
    d->ops.name = d->name;
    d->ops.profile = d->profile;
    if (config->act == GW_F32) gw_cuda_use_f32(&d->ops);
    if (config->weight == GW_I8) gw_cuda_use_int8_weights(&d->ops);
    if (config->weight == GW_F8) gw_cuda_use_fp8_weights(&d->ops);
    if (config->kv == GW_I8) d->ops.kv = GW_I8;
    d->config.name = d->name;
}

gw_err_t gw_cuda_device_create(const struct gw_cuda_device_config *config, struct gw_device **out,
                               const struct gw_ops **ops, struct gw_err_ctx *ctx)
{
    struct gw_cuda_device *d = calloc(1, sizeof *d);
    if (!d) return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    describe(d, config);
    pthread_mutex_init(&d->transfer_lock, NULL);
    pthread_mutex_init(&d->lock, NULL);
    gw_err_t err = alloc_rooms(d, ctx);
    if (err == GW_OK) {
        *out = (struct gw_device *)(void *)d;
        *ops = &d->ops;
    } else {
        destroy((struct gw_device *)(void *)d);
    }
    return err;
}
