#include "controller/plan/shape.h"

#include "controller/plan/shape_internal.h"

/* ---- one shape, evaluated ---- */

static void keep(struct shaping *s, uint32_t place, double value)
{
    if (s->best[place] > 0 && s->best[place] <= value) return;
    s->best[place] = value;
    s->kept[place] = s->now;
}

void shaping_evaluate(struct shaping *s)
{
    struct gw_layout_rank ranks[GW_SHAPE_RANKS_MAX];
    if (*s->budget == 0) return;
    --*s->budget;
    for (uint32_t i = 0; i < s->now.ranks_len; i++) {
        ranks[i] = s->now.ranks[i];
        ranks[i].device = s->devices[ranks[i].device];
    }
    if (!gw_cost_pipeline(s->in, s->headroom, ranks, s->now.ranks_len, &s->now.cost)) return;
    for (enum place i = 0; i < LARGEST; i++) {
        double rho = s->rate[i] / s->now.cost.capacity_rps;
        if (rho <= GW_COST_RHO_MAX) keep(s, i, gw_cost_promise(&s->now.cost, s->in->load, rho).latency_p99_s);
    }
    keep(s, LARGEST, 1 / s->now.cost.capacity_rps);
}

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
        for (enum balance by = 0; by < (s->uniform ? 1 : BALANCES); by++) try_groups(s, by);
        return;
    }
    for (uint32_t w = 1; w + (ranks - 1 - i) <= left; w++) {
        width[at] = (uint16_t)w;
        try_widths(s, cut, k, i + 1, left - w, width, at + 1);
    }
}

static void try_cut(struct shaping *s, const struct cut *cut)
{
    for (uint32_t k = 0; k < cut->stages; k++)
        for (uint32_t i = cut->begin[k] + 1; i < cut->begin[k + 1]; i++)
            if (shaping_zone(s, cut->slot[i]) != shaping_zone(s, cut->slot[i - 1])) return;
    if (s->all_widths) {
        uint16_t width[GW_SHAPE_RANKS_MAX];
        try_widths(s, cut, 0, 0, s->in->model->shares, width, 0);
        return;
    }
    for (enum balance by = 0; by < (s->uniform ? 1 : BALANCES); by++) try_balance(s, cut, by);
}

/* ---- cuts of the list into stages ---- */

/* Slots by stage; false if a stage has none. */
static bool cut_by_stage(const struct shaping *s, const uint32_t *stage_of, struct cut *cut)
{
    uint32_t at = 0;
    cut->stages = 0;
    for (uint32_t i = 0; i < s->n; i++)
        if (stage_of[i] >= cut->stages) cut->stages = stage_of[i] + 1;
    for (uint32_t k = 0; k < cut->stages; k++) {
        cut->begin[k] = at;
        for (uint32_t i = 0; i < s->n; i++)
            if (stage_of[i] == k) cut->slot[at++] = (uint8_t)i;
        if (at == cut->begin[k]) return false;
    }
    cut->begin[cut->stages] = at;
    return true;
}

/* Every way to deal the devices to stages; those alike come in ascending stages. */
static void try_all_cuts(struct shaping *s, uint32_t *stage_of, uint32_t at)
{
    struct cut cut;
    uint32_t from = 0, most = s->n < s->in->model->groups ? s->n : s->in->model->groups;
    if (at == s->n) {
        if (cut_by_stage(s, stage_of, &cut)) try_cut(s, &cut);
        return;
    }
    for (uint32_t i = 0; i < at; i++)
        if (s->alike[i] == s->alike[at]) from = stage_of[i];
    for (uint32_t k = from; k < most; k++) {
        stage_of[at] = k;
        try_all_cuts(s, stage_of, at + 1);
    }
}

/* K stages over runs that begin at run[0..n): with K >= n each run gets stages by its length, else neighbours are
 * merged, K parts of about the same length. run[n] is the list's end. */
static void try_runs(struct shaping *s, const uint32_t *run, uint32_t n, uint32_t stages)
{
    struct cut cut = {.stages = stages};
    uint32_t parts[GW_SHAPE_RANKS_MAX], k = 0;
    for (uint32_t i = 0; i < n; i++) parts[i] = 1;
    for (uint32_t left = stages > n ? stages - n : 0; left > 0; left--) {
        uint32_t best = 0;
        for (uint32_t i = 1; i < n; i++)
            if ((run[i + 1] - run[i]) * (parts[best] + 1) > (run[best + 1] - run[best]) * (parts[i] + 1))
                best = i;
        parts[best]++;
    }
    if (stages < n) {
        for (k = 0; k < stages; k++) cut.begin[k] = run[k * n / stages];
    } else {
        for (uint32_t i = 0; i < n; i++)
            for (uint32_t p = 0; p < parts[i]; p++)
                cut.begin[k++] = run[i] + p * (run[i + 1] - run[i]) / parts[i];
    }
    cut.begin[stages] = s->n;
    for (uint32_t i = 0; i < s->n; i++) cut.slot[i] = (uint8_t)i;
    for (k = 0; k < stages; k++)
        if (cut.begin[k] >= cut.begin[k + 1]) return;
    try_cut(s, &cut);
}

enum run_kind { RUN_ZONE, RUN_TYPE, RUN_INSTANCE, RUN_KINDS };

static bool run_ends(const struct shaping *s, uint32_t slot, enum run_kind kind)
{
    const struct gw_plan_device *d = s->in->fleet->devices;
    if (shaping_zone(s, slot - 1) != shaping_zone(s, slot)) return true;
    if (kind == RUN_TYPE) return shaping_type(s, slot - 1) != shaping_type(s, slot);
    return kind == RUN_INSTANCE && d[s->devices[slot - 1]].instance != d[s->devices[slot]].instance;
}

