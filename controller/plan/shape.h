/* Shapes of one pipeline: stages, share widths and layer groups for a given list of devices.
 *
 * Lists come sorted by zone, kind, instance (classes.h), so that runs of them are alike and near each other. Tried are: for up
 * to GW_SHAPE_FULL devices every way to deal them to stages; beyond that runs of the list, cut into equal parts, by instances,
 * and by types. Within a stage shares go to the ranks in proportion to their speed (by bandwidth, by FLOP/s, by memory, and by
 * a mix of the first two; very few devices: in every way there is). Groups go to stages so that the slowest is as fast as can
 * be, or as many as fit to the fastest. Shapes of short lists are then polished by single steps. What is best depends on the
 * load, so a few are kept: the fastest at no load, at the part of the arrivals that these devices may expect, at all of them,
 * and the one with the largest capacity.
 *
 * Owner: plain data. Thread: any; pure. Units: ranks[].device is an index into the list given (a slot).
 * Errors: none; no shape fits = an empty set. Source: own design. */
#ifndef GW_CONTROLLER_PLAN_SHAPE_H
#define GW_CONTROLLER_PLAN_SHAPE_H

#include "controller/plan/cost.h"

/* Beyond eight instances of eight, collectives and hops between stages eat what more would give. */
#define GW_SHAPE_RANKS_MAX 64
#define GW_SHAPE_FULL      5 /* 541 ways to deal them to stages, 16 if they are alike */
/* So few devices of several types get every width tried, too: 21 ways for 8 shares. */
#define GW_SHAPE_WIDTHS        3
#define GW_SHAPE_WIDTHS_SHARES 8
#define GW_SHAPE_CROSSED       4 /* … and every pair of balances for shares and groups */
/* Longer lists are cut evenly; single steps of a share or a group tell little there. */
#define GW_SHAPE_POLISHED 16
#define GW_SHAPES_KEPT    4

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
 * counted down by one per evaluated shape; at 0 the search ends with what it has.
 * fair_rps: the part of the arrivals that these devices may expect to get. */
void gw_shape_search(const struct gw_plan_input *in, double headroom, const uint32_t *devices, uint32_t n,
                     double fair_rps, uint64_t *budget, struct gw_shape_set *out);

#endif
