#include "tests/sim/sim.h"

#include <stdlib.h>
#include <string.h>

#include "controller/plan/planner.h"
#include "tests/lib/plan_fixture.h"

#define BUDGET 2000 /* evaluations: a good layout is not the question here */

/* Four groups, four shares. */
static struct gw_plan_model model(void)
{
    return plan_model(8, 2, 512, 16, 4, 4, 2048, 2000);
}

void sim_planner_configure(struct sim *sim)
{
    struct gw_plan_model m = model();
    sim->config.groups = m.groups;
    sim->config.shares = m.shares;
}

/* A ranks_min-th of the weights, room for KV, and for norms and tables that ranks have twice. */
uint64_t sim_planner_memory(const struct sim *sim)
{
    struct gw_plan_model m = model();
    struct gw_cell_rect all = {0, (uint16_t)m.groups, 0, (uint16_t)m.shares};
    uint64_t weights = gw_plan_weight_bytes(&m, all);
    return weights / sim->ranks_min + (sim->ranks_min == 1 ? weights / 4 : weights / 40);
}

/* One per profile and device name; instances as the workers say. */
struct fleet {
    struct gw_plan_fleet f;
    struct gw_plan_type types[4];
    struct gw_plan_instance instances[SIM_WORKERS_MAX];
    struct gw_plan_device devices[SIM_WORKERS_MAX];
    uint64_t links[SIM_WORKERS_MAX]; /* by device */
    char zones[1][GW_PLAN_NAME_MAX], profiles[2][GW_PLAN_NAME_MAX];
};

static void fill_types(const struct sim *sim, struct fleet *f)
{
    for (uint32_t t = 0; t < 2 * sim->profiles; t++) {
        bool slow = t % 2 == 1;
        f->types[t] = (struct gw_plan_type){.profile = t / 2,
                                            .memory_bytes = sim_planner_memory(sim),
                                            .bytes_s = slow ? 2e10 : 5e10,
                                            .flop_s = slow ? 2e11 : 5e11,
                                            .decode_factor = 1,
                                            .prefill_factor = 1,
                                            .price_usd_h = 1,
                                            .instance_devices = 1,
                                            .intra = {1e10, 1e-5},
                                            .inter = {1e9, 1e-4}};
        snprintf(f->types[t].name, sizeof f->types[t].name, "%s-%u", slow ? "slow" : "fast", t / 2);
    }
    f->f.types_len = 2 * sim->profiles;
}

static void add_device(struct fleet *f, const struct sim_device *d, uint32_t instance)
{
    struct gw_plan_instance *in = &f->instances[instance];
    uint32_t type = 2 * (d->profile - 1) + (strcmp(d->view.device, "slow") == 0);
    uint32_t at = f->f.devices_len++;
    f->links[at] = d->view.link;
    f->devices[at] =
        (struct gw_plan_device){.instance = instance,
                                .index = in->devices++,
                                .type = type,
                                .holds = d->view.holds,
                                .pipeline = d->pipeline == UINT32_MAX ? GW_PLAN_NONE : d->pipeline};
}

/* Devices of one instance lie together. */
static void fill_devices(struct fleet *f, struct sim_device *devices, uint32_t len)
{
    for (uint32_t i = 0; i < len; i++) {
        if (devices[i].taken) continue;
        uint32_t at = f->f.instances_len++;
        f->instances[at] = (struct gw_plan_instance){
            .first_device = f->f.devices_len, .intra = {1e10, 1e-5}, .inter = {1e9, 1e-4}, .price_usd_h = 1};
        memcpy(f->instances[at].id, devices[i].instance, sizeof f->instances[at].id - 1);
        for (uint32_t k = i; k < len; k++) {
            if (devices[k].taken || strcmp(devices[k].instance, devices[i].instance) != 0) continue;
            devices[k].taken = true;
            add_device(f, &devices[k], at);
        }
    }
}

static struct fleet *fleet_create(struct sim *sim)
{
    struct fleet *f = sim_alloc(1, sizeof *f);
    struct sim_device devices[SIM_WORKERS_MAX];
    uint32_t len = sim_plan_devices(sim, devices);
    f->f = (struct gw_plan_fleet){.types = f->types,
                                  .instances = f->instances,
                                  .devices = f->devices,
                                  .zones = f->zones,
                                  .profiles = f->profiles,
                                  .zones_len = 1,
                                  .profiles_len = sim->profiles,
                                  .zone_link = {1e9, 0.001},
                                  .store_bytes_s = 1e9};
    snprintf(f->zones[0], sizeof f->zones[0], "z");
    for (uint32_t p = 0; p < 2; p++) snprintf(f->profiles[p], sizeof f->profiles[p], "sim-%u", p + 1);
    fill_types(sim, f);
    fill_devices(f, devices, len);
    return f;
}

/* More than one pipeline can do, so that it has something to decide. */
static struct gw_plan_load draw_load(struct sim *sim)
{
    return (struct gw_plan_load){.arrival_rps = (double)sim_between(sim, 1, 200),
                                 .prompt_mean = 40,
                                 .prompt_p99 = 80,
                                 .output_mean = 30,
                                 .output_p99 = 64};
}

void sim_planner_run(struct sim *sim)
{
    struct gw_err_ctx ctx = {0};
    struct gw_plan_model m = model();
    struct gw_plan_load load = draw_load(sim);
    struct fleet *f = fleet_create(sim);
    const struct gw_plan_input in = {&f->f, &m, &load};
    const struct gw_planner_options options = {.budget = BUDGET};
    struct gw_plan plan;
    if (f->f.devices_len == 0) {
        free(f);
        return;
    }
    if (gw_planner_run(&in, &options, &plan, &ctx) != GW_OK) {
        sim_fail(sim, "the planner: %s", ctx.text);
        free(f);
        return;
    }
    for (uint32_t i = 0; i < plan.layout.ranks_len; i++) {
        const struct gw_layout_rank *r = &plan.layout.ranks[i];
        sim_plan_add(sim, f->links[r->device], r->pipeline, r->stage, r->cells);
    }
    gw_plan_fini(&plan);
    free(f);
}
