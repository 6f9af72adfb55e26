/* Geometry: which rank gives which page to a rank of another layout.
 *
 * A page is block ∩ (layer group, KV head): [layer in group][K, V][token][head_dim], one contiguous range of the same
 * bytes in every layout, so a layout only says who holds which pages. Ranks hold rectangles, groups × KV heads:
 *
 *     source ranks (TP 4, 2 heads each)      destination ranks (TP 2 × PP 2)
 *          heads 0 1 | 2 3 | 4 5 | 6 7             0 1 2 3 | 4 5 6 7
 *     g 0      A A   B B   C C   D D               E E E E   F F F F       E: from A and B, groups 0, 1
 *     g 1      A A   B B   C C   D D               E E E E   F F F F       F: from C and D
 *     g 2      A A   B B   C C   D D               G G G G   H H H H       G: from A and B, groups 2, 3
 *     g 3      A A   B B   C C   D D               G G G G   H H H H       H: from C and D
 *
 * A page that several ranks hold (replicas; KV heads that several shares use) is given by one of them, such that the
 * most loaded rank gives as little as can be. A page of a shorter last group counts as one: it is one of many.
 *
 * Owner: plain data; the caller's arrays. Thread: any. Units: pages. Errors: GW_ERR_INPUT, GW_ERR_MEMORY. Source: own design;
 * balancing by cost-reducing paths: Harvey, Ladner, Lovász, Tamir, "Semi-matchings for bipartite graphs and load
 * balancing", 2003. */
#ifndef GW_MIGRATE_GEOMETRY_H
#define GW_MIGRATE_GEOMETRY_H

#include "base/err.h"
#include "migrate/grid.h"

#define GW_GEOMETRY_GROUPS_MAX  256
#define GW_GEOMETRY_HEADS_MAX   128
#define GW_GEOMETRY_SOURCES_MAX 64
#define GW_GEOMETRY_NONE        0xFF /* no source holds that page */

/* Pages of layer groups [g0, g1) and KV heads [h0, h1). */
struct gw_page_rect {
    uint16_t g0, g1, h0, h1;
};

/* What the rule of KV heads needs to know of a model (worker/cells.h has the same). */
struct gw_geometry_heads {
    uint32_t share_heads; /* query heads per share */
    uint32_t query_group; /* query heads per KV head */
};

struct gw_geometry_source {
    struct gw_page_rect pages;
    bool near;     /* the destination's own memory: it gives whatever it has, at no load */
    uint64_t load; /* pages that it gives to others; a plan adds what it gives to this destination */
};

static inline bool gw_page_rect_has(struct gw_page_rect r, uint32_t group, uint32_t head)
{
    return group >= r.g0 && group < r.g1 && head >= r.h0 && head < r.h1;
}

static inline uint32_t gw_page_rect_heads(struct gw_page_rect r)
{
    return (uint32_t)(r.h1 - r.h0);
}

/* Pages in it; 0 when it is empty or upside down. */
static inline uint32_t gw_page_rect_pages(struct gw_page_rect r)
{
    return r.g0 < r.g1 && r.h0 < r.h1 ? (uint32_t)(r.g1 - r.g0) * (uint32_t)(r.h1 - r.h0) : 0;
}

/* Index of a page of r, groups outside: where a plan has its source. */
static inline uint32_t gw_page_rect_index(struct gw_page_rect r, uint32_t group, uint32_t head)
{
    return (group - r.g0) * gw_page_rect_heads(r) + (head - r.h0);
}

/* The pages of a rectangle of cells, not empty: KV heads that the query heads of its shares read. */
struct gw_page_rect gw_geometry_pages(struct gw_geometry_heads heads, struct gw_cell_rect cells);

/* Sets from[gw_page_rect_pages(want)] to the index of the source that gives the page, GW_GEOMETRY_NONE where none holds
 * it, and raises the sources' loads. Ranks of one destination layout that plan for all of them, one after the other and in
 * the same order, agree without a word. On error nothing is changed. */
gw_err_t gw_geometry_plan(struct gw_page_rect want, struct gw_geometry_source *sources, uint32_t sources_len,
                          uint8_t *from, struct gw_err_ctx *ctx) GW_MUST_USE;

#endif
