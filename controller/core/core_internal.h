/* The core's own state and the calls between its files; nothing outside controller/core includes it.
 *
 *     core.c           create, step, deadlines, views
 *     core_actions.c   the list of actions and the memory that they point to
 *     core_workers.c   registration, heartbeats, loss
 *     core_requests.c  submit, cancel, stop, loss, end
 *     core_tokens.c    records from workers into the logs
 *     core_route.c     which worker a queued request goes to
 *     core_moves.c     notices, CUTOVER, HANDOFF
 *     core_notices.c   what was announced about instances that may come (back)
 *
 * What is freed during a step (requests, workers) may still be pointed to by its actions: it lies on a
 * graveyard until the next step.
 *
 * Owner: gw_core owns all. Thread: one. Units: microseconds. Errors: see core.h. Source: own design. */
#ifndef GW_CONTROLLER_CORE_INTERNAL_H
#define GW_CONTROLLER_CORE_INTERNAL_H

#include "base/id_map.h"
#include "controller/core/core.h"
#include "controller/core/core_log.h"

#define CORE_PROFILES_MAX 16   /* numerics profiles seen in one cluster; a mixed fleet has two or three */
#define CORE_NOTICES_MAX  256  /* announcements kept for instances that reconnect before their deadline */
#define CORE_AFFINITY_CAP 8192 /* prefixes remembered; a power of two; 192 KiB */
#define CORE_IDLE_LOSSES  2    /* losses without progress until a request runs alone (DESIGN part 6) */
/* … until it fails. DESIGN says 3, one alone; but where machines go every second an innocent request with a long
 * prompt was caught by that (churn test, cut links). Three lone workers in a row are no coincidence; a poison
 * request costs two workers more. */
#define CORE_FATAL_LOSSES 5
#define CORE_PING_EVERY   4 /* heartbeats per PING */
#define CORE_PROFILE_NONE 0 /* a request that no worker has generated for */

enum core_request_state {
    CORE_QUEUED,  /* in a queue, no worker */
    CORE_RUNNING, /* on worker */
    CORE_MOVING,  /* on worker, CUTOVER sent, HANDOFF awaited */
};

struct core_list {
    struct core_request *first, *last;
    uint32_t len;
};

struct core_request {
    struct core_request *prev, *next; /* in list */
    struct core_list *list;           /* a queue of the core, or its worker's requests */
    struct gw_request *request;
    enum core_request_state state;
    uint32_t attempt;
    struct core_worker *worker;   /* NULL iff QUEUED */
    struct core_worker *reserved; /* the worker that is kept free for it, or NULL */
    bool started;                 /* a step of this attempt has begun */
    bool progressed;              /* a record was committed since the last loss */
    bool announced;               /* how it left its last worker */
    bool alone;                   /* poison suspect: shares its worker with nobody */
    uint8_t idle_losses;          /* counted losses since the last commit */
    uint8_t profile;              /* what its records were computed with */
    uint32_t open;                /* branches that have not ended */
    uint32_t prefill_tokens;      /* what it adds to worker->prefill_tokens */
    int64_t wait_until_us;        /* QUEUED: fails then */
    struct core_log logs[];       /* [request->n] */
};

enum core_worker_state { CORE_UP, CORE_DOOMED };

/* One incarnation of one worker: lives as long as its link. */
struct core_worker {
    struct core_worker *next_dead;
    uint64_t link;
    struct gw_msg_hello hello;
    enum core_worker_state state;
    uint32_t pipeline;   /* its slot in core->workers */
    uint64_t generation; /* unique in this term */
    uint8_t profile;
    bool rechecked;   /* silent, and given a second chance because many were */
    int64_t heard_us; /* last frame */
    int64_t silent_at_us;
    int64_t notice_deadline_us;  /* DOOMED */
    int64_t handoff_deadline_us; /* 0 = no HANDOFF is awaited */
    struct core_list requests;
    uint32_t moving;            /* how many of them are MOVING */
    uint32_t branches;          /* open branches of all of them */
    uint64_t prefill_tokens;    /* of requests whose first step has not begun */
    struct core_request *alone; /* the one request it serves or is being emptied for */
    struct gw_msg_heartbeat last;
};

