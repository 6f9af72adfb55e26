#include "migrate/geometry.h"

#include <stdlib.h>

/* A plan under way. Pages are those of `want`, by gw_page_rect_index. */
struct plan {
    struct gw_page_rect want;
    struct gw_geometry_source *sources;
    uint32_t sources_len;
    uint8_t *from;
    /* Pages that s gives and t holds too: what could move from s to t. */
    uint32_t movable[GW_GEOMETRY_SOURCES_MAX][GW_GEOMETRY_SOURCES_MAX];
};

struct gw_page_rect gw_geometry_pages(struct gw_geometry_heads heads, struct gw_cell_rect cells)
{
    uint32_t first = cells.s0 * heads.share_heads / heads.query_group;
    uint32_t end = (cells.s1 * heads.share_heads - 1) / heads.query_group + 1;
    return (struct gw_page_rect){cells.g0, cells.g1, (uint16_t)first, (uint16_t)end};
}

static uint32_t group_of(const struct plan *p, uint32_t page)
{
    return p->want.g0 + page / gw_page_rect_heads(p->want);
}

static uint32_t head_of(const struct plan *p, uint32_t page)
{
    return p->want.h0 + page % gw_page_rect_heads(p->want);
}

static bool holds(const struct plan *p, uint32_t source, uint32_t page)
{
    return gw_page_rect_has(p->sources[source].pages, group_of(p, page), head_of(p, page));
}

/* The page's source becomes s; sign: 1 adds it there, -1 takes it away. Pages at near sources are never counted. */
static void count_page(struct plan *p, uint32_t page, uint32_t s, int sign)
{
    p->sources[s].load += (uint64_t)sign;
    for (uint32_t t = 0; t < p->sources_len; t++)
        if (t != s && !p->sources[t].near && holds(p, t, page)) p->movable[s][t] += (uint32_t)sign;
}

static void assign_page(struct plan *p, uint32_t page)
{
    uint32_t best = GW_GEOMETRY_NONE;
    for (uint32_t s = 0; s < p->sources_len; s++) {
        if (!holds(p, s, page)) continue;
        if (p->sources[s].near) {
            p->from[page] = (uint8_t)s;
            return;
        }
        if (best == GW_GEOMETRY_NONE || p->sources[s].load < p->sources[best].load) best = s;
    }
    p->from[page] = (uint8_t)best;
    if (best != GW_GEOMETRY_NONE) count_page(p, page, best, 1);
}

/* Moves one page from s to t; there is one. */
static void move_page(struct plan *p, uint32_t s, uint32_t t)
{
    uint32_t pages = gw_page_rect_pages(p->want), page = 0;
    while (page < pages && !(p->from[page] == s && holds(p, t, page))) page++;
    count_page(p, page, s, -1);
    p->from[page] = (uint8_t)t;
    count_page(p, page, t, 1);
}

/* Along pages that can move, from s to the least loaded source that can be reached: via[t] is the one before t. */
static uint32_t reach(const struct plan *p, uint32_t s, uint8_t via[GW_GEOMETRY_SOURCES_MAX])
{
    bool seen[GW_GEOMETRY_SOURCES_MAX] = {false};
    uint8_t queue[GW_GEOMETRY_SOURCES_MAX];
    uint32_t head = 0, tail = 0, least = s;
    seen[s] = true;
    queue[tail++] = (uint8_t)s;
    while (head < tail) {
        uint32_t at = queue[head++];
        if (p->sources[at].load < p->sources[least].load) least = at;
        for (uint32_t t = 0; t < p->sources_len; t++) {
            if (seen[t] || p->movable[at][t] == 0) continue;
            seen[t] = true;
            via[t] = (uint8_t)at;
            queue[tail++] = (uint8_t)t;
        }
    }
    return least;
}

/* Shifts one page along each source of a path from s to a source whose load is lower by more than one. That lowers the
 * sum of the squares of the loads, so it ends. False: there is no such path. */
static bool relieve(struct plan *p, uint32_t s)
{
    uint8_t via[GW_GEOMETRY_SOURCES_MAX];
    uint32_t t = reach(p, s, via);
    if (p->sources[s].load < p->sources[t].load + 2) return false;
    for (; t != s; t = via[t]) move_page(p, via[t], t);
    return true;
}

static gw_err_t check(struct gw_page_rect want, uint32_t sources_len, struct gw_err_ctx *ctx)
{
    if (gw_page_rect_pages(want) == 0 || want.g1 > GW_GEOMETRY_GROUPS_MAX || want.h1 > GW_GEOMETRY_HEADS_MAX)
        return gw_fail(ctx, GW_ERR_INPUT, "no pages: groups %u-%u, KV heads %u-%u", want.g0, want.g1, want.h0,
                       want.h1);
    if (sources_len > GW_GEOMETRY_SOURCES_MAX)
        return gw_fail(ctx, GW_ERR_INPUT, "%u sources of pages, at most %d", sources_len,
                       GW_GEOMETRY_SOURCES_MAX);
    return GW_OK;
}

gw_err_t gw_geometry_plan(struct gw_page_rect want, struct gw_geometry_source *sources, uint32_t sources_len,
                          uint8_t *from, struct gw_err_ctx *ctx)
{
    TRY(check(want, sources_len, ctx));
    struct plan *p = calloc(1, sizeof *p);
    if (!p) return gw_fail(ctx, GW_ERR_MEMORY, "no memory for a plan of pages");
    p->want = want;
    p->sources = sources;
    p->sources_len = sources_len;
    p->from = from;
    for (uint32_t page = 0; page < gw_page_rect_pages(want); page++) assign_page(p, page);
    for (bool moved = true; moved;) {
        moved = false;
        for (uint32_t s = 0; s < sources_len; s++) moved = relieve(p, s) || moved;
    }
    free(p);
    return GW_OK;
}
