/* How a group of ranks is cut into a stage and its shares: what must hold before any collectives are made of it.
 *
 * Owner: the caller's arrays. Thread: any. Units: ranks, shares, elements (f32), microseconds. Errors: GW_ERR_INPUT when the
 * ranges do not fit together, GW_ERR_LIMIT when one sum would not fit into a frame. Source: own design; DESIGN part 4. */
#ifndef GW_KERNELS_COLL_CUT_H
#define GW_KERNELS_COLL_CUT_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct gw_coll_cut {
    uint32_t self, ranks;
    uint32_t stage_first, stage_ranks; /* ranks [stage_first, stage_first + stage_ranks) */
    uint32_t shares;
    const uint16_t
        *share_at;    /* [stage_ranks + 1] first share of each rank of the stage; the last is shares */
    size_t max_elems; /* of one sum */
    int64_t deadline_us;
};

gw_err_t gw_coll_cut_check(const struct gw_coll_cut *cut, struct gw_err_ctx *ctx) GW_MUST_USE;

#endif