static void try_even_cuts(struct shaping *s)
{
    uint32_t run[RUN_KINDS][GW_SHAPE_RANKS_MAX + 1], len[RUN_KINDS] = {0};
    for (enum run_kind kind = 0; kind < RUN_KINDS; kind++) {
        run[kind][len[kind]++] = 0;
        for (uint32_t i = 1; i < s->n; i++)
            if (run_ends(s, i, kind)) run[kind][len[kind]++] = i;
        run[kind][len[kind]] = s->n;
    }
    uint32_t most = s->n < s->in->model->groups ? s->n : s->in->model->groups;
    for (uint32_t stages = 1; stages <= most; stages++) {
        try_runs(s, run[RUN_ZONE], len[RUN_ZONE], stages);
        if (len[RUN_TYPE] > len[RUN_ZONE]) try_runs(s, run[RUN_TYPE], len[RUN_TYPE], stages);
        if (len[RUN_INSTANCE] > len[RUN_TYPE] && stages % len[RUN_INSTANCE] != 0)
            try_runs(s, run[RUN_INSTANCE], len[RUN_INSTANCE], stages);
    }
}

static bool same_shape(const struct gw_shape *a, const struct gw_shape *b)
{
    if (a->ranks_len != b->ranks_len) return false;
    for (uint32_t i = 0; i < a->ranks_len; i++)
        if (a->ranks[i].device != b->ranks[i].device || a->ranks[i].stage != b->ranks[i].stage ||
            !gw_rect_equal(a->ranks[i].cells, b->ranks[i].cells))
            return false;
    return true;
}

static void hand_out(const struct shaping *s, struct gw_shape_set *out)
{
    out->len = 0;
    for (uint32_t i = 0; i < GW_SHAPES_KEPT; i++) {
        bool there = s->best[i] <= 0;
        for (uint32_t j = 0; j < out->len; j++) there |= same_shape(&out->shapes[j], &s->kept[i]);
        if (!there) out->shapes[out->len++] = s->kept[i];
    }
}

/* Alike: of one type, in one instance or each alone in instances with equal links. */
static bool are_alike(const struct shaping *s, uint32_t a, uint32_t b)
{
    const struct gw_plan_fleet *f = s->in->fleet;
    uint32_t x = f->devices[s->devices[a]].instance, y = f->devices[s->devices[b]].instance;
    if (shaping_type(s, a) != shaping_type(s, b)) return false;
    if (x == y) return true;
    if (f->instances[x].zone != f->instances[y].zone ||
        f->instances[x].price_usd_h != f->instances[y].price_usd_h ||
        f->instances[x].inter.bytes_s != f->instances[y].inter.bytes_s ||
        f->instances[x].inter.latency_s != f->instances[y].inter.latency_s)
        return false;
    for (uint32_t i = 0; i < s->n; i++) {
        uint32_t other = f->devices[s->devices[i]].instance;
        if ((other == x && i != a) || (other == y && i != b)) return false;
    }
    return true;
}

static void find_alike(struct shaping *s)
{
    for (uint32_t i = 0; i < s->n; i++) {
        s->alike[i] = (uint8_t)i;
        for (uint32_t j = 0; j < i && s->n <= GW_SHAPE_POLISHED; j++)
            if (s->alike[j] == j && are_alike(s, i, j)) {
                s->alike[i] = (uint8_t)j;
                break;
            }
    }
}

/* Is there memory for the weights at all? Most lists that fit nowhere end here. */
static bool may_fit(const struct shaping *s)
{
    const struct gw_plan_model *m = s->in->model;
    struct gw_cell_rect all = {0, (uint16_t)m->groups, 0, (uint16_t)m->shares};
    double memory = 0;
    for (uint32_t i = 0; i < s->n; i++) memory += (double)shaping_type(s, i)->memory_bytes;
    return (double)gw_plan_weight_bytes(m, all) <= memory * (1 - s->headroom);
}

/* Few devices: every cut; and every width too where that is little, or where the balances find nothing that fits. */
static void try_few(struct shaping *s)
{
    uint32_t stage_of[GW_SHAPE_RANKS_MAX] = {0};
    s->all_widths = s->n <= GW_SHAPE_WIDTHS && !s->uniform && s->in->model->shares <= GW_SHAPE_WIDTHS_SHARES;
    try_all_cuts(s, stage_of, 0);
    if (s->best[LARGEST] > 0 || s->all_widths || s->in->model->shares > GW_SHAPE_WIDTHS_SHARES) return;
    s->all_widths = true;
    try_all_cuts(s, stage_of, 0);
}

void gw_shape_search(const struct gw_plan_input *in, double headroom, const uint32_t *devices, uint32_t n,
                     double fair_rps, uint64_t *budget, struct gw_shape_set *out)
{
    struct shaping s = {
        .in = in, .headroom = headroom, .devices = devices, .n = n, .uniform = true, .budget = budget};
    s.even = gw_plan_even(in->model);
    s.rate[FAST_FAIR] = fair_rps;
    s.rate[FAST_ALL] = in->load->arrival_rps;
    out->len = 0;
    if (n < 1 || n > GW_SHAPE_RANKS_MAX) return;
    for (uint32_t i = 1; i < n; i++) {
        s.uniform &= shaping_type(&s, i) == shaping_type(&s, 0);
        if (shaping_type(&s, i)->profile != shaping_type(&s, 0)->profile) return;
    }
    find_alike(&s);
    if (!may_fit(&s)) return;
    if (n <= GW_SHAPE_FULL)
        try_few(&s);
    else
        try_even_cuts(&s);
    shaping_polish(&s);
    hand_out(&s, out);
}
