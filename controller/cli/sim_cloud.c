#include "controller/cli/sim_cloud.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "controller/cli/procs.h"

#define END_GRACE_MS    3000
#define PATH_BYTES      (PATH_MAX + 64)
#define WORKER_ARGS_MAX 48
#define READY_MAX       4096

void sim_cloud_say(const struct sim_cloud *c, const char *id, const char *what)
{
    printf("[%7.1f s] %s %s\n", (double)(gw_clock_mono_us() - c->begun_us) / (double)GW_US_PER_S, id, what);
    fflush(stdout);
}

/* ---- instances ----------------------------------------------------------------------------------------- */

static gw_err_t start_watch(struct sim_cloud *c, struct sim_instance *i, struct gw_err_ctx *ctx)
{
    char program[PATH_BYTES], log[PATH_BYTES];
    snprintf(program, sizeof program, "%s/godwit-watch", c->bin_dir);
    snprintf(log, sizeof log, "%s/%s-watch.log", c->config.log_dir, i->id);
    char *argv[] = {program,         "--cloud", "sim",          "--metadata-url", c->url,
                    "--instance-id", i->id,     "--controller", c->admin_url,     NULL};
    return gw_proc_start(argv, log, &i->watch, ctx);
}

static gw_err_t start_worker(struct sim_cloud *c, struct sim_instance *i, struct gw_err_ctx *ctx)
{
    char program[PATH_BYTES], log[PATH_BYTES], grace[32], threads[24];
    const struct sim_cloud_config *o = &c->config;
    snprintf(program, sizeof program, "%s/godwit-worker", c->bin_dir);
    snprintf(log, sizeof log, "%s/%s.log", o->log_dir, i->id);
    snprintf(grace, sizeof grace, "%g", o->notice_s);
    snprintf(threads, sizeof threads, "%lld", (long long)o->threads);
    char *const own[] = {program,
                         "--model",
                         (char *)o->model,
                         "--weights",
                         (char *)o->weights,
                         "--controller",
                         c->controller,
                         "--cluster-key-file",
                         (char *)o->key_file,
                         "--worker-id",
                         i->id,
                         "--instance-id",
                         i->id,
                         "--zone",
                         c->groups.zones[i->zone],
                         "--threads",
                         threads,
                         "--term-grace-s",
                         grace};
    char *argv[WORKER_ARGS_MAX] = {0};
    size_t len = sizeof own / sizeof own[0];
    if (len + o->worker_flags_len >= WORKER_ARGS_MAX)
        return gw_fail(ctx, GW_ERR_LIMIT, "too many flags for the workers");
    memcpy(argv, own, sizeof own);
    for (size_t k = 0; k < o->worker_flags_len; k++) argv[len + k] = (char *)o->worker_flags[k];
    return gw_proc_start(argv, log, &i->worker, ctx);
}

static gw_err_t start_instance(struct sim_cloud *c, struct sim_instance *i, struct gw_err_ctx *ctx)
{
    sim_cloud_say(c, i->id, "runs");
    c->last_start_us = gw_clock_mono_us();
    TRY(start_worker(c, i, ctx));
    return c->admin_url[0] ? start_watch(c, i, ctx) : GW_OK;
}

static void signal_instance(const struct sim_instance *i, int to_worker, int to_watch)
{
    if (i->worker) kill(i->worker, to_worker);
    if (i->watch) kill(i->watch, to_watch);
}

/* ---- what happens to them ------------------------------------------------------------------------------ */

/* A watch hears by itself. */
static void tell(const struct sim_cloud *c, const struct sim_instance *i)
{
    bool noticed = i->at_us > gw_clock_mono_us();
    sim_cloud_say(c, i->id, noticed ? "is reclaimed with notice" : "is reclaimed without notice");
    if (noticed && !i->watch && i->worker) kill(i->worker, SIGTERM);
}

static void take_away(struct sim_cloud *c)
{
    struct sim_groups *g = &c->groups;
    struct sim_instance *i;
    int64_t now_us = gw_clock_mono_us();
    while ((i = sim_groups_taken(g, now_us))) tell(c, i);
    while ((i = sim_groups_over(g, now_us))) {
        sim_cloud_say(c, i->id, "is gone");
        signal_instance(i, SIGKILL, SIGKILL);
    }
}

/* A worker has ended by itself. */
static gw_err_t judge(struct sim_cloud *c, const struct sim_instance *i, const struct gw_proc_end *end,
                      struct gw_err_ctx *ctx)
{
    char log[PATH_BYTES], why[400];
    bool failed = end->status > 0;
    if (!failed || gw_clock_mono_us() - c->last_start_us > SIM_FAILED_US) {
        c->failures = 0;
        return GW_OK;
    }
    if (++c->failures < SIM_FAILURES_MAX) return GW_OK;
    snprintf(log, sizeof log, "%s/%s.log", c->config.log_dir, i->id);
    gw_proc_last_line(log, why, sizeof why);
    return gw_fail(ctx, GW_ERR_CLOUD, "workers do not come to run (%s): %s", end->how, why);
}

