#include "worker/cells.h"

static uint32_t shares_of(const struct gw_model_config *c)
{
    uint32_t s = c->kv_heads > 8 ? c->kv_heads : 8;
    while (c->heads % s != 0) s--;
    return s;
}

static uint32_t group_of(uint32_t layers)
{
    if (layers <= 8) return layers < 2 ? layers : 2;
    for (uint32_t g = 4; g <= 8; g++)
        if (layers % g == 0) return g;
    return 4;
}

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
    struct gw_cells cells = {.shares = shares_of(c), .group_layers = group_of(c->layers)};
    cells.groups = (c->layers + cells.group_layers - 1) / cells.group_layers;
    cells.share_heads = c->heads / cells.shares;
    cells.share_cols = widest_ffn_share(c->intermediate, cells.shares);
    return cells;
}
