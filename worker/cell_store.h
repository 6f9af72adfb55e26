/* Cell store: the packed weights that this worker has, by cell.
 *
 * A part is what is loaded and dropped at once, in a mapping of its own:
 *
 *     part              matrices, per layer of the group                                   one for each
 *     share (g, s)      Q, O, and of each FFN (there is one, or as many as experts)         cell
 *                       GATE_UP (gate rows | up rows), DOWN of the share; bias of Q
 *     KV    (g, h)      K, V of KV head h; their biases                                     layer group, KV head
 *     norms (g)         routers of layers with experts; attention norm, FFN norm, norms of q and k   layer group
 *     head  (s)         rows of the output table                                            share (with the last group)
 *     final             the final norm                                                      model (with the last group)
 *
 * Matrices are packed and come first, one after the other; norms and biases are f32 behind them, layer after layer. What
 * a model does not have is left out. How a part lies in memory, and its number, are the same at all workers of one model and
 * profile that have one packing (GW_CELL_PACKING): so it can come from another worker instead of the files (cell_load.h,
 * cell_source.h).
 *
 * The embedding is not among them: its rows are read from the mapped files. A rectangle's parts are counted by
 * acquire and release; a part that nobody counts stays until trim, because the next pipeline may want it.
 *
 * Owner: gw_cell_store_destroy frees, when all is released; the model must outlive it. Thread: acquire on one thread at
 * a time, everything else on any. Units: bytes. Errors: GW_ERR_MEMORY, GW_ERR_INPUT (f32 or f16 matrices under a bf16
 * profile: never rounded silently), GW_ERR_IO when stopped; nothing is held then. Source: own design; DESIGN part 2. */
#ifndef GW_WORKER_CELL_STORE_H
#define GW_WORKER_CELL_STORE_H

#include <stdatomic.h>

#include "kernels/op.h"
#include "worker/model.h"

struct gw_cell_store;

/* Whoever changes what is in a part, its order, or how parts are numbered, raises it: workers of two packings do not give
 * parts to each other. */
#define GW_CELL_PACKING 1

/* GATE_UP and DOWN: of the first FFN, GW_SHARE_FFN_MATRICES before those of the next. */
enum gw_share_matrix { GW_SHARE_Q, GW_SHARE_O, GW_SHARE_GATE_UP, GW_SHARE_DOWN };
#define GW_SHARE_FFN_MATRICES 2
enum gw_kv_matrix { GW_KV_HEAD_K, GW_KV_HEAD_V, GW_KV_HEAD_MATRICES };

gw_err_t gw_cell_store_create(const struct gw_model *model, const struct gw_ops *ops,
                              struct gw_cell_store **out, struct gw_err_ctx *ctx) GW_MUST_USE;
/* The same in the device's memory; the host keeps what it packed or received, for other workers. */
gw_err_t gw_cell_store_create_on(struct gw_device *device, const struct gw_model *model,
                                 const struct gw_ops *ops, struct gw_cell_store **out,
                                 struct gw_err_ctx *ctx) GW_MUST_USE;
void gw_cell_store_destroy(struct gw_cell_store *store);
struct gw_device *gw_cell_store_device(const struct gw_cell_store *store);

/* Bytes of all parts of r, and of those of them that are not here. */
uint64_t gw_cell_store_bytes_of(const struct gw_cell_store *store, struct gw_cell_rect r);
uint64_t gw_cell_store_missing(struct gw_cell_store *store, struct gw_cell_rect r);
/* Bytes of what is here. */
uint64_t gw_cell_store_bytes(struct gw_cell_store *store);

/* Loads the missing parts of r and counts all of them once more. *loaded: bytes that were loaded. Ends early when
 * *stop becomes true (NULL: never). */
gw_err_t gw_cell_store_acquire(struct gw_cell_store *store, struct gw_cell_rect r, const atomic_bool *stop,
                               uint64_t *loaded, struct gw_err_ctx *ctx) GW_MUST_USE;
void gw_cell_store_release(struct gw_cell_store *store, struct gw_cell_rect r);

/* Drops parts that nobody counts and that keep does not have. */
void gw_cell_store_trim(struct gw_cell_store *store, struct gw_cell_rect keep);

/* Matrices of a share of a layer. */
static inline uint32_t gw_share_matrices(const struct gw_model_config *c, uint32_t layer)
{
    return GW_SHARE_GATE_UP + GW_SHARE_FFN_MATRICES * gw_model_ffns(c, layer);
}

/* What layers [first, layer) of a group have before those of `layer`: matrices of a share, routers. */
static inline uint32_t gw_share_matrices_before(const struct gw_model_config *c, uint32_t first,
                                                uint32_t layer)
{
    uint32_t n = 0;
    for (; first < layer; first++) n += gw_share_matrices(c, first);
    return n;
}
static inline uint32_t gw_routers_before(const struct gw_model_config *c, uint32_t first, uint32_t layer)
{
    uint32_t n = 0;
    for (; first < layer; first++) n += c->sparse[first];
    return n;
}

/* Of acquired parts: [layers of the group][matrices], layers may have different numbers of them. What operations read, but
 * for biases: those are the host's. */
const struct gw_weight *gw_cell_store_share(const struct gw_cell_store *store, uint32_t group,
                                            uint32_t share);
const struct gw_weight *gw_cell_store_kv(const struct gw_cell_store *store, uint32_t group, uint32_t kv_head);
/* [layers of the group that have experts] */
const struct gw_weight *gw_cell_store_routers(const struct gw_cell_store *store, uint32_t group);
/* Of models with biases: [layers of the group][share_heads · head_dim], [layers of the group][2][head_dim]. */
const float *gw_cell_store_share_bias(const struct gw_cell_store *store, uint32_t group, uint32_t share);
const float *gw_cell_store_kv_bias(const struct gw_cell_store *store, uint32_t group, uint32_t kv_head);
/* [layers of the group], gw_cell_store_norm_floats apart: attention [hidden], FFN [hidden], q [head_dim], k [head_dim]; the
 * last two of models that have them. */
static inline size_t gw_cell_store_norm_floats(const struct gw_model_config *c)
{
    return 2 * (size_t)c->hidden + (c->qk_norm ? 2 * (size_t)c->head_dim : 0);
}
const float *gw_cell_store_norms(const struct gw_cell_store *store, uint32_t group);
const struct gw_weight *gw_cell_store_head(const struct gw_cell_store *store, uint32_t share);
const float *gw_cell_store_final(const struct gw_cell_store *store); /* [hidden] */

#endif
