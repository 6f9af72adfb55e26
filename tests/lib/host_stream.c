#include "tests/lib/host_stream.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/thread.h"

#define MEMORY_MAX 64

struct host_memory {
    char *at;
    size_t bytes;
    bool pinned;
};

struct task {
    void (*run)(void *arg);
    void *arg;
};

struct gw_stream {
    struct host_stream_entry entry; /* first */
    struct host_device *device;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct task tasks[HOST_STREAM_TASKS];
    uint32_t first, len;
    void (*running)(void *arg);
    bool ending;
};

/* The event and its records share it; the last of them frees. */
struct gw_event {
    _Atomic uint32_t users, asked, reached;
};

static void check(bool well, const char *what)
{
    if (well) return;
    fprintf(stderr, "host_stream: %s\n", what);
    abort();
}

static void *stream_main(void *arg)
{
    struct gw_stream *s = arg;
    for (;;) {
        pthread_mutex_lock(&s->lock);
        while (s->len == 0 && !s->ending) pthread_cond_wait(&s->changed, &s->lock);
        bool any = s->len > 0;
        struct task t = s->tasks[s->first];
        s->running = any ? t.run : NULL;
        s->first = (s->first + any) % HOST_STREAM_TASKS;
        s->len -= any;
        pthread_mutex_unlock(&s->lock);
        if (!any) return NULL;
        while (atomic_load(&s->device->still)) (void)nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
        t.run(t.arg);
        pthread_mutex_lock(&s->lock);
        s->running = NULL;
        pthread_mutex_unlock(&s->lock);
    }
}

static void enqueue(struct gw_stream *s, void (*run)(void *arg), void *arg)
{
    pthread_mutex_lock(&s->lock);
    check(s->len < HOST_STREAM_TASKS, "too much work on a stream");
    s->tasks[(s->first + s->len++) % HOST_STREAM_TASKS] = (struct task){run, arg};
    pthread_cond_signal(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

void host_device_open(struct host_device *device)
{
    struct gw_stream *s = calloc(1, sizeof *s);
    device->memory = calloc(MEMORY_MAX, sizeof *device->memory);
    check(s && device->memory, "no memory");
    s->entry.enqueue = enqueue;
    s->device = device;
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->changed, NULL);
    check(gw_thread_start(&s->thread, 0, stream_main, s, NULL) == GW_OK, "no thread");
    device->stream = s;
}

uint32_t host_device_close(struct host_device *device)
{
    struct gw_stream *s = device->stream;
    uint32_t left = device->memory_len;
    atomic_store(&device->still, false);
    pthread_mutex_lock(&s->lock);
    s->ending = true;
    pthread_cond_signal(&s->changed);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->thread, NULL);
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->lock);
    free(s);
    for (uint32_t i = 0; i < device->memory_len; i++) free(device->memory[i].at);
    free(device->memory);
    *device = (struct host_device){0};
    return left;
}

static gw_err_t called(void *self, const char *what, struct gw_err_ctx *ctx)
{
    struct host_device *d = self;
    if (atomic_fetch_add(&d->calls, 1) + 1 != d->fail_at) return GW_OK;
    return gw_fail(ctx, GW_ERR_CUDA, "%s: planned fault", what);
}

static gw_err_t take(void *self, bool pinned, size_t bytes, void **out, struct gw_err_ctx *ctx)
{
    struct host_device *d = self;
    TRY(called(self, "alloc", ctx));
    check(d->memory_len < MEMORY_MAX && bytes > 0, "too many pieces of memory, or an empty one");
    char *at = malloc(bytes);
    check(at, "no memory");
    memset(at, 0xff, bytes);
    d->memory[d->memory_len++] = (struct host_memory){at, bytes, pinned};
    *out = at;
    return GW_OK;
}

static void reach(void *event);

static void check_rest(struct gw_stream *s)
{
    pthread_mutex_lock(&s->lock);
    /* A record may have told its event already, and not yet returned. */
    check(s->len == 0 && (!s->running || s->running == reach), "memory is freed while there is work");
    pthread_mutex_unlock(&s->lock);
}

static void give(void *self, bool pinned, void *memory)
{
    struct host_device *d = self;
    uint32_t i = 0;
    check_rest(d->stream);
    while (i < d->memory_len && d->memory[i].at != memory) i++;
    check(i < d->memory_len && d->memory[i].pinned == pinned, "what is freed was not allocated so");
    free(memory);
    d->memory[i] = d->memory[--d->memory_len];
}

static gw_err_t alloc_device(void *self, size_t bytes, void **out, struct gw_err_ctx *ctx)
{
    return take(self, false, bytes, out, ctx);
}

