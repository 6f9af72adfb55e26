/* The grid: how many shares and layers per group a model is cut into (DESIGN part 2).
 *
 *     shares S   max(KV heads, 8) if that divides the query heads, else the largest divisor of the query heads below it
 *                (S >= KV heads always, because KV heads divide the query heads)
 *     group G    up to 8 layers: 2, so that small models still have several groups; else the smallest of 4..8 that
 *                divides the layers, else 4 (the last group is then shorter)
 *
 * Workers cut by it, the planner plans by it. It enters the model fingerprint by the rule's name
 * (GW_FINGERPRINT_RULES): whoever changes a rule here changes that.
 *
 * Owner: plain values. Thread: any. Units: as named. Errors: none. Source: DESIGN part 2. */
#ifndef GW_MIGRATE_GRID_H
#define GW_MIGRATE_GRID_H

#include <stdint.h>

/* A rectangle of cells: groups [g0, g1) × shares [s0, s1). */
struct gw_cell_rect {
    uint16_t g0, g1, s0, s1; /* empty when g0 == g1 or s0 == s1 */
};

#define GW_GRID_FFN_UNIT 2 /* columns: bf16 products take k in pairs */

/* kv_heads divides heads; both >= 1. */
static inline uint32_t gw_grid_shares(uint32_t heads, uint32_t kv_heads)
{
    uint32_t s = kv_heads > 8 ? kv_heads : 8;
    while (heads % s != 0) s--;
    return s;
}

static inline uint32_t gw_grid_group_layers(uint32_t layers)
{
    if (layers <= 8) return layers < 2 ? layers : 2;
    for (uint32_t g = 4; g <= 8; g++)
        if (layers % g == 0) return g;
    return 4;
}

#endif
