/* Forward pass: what one rank computes of a step; every number by the table of operations.
 *
 *     x = embed(ids), or what the stage before sends
 *     per layer   x += tree over shares of o(attention(rope(qkv(rmsnorm(x))))); biases and norms of q and k before RoPE
 *                 x += tree over shares of down(silu(gate) · up), gate|up of rmsnorm(x); or of experts (worker/moe.h)
 *     x to the next stage; in the last one: logits = head(rmsnorm(x)), only of the rows that are asked for
 *
 * Every rank of a stage has the whole residual stream x; the trees are finished by kernels/coll.h, or by one operation
 * where a rank has all shares: the same bits (DESIGN part 4).
 *
 * How x gets from stage to stage: by the host (kernels/coll.h), or between GPUs of one machine by NCCL (`passes`), which a rank
 * waits for before it goes on, behind and ahead. Every wait ends by the deadline of its collectives; a rank that fails
 * leaves its pipeline, whose other ranks see that as it is told here:
 *
 *     lost                when                                      what is seen                            GW_ERR_…
 *     ─────────────────   ───────────────────────────────────────   ─────────────────────────────────────   ─────────
 *     the rank before     its x has not come                        receives: NCCL says so, or deadline     IO
 *     …                   x is here                                 nothing in this step; next descriptor   IO
 *                                                                   or x
 *     the rank behind     it has not taken x                        sends: NCCL says so, or deadline        IO
 *     …                   it has                                    its step's answers do not come: the     IO
 *                                                                   leader's socket closes
 *     any other           at any time                               a neighbour fails by one of these, and  IO
 *                                                                   so on; the controller's RELEASE is sooner
 *     the leader          before its descriptor                     its socket closes: no step begins       IO
 *     nobody: a rank is at another step                             the tag behind x differs: never used    PROTO
 *
 * Owner: gw_forward_destroy frees the activations; everything in the configuration is the caller's and must outlive
 * it. Thread: the device's. Units: rows of the batch. Errors: GW_ERR_MEMORY at creation (*out is unchanged); those of
 * kernels/coll.h when ranks exchange: the pipeline is dead then. Source: Llama (Touvron et al. 2023); own design. */
#ifndef GW_WORKER_FORWARD_H
#define GW_WORKER_FORWARD_H

#include "kernels/coll.h"
#include "kernels/cuda/coll_device.h"
#include "kernels/device_graph.h"
#include "worker/answers.h"
#include "worker/page_pool.h"
#include "worker/place.h"
#include "worker/step_desc.h"
#include "worker/weights.h"

struct gw_forward;

struct gw_forward_config {
    const struct gw_model *model;
    const struct gw_weights *weights;
    const struct gw_page_pool *pool;
    const struct gw_place *place;
    const struct gw_ops *ops;
    struct gw_device *device;
    struct gw_coll *coll; /* NULL: one rank */
    struct gw_coll_device
        *sums; /* adds over ranks where a device has memory of its own; NULL: coll does, on the host */
    struct gw_coll_device *passes; /* carries activations between stages; NULL: coll does, from the host */
    uint32_t max_rows;             /* of a batch */
    uint32_t positions;            /* of the longest sequence */
};

gw_err_t gw_forward_create(const struct gw_forward_config *config, struct gw_forward **out,
                           struct gw_err_ctx *ctx) GW_MUST_USE;
void gw_forward_destroy(struct gw_forward *f);

/* Computes this rank's layers for ids[rows] (rows <= max_rows), appending K and V to the blocks of seqs. The step has
 * been begun (gw_coll_begin). */
gw_err_t gw_forward_run(struct gw_forward *f, const uint32_t *ids, uint32_t rows,
                        const struct gw_seq_rows *seqs, uint32_t seqs_len,
                        struct gw_err_ctx *ctx) GW_MUST_USE;

/* What the steps so far were: all zeros where the device has no graphs. */
struct gw_graph_counts gw_forward_graphs(const struct gw_forward *f);

/* The given rows of the last run through the head; count <= GW_ANSWERS_ROWS. The leader collects the answers of all ranks:
 * out[count], valid until the next call. The other ranks of the last stage send theirs and leave out alone; those of other
 * stages must not call it. A leader outside the last stage only collects. */
gw_err_t gw_forward_answers(struct gw_forward *f, const struct gw_step_sample *samples, uint32_t count,
                            struct gw_answer *out, struct gw_err_ctx *ctx) GW_MUST_USE;

/* The leader: the whole row of answer i of the last call, *row [vocab], if this rank alone has it; else NULL. */
gw_err_t gw_forward_row(struct gw_forward *f, uint32_t i, const float **row,
                        struct gw_err_ctx *ctx) GW_MUST_USE;

#endif
