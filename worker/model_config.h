/* Model config: config.json of a supported model, read, bounded and checked against itself.
 *
 *     architecture           of its own, beside what Llama has
 *     LlamaForCausalLM       -
 *     MistralForCausalLM     sliding window in every layer
 *     Qwen2ForCausalLM       biases of q, k, v; a sliding window in some layers, if use_sliding_window
 *     Qwen3ForCausalLM       RMSNorm of each head's q and k; head_dim of its own; window as Qwen2
 *     MixtralForCausalLM     experts, weighted among those taken
 *     Qwen3MoeForCausalLM    as Qwen3, and experts; weighted among those taken if norm_topk_prob, else among all; in some
 *                            layers one FFN instead (migrate/expert_layers.h)
 *     MellumForCausalLM      as Qwen3Moe; a window in some layers, and RoPE for each type of layer
 *
 * What the engine cannot compute exactly as the model's makers meant is refused in one clear line: other
 * architectures, other biases, quantized weights, RoPE forms that it does not know. Where a file is silent, the
 * architecture's own default counts.
 *
 * Owner: plain data. Thread: any. Units: elements, tokens. Errors: GW_ERR_INPUT, GW_ERR_NOT_FOUND,
 * GW_ERR_IO; on error *out is unchanged. Source: Hugging Face transformers, the architectures' configurations. */
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
#define GW_MODEL_EXPERTS_MAX      1024 /* GW_EXPERTS_MAX */
#define GW_MODEL_VOCAB_MAX        (1u << 20)
#define GW_MODEL_CONTEXT_MAX      (1u << 20)
#define GW_MODEL_CONFIG_BYTES_MAX (1u << 20)

enum gw_model_family {
    GW_MODEL_LLAMA,
    GW_MODEL_MISTRAL,
    GW_MODEL_QWEN2,
    GW_MODEL_QWEN3,
    GW_MODEL_MIXTRAL,
    GW_MODEL_QWEN3_MOE,
    GW_MODEL_MELLUM
};

/* Formulas: worker/rope.h. */
enum gw_rope_kind { GW_ROPE_PLAIN, GW_ROPE_LINEAR, GW_ROPE_LLAMA3, GW_ROPE_YARN, GW_ROPE_LONG };

struct gw_rope {
    enum gw_rope_kind kind;
    double theta, factor, original_context;
    double low_freq_factor, high_freq_factor;  /* llama3 */
    double beta_fast, beta_slow;               /* yarn */
    bool truncate;                             /* yarn */
    double magnitude;                          /* cos and sin are multiplied by it */
    float divisors[GW_MODEL_HEAD_DIM_MAX / 2]; /* longrope */
};

struct gw_model_config {
    enum gw_model_family family;
    uint32_t hidden, layers, heads, kv_heads, head_dim, vocab, context;
    uint32_t intermediate;        /* of an FFN that all rows take; 0 where no layer has one */
    uint32_t expert_intermediate; /* of each expert */
    double rms_eps;
    struct gw_rope rope;         /* of all layers; with two_ropes: of those that do not slide */
    struct gw_rope rope_sliding; /* with two_ropes: of those that do */
    bool two_ropes;
    bool tied;     /* the head's weights are the embedding's */
    bool qkv_bias; /* q, k and v have biases */
    bool qk_norm;  /* q and k of each head are normed before RoPE */
    uint32_t
        window; /* positions that a row of a sliding layer sees; 0: no layer slides, or none before the context's end */
    bool slides[GW_MODEL_LAYERS_MAX]; /* [layers] */
    bool sparse[GW_MODEL_LAYERS_MAX]; /* [layers] these have experts, the others one FFN for all rows */
    uint32_t experts, experts_taken;  /* of a layer that has them; 0: none has */
    bool weigh_taken;                 /* experts are weighted among those taken, else among all */
};

static inline const struct gw_rope *gw_model_rope(const struct gw_model_config *c, uint32_t layer)
{
    return c->two_ropes && c->slides[layer] ? &c->rope_sliding : &c->rope;
}

/* Positions that a row of this layer sees; 0: all. */
static inline uint32_t gw_model_window(const struct gw_model_config *c, uint32_t layer)
{
    return c->slides[layer] ? c->window : 0;
}

/* Is there a layer with experts, or one without? */
bool gw_model_has_layers(const struct gw_model_config *config, bool sparse);

/* Positions behind which no layer sees anything: KV that is older is dead. 0: some layer sees all. */
uint32_t gw_model_horizon(const struct gw_model_config *config);

/* Reads dir/config.json. */
gw_err_t gw_model_config_read(const char *dir, struct gw_model_config *out,
                              struct gw_err_ctx *ctx) GW_MUST_USE;

/* The same from text (tests, fuzzing). */
gw_err_t gw_model_config_parse(const char *text, size_t len, struct gw_model_config *out,
                               struct gw_err_ctx *ctx) GW_MUST_USE;

#endif
