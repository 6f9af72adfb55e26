/* The capacity service: sets the sizes of the cloud's groups, by the decisions of cloud/capacity.h.
 *
 *     core's fleet, queue ─┐                          DRAIN, UNDRAIN ──► core (notice scale-in, cancel)
 *     planner's need ──────┼─► wish ─► gw_capacity ─► INTENT ──────────► journal ── durable ─► STORED
 *     groups as described ─┘                          READ, SET_DESIRED, DELETE ──► calls ──► the cloud
 *
 * Needs are computed and descriptions looked through on the pool's threads. Nothing is decided before the groups have been
 * described once and workers have had the options' settle_s to come back to a controller that was restarted: who has not yet
 * would look as if nothing ran there. From the first description on the wish begins at what is there.
 *
 *     lost                              what follows
 *     ───────────────────────────────   ────────────────────────────────────────────────────────────────────────────
 *     this process, in a write          its intent is in the journal: the next one takes a deletion for done for
 *                                       GW_CAPACITY_RESTORED_US (nothing new goes there), and reads the groups
 *     the lease                         the program ends (journal.h); a write that waits to be tried again asks `held`
 *                                       first
 *     a worker says that it is back     a drained instance is looked at again just before its deletion
 *      between drain and deletion
 *
 * Owner: create/destroy; texts are borrowed. Stop it before the journal is closed; destroy it after journal, calls and pool: what is
 * under way ends in it. Thread: the loop's. Units: microseconds; USD per hour. Errors: GW_ERR_MEMORY, GW_ERR_INPUT (bounds).
 * Source: own design; DESIGN part 7. */
#ifndef GW_CONTROLLER_CAPACITY_H
#define GW_CONTROLLER_CAPACITY_H

#include "base/clock.h"
#include "base/log.h"
#include "cloud/calls.h"
#include "controller/capacity_options.h"
#include "controller/capacity_view.h"
#include "controller/core/core.h"
#include "controller/layout.h"

#define GW_CAPACITY_RESTORED_US (120 * GW_US_PER_S)
#define GW_CAPACITY_NEED_US     (5 * GW_US_PER_S)   /* between two looks at what the load needs */
#define GW_CAPACITY_PRICES_US   (300 * GW_US_PER_S) /* spot prices move by the hour */

struct gw_capacities;

struct gw_capacities_config {
    struct event_base *loop;
    struct gw_calls *calls;
    struct gw_pool *pool;
    const struct gw_capacity_options *options;
    const struct gw_core *core;
    struct gw_layouts *layouts;
    const struct gw_log *log;
    struct gw_clock clock; /* the core's */
    uint64_t term;         /* under which writes are made */
    void (*post)(void *arg, const struct gw_event *event);
    /* The journal; append NULL: there is none (a dry run). held: is it still ours? */
    gw_err_t (*append)(void *arg, uint64_t entry, const void *piece, size_t len,
                       void (*durable)(void *arg, gw_err_t err), void *durable_arg);
    void (*end)(void *arg, uint64_t entry);
    void *arg;
};

gw_err_t gw_capacities_create(const struct gw_capacities_config *config, struct gw_capacities **out,
                              struct gw_err_ctx *ctx) GW_MUST_USE;
/* Nothing is decided or written any more. */
void gw_capacities_stop(struct gw_capacities *capacities);
void gw_capacities_destroy(struct gw_capacities *capacities);

/* What an earlier controller was about to write, from the journal. */
void gw_capacities_restore(struct gw_capacities *capacities, uint64_t entry, const void *piece, size_t len);

/* What the core notes: losses and notices are churn. */
void gw_capacities_on_action(struct gw_capacities *capacities, const struct gw_action *action);

void gw_capacities_view(const struct gw_capacities *capacities, struct gw_capacity_view *out);

#endif
