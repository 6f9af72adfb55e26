/* One HTTP connection: requests are read one at a time, each is answered before the next is looked at.
 *
 *     state       event                              next        what is done
 *     ─────────   ────────────────────────────────   ─────────   ───────────────────────────────────────
 *     READING     a whole request                    ANSWERING   the owner's `request` is called
 *     READING     malformed · too late (head, body)  ANSWERING   the owner's `refuse` answers, then close
 *     READING     idle too long · client closed      DEAD
 *     ANSWERING   answer ended, connection is kept   READING     a pipelined request is already in the buffer
 *     ANSWERING   answer ended, to be closed         FLUSHING
 *     ANSWERING   client half-closed                 ANSWERING   it still gets its answer; see "gone" below
 *     ANSWERING   reset · write stall · queue full   DEAD        `gone` of the request is called
 *     FLUSHING    everything was sent                LINGERING   our side is shut; input is discarded so that
 *                                                                the answer is not destroyed by a reset
 *     LINGERING   client closed · linger time over   DEAD
 *
 * Gone. A client that closes its socket and one that only shuts its sending side look the same (a FIN) until
 * bytes are sent to it. So upon a FIN the first bytes of every response, "HTTP/1.1 ", are sent early: a
 * closed socket answers them with a reset.
 *
 * Handlers answer either inside `request` or later; one that answers later says so with gw_http_conn_hold,
 * and its `gone` fires exactly once if the client goes before the answer has ended (respond, stream_end),
 * never after. It is never called from inside a gw_http_conn_* function. A dead connection may be written to
 * until `gone` was called (nothing happens).
 *
 * Owner: the server (http_server.c); a dead connection is freed later, from the loop. Thread: the loop's.
 * Units: bytes, microseconds. Errors: trouble with the peer ends the connection. Source: own design. */
#ifndef GW_CONTROLLER_HTTP_CONN_H
#define GW_CONTROLLER_HTTP_CONN_H

#include <event2/event.h>

#include "base/clock.h"
#include "controller/front/http_body.h"
#include "controller/front/http_parser.h"

#define GW_HTTP_REQUEST_ID_MAX 64

struct gw_http_conn;

struct gw_http_conn_config {
    struct gw_http_limits limits;
    int64_t head_timeout_us;  /* from the first byte (or accept) to the end of the head */
    int64_t body_timeout_us;  /* from the end of the head to the end of the body */
    int64_t idle_timeout_us;  /* between requests */
    int64_t stall_timeout_us; /* a byte that is queued must have left after at most twice so long */
    size_t queued_bytes_max;  /* unsent bytes; with more the reader is too slow and is dropped */
};

/* What is known of one request when its answer has ended, for the access log. */
struct gw_http_access {
    const char *request_id, *method, *route;
    const char *note; /* what the handler said of it, "" if nothing */
    int status;       /* 0: no answer was begun */
    bool whole;       /* false: the client went before the end */
    uint64_t bytes;
    int64_t us;
};

/* What a connection needs around it; outlives it. */
struct gw_http_conn_env {
    struct event_base *loop;
    struct gw_clock clock;
    const struct gw_http_conn_config *config;
    struct gw_http_budget *budget;
    /* The head is known and a body will follow; may answer (with an error). */
    void (*head)(void *arg, struct gw_http_conn *conn);
    /* A whole request; must answer or hold. */
    void (*request)(void *arg, struct gw_http_conn *conn);
    /* Not a request; must answer at once. The connection closes behind the answer. */
    void (*refuse)(void *arg, struct gw_http_conn *conn, int status, const char *why);
    void (*access)(void *arg, const struct gw_http_access *access);
    /* The connection is dead: destroy it soon, but not inside this call. */
    void (*dead)(void *arg, struct gw_http_conn *conn);
    void *arg;
};

/* Takes the (non-blocking) socket in every case. */
gw_err_t gw_http_conn_create(const struct gw_http_conn_env *env, evutil_socket_t fd,
                             struct gw_http_conn **out) GW_MUST_USE;
void gw_http_conn_destroy(struct gw_http_conn *conn);

/* No further request is taken: idle connections end now, busy ones behind their answer. One that has not had its first
 * request yet has first_us for it, a request that is on its way into our process is answered. */
void gw_http_conn_drain(struct gw_http_conn *conn, int64_t first_us);

/* A slot for the server (its list node). */
void gw_http_conn_set_user(struct gw_http_conn *conn, void *user);
void *gw_http_conn_user(const struct gw_http_conn *conn);

/* ---- for handlers ---- */

/* The request being answered; its pointers are valid until the answer has ended. */
struct gw_http_request *gw_http_conn_request(struct gw_http_conn *conn);
/* Moves the request's body out, for a handler that holds and works elsewhere. */
struct gw_http_body gw_http_conn_take_body(struct gw_http_conn *conn);

/* For the access log: the matched route (a constant), and a few words. */
void gw_http_conn_set_route(struct gw_http_conn *conn, const char *route);
void gw_http_conn_note(struct gw_http_conn *conn, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

void gw_http_conn_hold(struct gw_http_conn *conn, void (*gone)(void *arg), void *arg);
/* The connection closes behind this answer. */
void gw_http_conn_close_after(struct gw_http_conn *conn);

struct gw_http_answer {
    int status;
    const char *content_type;
    const struct gw_http_header *headers;
    int headers_len;
    const void *body;
    size_t body_len;
};

/* A whole answer; ends it. */
void gw_http_conn_respond(struct gw_http_conn *conn, const struct gw_http_answer *answer);

/* An answer in pieces (answer->body is not looked at). After ping_us of silence a ": ping" comment is sent; 0
 * = never. */
void gw_http_conn_stream_begin(struct gw_http_conn *conn, const struct gw_http_answer *answer,
                               int64_t ping_us);
void gw_http_conn_stream_write(struct gw_http_conn *conn, const void *bytes, size_t len);
/* Ends it, properly. */
void gw_http_conn_stream_end(struct gw_http_conn *conn);
/* The answer cannot be completed: breaks the connection, so that the client sees that. Other calls may
 * follow. */
void gw_http_conn_abort(struct gw_http_conn *conn);

#endif
