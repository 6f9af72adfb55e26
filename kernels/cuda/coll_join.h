/* Join: a rank's device collectives in a new generation: its stage agrees on a carrier over the host's collectives, and makes them.
 *
 *     rank of a stage                          the stage's first rank
 *     ── OFFER ──────────────────────────────► hears all; takes NCCL if every rank has it, on one machine, and a GPU of its own
 *     ◄─────────────────────────── ANSWER ──   with an id of NCCL that was made for this generation
 *     nccl: gw_coll_nccl_create                likewise
 *     staged: gw_coll_staged_create            likewise
 *
 *     DATA frames, step 0    byte  size  field
 *     OFFER                     0     1  version, 1
 *                               1     1  1: has NCCL, and shares a machine with the whole stage
 *                               2    16  its GPU (CUDA's UUID)
 *                              18     8  u64 max_elems that it has asked for
 *     ANSWER                    0     1  version, 1
 *                               1     1  1: NCCL; 0: staged
 *                               2   128  id; zeros without NCCL
 *                             130     8  u64 the least max_elems of the stage, which all take
 *
 *     what happens                                  what the caller sees
 *     ───────────────────────────────────────────   ─────────────────────────────────────────────────────────────
 *     a rank is lost, slow, of another build        coll.h's errors, GW_ERR_PROTO: as any frame that does not come
 *     one rank cannot make its collectives          its error; the others': by coll_nccl.h within init_us
 *     NCCL cannot be loaded somewhere               staged, everywhere
 *
 * NCCL's id is a secret of the stage: who has it can join. It goes where activations go, by the same sockets.
 *
 * Owner: gw_coll_join_destroy frees; coll and device are borrowed until then. Thread: create: any one, beside operations of the
 * device; then that of the operations. Units: microseconds. Errors: as above, GW_ERR_MEMORY, GW_ERR_CUDA. Source: own design;
 * DESIGN parts 4 and 11. */
#ifndef GW_KERNELS_CUDA_COLL_JOIN_H
#define GW_KERNELS_CUDA_COLL_JOIN_H

#include "kernels/cuda/coll_device.h"
#include "kernels/device_memory.h"

struct gw_coll_join;

struct gw_coll_join_config {
    struct gw_coll_device_config group; /* ops, device and stream are those of `device`; max_elems: at most */
    struct gw_coll *coll;               /* of the same ranks; at step 0 */
    struct gw_device *device;           /* with memory of its own */
    const char *nccl;                   /* library; NULL: where the system looks. "": there is none */
    bool one_machine;                   /* the whole stage */
    int64_t init_us;                    /* how long NCCL may take to connect the stage */
};

/* Every rank of the stage calls it, as the next thing on coll. On error *out is unchanged. */
gw_err_t gw_coll_join_create(const struct gw_coll_join_config *config, struct gw_coll_join **out,
                             struct gw_err_ctx *ctx) GW_MUST_USE;
/* Returns what gw_coll_device_destroy does. */
bool gw_coll_join_destroy(struct gw_coll_join *join);

struct gw_coll_device *gw_coll_join_sums(struct gw_coll_join *join);

#endif