static gw_err_t reap(struct sim_cloud *c, struct gw_err_ctx *ctx)
{
    struct gw_proc_end end;
    char what[sizeof end.how + 32];
    while (gw_proc_reap(&end)) {
        bool needed = sim_groups_needs(&c->groups, end.pid);
        struct sim_instance *i = sim_groups_exited(&c->groups, end.pid, gw_clock_mono_us());
        if (!i) continue;
        bool watch_alone = i->state == SIM_RUNNING || i->state == SIM_NOTICED;
        snprintf(what, sizeof what, "%s%s", watch_alone ? "has lost its watch: " : "", end.how);
        if (watch_alone || !i->worker) sim_cloud_say(c, i->id, what);
        if (watch_alone) TRY(start_watch(c, i, ctx)); /* as systemd does */
        if (i->state == SIM_ENDING && i->watch) kill(i->watch, SIGTERM);
        if (needed) TRY(judge(c, i, &end, ctx));
    }
    return GW_OK;
}

/* ---- the controller ------------------------------------------------------------------------------------ */

static void read_ready(struct sim_cloud *c)
{
    cJSON *ready = NULL;
    int64_t worker = 0, admin = 0;
    if (access(c->config.ready_file, F_OK) != 0) return;
    if (gw_json_parse_file(c->config.ready_file, READY_MAX, &ready, NULL) != GW_OK) return;
    if (gw_json_int(ready, "worker_port", 1, 65535, &worker, NULL) == GW_OK &&
        gw_json_int(ready, "admin_port", 1, 65535, &admin, NULL) == GW_OK && worker && admin) {
        if (!c->config.admin_url)
            snprintf(c->admin_url, sizeof c->admin_url, "http://127.0.0.1:%lld", (long long)admin);
        if (c->config.controller)
            snprintf(c->controller, sizeof c->controller, "%s", c->config.controller);
        else
            snprintf(c->controller, sizeof c->controller, "127.0.0.1:%lld", (long long)worker);
    }
    cJSON_Delete(ready);
}

/* ---- life ---------------------------------------------------------------------------------------------- */

gw_err_t sim_cloud_start(struct sim_cloud *c, struct gw_err_ctx *ctx)
{
    const struct sim_cloud_config *o = &c->config;
    c->begun_us = gw_clock_mono_us();
    if (!o->ready_file && o->controller) snprintf(c->controller, sizeof c->controller, "%s", o->controller);
    if (o->admin_url) snprintf(c->admin_url, sizeof c->admin_url, "%s", o->admin_url);
    return gw_proc_own_dir(c->bin_dir, ctx);
}

gw_err_t sim_cloud_tick(struct sim_cloud *c, struct gw_err_ctx *ctx)
{
    struct sim_instance *i;
    int64_t now_us = gw_clock_mono_us();
    double at_s = (double)(now_us - c->begun_us) / (double)GW_US_PER_S * c->trace_speed;
    if (c->trace.len) c->groups.supply = sim_trace_supply(&c->trace, at_s);
    TRY(reap(c, ctx));
    take_away(c);
    if (!c->controller[0]) read_ready(c);
    if (!c->controller[0]) return GW_OK;
    sim_groups_follow(&c->groups, now_us);
    while ((i = sim_groups_due(&c->groups, now_us))) TRY(start_instance(c, i, ctx));
    return GW_OK;
}

void sim_cloud_stop(struct sim_cloud *c)
{
    pid_t pids[2 * SIM_INSTANCES_MAX];
    for (size_t i = 0; i < SIM_INSTANCES_MAX; i++) {
        pids[2 * i] = c->groups.instances[i].worker;
        pids[2 * i + 1] = c->groups.instances[i].watch;
    }
    gw_procs_end(pids, 2 * SIM_INSTANCES_MAX, SIGINT, END_GRACE_MS);
    sim_trace_fini(&c->trace);
}

/* ---- what is asked of it ------------------------------------------------------------------------------- */

bool sim_cloud_delete(struct sim_cloud *c, const char *id)
{
    struct sim_instance *i = sim_groups_find(&c->groups, id);
    if (!i) return false;
    sim_cloud_say(c, i->id, "is deleted");
    sim_groups_delete(&c->groups, i, gw_clock_mono_us());
    signal_instance(i, SIGINT, SIGTERM);
    return true;
}

bool sim_cloud_kill(struct sim_cloud *c, const char *id)
{
    struct sim_instance *i = sim_groups_find(&c->groups, id);
    if (!i) return false;
    sim_cloud_say(c, i->id, "is killed without notice");
    sim_groups_kill(i, gw_clock_mono_us());
    signal_instance(i, SIGKILL, SIGKILL);
    return true;
}

bool sim_cloud_notice(struct sim_cloud *c, const char *id, const struct sim_notice *notice)
{
    struct sim_instance *i = sim_groups_find(&c->groups, id);
    if (!i) return false;
    if (notice->kind != SIM_PREEMPT) {
        sim_cloud_say(c, i->id, sim_notice_name(notice->kind));
        sim_notices_add(&i->notices, notice);
    } else if (notice->cancel) {
        sim_cloud_say(c, i->id, "may stay after all");
        sim_groups_spare(i);
    } else {
        sim_groups_reclaim(i, gw_clock_mono_us(), notice->deadline_us);
        tell(c, i);
    }
    return true;
}
