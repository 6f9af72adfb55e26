/* What the two halves of a connection share: http_conn.c (time, reading, life) and http_conn_send.c (answers).
 * Included by these two alone. */
#ifndef GW_CONTROLLER_HTTP_CONN_INTERNAL_H
#define GW_CONTROLLER_HTTP_CONN_INTERNAL_H

#include <event2/buffer.h>
#include <event2/bufferevent.h>

#include "controller/front/http_conn.h"

#define GW_HTTP_NOTE_BYTES 96

enum conn_state { READING, ANSWERING, FLUSHING, LINGERING, DEAD };
enum wait { WAIT_HEAD, WAIT_BODY, WAIT_IDLE }; /* what the read deadline is for */

struct gw_http_conn {
    const struct gw_http_conn_env *env;
    struct bufferevent *bev;
    struct event *timer;
    int64_t timer_us; /* when it is set to fire; 0 = not set */
    struct gw_http_parser *parser;
    size_t counted; /* bytes of its body, in the server's budget */
    void *user;
    enum conn_state state;
    enum wait wait;
    int64_t read_deadline_us;  /* READING, LINGERING; 0 = none */
    bool draining, owes_first; /* owes_first: draining, and yet there is time for its first request */
    bool client_shut;          /* a FIN was read */
    bool close_after;          /* behind the answer in flight */
    /* the answer in flight */
    char request_id[GW_HTTP_REQUEST_ID_MAX + 1];
    const char *method, *route;
    char note[GW_HTTP_NOTE_BYTES];
    int64_t began_us;
    int status; /* 0 until the head was written */
    bool probed, streaming, chunked, no_body, http10;
    int64_t ping_us, wrote_us; /* of a stream: silence that needs a ping; last write */
    uint64_t answer_bytes;
    void (*gone)(void *arg);
    void *gone_arg;
    /* sending: queued_bytes in all since the connection began; those below stall_mark must leave until
     * stall_deadline_us (0 = nothing is queued) */
    uint64_t queued_bytes, stall_mark;
    int64_t stall_deadline_us;
};

static inline int64_t gw_conn_now_us(const struct gw_http_conn *c)
{
    return c->env->clock.now_us(c->env->clock.arg);
}

static inline size_t gw_conn_unsent(const struct gw_http_conn *c)
{
    return evbuffer_get_length(bufferevent_get_output(c->bev));
}

/* http_conn.c */

/* The connection is over; the server is told, and frees it later. */
void gw_conn_die(struct gw_http_conn *c);
/* Sets the timer for the earliest deadline. */
void gw_conn_schedule(struct gw_http_conn *c);
/* Begins to keep the time of a lack of progress in sending, or ends the connection when it is up. */
void gw_conn_watch_stall(struct gw_http_conn *c, int64_t now_us);
/* The answer is complete: on to the next request, or to the connection's end. */
void gw_conn_next(struct gw_http_conn *c);

/* http_conn_send.c */

void gw_conn_put(struct gw_http_conn *c, const void *bytes, size_t len);
/* Sends the first bytes of the answer, early: if the client has closed its socket it says so with a reset. */
void gw_conn_probe(struct gw_http_conn *c);
/* Tells the access log. whole: the answer was sent to its end. */
void gw_conn_report(struct gw_http_conn *c, bool whole);

#endif
