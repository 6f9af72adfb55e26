#include "controller/layout_job.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

static gw_err_t copy_workers(const struct gw_core *core, struct gw_layout_job *job)
{
    size_t n = gw_core_workers(core, NULL, 0);
    job->workers = calloc(n + 1, sizeof *job->workers);
    job->devices = calloc(n + 1, sizeof *job->devices);
    if (!job->workers || !job->devices) return GW_ERR_MEMORY;
    (void)gw_core_workers(core, job->workers, n);
    (void)gw_core_devices(core, job->devices, n);
    job->seen.workers_len = n;
    return GW_OK;
}

static gw_err_t copy_pipelines(const struct gw_core *core, struct gw_layout_job *job)
{
    size_t cap = 0, n = 0;
    for (;; n++) {
        if (n == cap) {
            cap = cap ? 2 * cap : 16;
            struct gw_core_pipeline_view *grown = realloc(job->pipelines, cap * sizeof *grown);
            if (!grown) return GW_ERR_MEMORY;
            job->pipelines = grown;
        }
        if (!gw_core_pipeline(core, n, &job->pipelines[n])) break;
    }
    job->seen.pipelines_len = n;
    return GW_OK;
}

gw_err_t gw_layout_job_create(const struct gw_core *core, int64_t now_us, struct gw_layout_job **out)
{
    struct gw_layout_job *job = calloc(1, sizeof *job);
    if (!job) return GW_ERR_MEMORY;
    gw_err_t err = copy_workers(core, job);
    if (err == GW_OK) err = copy_pipelines(core, job);
    if (err != GW_OK) {
        gw_layout_job_destroy(job);
        return err;
    }
    job->seen.workers = job->workers;
    job->seen.devices = job->devices;
    job->seen.pipelines = job->pipelines;
    job->seen.now_us = now_us;
    job->seen.rates = &job->rates;
    job->fleet_number = gw_core_fleet(core);
    *out = job;
    return GW_OK;
}

void gw_layout_job_destroy(struct gw_layout_job *job)
{
    if (!job) return;
    gw_layout_made_fini(&job->made);
    gw_layout_fleet_fini(&job->fleet);
    free(job->ranks);
    free(job->workers);
    free(job->devices);
    free(job->pipelines);
    free(job);
}

/* The layout in the core's terms: devices are links there. */
static gw_err_t name_links(struct gw_layout_job *job)
{
    const struct gw_layout *l = &job->made.layout;
    job->ranks = calloc(l->ranks_len + 1, sizeof *job->ranks);
    if (!job->ranks) return gw_fail(&job->ctx, GW_ERR_MEMORY, "out of memory");
    for (uint32_t i = 0; i < l->ranks_len; i++)
        job->ranks[i] = (struct gw_core_plan_rank){.link = job->fleet.links[l->ranks[i].device],
                                                   .pipeline = l->ranks[i].pipeline,
                                                   .stage = l->ranks[i].stage,
                                                   .cells = l->ranks[i].cells};
    return GW_OK;
}

/* The load has the profiles that requests wait for. */
static void add_profiles(struct gw_layout_job *job)
{
    const struct gw_plan_fleet *f = &job->fleet.plan;
    for (uint32_t d = 0; d < f->devices_len; d++) {
        uint32_t profile = f->types[f->devices[d].type].profile;
        if (job->workers[job->fleet.worker_of[d]].waited_for && profile < 64)
            job->load.profiles |= 1ull << profile;
    }
}

static uint32_t device_of(const struct gw_layout_job *job, const char *worker)
{
    for (uint32_t d = 0; d < job->fleet.plan.devices_len; d++)
        if (strcmp(job->workers[job->fleet.worker_of[d]].worker, worker) == 0) return d;
    return GW_PLAN_NONE;
}

/* Pairs that are apart now, as far as both are there. */
static void add_apart(struct gw_layout_job *job)
{
    job->fleet.plan.apart = job->apart;
    for (uint32_t i = 0; i < job->aparts.len; i++) {
        const struct gw_apart *p = &job->aparts.pairs[i];
        struct gw_plan_pair pair = {device_of(job, p->worker[0]), device_of(job, p->worker[1])};
        if (p->until_us > job->seen.now_us && pair.a != GW_PLAN_NONE && pair.b != GW_PLAN_NONE)
            job->apart[job->fleet.plan.apart_len++] = pair;
    }
}

static gw_err_t make(struct gw_layout_job *job)
{
    struct gw_err_ctx *ctx = &job->ctx;
    const struct gw_plan_input in = {&job->fleet.plan, &job->model, &job->load};
    gw_err_t err = gw_layout_fleet_make(&job->seen, &job->model, &job->fleet);
    if (err != GW_OK) return gw_fail(ctx, err, "out of memory");
    add_profiles(job);
    add_apart(job);
    TRY(gw_layout_make(&in, &job->spec, &job->made, ctx));
    return name_links(job);
}

void gw_layout_job_run(struct gw_layout_job *job)
{
    int64_t begun_us = gw_clock_mono_us();
    job->err = make(job);
    job->took_us = gw_clock_mono_us() - begun_us;
}
