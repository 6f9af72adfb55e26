/* Page offload: sealed blocks on their way from a device's memory to the host's side of their pool, while steps go on.
 *
 *     thread of the operations           the offload's own                                    others
 *     ── seal(slot, name): mark ──►      queue ──► a buffer of the ring ──► host's side ──►   find it by its name
 *                                         (kernels/cuda/copy_ring.h)        checksums
 *
 * A sealed block is never written again, so its copy waits for nothing but the step that sealed it. Nobody waits for the copy: until
 * it has landed the block has no name here, as if it had been computed elsewhere.
 *
 *     what comes in between                         what becomes of the block
 *     ───────────────────────────────────────────   ──────────────────────────────────────────────────────────────────────
 *     all buffers are in use                        it waits: the queue has a place for every slot
 *     forget, claim: its slot is somebody else's    its copy ends for nobody, however far it was; it is not there
 *     the copy fails, or passes its deadline        it is not there: who needs it computes it again. After a deadline nothing
 *                                                    lands any more
 *     the next block of the slot is sealed          the same; the new one is queued
 *
 * The host's side of a slot is written by what lands, or by whoever has claimed it, never by both: claim waits for what is landing
 * (a copy within memory).
 *
 * Owner: gw_page_offload_destroy ends what is under way; pool and directory outlive it. Thread: seal that of the operations, turn the
 * offload's own, the rest any. Units: slots, microseconds. Errors: GW_ERR_MEMORY, GW_ERR_LIMIT (no thread) at creation. Source: own
 * design; DESIGN part 6. */
#ifndef GW_WORKER_PAGE_OFFLOAD_H
#define GW_WORKER_PAGE_OFFLOAD_H

#include "worker/page_dir.h"
#include "worker/page_pool.h"

struct gw_page_offload;

struct gw_page_offload_config {
    struct gw_page_pool *pool; /* on a device with memory of its own */
    struct gw_page_dir *dir;
    uint32_t slots;
    /* The block can be found from now on; on the offload's thread. */
    void (*landed)(void *arg, const struct gw_block_name *name);
    void *arg;
    bool no_thread; /* tests call turn */
};

struct gw_page_offload_stats {
    uint64_t landed, dropped, failed; /* blocks */
};

gw_err_t gw_page_offload_create(const struct gw_page_offload_config *config, struct gw_page_offload **out,
                                struct gw_err_ctx *ctx) GW_MUST_USE;
/* What has not landed is not there. */
void gw_page_offload_destroy(struct gw_page_offload *o);

/* The slot holds a whole block, which operations that were asked for before wrote. */
void gw_page_offload_seal(struct gw_page_offload *o, uint32_t slot, const struct gw_block_name *name);
/* Operations write to the slot from now on: the block there is given up. */
void gw_page_offload_forget(struct gw_page_offload *o, uint32_t slot);
/* The host does: the same, and nothing lands there any more. */
void gw_page_offload_claim(struct gw_page_offload *o, uint32_t slot);

/* Waits until all that is sealed has landed or will not. False: not by the deadline. */
bool gw_page_offload_settle(struct gw_page_offload *o, int64_t deadline_us);
/* Gives up all that has not landed; nobody is told of any block of it. */
void gw_page_offload_abandon(struct gw_page_offload *o);

/* Begins what can begin and lands what is done. False: it did nothing. */
bool gw_page_offload_turn(struct gw_page_offload *o);

struct gw_page_offload_stats gw_page_offload_stats(struct gw_page_offload *o);

#endif
