/* Store fetch: gets blocks of a pull from the stores into the slots that the leader has claimed for them.
 *
 *     block     event                                                       what is done
 *     ───────   ─────────────────────────────────────────────────────────   ───────────────────────────────────────────
 *     lost      no store says at once that it has it (its last page, for     stays lost
 *                all of them)
 *     lost      some of its pages came at the first turn                    the others are asked for at the second
 *     lost      all of its pages came                                       their checksums are taken, it can be found by
 *                                                                           its name in the pool: STORE
 *     lost      a page is missing, forged, late                             stays lost
 *     any       a store was late, the caller says that it is over           no more is asked for; what was, is awaited
 *
 * So a store that answers nothing costs GW_STORE_FETCH_HAS_MS, one that begins to lag GW_STORE_FETCH_BLOCK_MS. A page whose
 * seal fits is what was sealed under that name by somebody who holds the cluster key; nothing else is looked at.
 *
 * Owner: caller memory. Thread: one per call, it waits. Units: milliseconds, blocks. Errors: none: what cannot be had is
 * lost. Source: own design; DESIGN parts 5, 6 and 9. */
#ifndef GW_WORKER_STORE_FETCH_H
#define GW_WORKER_STORE_FETCH_H

#include "migrate/peer_pull.h"
#include "worker/shelf.h"
#include "worker/stores.h"

#define GW_STORE_FETCH_HAS_MS   250
#define GW_STORE_FETCH_BLOCK_MS 1000
#define GW_STORE_FETCH_WINDOW   32                 /* blocks asked for at once */
#define GW_STORE_FETCH_BYTES    ((size_t)64 << 20) /* of them, if one alone is not larger */

struct gw_store_fetch {
    struct gw_stores *stores;
    struct gw_shelf_pool *pool;
    const struct gw_pull *pull; /* its slots are in the pool, and nobody writes to those of lost blocks */
    int64_t deadline_us;
    bool (*is_over)(void *arg); /* it need not go on */
    void *arg;
};

/* from[pull->names_len]: GW_PULL_STORE for those that came, the others as they are. */
void gw_store_fetch_run(const struct gw_store_fetch *fetch, uint8_t *from);

#endif
