/* Fields of a request body: base/json.h's typed getters, with errors that name the field as `param`.
 *
 * Absent and null leave *out as it is. Owner: borrows the tree. Thread: any. Units: none.
 * Errors: GW_ERR_INPUT with *error filled (400). Source: own design. */
#ifndef GW_CONTROLLER_OPENAI_FIELDS_H
#define GW_CONTROLLER_OPENAI_FIELDS_H

#include "base/json.h"
#include "controller/front/openai_error.h"

gw_err_t gw_field_u32(const cJSON *obj, const char *field, uint32_t min, uint32_t max, uint32_t *out,
                      struct gw_openai_error *error) GW_MUST_USE;
gw_err_t gw_field_float(const cJSON *obj, const char *field, double min, double max, float *out,
                        struct gw_openai_error *error) GW_MUST_USE;
gw_err_t gw_field_bool(const cJSON *obj, const char *field, bool *out,
                       struct gw_openai_error *error) GW_MUST_USE;
gw_err_t gw_field_string(const cJSON *obj, const char *field, const char **out,
                         struct gw_openai_error *error) GW_MUST_USE;

/* The field, or NULL if it is absent or null. */
const cJSON *gw_field(const cJSON *obj, const char *field);

/* A number that is a token id below vocab. */
bool gw_field_is_token_id(const cJSON *item, uint32_t vocab);

#endif
