/* Link: the worker's end of the connection to its controller, on a thread of its own.
 *
 * The I/O thread dials, shakes hands, beats, and watches the controller, whatever the engine is busy with.
 * The engine's thread receives items from a bounded queue. What it sends it writes to the socket itself, where the connection is
 * plain and nothing is waiting to be written; else the I/O thread does.
 *
 *     link state   event                              next       what is done
 *     ──────────   ────────────────────────────────   ────────   ──────────────────────────────────────────
 *     DIALING      connected, TLS where it is due     SHAKING    wait for CHALLENGE (5 s)
 *     SHAKING      CHALLENGE with a common protocol   SHAKING    HELLO(mac over its nonce)
 *     SHAKING      WELCOME, right mac, term >= ours   UP         new session: GW_LINK_UP; heartbeats start
 *     SHAKING      REFUSE, hopeless code              ENDED      GW_LINK_REFUSED: the process should end
 *     SHAKING      REFUSE, other                      WAITING    (name still taken, too many workers)
 *     SHAKING      anything else, EOF, 5 s            WAITING    -
 *     either       TLS on one side alone, other key   WAITING    told once
 *     UP           message of this term               UP         GW_LINK_MSG (protocol 1: and generation)
 *     UP           message of another                 UP         dropped
 *     UP           EOF, error, bad frame, silence for controller_timeout, either queue full
 *                                                     WAITING    GW_LINK_LOST; what was queued is dropped
 *     WAITING      back-off passed (50 ms … 1 s)      DIALING    the next controller of the list
 *
 * Lost messages are lost with their session: after GW_LINK_LOST the engine forgets all requests (the
 * controller submits them elsewhere), keeping sealed pages.
 *
 * Owner: create/destroy; received messages are the receiver's (gw_msg_fini). Thread: create, destroy, receive
 * and send from one thread (the engine's). Units: microseconds. Errors: GW_ERR_IO, GW_ERR_MEMORY. Source: own
 * design; wire.h. */
#ifndef GW_WORKER_LINK_H
#define GW_WORKER_LINK_H

#include <sys/socket.h>

#include "base/log.h"
#include "base/tls.h"
#include "migrate/wire.h"

struct gw_link;

#define GW_LINK_CONTROLLERS_MAX 4 /* one that serves, its standbys */

struct gw_link_endpoint {
    struct sockaddr_storage addr;
    socklen_t len;
};

struct gw_link_config {
    struct gw_link_endpoint controllers[GW_LINK_CONTROLLERS_MAX];
    int controllers_len; /* >= 1 */
    const void *key;     /* the cluster key; copied */
    size_t key_len;
    const struct gw_tls *tls;  /* borrowed; NULL: plaintext to everywhere */
    struct gw_msg_hello hello; /* all but mac, proto, nonce and max_term, which are the link's affair */
    const struct gw_log *log;
    /* Called on the I/O thread, NULL if nobody wants to know: */
    void *arg;
    void (*arrived)(void *arg); /* there is something to receive */
    void (*released)(void *arg,
                     uint64_t generation); /* a RELEASE has come; 0: the session is over. Whatever waits for
                                                         ranks of that pipeline may stop waiting at once */
};

enum gw_link_item_type {
    GW_LINK_UP = 1,  /* a session began: nothing of an older one is wanted any more */
    GW_LINK_MSG,     /* everything but PING */
    GW_LINK_LOST,    /* the session is over; the link redials by itself */
    GW_LINK_REFUSED, /* for good; msg is the REFUSE */
};

struct gw_link_item {
    enum gw_link_item_type type;
    uint64_t session;  /* grows with each GW_LINK_UP */
    uint16_t proto;    /* of the session (GW_LINK_UP) */
    struct gw_msg msg; /* of GW_LINK_UP: the WELCOME's head */
};

gw_err_t gw_link_create(const struct gw_link_config *config, struct gw_link **out,
                        struct gw_err_ctx *ctx) GW_MUST_USE;

/* Gives what is queued a short while to be written, then ends the thread. */
void gw_link_destroy(struct gw_link *link);

/* Flushes, and takes the next item; waits at most wait_us (0 = does not wait). False if there was none. */
bool gw_link_receive(struct gw_link *link, int64_t wait_us, struct gw_link_item *out);

/* Queues msg (its term is filled in; protocol 1: pipeline and generation, too) if `session` is still the current one;
 * else drops it. msg stays the caller's. It leaves with the next flush. */
void gw_link_send(struct gw_link *link, uint64_t session, struct gw_msg *msg);
void gw_link_flush(struct gw_link *link);

/* What the next HELLO says of the cells that this worker has. */
void gw_link_set_holds(struct gw_link *link, struct gw_cell_rect holds);

/* What the next heartbeats say. */
void gw_link_set_progress(struct gw_link *link, const struct gw_msg_heartbeat *progress);

/* Makes a waiting gw_link_receive return; async-signal-safe it is not, any thread may call it. */
void gw_link_wake(struct gw_link *link);

#endif
