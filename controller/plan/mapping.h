/* Device mapping: which of several equal devices takes which rank, so that most bytes can stay where they are.
 *
 * A layout names devices, but within a class (classes.h) any instance will do, and within an instance any device of the
 * same type (but of instances with devices that must be apart from others none will). Reusable bytes of a rank on a device: weights of the cells that both have, and the KV of those cells.
 *
 * 1. Instances whose devices hold already what the layout wants there stay: pipelines that nothing touches are done.
 * 2. Instances with equal holdings, and places that want exactly those, are paired, whole pipelines together.
 * 3. The rest by Kuhn-Munkres over instances (blocks of GW_MAPPING_BLOCK), the value of a pair being that of the best
 *    assignment of devices inside, found by Kuhn-Munkres too.
 *
 * Owner: the layout is changed in place. Thread: any; pure. Units: bytes. Errors: GW_ERR_MEMORY; the layout is then
 * unchanged. Source: own design. */
#ifndef GW_CONTROLLER_PLAN_MAPPING_H
#define GW_CONTROLLER_PLAN_MAPPING_H

#include "migrate/plan.h"

#define GW_MAPPING_BLOCK 64 /* instances that compete for each other's places; 4096 pairs to value */

/* Changes the devices of ranks, never their cells. */
gw_err_t gw_mapping(const struct gw_plan_fleet *fleet, const struct gw_plan_model *model,
                    struct gw_layout *layout) GW_MUST_USE;

/* Bytes of `cells` that the device has already. */
uint64_t gw_mapping_reuse(const struct gw_plan_model *model, const struct gw_plan_device *device,
                          struct gw_cell_rect cells);

#endif
