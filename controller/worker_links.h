/* Worker links: the controller's end of the connections that workers dial.
 *
 * Accepts, shakes hands (migrate/wire.h: both sides prove that they hold the cluster key), turns frames into
 * core events and core actions into frames. It decides nothing about requests.
 *
 *     link state   event                         next       what is done
 *     ──────────   ───────────────────────────   ────────   ─────────────────────────────────────────────
 *     -            accept                        HELLO?     CHALLENGE(nonce) is sent
 *     HELLO?       HELLO with the right mac      OPEN       GW_EV_HELLO (core answers WELCOME or REFUSE)
 *     HELLO?       anything else, or 5 s         -          closed; the core never hears of it
 *     HELLO?       no TLS where it is due, TLS   -          the same; counted
 *                  where it is not, wrong key
 *     OPEN         good frame                    OPEN       GW_EV_MSG
 *     OPEN         bad frame, EOF, error         -          GW_EV_LINK_DOWN, closed
 *     OPEN         more than OUT_MAX queued      -          the worker does not read: GW_EV_LINK_DOWN, closed
 *     OPEN         gw_links_close                CLOSING    rest is written for at most 1 s; no further events
 *
 * Owner: create/destroy; messages are borrowed during calls. Thread: the loop's.
 * Units: bytes, microseconds. Errors: GW_ERR_IO when it cannot listen. Source: own design. */
#ifndef GW_CONTROLLER_WORKER_LINKS_H
#define GW_CONTROLLER_WORKER_LINKS_H

#include <event2/event.h>

#include "base/log.h"
#include "base/tls.h"
#include "controller/core/core.h"

struct gw_links;

struct gw_links_config {
    const char *host; /* numeric address */
    uint16_t port;    /* 0 = any free one */
    int socket;       /* > 0: a socket that listens already, to be used instead */
    const void *key;  /* the cluster key; copied */
    size_t key_len;
    const struct gw_tls *tls; /* borrowed; NULL: plaintext from everywhere */
    uint32_t max_links;
    const struct gw_log *log;
    /* Takes each event; called from the loop, never from inside gw_links_send or gw_links_close. */
    void (*event)(void *arg, const struct gw_event *event);
    void *arg;
};

gw_err_t gw_links_create(struct event_base *loop, const struct gw_links_config *config, struct gw_links **out,
                         struct gw_err_ctx *ctx) GW_MUST_USE;
void gw_links_destroy(struct gw_links *links);

/* The socket that it listens on; it stays the links'. */
int gw_links_socket(const struct gw_links *links);

/* The port that it listens on. */
uint16_t gw_links_port(const struct gw_links *links);

/* How many dialers were turned away because they do not hold the cluster key, or one side alone spoke TLS. */
uint64_t gw_links_turned_away(const struct gw_links *links);

/* Queues msg. Unknown links are ignored (they have just died). A WELCOME gets its mac here. */
void gw_links_send(struct gw_links *links, uint64_t link, struct gw_msg *msg);

/* Closes after what was queued; no event follows for this link. */
void gw_links_close(struct gw_links *links, uint64_t link, const char *reason);

#endif
