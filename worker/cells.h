/* Cells: how a model is cut into the grid share × layer group that weights and KV are held and moved by.
 *
 * S and G are those of migrate/grid.h. Share i holds units [floor(i·units/S), floor((i+1)·units/S)) of each dimension;
 * the unit is one query head, one vocabulary row, two FFN columns (bf16 products take k in pairs). The KV heads of a
 * range of shares are all that its query heads read: one that several shares read belongs to each of them, and to a
 * rank once.
 *
 * FFN shares that are narrower than the widest are padded with zero weights up to it, for operations want one
 * width: adding 0·0 leaves a partial sum as it is. S and G enter the model fingerprint by the rule's name
 * (GW_FINGERPRINT_RULES): whoever changes a rule here changes that.
 *
 * Owner: plain data. Thread: any. Units: as named. Errors: none. Source: DESIGN part 2. */
#ifndef GW_WORKER_CELLS_H
#define GW_WORKER_CELLS_H

#include <stdbool.h>

#include "migrate/grid.h"
#include "worker/model_config.h"

struct gw_cells {
    uint32_t shares;       /* S */
    uint32_t group_layers; /* G */
    uint32_t groups;       /* ceil(layers / G) */
    uint32_t layers;
    uint32_t share_heads; /* query heads per share */
    /* columns per share of an FFN and of an expert, padding included; 0 where there is none */
    uint32_t ffn_cols, expert_cols;
    uint32_t kv_heads;
    uint32_t query_group; /* query heads per KV head */
};

/* Share i of S begins at unit floor(i·units/S). */
static inline uint32_t gw_cells_cut(uint32_t i, uint32_t units, uint32_t shares)
{
    return (uint32_t)((uint64_t)i * units / shares);
}

#define GW_CELLS_FFN_UNIT GW_GRID_FFN_UNIT

struct gw_cells gw_cells_of(const struct gw_model_config *config);

/* All of the grid. */
struct gw_cell_rect gw_cells_all(const struct gw_cells *cells);
bool gw_cells_is_rect(const struct gw_cells *cells, struct gw_cell_rect r);

/* First layer of a group; of group `groups`: the number of layers. */
uint32_t gw_cells_layer(const struct gw_cells *cells, uint32_t group);
static inline uint32_t gw_cells_layers(const struct gw_cells *cells, struct gw_cell_rect r)
{
    return gw_cells_layer(cells, r.g1) - gw_cells_layer(cells, r.g0);
}

/* KV heads [first, end) that the query heads of shares [s0, s1) read; s0 < s1. */
static inline uint32_t gw_cells_kv_first(const struct gw_cells *cells, uint32_t s0)
{
    return s0 * cells->share_heads / cells->query_group;
}
static inline uint32_t gw_cells_kv_end(const struct gw_cells *cells, uint32_t s1)
{
    return (s1 * cells->share_heads - 1) / cells->query_group + 1;
}

#endif
