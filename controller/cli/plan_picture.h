/* The picture of a layout: one box per pipeline, groups downwards, shares across, a device in each rank's place.
 *
 *     groups   shares 0        3        6     8
 *          0  +--------+--------+-----+
 *             | i-0/0  | i-0/1  |i-0/2|
 *         10  +--------+--------+-----+
 *
 * Pipelines of one form (same types, cells, memory) are drawn once; the devices of the others follow in lines.
 *
 * Owner: borrows. Thread: any. Units: none. Errors: sticky in b. Source: own design. */
#ifndef GW_CONTROLLER_CLI_PLAN_PICTURE_H
#define GW_CONTROLLER_CLI_PLAN_PICTURE_H

#include "base/buf.h"
#include "migrate/plan.h"

#define PLAN_PICTURES_MAX 12 /* forms that are drawn */
#define PLAN_LINES_MAX    8  /* further pipelines of a form that are listed */

void plan_picture(const struct gw_plan_fleet *fleet, const struct gw_plan_model *model,
                  const struct gw_layout *layout, struct gw_buf *b);

#endif
