#include "controller/layout.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/pool.h"
#include "controller/layout_job.h"
#include "controller/layout_load.h"

#define JOBS_MAX 2 /* one is made at a time, one is looked at */

struct why {
    char worker[GW_WIRE_NAME_MAX + 1];
    enum gw_layout_why why;
};

struct gw_layouts {
    struct gw_layouts_config config;
    struct gw_layout_spec spec;
    uint64_t version; /* of spec: how often a layout was forced */
    struct gw_pool *pool;
    struct event *due, *check, *sample;
    int64_t first_want_us; /* of those that `due` is pending for; 0: it is not pending */
    int64_t hurried_us[2]; /* when the last two plans for losses began, the earlier one first; 0: none did */
    bool hurried;          /* `due` is pending for a loss */
    int64_t loss_us;       /* when something was lost last: its PLAN_WANTED comes before or behind */
    struct gw_layout_job *job;  /* being made; NULL: none */
    struct gw_layout_job *look; /* measured steps are being looked at; NULL: they are not */
    bool wanted_again, again_at_once, again_hurried; /* while a plan is made */
    bool for_load;                                   /* only the load has changed */
    bool ending;
    struct gw_load load;
    struct gw_rates rates;
    struct gw_aparts aparts;
    int64_t apart_end_us;        /* the first that the last plan kept apart may meet again */
    struct gw_plan_load planned; /* load of the last plan */
    struct gw_rates planned_rates;
    struct why *whys;
    size_t whys_len;
    struct gw_layout_view view;
};

static int64_t now_of(const struct gw_layouts *l)
{
    return l->config.clock.now_us(l->config.clock.arg);
}

/* ---- when ---- */

static void arm(struct gw_layouts *l, int64_t wait_us)
{
    if (wait_us < 0) wait_us = 0;
    struct timeval wait = {.tv_sec = wait_us / GW_US_PER_S, .tv_usec = wait_us % GW_US_PER_S};
    event_add(l->due, &wait);
}

/* How long a plan for a loss must wait for those before it. */
static int64_t storm_wait_us(const struct gw_layouts *l, int64_t now_us)
{
    int64_t free_us = l->hurried_us[0] ? l->hurried_us[0] + GW_LAYOUTS_STORM_US : 0;
    return free_us > now_us ? free_us - now_us : 0;
}

static void note_begun(struct gw_layouts *l)
{
    if (!l->hurried) return;
    l->hurried = false;
    l->hurried_us[0] = l->hurried_us[1];
    l->hurried_us[1] = now_of(l);
}

static void hurry(struct gw_layouts *l)
{
    l->hurried = true;
    arm(l, storm_wait_us(l, now_of(l)));
}

/* at_once: an operator waits for it. lost: something is gone, or will be. */
static void want(struct gw_layouts *l, bool at_once, bool lost)
{
    int64_t now_us = now_of(l);
    lost |= l->loss_us && now_us - l->loss_us < GW_LAYOUTS_QUIET_US;
    l->for_load = false;
    if (l->job) {
        l->wanted_again = true;
        l->again_at_once |= at_once;
        l->again_hurried |= lost;
        return;
    }
    if (!l->first_want_us) l->first_want_us = now_us;
    int64_t latest_us = l->first_want_us + GW_LAYOUTS_DELAY_US - now_us;
    int64_t wait_us = latest_us < GW_LAYOUTS_QUIET_US ? latest_us : GW_LAYOUTS_QUIET_US;
    if (lost && !at_once)
        hurry(l);
    else
        arm(l, at_once ? 0 : wait_us);
}

/* ---- the result ---- */

static void keep_whys(struct gw_layouts *l, const struct gw_layout_job *job)
{
    struct why *whys = calloc(job->seen.workers_len + 1, sizeof *whys);
    free(l->whys);
    l->whys = whys;
    l->whys_len = whys ? job->seen.workers_len : 0;
    for (size_t i = 0; i < l->whys_len; i++) {
        snprintf(whys[i].worker, sizeof whys[i].worker, "%s", job->workers[i].worker);
        whys[i].why = job->fleet.whys[i];
    }
    for (uint32_t d = 0; whys && d < job->fleet.plan.devices_len; d++)
        whys[job->fleet.worker_of[d]].why = job->made.whys[d];
}

