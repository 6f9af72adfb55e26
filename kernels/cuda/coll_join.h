/* Join: a rank's device collectives in a new generation: groups of ranks agree on what carries them over the host's collectives, and
 * make them. A rank is in two groups at most:
 *
 *     group                     for                         without NCCL
 *     ───────────────────────   ─────────────────────────   ──────────────────────────────
 *     its stage, of several     sums (coll_device.h)        staged
 *     the pipeline, of stages   activations between stages  none: they go by the host
 *
 *     rank of a group                          the group's first rank
 *     ── OFFER ──────────────────────────────► hears all; takes NCCL if every rank has it, on one machine, and a GPU of its own
 *     ◄─────────────────────────── ANSWER ──   with an id of NCCL that was made for this generation
 *
 * Both groups agree, the stage first; then the pipeline's collectives are made, which pass four bytes on as activations will go, so that
 * NCCL has connected them; then the stage's.
 *
 *     DATA frames, step 0    byte  size  field
 *     OFFER                     0     1  version, 1
 *                               1     1  1: has NCCL, and shares a machine with the whole group
 *                               2    16  its GPU (CUDA's UUID)
 *                              18     8  u64 max_elems that it has asked for
 *     ANSWER                    0     1  version, 1
 *                               1     1  1: NCCL; 0: not
 *                               2   128  id; zeros without NCCL
 *                             130     8  u64 the least max_elems of the group, which all take
 *
 *     what happens                                  what the caller sees
 *     ───────────────────────────────────────────   ─────────────────────────────────────────────────────────────
 *     a rank is lost, slow, of another build        coll.h's errors, GW_ERR_PROTO: as any frame that does not come
 *     one rank cannot make its collectives          its error; the others': by coll_nccl.h within init_us
 *     NCCL cannot be loaded somewhere               no NCCL in the groups of that rank
 *
 * NCCL's id is a secret of the group: who has it can join. It goes where activations go, by the same sockets.
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
    bool all_on_one_machine;            /* the whole pipeline */
    const uint32_t *from;               /* the rank whose activations come here; NULL: nobody's do */
    const uint32_t *to;                 /* [to_len] those that get ours */
    uint32_t to_len;
    int64_t init_us; /* how long NCCL may take to connect a group */
};

/* Every rank of the pipeline calls it, as the next thing on coll. On error *out is unchanged. */
gw_err_t gw_coll_join_create(const struct gw_coll_join_config *config, struct gw_coll_join **out,
                             struct gw_err_ctx *ctx) GW_MUST_USE;
/* Returns what gw_coll_device_destroy does, of both. */
bool gw_coll_join_destroy(struct gw_coll_join *join);

/* Of the stage; NULL: it is one rank. */
struct gw_coll_device *gw_coll_join_sums(struct gw_coll_join *join);
/* Of the pipeline, whose ranks they number: sends and receives, no sums. NULL: activations go by the host, or there is one stage. */
struct gw_coll_device *gw_coll_join_passes(struct gw_coll_join *join);

/* gw_coll_device_abort of both. */
void gw_coll_join_abort(struct gw_coll_join *join);

#endif
