/* Weights: a rectangle of cells as the operations want it, over the parts of a cell store.
 *
 * Column-parallel products (qkv, gate|up, head) are independent for each output column: a list of matrices and the
 * column at which each one's result goes. Row-parallel ones (o, down) are one matrix per share, because each share is
 * summed on its own before the tree (DESIGN part 4).
 *
 *     qkv      Q of each share | K of each KV head | V of each KV head
 *     gate_up  of an FFN or expert: per share its gate columns | its up columns, each padded with zeros to
 *              gw_model_share_cols
 *     head     rows of each share's part of the vocabulary; only with the last layer group
 *
 * Owner: gw_weights_destroy releases the cells and frees. Thread: const after create, which runs where the store may
 * be acquired. Units: bytes, elements. Errors: as gw_cell_store_acquire; on error *out is unchanged. Source: own design. */
#ifndef GW_WORKER_WEIGHTS_H
#define GW_WORKER_WEIGHTS_H

#include "kernels/device_memory.h"
#include "worker/cell_store.h"

struct gw_products {
    struct gw_weight *w; /* [count] of equal k */
    uint32_t *at;        /* [count] first column of each */
    uint32_t count, columns;
};

struct gw_ffn_weights {
    struct gw_products gate_up;
    struct gw_weight *down; /* [shares] of [hidden, gw_model_share_cols] */
};

struct gw_layer_weights {
    const float *norm_attn, *norm_ffn; /* [hidden] */
    struct gw_products qkv;
    struct gw_qkv_prep prep;        /* its bias: [qkv.columns] */
    struct gw_weight *o;            /* [shares] of [hidden, share_heads · head_dim] */
    const struct gw_weight *router; /* [experts, hidden]; NULL in a layer without experts */
    struct gw_ffn_weights *ffn;     /* [gw_model_ffns] */
};

struct gw_weights {
    struct gw_cell_store *store;
    struct gw_cell_rect rect;
    const struct gw_model *model;
    uint32_t shares, heads, kv_heads; /* of the rectangle */
    uint32_t layers_len;
    struct gw_layer_weights *layers; /* [layers_len], from the first group's first layer on */
    struct gw_products head;         /* count 0 without the last layer group */
    const float *norm_final;         /* [hidden]; NULL without the last layer group */
    uint32_t head_first;             /* vocabulary row of the head's column 0 */
    uint64_t loaded_bytes;           /* by create */
    void *tables;                    /* holds the arrays above */
    struct gw_memory biases;         /* [layers_len][qkv.columns], of models that have them */
};

gw_err_t gw_weights_create(struct gw_cell_store *store, const struct gw_model *model,
                           struct gw_cell_rect rect, const atomic_bool *stop, struct gw_weights **out,
                           struct gw_err_ctx *ctx) GW_MUST_USE;
void gw_weights_destroy(struct gw_weights *weights);

#endif
