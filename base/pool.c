#include "base/pool.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define POOL_THREADS_MAX 16
#define POOL_QUEUED_MAX  (1 << 20) /* 24 MiB of ring; more waiting work than any loop should promise */

/* A ring of jobs; capacity = max_queued. Both rings are guarded by the pool's lock. */
struct ring {
    struct gw_job *jobs;
    int head, len, cap;
};

struct gw_pool {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct ring waiting, finished; /* every accepted job fits in `finished` too: accepted <= cap */
    int accepted;                  /* submitted and not yet handed to done */
    bool stopping;
    int threads_len;
    pthread_t threads[POOL_THREADS_MAX];
    int notify_fd;
    struct event *notify;
};

static void ring_push(struct ring *r, struct gw_job job)
{
    r->jobs[(r->head + r->len++) % r->cap] = job;
}

static struct gw_job ring_pop(struct ring *r)
{
    struct gw_job job = r->jobs[r->head];
    r->head = (r->head + 1) % r->cap;
    r->len--;
    return job;
}

static void notify_loop(struct gw_pool *pool)
{
    uint64_t one = 1;
    ssize_t ignored = write(pool->notify_fd, &one, sizeof one);
    (void)ignored;
}

static void *pool_thread(void *arg)
{
    struct gw_pool *pool = arg;
    pthread_mutex_lock(&pool->lock);
    for (;;) {
        while (!pool->stopping && pool->waiting.len == 0) pthread_cond_wait(&pool->wake, &pool->lock);
        if (pool->stopping) break;
        struct gw_job job = ring_pop(&pool->waiting);
        pthread_mutex_unlock(&pool->lock);
        job.work(job.arg);
        pthread_mutex_lock(&pool->lock);
        ring_push(&pool->finished, job);
        notify_loop(pool);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

static int count_finished(struct gw_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    int count = pool->finished.len;
    pthread_mutex_unlock(&pool->lock);
    return count;
}

static struct gw_job take_finished(struct gw_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    struct gw_job job = ring_pop(&pool->finished);
    pool->accepted--;
    pthread_mutex_unlock(&pool->lock);
    return job;
}

/* Handles what had finished when it began, no more: jobs that done submits may finish as fast as they are
 * handled, and the loop has other work. Whatever finishes later signals again. */
static void on_notify(evutil_socket_t fd, short what, void *arg)
{
    (void)what;
    struct gw_pool *pool = arg;
    uint64_t signals;
    ssize_t ignored = read(fd, &signals, sizeof signals);
    (void)ignored;
    for (int left = count_finished(pool); left > 0; left--) {
        struct gw_job job = take_finished(pool);
        job.done(job.arg, false);
    }
}

static gw_err_t start_threads(struct gw_pool *pool, int threads, struct gw_err_ctx *ctx)
{
    for (int i = 0; i < threads; i++) {
        int rc = pthread_create(&pool->threads[i], NULL, pool_thread, pool);
        if (rc) return gw_fail(ctx, GW_ERR_IO, "job pool: %s", strerror(rc));
        pool->threads_len++;
    }
    return GW_OK;
}

gw_err_t gw_pool_create(struct event_base *loop, int threads, int max_queued, struct gw_pool **out,
                        struct gw_err_ctx *ctx)
{
    if (threads < 1 || threads > POOL_THREADS_MAX || max_queued < 1 || max_queued > POOL_QUEUED_MAX)
        return gw_fail(ctx, GW_ERR_INPUT, "job pool: %d threads, %d jobs", threads, max_queued);
    struct gw_pool *pool = calloc(1, sizeof *pool);
    if (!pool) return gw_fail(ctx, GW_ERR_MEMORY, "job pool: out of memory");
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->wake, NULL);
    pool->waiting.cap = pool->finished.cap = max_queued;
    pool->waiting.jobs = calloc((size_t)max_queued, sizeof(struct gw_job));
    pool->finished.jobs = calloc((size_t)max_queued, sizeof(struct gw_job));
    pool->notify_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (pool->notify_fd >= 0)
        pool->notify = event_new(loop, pool->notify_fd, EV_READ | EV_PERSIST, on_notify, pool);
    gw_err_t err = GW_OK;
    if (!pool->waiting.jobs || !pool->finished.jobs || !pool->notify || event_add(pool->notify, NULL) != 0)
        err = gw_fail(ctx, GW_ERR_IO, "job pool: cannot set up");
    if (err == GW_OK) err = start_threads(pool, threads, ctx);
    if (err != GW_OK) {
        gw_pool_destroy(pool);
        return err;
    }
    *out = pool;
    return GW_OK;
}

gw_err_t gw_pool_submit(struct gw_pool *pool, struct gw_job job)
{
    pthread_mutex_lock(&pool->lock);
    bool room = !pool->stopping && pool->accepted < pool->waiting.cap;
    if (room) {
        pool->accepted++;
        ring_push(&pool->waiting, job);
        pthread_cond_signal(&pool->wake);
    }
    pthread_mutex_unlock(&pool->lock);
    return room ? GW_OK : GW_ERR_LIMIT;
}

void gw_pool_destroy(struct gw_pool *pool)
{
    if (!pool) return;
    pthread_mutex_lock(&pool->lock);
    pool->stopping = true;
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
    for (int i = 0; i < pool->threads_len; i++) pthread_join(pool->threads[i], NULL);
    while (pool->finished.len > 0) {
        struct gw_job job = ring_pop(&pool->finished);
        job.done(job.arg, false);
    }
    while (pool->waiting.len > 0) {
        struct gw_job job = ring_pop(&pool->waiting);
        job.done(job.arg, true);
    }
    if (pool->notify) event_free(pool->notify);
    if (pool->notify_fd >= 0) close(pool->notify_fd);
    free(pool->waiting.jobs);
    free(pool->finished.jobs);
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}
