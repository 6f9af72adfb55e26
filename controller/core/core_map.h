/* A hash map from 64-bit ids to pointers, for requests and links.
 *
 * Open addressing with linear probing; removal shifts back, so there are no tombstones. At most half full.
 * Iteration order is never used: the core must not depend on it.
 *
 * Owner: the map owns its slots, not the values. Thread: one. Units: entries.
 * Errors: GW_ERR_MEMORY when it cannot grow (the map is unchanged). Source: Knuth, TAOCP 3, 6.4. */
#ifndef GW_CONTROLLER_CORE_MAP_H
#define GW_CONTROLLER_CORE_MAP_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct core_map_slot {
    uint64_t key;
    void *value; /* NULL = empty */
};

struct core_map {
    struct core_map_slot *slots;
    size_t cap; /* 0 or a power of two */
    size_t len;
};

void core_map_fini(struct core_map *map);
/* value is not NULL and key not in the map yet. */
gw_err_t core_map_put(struct core_map *map, uint64_t key, void *value) GW_MUST_USE;
/* NULL if absent. */
void *core_map_get(const struct core_map *map, uint64_t key);
/* Absent keys are fine. */
void core_map_remove(struct core_map *map, uint64_t key);

#endif
