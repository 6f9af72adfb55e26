/* Migration plan: who fetches which cells from whom, in which order, and what that costs.
 *
 *     KV       of each pipeline served now goes to its successor: the new pipeline with which it shares most devices
 *     weights  what a rank lacks comes from a peer that has it (own instance, own zone, any; several peers take
 *              turns), else from the model's files
 *     order    per device: KV first (it is what requests wait for), then weights by layer group
 *     memory   a device never holds more than it has: cells that the layout does not want stay, and serve, until the
 *              fetches are done; only where both do not fit they are dropped before, which is a gap
 *
 * Time: every link (instance in, instance out, within an instance, files) carries its bytes at its rate, all at once.
 *
 * Owner: gw_move_fini frees. Thread: any; pure. Units: bytes, seconds, USD. Errors: GW_ERR_MEMORY.
 * Source: own design. */
#ifndef GW_CONTROLLER_PLAN_MOVE_H
#define GW_CONTROLLER_PLAN_MOVE_H

#include "migrate/plan.h"

#define GW_MOVE_SOURCES_LOOKED_AT 16 /* holders of a cell among which one in the own zone is looked for */

gw_err_t gw_move_plan(const struct gw_plan_fleet *fleet, const struct gw_plan_model *model,
                      const struct gw_layout *layout, struct gw_move *out) GW_MUST_USE;
void gw_move_fini(struct gw_move *move);

#endif
