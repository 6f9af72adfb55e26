/* The head of a frame between two ranks, and the fence that it must pass.
 *
 *     byte  size  field
 *        0     4  magic "GWC1"
 *        4     1  kind         enum gw_coll_kind, or GW_COLL_SETUP
 *        5     3  0
 *        8     4  pipeline
 *       12     4  length       bytes of payload that follow
 *       16     8  term         the controller's generation
 *       24     8  generation   of the pipeline
 *       32     8  step         what the sender was at
 *       40        payload      f32 and the like as they lie in memory (both ends are little-endian)
 *
 * All integers little-endian. No checksum: TCP has one, and the sums are as good as the memory they come from.
 *
 * Owner: plain data. Thread: any. Units: bytes. Errors: GW_ERR_PROTO, also for a length over the kind's maximum.
 * Source: own design; DESIGN part 6 (fences). */
#ifndef GW_KERNELS_CPU_COLL_FRAME_H
#define GW_KERNELS_CPU_COLL_FRAME_H

#include "kernels/coll.h"

#define GW_COLL_HEAD_BYTES  40
#define GW_COLL_SETUP       3 /* a kind of the collectives' own: how the shared segment is passed on */
#define GW_COLL_KINDS       3
#define GW_COLL_SETUP_BYTES 64 /* of one SETUP frame at most */

/* What every frame of these collectives carries. */
struct gw_coll_fence {
    uint64_t term, generation;
    uint32_t pipeline;
};

struct gw_coll_head {
    uint8_t kind;
    uint32_t bytes;
    uint64_t step;
};

void gw_coll_head_put(uint8_t out[GW_COLL_HEAD_BYTES], const struct gw_coll_fence *fence,
                      const struct gw_coll_head *head);

/* On error *out is unchanged. */
gw_err_t gw_coll_head_get(const uint8_t in[GW_COLL_HEAD_BYTES], const struct gw_coll_fence *fence,
                          struct gw_coll_head *out, struct gw_err_ctx *ctx) GW_MUST_USE;

#endif