static void keep_view(struct gw_layouts *l, const struct gw_layout_job *job)
{
    struct gw_layout_view *v = &l->view;
    v->plans++;
    v->plan_us = (uint64_t)job->took_us;
    v->plans_us += v->plan_us;
    v->fleet = job->fleet_number;
    v->pipelines = job->made.layout.pipelines;
    v->pipelines_wanted = job->made.pipelines_wanted;
    v->missing_bytes = job->made.missing_bytes;
    snprintf(v->reason, sizeof v->reason, "%s", job->err == GW_OK ? job->made.reason : job->ctx.text);
    l->planned = job->load;
    l->planned_rates = job->rates;
}

static void log_plan(const struct gw_layouts *l, const struct gw_layout_job *job, bool posted)
{
    if (job->err != GW_OK)
        gw_logf(l->config.log, GW_LOG_ERROR, "layout: no plan for fleet %llu: %s",
                (unsigned long long)job->fleet_number, job->ctx.text);
    else
        gw_logf(l->config.log, job->made.layout.pipelines ? GW_LOG_INFO : GW_LOG_WARN,
                "layout: fleet %llu, epoch %llu%s: %u pipelines over %u of %u workers in %.1f ms; %s",
                (unsigned long long)job->fleet_number, (unsigned long long)gw_core_epoch(l->config.core),
                posted ? "" : " stays", job->made.layout.pipelines, job->made.layout.ranks_len,
                (unsigned)job->seen.workers_len, (double)job->took_us / (double)GW_US_PER_MS,
                job->made.reason);
}

/* A plan that was made for another load alone and changes nothing need not be an epoch. */
static bool post_plan(struct gw_layouts *l, const struct gw_layout_job *job)
{
    if (job->err != GW_OK || (job->for_load && job->made.kept)) return false;
    const struct gw_core_plan plan = {
        .fleet = job->fleet_number, .ranks = job->ranks, .ranks_len = job->made.layout.ranks_len};
    const struct gw_event event = {.type = GW_EV_PLAN, .plan = &plan};
    l->config.post(l->config.arg, &event);
    return true;
}

static void retry(struct gw_layouts *l)
{
    l->first_want_us = now_of(l);
    arm(l, GW_LAYOUTS_RETRY_US);
}

static void go_on(struct gw_layouts *l, gw_err_t err)
{
    bool again = l->wanted_again, at_once = l->again_at_once, lost = l->again_hurried;
    l->wanted_again = l->again_at_once = l->again_hurried = false;
    if (again)
        want(l, at_once, lost);
    else if (err == GW_ERR_MEMORY)
        retry(l);
}

static void take_result(struct gw_layouts *l, const struct gw_layout_job *job)
{
    keep_view(l, job);
    if (job->err == GW_OK) keep_whys(l, job);
    bool posted = post_plan(l, job);
    log_plan(l, job, posted);
    if (posted || job->err != GW_OK)
        l->config.taken(l->config.arg, job->version, posted ? gw_core_epoch(l->config.core) : 0);
    go_on(l, job->err);
}

static void on_made(void *arg, bool skipped)
{
    struct gw_layouts *l = arg;
    struct gw_layout_job *job = l->job;
    l->job = NULL;
    if (!skipped && !l->ending) take_result(l, job);
    gw_layout_job_destroy(job);
}

/* ---- the job ---- */

static void on_work(void *arg)
{
    struct gw_layouts *l = arg;
    gw_layout_job_run(l->job); /* set before it was submitted, cleared after this has returned */
}

static gw_err_t begin(struct gw_layouts *l)
{
    struct gw_layout_job *job;
    TRY(gw_layouts_look(l, &job));
    job->version = l->version;
    job->for_load = l->for_load;
    job->aparts = l->aparts;
    l->apart_end_us = gw_aparts_end_us(&l->aparts, now_of(l));
    l->job = job;
    gw_err_t err = gw_pool_submit(l->pool, (struct gw_job){.work = on_work, .done = on_made, .arg = l});
    if (err == GW_OK) return GW_OK;
    l->job = NULL;
    gw_layout_job_destroy(job);
    return err;
}

static void on_due(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    struct gw_layouts *l = arg;
    l->first_want_us = 0;
    note_begun(l);
    gw_err_t err = begin(l);
    if (err == GW_OK) return;
    gw_logf(l->config.log, GW_LOG_ERROR, "layout: no plan can be begun (%s), trying again", gw_err_name(err));
    retry(l);
}