/* `name` will go. */
struct core_notice {
    char name[GW_WIRE_NAME_MAX + 1]; /* "" = free entry */
    uint32_t pid;                    /* 0: name is an instance; else the worker process of that name */
    int64_t deadline_us;
};

struct core_affinity {
    uint64_t prefix; /* hash; 0 = free entry */
    uint32_t pipeline;
    uint64_t generation;
};

struct core_arena_block;

struct gw_core {
    struct gw_core_config config;
    struct gw_core_stats stats; /* counters only; gauges are filled in by gw_core_stats */

    struct gw_action *actions;
    size_t actions_len, actions_cap;
    struct core_arena_block *arena;
    struct core_request *dead_requests; /* by next */
    struct core_worker *dead_workers;   /* by next_dead */

    struct gw_id_map requests;    /* id → core_request */
    struct gw_id_map links;       /* link → core_worker */
    struct core_worker **workers; /* [config.max_workers] by pipeline, NULL = free */
    uint32_t workers_end;         /* slots from here on have never been used */
    uint32_t workers_len, workers_up, workers_reserved;
    uint64_t last_generation;
    char profiles[CORE_PROFILES_MAX + 1][GW_WIRE_NAME_MAX + 1]; /* by number, from 1 on */
    uint8_t profiles_len;

    struct core_list fresh;                        /* never been on a worker */
    struct core_list retry[CORE_PROFILES_MAX + 1]; /* resubmissions, served first, by profile */
    struct core_list alone;                        /* poison suspects */
    bool fleet_changed; /* a worker came, went, or changed state: doomed ones may have a target now */
    bool dispatch_due;  /* something was queued, or room has come */

    struct core_notice notices[CORE_NOTICES_MAX];
    struct core_affinity affinity[CORE_AFFINITY_CAP];

    /* Lower bounds of when something falls due; the scans that they start make them exact again. */
    int64_t silence_due_us, moves_due_us, ping_due_us;
    int64_t stepped_us; /* the last step's time */
    uint64_t ping_sequence;
};

/* ---- core_actions.c ---- */

/* Frees what the last step's actions pointed to. */
void core_actions_reset(struct gw_core *core);
/* Room for all actions that one step can bring with so many requests and workers; called before either grows,
 * so that no step needs memory to say what it has done. */
gw_err_t core_actions_reserve(struct gw_core *core, size_t requests, size_t workers) GW_MUST_USE;
struct gw_action *core_act(struct gw_core *core, enum gw_action_type type);
/* Zeroed memory until the next step; NULL without memory. */
void *core_arena_alloc(struct gw_core *core, size_t bytes);
/* A message to w with the fences filled in, queued for sending; NULL without memory. */
struct gw_msg *core_send(struct gw_core *core, const struct core_worker *w, enum gw_msg_type type);
/* Best effort: without memory the worker computes in vain and is not listened to. */
void core_send_cancel(struct gw_core *core, const struct core_request *r, uint32_t branch);
/* A note about w and r, either of which may be NULL. */
struct gw_note *core_note(struct gw_core *core, enum gw_note_kind kind, const struct core_worker *w,
                          const struct core_request *r, const char *text);

/* ---- core_requests.c ---- */

void core_list_push(struct core_list *list, struct core_request *r);
void core_list_remove(struct core_request *r);
void core_on_submit(struct gw_core *core, int64_t now_us, struct gw_request *request);
void core_on_cancel(struct gw_core *core, uint64_t request);
void core_on_stop(struct gw_core *core, uint64_t request, uint32_t branch, uint32_t keep);
void core_on_reject(struct gw_core *core, const struct core_worker *w, const struct gw_msg_reject *m);
/* The request of a frame if w may speak for that attempt; else NULL, and the frame is counted as stale. */
struct core_request *core_request_of(struct gw_core *core, const struct core_worker *w, uint64_t id,
                                     uint32_t attempt);
