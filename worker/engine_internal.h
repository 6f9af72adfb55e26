/* What engine.c (steps) and engine_jobs.c (which requests there are) share. */
#ifndef GW_WORKER_ENGINE_INTERNAL_H
#define GW_WORKER_ENGINE_INTERNAL_H

#include "worker/engine.h"
#include "worker/refill.h"
#include "worker/sampler.h"
#include "worker/scheduler.h"

#define ENGINE_JOB_BUCKETS 4096 /* power of two */

/* A step under way. */
struct engine_flight {
    struct gw_step_item *items; /* [max_sequences] */
    uint32_t items_len, rows;
    bool prefills;
    uint64_t kv_tokens; /* positions that attention reads, over all rows */
    int64_t start_us;
    struct gw_wish_room room; /* of its wishes */
};

struct gw_engine {
    struct gw_engine_config config;
    struct gw_blocks *blocks;
    struct gw_block_namer namer;
    struct gw_scheduler *scheduler;
    struct gw_step_pace pace;
    struct gw_sampler *sampler;
    struct gw_refill *refill; /* NULL: without a copier */
    uint32_t context;
    struct gw_job *jobs[ENGINE_JOB_BUCKETS];
    uint32_t jobs_len;
    uint64_t arrivals;
    struct engine_flight flights[GW_WIRE_RANKS_MAX]; /* oldest first, [depth] */
    uint32_t flights_len, depth;
    /* one step's descriptor */
    uint32_t *ids;                  /* [max_rows] */
    struct gw_step_seq *seqs;       /* [max_sequences] */
    struct gw_step_sample *samples; /* [max_sequences] */
    uint64_t steps, step_us;
    uint32_t last_rows, last_sequences; /* of the last step that is over */
    uint64_t last_kv_tokens;
    struct gw_engine_stats stats;
};

/* Where the request's job hangs, or would hang. */
struct gw_job **engine_find_job(struct gw_engine *e, uint64_t request);
/* A gw_scheduler_config.fetch. */
bool engine_fetch_back(void *arg, struct gw_job *job);
/* Out of the table; freed when no branch of it is in flight. */
void engine_forget_job(struct gw_engine *e, struct gw_job **link);

#endif
