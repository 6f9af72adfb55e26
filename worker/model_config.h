/* Model config: config.json of a Llama-family model, read, bounded and checked against itself.
 *
 * What the engine cannot compute exactly as the model's makers meant is refused in one clear line: other
 * architectures, biases, quantized weights, RoPE forms other than plain and llama3. Both forms of the RoPE
 * fields are read: rope_theta + rope_scaling, and the newer rope_parameters.
 *
 * Owner: plain data. Thread: any. Units: elements, tokens. Errors: GW_ERR_INPUT, GW_ERR_NOT_FOUND,
 * GW_ERR_IO; on error *out is unchanged. Source: Hugging Face transformers, LlamaConfig. */
#ifndef GW_WORKER_MODEL_CONFIG_H
#define GW_WORKER_MODEL_CONFIG_H

#include <stdint.h>

#include "base/err.h"

/* Bounds: twice to eight times what the largest published models of the family have. */
#define GW_MODEL_HIDDEN_MAX 65536
#define GW_MODEL_LAYERS_MAX 1024
#define GW_MODEL_HEADS_MAX  1024
#define GW_MODEL_HEAD_DIM_MAX                                                                                \
    256 /* what attention kernels have room for; a multiple of GW_MODEL_HEAD_DIM_UNIT */
#define GW_MODEL_HEAD_DIM_UNIT    8
#define GW_MODEL_KV_HEADS_MAX     128 /* shares of a tree, GW_SHARES_MAX */
#define GW_MODEL_INTERMEDIATE_MAX (1u << 20)
#define GW_MODEL_VOCAB_MAX        (1u << 20)
#define GW_MODEL_CONTEXT_MAX      (1u << 20)
#define GW_MODEL_CONFIG_BYTES_MAX (1u << 20)

struct gw_rope_scaling {
    bool llama3; /* false: plain */
    double factor, low_freq_factor, high_freq_factor, original_context;
};

struct gw_model_config {
    uint32_t hidden, layers, heads, kv_heads, head_dim, intermediate, vocab, context;
    double rms_eps, rope_theta;
    struct gw_rope_scaling rope;
    bool tied; /* the head's weights are the embedding's */
};

/* Reads dir/config.json. */
gw_err_t gw_model_config_read(const char *dir, struct gw_model_config *out,
                              struct gw_err_ctx *ctx) GW_MUST_USE;

/* The same from text (tests, fuzzing). */
gw_err_t gw_model_config_parse(const char *text, size_t len, struct gw_model_config *out,
                               struct gw_err_ctx *ctx) GW_MUST_USE;

#endif
