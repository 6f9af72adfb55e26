/* Inside of the shelf: one pool on it, whose place in the list is shelf.c's affair and whose slots are shelf_slots.c's.
 *
 * Thread: as shelf.h says; what can change is guarded by the shelf's lock, but for directory and offload, which have their own. */
#ifndef GW_WORKER_SHELF_INTERNAL_H
#define GW_WORKER_SHELF_INTERNAL_H

#include <stdatomic.h>

#include "worker/shelf.h"

enum gw_shelf_state { LIVE, RETIRED, GONE };

struct gw_shelf_pool {
    struct gw_shelf_key key, former; /* former: before it was revived, else the same */
    struct gw_page_rect pages;
    struct gw_page_pool *pool;
    struct gw_page_dir *dir;
    struct gw_page_offload *offload; /* NULL: the pool has one side */
    uint64_t *sums;                  /* of the slot that is sealed: the writer's */
    gw_shelf_sealed_fn *sealed;
    void *sealed_arg;
    _Atomic uint64_t steps;
    uint32_t slots, refs, writers; /* writers: of the references, but for the engine's */
    enum gw_shelf_state state;
    int64_t retired_us, until_us, asked_us;
};

/* Blocks leave the pool's device while steps go on, if it has one. */
gw_err_t gw_shelf_begin_offload(struct gw_shelf_pool *pool, struct gw_err_ctx *ctx) GW_MUST_USE;

#endif
