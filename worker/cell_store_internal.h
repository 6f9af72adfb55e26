/* Cell store, inside: the table of parts, as those see it that load them (cell_load.c) and give them to others
 * (cell_source.c).
 *
 * Nobody sees a part until it is put into the table, whole.
 *
 *     refs  of pipelines here: it stays
 *     pins  of peers that it is being sent to: its memory stays; what was trimmed meanwhile goes with the last pin */
#ifndef GW_WORKER_CELL_STORE_INTERNAL_H
#define GW_WORKER_CELL_STORE_INTERNAL_H

#include <pthread.h>

#include "worker/cell_part.h"

struct gw_cell_store {
    struct cell_packer packer; /* of who acquires */
    pthread_mutex_t lock;      /* guards parts; what a counted or pinned one points to stays */
    uint32_t parts_len;
    struct cell_part parts[];
};

/* Is it here? */
bool cell_store_has(struct gw_cell_store *store, uint32_t number);
/* Takes a whole part over: everybody sees it from now on. */
void cell_store_put(struct gw_cell_store *store, uint32_t number, struct cell_part *part);

#endif
