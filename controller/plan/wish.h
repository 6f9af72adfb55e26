/* Capacity wish: how many more devices, of which type, the load would need.
 *
 * Wanted is the arrival rate / GW_COST_RHO_MAX, and a margin for what preemptions keep away: instances lost per hour · hours
 * until one is replaced · GW_WISH_CLUSTER (they come in clusters), as a fraction of the fleet. For each type a pipeline
 * of new instances is shaped, which keeps the SLO where one is promised and some type can; the type whose missing pipelines cost least is the
 * wish. Above GW_WISH_FALLBACK of the fleet gone at a time, spot alone does not hold: on-demand is asked for.
 *
 * Owner: plain data. Thread: any; pure. Units: as named. Errors: GW_ERR_MEMORY. Source: own design. */
#ifndef GW_CONTROLLER_PLAN_WISH_H
#define GW_CONTROLLER_PLAN_WISH_H

#include "controller/plan/cost.h"

#define GW_WISH_CLUSTER  2.0
#define GW_WISH_FALLBACK 0.3
#define GW_WISH_BUDGET   2000 /* evaluations per type */

struct gw_preemptions {
    double per_instance_h; /* observed: losses per instance and hour */
    double replace_s;      /* until a lost instance is replaced and serves */
};

struct gw_wish {
    uint32_t instances; /* 0: nothing is missing */
    uint32_t devices;   /* of each */
    uint32_t type, pipelines;
    double usd_h;
    double margin; /* fraction of the fleet that is expected to be away */
    bool on_demand;
    bool slo_missed; /* no type keeps the SLO; with this the rate is met */
    bool impossible; /* no type can hold the model */
};

/* headroom: as planned with. score: of the layout that serves (throughput 0 if none). */
gw_err_t gw_wish_make(const struct gw_plan_input *in, double headroom, const struct gw_score *score,
                      const struct gw_preemptions *preemptions, struct gw_wish *out) GW_MUST_USE;

#endif
