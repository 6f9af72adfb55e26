/* Cells: how a model is cut into the grid share × layer group that weights and KV are held and moved by.
 *
 * S and G are those of migrate/grid.h. Share i holds units [floor(i·units/S), floor((i+1)·units/S)) of each dimension;
 * the unit is one query head, one vocabulary row, two FFN columns (bf16 products take k in pairs).
 *
 * FFN shares that are narrower than the widest are padded with zero weights up to it, for operations want one
 * width: adding 0·0 leaves a partial sum as it is. S and G enter the model fingerprint by the rule's name
 * (GW_FINGERPRINT_RULES): whoever changes a rule here changes that.
 *
 * Owner: plain data. Thread: any. Units: as named. Errors: none. Source: DESIGN part 2. */
#ifndef GW_WORKER_CELLS_H
#define GW_WORKER_CELLS_H

#include "migrate/grid.h"
#include "worker/model_config.h"

struct gw_cells {
    uint32_t shares;       /* S */
    uint32_t group_layers; /* G */
    uint32_t groups;       /* ceil(layers / G) */
    uint32_t share_heads;  /* query heads per share */
    uint32_t share_cols;   /* FFN columns per share, padding included */
};

/* Share i of S begins at unit floor(i·units/S). */
static inline uint32_t gw_cells_cut(uint32_t i, uint32_t units, uint32_t shares)
{
    return (uint32_t)((uint64_t)i * units / shares);
}

#define GW_CELLS_FFN_UNIT GW_GRID_FFN_UNIT

struct gw_cells gw_cells_of(const struct gw_model_config *config);

#endif
