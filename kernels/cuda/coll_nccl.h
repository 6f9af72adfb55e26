/* Collectives over device memory by NCCL: for ranks that have a GPU each in one instance.
 *
 * One communicator per generation, from an id of its own (gw_nccl_make_id) that comes by whoever forms the group; it never
 * blocks: what is not done at once is asked for by ncclCommGetAsyncError, and the work on the stream by its event. A sum is
 * an all-gather of roots and the rest of the tree (coll_device.h); where the stage is a part of the group, the all-gather is
 * sends and receives between its ranks. NCCL's bytes have no heads, so tags go along (coll_tag.h):
 *
 *     creation   init ── HELLO gathered from all of the stage: same term, pipeline, generation, cut
 *     a sum      all-gather, nothing else
 *     a send     the bytes and a DATA tag behind them, in one NCCL group
 *     finish     FENCE gathered from all of the stage: same step, same sums; then all tags are looked at
 *
 *     state     what happens                              what this rank does
 *     ───────   ───────────────────────────────────────   ────────────────────────────────────────────────────────────
 *     init      a rank is missing, or slow                polls for init_us, then gives up: GW_ERR_IO
 *               a rank of another generation has the id   HELLO differs: GW_ERR_PROTO
 *               a rank cuts otherwise                     HELLO differs; other sizes than one HELLO: as "hangs" below
 *               the id was used before                    NCCL's error, or as a missing rank
 *               two ranks on one GPU                      NCCL refuses: GW_ERR_INTERNAL (the staged carrier serves them)
 *     ready     a call fails                              gives up: the call's error
 *               NCCL reports a lost peer                  sees it by the next look (SLEEP_NS apart): gives up, GW_ERR_IO
 *               a peer is gone, frozen, or has failed     its work hangs: deadline_us, gives up, GW_ERR_IO "… is slow"
 *               without NCCL's saying so
 *               work ends, NCCL reports an error          the error: an event alone proves nothing, since work that NCCL
 *                                                         cuts short ends, too
 *               another step, other sums                  FENCE or DATA tag differs: gives up, GW_ERR_PROTO
 *               gw_coll_device_abort                      the same, "aborted"
 *     gave up   ncclCommRevoke where it is there, and ncclCommAbort on a thread of its own, waited for GW_COLL_END_US. If it
 *               does not return, it is left: gw_coll_device_destroy says so
 *     destroy   ncclCommFinalize, polled for GW_COLL_END_US (peers may read from this rank until then), ncclCommDestroy;
 *               if that fails: as "gave up"
 *
 * Survivors do not tell each other; each comes to its own end, by the deadline at the latest, and the controller, which hears
 * of the first one, makes it sooner (gw_coll_device_abort).
 *
 * Owner: as coll_device.h's; nccl is borrowed until destroy. Thread: as coll_device.h's; at creation and end the device must be
 * the thread's current one. Units: microseconds. Errors: as above; GW_ERR_LIMIT beyond GW_COLL_TAGS_MAX sends and receives in a step.
 * Source: own design; NCCL's user guide, "fault tolerance". */
#ifndef GW_KERNELS_CUDA_COLL_NCCL_H
#define GW_KERNELS_CUDA_COLL_NCCL_H

#include "kernels/cuda/coll_device.h"
#include "kernels/cuda/nccl_api.h"

/* Tags that wait for finish: two for each of 64 micro-batches of a step, and one of each rank. */
#define GW_COLL_TAGS_MAX 256

struct gw_coll_nccl_config {
    struct gw_coll_device_config group;
    const struct gw_nccl *nccl;
    struct gw_nccl_id id; /* made for this generation */
    int64_t init_us;      /* how long the others may take to come: NCCL alone needs seconds */
};

/* Returns when all ranks of the group have come. On error *out is unchanged. */
gw_err_t gw_coll_nccl_create(const struct gw_coll_nccl_config *config, struct gw_coll_device **out,
                             struct gw_err_ctx *ctx) GW_MUST_USE;

#endif
