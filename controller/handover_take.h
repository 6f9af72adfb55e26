/* Hand-over, the successor's side: a controller that is started takes the place of the one that runs.
 *
 *     1  gw_handover_take   before anything is opened: asks, waits for sockets, requests and GO (blocking, with a deadline)
 *     2  the program opens the journal, and front and links on the sockets
 *     3  gw_taken_begin     the requests go to the core; what it says of them goes to the predecessor, who has the clients
 *
 * The predecessor's end cancels what is left of its requests. A successor that gives its place to the next one in the
 * meantime stays between the two, until its predecessor has ended.
 *
 * Owner: take/destroy; the descriptors are the caller's once it has used them. Thread: the loop's. Units: none.
 * Errors: GW_ERR_IO, GW_ERR_PROTO: a predecessor is there and does not give; GW_ERR_MEMORY. Source: own design;
 * handover_wire.h. */
#ifndef GW_CONTROLLER_HANDOVER_TAKE_H
#define GW_CONTROLLER_HANDOVER_TAKE_H

#include <event2/event.h>

#include "base/log.h"
#include "controller/handover_wire.h"

struct gw_taken;

/* *out = NULL if nobody listens at path: there is nothing to take. */
gw_err_t gw_handover_take(const char *path, struct gw_taken **out, struct gw_err_ctx *ctx) GW_MUST_USE;
void gw_taken_destroy(struct gw_taken *taken);

/* The API's, the admin's, the workers' listening socket; each is the caller's from then on. */
int gw_taken_socket(struct gw_taken *taken, int which);

struct gw_taken_config {
    const struct gw_log *log;
    /* RESTORE for each request, later CANCEL and STOP. */
    void (*post)(void *arg, const struct gw_event *event);
    void (*ended)(void *arg); /* the predecessor has, in whatever way */
    void *arg;
};

gw_err_t gw_taken_begin(struct gw_taken *taken, struct event_base *loop, const struct gw_taken_config *config,
                        struct gw_err_ctx *ctx) GW_MUST_USE;

/* Has the predecessor ended? */
bool gw_taken_is_over(const struct gw_taken *taken);

/* An action of the core; true if it was about the predecessor's requests, and has been sent. */
bool gw_taken_on_action(struct gw_taken *taken, const struct gw_action *action);

#endif
