/* Shelf: the page pools of this worker whose sealed blocks can be had by name: those of its pipelines, and for a while
 * those of pipelines that are over.
 *
 *     state      event                                  next       what is done
 *     ────────   ────────────────────────────────────   ────────   ────────────────────────────────────────────
 *     -          put                                    LIVE       the pipeline's engine writes, fetches write
 *     LIVE       retire                                 RETIRED    nobody writes any more; others go on reading
 *     RETIRED    revive, and nobody writes              LIVE       another pipeline's engine goes on with what it holds
 *     RETIRED    lease passed, or room is needed        GONE       found by nobody
 *     GONE       the last reader has let go             -          freed
 *
 * Readers are the peer server (gw_shelf_source), fetches into another pool of this worker, and the checkpoint agent. They
 * hold the pool's memory, not its content: page_dir.h says how they know what they have read.
 *
 * Owner: gw_shelf_destroy frees all pools; nobody reads then. Thread: any, but for gw_shelf_seal: whoever writes the slot.
 * Units: microseconds, bytes. Errors: GW_ERR_LIMIT when there are too many pools. Source: own design; DESIGN parts 5, 6. */
#ifndef GW_WORKER_SHELF_H
#define GW_WORKER_SHELF_H

#include "migrate/geometry.h"
#include "migrate/peer_server.h"
#include "migrate/store.h"
#include "worker/page_dir.h"
#include "worker/page_offload.h"

#define GW_SHELF_POOLS_MAX 16
#define GW_SHELF_SETTLE_MS                                                                                   \
    1000 /* 500 blocks of 2 MiB are copied in 0.1 s; who needs what is late computes it again */
#define GW_SHELF_PINS_MAX (1u << 17) /* 64 peers, two requests of 512 blocks each, twice */

struct gw_shelf;
struct gw_shelf_pool; /* one pool on it */

struct gw_shelf_key {
    uint64_t term, generation;
};

gw_err_t gw_shelf_create(struct gw_shelf **out) GW_MUST_USE;
void gw_shelf_destroy(struct gw_shelf *shelf);

/* Takes the pool over, also on error. `pages`: what it holds; slot_bytes: of all its pages. The caller has a reference. */
gw_err_t gw_shelf_put(struct gw_shelf *shelf, struct gw_shelf_key key, struct gw_page_rect pages,
                      struct gw_page_pool *pool, uint32_t slots, struct gw_shelf_pool **out,
                      struct gw_err_ctx *ctx) GW_MUST_USE;
/* The newest retired pool of just these pages and slots that nobody writes to, for another pipeline: nothing is copied. Who
 * reads finds it by its former key, too. NULL: there is none. */
struct gw_shelf_pool *gw_shelf_revive(struct gw_shelf *shelf, struct gw_shelf_key key,
                                      struct gw_page_rect pages, uint32_t slots);
/* Gives the caller's reference back; others find the pool for lease_us more. */
void gw_shelf_retire(struct gw_shelf *shelf, struct gw_shelf_pool *pool, int64_t lease_us);

/* The LIVE pool of a pipeline, to write into slots that its engine claimed, until it is given back; NULL if there is none. */
struct gw_shelf_pool *gw_shelf_take(struct gw_shelf *shelf, struct gw_shelf_key key);
void gw_shelf_give(struct gw_shelf *shelf, struct gw_shelf_pool *pool);

/* The pool of a pipeline as long as others may read it, to read until it is let go; NULL if there is none. */
struct gw_shelf_pool *gw_shelf_hold(struct gw_shelf *shelf, struct gw_shelf_key key);
void gw_shelf_let_go(struct gw_shelf *shelf, struct gw_shelf_pool *pool);

struct gw_shelf_key gw_shelf_key_of(const struct gw_shelf_pool *pool);
struct gw_page_pool *gw_shelf_memory(const struct gw_shelf_pool *pool);
struct gw_page_dir *gw_shelf_dir(const struct gw_shelf_pool *pool);
struct gw_page_rect gw_shelf_pages(const struct gw_shelf_pool *pool);
uint32_t gw_shelf_slots(const struct gw_shelf_pool *pool);
/* Who is told of each block that operations wrote, once it can be found by its name, until the pool is retired. NULL: nobody. */
typedef void gw_shelf_sealed_fn(void *arg, const struct gw_shelf_pool *pool,
                                const struct gw_block_name *name);
void gw_shelf_watch(struct gw_shelf_pool *pool, gw_shelf_sealed_fn *sealed, void *arg);

/* The slot holds a whole block from now on, which operations wrote: it can be found by its name, at once or, where it has to come from
 * a device, once it has (page_offload.h). Thread of the operations. */
void gw_shelf_seal(struct gw_shelf_pool *pool, uint32_t slot, const struct gw_block_name *name);
/* Operations write to the slot: what was sealed there and has not come is given up. Thread of the operations. */
void gw_shelf_write(struct gw_shelf_pool *pool, uint32_t slot);
/* The slot's content is dead: it has no name any more. Thread of the operations. */
void gw_shelf_forget(struct gw_shelf_pool *pool, uint32_t slot);
/* Waits until all that is sealed can be found, GW_SHELF_SETTLE_MS at most. */
void gw_shelf_settle(struct gw_shelf_pool *pool);

/* The host will write to the slot, through gw_page_pool_page: nothing else does from now on. Any thread. */
void gw_shelf_claim(struct gw_shelf_pool *pool, uint32_t slot);
/* It has: a whole block, its checksums. False: that could not be brought to the device, and is not here. Any thread. */
bool gw_shelf_fill(struct gw_shelf_pool *pool, uint32_t slot, const struct gw_block_name *name,
                   const uint64_t *sums) GW_MUST_USE;

/* The pipeline's steps up to this one are over at this rank: their pages are written, their names known. */
void gw_shelf_stepped(struct gw_shelf_pool *pool, uint64_t step);
/* Waits until they are: what was claimed after them may be written then. False: not by the deadline. */
bool gw_shelf_wait_step(struct gw_shelf *shelf, struct gw_shelf_pool *pool, uint64_t step,
                        int64_t deadline_us);

/* Copies a block that another pool of this worker holds whole into a slot of this one, and seals it. False: none has it. */
bool gw_shelf_copy(struct gw_shelf *shelf, struct gw_shelf_pool *to, uint32_t slot,
                   const struct gw_block_name *name);

/* The pages of a slot, [gw_page_rect_pages] in the order of gw_page_rect_index. */
void gw_shelf_list(const struct gw_shelf_pool *pool, uint32_t slot, struct gw_store_page *pages);
/* Copies a block's pages to out, one behind another. False: it is not here (any more). */
bool gw_shelf_read(const struct gw_shelf_pool *pool, const struct gw_block_name *name, uint8_t *out);

/* For a peer server; the shelf must outlive it. */
struct gw_page_source gw_shelf_source(struct gw_shelf *shelf);

/* Memory of all pools here. */
uint64_t gw_shelf_touched_bytes(struct gw_shelf *shelf);
/* Frees what is over. */
void gw_shelf_sweep(struct gw_shelf *shelf, int64_t now_us);
/* Does anybody still come for pages of a retired pool? One that was retired within first_us, or asked within again_us. */
bool gw_shelf_is_wanted(struct gw_shelf *shelf, int64_t now_us, int64_t first_us, int64_t again_us);

#endif
