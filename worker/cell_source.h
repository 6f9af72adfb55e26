/* Cell source: gives the packed weights of a cell store to other workers, through the peer server.
 *
 * A part that is being given stays in memory until it has gone, whatever is trimmed meanwhile. Its checksums are taken when
 * they are asked for first, and kept with it; those of a part that came from a peer came with it.
 *
 * While requests run here, giving takes no more than bytes_s of all that memory can do.
 *
 * Owner: caller memory; the store and it outlive the peer server. Thread: any. Units: bytes. Errors: none. Source: own
 * design; DESIGN part 5. */
#ifndef GW_WORKER_CELL_SOURCE_H
#define GW_WORKER_CELL_SOURCE_H

#include "migrate/peer_server.h"
#include "worker/cell_store.h"

/* Of the memory bandwidth that was probed: what steps lose by it at most, for they are as fast as memory is read. */
#define GW_CELL_SOURCE_SHARE 0.05

struct gw_cell_giver {
    struct gw_cell_store *store;
    double bytes_s; /* while requests run; 0: no limit */
    atomic_bool busy;
};

/* How a store's parts are packed, for the other end to compare. */
uint64_t gw_cell_store_packing(const struct gw_cell_store *store);

struct gw_cell_source gw_cell_source(struct gw_cell_giver *giver);

#endif
