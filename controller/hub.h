/* Hub: the one place where events enter the core and its actions leave it.
 *
 *     links, front, admin ── gw_hub_post ──► core ── actions ──► links (SEND, CLOSE)
 *                                                            └─► front (ACCEPTED … FAILED, NOTE)
 *
 * Carrying out an action may bring the next event (the front finds a stop string in the tokens it is given):
 * it is queued and stepped when the actions at hand are done, so the core is never entered twice. The clock's
 * ticks are posted at a lower loop priority than sockets: what has arrived is heard before anyone is declared
 * dead.
 *
 * Owner: owns the core. Thread: the loop's. Units: microseconds.
 * Errors: GW_ERR_MEMORY at creation. Source: own design; DESIGN part 3. */
#ifndef GW_CONTROLLER_HUB_H
#define GW_CONTROLLER_HUB_H

#include <event2/event.h>

#include "base/log.h"
#include "controller/core/core.h"

/* Loop priorities; the loop is made with GW_HUB_PRIORITIES of them. libevent gives every event the middle one
 * unless told otherwise: sockets, pool jobs and the front's timers have that, ticks the one below. */
#define GW_HUB_PRIORITIES     3
#define GW_HUB_PRIORITY_TICKS 2

struct gw_hub;

struct gw_hub_sinks {
    void (*send)(void *arg, uint64_t link, struct gw_msg *msg);
    void (*close)(void *arg, uint64_t link, const char *reason);
    void *links;
    void (*front)(void *arg, const struct gw_action *action); /* all but SEND and CLOSE */
    void *front_arg;
};

gw_err_t gw_hub_create(struct event_base *loop, const struct gw_core_config *config, const struct gw_log *log,
                       struct gw_hub **out, struct gw_err_ctx *ctx) GW_MUST_USE;
void gw_hub_destroy(struct gw_hub *hub);

/* Must be set before the first event. */
void gw_hub_set_sinks(struct gw_hub *hub, const struct gw_hub_sinks *sinks);

/* Steps the core, or queues the event if the core's actions are being carried out (then it must not borrow:
 * SUBMIT, CANCEL, STOP only). */
void gw_hub_post(struct gw_hub *hub, const struct gw_event *event);

/* The core neither hears nor says anything any more: another controller's goes on. */
void gw_hub_stop(struct gw_hub *hub);

const struct gw_core *gw_hub_core(const struct gw_hub *hub);

#endif