static void free_device(void *self, void *memory)
{
    give(self, false, memory);
}

static gw_err_t alloc_pinned(void *self, size_t bytes, void **out, struct gw_err_ctx *ctx)
{
    return take(self, true, bytes, out, ctx);
}

static void free_pinned(void *self, void *memory)
{
    give(self, true, memory);
}

static void leave(struct gw_event *c)
{
    if (atomic_fetch_sub(&c->users, 1) == 1) free(c);
}

static gw_err_t event_create(void *self, struct gw_event **out, struct gw_err_ctx *ctx)
{
    TRY(called(self, "event_create", ctx));
    struct gw_event *c = calloc(1, sizeof *c);
    check(c, "no memory");
    atomic_store(&c->users, 1);
    *out = c;
    return GW_OK;
}

static void event_destroy(void *self, struct gw_event *event)
{
    (void)self;
    leave(event);
}

static void reach(void *arg)
{
    struct gw_event *c = arg;
    atomic_fetch_add(&c->reached, 1);
    leave(c);
}

static gw_err_t event_record(void *self, struct gw_event *event, struct gw_stream *stream,
                             struct gw_err_ctx *ctx)
{
    TRY(called(self, "event_record", ctx));
    atomic_fetch_add(&event->users, 1);
    atomic_fetch_add(&event->asked, 1);
    enqueue(stream, reach, event);
    return GW_OK;
}

static gw_err_t event_query(void *self, struct gw_event *event, bool *done, struct gw_err_ctx *ctx)
{
    TRY(called(self, "event_query", ctx));
    *done = atomic_load(&event->reached) == atomic_load(&event->asked);
    return GW_OK;
}

static void check_range(const struct host_device *d, const void *at, size_t bytes)
{
    const char *p = at;
    for (uint32_t i = 0; i < d->memory_len; i++)
        if (p >= d->memory[i].at && p + bytes <= d->memory[i].at + d->memory[i].bytes) return;
    check(false, "memory that is neither of the device nor pinned, or too little of it");
}

struct copying {
    void *to;
    const void *from;
    size_t bytes;
};

static void run_copy(void *arg)
{
    struct copying *c = arg;
    memmove(c->to, c->from, c->bytes);
    free(c);
}

static gw_err_t copy(void *self, void *to, const void *from, size_t bytes, struct gw_stream *stream,
                     struct gw_err_ctx *ctx)
{
    TRY(called(self, "copy", ctx));
    struct copying *c = malloc(sizeof *c);
    check(c, "no memory");
    check_range(self, to, bytes);
    check_range(self, from, bytes);
    *c = (struct copying){to, from, bytes};
    enqueue(stream, run_copy, c);
    return GW_OK;
}

struct summing {
    struct gw_share_add adds[GW_SHARE_ADDS_MAX];
    float *rows[GW_SHARES_MAX];
    uint32_t adds_len;
    float *residual;
    size_t elems;
};

static void run_sum(void *arg)
{
    struct summing *s = arg;
    for (uint32_t k = 0; k < s->adds_len; k++)
        for (size_t i = 0; i < s->elems; i++) s->rows[s->adds[k].to][i] += s->rows[s->adds[k].from][i];
    for (size_t i = 0; s->residual && i < s->elems; i++) s->residual[i] += s->rows[0][i];
    free(s);
}

static gw_err_t sum(void *self, const struct gw_row_sum *sum, struct gw_stream *stream,
                    struct gw_err_ctx *ctx)
{
    TRY(called(self, "sum", ctx));
    struct summing *s = calloc(1, sizeof *s);
    check(s, "no memory");
    size_t bytes = sum->elems * sizeof(float);
    memcpy(s->rows, sum->rows, sizeof s->rows);
    if (sum->adds_len > 0) memcpy(s->adds, sum->adds, sum->adds_len * sizeof *sum->adds);
    s->adds_len = sum->adds_len;
    s->residual = sum->residual;
    s->elems = sum->elems;
    for (uint32_t k = 0; k < s->adds_len; k++) {
        check_range(self, s->rows[s->adds[k].to], bytes);
        check_range(self, s->rows[s->adds[k].from], bytes);
    }
    if (s->residual) check_range(self, s->residual, bytes);
    enqueue(stream, run_sum, s);
    return GW_OK;
}

const struct gw_stream_ops host_stream_ops = {
    .alloc = alloc_device,
    .free = free_device,
    .alloc_pinned = alloc_pinned,
    .free_pinned = free_pinned,
    .event_create = event_create,
    .event_destroy = event_destroy,
    .event_record = event_record,
    .event_query = event_query,
    .copy = copy,
    .sum = sum,
};
