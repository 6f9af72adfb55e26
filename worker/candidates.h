/* Candidates: the tokens of one row by (logit descending, id ascending), one after another, as far as they are known.
 *
 * They come from the parts of all ranks, each sorted (kernels/pick.h). When the next one might be a token that no part told, there is none, and ran_out says so.
 *
 * Owner: plain data: a copy walks on its own; what it points to is the caller's. Thread: any. Units: token ids. Errors:
 * none. Source: own design; a merge of sorted lists. */
#ifndef GW_WORKER_CANDIDATES_H
#define GW_WORKER_CANDIDATES_H

#include "kernels/pick.h"
#include "migrate/wire.h"

struct gw_candidates {
    const struct gw_pick_part *parts; /* [parts_len] */
    uint32_t parts_len;
    uint32_t at[GW_WIRE_RANKS_MAX]; /* next of each part */
    bool ran_out;
};

/* False if there is none, or ran_out. */
bool gw_candidates_next(struct gw_candidates *c, struct gw_pick_entry *out);

#endif
