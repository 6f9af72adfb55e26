/* Weights: a model's matrices, packed for one table of operations.
 *
 * Column-parallel products (qkv, gate|up, head) are independent for each output column, so the shares that a
 * rank holds are packed as one matrix; row-parallel ones (o, down) are packed per share, because each share
 * is summed on its own before the tree (DESIGN part 4). For now a rank holds all shares and layers.
 *
 *     qkv      rows: all query heads | all K heads | all V heads
 *     gate_up  rows: per share its gate columns | its up columns, each padded with zeros to share_cols
 *
 * Owner: gw_weights_destroy frees; the embedding stays in the model's files, which must outlive the weights.
 * Thread: const after create. Units: bytes, elements. Errors: GW_ERR_MEMORY, GW_ERR_INPUT (f32 or f16
 * matrices under a bf16 profile: never rounded silently); on error *out is unchanged. Source: own design. */
#ifndef GW_WORKER_WEIGHTS_H
#define GW_WORKER_WEIGHTS_H

#include "worker/model.h"

struct gw_layer_weights {
    float *norm_attn, *norm_ffn; /* [hidden] */
    struct gw_weight qkv;        /* [(heads + 2 kv_heads) · head_dim, hidden] */
    struct gw_weight *o;         /* [shares] of [hidden, share_heads · head_dim] */
    struct gw_weight gate_up;    /* [2 · shares · share_cols, hidden] */
    struct gw_weight *down;      /* [shares] of [hidden, share_cols] */
};

struct gw_weights {
    const void *embed; /* [vocab, hidden] of embed_type */
    enum gw_dtype embed_type;
    float *norm_final;     /* [hidden] */
    struct gw_weight head; /* [vocab, hidden] */
    struct gw_layer_weights *layers;
    uint32_t layers_len;
    void *memory; /* one mapping holds all packed matrices and norms */
    size_t memory_bytes;
};

gw_err_t gw_weights_create(const struct gw_model *model, const struct gw_ops *ops, struct gw_weights **out,
                           struct gw_err_ctx *ctx) GW_MUST_USE;
void gw_weights_destroy(struct gw_weights *weights);

#endif
