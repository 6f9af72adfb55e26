#include "tests/sim/sim.h"

#include <string.h>

#define DEBOUNCE_MAX_MS 50
#define LATENCY_MAX_MS  300 /* until a plan is made */
#define STAGES_MAX      3
#define WIDTH_MAX       4
#define BAD_PLAN        40 /* 1 in so many has a mistake */

/* ---- when ---- */

static void push(struct sim *sim, enum sim_event_type type, int64_t max_ms)
{
    int64_t at_us = sim->now_us + sim_between(sim, 0, max_ms) * GW_US_PER_MS;
    sim_queue_push(sim, (struct sim_event){.at_us = at_us, .type = type});
}

static void want(struct sim *sim, int64_t max_ms)
{
    sim->plan_again = sim->plan_busy;
    if (sim->plan_busy) return;
    sim->plan_busy = true;
    push(sim, SIM_PLAN_BEGIN, max_ms);
}

void sim_plan_wanted(struct sim *sim, uint64_t fleet)
{
    sim_trace(sim, "core   wants a plan for fleet %llu", (unsigned long long)fleet);
    if (fleet <= sim->plan_fleet || fleet != gw_core_fleet(sim->core))
        sim_fail(sim, "fleet %llu after %llu", (unsigned long long)fleet,
                 (unsigned long long)sim->plan_fleet);
    sim->plan_fleet = fleet;
    want(sim, DEBOUNCE_MAX_MS);
}

void sim_plan_force(struct sim *sim)
{
    sim->plan_anew = true;
    want(sim, 0);
}

/* ---- what there is ---- */

static bool usable(const struct gw_core_worker_view *w, const struct gw_core_device_view *d)
{
    return d->proto > 1 && strcmp(w->state, "up") == 0;
}

uint32_t sim_plan_devices(struct sim *sim, struct sim_device out[SIM_WORKERS_MAX])
{
    struct gw_core_worker_view workers[2 * SIM_WORKERS_MAX];
    struct gw_core_device_view devices[2 * SIM_WORKERS_MAX];
    size_t len = gw_core_workers(sim->core, workers, 2 * SIM_WORKERS_MAX);
    if (gw_core_devices(sim->core, devices, 2 * SIM_WORKERS_MAX) != len)
        sim_fail(sim, "as many workers as devices?");
    uint32_t n = 0;
    for (size_t i = 0; i < len && n < SIM_WORKERS_MAX; i++) {
        const struct sim_link *l = sim_link_find(sim, devices[i].link);
        if (!usable(&workers[i], &devices[i])) continue;
        if (strcmp(l->worker, workers[i].worker) != 0) sim_fail(sim, "workers and devices differ in order");
        out[n] = (struct sim_device){.view = devices[i], .profile = l->profile, .pipeline = UINT32_MAX};
        memcpy(out[n].instance, workers[i].instance, sizeof out[n].instance);
        if (workers[i].generation) out[n].pipeline = workers[i].pipeline;
        n++;
    }
    return n;
}

void sim_plan_add(struct sim *sim, uint64_t link, uint32_t pipeline, uint16_t stage,
                  struct gw_cell_rect cells)
{
    struct gw_core_plan *plan = &sim->plan;
    if (plan->ranks_len == SIM_WORKERS_MAX) return;
    sim->plan_ranks[plan->ranks_len++] = (struct gw_core_plan_rank){link, pipeline, stage, cells};
}

/* ---- random layouts ---- */

/* Numbers of one layout as it grows. */
struct draft {
    struct sim_device devices[SIM_WORKERS_MAX];
    uint32_t len, pipelines;
};

static struct sim_device *device_of(struct draft *d, uint64_t link)
{
    for (uint32_t i = 0; i < d->len; i++)
        if (d->devices[i].view.link == link) return &d->devices[i];
    return NULL;
}

/* Keeps what is there if all its workers may be used. */
static void keep(struct sim *sim, struct draft *d, const struct gw_core_pipeline_view *v)
{
    for (uint32_t i = 0; i < v->ranks_len; i++) {
        const struct sim_device *device = device_of(d, v->ranks[i].link);
        if (!device || device->taken) return;
    }
    for (uint32_t i = 0; i < v->ranks_len; i++) {
        device_of(d, v->ranks[i].link)->taken = true;
        sim_plan_add(sim, v->ranks[i].link, d->pipelines, v->ranks[i].stage, v->ranks[i].cells);
    }
    d->pipelines++;
}

static void keep_all(struct sim *sim, struct draft *d)
{
    static struct gw_core_pipeline_view v; /* 10 KiB, filled in anew each time */
    for (size_t i = 0; gw_core_pipeline(sim->core, i, &v); i++)
        if (!sim_chance(sim, 8)) keep(sim, d, &v);
}

/* Cuts [0, whole) into n parts, none empty, anyhow: cuts[0] = 0 … cuts[n] = whole. */
static void cut(struct sim *sim, uint32_t whole, uint32_t n, uint16_t *cuts)
{
    cuts[0] = 0;
    for (uint32_t i = 1; i < n; i++)
        cuts[i] = (uint16_t)sim_between(sim, cuts[i - 1] + 1, (int64_t)(whole - (n - i)));
    cuts[n] = (uint16_t)whole;
}

