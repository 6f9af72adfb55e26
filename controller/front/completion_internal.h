/* One completion request, from HTTP request to the end of its answer: the data that completion.c (states,
 * core), completion_send.c (answer) and completion_stream.c (streams that clients may come back to) share. Included by
 * these alone. c->stream: the client opted in by `Godwit-Resume: 1`.
 *
 *     state        event                         next         what is done
 *     ──────────   ───────────────────────────   ──────────   ───────────────────────────────────────
 *     -            HTTP request                  TOKENIZING   a pool job parses, renders, tokenizes
 *     -            job queue full                -            429
 *     TOKENIZING   job done: good                WAITING      one SUBMIT per prompt
 *     TOKENIZING   the same, c->stream           JOURNALING   BEGIN goes to the journal (none: at once WAITING)
 *     JOURNALING   it is durable                 WAITING      one SUBMIT per prompt; the head, with the stream's id
 *     JOURNALING   it is not                     DONE         503
 *     JOURNALING   client gone                   DONE         it never learned the id
 *     TOKENIZING   job done: bad · skipped       DONE         the error it found · 503
 *     TOKENIZING   client gone · shutdown        DONE         freed when the job is back
 *     WAITING      TOKENS                        RUNNING      a stream's head goes out
 *     WAITING      no token for a ping interval  WAITING      a stream's head goes out, pings follow
 *     RUNNING      TOKENS                        RUNNING      text goes out (stream) or is kept
 *     RUNNING      stop string · FINISH          RUNNING      the choice ends; STOP(keep) tells the core
 *     RUNNING      last choice ended             DONE         rest of the answer (c->stream: HELD)
 *     WAITING ┐    FAILED                        DONE         429, 503, 400, 500, or (head is out) an error
 *     RUNNING ┘                                               event; other prompts of it are cancelled
 *                                                             (c->stream: HELD, with the error)
 *     WAITING ┐    client gone                   DONE         CANCEL for each prompt
 *     RUNNING ┘
 *     the same,    client gone                   same         tokens go on into the log; the grace begins
 *     c->stream    grace over, nobody came       DONE         CANCEL for each prompt; the journal's entry ends
 *     the same ┐   GET /v1/streams/{id}          same         an older connection of it ends; what the client lacks is
 *     HELD     ┘                                               sent, the stream goes on
 *     HELD         grace over                    DONE         the journal's entry ends
 *     -            entry of a journal            RUNNING      what the core still has to generate is RESTOREd; the grace
 *                                                or HELD      begins
 *     WAITING ┐    shutdown's grace is over      DONE         CANCEL for each prompt; 503 or an error event
 *     RUNNING ┘                                               (c->stream with a journal: the connection is broken, the
 *                                                             entry stays, the next controller goes on)
 *     DONE         anything                      DONE         nothing: its ids are unknown
 *
 * Events for the core are never posted from inside an action: they are marked, and posted from the loop
 * (gw_completions_flush), which also frees what is DONE. */
#ifndef GW_CONTROLLER_COMPLETION_INTERNAL_H
#define GW_CONTROLLER_COMPLETION_INTERNAL_H

#include "controller/front/choice.h"
#include "controller/front/front_internal.h"
#include "controller/front/openai_response.h"
#include "controller/front/stream_log.h"
#include "controller/front/stream_position.h"

#define GW_ANSWER_BYTES_MAX (256u << 20) /* held for one answer that is not streamed, or can be read again */

enum gw_completion_state {
    GW_COMPLETION_TOKENIZING = 1,
    GW_COMPLETION_JOURNALING,
    GW_COMPLETION_WAITING,
    GW_COMPLETION_RUNNING,
    GW_COMPLETION_HELD, /* has ended, can still be read */
    GW_COMPLETION_DONE,
};

/* What makes a completion a stream that its client may come back to. Arrays are [choices_len]. */
struct gw_completion_stream {
    struct gw_stream_log *logs;
    uint32_t *sendable;       /* records that may be sent: all of them, or those that are durable */
    struct gw_position *sent; /* where the client stands, as far as it was told */
    bool usage_sent;
    bool known;                         /* the client has been told the id */
    bool journaled;                     /* the journal has its entry: that of parts[0].id */
    bool held;                          /* counted in front->held_len */
    bool failed;                        /* by `error` */
    uint32_t writes;                    /* durables that are still to come */
    int64_t deadline_us;                /* it ends then unless somebody is connected; 0 = not known */
    char profile[GW_WIRE_NAME_MAX + 1]; /* of the records; "" = there are none */
    struct gw_openai_error error;
};

/* One prompt = one request of the core. */
struct gw_part {
    struct gw_completion *owner;
    uint64_t id;
    uint32_t index;
    bool accepted;
    bool live;   /* the core knows it: CANCEL makes sense */
    bool cancel; /* to be posted */
};

/* Choice i = prompt i / n, branch i % n. */
struct gw_completion_choice {
    struct gw_choice text;
    bool begun;      /* its first event went out */
    bool ended;      /* and its last */
    bool counted;    /* its end, by the metrics */
    int64_t last_us; /* of its last record */
};

