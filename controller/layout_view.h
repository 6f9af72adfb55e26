/* What the layout service shows of itself: for /admin/layout, /ready and metrics.
 *
 * Owner: the caller's memory; pointers are valid as long as the service. Thread: the loop's. Units: microseconds, bytes.
 * Errors: none. Source: own design. */
#ifndef GW_CONTROLLER_LAYOUT_VIEW_H
#define GW_CONTROLLER_LAYOUT_VIEW_H

#include "controller/layout_make.h"

struct gw_layout_view {
    const struct gw_plan_model *model;
    char layout[GW_LAYOUT_TEXT_MAX + 1];  /* what is asked for: "auto", "replicas" or a shape */
    char reason[GW_LAYOUT_REASON_MAX];    /* of the last plan; "" = there was none yet */
    uint32_t pipelines, pipelines_wanted; /* of the last plan */
    uint64_t missing_bytes;               /* of memory, when the last plan has no pipeline because of that */
    uint64_t fleet;                       /* that the last plan was made for */
    bool planning;                        /* a newer one is being made or about to be */
    uint64_t plans, plans_us, plan_us;    /* made so far, the time they took, and the last one */
    struct gw_plan_load load;             /* that is planned for: measured and prior */
    double measured_rps, tokens_s;        /* without a prior */
};

#endif
