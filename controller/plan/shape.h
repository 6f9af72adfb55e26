/* Shapes of one pipeline: stages, share widths and layer groups for a given list of devices.
 *
 * Lists come sorted by zone, kind, instance (classes.h), so that runs of them are alike and near each other. Tried are: for up
 * to GW_SHAPE_FULL devices every way to deal them to stages; beyond that runs of the list, cut into equal parts, by instances,
 * and by types. Within a stage shares go to the ranks in proportion to their speed (by bandwidth, by FLOP/s, by memory, and by
 * a mix of the first two; very few devices: in every way there is). Groups go to stages so that the slowest is as fast as can
 * be, or as many as fit to the fastest. A thorough search (the lists of a small fleet) tries every width with every order of
 * ranks and every dealing of groups, as long as these are few. Shapes of short lists are then polished by single steps.
 *
 * What is best depends on the load and on the pipelines beside it, so several are kept. Thorough: each that no other one is as
 * good as at every load factor and at the rates that may come. Else: the fastest at no load, at the part of the arrivals that
 * these devices may expect, at all of them, and the one with the largest capacity.
 *
 * Owner: plain data. Thread: any; pure. Units: ranks[].device is an index into the list given (a slot).
 * Errors: none; no shape fits = an empty set. Source: own design. */
#ifndef GW_CONTROLLER_PLAN_SHAPE_H
#define GW_CONTROLLER_PLAN_SHAPE_H

#include "controller/plan/cost.h"

/* Beyond eight instances of eight, collectives and hops between stages eat what more would give. */
#define GW_SHAPE_RANKS_MAX     64
#define GW_SHAPE_FULL          5 /* 541 ways to deal them to stages, 16 if they are alike */
#define GW_SHAPE_FULL_THOROUGH 6 /* 4683 and 32: while these are not too many for what may be spent */
/* So few devices of several types get every width tried, too: 21 ways for 8 shares. */
#define GW_SHAPE_WIDTHS        3
#define GW_SHAPE_WIDTHS_SHARES 8
#define GW_SHAPE_CROSSED       4 /* … and every pair of balances for shares and groups */
/* Longer lists are cut evenly; single steps of a share or a group tell little there. */
#define GW_SHAPE_POLISHED 16
/* Thorough; else there are four at most. Three of the lists of 300 random fleets of six devices have more. */
#define GW_SHAPES_KEPT 64

struct gw_shape {
    uint16_t ranks_len, stages;
    struct gw_layout_rank ranks[GW_SHAPE_RANKS_MAX];
    struct gw_pipe_cost cost;
};

struct gw_shape_set {
    uint32_t len;
    struct gw_shape shapes[GW_SHAPES_KEPT + 1]; /* the last one is room to insert */
};

struct gw_shape_task {
    const uint32_t *devices;
    uint32_t n;
    double fair_rps;   /* the part of the arrivals that these devices may expect to get */
    uint64_t thorough; /* > 0: search thoroughly, by so many evaluations at most */
};

/* Finds shapes for a pipeline over exactly these devices (each used, but for those beyond S in one stage), the fastest at no
 * load first. *budget is counted down by one per evaluated shape; at 0 the search ends with what it has. */
void gw_shape_search(const struct gw_plan_input *in, double headroom, const struct gw_shape_task *task,
                     uint64_t *budget, struct gw_shape_set *out);

#endif
