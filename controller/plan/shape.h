/* Shapes of one pipeline: stages, share widths and layer groups for a given list of devices.
 *
 * The list's order is kept: a stage is a run of it. Lists come sorted by zone, kind, instance (classes.h), so that
 * runs are alike and near each other. Tried are: for up to GW_SHAPE_FULL devices every cut into stages; beyond that
 * cuts into equal parts, by instances, and by types. Within a stage shares go to the ranks in proportion to their
 * speed (by bandwidth, by FLOP/s, by memory, and by a mix of the first two); groups go to stages so that the
 * slowest is as fast as can be and none has more than it can hold. What is best depends on the load, so a few are
 * kept: the fastest at low, middle and high load, and the one with the largest capacity.
 *
 * Owner: plain data. Thread: any; pure. Units: ranks[].device is an index into the list given (a slot).
 * Errors: none; no shape fits = an empty set. Source: own design. */
#ifndef GW_CONTROLLER_PLAN_SHAPE_H
#define GW_CONTROLLER_PLAN_SHAPE_H

#include "controller/plan/cost.h"

#define GW_SHAPE_RANKS_MAX                                                                                   \
    64 /* beyond eight instances of eight, collectives and stage hops eat what more would give */
#define GW_SHAPE_FULL 5 /* 541 ways to deal them to stages, 16 if they are alike */
#define GW_SHAPE_POLISHED                                                                                    \
    16 /* longer lists are cut evenly; single steps of a share or a group tell little there */
#define GW_SHAPES_KEPT 4

struct gw_shape {
    uint16_t ranks_len, stages;
    struct gw_layout_rank ranks[GW_SHAPE_RANKS_MAX];
    struct gw_pipe_cost cost;
};

struct gw_shape_set {
    uint32_t len;
    struct gw_shape shapes[GW_SHAPES_KEPT];
};

/* Finds shapes for a pipeline over exactly these n devices (each used, but for those beyond S in one stage). *budget is
 * counted down by one per evaluated shape; at 0 the search ends with what it has. */
void gw_shape_search(const struct gw_plan_input *in, double headroom, const uint32_t *devices, uint32_t n,
                     uint64_t *budget, struct gw_shape_set *out);

#endif
