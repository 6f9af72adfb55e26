/* Churn: how often instances are taken away, as observed: losses and notices per instance and hour.
 *
 *     rate = losses / (instance hours + GW_CHURN_PRIOR_H), both halved every GW_CHURN_HALF_S
 *
 * Owner: caller memory. Thread: one. Units: microseconds on a clock that does not go back; per instance and hour.
 * Errors: none. Source: own design. */
#ifndef GW_CONTROLLER_CAPACITY_CHURN_H
#define GW_CONTROLLER_CAPACITY_CHURN_H

#include <stdint.h>

#define GW_CHURN_HALF_S  21600.0 /* availability follows the hours of a day */
#define GW_CHURN_PRIOR_H 8.0     /* one loss in a cluster's first minutes is no rate */

struct gw_churn {
    double losses, instance_s;
    int64_t at_us; /* of the last look; 0: there was none */
};

/* Time has passed with so many instances there. */
void gw_churn_pass(struct gw_churn *c, int64_t now_us, uint32_t instances);
void gw_churn_lost(struct gw_churn *c);
double gw_churn_per_instance_h(const struct gw_churn *c);

#endif
