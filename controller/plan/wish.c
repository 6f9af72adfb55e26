#include "controller/plan/wish.h"

#include <math.h>
#include <stdlib.h>

#include "controller/plan/shape.h"

#define COUNT_MAX 1e6 /* instances; more is no plan */

/* A fleet of equal new instances of one type. */
struct market {
    struct gw_plan_fleet fleet;
    struct gw_plan_instance instances[GW_SHAPE_RANKS_MAX];
    struct gw_plan_device devices[GW_SHAPE_RANKS_MAX];
    uint32_t list[GW_SHAPE_RANKS_MAX];
};

/* The instance of the fleet that has most devices of the type: what one gets when asking for it. */
static const struct gw_plan_instance *model_instance(const struct gw_plan_fleet *f, uint32_t type)
{
    const struct gw_plan_instance *best = NULL;
    for (uint32_t i = 0; i < f->instances_len; i++) {
        const struct gw_plan_instance *in = &f->instances[i];
        if (f->devices[in->first_device].type == type && (!best || in->devices > best->devices)) best = in;
    }
    return best;
}

static void make_market(const struct gw_plan_fleet *f, uint32_t type, const struct gw_plan_instance *like,
                        struct market *m)
{
    uint32_t each = like->devices < GW_SHAPE_RANKS_MAX ? like->devices : GW_SHAPE_RANKS_MAX;
    m->fleet = *f;
    m->fleet.instances = m->instances;
    m->fleet.devices = m->devices;
    m->fleet.instances_len = m->fleet.devices_len = 0;
    while (m->fleet.devices_len + each <= GW_SHAPE_RANKS_MAX) {
        uint32_t at = m->fleet.instances_len++;
        m->instances[at] = *like;
        m->instances[at].first_device = m->fleet.devices_len;
        m->instances[at].devices = each;
        m->instances[at].doomed_at_s = 0;
        m->instances[at].price_usd_h = f->types[type].price_usd_h * each;
        for (uint32_t d = 0; d < each; d++) {
            uint32_t id = m->fleet.devices_len++;
            m->list[id] = id;
            m->devices[id] =
                (struct gw_plan_device){.instance = at, .index = d, .type = type, .pipeline = GW_PLAN_NONE};
        }
    }
}

/* Half of its capacity: where queues do not show yet. */
static bool keeps_slo(const struct gw_plan_load *load, const struct gw_pipe_cost *c)
{
    struct gw_pipe_promise p = gw_cost_promise(c, load, 0.5);
    return (load->slo_ttft_s <= 0 || p.ttft_p99_s <= load->slo_ttft_s) &&
           (load->slo_tpot_s <= 0 || p.tpot_s <= load->slo_tpot_s);
}

/* The cheapest wish of one type for `missing` requests per second; *best is replaced if it is cheaper. */
static void wish_of_type(const struct gw_plan_input *in, double headroom, uint32_t type, double missing,
                         struct market *m, struct gw_shape_set *set, struct gw_wish *best)
{
    const struct gw_plan_instance *like = model_instance(in->fleet, type);
    if (!like) return;
    make_market(in->fleet, type, like, m);
    struct gw_plan_input market = {&m->fleet, in->model, in->load};
    uint32_t each = m->instances[0].devices;
    for (uint32_t n = 1; n * each <= m->fleet.devices_len; n++) {
        uint64_t budget = GW_WISH_BUDGET;
        gw_shape_search(&market, headroom, m->list, n * each, &budget, set);
        for (uint32_t i = 0; i < set->len; i++) {
            const struct gw_pipe_cost *c = &set->shapes[i].cost;
            double rps = keeps_slo(in->load, c) ? c->capacity_rps : 0;
            double count = ceil(missing / rps);
            if (!(count >= 1 && count * n < COUNT_MAX)) continue;
            double usd = count * n * m->instances[0].price_usd_h;
            if (!best->impossible && usd >= best->usd_h) continue;
            *best = (struct gw_wish){.instances = (uint32_t)count * n,
                                     .devices = each,
                                     .type = type,
                                     .pipelines = (uint32_t)count,
                                     .usd_h = usd};
        }
    }
}

gw_err_t gw_wish_make(const struct gw_plan_input *in, double headroom, const struct gw_score *score,
                      const struct gw_preemptions *preemptions, struct gw_wish *out)
{
    double away =
        preemptions ? preemptions->per_instance_h * preemptions->replace_s / 3600 * GW_WISH_CLUSTER : 0;
    double margin = away < 1 ? away : 1;
    double have =
        score->promise == GW_PROMISE_RATE ? 0 : score->throughput_rps; /* what breaks the SLO is no help */
    double missing = in->load->arrival_rps / GW_COST_RHO_MAX * (1 + margin) - have;
    struct gw_wish wish = {0};
    if (missing > 0 || have <= 0) {
        struct market *m = malloc(sizeof *m);
        struct gw_shape_set *set = malloc(sizeof *set);
        wish.impossible = true;
        for (uint32_t t = 0; m && set && t < in->fleet->types_len; t++)
            wish_of_type(in, headroom, t, missing > 0 ? missing : 1e-9, m, set, &wish);
        bool memory = m && set;
        free(m);
        free(set);
        if (!memory) return GW_ERR_MEMORY;
    }
    wish.margin = margin;
    wish.on_demand = margin > GW_WISH_FALLBACK;
    *out = wish;
    return GW_OK;
}
