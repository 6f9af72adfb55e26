/* Job: one request as a worker holds it, with its branches and the KV that each has so far.
 *
 * All of it is a cache of (request, logs): a branch's tokens are prompt ‖ output, and the KV of its first
 * `computed` positions lies in `blocks`. A step computes positions [computed, computed + rows); when that
 * reaches the last token known, its logits give the next one. Prefill, decode and going on from a log are one
 * thing.
 *
 *     state     in the scheduler's list   KV blocks   leaves when
 *     HELD      -                         none        a sibling has computed the prompt that they share; its pages
 *                                                     have been fetched (refilling)
 *     WAITING   waiting                   none        admitted: there are blocks and room in the batch
 *     RUNNING   running                   some        preempted (→ WAITING), finished, cancelled
 *     DONE      -                         none        -
 *
 * Owner: gw_job_destroy frees; blocks must have been released before. Thread: the engine's. Units: tokens,
 * blocks of GW_BLOCK_TOKENS. Errors: GW_ERR_MEMORY. Source: own design. */
#ifndef GW_WORKER_JOB_H
#define GW_WORKER_JOB_H

#include "migrate/block_name.h"
#include "migrate/wire.h"

enum gw_branch_state { GW_BRANCH_HELD, GW_BRANCH_WAITING, GW_BRANCH_RUNNING, GW_BRANCH_DONE };

struct gw_branch {
    struct gw_job *job;
    uint32_t index;
    enum gw_branch_state state;
    uint64_t order; /* of arrival: jobs first, then branches; smaller is served first */
    uint32_t *output;
    uint32_t output_len; /* [max_tokens] allocated */
    uint32_t computed;   /* positions whose KV is there */
    uint32_t *blocks;    /* slot of each block, blocks_len <= blocks_max */
    uint32_t
        dead; /* blocks[0 .. dead) are behind the model's horizon: given back, their slots are anybody's */
    uint32_t blocks_len, blocks_max;
    uint32_t sealed;             /* blocks[0 .. sealed) have names: never written again */
    struct gw_block_name *names; /* of the first names_len blocks; kept over preemption */
    uint32_t names_len;
    uint32_t tail_slot,
        tail_tokens;      /* a block behind the whole ones that came from elsewhere, part full, and how far;
                                        tokens 0 = none */
    uint32_t lane;        /* while RUNNING: the number of its block table at the other ranks (step_desc.h) */
    uint32_t lane_known;  /* blocks[0 .. lane_known) have been told to them */
    uint32_t whole_until; /* tokens before this one are drawn from whole rows (engine.c) */
    bool in_flight;       /* part of a step that is not over */
    bool preempted;       /* and not admitted since */
    struct gw_branch *prev, *next; /* in the scheduler's list */
};

struct gw_job {
    struct gw_request request;
    uint32_t attempt;
    uint32_t live;       /* branches that are not DONE */
    uint32_t held;       /* branches that are HELD; the scheduler keeps count */
    bool started;        /* has been part of a step */
    bool refilling;      /* its branches are HELD by worker/refill.h, the scheduler does not know of it */
    uint32_t hit_tokens; /* positions that its branches were admitted with, by name */
    uint32_t moved_tokens, stored_tokens; /* of those, fetched for it from peers, from a store */
    bool forgotten;              /* not in the engine's table any more: freed when no branch is in flight */
    uint32_t in_flight;          /* branches in flight */
    struct gw_job *chain;        /* in the engine's table */
    struct gw_branch branches[]; /* [request.n] */
};

#define GW_JOB_BRANCH_BITS 8 /* GW_REQUEST_BRANCHES_MAX < 256 */

static inline uint32_t gw_blocks_for(uint32_t tokens)
{
    return (tokens + GW_BLOCK_TOKENS - 1) / GW_BLOCK_TOKENS;
}

/* Blocks from the first on that neither `position` nor a later one sees anything of, if rows see `horizon` positions
 * back, their own among them; 0: all. */
static inline uint32_t gw_blocks_behind(uint32_t horizon, uint32_t position)
{
    return horizon && position >= horizon ? (position + 1 - horizon) / GW_BLOCK_TOKENS : 0;
}

/* Most positions that a branch ever needs KV for: the last token's is never computed. */
static inline uint32_t gw_job_kv_tokens(const struct gw_request *request)
{
    return request->prompt_len + request->sampling.max_tokens - 1;
}

static inline uint32_t gw_branch_len(const struct gw_branch *b)
{
    return b->job->request.prompt_len + b->output_len;
}

/* Takes the request over from submit (whose request is then empty but for n) and copies the logs; arrival numbers jobs.
 * Branches whose log is complete are DONE, the others HELD. On error submit is unchanged. */
gw_err_t gw_job_create(struct gw_msg_submit *submit, uint64_t arrival, struct gw_job **out) GW_MUST_USE;
void gw_job_destroy(struct gw_job *job);

/* The name of a whole block of prompt ‖ output; remembered. */
const struct gw_block_name *gw_branch_name(struct gw_branch *b, const struct gw_block_namer *namer,
                                           uint32_t block);

/* Its KV is known by name when it is handed over: whole blocks, and the first tokens of the one behind them. */
static inline uint32_t gw_branch_whole(const struct gw_branch *b)
{
    return (gw_branch_len(b) - 1) / GW_BLOCK_TOKENS;
}
static inline uint32_t gw_branch_tail(const struct gw_branch *b)
{
    return (gw_branch_len(b) - 1) % GW_BLOCK_TOKENS;
}
/* Of these first tokens; there are some. */
struct gw_block_name gw_branch_tail_name(struct gw_branch *b, const struct gw_block_namer *namer);

/* Copies the ids at positions [first, first + count) of prompt ‖ output. */
void gw_branch_copy_ids(const struct gw_branch *b, uint32_t first, uint32_t count, uint32_t *out);

#endif
