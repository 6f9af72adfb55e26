/* Holders: which devices have a cell now.
 *
 * Owner: gw_holders_fini frees. Thread: any; pure. Units: indices into the fleet. Errors: GW_ERR_MEMORY.
 * Source: own design. */
#ifndef GW_CONTROLLER_PLAN_HOLDERS_H
#define GW_CONTROLLER_PLAN_HOLDERS_H

#include "migrate/plan.h"

struct gw_holders {
    const struct gw_plan_fleet *fleet;
    uint32_t shares;
    uint32_t *first;   /* per cell g * S + s: devices[first[cell]] … devices[first[cell + 1]] */
    uint32_t *devices; /* ascending within a cell */
};

gw_err_t gw_holders_make(const struct gw_plan_fleet *fleet, const struct gw_plan_model *model,
                         struct gw_holders *out) GW_MUST_USE;
void gw_holders_fini(struct gw_holders *holders);

/* From whom `device` best fetches the cell: its own instance, its zone, anyone; GW_PLAN_NONE if nobody else has it. */
uint32_t gw_holders_pick(const struct gw_holders *holders, uint32_t device, uint32_t g, uint32_t s);

#endif
