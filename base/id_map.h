/* Id map: 64-bit ids → pointers.
 *
 * Open addressing with linear probing; at most half full, deletion shifts the run back, so there are no
 * tombstones. Ids are never 0.
 *
 * Owner: the map owns its slots, not what they point to. Thread: one. Errors: GW_ERR_MEMORY.
 * Source: Knuth, TAOCP 3, 6.4 algorithm R. */
#ifndef GW_BASE_ID_MAP_H
#define GW_BASE_ID_MAP_H

#include <stdint.h>

#include "base/err.h"

struct gw_id_map {
    struct gw_id_slot {
        uint64_t id; /* 0 = free */
        void *value;
    } * slots;
    size_t cap, len; /* cap: a power of two, or 0 */
};

void gw_id_map_fini(struct gw_id_map *m);
/* id must not be there yet. */
gw_err_t gw_id_map_put(struct gw_id_map *m, uint64_t id, void *value) GW_MUST_USE;
/* NULL if it is not there. */
void *gw_id_map_get(const struct gw_id_map *m, uint64_t id);
/* No-op if it is not there. */
void gw_id_map_remove(struct gw_id_map *m, uint64_t id);

#endif
