/* Forward pass: token ids and block tables in, residual rows and logits out; every number by the table of
 * operations.
 *
 *     x = embed(ids)
 *     per layer   x += tree over shares of o(attention(rope(qkv(rmsnorm(x)))))
 *                 x += tree over shares of down(silu(gate) · up), gate|up of rmsnorm(x)
 *     logits      head(rmsnorm(x)), only of the rows that are asked for
 *
 * Owner: gw_forward_destroy frees the activations; weights, pool and device are the caller's and must outlive
 * it. Thread: the device's. Units: rows of the batch. Errors: GW_ERR_MEMORY; on error *out is unchanged.
 * Source: Llama (Touvron et al. 2023); own design. */
#ifndef GW_WORKER_FORWARD_H
#define GW_WORKER_FORWARD_H

#include "worker/page_pool.h"
#include "worker/weights.h"

/* Rows whose logits are computed at once: enough to use the head's weights well, few enough that
 * rows × vocabulary stays small (32 × 128 k floats = 16 MiB). */
#define GW_FORWARD_LOGIT_ROWS 32

struct gw_forward;

struct gw_forward_config {
    const struct gw_model *model;
    const struct gw_weights *weights;
    const struct gw_page_pool *pool;
    const struct gw_ops *ops;
    struct gw_device *device;
    uint32_t max_rows;  /* of a batch */
    uint32_t positions; /* of the longest sequence */
};

gw_err_t gw_forward_create(const struct gw_forward_config *config, struct gw_forward **out,
                           struct gw_err_ctx *ctx) GW_MUST_USE;
void gw_forward_destroy(struct gw_forward *f);

/* Computes all layers for ids[rows] (rows <= max_rows), appending K and V to the blocks of seqs. */
void gw_forward_run(struct gw_forward *f, const uint32_t *ids, uint32_t rows, const struct gw_seq_rows *seqs,
                    uint32_t seqs_len);

/* Logits [count, vocab] of the given rows of the last run; count <= GW_FORWARD_LOGIT_ROWS. Valid until the
 * next call. */
const float *gw_forward_logits(struct gw_forward *f, const uint32_t *rows, uint32_t count);

/* Softmax statistics [count] of the first `count` rows of the last logits. */
void gw_forward_stats(struct gw_forward *f, uint32_t count, float *max, float *sum);

#endif
