/* One completion request, from HTTP request to the end of its answer: the data that completion.c (states,
 * core) and completion_send.c (answer) share. Included by these two alone.
 *
 *     state        event                         next         what is done
 *     ──────────   ───────────────────────────   ──────────   ───────────────────────────────────────
 *     -            HTTP request                  TOKENIZING   a pool job parses, renders, tokenizes
 *     -            job queue full                -            429
 *     TOKENIZING   job done: good                WAITING      one SUBMIT per prompt
 *     TOKENIZING   job done: bad · skipped       DONE         the error it found · 503
 *     TOKENIZING   client gone · shutdown        DONE         freed when the job is back
 *     WAITING      TOKENS                        RUNNING      a stream's head goes out
 *     WAITING      no token for a ping interval  WAITING      a stream's head goes out, pings follow
 *     RUNNING      TOKENS                        RUNNING      text goes out (stream) or is kept
 *     RUNNING      stop string · FINISH          RUNNING      the choice ends; STOP(keep) tells the core
 *     RUNNING      last choice ended             DONE         rest of the answer
 *     WAITING ┐    FAILED                        DONE         429, 503, 400, 500, or (head is out) an error
 *     RUNNING ┘                                               event; other prompts of it are cancelled
 *     WAITING ┐    client gone                   DONE         CANCEL for each prompt
 *     RUNNING ┘
 *     WAITING ┐    shutdown's grace is over      DONE         CANCEL for each prompt; 503 or an error event
 *     RUNNING ┘
 *     DONE         anything                      DONE         nothing: its ids are unknown
 *
 * Events for the core are never posted from inside an action: they are marked, and posted from the loop
 * (gw_completions_flush), which also frees what is DONE. */
#ifndef GW_CONTROLLER_COMPLETION_INTERNAL_H
#define GW_CONTROLLER_COMPLETION_INTERNAL_H

#include "controller/front/choice.h"
#include "controller/front/front_internal.h"
#include "controller/front/openai_response.h"

#define GW_ANSWER_BYTES_MAX (256u << 20) /* held for one answer that is not streamed */

enum gw_completion_state {
    GW_COMPLETION_TOKENIZING = 1,
    GW_COMPLETION_WAITING,
    GW_COMPLETION_RUNNING,
    GW_COMPLETION_DONE,
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
    int64_t last_us; /* of its last record */
};

struct gw_completion {
    LIST_ENTRY(gw_completion) all;
    STAILQ_ENTRY(gw_completion) dirty;
    struct gw_front *front;
    struct gw_http_conn *conn; /* NULL once gone or answered */
    enum gw_completion_state state;
    bool is_dirty, in_job;
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
