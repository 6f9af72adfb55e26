/* Collectives over device memory: what kernels/coll.h is for the CPU, for ranks that have a GPU each.
 *
 * The same fixed tree over shares, and the same cut: a rank adds the subtrees that it owns whole, their roots are gathered
 * from all ranks of the stage, and every rank finishes the tree. All additions are the device's (gw_row_sum), in one
 * order, whatever carries the roots; so every layout gives the same bits, and so do both carriers:
 *
 *     carrier                           between                                  how
 *     ───────────────────────────────   ──────────────────────────────────────   ─────────────────────────────────────
 *     "nccl"    (coll_nccl.h)           GPUs of one instance, a rank for each    all-gather, send and recv by NCCL
 *     "staged"  (coll_staged.h)         instances; ranks that share a GPU        pinned memory, frames of kernels/coll.h
 *
 * NCCL's own sums are not used: their order depends on the number of ranks.
 *
 * Work goes on the stream that the config names, behind what the caller has put there, and the calls may return before it
 * is done. A step's results count once gw_coll_device_finish has returned GW_OK, and may not leave the rank before: only
 * then is it known that all ranks were at the same step and sum, and that nothing was cut short.
 *
 *     what happens                                  what the caller sees
 *     ───────────────────────────────────────────   ────────────────────────────────────────────────────────────────
 *     no end of the work for deadline_us            GW_ERR_IO, "… is slow"
 *     a peer is lost and the carrier says so        GW_ERR_IO at once
 *     … and it does not                             GW_ERR_IO by the deadline
 *     a call fails here                             GW_ERR_CUDA, GW_ERR_IO (gw_nccl_fail), GW_ERR_MEMORY
 *     a rank of another term, pipeline, generation  GW_ERR_PROTO, at creation
 *     a rank at another step or sum                 GW_ERR_PROTO, by finish at the latest (or the deadline, if bytes
 *                                                   are missing): never used
 *     gw_coll_device_abort from any thread          GW_ERR_IO, "aborted"
 *
 * After the first error every further call fails with it at once, and what was under way is ended; residuals, received data
 * and all that was computed of them in that step is undefined. Each survivor destroys its collectives; the next generation
 * makes new ones.
 *
 * Owner: gw_coll_device_destroy frees; stream and device are borrowed until then. Thread: one at a time; gw_coll_device_abort:
 * any. Units: elements (f32), bytes, microseconds. Errors: as above. Source: own design; DESIGN parts 4, 6 and 11. */
#ifndef GW_KERNELS_CUDA_COLL_DEVICE_H
#define GW_KERNELS_CUDA_COLL_DEVICE_H

#include "base/clock.h"
#include "kernels/coll.h"
#include "kernels/cuda/stream.h"

/* NCCL's own threads look at an abort every few milliseconds; a device that needs seconds to stop will not stop. */
#define GW_COLL_END_US (5 * GW_US_PER_S)

struct gw_coll_device;

/* The same at every rank but for self and the device. */
struct gw_coll_device_config {
    uint64_t term, generation;
    uint32_t pipeline;
    uint32_t self, ranks; /* of the group that the carrier connects, GW_COLL_RANKS_MAX at most */
    uint32_t stage_first, stage_ranks;
    uint32_t shares;
    const uint16_t *share_at; /* [stage_ranks + 1] as gw_coll_config's */
    size_t max_elems;         /* of one tree_add */
    int64_t deadline_us;
    int64_t end_us; /* of each thing that is waited for when they end; 0: GW_COLL_END_US */
    const _Atomic bool
        *stop; /* set: what is waited for ends as by abort, creation too; NULL: nobody sets it */
    const struct gw_stream_ops *ops;
    void *device; /* ops' self */
    struct gw_stream *stream;
};

/* Returns false if the device or NCCL did not come to rest in time: memory that they may still use is left to them, and
 * this process should end soon. */
bool gw_coll_device_destroy(struct gw_coll_device *coll);

/* "nccl" or "staged". */
const char *gw_coll_device_carrier(const struct gw_coll_device *coll);

/* What follows belongs to this step. What came before must be finished. */
void gw_coll_device_begin(struct gw_coll_device *coll, uint64_t step);

/* Where the stream puts this rank's partial sums: [own shares][elems] in device memory, for the next tree_add; junk
 * afterwards. */
float *gw_coll_device_partials(struct gw_coll_device *coll);

/* residual[elems] += the tree over all shares, in device memory. */
gw_err_t gw_coll_device_tree_add(struct gw_coll_device *coll, float *residual, size_t elems,
                                 struct gw_err_ctx *ctx) GW_MUST_USE;

/* Device memory to a rank of the group, which receives as many bytes (> 0). The memory may not change before finish. With
 * nccl a rank's stream waits in a send until the other receives: two that send to each other first wait for ever. */
gw_err_t gw_coll_device_send(struct gw_coll_device *coll, uint32_t rank, const void *data, size_t bytes,
                             struct gw_err_ctx *ctx) GW_MUST_USE;
gw_err_t gw_coll_device_recv(struct gw_coll_device *coll, uint32_t rank, void *data, size_t bytes,
                             struct gw_err_ctx *ctx) GW_MUST_USE;

/* Waits until all of the step is done, here and as far as others take part in it. Every rank of a stage calls it as often. */
gw_err_t gw_coll_device_finish(struct gw_coll_device *coll, struct gw_err_ctx *ctx) GW_MUST_USE;

/* Work goes on this stream of the device from here on; nothing is under way. */
void gw_coll_device_use(struct gw_coll_device *coll, struct gw_stream *stream);

/* Makes every call that is under way or follows fail. */
void gw_coll_device_abort(struct gw_coll_device *coll);

#endif
