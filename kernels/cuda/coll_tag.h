/* Tags: what ranks tell each other next to bytes that carry no head of their own, as NCCL's do not.
 *
 *     byte  size  field
 *        0     4  magic "GWT1"
 *        4     4  kind         enum gw_coll_tag_kind
 *        8     4  rank         of the sender
 *       12     4  pipeline
 *       16     8  term
 *       24     8  generation   of the pipeline
 *       32     8  step
 *       40     8  count        HELLO: shares; FENCE: sums of the step; DATA: bytes
 *       48     8  digest       HELLO: of the cut and the largest sum; FENCE: of the sums' lengths in order
 *       56     8  0
 *
 * As it lies in memory: ranks that use NCCL are of one machine, or at least of one kind. A HELLO is exchanged when a group
 * is made, a FENCE when a step ends, a DATA tag follows the bytes that one rank sends another. The receiver knows every
 * field beforehand; any difference is an error.
 *
 * Owner: plain data. Thread: any. Units: bytes. Errors: GW_ERR_PROTO, the text names the first field that differs. Source:
 * own design; DESIGN part 6 (fences). */
#ifndef GW_KERNELS_CUDA_COLL_TAG_H
#define GW_KERNELS_CUDA_COLL_TAG_H

#include <stdint.h>

#include "base/err.h"

enum gw_coll_tag_kind { GW_COLL_TAG_HELLO = 1, GW_COLL_TAG_FENCE, GW_COLL_TAG_DATA };

struct gw_coll_tag {
    char magic[4];
    uint32_t kind, rank, pipeline;
    uint64_t term, generation, step, count, digest, zero;
};

#define GW_COLL_TAG_BYTES 64
_Static_assert(sizeof(struct gw_coll_tag) == GW_COLL_TAG_BYTES, "no padding");

/* magic and zero set, the rest as given. */
struct gw_coll_tag gw_coll_tag_make(enum gw_coll_tag_kind kind, const struct gw_coll_tag *rest);

/* Is it what was expected? */
gw_err_t gw_coll_tag_check(const struct gw_coll_tag *got, const struct gw_coll_tag *want,
                           struct gw_err_ctx *ctx) GW_MUST_USE;

#endif
