#include "controller/plan/shape.h"

enum balance { BY_BANDWIDTH, BY_MIX, BY_FLOPS, BY_MEMORY, BALANCES };

/* What the places are for. Shapes are compared at the same rate, for at the same load factor the one with less
 * capacity would have less to do. */
enum place {
    FAST_IDLE,
    FAST_FAIR,
    FAST_ALL,
    LARGEST
}; /* at no load, at its part of the arrivals, at all of them */
_Static_assert(LARGEST + 1 == GW_SHAPES_KEPT, "a place for each");

struct search {
    const struct gw_plan_input *in;
    double headroom;
    const uint32_t *devices;
    uint32_t n;
    bool uniform; /* one type: all balances are the same */
    uint64_t *budget;
    double rate[LARGEST];        /* per place: requests per second */
    double best[GW_SHAPES_KEPT]; /* per place: seconds, or 1 / capacity; 0 = empty */
    struct gw_shape kept[GW_SHAPES_KEPT];
    struct gw_shape now;
};

/* Stages as runs of the list: stage k is [begin[k], begin[k + 1]). */
struct cut {
    uint32_t stages, begin[GW_SHAPE_RANKS_MAX + 1];
};

static const struct gw_plan_type *type_of(const struct search *s, uint32_t slot)
{
    return &s->in->fleet->types[s->in->fleet->devices[s->devices[slot]].type];
}

static uint32_t zone_of(const struct search *s, uint32_t slot)
{
    return s->in->fleet->instances[s->in->fleet->devices[s->devices[slot]].instance].zone;
}

/* Batch at which a mix of decode and prefill is balanced: between one request and a full batch. */
#define MIX_BATCH 16.0

static double speed_of(const struct search *s, uint32_t slot, enum balance by)
{
    const struct gw_plan_type *t = type_of(s, slot);
    const struct gw_plan_load *l = s->in->load;
    double bytes = t->bytes_s / t->decode_factor, flop = t->flop_s / t->prefill_factor;
    switch (by) {
    case BY_BANDWIDTH: return bytes;
    case BY_FLOPS: return flop;
    case BY_MEMORY: return (double)t->memory_bytes;
    default:
        return 1 / (l->output_mean / MIX_BATCH / bytes +
                    (l->prompt_mean + l->output_mean) * 2 / s->in->model->weight_bytes / flop);
    }
}

/* ---- shares to the ranks of a stage, groups to stages ---- */

/* Widths of the ranks on slots [first, first + n): each has one share, then the one that would end first gets the
 * next. */
static void share_out(const struct search *s, uint32_t first, uint32_t n, enum balance by, uint16_t *width)
{
    double speed[GW_SHAPE_RANKS_MAX];
    for (uint32_t i = 0; i < n; i++) {
        speed[i] = speed_of(s, first + i, by);
        width[i] = 1;
    }
    for (uint32_t left = s->in->model->shares - n; left > 0; left--) {
        uint32_t best = 0;
        for (uint32_t i = 1; i < n; i++)
            if ((width[i] + 1) * speed[best] < (width[best] + 1) * speed[i]) best = i;
        width[best]++;
    }
}

/* The cells of a rank if its stage, the k-th of K, had g groups. */
static struct gw_cell_rect with_groups(const struct search *s, struct gw_cell_rect c, uint32_t g, bool first,
                                       bool last)
{
    uint32_t groups = s->in->model->groups, g0 = first ? 0 : last ? groups - g : 1;
    c.g0 = (uint16_t)g0;
    c.g1 = (uint16_t)(g0 + g);
    return c;
}

static bool fits(const struct search *s, const struct gw_layout_rank *r, uint32_t g, bool first, bool last)
{
    const struct gw_plan_load *l = s->in->load;
    struct gw_cell_rect c = with_groups(s, r->cells, g, first, last);
    double kv = (double)gw_plan_kv_token_bytes(s->in->model, c) * (l->prompt_p99 + l->output_p99);
    double room = (double)type_of(s, r->device)->memory_bytes * (1 - s->headroom);
    return (double)gw_plan_weight_bytes(s->in->model, c) + kv <= room;
}

