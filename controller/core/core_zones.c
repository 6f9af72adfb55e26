#include "controller/core/core_internal.h"

#include <string.h>

/* BACKGROUND: bytes between zones cost, within one they do not. A worker knows its own zone and whom it dials, the controller where
 * everybody is.
 *
 * BEHAVIOR: workers are numbered as they come. Each is told once of all those in other zones that came before and after it, by the
 * addresses at which they are dialed: so one that comes costs a list to it, and one entry to each of the others; a fleet in one
 * zone costs nothing. Nobody is told who went: clouds' addresses belong to a zone. What could not be said for want of memory
 * is said in a later step. */

#define ADDRESSES 2 /* of a worker: data, pages */

void core_zones_enter(struct gw_core *core, struct core_worker *w)
{
    w->zone_number = ++core->zone_numbers;
    core->zones_due = true;
}

struct batch {
    const struct core_worker *workers[GW_WIRE_ZONES_MAX / ADDRESSES]; /* [len], by number */
    uint32_t len;
    uint64_t told; /* up to that number, with them */
};

/* Those in other zones with the lowest numbers beyond what w was told. */
static void collect(const struct gw_core *core, const struct core_worker *w, struct batch *b)
{
    const uint32_t max = sizeof b->workers / sizeof b->workers[0];
    *b = (struct batch){.told = core->zone_numbers};
    for (uint32_t i = 0; i < core->workers_end; i++) {
        const struct core_worker *other = core->workers[i];
        if (!other || other->zone_number <= w->zones_told || strcmp(other->hello.zone, w->hello.zone) == 0)
            continue;
        uint32_t at = b->len;
        for (; at > 0 && other->zone_number < b->workers[at - 1]->zone_number; at--)
            if (at < max) b->workers[at] = b->workers[at - 1];
        if (at < max) b->workers[at] = other;
        if (b->len < max) b->len++;
    }
    if (b->len == max) b->told = b->workers[max - 1]->zone_number;
}

static void add(struct gw_msg_zones *z, const char *address, const char *zone)
{
    if (address[0] == '\0') return;
    struct gw_worker_zone *to = &z->workers[z->len++];
    memcpy(to->address, address, sizeof to->address);
    memcpy(to->zone, zone, sizeof to->zone);
}

/* False: there is no memory. */
static bool say_batch(struct gw_core *core, const struct core_worker *w, const struct batch *b)
{
    struct gw_worker_zone *zones = core_arena_alloc(core, (size_t)ADDRESSES * b->len * sizeof *zones);
    struct gw_msg *m = zones ? core_send(core, w, NULL, GW_MSG_ZONES) : NULL;
    if (!m) return false;
    m->zones = (struct gw_msg_zones){.workers = zones};
    for (uint32_t i = 0; i < b->len; i++) {
        const struct gw_msg_hello *h = &b->workers[i]->hello;
        add(&m->zones, h->data, h->zone);
        add(&m->zones, h->pages, h->zone);
    }
    return true;
}

static bool say(struct gw_core *core, struct core_worker *w)
{
    while (w->zones_told < core->zone_numbers) {
        struct batch b;
        collect(core, w, &b);
        if (b.len > 0 && !say_batch(core, w, &b)) return false;
        w->zones_told = b.told;
    }
    return true;
}

void core_zones_say(struct gw_core *core)
{
    if (!core->zones_due) return;
    core->zones_due = false;
    for (uint32_t i = 0; i < core->workers_end; i++) {
        struct core_worker *w = core->workers[i];
        if (w && w->hello.proto >= CORE_PROTO_ZONES) core->zones_due |= !say(core, w);
    }
}
