#include "controller/capacity_need.h"

#include <stdlib.h>

gw_err_t gw_capacity_need_create(struct gw_layout_job *seen, const struct gw_preemptions *preemptions,
                                 struct gw_capacity_need **out)
{
    struct gw_capacity_need *n = calloc(1, sizeof *n);
    if (!n) return GW_ERR_MEMORY;
    n->seen = seen;
    n->preemptions = *preemptions;
    *out = n;
    return GW_OK;
}

void gw_capacity_need_destroy(struct gw_capacity_need *n)
{
    if (!n) return;
    gw_layout_job_destroy(n->seen);
    free(n);
}

/* Instances of one type are alike: the largest shows what a whole one has (others may have lost a worker). Prices per type
 * are not known here: where all are equal, the fewest instances win. */
static uint32_t describe_types(struct gw_plan_fleet *f)
{
    uint32_t most = 1;
    for (uint32_t t = 0; t < f->types_len; t++) f->types[t].price_usd_h = 1;
    for (uint32_t i = 0; i < f->instances_len; i++) {
        const struct gw_plan_instance *in = &f->instances[i];
        struct gw_plan_type *type = &f->types[f->devices[in->first_device].type];
        if (in->devices > type->instance_devices) type->instance_devices = in->devices;
        if (in->devices > most) most = in->devices;
    }
    return most;
}

static uint32_t ranks_of(const struct gw_layout_spec *spec)
{
    uint32_t n = 0;
    for (uint32_t k = 0; k < spec->kinds_len; k++) n += spec->kinds[k].copies * spec->kinds[k].ranks_len;
    return n;
}

/* The memory that is kept free is for the loss of one instance of those needed, however many there are now: else more
 * instances would need less, and fewer more. */
static gw_err_t run_load(struct gw_capacity_need *n, const struct gw_plan_input *in)
{
    const struct gw_score nothing_serves = {0};
    struct gw_wish bare, wish;
    TRY(gw_wish_make(in, 0, &nothing_serves, &n->preemptions, &bare));
    wish = bare;
    if (!bare.impossible && bare.instances > 1) {
        double headroom = 1.0 / bare.instances;
        if (headroom > GW_COST_HEADROOM_MAX) headroom = GW_COST_HEADROOM_MAX;
        TRY(gw_wish_make(in, headroom, &nothing_serves, &n->preemptions, &wish));
    }
    n->instances = wish.impossible ? bare.instances : wish.instances;
    n->margin = bare.margin;
    return GW_OK;
}

static gw_err_t run(struct gw_capacity_need *n)
{
    struct gw_layout_job *job = n->seen;
    TRY(gw_layout_fleet_make(&job->seen, &job->model, &job->fleet));
    struct gw_plan_fleet *f = &job->fleet.plan;
    if (f->devices_len == 0) return GW_OK;
    uint32_t each = describe_types(f);
    if (job->spec.mode == GW_LAYOUT_SHAPE) {
        n->instances = (ranks_of(&job->spec) + each - 1) / each;
        return GW_OK;
    }
    const struct gw_plan_input in = {f, &job->model, &job->load};
    return run_load(n, &in);
}

void gw_capacity_need_run(struct gw_capacity_need *n)
{
    n->err = run(n);
}
