#include "kernels/coll_cut.h"

#include "kernels/coll.h"
#include "kernels/share_tree.h"

static gw_err_t check_shares(const struct gw_coll_cut *c, struct gw_err_ctx *ctx)
{
    if (c->shares < 1 || c->shares > GW_SHARES_MAX)
        return gw_fail(ctx, GW_ERR_INPUT, "%u shares: must be 1 to %d", c->shares, GW_SHARES_MAX);
    if (c->share_at[0] != 0 || c->share_at[c->stage_ranks] != c->shares)
        return gw_fail(ctx, GW_ERR_INPUT, "the ranks of the stage do not hold all %u shares", c->shares);
    for (uint32_t i = 0; i < c->stage_ranks; i++)
        if (c->share_at[i] >= c->share_at[i + 1])
            return gw_fail(ctx, GW_ERR_INPUT, "rank %u holds no share", c->stage_first + i);
    return GW_OK;
}

gw_err_t gw_coll_cut_check(const struct gw_coll_cut *c, struct gw_err_ctx *ctx)
{
    if (c->ranks < 1 || c->ranks > GW_COLL_RANKS_MAX || c->self >= c->ranks)
        return gw_fail(ctx, GW_ERR_INPUT, "rank %u of %u: at most %d", c->self, c->ranks, GW_COLL_RANKS_MAX);
    if (c->stage_first > c->self || c->self - c->stage_first >= c->stage_ranks ||
        c->stage_ranks > c->ranks - c->stage_first)
        return gw_fail(ctx, GW_ERR_INPUT, "rank %u is not in its stage", c->self);
    if (c->max_elems < 1 || c->deadline_us < 1)
        return gw_fail(ctx, GW_ERR_INPUT, "collectives without a size or a deadline");
    TRY(check_shares(c, ctx));
    if (c->max_elems > GW_COLL_DATA_MAX / (GW_SHARE_ROOTS_MAX * sizeof(float)))
        return gw_fail(ctx, GW_ERR_LIMIT, "sums of %zu elements are too large", c->max_elems);
    return GW_OK;
}
