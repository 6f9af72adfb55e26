/* The cloud that `godwit cloud` plays: groups of instances (sim_groups.h), each of which is a godwit-worker and, once the
 * controller's admin listener is known, a godwit-watch, which hears this cloud's notices and tells the controller.
 *
 * Without a watch a notice is SIGTERM to the worker. Instances run once the controller can be reached.
 *
 * Owner: caller memory; sim_cloud_stop ends the processes. Thread: main. Units: microseconds, seconds in flags. Errors: GW_ERR_IO for
 * a program that cannot be started; GW_ERR_CLOUD for workers that never come to run. Source: own design. */
#ifndef GW_CONTROLLER_CLI_SIM_CLOUD_H
#define GW_CONTROLLER_CLI_SIM_CLOUD_H

#include <limits.h>

#include "base/err.h"
#include "controller/cli/sim_groups.h"
#include "controller/cli/sim_trace.h"

#define SIM_ADDRESS_BYTES 96
/* So many workers in a row that fail within SIM_FAILED_US of their start: one more would, too. */
#define SIM_FAILURES_MAX 3
#define SIM_FAILED_US    (5 * GW_US_PER_S)

/* What its instances' processes are started with. Strings are borrowed. */
struct sim_cloud_config {
    const char *model, *weights, *key_file, *log_dir;
    const char *controller; /* HOST:PORT of its worker port; NULL: the ready file says */
    const char *admin_url;  /* of its admin listener; NULL: the ready file says, or there are no watches */
    const char *ready_file; /* that it writes; NULL: both are as above from the start */
    const char *const *worker_flags; /* [worker_flags_len] more of them */
    size_t worker_flags_len;
    int64_t threads;
    double notice_s;
};

struct sim_cloud {
    struct sim_cloud_config config;
    struct sim_groups groups;
    struct sim_trace trace; /* empty: supply stays as it is */
    double trace_speed;
    char bin_dir[PATH_MAX];
    char url[SIM_ADDRESS_BYTES]; /* of its API, which is its metadata service, too */
    char controller[SIM_ADDRESS_BYTES], admin_url[SIM_ADDRESS_BYTES]; /* "": not known (yet) */
    int64_t begun_us, last_start_us;
    int failures;
};

gw_err_t sim_cloud_start(struct sim_cloud *cloud, struct gw_err_ctx *ctx) GW_MUST_USE;
/* What time brings: to be called often. */
gw_err_t sim_cloud_tick(struct sim_cloud *cloud, struct gw_err_ctx *ctx) GW_MUST_USE;
void sim_cloud_stop(struct sim_cloud *cloud);

/* What is asked of it. False: there is no such instance, or it ends already. */
bool sim_cloud_delete(struct sim_cloud *cloud, const char *id);
bool sim_cloud_kill(struct sim_cloud *cloud, const char *id);
bool sim_cloud_notice(struct sim_cloud *cloud, const char *id, const struct sim_notice *notice);

/* A line for the person who watches. */
void sim_cloud_say(const struct sim_cloud *cloud, const char *id, const char *what);

#endif
