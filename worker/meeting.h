/* Meeting: the ranks of a pipeline find each other, agree on what they have room for, and have collectives from then on.
 *
 *     event                                what is done
 *     ──────────────────────────────────   ──────────────────────────────────────────────────────────────────────
 *     run                                  sockets to all ranks (mesh.h), sums over them (kernels/coll.h), the rooms of all
 *                                          told to the leader (gw_rank_agree), sums and activations between
 *                                          devices (coll_join.h)
 *     a rank does not come, or not in      run fails; gw_meeting_unreached says which it was, if it was one
 *      time
 *     abort, before, during or after run   whatever waits for another rank fails, here and at the others
 *
 * A pipeline of one rank meets nobody and has no collectives.
 *
 * Owner: gw_meeting_destroy frees, when no step is under way. Thread: run: one; abort and wake: any, while the meeting lives;
 * the rest: after run. Units: microseconds. Errors: those of the parts. Source: own design; DESIGN part 6. */
#ifndef GW_WORKER_MEETING_H
#define GW_WORKER_MEETING_H

#include <stdatomic.h>

#include "kernels/cuda/coll_device.h"
#include "worker/host.h"
#include "worker/rank.h"

struct gw_meeting;

struct gw_meeting_config {
    const struct gw_host *host;
    uint64_t term, generation;
    uint32_t pipeline;
    const struct gw_msg_assign *assign; /* lives as long as the meeting */
    atomic_bool *stop;                  /* set before abort; the same */
};

gw_err_t gw_meeting_create(const struct gw_meeting_config *config, struct gw_meeting **out) GW_MUST_USE;
void gw_meeting_destroy(struct gw_meeting *m);

/* *room: this rank's; at the leader the least of all then. mute: a rank speaks protocol 2. */
gw_err_t gw_meeting_run(struct gw_meeting *m, const struct gw_place *place, bool mute,
                        struct gw_rank_room *room, struct gw_err_ctx *ctx) GW_MUST_USE;

void gw_meeting_abort(struct gw_meeting *m);
/* Makes a wait for another rank's step return. */
void gw_meeting_wake(struct gw_meeting *m);

/* NULL: there is nobody to add with. */
struct gw_coll *gw_meeting_coll(const struct gw_meeting *m);
/* Sums between devices; NULL: gw_meeting_coll's, or there are none. */
struct gw_coll_device *gw_meeting_sums(const struct gw_meeting *m);
/* Activations between stages; the same. */
struct gw_coll_device *gw_meeting_passes(const struct gw_meeting *m);
/* GW_RANK_NONE: all came, or that was not why run failed. */
uint32_t gw_meeting_unreached(const struct gw_meeting *m);

#endif
