/* A model as the planner sees it: the grid of cells and their bytes, from a model directory's config.json.
 *
 * The rules of the grid are migrate/grid.h's, which the workers cut by too. Weights are not looked at: their type is what
 * the file says, or the format that they are served in.
 *
 * Owner: plain data. Thread: start-up. Units: bytes. Errors: GW_ERR_INPUT, GW_ERR_NOT_FOUND; the text names the file; *out
 * is then undefined. Source: Hugging Face config.json; DESIGN part 2. */
#ifndef GW_CONTROLLER_LAYOUT_MODEL_H
#define GW_CONTROLLER_LAYOUT_MODEL_H

#include "base/json.h"
#include "migrate/plan.h"
#include "migrate/kv_format.h"
#include "migrate/weight_format.h"

gw_err_t gw_plan_model_read(const char *dir, enum gw_weight_format weights, enum gw_kv_format kv,
                            struct gw_plan_model *out, struct gw_err_ctx *ctx) GW_MUST_USE;

/* The same from config.json's tree (fuzzing). */
gw_err_t gw_plan_model_from_json(const cJSON *config, enum gw_weight_format weights, enum gw_kv_format kv,
                                 struct gw_plan_model *out, struct gw_err_ctx *ctx) GW_MUST_USE;

#endif
