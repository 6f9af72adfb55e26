/* Sampling parameters of a request body.
 *
 * Owner: the sampling's arrays are the caller's (free), on error too. Thread: any. Units: tokens.
 * Errors: *error names the field. Source: OpenAI API reference; vLLM's SamplingParams for ranges. */
#ifndef GW_CONTROLLER_OPENAI_SAMPLING_H
#define GW_CONTROLLER_OPENAI_SAMPLING_H

#include <cjson/cJSON.h>

#include "controller/front/openai_request.h"

/* Fills all of *s but seed and max_tokens, over *s = {0}. */
gw_err_t gw_openai_sampling_read(const struct gw_openai_model *model, enum gw_openai_endpoint endpoint,
                                 const cJSON *body, struct gw_sampling *s,
                                 struct gw_openai_error *error) GW_MUST_USE;

/* "seed": *given tells whether there is one. Beyond 2^53 JSON numbers lose their last digits, and so does a
 * seed. */
gw_err_t gw_openai_seed_read(const cJSON *body, bool *given, uint64_t *seed,
                             struct gw_openai_error *error) GW_MUST_USE;

#endif
