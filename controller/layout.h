/* The layout service: asks the planner when the fleet or the load has changed, and gives its plan to the core.
 *
 *     core ── GW_ACT_PLAN_WANTED ──► wait a little ──► copy what the core shows ──► plan on a thread ── GW_EV_PLAN ──► core
 *                                      ▲                                             (layout_make.h)
 *     front ── gw_layouts_force ───────┤
 *     every 10 s: the load has changed ┘
 *       or measured steps say that devices are faster or slower than was thought (layout_rates.h),
 *       or workers that did not reach each other may be tried together again (layout_apart.h)
 *
 * One plan is made at a time; what changes meanwhile starts the next one. Waiting: workers that come together are planned
 * together, so a plan begins GW_LAYOUTS_QUIET_US after the last of them (GW_LAYOUTS_DELAY_US after the first at most); a
 * loss, a notice and an operator do not wait; but of plans for losses and notices only two begin within any
 * GW_LAYOUTS_STORM_US, so that a storm of notices, a second long, is three epochs: the first at once, those that came while it
 * was planned, all others. A plan for a changed load that would keep what serves is not posted.
 *
 *     what is lost                           what follows
 *     ────────────────────────────────────   ───────────────────────────────────────────────────────────
 *     the plan was made for an older fleet   the core takes what still holds, has wanted another one: it is made next
 *     making it failed (memory)              said in the log and the view; tried again after GW_LAYOUTS_RETRY_US
 *     the service is destroyed meanwhile     the plan is dropped
 *
 * Owner: create/destroy; the core outlives it. Thread: the loop's (plans are made on a thread of its own). Units:
 * microseconds. Errors: GW_ERR_INPUT for a layout that cannot be; GW_ERR_IO, GW_ERR_MEMORY at creation.
 * Source: own design; DESIGN parts 3 and 7. */
#ifndef GW_CONTROLLER_LAYOUT_H
#define GW_CONTROLLER_LAYOUT_H

#include <event2/event.h>

#include "base/clock.h"
#include "base/log.h"
#include "controller/core/core.h"
#include "controller/layout_view.h"

#define GW_LAYOUTS_QUIET_US (50 * GW_US_PER_MS)
#define GW_LAYOUTS_DELAY_US (500 * GW_US_PER_MS)
#define GW_LAYOUTS_RETRY_US GW_US_PER_S
/* A provider that takes a zone back says so to all instances within a second; a fifth more for what carries it. */
#define GW_LAYOUTS_STORM_US (1200 * GW_US_PER_MS)
#define GW_LAYOUTS_CHECK_US (10 * GW_US_PER_S)
/* Between two looks at measured steps: a factor of two is half corrected after six of them, twelve seconds. */
#define GW_LAYOUTS_SAMPLE_US (2 * GW_US_PER_S)

struct gw_layouts;

struct gw_layouts_config {
    const char *layout; /* layout_spec.h */
    struct gw_plan_model model;
    uint32_t context; /* of the model, tokens */
    double slo_ttft_s, slo_tpot_s;
    double zone_usd_gb; /* price of 10^9 bytes between zones */
    int64_t check_us;   /* between two looks at the load; 0: GW_LAYOUTS_CHECK_US */
    int64_t sample_us;  /* between two at measured steps; 0: GW_LAYOUTS_SAMPLE_US */
    const struct gw_core *core;
    const struct gw_log *log;
    struct gw_clock clock; /* the core's */
    void (*post)(void *arg,
                 const struct gw_event *event); /* never called from inside a call of this service */
    /* A plan for the layout of that ticket (0: none was forced yet) was taken, as this epoch; 0: it could not be made, the
     * view's reason says why. Fires for every plan. */
    void (*taken)(void *arg, uint64_t ticket, uint64_t epoch);
    void *arg;
};

gw_err_t gw_layouts_create(struct event_base *loop, const struct gw_layouts_config *config,
                           struct gw_layouts **out, struct gw_err_ctx *ctx) GW_MUST_USE;
void gw_layouts_destroy(struct gw_layouts *layouts);

/* What the front posts (the load), and what the core does (plans wanted, losses, the load). */
void gw_layouts_on_event(struct gw_layouts *layouts, const struct gw_event *event);
void gw_layouts_on_action(struct gw_layouts *layouts, const struct gw_action *action);

/* From now on this layout. Its plan has been taken when `taken` fires with the ticket (or a later one: it was forced
 * over). */
gw_err_t gw_layouts_force(struct gw_layouts *layouts, const char *layout, uint64_t *ticket,
                          struct gw_err_ctx *ctx) GW_MUST_USE;

void gw_layouts_view(struct gw_layouts *layouts, struct gw_layout_view *out);
/* A job (layout_job.h) that sees what a plan would be made of now: fleet, model, load, measured rates, what was asked for. For
 * other services; the caller owns it. */
struct gw_layout_job;
gw_err_t gw_layouts_look(struct gw_layouts *layouts, struct gw_layout_job **out) GW_MUST_USE;

/* Why the worker has no rank in the last plan. */
const char *gw_layouts_why(const struct gw_layouts *layouts, const char *worker);

#endif
