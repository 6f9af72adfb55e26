/* Refill: gets the sealed blocks of requests that ran elsewhere, before they are scheduled here.
 *
 *     request     event                                          next       what is done
 *     ─────────   ────────────────────────────────────────────   ────────   ────────────────────────────────────────────
 *     -           add                                            WAITING    -
 *     WAITING     the copier is idle                             FETCHED    what this pool does not have of it is claimed
 *                                                                           and pulled, with that of others who name the
 *                                                                           same holders; those that somebody waits for
 *                                                                           before those that are only warmed
 *     WAITING     nothing is missing, or computing it is         READY      -
 *                  predicted to be over sooner (forecast.h)
 *     FETCHED     all ranks have answered                        READY      what came is adopted under its name, cached
 *     FETCHED     the same, and more is missing than one pull    WAITING    first in line; one that is only warmed behind those
 *                  holds                                                    that somebody waits for
 *     any         drop                                           -          what is under way for it is cached all the same
 *
 * What is only warmed is pulled in parts, and in the background (peer_pull.h) for its first GW_REFILL_QUIET_US.
 *
 * A request that was handed over also brings the block that is part full (gw_branch_tail): its branch gets that slot.
 *
 * Slots that a rank may still be writing to (copier.h: in doubt) are never used again. A lost answer is the copier's affair:
 * it gives one by its deadline.
 *
 * Owner: jobs are the caller's, but those added with `warm`: they are run nowhere, and freed here. Thread: the engine's.
 * Units: tokens, blocks, microseconds. Errors: GW_ERR_MEMORY. Source: own design; DESIGN part 6. */
#ifndef GW_WORKER_REFILL_H
#define GW_WORKER_REFILL_H

#include "worker/block_manager.h"
#include "worker/copier.h"
#include "worker/job.h"

#define GW_REFILL_NEW_TOKENS                                                                                 \
    128 /* missing of a new prompt, or one that was preempted, for which stores are asked: they have nothing of most prompts */
#define GW_REFILL_BUDGET_MS                                                                                  \
    5000 /* for one pull at most. While a request waits for it, as long as computing is predicted to take: so a holder that
            hangs costs twice that, no more */
#define GW_REFILL_BUDGET_MIN_MS 300 /* a rank that is short of cores answers by then */
#define GW_REFILL_WARM_BLOCKS   128 /* of one pull for nobody: those who wait come in between */
/* So long pulls for nobody give way to those who compute; then they are as urgent as others, before --warm-timeout ends. */
#define GW_REFILL_QUIET_US (5 * GW_US_PER_S)

struct gw_refill;

struct gw_refill_config {
    struct gw_blocks *blocks;
    const struct gw_block_namer *namer;
    struct gw_copier *copier;
    struct gw_stores *stores;       /* NULL: new prompts are nowhere else */
    struct gw_geometry_heads heads; /* of the model: which pages a holder's cells are */
    uint64_t block_bytes;           /* of all its pages, over all ranks */
    uint32_t horizon;               /* positions that rows see back (gw_model_horizon); 0: all */
    bool always;                    /* fetch whatever is missing, whatever is predicted (tests, operators) */
};

gw_err_t gw_refill_create(const struct gw_refill_config *config, struct gw_refill **out) GW_MUST_USE;
void gw_refill_destroy(struct gw_refill *r);

/* Tokens of it that are better fetched than computed; 0: it need not wait. */
uint32_t gw_refill_wants(struct gw_refill *r, struct gw_job *job, const struct gw_msg_submit *submit,
                         bool warm);
/* The same of one that ran here and was preempted: it wants what stores have. */
uint32_t gw_refill_wants_back(struct gw_refill *r, struct gw_job *job);
/* It waits for `tokens` (gw_refill_wants). warm: nobody waits for it; the job is the refill's. On error it is still the
 * caller's. */
gw_err_t gw_refill_add(struct gw_refill *r, struct gw_job *job, uint32_t tokens,
                       const struct gw_page_holder *holders, uint32_t holders_len, bool warm) GW_MUST_USE;
/* The job is forgotten. */
void gw_refill_drop(struct gw_refill *r, const struct gw_job *job);

/* Goes on: takes what was pulled, begins the next pull. after_step: number of the last descriptor (rank.h). */
void gw_refill_turn(struct gw_refill *r, uint64_t after_step);

/* The next one that is READY; false if there is none. A job that was added with `warm` is valid until the next call. */
bool gw_refill_next(struct gw_refill *r, struct gw_job **job, bool *warm);

/* Positions of the longest branch that this pool has by name, from 0 on. */
uint32_t gw_refill_have(struct gw_refill *r, struct gw_job *job);

/* So many rows were computed in so long. */
void gw_refill_computed(struct gw_refill *r, uint32_t rows, int64_t us);

#endif
