#include "controller/plan/shape_internal.h"

/* Devices of a stage that get shares: no more than there are shares. */
static uint32_t stage_ranks(const struct shaping *s, const struct cut *cut, uint32_t k)
{
    uint32_t n = cut->begin[k + 1] - cut->begin[k];
    return n < s->in->model->shares ? n : s->in->model->shares;
}

void shaping_set_groups(struct shaping *s, const uint16_t *groups)
{
    uint16_t begin[GW_SHAPE_RANKS_MAX + 1] = {0};
    for (uint32_t k = 0; k < s->now.stages; k++) begin[k + 1] = (uint16_t)(begin[k] + groups[k]);
    for (uint32_t i = 0; i < s->now.ranks_len; i++) {
        struct gw_layout_rank *r = &s->now.ranks[i];
        r->cells.g0 = begin[r->stage];
        r->cells.g1 = begin[r->stage + 1];
    }
}

/* Takes the devices of a cut into s->now; width: of each rank, stage by stage, at most S ranks of each. */
static void place(struct shaping *s, const struct cut *cut, const uint16_t *width)
{
    s->now.ranks_len = 0;
    s->now.stages = (uint16_t)cut->stages;
    for (uint32_t k = 0; k < cut->stages; k++) {
        uint16_t share = 0;
        for (uint32_t i = 0; i < stage_ranks(s, cut, k); i++) {
            struct gw_layout_rank *r = &s->now.ranks[s->now.ranks_len++];
            *r = (struct gw_layout_rank){.device = cut->slot[cut->begin[k] + i], .stage = (uint16_t)k};
            r->cells.s0 = share;
            r->cells.s1 = share = (uint16_t)(share + *width++);
        }
    }
}

static void try_groups(struct shaping *s, enum balance by)
{
    uint16_t groups[GW_SHAPE_RANKS_MAX];
    int ways = !s->uniform && s->now.stages > 1 ? 2 : 1;
    for (int way = 0; way < ways; way++) {
        if (!shaping_deal_groups(s, by, way == 1, groups)) return;
        shaping_set_groups(s, groups);
        shaping_evaluate(s);
    }
}

static void try_balance(struct shaping *s, const struct cut *cut, enum balance by)
{
    uint16_t width[GW_SHAPE_RANKS_MAX], *at = width;
    for (uint32_t k = 0; k < cut->stages; k++) {
        shaping_deal_shares(s, &cut->slot[cut->begin[k]], stage_ranks(s, cut, k), by, at);
        at += stage_ranks(s, cut, k);
    }
    place(s, cut, width);
    /* few: shares by one measure, groups by another */
    bool crossed = s->n <= GW_SHAPE_CROSSED && !s->uniform;
    for (enum balance g = crossed ? 0 : by; g < (crossed ? BALANCES : by + 1); g++) try_groups(s, g);
}

/* Ways to cut `units` into n parts of at least one each, C(units - 1, n - 1); counted up to `enough`. */
static uint64_t ways_to_cut(uint32_t units, uint32_t n, uint64_t enough)
{
    uint64_t ways = n <= units;
    for (uint32_t i = 1; i < n && ways && ways < enough; i++) ways = ways * (units - i) / i;
    return ways;
}

/* Ways to deal shares and groups, counted up to s->ways + 1. */
static uint64_t ways_of(const struct shaping *s, const struct cut *cut)
{
    const struct gw_plan_model *m = s->in->model;
    uint64_t ways = ways_to_cut(m->groups, cut->stages, s->ways + 1);
    for (uint32_t k = 0; k < cut->stages && ways <= s->ways; k++)
        ways *= ways_to_cut(m->shares, stage_ranks(s, cut, k), s->ways + 1);
    return ways;
}

/* Every way to deal groups to the stages from `stage` on; `left` of them. */
static void try_all_groups(struct shaping *s, uint16_t *groups, uint32_t stage, uint32_t left)
{
    uint32_t after = s->now.stages - 1u - stage;
    if (after == 0) {
        groups[stage] = (uint16_t)left;
        shaping_set_groups(s, groups);
        shaping_evaluate(s);
        return;
    }
    for (uint32_t g = 1; g + after <= left; g++) {
        groups[stage] = (uint16_t)g;
        try_all_groups(s, groups, stage + 1, left - g);
    }
}

