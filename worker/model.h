/* Model: an opened model directory whose tensors have the names, shapes and types that its config promises.
 *
 * Owner: gw_model_close frees; tensors live in the mapped files until then. Thread: const after open.
 * Units: elements. Errors: GW_ERR_INPUT, GW_ERR_NOT_FOUND, GW_ERR_IO, GW_ERR_LIMIT, one line that names the
 * file or tensor; on error *out is unchanged. Source: own design; tensor names of Hugging Face. */
#ifndef GW_WORKER_MODEL_H
#define GW_WORKER_MODEL_H

#include "migrate/kv_format.h"
#include "migrate/weight_format.h"
#include "worker/cells.h"
#include "worker/safetensors.h"

/* Row-major [rows, columns] as in the file; norms and biases are [columns]. */
struct gw_model_ffn {
    const struct gw_tensor *gate, *up; /* [gw_model_ffn_cols, hidden] */
    const struct gw_tensor *down;      /* [hidden, gw_model_ffn_cols] */
};

struct gw_model_layer {
    const struct gw_tensor *norm_attn, *norm_ffn; /* [hidden] */
    const struct gw_tensor *q, *k,
        *v;                    /* [heads · head_dim, hidden], k and v: [kv_heads · head_dim, hidden] */
    const struct gw_tensor *o; /* [hidden, heads · head_dim] */
    const struct gw_tensor *q_bias, *k_bias, *v_bias; /* with config.qkv_bias */
    const struct gw_tensor *q_norm, *k_norm;          /* [head_dim]; with config.qk_norm */
    const struct gw_tensor *router;                   /* [experts, hidden]; of a sparse layer */
    struct gw_model_ffn *ffn;                         /* [gw_model_ffns] */
};

struct gw_model {
    struct gw_model_config config;
    struct gw_cells cells;
    struct gw_safetensors *files;
    const struct gw_tensor *embed, *head; /* [vocab, hidden]; the same tensor if tied */
    const struct gw_tensor *norm_final;   /* [hidden] */
    struct gw_model_layer *layers;        /* [config.layers] */
    struct gw_model_ffn *ffns;            /* [config.layers][experts, or 1], what layers point into */
    bool all_bf16;                        /* every matrix is bf16 */
};

/* FFNs of a layer: its experts, or the one for all. */
static inline uint32_t gw_model_ffns(const struct gw_model_config *c, uint32_t layer)
{
    return c->sparse[layer] ? c->experts : 1;
}

/* Columns of each FFN of a layer: in the file, and of a share, padding included. */
static inline uint32_t gw_model_ffn_cols(const struct gw_model_config *c, uint32_t layer)
{
    return c->sparse[layer] ? c->expert_intermediate : c->intermediate;
}
static inline uint32_t gw_model_share_cols(const struct gw_model *m, uint32_t layer)
{
    return m->config.sparse[layer] ? m->cells.expert_cols : m->cells.ffn_cols;
}

gw_err_t gw_model_open(const char *dir, struct gw_model **out, struct gw_err_ctx *ctx) GW_MUST_USE;
void gw_model_close(struct gw_model *model);

/* The numerics profile of the model's own weight type: cpu-bf16dot-2 if every matrix is bf16, else cpu-f32-2; of
 * weights that are quantized when they are loaded: cpu-bf16-int8-1, cpu-f32-int8-1, cpu-bf16-fp8-1, cpu-f32-fp8-1; with KV pages of int8: cpu-bf16-kv8-1,
 * cpu-bf16-int8-kv8-1 etc. */
const char *gw_model_profile(const struct gw_model *model, enum gw_weight_format weights,
                             enum gw_kv_format kv);

/* What matrices of a format are packed as, where activations are of type `act` (struct gw_ops). */
enum gw_dtype gw_model_weight_type(enum gw_dtype act, enum gw_weight_format format);

#endif
