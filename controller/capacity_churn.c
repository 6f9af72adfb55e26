#include "controller/capacity_churn.h"

#include <math.h>

#include "base/clock.h"

#define HOUR_S 3600.0

void gw_churn_pass(struct gw_churn *c, int64_t now_us, uint32_t instances)
{
    double s = c->at_us ? (double)(now_us - c->at_us) / (double)GW_US_PER_S : 0;
    double fade = exp2(-s / GW_CHURN_HALF_S);
    c->losses *= fade;
    c->instance_s = c->instance_s * fade + s * instances;
    c->at_us = now_us;
}

void gw_churn_lost(struct gw_churn *c)
{
    c->losses += 1;
}

double gw_churn_per_instance_h(const struct gw_churn *c)
{
    return c->losses / (c->instance_s / HOUR_S + GW_CHURN_PRIOR_H);
}
