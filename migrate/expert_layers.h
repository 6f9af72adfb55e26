/* Expert layers: which layers of a model have experts, by its config.json.
 *
 *     rule                  layer i has experts
 *     GW_EXPERTS_IN_ALL     always
 *     GW_EXPERTS_BY_STEP    if mlp_only_layers does not name it, and (i + 1) mod decoder_sparse_step = 0
 *     GW_EXPERTS_BY_TYPE    if mlp_layer_types[i] is "sparse"; "dense": not
 *
 * Where the fields are missing all layers have them. Workers load by it, the planner counts bytes by it.
 *
 * Owner: the caller's memory. Thread: any. Units: layers. Errors: GW_ERR_INPUT, one line that names the field.
 * Source: Hugging Face transformers, Qwen3MoeDecoderLayer, MellumDecoderLayer. */
#ifndef GW_MIGRATE_EXPERT_LAYERS_H
#define GW_MIGRATE_EXPERT_LAYERS_H

#include "base/json.h"

enum gw_expert_rule { GW_EXPERTS_IN_ALL, GW_EXPERTS_BY_STEP, GW_EXPERTS_BY_TYPE };

/* has[layers]; on error it may be half written. */
gw_err_t gw_expert_layers_read(const cJSON *config, enum gw_expert_rule rule, uint32_t layers, bool *has,
                               struct gw_err_ctx *ctx) GW_MUST_USE;

#endif
