/* What serve.c (link and pipelines in one loop), serve_requests.c and serve_progress.c share. */
#ifndef GW_WORKER_SERVE_INTERNAL_H
#define GW_WORKER_SERVE_INTERNAL_H

#include <pthread.h>

#include "worker/member.h"
#include "worker/resync.h"
#include "worker/serve.h"

/* In whose name an engine speaks. */
struct speaker {
    struct gw_serve *serve;
    uint32_t pipeline;
    uint64_t generation;
};

struct gw_serve {
    struct gw_serve_config config;
    const struct gw_log *log;
    struct gw_link *link;
    uint64_t session;             /* 0 = no controller */
    uint16_t proto;               /* of the session */
    struct gw_cell_loaded before; /* the session: loaded by then */
    struct gw_traffic_bytes traffic_before;
    struct speaker speakers[2]; /* of what serves, and of what is prepared */
    uint32_t speaker;           /* of what serves */
    struct gw_engine_sink sink; /* of what is prepared */
    bool leaving, ended;
    enum gw_serve_status status;
    int64_t deadline_us;  /* of our own NOTICE */
    int64_t busy_last_us; /* while leaving: when there was something to do last */
    uint32_t handoff_len[GW_REQUEST_BRANCHES_MAX];
    bool told; /* READY of the prepared one has been sent */
    struct gw_resync resync;

    pthread_mutex_t lock; /* guards which members there are, against the link's thread */
    struct gw_member *serving, *prepared;
};

/* Is that whom the message's head names? m: may be NULL. */
bool serve_is(const struct gw_member *m, const struct gw_msg *msg);

void serve_send_for(struct gw_serve *s, uint32_t pipeline, uint64_t generation, struct gw_msg *msg);
void serve_send_of(struct gw_serve *s, const struct gw_member *m, struct gw_msg *msg);

/* A device that has failed fails every step that follows. */
void serve_give_up(struct gw_serve *s, struct gw_member **which, const struct gw_err_ctx *why);

/* What the engine of m, which is to be the next one, speaks into; valid until the one behind it. */
struct gw_engine_sink serve_next_sink(struct gw_serve *s, const struct gw_member *m);

/* SUBMIT, WARM, CANCEL, CUTOVER. */
void serve_on_request_msg(struct gw_serve *s, struct gw_msg *msg);

/* Requests of a pipeline that we lead. */
uint32_t serve_requests_here(const struct gw_serve *s);

/* Puts into the next heartbeat what is known now. */
void serve_say_progress(struct gw_serve *s, bool stepped);

#endif
