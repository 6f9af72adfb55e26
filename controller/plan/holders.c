#include "controller/plan/holders.h"

#include <stdlib.h>

#include "base/hash.h"
#include "controller/plan/move.h"

gw_err_t gw_holders_make(const struct gw_plan_fleet *f, const struct gw_plan_model *m, struct gw_holders *out)
{
    uint32_t cells = m->groups * m->shares;
    uint64_t total = 0;
    for (uint32_t d = 0; d < f->devices_len; d++) total += gw_rect_cells(f->devices[d].holds);
    struct gw_holders h = {.fleet = f,
                           .shares = m->shares,
                           .first = calloc(cells + 2, sizeof *h.first),
                           .devices = malloc((total + 1) * sizeof *h.devices)};
    if (!h.first || !h.devices) {
        gw_holders_fini(&h);
        return GW_ERR_MEMORY;
    }
    /* counted two places on, so that filling moves each start to its end, which is the next one's start */
    for (uint32_t pass = 0; pass < 2; pass++) {
        for (uint32_t d = 0; d < f->devices_len; d++) {
            struct gw_cell_rect r = f->devices[d].holds;
            for (uint32_t g = r.g0; g < r.g1; g++)
                for (uint32_t s = r.s0; s < r.s1; s++) {
                    uint32_t cell = g * m->shares + s;
                    if (pass == 0)
                        h.first[cell + 2]++;
                    else
                        h.devices[h.first[cell + 1]++] = d;
                }
        }
        for (uint32_t c = 2; pass == 0 && c < cells + 2; c++) h.first[c] += h.first[c - 1];
    }
    *out = h;
    return GW_OK;
}

void gw_holders_fini(struct gw_holders *h)
{
    free(h->first);
    free(h->devices);
    *h = (struct gw_holders){0};
}

/* A holder in the instance of `device`, not itself. */
static uint32_t pick_near(const struct gw_holders *h, const uint32_t *list, uint32_t n, uint32_t device)
{
    const struct gw_plan_instance *in = &h->fleet->instances[h->fleet->devices[device].instance];
    uint32_t low = 0, high = n;
    while (low < high) {
        uint32_t mid = (low + high) / 2;
        if (list[mid] < in->first_device)
            low = mid + 1;
        else
            high = mid;
    }
    for (; low < n && list[low] < in->first_device + in->devices; low++)
        if (list[low] != device) return list[low];
    return GW_PLAN_NONE;
}

uint32_t gw_holders_pick(const struct gw_holders *h, uint32_t device, uint32_t g, uint32_t s)
{
    const struct gw_plan_fleet *f = h->fleet;
    uint32_t cell = g * h->shares + s, n = h->first[cell + 1] - h->first[cell];
    const uint32_t *list = &h->devices[h->first[cell]];
    if (n == 0) return GW_PLAN_NONE;
    uint32_t best = pick_near(h, list, n, device), zone = f->instances[f->devices[device].instance].zone;
    /* each device begins elsewhere, so that holders share the work; a row of shares comes from one peer */
    uint32_t start = (uint32_t)(gw_mix64((uint64_t)f->devices[device].instance << 16 | g) % n);
    for (uint32_t i = 0; best == GW_PLAN_NONE && i < n && i < GW_MOVE_SOURCES_LOOKED_AT; i++) {
        uint32_t d = list[(start + i) % n];
        if (d != device && f->instances[f->devices[d].instance].zone == zone) best = d;
    }
    if (best == GW_PLAN_NONE && list[start] != device) best = list[start];
    if (best == GW_PLAN_NONE && n > 1) best = list[(start + 1) % n];
    return best;
}