/* The most groups, at most limit, that a rank can hold. */
static uint32_t groups_that_fit(const struct search *s, const struct gw_layout_rank *r, uint32_t limit,
                                bool first, bool last)
{
    uint32_t low = 0, high = limit;
    while (low < high) {
        uint32_t g = (low + high + 1) / 2;
        if (fits(s, r, g, first, last))
            low = g;
        else
            high = g - 1;
    }
    return low;
}

/* A stage with g groups takes fixed + g * each (relative seconds), and has room for `most` groups. */
struct stage_need {
    double fixed, each;
    uint32_t most;
};

static struct stage_need need_of(const struct search *s, const struct gw_layout_rank *ranks, uint32_t n,
                                 uint32_t stages, enum balance by)
{
    const struct gw_plan_model *m = s->in->model;
    bool first = ranks->stage == 0, last = ranks->stage + 1u == stages;
    struct stage_need need = {.most = m->groups - stages + 1};
    for (uint32_t i = 0; i < n; i++) {
        struct gw_cell_rect whole = with_groups(s, ranks[i].cells, m->groups, true, true);
        double tables = (double)gw_plan_table_bytes(m, whole), speed = speed_of(s, ranks[i].device, by);
        double each = ((double)gw_plan_weight_bytes(m, whole) - tables) / m->groups / speed;
        double fixed = last ? tables / (m->tied ? 1 : 2) / speed : 0;
        if (fixed > need.fixed) need.fixed = fixed;
        if (each > need.each) need.each = each;
        /* the same rank again: no need to look at its memory twice */
        bool like_before =
            i && type_of(s, ranks[i].device) == type_of(s, ranks[i - 1].device) &&
            ranks[i].cells.s1 - ranks[i].cells.s0 <= ranks[i - 1].cells.s1 - ranks[i - 1].cells.s0;
        if (!like_before) need.most = groups_that_fit(s, &ranks[i], need.most, first, last);
    }
    return need;
}

/* Deals all groups to stages, each time to the one that would then end first. False if memory is short. */
static bool deal_groups(const struct search *s, const struct stage_need *need, uint32_t stages,
                        uint16_t *groups)
{
    for (uint32_t k = 0; k < stages; k++) {
        if (need[k].most < 1) return false;
        groups[k] = 1;
    }
    for (uint32_t left = s->in->model->groups - stages; left > 0; left--) {
        uint32_t best = stages;
        double best_s = 0;
        for (uint32_t k = 0; k < stages; k++) {
            double t = need[k].fixed + (groups[k] + 1) * need[k].each;
            if (groups[k] < need[k].most && (best == stages || t < best_s)) {
                best = k;
                best_s = t;
            }
        }
        if (best == stages) return false;
        groups[best]++;
    }
    return true;
}

/* ---- one shape, evaluated ---- */

static void keep(struct search *s, uint32_t place, double value)
{
    if (s->best[place] > 0 && s->best[place] <= value) return;
    s->best[place] = value;
    s->kept[place] = s->now;
}

/* Costs s->now (ranks by slot), unless the budget is spent. */
static void evaluate(struct search *s)
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

static void set_groups(struct search *s, const uint16_t *groups)
{
    uint16_t begin[GW_SHAPE_RANKS_MAX + 1] = {0};
    for (uint32_t k = 0; k < s->now.stages; k++) begin[k + 1] = (uint16_t)(begin[k] + groups[k]);
    for (uint32_t i = 0; i < s->now.ranks_len; i++) {
        struct gw_layout_rank *r = &s->now.ranks[i];
        r->cells.g0 = begin[r->stage];
        r->cells.g1 = begin[r->stage + 1];
    }
}

/* Takes the devices of stage k into s->now with their widths; returns how many. */
static uint32_t place_stage(struct search *s, const struct cut *cut, uint32_t k, enum balance by)
{
    uint16_t width[GW_SHAPE_RANKS_MAX], share = 0;
    uint32_t n = cut->begin[k + 1] - cut->begin[k], shares = s->in->model->shares;
    if (n > shares) n = shares;
    share_out(s, cut->begin[k], n, by, width);
    for (uint32_t i = 0; i < n; i++) {
        struct gw_layout_rank *r = &s->now.ranks[s->now.ranks_len++];
        *r = (struct gw_layout_rank){.device = cut->begin[k] + i, .stage = (uint16_t)k};
        r->cells.s0 = share;
        r->cells.s1 = share = (uint16_t)(share + width[i]);
    }
    return n;
}

