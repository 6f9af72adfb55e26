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

static void make_market(const struct gw_plan_fleet *f, uint32_t type, struct market *m)
{
    const struct gw_plan_type *t = &f->types[type];
    uint32_t each = t->instance_devices ? t->instance_devices : 1;
    if (each > GW_SHAPE_RANKS_MAX) each = GW_SHAPE_RANKS_MAX;
    m->fleet = *f;
    m->fleet.instances = m->instances;
    m->fleet.devices = m->devices;
    m->fleet.instances_len = m->fleet.devices_len = m->fleet.apart_len = 0;
    while (m->fleet.devices_len + each <= GW_SHAPE_RANKS_MAX) {
        uint32_t at = m->fleet.instances_len++;
        m->instances[at] = (struct gw_plan_instance){.first_device = m->fleet.devices_len,
                                                     .devices = each,
                                                     .intra = t->intra,
                                                     .inter = t->inter,
                                                     .price_usd_h = t->price_usd_h * each};
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

/* The cheapest wish of one type for `missing` requests per second; *best is replaced if it is cheaper. slo: only shapes that
 * keep it count. */
static void wish_of_type(const struct gw_plan_input *in, double headroom, uint32_t type, double missing,
                         bool slo, struct market *m, struct gw_shape_set *set, struct gw_wish *best)
{
    make_market(in->fleet, type, m);
    struct gw_plan_input market = {&m->fleet, in->model, in->load};
    uint32_t each = m->instances[0].devices;
    for (uint32_t n = 1; n * each <= m->fleet.devices_len; n++) {
        uint64_t budget = GW_WISH_BUDGET;
        struct gw_shape_task task = {.devices = m->list,
                                     .n = n * each,
                                     .fair_rps = in->load->arrival_rps * n / m->fleet.instances_len};
        gw_shape_search(&market, headroom, &task, &budget, set);
        for (uint32_t i = 0; i < set->len; i++) {
            const struct gw_pipe_cost *c = &set->shapes[i].cost;
            double rps = !slo || keeps_slo(in->load, c) ? c->capacity_rps : 0;
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

/* The cheapest of all types; where none keeps the SLO, the cheapest that keeps up with the rate. */
static gw_err_t wish_of_any(const struct gw_plan_input *in, double headroom, double missing,
                            struct gw_wish *wish)
{
    struct market *m = malloc(sizeof *m);
    struct gw_shape_set *set = malloc(sizeof *set);
    gw_err_t err = m && set ? GW_OK : GW_ERR_MEMORY;
    wish->impossible = true;
    for (int slo = 1; err == GW_OK && slo >= 0 && wish->impossible; slo--) {
        for (uint32_t t = 0; t < in->fleet->types_len; t++)
            wish_of_type(in, headroom, t, missing, slo, m, set, wish);
        wish->slo_missed = !slo;
    }
    free(m);
    free(set);
    return err;
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
    /* without load one pipeline is wished for still: somebody may come */
    if (missing > 0 || have <= 0) TRY(wish_of_any(in, headroom, missing > 0 ? missing : 1e-9, &wish));
    wish.margin = margin;
    wish.on_demand = margin > GW_WISH_FALLBACK;
    *out = wish;
    return GW_OK;
}
