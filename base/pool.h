/* Job pool: a few threads that do work an event loop must not wait for (tokenizing, file reads).
 *
 * The loop submits a job; `work` runs on a pool thread; `done` runs later on the loop's thread. Both run
 * exactly once for each accepted job, in order of completion. The queue is bounded: submit says LIMIT when
 * full, and to jobs that a done submits while the pool is being destroyed.
 *
 * Owner: the job's arg belongs to the job until done. destroy waits for running jobs, then calls done for all
 * that were accepted (work may have been skipped: *skipped is true). Thread: create, submit, destroy on the
 * loop's thread. Units: jobs. Errors: GW_ERR_LIMIT, GW_ERR_IO (threads, eventfd). Source: own design, after
 * libuv's threadpool. */
#ifndef GW_BASE_POOL_H
#define GW_BASE_POOL_H

#include <event2/event.h>

#include "base/err.h"

struct gw_pool;

struct gw_job {
    void (*work)(void *arg);
    void (*done)(void *arg, bool skipped);
    void *arg;
};

gw_err_t gw_pool_create(struct event_base *loop, int threads, int max_queued, struct gw_pool **out,
                        struct gw_err_ctx *ctx) GW_MUST_USE;
gw_err_t gw_pool_submit(struct gw_pool *pool, struct gw_job job) GW_MUST_USE;
void gw_pool_destroy(struct gw_pool *pool);

#endif
