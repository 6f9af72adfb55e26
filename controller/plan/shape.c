#include "controller/plan/shape.h"

#include "controller/plan/shape_internal.h"

/* What a cut may be given at least to be tried at all, where all of them are many: four balances in two ways. */
#define WAYS_MIN 8

void shaping_evaluate(struct shaping *s)
{
    struct gw_layout_rank ranks[GW_SHAPE_RANKS_MAX];
    if (*s->budget == 0) return;
    --*s->budget;
    for (uint32_t i = 0; i < s->now.ranks_len; i++) {
        ranks[i] = s->now.ranks[i];
        ranks[i].device = s->devices[ranks[i].device];
    }
    if (gw_cost_pipeline(s->in, s->headroom, ranks, s->now.ranks_len, &s->now.cost)) shaping_keep(s);
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
    s->all_widths = s->n <= GW_SHAPE_WIDTHS && !s->uniform && s->in->model->shares <= GW_SHAPE_WIDTHS_SHARES;
    shaping_all_cuts(s, shaping_try_cut);
    if (s->kept->len || s->all_widths || s->in->model->shares > GW_SHAPE_WIDTHS_SHARES) return;
    s->all_widths = true;
    shaping_all_cuts(s, shaping_try_cut);
}

static void count_cut(struct shaping *s, const struct cut *cut)
{
    (void)cut;
    s->cuts++;
}

/* Is every cut tried? Sets what each may be given. */
static bool are_few(struct shaping *s)
{
    if (s->n > (s->thorough ? GW_SHAPE_FULL_THOROUGH : GW_SHAPE_FULL)) return false;
    if (!s->thorough) return true;
    shaping_all_cuts(s, count_cut);
    s->ways = s->cuts ? *s->budget / s->cuts : 0;
    return s->n <= GW_SHAPE_FULL || s->ways >= WAYS_MIN;
}

static void search_shapes(struct shaping *s)
{
    for (uint32_t i = 1; i < s->n; i++) {
        s->uniform &= shaping_type(s, i) == shaping_type(s, 0);
        if (shaping_type(s, i)->profile != shaping_type(s, 0)->profile) return;
    }
    find_alike(s);
    if (!may_fit(s)) return;
    if (are_few(s))
        try_few(s);
    else
        shaping_even_cuts(s);
    shaping_polish(s);
}

/* The first value is that at no load. */
static void put_fastest_first(struct gw_shape_set *set, const struct shaping *s)
{
    uint32_t fastest = 0;
    for (uint32_t i = 1; i < set->len; i++)
        if (s->kept_as[i].value[0] < s->kept_as[fastest].value[0]) fastest = i;
    if (fastest == 0) return;
    struct gw_shape first = set->shapes[fastest];
    set->shapes[fastest] = set->shapes[0];
    set->shapes[0] = first;
}

void gw_shape_search(const struct gw_plan_input *in, double headroom, const struct gw_shape_task *task,
                     uint64_t *budget, struct gw_shape_set *out)
{
    uint64_t may = task->thorough && task->thorough < *budget ? task->thorough : *budget, left = may;
    struct shaping s = {.in = in,
                        .headroom = headroom,
                        .devices = task->devices,
                        .n = task->n,
                        .even = gw_plan_even(in->model),
                        .uniform = true,
                        .thorough = task->thorough > 0,
                        .fair_rps = task->fair_rps,
                        .budget = &left,
                        .kept = out};
    out->len = 0;
    if (task->n < 1 || task->n > GW_SHAPE_RANKS_MAX) return;
    search_shapes(&s);
    put_fastest_first(out, &s);
    *budget -= may - left;
}
