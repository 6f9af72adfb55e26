/* What runs on instances: the core's workers, copied and sorted by instance, for decisions about who may go.
 *
 *     drained     no worker of the instance has a request, and each is in no pipeline, or in one that is draining: nothing
 *                 new goes there. An instance without a worker is drained
 *     leaving     one of its workers is under notice, or its cloud recommends to leave it
 *
 * Owner: read/fini. Thread: read on the loop's; the rest on any. Units: requests. Errors: GW_ERR_MEMORY.
 * Source: own design. */
#ifndef GW_CONTROLLER_CAPACITY_FLEET_H
#define GW_CONTROLLER_CAPACITY_FLEET_H

#include "cloud/cloud.h"
#include "controller/core/core.h"

struct gw_capacity_host {
    char instance[GW_WIRE_NAME_MAX + 1];
    bool doomed, advised, busy; /* busy: not drained */
    uint32_t requests;          /* of the pipelines that its workers are in */
    int64_t deadline_us;        /* the earliest notice; 0: none */
};

struct gw_capacity_fleet {
    struct gw_capacity_host *hosts; /* [len], sorted by instance */
    size_t len;
};

gw_err_t gw_capacity_fleet_read(const struct gw_core *core, struct gw_capacity_fleet *out) GW_MUST_USE;
void gw_capacity_fleet_fini(struct gw_capacity_fleet *fleet);

/* NULL: no worker of it is registered. */
const struct gw_capacity_host *gw_capacity_fleet_find(const struct gw_capacity_fleet *fleet,
                                                      const char *instance);

/* Who may go first, for gw_capacity_look: the lowest. Those that go anyway; those where nothing runs, the ones still
 * coming before the ones that are there; those advised to leave; then by requests. */
int gw_capacity_fleet_rank(void *fleet, const struct gw_cloud_instance *instance);

/* Instances with a worker that stay, and that leave. */
void gw_capacity_fleet_count(const struct gw_capacity_fleet *fleet, uint32_t *serving, uint32_t *leaving);

#endif
