/* Mixture of experts: the FFN of a layer whose rows choose among many.
 *
 *     routing   logits = router(x); every rank has the router whole and x whole, so all choose alike
 *     expert e  of the rows that chose it, in their order, all shares that this rank has:
 *               partials[share][row] += weight · down_e,share(silu(gate_e) · up_e)
 *
 * Experts go one after the other in ascending id, so that a row's sum within a share is in that order whatever rows are
 * beside it and however shares are cut over ranks; the tree over shares comes after (DESIGN part 4). Working memory is that
 * of one expert that all rows choose.
 *
 * Owner: gw_moe_destroy frees; what is configured is the caller's and outlives it. Thread: the device's. Units: rows.
 * Errors: GW_ERR_MEMORY at creation. Source: Mixtral (Jiang et al. 2024); Qwen3 (2025); own design. */
#ifndef GW_WORKER_MOE_H
#define GW_WORKER_MOE_H

#include "worker/weights.h"

struct gw_moe;

struct gw_moe_config {
    const struct gw_weights *weights;
    const struct gw_ops *ops;
    struct gw_device *device;
    uint32_t max_rows;
};

gw_err_t gw_moe_create(const struct gw_moe_config *config, struct gw_moe **out,
                       struct gw_err_ctx *ctx) GW_MUST_USE;
void gw_moe_destroy(struct gw_moe *m);

/* partials[shares][rows, hidden] = what the experts of layer l that x[rows, hidden] act choose make of it. */
void gw_moe_run(struct gw_moe *m, const struct gw_layer_weights *l, const void *x, uint32_t rows,
                float *partials);

#endif