static uint32_t smaller(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* The shape of one pipeline: widths of its stages, at least ranks_min ranks and at most `room`. 0 stages: no luck. */
static uint32_t draw_shape(struct sim *sim, uint32_t room, uint32_t widths[STAGES_MAX])
{
    uint32_t stages = (uint32_t)sim_between(sim, 1, smaller(sim->config.groups, STAGES_MAX)), ranks = 0;
    for (uint32_t k = 0; k < stages; k++) {
        widths[k] = (uint32_t)sim_between(sim, 1, smaller(sim->config.shares, WIDTH_MAX));
        ranks += widths[k];
    }
    return ranks >= sim->ranks_min && ranks <= room ? stages : 0;
}

/* What always fits: one stage of ranks_min ranks (see configure: that many shares there are). */
static uint32_t plain_shape(const struct sim *sim, uint32_t widths[STAGES_MAX])
{
    widths[0] = sim->ranks_min;
    return 1;
}

static struct sim_device *free_device(struct sim *sim, struct draft *d, uint32_t profile)
{
    uint32_t start = (uint32_t)gw_rng_below(&sim->rng, d->len);
    for (uint32_t i = 0; i < d->len; i++) {
        struct sim_device *device = &d->devices[(start + i) % d->len];
        if (!device->taken && device->profile == profile) return device;
    }
    return NULL;
}

static void add_pipeline(struct sim *sim, struct draft *d, uint32_t profile, const uint32_t *widths,
                         uint32_t stages)
{
    uint16_t groups[STAGES_MAX + 1], shares[SIM_SHARES_MAX + 1];
    cut(sim, sim->config.groups, stages, groups);
    for (uint16_t k = 0; k < stages; k++) {
        cut(sim, sim->config.shares, widths[k], shares);
        for (uint32_t i = 0; i < widths[k]; i++) {
            struct sim_device *device = free_device(sim, d, profile);
            device->taken = true;
            sim_plan_add(sim, device->view.link, d->pipelines, k,
                         (struct gw_cell_rect){groups[k], groups[k + 1], shares[i], shares[i + 1]});
        }
    }
    d->pipelines++;
}

static uint32_t free_devices(const struct draft *d, uint32_t profile)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < d->len; i++) n += !d->devices[i].taken && d->devices[i].profile == profile;
    return n;
}

/* Fills what is free of one profile; now and then some stay spare, but not if they are needed. */
static void fill(struct sim *sim, struct draft *d, uint32_t profile)
{
    uint32_t widths[STAGES_MAX], room;
    bool serves = false;
    for (uint32_t i = 0; i < d->len; i++)
        serves = serves || (d->devices[i].taken && d->devices[i].profile == profile);
    while ((room = free_devices(d, profile)) >= sim->ranks_min) {
        if (serves && sim_chance(sim, 4)) return;
        uint32_t stages = draw_shape(sim, room, widths);
        if (stages == 0) stages = plain_shape(sim, widths);
        add_pipeline(sim, d, profile, widths, stages);
        serves = true;
    }
}

static void run_random(struct sim *sim)
{
    struct draft d = {.len = sim_plan_devices(sim, d.devices)};
    if (d.len == 0) return;
    if (!sim->plan_anew && !sim_chance(sim, 4)) keep_all(sim, &d);
    for (uint32_t p = 1; p <= sim->profiles; p++) fill(sim, &d, p);
}

/* A mistake of the planner's own. */
static void spoil(struct sim *sim)
{
    struct gw_core_plan *plan = &sim->plan;
    if (plan->ranks_len == 0) return;
    struct gw_core_plan_rank *r = &sim->plan_ranks[gw_rng_below(&sim->rng, plan->ranks_len)];
    switch (gw_rng_below(&sim->rng, 4)) {
    case 0: r->link = sim->links_len + 1; break;
    case 1: r->link = sim->plan_ranks[0].link; break;
    case 2: r->cells.s1--; break;
    default: r->stage++;
    }
}

/* ---- events ---- */

static void begin(struct sim *sim)
{
    sim->plan = (struct gw_core_plan){.fleet = gw_core_fleet(sim->core), .ranks = sim->plan_ranks};
    if (sim->planner == SIM_PLANNER_REAL && !sim->plan_anew)
        sim_planner_run(sim);
    else
        run_random(sim);
    sim->plan_anew = false;
    if (sim->now_us < sim->faults_end_us && sim_chance(sim, BAD_PLAN)) spoil(sim);
    push(sim, SIM_PLAN_DONE, LATENCY_MAX_MS);
}

static void done(struct sim *sim)
{
    struct gw_event e = {.type = GW_EV_PLAN, .plan = &sim->plan};
    uint64_t epoch = gw_core_epoch(sim->core);
    sim->plans++;
    sim_trace(sim, "plan   of %u ranks for fleet %llu", sim->plan.ranks_len,
              (unsigned long long)sim->plan.fleet);
    sim_pipes_plan(sim, &sim->plan);
    sim->plan_busy = false;
    sim_step(sim, &e);
    if (gw_core_epoch(sim->core) != epoch + 1) sim_fail(sim, "a plan is an epoch");
    if (!sim->plan_again) return;
    sim->plan_again = false;
    want(sim, DEBOUNCE_MAX_MS);
}

void sim_on_plan_event(struct sim *sim, const struct sim_event *e)
{
    if (e->type == SIM_PLAN_BEGIN)
        begin(sim);
    else
        done(sim);
}
