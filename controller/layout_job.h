/* One plan in the making: what the core showed, copied, so that a thread can plan by it.
 *
 * Owner: gw_layout_job_destroy frees. Thread: create and destroy on the loop's, run on any; nothing is shared meanwhile.
 * Units: microseconds. Errors: GW_ERR_MEMORY; run's are in `err` and `ctx`. Source: own design. */
#ifndef GW_CONTROLLER_LAYOUT_JOB_H
#define GW_CONTROLLER_LAYOUT_JOB_H

#include "controller/layout_apart.h"
#include "controller/layout_make.h"

struct gw_layout_job {
    /* in */
    struct gw_core_worker_view *workers;
    struct gw_core_device_view *devices;
    struct gw_core_pipeline_view *pipelines;
    struct gw_layout_seen seen;
    uint64_t fleet_number, version; /* the core's number of the fleet; the spec's */
    bool for_load;                  /* nothing but the load has changed */
    struct gw_layout_spec spec;
    struct gw_plan_model model;
    struct gw_plan_load load;
    struct gw_rates rates;
    double zone_usd_gb; /* seen points to it */
    struct gw_aparts aparts;
    /* out */
    struct gw_layout_fleet fleet;
    struct gw_plan_pair apart[GW_PLAN_APART_MAX]; /* the fleet's */
    struct gw_layout_made made;
    struct gw_core_plan_rank *ranks; /* [made.layout.ranks_len] */
    gw_err_t err;
    struct gw_err_ctx ctx;
    int64_t took_us;
};

/* Copies what the core shows; spec, load, model, rates and aparts are the caller's to fill in. */
gw_err_t gw_layout_job_create(const struct gw_core *core, int64_t now_us,
                              struct gw_layout_job **out) GW_MUST_USE;
void gw_layout_job_destroy(struct gw_layout_job *job);

/* Plans. */
void gw_layout_job_run(struct gw_layout_job *job);

#endif
