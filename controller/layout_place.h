/* Placing: which devices take the ranks of a layout that was asked for by name.
 *
 * 1. Pipelines that serve already and have the wanted cells stay, untouched.
 * 2. The others: as many whole pipelines of a shape as devices of one numerics profile and zone can hold at once (found by
 *    bisection, since more of them never fit better), so that most bytes of cells stay where they are
 *    (controller/plan/assign.h). Pools in which more of the shape's cells lie already come first.
 * 3. Pipelines of several stages that no zone can hold: stage by stage, each in the zone that suits it best.
 *
 * A rank fits a device whose memory holds its weights and the KV of one P99 request, as the planner has it. What cannot be
 * placed is left out: whole pipelines only.
 *
 * Owner: the caller calls gw_layout_fini on *out. Thread: any; pure. Units: as in migrate/plan.h.
 * Errors: GW_ERR_MEMORY; *out is then unchanged. Source: own design; DESIGN part 7. */
#ifndef GW_CONTROLLER_LAYOUT_PLACE_H
#define GW_CONTROLLER_LAYOUT_PLACE_H

#include "controller/layout_spec.h"
#include "controller/plan/cost.h"

/* Places the first kinds_len shapes, each as often as it says. */
gw_err_t gw_layout_place(const struct gw_plan_input *in, const struct gw_layout_kind *kinds,
                         uint32_t kinds_len, struct gw_layout *out) GW_MUST_USE;

/* Bytes that a device needs to be a rank with these cells. */
uint64_t gw_layout_rank_bytes(const struct gw_plan_input *in, struct gw_cell_rect cells);

#endif