static void log_rates(const struct gw_layouts *l)
{
    for (uint32_t i = 0; i < l->rates.kinds_len; i++)
        gw_logf(l->config.log, GW_LOG_INFO,
                "layout: '%s' takes %.2f times as long to decode, %.2f times to prefill, as was predicted",
                l->rates.kinds[i].device, l->rates.kinds[i].decode.factor, l->rates.kinds[i].prefill.factor);
}

static void on_look(void *arg)
{
    struct gw_layouts *l = arg;
    l->look->err = gw_rates_look(&l->look->rates, &l->look->seen, &l->look->model);
}

static void on_looked(void *arg, bool skipped)
{
    struct gw_layouts *l = arg;
    struct gw_layout_job *look = l->look;
    l->look = NULL;
    if (!skipped && look->err == GW_OK) l->rates = look->rates;
    gw_layout_job_destroy(look);
}

/* Without memory nothing is learnt this time; nor while a plan is made, which has the thread. */
static void on_sample(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    struct gw_layouts *l = arg;
    if (l->job || l->look || gw_layout_job_create(l->config.core, now_of(l), &l->look) != GW_OK) return;
    l->look->model = l->config.model;
    l->look->rates = l->rates;
    if (gw_pool_submit(l->pool, (struct gw_job){.work = on_look, .done = on_looked, .arg = l}) == GW_OK)
        return;
    gw_layout_job_destroy(l->look);
    l->look = NULL;
}

/* Only the planner looks at the load, at how fast devices are, and at who must be apart. */
static void on_check(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    struct gw_layouts *l = arg;
    struct gw_plan_load now;
    if (l->spec.mode != GW_LAYOUT_AUTO || l->job || l->first_want_us || l->view.plans == 0) return;
    gw_load_read(&l->load, now_of(l), &now);
    bool faster = gw_rates_changed(&l->planned_rates, &l->rates);
    bool mended = l->apart_end_us <= now_of(l);
    if (!faster && !mended && !gw_load_changed(&l->planned, &now)) return;
    if (faster) log_rates(l);
    l->for_load = true;
    on_due(-1, 0, l);
}

/* ---- life ---- */

static struct timeval period(int64_t us, int64_t default_us)
{
    if (us <= 0) us = default_us;
    return (struct timeval){.tv_sec = us / GW_US_PER_S, .tv_usec = us % GW_US_PER_S};
}

static gw_err_t start(struct gw_layouts *l, struct event_base *loop, struct gw_err_ctx *ctx)
{
    const struct timeval check = period(l->config.check_us, GW_LAYOUTS_CHECK_US);
    const struct timeval sample = period(l->config.sample_us, GW_LAYOUTS_SAMPLE_US);
    TRY(gw_layout_spec_parse(l->config.layout, l->config.model.groups, l->config.model.shares, &l->spec,
                             ctx));
    l->due = evtimer_new(loop, on_due, l);
    l->check = event_new(loop, -1, EV_PERSIST, on_check, l);
    l->sample = event_new(loop, -1, EV_PERSIST, on_sample, l);
    if (!l->due || !l->check || !l->sample || event_add(l->check, &check) != 0 ||
        event_add(l->sample, &sample) != 0)
        return gw_fail(ctx, GW_ERR_MEMORY, "layout service: out of memory");
    return gw_pool_create(loop, 1, JOBS_MAX, &l->pool, ctx);
}

gw_err_t gw_layouts_create(struct event_base *loop, const struct gw_layouts_config *config,
                           struct gw_layouts **out, struct gw_err_ctx *ctx)
{
    struct gw_layouts *l = calloc(1, sizeof *l);
    if (!l) return gw_fail(ctx, GW_ERR_MEMORY, "layout service: out of memory");
    l->config = *config;
    l->apart_end_us = INT64_MAX;
    gw_load_init(&l->load, config->context, now_of(l));
    gw_err_t err = start(l, loop, ctx);
    if (err != GW_OK) {
        gw_layouts_destroy(l);
        return err;
    }
    *out = l;
    return GW_OK;
}

void gw_layouts_destroy(struct gw_layouts *l)
{
    if (!l) return;
    l->ending = true;
    if (l->pool) gw_pool_destroy(l->pool);
    if (l->due) event_free(l->due);
    if (l->check) event_free(l->check);
    if (l->sample) event_free(l->sample);
    gw_load_fini(&l->load);
    free(l->whys);
    free(l);
}

