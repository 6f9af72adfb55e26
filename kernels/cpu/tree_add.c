/* The tree over shares' partial sums that lie in memory already, added to the residual. */
#include "kernels/cpu/coll_sum.h"
#include "kernels/cpu/variants.h"

void gw_cpu_tree_add_any(struct gw_device *dev, float *residual, const float *partials, uint32_t shares,
                         size_t elems)
{
    struct gw_share_add adds[GW_SHARE_ADDS_MAX];
    const float *rows[GW_SHARES_MAX];
    const struct gw_sum sum = {
        .adds = adds, .adds_len = gw_share_tree_within(shares, 0, shares, adds), .elems = elems};
    for (uint32_t i = 0; i < shares; i++) rows[i] = partials + i * elems;
    gw_sum_to(dev, &sum, rows, NULL, residual);
}
