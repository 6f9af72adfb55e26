/* Place: where a rank stands in its pipeline, and with whom it exchanges what.
 *
 *     leader ── step descriptors ──► every rank
 *     a stage's ranks ◄── partial sums ──► each other
 *     rank j of stage k ── activations ──► ranks i of stage k + 1 with i mod (ranks of stage k) = j
 *     ranks of the last stage ── logits of their vocabulary shares ──► leader
 *
 * Owner: plain data. Thread: any. Units: ranks. Errors: GW_ERR_INPUT for ranks that do not hold every cell once, or a
 * self that is none of them; *out is then unchanged. Source: own design; DESIGN part 2. */
#ifndef GW_WORKER_PLACE_H
#define GW_WORKER_PLACE_H

#include "migrate/wire.h"
#include "worker/cells.h"

struct gw_place {
    uint32_t self, ranks, stages;
    struct gw_cell_rect cells;
    uint32_t stage_first, stage_ranks;             /* own stage */
    uint32_t last_first;                           /* ranks [last_first, ranks) are the last stage */
    uint16_t share_at[GW_WIRE_RANKS_MAX + 1];      /* of the own stage: first share of each rank, then S */
    uint16_t last_share_at[GW_WIRE_RANKS_MAX + 1]; /* of the last stage */
    uint32_t from;                          /* sends its activations; GW_RANK_NONE in the first stage */
    uint32_t to[GW_WIRE_RANKS_MAX], to_len; /* get ours */
};

/* The place of one rank that holds everything. */
void gw_place_alone(const struct gw_cells *cells, struct gw_place *out);

gw_err_t gw_place_of(const struct gw_msg_assign *assign, const struct gw_cells *cells, struct gw_place *out,
                     struct gw_err_ctx *ctx) GW_MUST_USE;

static inline bool gw_place_leads(const struct gw_place *p)
{
    return p->self == 0;
}

static inline bool gw_place_is_last(const struct gw_place *p)
{
    return p->self >= p->last_first;
}

#endif