struct gw_completion {
    LIST_ENTRY(gw_completion) all;
    STAILQ_ENTRY(gw_completion) dirty;
    struct gw_front *front;
    struct gw_http_conn *conn; /* NULL once gone or answered */
    enum gw_completion_state state;
    bool is_dirty, in_job;
    struct gw_completion_stream *stream; /* NULL: it lives as long as its connection */
    uint8_t tenant[GW_REQUEST_TENANT_BYTES];
    enum gw_openai_endpoint endpoint;
    /* the job's: body in; request or error out */
    struct gw_http_body body;
    struct gw_openai_request *request;
    struct gw_openai_error error;
    /* from WAITING on */
    struct gw_openai_envelope envelope;
    struct gw_part *parts; /* [request->prompts_len] */
    struct gw_completion_choice *choices;
    uint32_t choices_len, open; /* open: not ended yet */
    struct gw_openai_usage usage;
    size_t held_bytes;
    bool head_sent;
    int64_t received_us, first_us; /* first_us: of the first token, 0 before */
};

/* ---- completion.c ---- */

/* The loop looks at it again: there is something to post, or it is to be freed. */
void gw_completion_mark_dirty(struct gw_completion *c);
/* From here on nothing is heard or said; the loop frees it. */
void gw_completion_enter_done(struct gw_completion *c);
/* What the core says of it from now on is not for it. */
void gw_completion_forget_parts(struct gw_completion *c);
/* Everyone that works for it is told to stop, from the loop. */
void gw_completion_cancel_parts(struct gw_completion *c);
void gw_completion_fail(struct gw_completion *c, const struct gw_openai_error *error);
/* Parts and choices of c->request; ids: of the core's requests, NULL = fresh ones. */
gw_err_t gw_completion_prepare(struct gw_completion *c, const uint64_t *ids) GW_MUST_USE;
/* The client of the held connection has gone (gw_http_conn_hold). arg is the completion. */
void gw_completion_on_gone(void *arg);
/* c has been accepted: its prompts go to the core. */
void gw_completion_submit(struct gw_completion *c);
/* The choice's text has changed, in one way or another. `before`: the bytes that it held. */
void gw_completion_after_change(struct gw_completion *c, uint32_t i, gw_err_t err, size_t before);
/* A completion that nothing is known of yet, in the front's list; NULL: out of memory. */
struct gw_completion *gw_completion_create(struct gw_front *f, enum gw_openai_endpoint endpoint);
void gw_completion_destroy(struct gw_completion *c);

/* ---- completion_stream.c ---- */

/* Looks at the request's Godwit-Resume; makes c->stream if it opts in. *error is filled on error. */
gw_err_t gw_completion_stream_opt_in(struct gw_completion *c, struct gw_http_conn *conn,
                                     struct gw_openai_error *error) GW_MUST_USE;
/* The choices are there: BEGIN goes to the journal, gw_completion_submit follows. */
void gw_completion_stream_begin(struct gw_completion *c);
/* The client has gone. False: nobody can come back to it. */
bool gw_completion_stream_detach(struct gw_completion *c);
/* c has ended or failed (error, else NULL), and what its client had to be told was sent. False: nobody can read it. */
bool gw_completion_stream_hold(struct gw_completion *c, const struct gw_openai_error *error);
void gw_completion_stream_tokens(struct gw_completion *c, uint32_t i, const struct gw_tokens *tokens,
                                 const char *profile);
void gw_completion_stream_finish(struct gw_completion *c, uint32_t i, enum gw_finish reason);
void gw_completion_stream_tick(struct gw_completion *c, int64_t now_us);
/* The front ends: true if the next controller goes on with it. */
bool gw_completion_stream_suspend(struct gw_completion *c);
/* Writes of it are under way: it may not be freed. */
bool gw_completion_stream_is_busy(const struct gw_completion *c);
/* The arrays of c->stream, for c->request. */
gw_err_t gw_completion_stream_alloc(struct gw_completion *c) GW_MUST_USE;
/* Feeds choice i with what may be sent of its log, and with its end. */
void gw_completion_stream_advance(struct gw_completion *c, uint32_t i);
/* Called by gw_completion_enter_done and by gw_completion_destroy. */
void gw_completion_stream_over(struct gw_completion *c);
void gw_completion_stream_destroy(struct gw_completion *c);
/* "id: …" of the next event, for c->stream->sent as it is behind that event; nothing without a stream. */
void gw_completion_stream_put_id(struct gw_completion *c, struct gw_buf *b);
static inline struct gw_position *gw_completion_stream_sent(struct gw_completion *c, uint32_t i)
{
    return c->stream ? &c->stream->sent[i] : NULL;
}
/* The usage event goes out; false if the client has it. */
bool gw_completion_stream_usage(struct gw_completion *c);

/* ---- completion_send.c ---- */

/* Tells the access log what is known of it by now. */
void gw_completion_note(struct gw_completion *c);
/* Sends a stream's head, once. */
void gw_completion_send_head(struct gw_completion *c);
/* Sends what choice i may show (streams only). */
void gw_completion_send_text(struct gw_completion *c, uint32_t i);
/* Sends the end of choice i (streams only). */
void gw_completion_send_finish(struct gw_completion *c, uint32_t i);
/* Sends the rest: end of the stream or the whole body. The connection is let go. */
void gw_completion_send_end(struct gw_completion *c);
/* Sends an error, as a response or as the stream's last event. The connection is let go. */
void gw_completion_send_error(struct gw_completion *c, const struct gw_openai_error *error);

#endif
