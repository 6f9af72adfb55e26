#include "worker/place.h"

#include <string.h>

void gw_place_alone(const struct gw_cells *cells, struct gw_place *out)
{
    *out = (struct gw_place){
        .ranks = 1, .stages = 1, .cells = gw_cells_all(cells), .stage_ranks = 1, .from = GW_RANK_NONE};
    out->share_at[1] = out->last_share_at[1] = (uint16_t)cells->shares;
}

/* The ranks [first, end) of one stage: equal groups, shares without gap or overlap. */
static gw_err_t check_stage(const struct gw_msg_assign *a, const struct gw_cells *cells, uint32_t first,
                            uint32_t end, uint32_t group, struct gw_err_ctx *ctx)
{
    uint32_t share = 0;
    for (uint32_t i = first; i < end; i++) {
        struct gw_cell_rect r = a->ranks[i].cells;
        if (!gw_cells_is_rect(cells, r) || r.g0 != group || r.g1 != a->ranks[first].cells.g1 || r.s0 != share)
            return gw_fail(ctx, GW_ERR_INPUT, "rank %u's cells do not fit between its neighbours'", i);
        share = r.s1;
    }
    if (share == cells->shares) return GW_OK;
    return gw_fail(ctx, GW_ERR_INPUT, "nobody holds shares %u to %u of stage %u", share, cells->shares,
                   a->ranks[first].stage);
}

static uint32_t stage_end(const struct gw_msg_assign *a, uint32_t first)
{
    uint32_t end = first + 1;
    while (end < a->ranks_len && a->ranks[end].stage == a->ranks[first].stage) end++;
    return end;
}

static void copy_shares(const struct gw_msg_assign *a, uint32_t first, uint32_t end, uint16_t *share_at)
{
    for (uint32_t i = first; i < end; i++) share_at[i - first] = a->ranks[i].cells.s0;
    share_at[end - first] = a->ranks[end - 1].cells.s1;
}

/* One stage [first, end), and the one before it [before, first). */
static void look_at_stage(struct gw_place *p, const struct gw_msg_assign *a, uint32_t before, uint32_t first,
                          uint32_t end)
{
    bool ours = p->self >= first && p->self < end;
    if (ours) {
        p->stage_first = first;
        p->stage_ranks = end - first;
        copy_shares(a, first, end, p->share_at);
        if (first > before) p->from = before + (p->self - first) % (first - before);
    }
    if (p->self >= before && p->self < first)
        for (uint32_t i = first; i < end; i++)
            if ((i - first) % (first - before) == p->self - before) p->to[p->to_len++] = i;
    p->last_first = first;
    p->stages++;
}

gw_err_t gw_place_of(const struct gw_msg_assign *a, const struct gw_cells *cells, struct gw_place *out,
                     struct gw_err_ctx *ctx)
{
    struct gw_place p = {.self = a->self, .ranks = a->ranks_len, .from = GW_RANK_NONE};
    uint32_t before = 0, group = 0;
    if (a->ranks_len == 0 || a->ranks_len > GW_WIRE_RANKS_MAX || a->self >= a->ranks_len)
        return gw_fail(ctx, GW_ERR_INPUT, "rank %u of %u", a->self, a->ranks_len);
    for (uint32_t first = 0; first < a->ranks_len;) {
        uint32_t end = stage_end(a, first);
        TRY(check_stage(a, cells, first, end, group, ctx));
        look_at_stage(&p, a, before, first, end);
        group = a->ranks[first].cells.g1;
        before = first;
        first = end;
    }
    if (group != cells->groups)
        return gw_fail(ctx, GW_ERR_INPUT, "nobody holds layer groups %u to %u", group, cells->groups);
    p.cells = a->ranks[a->self].cells;
    copy_shares(a, p.last_first, p.ranks, p.last_share_at);
    *out = p;
    return GW_OK;
}
