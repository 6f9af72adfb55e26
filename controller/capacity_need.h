/* Capacity need: how many instances the load needs, whatever is there now.
 *
 *     layout is a shape    its ranks, as many to an instance as the instances that are there have
 *     else                 the planner's wish (plan/wish.h) for all of the load, over new instances of the cheapest type
 *                          that is there, with its margin for preemptions
 *
 * Without a worker nothing is known of any type: need 0, and one instance is a beginning. A replica cluster is sized as a
 * planned one is.
 *
 * Owner: create/destroy. Thread: create and destroy on the loop's, run on any; nothing is shared meanwhile.
 * Units: instances; USD per hour. Errors: GW_ERR_MEMORY; run's is in `err`. Source: own design; DESIGN part 7. */
#ifndef GW_CONTROLLER_CAPACITY_NEED_H
#define GW_CONTROLLER_CAPACITY_NEED_H

#include "controller/layout_job.h"
#include "controller/plan/wish.h"

struct gw_capacity_need {
    struct gw_layout_job *seen; /* its views, model, load, rates and spec */
    struct gw_preemptions preemptions;
    /* out */
    gw_err_t err;
    uint32_t instances; /* 0: not known */
    double margin;
};

/* Takes over `seen`, whose model, load, rates and spec are set. */
gw_err_t gw_capacity_need_create(struct gw_layout_job *seen, const struct gw_preemptions *preemptions,
                                 struct gw_capacity_need **out) GW_MUST_USE;
void gw_capacity_need_destroy(struct gw_capacity_need *need);

void gw_capacity_need_run(struct gw_capacity_need *need);

#endif
