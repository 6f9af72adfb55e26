/* The cloud of `godwit up --cloud sim`: a `godwit cloud` beside the controller, which sets its groups' sizes.
 *
 *     up ──starts──► godwit cloud ──starts──► workers, watches
 *     up ──asks────► /v1/instances            which there are now
 *     controller ──► /v1/groups/…             how many there shall be
 *
 * The cloud is started first, the controller once its port is known, instances once the controller listens.
 *
 * Owner: caller memory; strings are borrowed for its life; up_cloud_close frees, its process is ended by gw_procs_end. Thread: main.
 * Units: as named. Errors: GW_ERR_IO. Source: own design. */
#ifndef GW_CONTROLLER_CLI_UP_CLOUD_H
#define GW_CONTROLLER_CLI_UP_CLOUD_H

#include <sys/types.h>

#include "controller/cli/fleet.h"
#include "controller/cli/sim_groups.h"
#include "controller/cli/up_options.h"

#define UP_CLOUD_FLAGS_MAX 32
#define UP_CLOUD_LOG       "cloud.log"

struct event_base;
struct evhttp_connection;

struct up_cloud {
    const char *bin_dir, *dir, *log_dir;
    const struct up_options *options;
    const char *store; /* what workers are told */
    pid_t pid;         /* 0: it does not run */
    int port;          /* 0: not known yet */
    struct evhttp_connection *connection;
    bool asking, answered;
    struct fleet_seen seen[SIM_INSTANCES_MAX]; /* as last told */
    size_t seen_len;
    char flag_text[8][96];
    const char *flags[UP_CLOUD_FLAGS_MAX]; /* of the controller, once the port is known; NULL ends */
};

gw_err_t up_cloud_start(struct up_cloud *cloud, struct gw_err_ctx *ctx) GW_MUST_USE;

/* Is its port known by now? */
bool up_cloud_ready(struct up_cloud *cloud);

/* Asks which instances there are; `seen` changes when it answers. */
void up_cloud_ask(struct up_cloud *cloud, struct event_base *loop);

void up_cloud_close(struct up_cloud *cloud);

#endif