static void try_balance(struct search *s, const struct cut *cut, enum balance by)
{
    struct stage_need need[GW_SHAPE_RANKS_MAX];
    uint16_t groups[GW_SHAPE_RANKS_MAX];
    s->now.ranks_len = 0;
    s->now.stages = (uint16_t)cut->stages;
    for (uint32_t k = 0; k < cut->stages; k++) {
        uint32_t first = s->now.ranks_len, n = place_stage(s, cut, k, by);
        need[k] = need_of(s, &s->now.ranks[first], n, cut->stages, by);
    }
    if (!deal_groups(s, need, cut->stages, groups)) return;
    set_groups(s, groups);
    evaluate(s);
}

static void try_cut(struct search *s, const struct cut *cut)
{
    for (uint32_t k = 0; k < cut->stages; k++)
        if (zone_of(s, cut->begin[k]) != zone_of(s, cut->begin[k + 1] - 1)) return;
    for (enum balance by = 0; by < (s->uniform ? 1 : BALANCES); by++) try_balance(s, cut, by);
}

/* ---- cuts of the list into stages ---- */

/* Bit i of mask: a stage ends behind slot i. */
static void try_all_cuts(struct search *s)
{
    for (uint32_t mask = 0; mask < 1u << (s->n - 1); mask++) {
        struct cut cut = {.stages = 1};
        for (uint32_t i = 0; i + 1 < s->n; i++)
            if (mask >> i & 1) cut.begin[cut.stages++] = i + 1;
        cut.begin[cut.stages] = s->n;
        if (cut.stages <= s->in->model->groups) try_cut(s, &cut);
    }
}

/* K stages over runs that begin at run[0..n): with K >= n each run gets stages by its length, else neighbours are
 * merged, K parts of about the same length. run[n] is the list's end. */
static void try_runs(struct search *s, const uint32_t *run, uint32_t n, uint32_t stages)
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
    for (k = 0; k < stages; k++)
        if (cut.begin[k] >= cut.begin[k + 1]) return;
    try_cut(s, &cut);
}

enum run_kind { RUN_ZONE, RUN_TYPE, RUN_INSTANCE, RUN_KINDS };

static bool run_ends(const struct search *s, uint32_t slot, enum run_kind kind)
{
    const struct gw_plan_device *d = s->in->fleet->devices;
    if (zone_of(s, slot - 1) != zone_of(s, slot)) return true;
    if (kind == RUN_TYPE) return type_of(s, slot - 1) != type_of(s, slot);
    return kind == RUN_INSTANCE && d[s->devices[slot - 1]].instance != d[s->devices[slot]].instance;
}

static void try_even_cuts(struct search *s)
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

static void hand_out(const struct search *s, struct gw_shape_set *out)
{
    out->len = 0;
    for (uint32_t i = 0; i < GW_SHAPES_KEPT; i++) {
        bool there = s->best[i] <= 0;
        for (uint32_t j = 0; j < out->len; j++) there |= same_shape(&out->shapes[j], &s->kept[i]);
        if (!there) out->shapes[out->len++] = s->kept[i];
    }
}

void gw_shape_search(const struct gw_plan_input *in, double headroom, const uint32_t *devices, uint32_t n,
                     uint64_t *budget, struct gw_shape_set *out)
{
    double arrivals = in->load->arrival_rps;
    struct search s = {
        .in = in, .headroom = headroom, .devices = devices, .n = n, .uniform = true, .budget = budget};
    s.rate[FAST_FAIR] = arrivals * n / in->fleet->devices_len;
    s.rate[FAST_ALL] = arrivals;
    out->len = 0;
    if (n < 1 || n > GW_SHAPE_RANKS_MAX) return;
    for (uint32_t i = 1; i < n; i++) {
        s.uniform &= type_of(&s, i) == type_of(&s, 0);
        if (type_of(&s, i)->profile != type_of(&s, 0)->profile) return;
    }
    if (n <= GW_SHAPE_FULL)
        try_all_cuts(&s);
    else
        try_even_cuts(&s);
    hand_out(&s, out);
}
