/* RoPE config: the fields of config.json that say how positions turn into angles.
 *
 * Read are rope_theta with rope_scaling, and the newer rope_parameters, either of which may hold an object for each type of
 * layer, full_attention and sliding_attention; those of types that the model does not have are not looked at. Two forms depend on how long a sequence has become, so that rows
 * of an earlier step would have to be computed again; here they are fixed by the model's context:
 *
 *     dynamic    begins to scale behind max_position_embeddings; no sequence gets there: plain
 *     longrope   the long factors if the context is beyond original_max_position_embeddings, else the short ones
 *
 * Owner: plain data. Thread: any. Units: tokens. Errors: GW_ERR_INPUT, one line. Source: Hugging Face transformers,
 * modeling_rope_utils. */
#ifndef GW_WORKER_ROPE_CONFIG_H
#define GW_WORKER_ROPE_CONFIG_H

#include "base/json.h"
#include "worker/model_config.h"

/* Sets m->rope, m->rope_sliding (whose theta have their defaults already) and m->two_ropes of a config whose shape and layers are read. */
gw_err_t gw_rope_config_read(const cJSON *config, struct gw_model_config *m,
                             struct gw_err_ctx *ctx) GW_MUST_USE;

#endif
