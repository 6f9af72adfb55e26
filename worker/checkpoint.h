/* Checkpoint agent: puts sealed blocks of this worker's page pools into stores, in the background.
 *
 *     block       event                                                 counted as
 *     ─────────   ───────────────────────────────────────────────────   ──────────
 *     -           offered: its name is queued                           offered
 *     offered     the queue is full                                     dropped
 *     queued      no store can be asked for GW_CHECKPOINT_WAIT_MS, or    refused
 *                 it does not take it
 *     queued      its pool is gone, or its slot was given to another    gone
 *     queued      the store has it                                      there
 *     queued      its pages were copied, and put                        stored
 *
 * Whoever offers pays for a place in a queue, no more: pages are read by a thread of the agent's own, at low priority, into
 * buffers of its own, and counted only if they fit the checksums of the name (page_dir.h). Offers of a chain come in its
 * order and are put in that order; what was dropped, refused or gone is a hole, behind which blocks are of use only if
 * what is missing is computed.
 *
 * Budget: processor time of this thread and of the stores' for puts, against `share` of what all computing threads have;
 * bytes_s. Time that was not used is not saved up. A budget that is spent delays, and then drops.
 *
 * Owner: gw_checkpoint_destroy waits for what is under way; shelf and stores must outlive it. Thread: any offers. Units:
 * blocks, bytes, microseconds. Errors: none but at creation: what is not stored will be computed. Source: own design; DESIGN
 * part 9. */
#ifndef GW_WORKER_CHECKPOINT_H
#define GW_WORKER_CHECKPOINT_H

#include "worker/shelf.h"
#include "worker/stores.h"

#define GW_CHECKPOINT_QUEUE       8192               /* 128 k tokens */
#define GW_CHECKPOINT_BATCH       256                /* looked for in the store at once */
#define GW_CHECKPOINT_STAGES      16                 /* blocks on their way */
#define GW_CHECKPOINT_STAGE_BYTES ((size_t)64 << 20) /* of them all, if one alone is not larger */
#define GW_CHECKPOINT_HAS_MS      500
#define GW_CHECKPOINT_WAIT_MS     2000 /* for stores to come (back): a restart, a worker that registers */
#define GW_CHECKPOINT_PUT_MS      5000

struct gw_checkpoint;

struct gw_checkpoint_config {
    struct gw_shelf *shelf;
    struct gw_stores *stores;
    double share;     /* of the computing threads' time, > 0 */
    uint32_t threads; /* that compute */
    double bytes_s;   /* 0: no limit */
    const struct gw_log *log;
};

struct gw_checkpoint_stats {
    uint64_t offered, stored, there, dropped, refused, gone;
    uint64_t bytes;  /* of pages stored */
    uint64_t cpu_us; /* that was charged */
};

gw_err_t gw_checkpoint_create(const struct gw_checkpoint_config *config, struct gw_checkpoint **out,
                              struct gw_err_ctx *ctx) GW_MUST_USE;
void gw_checkpoint_destroy(struct gw_checkpoint *c);

/* The pool holds this block, sealed. */
void gw_checkpoint_offer(struct gw_checkpoint *c, const struct gw_shelf_pool *pool,
                         const struct gw_block_name *name);

struct gw_checkpoint_stats gw_checkpoint_stats(struct gw_checkpoint *c);

#endif
