/* Capacity wish: how many instances there should be, from what the load needs and what is about to go.
 *
 *     wish = steady(max(need, 1, queue) + spare) + leaving
 *
 *     need      instances that the load needs (capacity_need.h); unknown: what serves
 *     queue     one more than serve, when requests have waited for GW_CAPACITY_QUEUE_US without a break
 *     leaving   instances under notice, or advised to leave, until as many as are needed serve without them: their
 *               replacements come before they go, and when these are there, the leaving ones are those who may go
 *     steady    up at once; down when the value has been lower for shrink_us, to the highest of that time
 *
 * Owner: caller memory. Thread: one. Units: instances; microseconds on a clock that does not go back. Errors: none.
 * Source: own design; DESIGN part 7. */
#ifndef GW_CONTROLLER_CAPACITY_WISH_H
#define GW_CONTROLLER_CAPACITY_WISH_H

#include <stdbool.h>
#include <stdint.h>

#define GW_CAPACITY_QUEUE_US                                                                                 \
    ((int64_t)15000000) /* a burst that is over by then needs no instance: one boots in minutes */

struct gw_capacity_demand {
    uint32_t need;    /* 0: not known yet */
    uint32_t serving; /* instances with a worker, neither under notice nor advised to leave */
    uint32_t leaving; /* instances with a worker that are */
    uint32_t queued;  /* requests that wait */
};

struct gw_capacity_wish {
    uint32_t spare;
    int64_t shrink_us;
    uint32_t steady, lower_max;              /* lower_max: the highest since lower_since_us */
    int64_t lower_since_us, queued_since_us; /* -1: it is not */
};

void gw_capacity_wish_init(struct gw_capacity_wish *w, uint32_t spare, int64_t shrink_us);

uint32_t gw_capacity_wish_step(struct gw_capacity_wish *w, int64_t now_us,
                               const struct gw_capacity_demand *d);

#endif
