/* Hand-over, the predecessor's side: a controller gives its place to one that was started after it.
 *
 * It listens on a unix socket. Whoever of our user connects and asks gets everything; from then on the predecessor is a
 * front only: its clients' requests are computed by the successor's core, its own says nothing any more.
 *
 *     state       event                          next      what is done
 *     ─────────   ────────────────────────────   ───────   ────────────────────────────────────────────────────────
 *     LISTENING   a successor asks               GIVING    `give`: sockets, then gw_giver_put_request for each request
 *     LISTENING   a stranger; 2 s of silence     same      closed
 *     GIVING      give has returned              GIVEN     GO
 *     GIVEN       TOKENS, FINISH, DONE, REJECT   GIVEN     `action`
 *     GIVEN       the successor is gone          OVER      `gone`: nobody computes any more
 *
 * Owner: create/destroy (the socket's file is left to the successor). Thread: the loop's. Units: microseconds.
 * Errors: GW_ERR_IO: it cannot listen. Source: own design; handover_wire.h. */
#ifndef GW_CONTROLLER_HANDOVER_GIVE_H
#define GW_CONTROLLER_HANDOVER_GIVE_H

#include <event2/event.h>

#include "base/log.h"
#include "controller/handover_wire.h"

struct gw_giver;

struct gw_giver_config {
    const char *path;
    const struct gw_log *log;
    /* A successor has asked: fill in the listening sockets, give up journal and workers, and put all requests. */
    void (*give)(void *arg, int fds[GW_HANDOVER_FDS]);
    /* The sockets are the successor's now: what is done behind that. */
    void (*given)(void *arg);
    void (*action)(void *arg, const struct gw_action *action);
    void (*gone)(void *arg);
    void *arg;
};

gw_err_t gw_giver_create(struct event_base *loop, const struct gw_giver_config *config, struct gw_giver **out,
                         struct gw_err_ctx *ctx) GW_MUST_USE;
void gw_giver_destroy(struct gw_giver *giver);

/* A request that the successor goes on with; inside `given` only. */
void gw_giver_put_request(struct gw_giver *giver, const struct gw_request *request,
                          const struct gw_core_restored *branches, const char *profile);

/* SUBMIT, RESTORE (their request is freed), CANCEL, STOP: to the successor's core; others are ignored. */
void gw_giver_post(struct gw_giver *giver, const struct gw_event *event);

#endif
