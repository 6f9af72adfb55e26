/* The files of `godwit plan`: fleet, load, and what serves now (the model directory: controller/layout_model.h).
 *
 * Fleet (JSON; plan_cmd.c's --help shows one). Instances: "id", "type", "devices" (the type's), "zone" ("default"), "count" (1;
 * more makes id-0, id-1 …), "price_usd_h" (devices · the type's), "doomed_at_s" (0), "on_demand" (false), "intra" and
 * "inter" links (the type's). Types: "memory_gb", "bandwidth_gb_s", "tflop_s" are needed, "devices" are those of
 * one instance (1), "price_usd_h" is for one device. 1 GB = 10^9 bytes.
 * Fields that are not known are refused: a misspelt one would be a silent default.
 *
 * Owner: gw_plan_files_fini frees all. Thread: start-up. Units: as named in the files.
 * Errors: GW_ERR_INPUT, GW_ERR_NOT_FOUND, GW_ERR_LIMIT with one line that names file and place; what was read before is
 * freed by gw_plan_files_fini. Source: own design. */
#ifndef GW_CONTROLLER_CLI_PLAN_FILES_H
#define GW_CONTROLLER_CLI_PLAN_FILES_H

#include "base/json.h"
#include "controller/layout_model.h"
#include "controller/plan/planner.h"

#define GW_PLAN_FILE_BYTES_MAX (32u << 20) /* 10,000 instances take 3 MB */

struct gw_plan_files {
    struct gw_plan_fleet fleet;
    struct gw_plan_model model;
    struct gw_plan_load load;
    struct gw_planner_options options; /* horizon from the load, preemptions from the fleet */
};

gw_err_t gw_plan_fleet_read(const char *path, struct gw_plan_files *files,
                            struct gw_err_ctx *ctx) GW_MUST_USE;
gw_err_t gw_plan_load_read(const char *path, struct gw_plan_files *files, struct gw_err_ctx *ctx) GW_MUST_USE;
/* Sets what devices hold; fleet and model have been read. */
gw_err_t gw_plan_current_read(const char *path, struct gw_plan_files *files,
                              struct gw_err_ctx *ctx) GW_MUST_USE;

/* The same from trees (fuzzing). */
gw_err_t gw_plan_fleet_from_json(const cJSON *json, struct gw_plan_files *files,
                                 struct gw_err_ctx *ctx) GW_MUST_USE;
gw_err_t gw_plan_load_from_json(const cJSON *json, struct gw_plan_files *files,
                                struct gw_err_ctx *ctx) GW_MUST_USE;
gw_err_t gw_plan_current_from_json(const cJSON *json, struct gw_plan_files *files,
                                   struct gw_err_ctx *ctx) GW_MUST_USE;

void gw_plan_files_fini(struct gw_plan_files *files);

#endif
