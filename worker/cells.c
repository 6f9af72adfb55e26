#include "worker/cells.h"

static uint32_t widest_ffn_share(uint32_t columns, uint32_t shares)
{
    uint32_t units = columns / GW_CELLS_FFN_UNIT, widest = 0;
    for (uint32_t i = 0; i < shares; i++) {
        uint32_t n = gw_cells_cut(i + 1, units, shares) - gw_cells_cut(i, units, shares);
        if (n > widest) widest = n;
    }
    return widest * GW_CELLS_FFN_UNIT;
}

struct gw_cells gw_cells_of(const struct gw_model_config *c)
{
    struct gw_cells cells = {.shares = gw_grid_shares(c->heads, c->kv_heads),
                             .group_layers = gw_grid_group_layers(c->layers),
                             .layers = c->layers,
                             .kv_heads = c->kv_heads,
                             .query_group = c->heads / c->kv_heads};
    cells.groups = (c->layers + cells.group_layers - 1) / cells.group_layers;
    cells.share_heads = c->heads / cells.shares;
    cells.ffn_cols = widest_ffn_share(c->intermediate, cells.shares);
    cells.expert_cols = widest_ffn_share(c->expert_intermediate, cells.shares);
    return cells;
}

struct gw_cell_rect gw_cells_all(const struct gw_cells *cells)
{
    return (struct gw_cell_rect){.g1 = (uint16_t)cells->groups, .s1 = (uint16_t)cells->shares};
}

bool gw_cells_is_rect(const struct gw_cells *cells, struct gw_cell_rect r)
{
    return r.g0 < r.g1 && r.g1 <= cells->groups && r.s0 < r.s1 && r.s1 <= cells->shares;
}

uint32_t gw_cells_layer(const struct gw_cells *cells, uint32_t group)
{
    uint32_t layer = group * cells->group_layers;
    return layer < cells->layers ? layer : cells->layers;
}
