#include "base/id_map.h"

#include <stdlib.h>

#include "base/hash.h"

#define FIRST_CAP 256

static size_t home(const struct gw_id_map *m, uint64_t id)
{
    return (size_t)gw_mix64(id) & (m->cap - 1);
}

/* The slot of id, or the free one where it would go. cap > 0. */
static size_t find(const struct gw_id_map *m, uint64_t id)
{
    size_t i = home(m, id);
    while (m->slots[i].id != 0 && m->slots[i].id != id) i = (i + 1) & (m->cap - 1);
    return i;
}

static gw_err_t grow(struct gw_id_map *m)
{
    struct gw_id_map bigger = {.cap = m->cap ? m->cap * 2 : FIRST_CAP, .len = m->len};
    bigger.slots = calloc(bigger.cap, sizeof *bigger.slots);
    if (!bigger.slots) return GW_ERR_MEMORY;
    for (size_t i = 0; i < m->cap; i++)
        if (m->slots[i].id != 0) bigger.slots[find(&bigger, m->slots[i].id)] = m->slots[i];
    free(m->slots);
    *m = bigger;
    return GW_OK;
}

void gw_id_map_fini(struct gw_id_map *m)
{
    free(m->slots);
    *m = (struct gw_id_map){0};
}

gw_err_t gw_id_map_put(struct gw_id_map *m, uint64_t id, void *value)
{
    if (2 * (m->len + 1) > m->cap) TRY(grow(m));
    m->slots[find(m, id)] = (struct gw_id_slot){.id = id, .value = value};
    m->len++;
    return GW_OK;
}

void *gw_id_map_get(const struct gw_id_map *m, uint64_t id)
{
    if (m->cap == 0 || id == 0) return NULL;
    size_t i = find(m, id);
    return m->slots[i].id == id ? m->slots[i].value : NULL;
}

void gw_id_map_remove(struct gw_id_map *m, uint64_t id)
{
    if (!gw_id_map_get(m, id)) return;
    size_t hole = find(m, id), mask = m->cap - 1;
    for (size_t i = (hole + 1) & mask; m->slots[i].id != 0; i = (i + 1) & mask) {
        /* An entry may fill the hole unless its home lies cyclically behind the hole. */
        if (((i - home(m, m->slots[i].id)) & mask) < ((i - hole) & mask)) continue;
        m->slots[hole] = m->slots[i];
        hole = i;
    }
    m->slots[hole] = (struct gw_id_slot){0};
    m->len--;
}
