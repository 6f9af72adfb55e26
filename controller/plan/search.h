/* Layout search: which pipelines over which devices, and in what shape each.
 *
 * 1. Seeds. For each class of instances (each profile in it) and each size (part of an instance, one, several) the best shapes of a
 *    pipeline (shape.h) are options. At a given load factor the least P99 that any choice of options can keep is
 *    found by a threshold walk: options ascending by P99, until those taken together carry the rate. Of what is within one
 *    step of it the cheapest is taken. Done for a row of load factors.
 * 2. Moves. From the best seeds, and from what the fleet runs now: merge, split, move, swap, add, drop devices or whole
 *    pipelines, as long as the score (cost.h) gets better. Pipelines of equal shape are tried once.
 *
 * Equal lists of devices are shaped once, and shared between zones, which is what keeps 10,000 devices fast.
 * The result depends on the input alone, and the budget is a count of evaluations, never time.
 *
 * Owner: the caller calls gw_layout_fini on the layouts. Thread: any; pure. Units: cost.h.
 * Errors: GW_ERR_MEMORY; no layout fits = an empty one. Source: own design. */
#ifndef GW_CONTROLLER_PLAN_SEARCH_H
#define GW_CONTROLLER_PLAN_SEARCH_H

#include "controller/plan/cost.h"

/* Fleets of so many devices are searched whole: 203 partitions, 877 with idle devices. */
#define GW_SEARCH_SMALL     6
#define GW_SEARCH_LISTS_MAX 4096 /* different lists of devices that are looked at */

struct gw_search_result {
    struct gw_layout layout; /* best one; no pipelines = the model fits nowhere */
    struct gw_score score;
    struct gw_layout
        runner_up; /* best one of another form (pipelines, stages, ranks); empty if there is none */
    struct gw_score runner_up_score;
    struct gw_layout from_start; /* what moves made of `start`; empty without one */
    struct gw_score from_start_score;
    uint64_t evaluated; /* <= budget */
};

/* A budget that suits a fleet: lists of few devices are cheap to evaluate and worth it; large fleets need about eight
 * evaluations per device until moves no longer help. */
static inline uint64_t gw_search_budget(uint32_t devices)
{
    if (devices <= GW_SEARCH_SMALL) return 24000;
    return devices <= 16 ? 12000 : 1500 + 8 * (uint64_t)devices;
}

/* start: a layout over devices that are not doomed to begin the moves from, or NULL. */
gw_err_t gw_search(const struct gw_plan_input *in, double headroom, uint64_t budget,
                   const struct gw_layout *start, struct gw_search_result *out) GW_MUST_USE;
void gw_search_fini(struct gw_search_result *result);

#endif