/* Every way to deal shares to the ranks: `left` shares for ranks i … of stage k. */
static void try_widths(struct shaping *s, const struct cut *cut, uint32_t k, uint32_t i, uint32_t left,
                       uint16_t *width, uint32_t at)
{
    uint32_t ranks = stage_ranks(s, cut, k);
    if (i + 1 == ranks) { /* the last one of its stage has the rest */
        width[at] = (uint16_t)left;
        if (k + 1 < cut->stages) {
            try_widths(s, cut, k + 1, 0, s->in->model->shares, width, at + 1);
            return;
        }
        place(s, cut, width);
        if (s->all_groups) {
            uint16_t groups[GW_SHAPE_RANKS_MAX];
            try_all_groups(s, groups, 0, s->in->model->groups);
            return;
        }
        for (enum balance by = 0; by < (s->uniform ? 1 : BALANCES); by++) try_groups(s, by);
        return;
    }
    for (uint32_t w = 1; w + (ranks - 1 - i) <= left; w++) {
        width[at] = (uint16_t)w;
        try_widths(s, cut, k, i + 1, left - w, width, at + 1);
    }
}

bool shaping_cut_holds(const struct shaping *s, const struct cut *cut)
{
    for (uint32_t k = 0; k < cut->stages; k++)
        for (uint32_t i = cut->begin[k] + 1; i < cut->begin[k + 1]; i++)
            if (shaping_zone(s, cut->slot[i]) != shaping_zone(s, cut->slot[i - 1])) return false;
    return true;
}

/* The ranks of each stage in the other order; false if that is the same. */
static bool turn_around(const struct shaping *s, const struct cut *cut, struct cut *turned)
{
    bool differs = false;
    *turned = *cut;
    for (uint32_t k = 0; k < cut->stages; k++)
        for (uint32_t i = cut->begin[k], j = cut->begin[k + 1] - 1; i < cut->begin[k + 1]; i++, j--) {
            turned->slot[i] = cut->slot[j];
            differs |= s->alike[cut->slot[i]] != s->alike[cut->slot[j]];
        }
    return differs;
}

/* ---- every order: where KV heads do not fall on shares, a rank in the middle has more than one at the end ---- */

static void swap_slots(uint8_t *x, uint8_t *y)
{
    uint8_t slot = *x;
    *x = *y;
    *y = slot;
}

static void reverse(uint8_t *slot, uint32_t n)
{
    for (uint32_t i = 0; i + 1 < n - i; i++) swap_slots(&slot[i], &slot[n - 1 - i]);
}

/* The next order of n slots, those alike not told apart; false: it is the first one again. */
static bool next_order(const struct shaping *s, uint8_t *slot, uint32_t n)
{
    uint32_t i = n - 1, j = i;
    while (i > 0 && s->alike[slot[i - 1]] >= s->alike[slot[i]]) i--;
    if (i > 0) {
        while (s->alike[slot[j]] <= s->alike[slot[i - 1]]) j--;
        swap_slots(&slot[i - 1], &slot[j]);
    }
    reverse(&slot[i], n - i);
    return i > 0;
}

static bool next_cut(const struct shaping *s, struct cut *cut)
{
    for (uint32_t k = 0; k < cut->stages; k++)
        if (next_order(s, &cut->slot[cut->begin[k]], cut->begin[k + 1] - cut->begin[k])) return true;
    return false;
}

/* The same devices in each stage, in the first order. */
static struct cut first_cut(const struct shaping *s, const struct cut *cut)
{
    struct cut first = *cut;
    for (uint32_t k = 0; k < cut->stages; k++)
        for (uint32_t i = cut->begin[k] + 1; i < cut->begin[k + 1]; i++)
            for (uint32_t j = i; j > cut->begin[k] && s->alike[first.slot[j - 1]] > s->alike[first.slot[j]];
                 j--)
                swap_slots(&first.slot[j - 1], &first.slot[j]);
    return first;
}

/* Counted up to `enough`. */
static uint64_t orders_of(const struct shaping *s, const struct cut *cut, uint64_t enough)
{
    struct cut at = first_cut(s, cut);
    uint64_t n = 1;
    while (n < enough && next_cut(s, &at)) n++;
    return n;
}

static void try_orders(struct shaping *s, const struct cut *cut)
{
    uint16_t width[GW_SHAPE_RANKS_MAX];
    struct cut at = first_cut(s, cut);
    do try_widths(s, &at, 0, 0, s->in->model->shares, width, 0);
    while (next_cut(s, &at));
}

void shaping_try_cut(struct shaping *s, const struct cut *cut)
{
    uint16_t width[GW_SHAPE_RANKS_MAX];
    struct cut turned;
    uint64_t ways = s->thorough ? ways_of(s, cut) : 0, most = ways ? s->ways / ways : 0;
    s->all_groups = s->thorough && ways <= s->ways;
    if (s->all_groups && most > 0 && orders_of(s, cut, most + 1) <= most) {
        try_orders(s, cut);
        return;
    }
    if (s->all_widths || s->all_groups)
        try_widths(s, cut, 0, 0, s->in->model->shares, width, 0);
    else
        for (enum balance by = 0; by < (s->uniform ? 1 : BALANCES); by++) try_balance(s, cut, by);
    if (s->all_groups && most >= 2 && turn_around(s, cut, &turned))
        try_widths(s, &turned, 0, 0, s->in->model->shares, width, 0);
}
