/* The layout to be served: from the fleet, the model, the load and what was asked for, by the planner or by placing.
 *
 *     auto      controller/plan/planner.h
 *     replicas  every device that can hold the model, alone
 *     a shape   layout_place.h; what the fleet cannot fill is waited for, as many whole pipelines as it can are served
 *
 * Nothing fits: a layout of no ranks, and a reason that says how much is missing.
 *
 * Owner: gw_layout_made_fini frees. Thread: any; pure. Units: bytes. Errors: GW_ERR_MEMORY; GW_ERR_INPUT from the planner's
 * checks of fleet, model and load; *out is then unchanged. Source: own design. */
#ifndef GW_CONTROLLER_LAYOUT_MAKE_H
#define GW_CONTROLLER_LAYOUT_MAKE_H

#include "controller/layout_fleet.h"
#include "controller/layout_spec.h"
#include "controller/plan/planner.h"

#define GW_LAYOUT_REASON_MAX 256

struct gw_layout_made {
    struct gw_layout layout;   /* devices are indices into the fleet */
    uint32_t pipelines_wanted; /* by a shape; else those of the layout */
    uint64_t
        missing_bytes; /* of memory, at least, for a first pipeline; 0 if one is there or bytes are not it */
    bool kept;         /* the layout is what the fleet serves already */
    enum gw_layout_why *whys; /* [devices_len] */
    char reason[GW_LAYOUT_REASON_MAX];
};

gw_err_t gw_layout_make(const struct gw_plan_input *in, const struct gw_layout_spec *spec,
                        struct gw_layout_made *out, struct gw_err_ctx *ctx) GW_MUST_USE;
void gw_layout_made_fini(struct gw_layout_made *made);

#endif
