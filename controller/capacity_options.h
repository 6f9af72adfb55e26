/* What the controller is told of its cloud: which, which groups, between which sizes, how patiently.
 *
 * Owner: strings live until exit. Thread: start-up. Units: last word of the name; instances.
 * Errors: GW_ERR_INPUT with a text that says what to do. Source: own design; DESIGN part 7. */
#ifndef GW_CONTROLLER_CAPACITY_OPTIONS_H
#define GW_CONTROLLER_CAPACITY_OPTIONS_H

#include <stdint.h>

#include "base/err.h"

#define GW_CAPACITY_FLAGS 28

struct gw_flag;

struct gw_capacity_options {
    const char *cloud, *region, *endpoint, *metadata_url, *queue_url, *spot_group, *on_demand_group,
        *prices_file;
    int64_t spot_min, spot_max, on_demand_min, on_demand_max, spare;
    double short_s, whole_s, cooldown_s, shrink_s, drain_s, read_s, settle_s, hook_s, spot_usd_h,
        on_demand_usd_h, egress_usd_gb;
    bool dry_run;
    /* what these say */
    bool sizes;   /* sizes of groups are the controller's */
    bool notices; /* a queue is read */
};

void gw_capacity_options_default(struct gw_capacity_options *o);

/* Fills flags[GW_CAPACITY_FLAGS] of the table that parses into o; returns how many there are. */
int gw_capacity_options_flags(struct gw_capacity_options *o, struct gw_flag *flags);

/* What must hold between them; cloud becomes one that is there. journaled: what is stored outlives the process. */
gw_err_t gw_capacity_options_check(struct gw_capacity_options *o, bool journaled,
                                   struct gw_err_ctx *ctx) GW_MUST_USE;

#endif
