/* What the readers of `godwit plan`'s files share: fields by name, nothing unknown, errors that say where.
 *
 * Owner: caller memory. Thread: start-up. Units: as named. Errors: GW_ERR_INPUT. Source: own design. */
#ifndef GW_CONTROLLER_CLI_PLAN_JSON_IN_H
#define GW_CONTROLLER_CLI_PLAN_JSON_IN_H

#include "base/json.h"
#include "migrate/plan.h"

/* obj is an object, and each of its fields is one of `known` (NULL-terminated). */
gw_err_t plan_json_fields(const cJSON *obj, const char *what, const char *const *known,
                          struct gw_err_ctx *ctx) GW_MUST_USE;
/* A number that must be there. */
gw_err_t plan_json_need(const cJSON *obj, const char *field, double min, double max, double *out,
                        struct gw_err_ctx *ctx) GW_MUST_USE;
/* A name of printable ASCII that fits GW_PLAN_NAME_MAX; absent or null leaves out as it is. */
gw_err_t plan_json_name(const cJSON *obj, const char *field, char out[GW_PLAN_NAME_MAX],
                        struct gw_err_ctx *ctx) GW_MUST_USE;
/* {"gb_s": …, "latency_us": …}; absent leaves out as it is. */
gw_err_t plan_json_link(const cJSON *obj, const char *field, struct gw_plan_link *out,
                        struct gw_err_ctx *ctx) GW_MUST_USE;

#endif