/* ---- what it hears ---- */

void gw_layouts_on_event(struct gw_layouts *l, const struct gw_event *event)
{
    int64_t now_us = now_of(l);
    if (event->type == GW_EV_SUBMIT) {
        const struct gw_request *r = event->submit.request;
        gw_load_arrived(&l->load, r->id, r->n, r->prompt_len, now_us);
    } else if (event->type == GW_EV_CANCEL) {
        gw_load_ended(&l->load, event->cancel.request, false, now_us);
    }
}

static void keep_apart(struct gw_layouts *l, const char *worker, const char *other)
{
    gw_logf(l->config.log, GW_LOG_WARN, "layout: '%s' does not reach '%s': they are planned apart", worker,
            other);
    gw_aparts_add(&l->aparts, worker, other, now_of(l));
}

/* Something has gone or will: what is left must be planned at once. */
static bool is_loss(enum gw_note_kind kind)
{
    return kind == GW_NOTE_WORKER_LOST || kind == GW_NOTE_WORKER_DOOMED || kind == GW_NOTE_PIPELINE_DEAD;
}

void gw_layouts_on_action(struct gw_layouts *l, const struct gw_action *a)
{
    switch (a->type) {
    case GW_ACT_PLAN_WANTED: want(l, false, false); return;
    case GW_ACT_NOTE:
        if (a->note.kind == GW_NOTE_WORKERS_APART) keep_apart(l, a->note.worker, a->note.text);
        if (!is_loss(a->note.kind)) return;
        l->loss_us = now_of(l);
        if (l->first_want_us) hurry(l);
        return;
    case GW_ACT_TOKENS:
        gw_load_tokens(&l->load, a->tokens.request, a->tokens.tokens.count, now_of(l));
        return;
    case GW_ACT_DONE: gw_load_ended(&l->load, a->done.request, true, now_of(l)); return;
    case GW_ACT_FAILED: gw_load_ended(&l->load, a->failed.request, false, now_of(l)); return;
    default: return;
    }
}

gw_err_t gw_layouts_force(struct gw_layouts *l, const char *layout, uint64_t *ticket, struct gw_err_ctx *ctx)
{
    struct gw_layout_spec spec;
    TRY(gw_layout_spec_parse(layout, l->config.model.groups, l->config.model.shares, &spec, ctx));
    l->spec = spec;
    *ticket = ++l->version;
    gw_logf(l->config.log, GW_LOG_INFO, "layout: %s is asked for", spec.text);
    want(l, true, false);
    return GW_OK;
}

/* ---- what it shows ---- */

void gw_layouts_view(struct gw_layouts *l, struct gw_layout_view *out)
{
    int64_t now_us = now_of(l);
    *out = l->view;
    out->model = &l->config.model;
    snprintf(out->layout, sizeof out->layout, "%s", l->spec.text);
    out->planning = l->job || l->first_want_us != 0;
    gw_load_read(&l->load, now_us, &out->load);
    out->load.slo_ttft_s = l->config.slo_ttft_s;
    out->load.slo_tpot_s = l->config.slo_tpot_s;
    out->measured_rps = gw_load_rps(&l->load, now_us);
    out->tokens_s = gw_load_tokens_s(&l->load, now_us);
}

gw_err_t gw_layouts_look(struct gw_layouts *l, struct gw_layout_job **out)
{
    struct gw_layout_job *job;
    int64_t now_us = now_of(l);
    TRY(gw_layout_job_create(l->config.core, now_us, &job));
    job->spec = l->spec;
    job->model = l->config.model;
    job->rates = l->rates;
    job->zone_usd_gb = l->config.zone_usd_gb;
    job->seen.zone_usd_gb = &job->zone_usd_gb;
    gw_load_read(&l->load, now_us, &job->load);
    job->load.slo_ttft_s = l->config.slo_ttft_s;
    job->load.slo_tpot_s = l->config.slo_tpot_s;
    *out = job;
    return GW_OK;
}

const char *gw_layouts_why(const struct gw_layouts *l, const char *worker)
{
    for (size_t i = 0; i < l->whys_len; i++)
        if (strcmp(l->whys[i].worker, worker) == 0) return gw_layout_why_text(l->whys[i].why);
    return "it came after the last plan";
}
