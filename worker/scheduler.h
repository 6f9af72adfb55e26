/* Scheduler: which tokens of which branches the next step computes, and who gets the KV blocks.
 *
 * BACKGROUND: each step has a budget of rows. A branch that decodes needs one, one that prefills can use as
 * many as its tokens not yet computed. KV blocks are taken as a branch grows; when none is left, somebody
 * must give theirs back.
 *
 * BEHAVIOR of gw_scheduler_plan, in order of arrival throughout:
 *   1. Every running branch that needs one row gets it. The budget is then what the pace allows, if that is less.
 *   2. What is left of the budget goes to running branches that prefill, oldest first, at most max_chunk rows
 * each.
 *   3. If nobody had to be preempted: waiting branches are admitted, oldest first, none is passed over.
 * Sealed blocks found by name are shared. Admission asks for all blocks that the branch needs now, and one
 * more for every running branch, so that a newcomer does not push somebody out at once. A branch that finds
 * no block preempts the youngest running branch, if that is younger than itself: the victim returns its
 * blocks (sealed ones stay in the prefix cache as long as they can, and may be in a store) and waits at its place in the
 * order. When there is room for it again, `fetch` may get its KV from there (once); else it is computed again: the same bits.
 *
 * WHY nothing starves: the oldest branch is never preempted and can preempt all others, a branch that cannot
 * fit the whole pool was refused at submission, so the oldest always advances and ends, and then another is
 * the oldest.
 *
 * A job with several branches: one goes ahead and computes the prompt, the others are HELD; then those that
 * begin with it fork (share full blocks, copy the partial one), and the rest are admitted by name.
 *
 * SLIDING WINDOWS: where no layer sees further back than the horizon, a branch gives blocks behind it back as it
 * goes on; they stay in the prefix cache as long as they can. A prefix is found by the blocks that its next position
 * sees, whether or not those before them are still there.
 *
 * SEVERAL STEPS UNDER WAY (depth > 1): a branch is in one of them at most, between plan and computed; until then it
 * is neither planned again nor preempted. Each step takes at most its part (1 / depth, rounded up) of the running
 * branches that decode, so that the next one has some, too.
 *
 * The cost of a plan is O(running branches + blocks taken), never O(pool) or O(waiting).
 *
 * Owner: jobs are the engine's. Thread: the engine's. Units: tokens = rows. Errors: GW_ERR_MEMORY at
 * creation. Source: own design, after vLLM's scheduler and Sarathi-Serve (Agrawal et al. 2024) for chunked
 * prefill. */
#ifndef GW_WORKER_SCHEDULER_H
#define GW_WORKER_SCHEDULER_H

#include "worker/block_manager.h"
#include "worker/job.h"
#include "worker/step_pace.h"

struct gw_scheduler_config {
    uint32_t max_batch_tokens; /* rows per step */
    uint32_t max_sequences;    /* running branches; <= max_batch_tokens, else it is lowered to that */
    uint32_t max_chunk;        /* rows of one prefilling branch per step; 0 = the budget */
    uint32_t horizon;          /* positions that rows see back (gw_model_horizon); 0: all */
    const struct gw_step_pace
        *pace;      /* bounds steps that have rows of prompts (worker/step_pace.h); NULL: nothing does */
    uint32_t depth; /* steps that may be under way at once: the stages of the pipeline; 0 = 1 */
    /* Takes a job that was preempted and lacks sealed blocks, if they can be had sooner than they are computed: it is then no
     * longer the scheduler's, until it is added again. NULL: never. */
    bool (*fetch)(void *arg, struct gw_job *job);
    void *arg;
};

struct gw_step_item {
    struct gw_branch *branch;
    uint32_t rows; /* positions [computed, computed + rows) */
    bool sample;   /* these reach the branch's last token */
};

struct gw_step {
    struct gw_step_item *items;
    uint32_t items_len, rows;
    bool prefills; /* some branch has several rows */
};

struct gw_scheduler_stats {
    uint32_t running, waiting; /* HELD count as waiting */
    uint64_t prefix_query_tokens, prefix_hit_tokens, preemptions;
};

struct gw_scheduler;

/* blocks and namer must outlive the scheduler. */
gw_err_t gw_scheduler_create(const struct gw_scheduler_config *config, struct gw_blocks *blocks,
                             const struct gw_block_namer *namer, struct gw_scheduler **out) GW_MUST_USE;
void gw_scheduler_destroy(struct gw_scheduler *s);

/* Takes in a job's live branches. */
void gw_scheduler_add(struct gw_scheduler *s, struct gw_job *job);

/* The branch is DONE: its blocks are released; if siblings were waiting for its prompt, one goes ahead now.
 */
void gw_scheduler_finish(struct gw_scheduler *s, struct gw_branch *b);

/* The next step; valid until the next call. items_len = 0: nothing to do. */
const struct gw_step *gw_scheduler_plan(struct gw_scheduler *s);

/* The item's rows have been computed: counts them and seals the blocks that they completed. Of a branch that has
 * ended meanwhile only the flight is over. */
void gw_scheduler_computed(struct gw_scheduler *s, const struct gw_step_item *item);

/* `from` has just computed the prompt that HELD `to` begins with, too: `to` shares its KV and runs. False if
 * there is no room (then it is still HELD). */
bool gw_scheduler_fork(struct gw_scheduler *s, const struct gw_branch *from, struct gw_branch *to);

/* The job's prompt has been computed: all that are still HELD wait for admission. */
void gw_scheduler_release(struct gw_scheduler *s, struct gw_job *job);

struct gw_scheduler_stats gw_scheduler_stats(const struct gw_scheduler *s);

#endif
