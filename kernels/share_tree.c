#include "kernels/share_tree.h"

#include <assert.h>

/* The tree's additions, one after the other. */
struct walk {
    uint32_t shares, step, to; /* to: of the next one */
};

struct subtree {
    uint32_t first, middle, last; /* value[first] += value[middle] sums shares [first, last) */
};

static struct walk walk_begin(uint32_t shares)
{
    assert(shares >= 1 && shares <= GW_SHARES_MAX);
    return (struct walk){.shares = shares, .step = 1};
}

static bool walk_next(struct walk *w, struct subtree *out)
{
    if (w->to + w->step >= w->shares) {
        w->to = 0;
        w->step *= 2;
    }
    if (w->step >= w->shares) return false;
    uint32_t end = w->to + 2 * w->step;
    *out = (struct subtree){w->to, w->to + w->step, end < w->shares ? end : w->shares};
    w->to = end;
    return true;
}

uint32_t gw_share_tree_within(uint32_t shares, uint32_t first, uint32_t last,
                              struct gw_share_add adds[GW_SHARE_ADDS_MAX])
{
    assert(first <= last && last <= shares);
    uint32_t len = 0;
    struct subtree t;
    for (struct walk w = walk_begin(shares); walk_next(&w, &t);)
        if (t.first >= first && t.last <= last)
            adds[len++] = (struct gw_share_add){(uint8_t)t.first, (uint8_t)t.middle};
    return len;
}

uint32_t gw_share_tree_roots(uint32_t shares, uint32_t first, uint32_t last,
                             uint8_t roots[GW_SHARE_ROOTS_MAX])
{
    struct gw_share_add adds[GW_SHARE_ADDS_MAX];
    bool added[GW_SHARES_MAX] = {false};
    uint32_t adds_len = gw_share_tree_within(shares, first, last, adds), len = 0;
    for (uint32_t i = 0; i < adds_len; i++) added[adds[i].from] = true;
    for (uint32_t i = first; i < last; i++) {
        if (added[i]) continue;
        assert(len < GW_SHARE_ROOTS_MAX);
        roots[len++] = (uint8_t)i;
    }
    return len;
}

static bool one_range_holds(const uint16_t *cuts, uint32_t ranges, struct subtree t)
{
    for (uint32_t i = 0; i < ranges; i++)
        if (t.first >= cuts[i] && t.last <= cuts[i + 1]) return true;
    return false;
}

uint32_t gw_share_tree_rest(uint32_t shares, const uint16_t *cuts, uint32_t ranges,
                            struct gw_share_add adds[GW_SHARE_ADDS_MAX])
{
    assert(cuts[0] == 0 && cuts[ranges] == shares);
    uint32_t len = 0;
    struct subtree t;
    for (struct walk w = walk_begin(shares); walk_next(&w, &t);)
        if (!one_range_holds(cuts, ranges, t))
            adds[len++] = (struct gw_share_add){(uint8_t)t.first, (uint8_t)t.middle};
    return len;
}
