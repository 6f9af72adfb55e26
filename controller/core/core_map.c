#include "controller/core/core_map.h"

#include <assert.h>
#include <stdlib.h>

#include "base/hash.h"

#define MAP_FIRST_CAP 64 /* a small cluster; doubled from there */

void core_map_fini(struct core_map *map)
{
    free(map->slots);
    *map = (struct core_map){0};
}

static size_t home_of(const struct core_map *map, uint64_t key)
{
    return gw_mix64(key) & (map->cap - 1);
}

/* The slot that holds key, or the empty one where it belongs. */
static size_t find(const struct core_map *map, uint64_t key)
{
    size_t i = home_of(map, key);
    while (map->slots[i].value && map->slots[i].key != key) i = (i + 1) & (map->cap - 1);
    return i;
}

static gw_err_t grow(struct core_map *map)
{
    struct core_map bigger = {.cap = map->cap ? map->cap * 2 : MAP_FIRST_CAP, .len = map->len};
    bigger.slots = calloc(bigger.cap, sizeof *bigger.slots);
    if (!bigger.slots) return GW_ERR_MEMORY;
    for (size_t i = 0; i < map->cap; i++)
        if (map->slots[i].value) bigger.slots[find(&bigger, map->slots[i].key)] = map->slots[i];
    free(map->slots);
    *map = bigger;
    return GW_OK;
}

gw_err_t core_map_put(struct core_map *map, uint64_t key, void *value)
{
    assert(value);
    if ((map->len + 1) * 2 > map->cap) TRY(grow(map));
    size_t i = find(map, key);
    assert(!map->slots[i].value);
    map->slots[i] = (struct core_map_slot){key, value};
    map->len++;
    return GW_OK;
}

void *core_map_get(const struct core_map *map, uint64_t key)
{
    return map->cap ? map->slots[find(map, key)].value : NULL;
}

void core_map_remove(struct core_map *map, uint64_t key)
{
    if (!map->cap) return;
    size_t mask = map->cap - 1, hole = find(map, key);
    if (!map->slots[hole].value) return;
    map->len--;
    /* Entries behind the hole move into it unless that would put them before their home. */
    for (size_t i = (hole + 1) & mask; map->slots[i].value; i = (i + 1) & mask) {
        size_t home = home_of(map, map->slots[i].key);
        if (((i - home) & mask) < ((i - hole) & mask)) continue;
        map->slots[hole] = map->slots[i];
        hole = i;
    }
    map->slots[hole].value = NULL;
}
