/* Stores: does every worker know, at any moment, all that keep pages for others, and nobody else? */
#include "tests/sim/sim.h"

#include <string.h>

#include "base/hash.h"

/* Some keep none. */
static bool keeps_pages(uint32_t slot)
{
    return slot % 3 != 1;
}

uint64_t sim_stores_bytes(const struct sim_worker *w)
{
    return keeps_pages(w->slot) ? 1 << 20 : 0;
}

/* A set of addresses as a number: the order does not count. */
static uint64_t member(const char *address)
{
    return gw_hash64(address, strlen(address), 1);
}

void sim_stores_told(struct sim *sim, struct sim_link *l, const struct gw_msg_stores *m)
{
    uint64_t before = l->stores;
    uint32_t slot, life;
    if (l->proto < 3) sim_fail(sim, "STORES to w%u, of protocol %u", l->slot, l->proto);
    l->stores = 0;
    for (uint32_t i = 0; i < m->len; i++) {
        l->stores += member(m->hosts[i].address);
        if (!sim_kv_parse(m->hosts[i].address, &slot, &life) || !keeps_pages(slot))
            sim_fail(sim, "'%s' keeps no pages", m->hosts[i].address);
        else if (life == sim->workers[slot].life &&
                 strcmp(m->hosts[i].instance, sim->workers[slot].instance) != 0)
            sim_fail(sim, "w%u is not on %s", slot, m->hosts[i].instance);
    }
    if (l->stores == before) sim_fail(sim, "STORES says to w%u what it knows", l->slot);
}

void sim_stores_check(struct sim *sim)
{
    uint64_t all = 0;
    for (size_t i = 0; i < sim->links_len; i++) {
        const struct sim_link *l = &sim->links[i];
        const struct sim_worker w = {.slot = l->slot, .life = l->life};
        char address[GW_WIRE_NAME_MAX + 1] = "";
        if (!l->in_core || l->doomed || l->proto < 3 || !keeps_pages(l->slot)) continue;
        sim_kv_address(&w, address);
        all += member(address);
    }
    for (size_t i = 0; i < sim->links_len; i++) {
        const struct sim_link *l = &sim->links[i];
        if (l->in_core && l->proto > 2 && l->stores != all)
            sim_fail(sim, "w%u does not know who keeps pages", l->slot);
    }
}
