/* The fleet as the planner sees it, made from what the core knows of its workers.
 *
 *     worker            → device; protocol-1 workers are none: they are pipelines of their own for good
 *     instance of HELLO → instance; the doomed workers of one make an instance of their own, so that the others stay usable
 *     equal kind, profile, memory → type; memory bandwidth and FLOP rate are the medians of what workers of that
 *                         kind have probed: one probe that a neighbour disturbed must not make a device slow; the
 *                         factors are what its steps were measured to take (layout_rates.h)
 *     cells             → of its rank in a serving pipeline, else in a forming one (it has begun to load them), else what
 *                         HELLO said
 *
 * So `current` of a plan is what serves, or is about to serve where nothing else does. KV is worth nothing here: requests
 * that move recompute it.
 *
 * Owner: gw_layout_fleet_fini frees; links and whys are parallel to devices and workers. Thread: any; pure.
 * Units: as in migrate/plan.h. Errors: GW_ERR_MEMORY; *out is then empty. Source: own design; DESIGN part 7. */
#ifndef GW_CONTROLLER_LAYOUT_FLEET_H
#define GW_CONTROLLER_LAYOUT_FLEET_H

#include "controller/core/core.h"
#include "controller/layout_rates.h"
#include "migrate/plan.h"

/* Links, until they are measured. Within a machine: shared memory, whose all-reduce of 16 KiB must stay below 15 µs
 * (kernels/coll.h), at the rate at which one core copies. Between machines: 10 Gbit/s, the least that a cloud gives to
 * instances worth serving on, and a TCP round of two wake-ups. Between zones: a shared 5 Gbit/s, 1 ms; the price is AWS's
 * and GCP's. Weights from disk: a network volume with read-ahead. */
#define GW_LINK_MACHINE_BYTES_S 5e9
#define GW_LINK_MACHINE_S       10e-6
#define GW_LINK_NETWORK_BYTES_S 1.25e9
#define GW_LINK_NETWORK_S       100e-6
#define GW_LINK_ZONE_BYTES_S    0.625e9
#define GW_LINK_ZONE_S          1e-3
#define GW_LINK_ZONE_USD_GB     0.01
#define GW_LINK_STORE_BYTES_S   0.5e9

/* What the core shows, copied. devices and workers are parallel. */
struct gw_layout_seen {
    const struct gw_core_worker_view *workers;
    const struct gw_core_device_view *devices;
    const struct gw_core_pipeline_view *pipelines;
    size_t workers_len, pipelines_len;
    int64_t now_us;
    const struct gw_rates *rates; /* what was measured; NULL: nothing */
    const double *zone_usd_gb;    /* price of 10^9 bytes between zones; NULL: GW_LINK_ZONE_USD_GB */
};

/* Why a worker has no rank. */
enum gw_layout_why {
    GW_WHY_PLACED = 0, /* it has one */
    GW_WHY_PROTOCOL,
    GW_WHY_DOOMED,
    GW_WHY_KINDS,  /* more kinds of devices, profiles or zones than are planned with */
    GW_WHY_MEMORY, /* no rank of the layout fits into it */
    GW_WHY_SPARE,  /* the layout has no place for it */
};

struct gw_layout_fleet {
    struct gw_plan_fleet plan;
    uint64_t *links;          /* [devices_len] */
    uint32_t *worker_of;      /* [devices_len] index into seen.workers */
    enum gw_layout_why *whys; /* [workers_len] PLACED for those that are devices */
    uint32_t workers_len;
};

gw_err_t gw_layout_fleet_make(const struct gw_layout_seen *seen, const struct gw_plan_model *model,
                              struct gw_layout_fleet *out) GW_MUST_USE;
void gw_layout_fleet_fini(struct gw_layout_fleet *fleet);

/* "speaks protocol 1: it is a pipeline of its own" */
const char *gw_layout_why_text(enum gw_layout_why why);

#endif