/* Puts it on w's list as the running attempt, or takes it off (→ QUEUED, in no list). */
void core_request_attach(struct core_request *r, struct core_worker *w);
void core_request_detach(struct gw_core *core, struct core_request *r);
/* Detached → the right queue. */
void core_request_requeue(struct gw_core *core, struct core_request *r, int64_t now_us);
/* Its worker has it no more: resubmitted, or failed by the poison rule. */
void core_request_lost(struct gw_core *core, struct core_request *r, int64_t now_us, bool announced);
/* GW_ACT_FAILED; forgotten. text must live until the next step. */
void core_request_fail(struct gw_core *core, struct core_request *r, gw_err_t code, const char *text);
/* One branch has ended; the last one ends the request. */
void core_branch_end(struct gw_core *core, struct core_request *r, uint32_t branch);
/* Gives back the worker that is reserved for r, if any. */
void core_release(struct gw_core *core, struct core_request *r);
void core_request_free(struct core_request *r);
uint32_t core_request_committed(const struct core_request *r);
void core_queues_tick(struct gw_core *core, int64_t now_us);
int64_t core_queues_due_us(const struct gw_core *core);
uint32_t core_queues_len(const struct gw_core *core);

/* ---- core_tokens.c ---- */

void core_on_tokens(struct gw_core *core, struct core_worker *w, int64_t now_us,
                    const struct gw_msg_tokens *m);

/* ---- core_workers.c ---- */

void core_on_hello(struct gw_core *core, int64_t now_us, uint64_t link, const struct gw_msg *msg);
void core_on_msg(struct gw_core *core, int64_t now_us, uint64_t link, const struct gw_msg *msg);
void core_on_link_down(struct gw_core *core, int64_t now_us, uint64_t link);
/* The worker is gone: its requests are resubmitted. close_link: the link is still open. */
void core_worker_lost(struct gw_core *core, struct core_worker *w, int64_t now_us, const char *why,
                      bool close_link);
void core_silence_tick(struct gw_core *core, int64_t now_us);
/* Nobody could be heard for gap_us. */
void core_silence_extend(struct gw_core *core, int64_t gap_us);
void core_ping_tick(struct gw_core *core, int64_t now_us);
void core_worker_set_state(struct gw_core *core, struct core_worker *w, enum core_worker_state state);

/* ---- core_route.c ---- */

/* Sends queued requests to workers with room. */
void core_dispatch(struct gw_core *core);

/* ---- core_moves.c ---- */

void core_on_notice(struct gw_core *core, int64_t now_us, const char *name, uint8_t kind,
                    int64_t deadline_us);
void core_on_worker_notice(struct gw_core *core, struct core_worker *w, int64_t now_us,
                           const struct gw_msg_notice *m);
void core_on_handoff(struct gw_core *core, struct core_worker *w, int64_t now_us,
                     const struct gw_msg_handoff *m);
/* A new worker may belong to an instance that will go. */
void core_moves_greet(struct gw_core *core, struct core_worker *w, int64_t now_us);
/* Cuts over doomed workers that have a target now. */
void core_moves_review(struct gw_core *core, int64_t now_us);
void core_moves_tick(struct gw_core *core, int64_t now_us);

/* ---- core_notices.c ---- */

void core_notice_put(struct gw_core *core, const char *name, uint32_t pid, int64_t deadline_us);
/* Forgets all entries of that name; of one process if pid is not 0. */
void core_notice_remove(struct gw_core *core, const char *name, uint32_t pid);
/* The deadline that was announced for this worker and is still to come; 0 = none. */
int64_t core_notice_find(const struct gw_core *core, const struct core_worker *w, int64_t now_us);

#endif
