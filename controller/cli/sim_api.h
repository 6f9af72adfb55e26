/* The HTTP face of `godwit cloud`: its groups for the controller (cloud/sim.c), its metadata service for godwit-watch
 * (cloud/source_sim.c), and what a person or a test does to it.
 *
 *     GET    /v1/groups/NAME                 cloud/sim.c
 *     POST   /v1/groups/NAME/desired         {"desired": 4}
 *     DELETE /v1/instances/ID                shut down; its group becomes smaller
 *     GET    /v1/prices                      spot prices
 *     GET    /v1/instances/ID/notices        ?after=N&wait_s=S: answered when there is one after N, or after S seconds
 *     GET    /v1/instances                   all, with their pids
 *     POST   /v1/instances/ID/notices        {"kind": "preempt" | "rebalance" | "maintenance", "deadline_s": 30, "cancel": false}:
 *                                            a preemption ends the instance at its deadline
 *     POST   /v1/instances/ID/kill           gone at once; its group makes another one
 *     POST   /v1/supply                      {"spot": 2}: of spot instances there are so many at most
 *
 * Owner: open/close; the cloud is borrowed. Thread: the loop's. Units: seconds in JSON. Errors: GW_ERR_IO, GW_ERR_INPUT (the address),
 * GW_ERR_MEMORY; to callers 400, 404 and 503 with a text. Source: own design. */
#ifndef GW_CONTROLLER_CLI_SIM_API_H
#define GW_CONTROLLER_CLI_SIM_API_H

#include "controller/cli/sim_cloud.h"

#define SIM_API_WAIT_S_MAX     30.0
#define SIM_API_DEADLINE_S_MAX 86400.0

struct event_base;
struct sim_api;

/* listen: HOST:PORT, port 0: any free one. cloud->url becomes its address. */
gw_err_t sim_api_open(struct event_base *loop, const char *listen, struct sim_cloud *cloud,
                      struct sim_api **out, struct gw_err_ctx *ctx) GW_MUST_USE;
void sim_api_close(struct sim_api *api);

/* Answers those who wait for notices, where there is one or their time is up: to be called often. */
void sim_api_tick(struct sim_api *api);

uint16_t sim_api_port(const struct sim_api *api);

#endif
