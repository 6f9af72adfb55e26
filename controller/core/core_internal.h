/* The core's own state and the calls between its files; nothing outside controller/core includes it.
 *
 *     core.c              create, step, deadlines
 *     core_views.c        what admin, metrics and the planner may look at
 *     core_actions.c      the list of actions and the memory that they point to
 *     core_workers.c      registration, heartbeats, loss
 *     core_pipelines.c    a pipeline's life: ASSIGN, READY, START, BROKEN, its end
 *     core_plan.c         a plan against what is there
 *     core_transitions.c  when the old ones drain and the new ones start
 *     core_requests.c     submit, cancel, stop, loss, end
 *     core_restore.c      requests of an earlier controller
 *     core_tokens.c       records from workers into the logs
 *     core_route.c        which pipeline a queued request goes to
 *     core_moves.c        CUTOVER, HANDOFF, deadlines
 *     core_holders.c      which workers may hold a request's KV, and the messages that name them
 *     core_sources.c      which workers may have the weights that a rank lacks
 *     core_warm.c         copying KV ahead of a move: WARM, WARMED, and what came of it: ORIGIN
 *     core_notices.c      what was announced about instances, also of those that may come (back)
 *
 * A request runs on a pipeline, a pipeline on workers. What is freed during a step (requests, pipelines, workers)
 * may still be pointed to by its actions: it lies on a graveyard until the next step.
 *
 * Owner: gw_core owns all. Thread: one. Units: microseconds. Errors: see core.h. Source: own design. */
#ifndef GW_CONTROLLER_CORE_INTERNAL_H
#define GW_CONTROLLER_CORE_INTERNAL_H

#include "base/id_map.h"
#include "controller/core/core.h"
#include "controller/core/core_log.h"

#define CORE_PROFILES_MAX         16 /* numerics profiles seen in one cluster; a mixed fleet has two or three */
#define CORE_NOTICES_MAX          256 /* announcements kept for instances that reconnect before their deadline */
#define CORE_PIPELINES_PER_WORKER 3    /* it serves in one, prepares one, and a plan has made the next one */
#define CORE_AFFINITY_CAP         8192 /* prefixes remembered; a power of two; 192 KiB */
#define CORE_IDLE_LOSSES          2 /* losses without progress until a request runs alone (DESIGN part 6) */
/* … until it fails. DESIGN says 3, one alone; but where machines go every second an innocent request with a long
 * prompt was caught by that (churn test, cut links). Three lone workers in a row are no coincidence; a poison
 * request costs two workers more. */
#define CORE_FATAL_LOSSES   5
#define CORE_PING_EVERY     4 /* heartbeats per PING */
#define CORE_PROFILE_NONE   0 /* a request that no pipeline has generated for */
#define CORE_PROTO_PIPELINE 2 /* the first protocol whose workers can be one rank of several */
#define CORE_PROTO_KV       3 /* the first protocol whose workers serve and fetch pages */
#define CORE_PROTO_ZONES    5 /* the first one whose workers are told zones, and tell of bytes between them */
#define CORE_PROTO_CELLS    4 /* the first one whose workers give and fetch weights */
#define CORE_PROTO_RESYNC   6 /* the first one whose workers say what they ran before */
#define CORE_FALLEN_MAX     4 /* pipelines that break at once: one partition of the fleet breaks about so many */
#define CORE_PAST_MAX                                                                                        \
    32 /* pipelines that have ended and whose ranks are still known: 33 KiB; layouts change rarely */

enum core_request_state {
    CORE_QUEUED,  /* in a queue, no pipeline */
    CORE_RUNNING, /* on pipeline */
    CORE_MOVING,  /* on pipeline, CUTOVER sent, HANDOFF awaited */
};

struct core_list {
    struct core_request *first, *last;
    uint32_t len;
};

/* A worker's incarnation that was a rank of a pipeline in which a request has been: it may have pages of it. */
struct core_holder {
    uint64_t link;
    struct gw_cell_rect cells; /* that it had there */
};

/* The copy of a request's KV that is made ahead of its next move. At most one. */
struct core_warm {
    uint64_t generation; /* of the pipeline that makes it; 0 = there is none */
    uint32_t number;     /* the same one's */
    uint32_t attempt;    /* that WARM names */
    uint32_t committed;  /* records that WARM had, of all branches */
    bool pending;        /* WARMED is awaited */
    int64_t sent_us;
    int64_t took_us; /* WARM to WARMED */
    uint32_t tokens; /* that WARMED says are there */
};

struct core_request {
    struct core_request *prev, *next; /* in list */
    struct core_list *list;           /* a queue of the core, or its pipeline's requests */
    struct gw_request *request;
    enum core_request_state state;
    uint32_t attempt;
    struct core_pipeline *pipeline; /* NULL iff QUEUED */
    struct core_pipeline *reserved; /* the one that is kept free for it, or NULL */
    bool started;                   /* a step of this attempt has begun */
    bool progressed;                /* a record was committed since the last loss */
    bool announced;                 /* how it left its last pipeline */
    bool alone;                     /* poison suspect: shares its pipeline with nobody */
    uint8_t idle_losses;            /* counted losses since the last commit */
    uint8_t profile;                /* what its records were computed with */
    uint32_t open;                  /* branches that have not ended */
    uint32_t prefill_tokens;        /* what it adds to pipeline->prefill_tokens */
    int64_t wait_until_us;          /* QUEUED: fails then */
    uint64_t left;                  /* generation of the pipeline that it was on before; 0 = none */
    uint64_t home;                  /* link of the worker that ran it in an earlier session; 0 = not known */
    struct core_warm warm;
    struct core_holder *holders; /* [holders_len <= GW_WIRE_HOLDERS_MAX], the last pipeline's first */
    uint8_t holders_len;
    uint32_t copied_tokens; /* of this attempt's KV, ahead of it */
    bool helped;            /* its SUBMIT named holders */
    bool has_origin;        /* this attempt's ORIGIN has come */
    struct core_log logs[]; /* [request->n] */
};

enum core_worker_state { CORE_UP, CORE_DOOMED };

/* One incarnation of one worker: lives as long as its link. */
struct core_worker {
    struct core_worker *next_dead;
    uint64_t link;
    struct gw_msg_hello hello;
    enum core_worker_state state;
    uint32_t slot; /* in core->workers */
    uint8_t profile;
    bool advised;     /* its cloud recommends to leave its instance: it may go soon, or not */
    bool rechecked;   /* silent, and given a second chance because many were */
    int64_t heard_us; /* last frame */
    int64_t silent_at_us;
    int64_t notice_deadline_us;     /* DOOMED */
    struct core_pipeline *serving;  /* SERVING or DRAINING, NULL = none */
    struct core_pipeline *prepared; /* FORMING or READY, NULL = none; never of a DOOMED one */
    uint64_t epoch;                 /* of the last plan that places it */
    struct gw_cell_rect holds;      /* cells that it has, as far as we know */
    uint64_t stores_version;        /* of the list that it was told last; 0: the empty one */
    uint64_t zone_number;           /* the how manyth to come; grows */
    uint64_t zones_told;            /* up to that number of others */
    struct gw_msg_heartbeat last;
};

enum core_pipeline_state { CORE_FORMING, CORE_READY, CORE_SERVING, CORE_DRAINING };

struct core_rank {
    struct core_worker *worker; /* alive: its end is the pipeline's */
    uint16_t stage;
    struct gw_cell_rect cells;
    bool ready;
    uint64_t loaded_bytes;
};

struct core_pipeline {
    struct core_pipeline *prev, *next; /* core->pipelines, or the graveyard */
    uint32_t number;                   /* its slot in core->numbers */
    uint64_t generation;               /* unique in this term */
    uint64_t epoch;                    /* of the plan that made it */
    enum core_pipeline_state state;
    uint8_t profile;
    bool single;                 /* of one worker that speaks protocol 1: never planned, never released */
    bool retired;                /* SERVING, DRAINING: the last plan does not have it */
    bool planned;                /* while a plan is looked at: it has it */
    struct core_pipeline *root;  /* names its component, see core_transitions.c; valid while it is reviewed */
    bool all_ready, all_drained; /* of the root: its component's new ones; its old ones */
    bool heirs;                  /* of the root: there are new ones */
    bool cutting;                /* its successors start as soon as it and others are empty */
    bool all_warm;               /* of the root: its component's old ones need not serve on for a copy */
    bool warm;                   /* the copy of what runs on it is made, as far as it will be */
    uint8_t warm_rounds;         /* of WARMs, begun since it was told to leave */
    uint32_t warming;            /* how many of its requests have a WARM pending */
    uint64_t warm_tokens;        /* while targets are chosen: KV that it will have to hold */
    int64_t warm_until_us;       /* it serves on for the copy until then; 0 = no copy is being made */
    bool advised;                /* of any of its workers, see there; valid after a review */
    bool stays;                  /* SERVING, and nothing is known that will end it without heirs */
    int64_t prepare_deadline_us; /* FORMING */
    int64_t handoff_deadline_us; /* 0 = no HANDOFF is awaited */
    uint32_t kv_tokens, context; /* of its smallest rank; 0 = not known */
    struct core_list requests;
    uint32_t moving;            /* how many of them are MOVING */
    uint32_t branches;          /* open branches of all of them */
    uint64_t prefill_tokens;    /* of requests whose first step has not begun */
    struct core_request *alone; /* the one request it serves or is being emptied for */
    uint32_t ranks_len, ready_len;
    struct core_rank ranks[]; /* [ranks_len]; 0 leads */
};

/* `name` will go. */
struct core_notice {
    char name[GW_WIRE_NAME_MAX + 1]; /* "" = free entry */
    uint32_t pid;                    /* 0: name is an instance; else the worker process of that name */
    bool advice; /* REBALANCE: nobody is doomed by it; deadline_us: it is forgotten then */
    int64_t deadline_us;
};

struct core_affinity {
    uint64_t prefix;   /* hash; 0 = free entry */
    uint32_t pipeline; /* its number */
    uint64_t generation;
};

/* Who was in a pipeline that has ended. */
struct core_past {
    uint64_t generation; /* 0 = free entry */
    uint32_t len;
    struct core_holder holders[GW_WIRE_HOLDERS_MAX];
};

/* A pipeline that BROKEN ended: who of it is to blame may be said later. */
struct core_fallen {
    uint64_t generation; /* 0 = free entry */
    uint64_t links[GW_WIRE_RANKS_MAX];
    uint32_t len;
};

struct core_arena_block;

struct gw_core {
    struct gw_core_config config;
    struct gw_core_stats stats; /* counters only; gauges are filled in by gw_core_stats */

    struct gw_action *actions;
    size_t actions_len, actions_cap;
    struct core_arena_block *arena;
    struct core_request *dead_requests;   /* by next */
    struct core_worker *dead_workers;     /* by next_dead */
    struct core_pipeline *dead_pipelines; /* by next */

    struct gw_id_map requests;    /* id → core_request */
    struct gw_id_map links;       /* link → core_worker */
    struct core_worker **workers; /* [config.max_workers] by slot, NULL = free */
    uint32_t workers_end;         /* slots from here on have never been used */
    uint32_t workers_len, workers_up;

    struct core_pipeline *pipelines, *last_pipeline; /* by generation */
    struct core_pipeline **numbers; /* [config.max_workers * CORE_PIPELINES_PER_WORKER], NULL = free */
    uint32_t pipelines_reserved;    /* those kept for, or held by, a poison suspect */
    uint64_t last_generation;
    bool stays[CORE_PROFILES_MAX +
               1]; /* by profile: some pipeline stays and takes new work; 0: of any profile */

    uint64_t epoch;             /* of the last plan */
    uint64_t fleet;             /* of the last GW_ACT_PLAN_WANTED */
    uint64_t planned_fleet;     /* that the last plan was made for */
    bool plan_due;              /* this step ends with a GW_ACT_PLAN_WANTED */
    int64_t replan_at_us;       /* one is wanted then; INT64_MAX = not */
    int64_t replan_wait_us;     /* the last wait; 0 = pipelines work */
    uint64_t broken_generation; /* pipelines up to this one were there when one broke */

    char profiles[CORE_PROFILES_MAX + 1][GW_WIRE_NAME_MAX + 1]; /* by number, from 1 on */
    uint8_t profiles_len;

    struct core_list fresh;                        /* never been on a worker */
    struct core_list retry[CORE_PROFILES_MAX + 1]; /* resubmissions, served first, by profile */
    struct core_list alone;                        /* poison suspects */
    struct core_list held;                         /* handed off to successors that are about to start */
    bool review_due;   /* workers or pipelines came, went, changed: core_transitions_review looks at all */
    bool dispatch_due; /* something was queued, or room has come */

    struct gw_store_host stores[GW_WIRE_STORES_MAX]; /* that keep pages for others, as workers were told */
    uint32_t stores_len;
    uint64_t stores_version; /* grows with each change of it */
    bool stores_due;         /* this step ends with a look at it */

    int64_t far_us;        /* when stats.far_bytes_s was reckoned last */
    uint64_t zone_numbers; /* the last one given */
    bool zones_due;        /* this step ends with telling them */

    struct core_notice notices[CORE_NOTICES_MAX];
    struct core_affinity affinity[CORE_AFFINITY_CAP];
    struct core_past past[CORE_PAST_MAX]; /* a ring */
    uint32_t past_next;
    struct core_fallen fallen[CORE_FALLEN_MAX]; /* a ring */
    uint32_t fallen_next;

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
/* A message to w about p, or about none (NULL), with the fences filled in, queued for sending; NULL without memory. */
struct gw_msg *core_send(struct gw_core *core, const struct core_worker *w, const struct core_pipeline *p,
                         enum gw_msg_type type);
/* Best effort: without memory the worker computes in vain and is not listened to. */
void core_send_cancel(struct gw_core *core, const struct core_request *r, uint32_t branch);
/* A note about w and r, either of which may be NULL. */
struct gw_note *core_note(struct gw_core *core, enum gw_note_kind kind, const struct core_worker *w,
                          const struct core_request *r, const char *text);
/* A note about p. */
struct gw_note *core_note_pipeline(struct gw_core *core, enum gw_note_kind kind,
                                   const struct core_pipeline *p, const char *text);

/* ---- core_requests.c ---- */

void core_list_push(struct core_list *list, struct core_request *r);
void core_list_remove(struct core_request *r);
/* *out = the core's record of request, in no list; on error request stays the caller's. */
gw_err_t core_request_admit(struct gw_core *core, struct gw_request *request,
                            struct core_request **out) GW_MUST_USE;
void core_on_submit(struct gw_core *core, int64_t now_us, struct gw_request *request);
void core_on_cancel(struct gw_core *core, uint64_t request);
void core_on_stop(struct gw_core *core, uint64_t request, uint32_t branch, uint32_t keep);
void core_on_reject(struct gw_core *core, const struct core_pipeline *p, const struct gw_msg_reject *m);
/* The request of a frame if p may speak for that attempt; else NULL, and the frame is counted as stale. */
struct core_request *core_request_of(struct gw_core *core, const struct core_pipeline *p, uint64_t id,
                                     uint32_t attempt);
/* Puts it on p's list as the running attempt, or takes it off (→ QUEUED, in no list). */
void core_request_attach(struct core_request *r, struct core_pipeline *p);
void core_request_detach(struct gw_core *core, struct core_request *r);
/* Successors have started, or will not: what was held for them is queued. */
void core_requests_unhold(struct gw_core *core, int64_t now_us);
/* Its pipeline has it no more: resubmitted, or failed by the poison rule. */
void core_request_lost(struct gw_core *core, struct core_request *r, int64_t now_us, bool announced);
/* GW_ACT_FAILED; forgotten. text must live until the next step. */
void core_request_fail(struct gw_core *core, struct core_request *r, gw_err_t code, const char *text);
/* One branch has ended; the last one ends the request. */
void core_branch_end(struct gw_core *core, struct core_request *r, uint32_t branch);
/* Gives back the pipeline that is reserved for r, if any. */
void core_release(struct gw_core *core, struct core_request *r);
void core_request_free(struct core_request *r);
uint32_t core_request_committed(const struct core_request *r);
/* KV that it needs now. */
static inline uint32_t core_request_kv_tokens(const struct core_request *r)
{
    return r->request->prompt_len + core_request_committed(r);
}
void core_queues_tick(struct gw_core *core, int64_t now_us);
int64_t core_queues_due_us(const struct gw_core *core);
uint32_t core_queues_len(const struct gw_core *core);

/* ---- core_holders.c ---- */

/* r has just been on p, whose ranks have most of its pages. Without memory they are forgotten: what they have is
 * recomputed. */
void core_holders_left(struct core_request *r, const struct core_pipeline *p);
/* The ranks of that pipeline, which may have ended, have r's prefix. False if nobody knows who they were. */
bool core_holders_prefix(const struct gw_core *core, struct core_request *r, const struct core_affinity *a);
/* p has served, and ends: who its ranks were is kept for a while. */
void core_holders_bury(struct gw_core *core, const struct core_pipeline *p);
/* SUBMIT or WARM: r with its logs and those who may hold its pages, to p's leader. GW_ERR_NOT_FOUND: a WARM, and
 * nobody is known who may hold any. */
gw_err_t core_send_request(struct gw_core *core, struct core_request *r, const struct core_pipeline *p,
                           enum gw_msg_type type) GW_MUST_USE;

/* ---- core_sources.c ---- */

/* Who may have cells that rank `self` of p shall have and its worker lacks, the nearest first. Returns how many
 * (GW_WIRE_SOURCES_MAX at most); *out lives until the next step. */
uint32_t core_sources_for(struct gw_core *core, const struct core_pipeline *p, uint32_t self,
                          struct gw_cell_holder **out);

/* ---- core_warm.c ---- */

/* Is the copy of what runs on p made, as far as it will be? Begins what is missing. p is to leave. */
bool core_warm_up(struct gw_core *core, struct core_pipeline *p, int64_t now_us);
/* p is not to leave, after all. What is under way comes in all the same. */
void core_warm_stop(struct core_pipeline *p);
/* The pipeline that has, or is making, the copy of r; NULL = none. */
struct core_pipeline *core_warm_target(const struct gw_core *core, const struct core_request *r);
/* r will not go there, or is going there now (to = the target): CANCEL unless it is. */
void core_warm_end(struct gw_core *core, struct core_request *r, const struct core_pipeline *to);
/* p has ended: nobody waits for its WARMEDs. */
void core_warm_target_lost(struct gw_core *core, const struct core_pipeline *p);
void core_on_warmed(struct gw_core *core, struct core_pipeline *p, int64_t now_us,
                    const struct gw_msg_warmed *m);
void core_on_origin(struct gw_core *core, const struct core_pipeline *p, const struct gw_msg_origin *m);

/* ---- core_apart.c ---- */

/* p ends because of what w said in BROKEN, which blames that rank (GW_RANK_NONE: none). */
void core_apart_blame(struct gw_core *core, const struct core_pipeline *p, const struct core_worker *w,
                      uint32_t rank);
/* BROKEN of w, about a pipeline that has ended. */
void core_apart_late(struct gw_core *core, int64_t now_us, const struct core_worker *w,
                     const struct gw_msg *msg);

/* ---- core_stores.c ---- */

/* STORES to those who have not been told, if workers came, went or changed. */
void core_stores_say(struct gw_core *core);
/* core_zones.c */
void core_zones_enter(struct gw_core *core, struct core_worker *w);
void core_zones_say(struct gw_core *core);

/* ---- core_restore.c ---- */

void core_on_restore(struct gw_core *core, int64_t now_us, struct gw_request *request,
                     const struct gw_core_restored *branches, const char *profile);
/* w ran these in an earlier session: those that wait go back there if they may. */
void core_on_resync(struct gw_core *core, const struct core_worker *w, const struct gw_msg_resync *m);

/* ---- core_tokens.c ---- */

void core_on_tokens(struct gw_core *core, struct core_pipeline *p, int64_t now_us,
                    const struct gw_msg_tokens *m);

/* ---- core_workers.c ---- */

void core_on_hello(struct gw_core *core, int64_t now_us, uint64_t link, const struct gw_msg *msg);
/* The profile's number; CORE_PROFILE_NONE if there are too many. */
uint8_t core_profile_number(struct gw_core *core, const char *profile);
void core_on_msg(struct gw_core *core, int64_t now_us, uint64_t link, const struct gw_msg *msg);
void core_on_link_down(struct gw_core *core, int64_t now_us, uint64_t link);
/* The worker is gone, and with it its pipelines: their requests are resubmitted. close_link: the link is still
 * open. */
void core_worker_lost(struct gw_core *core, struct core_worker *w, int64_t now_us, const char *why,
                      bool close_link);
void core_silence_tick(struct gw_core *core, int64_t now_us);
/* Nobody could be heard for gap_us. */
void core_silence_extend(struct gw_core *core, int64_t gap_us);
void core_ping_tick(struct gw_core *core, int64_t now_us);
void core_worker_set_state(struct gw_core *core, struct core_worker *w, enum core_worker_state state);

/* ---- core_pipelines.c ---- */

/* A FORMING pipeline whose ranks the caller fills in; nobody has been told. */
gw_err_t core_pipeline_create(struct gw_core *core, uint32_t ranks_len,
                              struct core_pipeline **out) GW_MUST_USE;
/* NULL if that generation is not there. */
struct core_pipeline *core_pipeline_find(const struct gw_core *core, uint32_t number, uint64_t generation);
/* ASSIGN to all ranks; from here on it is what they prepare. */
void core_pipeline_assign(struct gw_core *core, struct core_pipeline *p, int64_t now_us);
/* START to all ranks: what they served before is no longer theirs. */
void core_pipeline_start(struct gw_core *core, struct core_pipeline *p);
/* Its end: RELEASE to the ranks that still have it, its requests are resubmitted. `announced`: nobody is to blame. */
void core_pipeline_end(struct gw_core *core, struct core_pipeline *p, int64_t now_us, const char *why,
                       bool announced);
void core_on_ready(struct gw_core *core, struct core_pipeline *p, struct core_worker *w,
                   const struct gw_msg_ready *m);
void core_on_broken(struct gw_core *core, struct core_pipeline *p, const struct core_worker *w,
                    int64_t now_us, const struct gw_msg_broken *m);
/* FORMING for too long. */
void core_pipeline_timed_out(struct gw_core *core, struct core_pipeline *p, int64_t now_us);
static inline struct core_worker *core_leader(const struct core_pipeline *p)
{
    return p->ranks[0].worker;
}

/* ---- core_plan.c ---- */

void core_on_plan(struct gw_core *core, int64_t now_us, const struct gw_core_plan *plan);
/* The fleet has changed: a plan is wanted, now, or after a wait that grows. */
void core_want_plan(struct gw_core *core);
void core_want_plan_later(struct gw_core *core, int64_t now_us);
void core_plan_tick(struct gw_core *core, int64_t now_us);
/* Says that a plan is wanted, if one is. */
void core_plan_say(struct gw_core *core);
/* Has the last plan been made for what the fleet was since, or is one under way? */
bool core_plan_pending(const struct gw_core *core);
/* p has done its work: if it was made after the last break, breaks are over. */
void core_plan_works(struct gw_core *core, const struct core_pipeline *p);

/* ---- core_transitions.c ---- */

/* Drains, starts and ends pipelines as their components allow. */
void core_transitions_review(struct gw_core *core, int64_t now_us);
/* May what runs on p go to `to`, as things stand in this review? */
bool core_may_follow(struct core_pipeline *p, struct core_pipeline *to);

/* ---- core_route.c ---- */

/* Sends queued requests to pipelines with room. */
void core_dispatch(struct gw_core *core);

/* ---- core_moves.c ---- */

/* All requests that are still scheduled on p shall leave it; it is DRAINING from here on. */
void core_pipeline_drain(struct gw_core *core, struct core_pipeline *p, int64_t now_us);
void core_on_handoff(struct gw_core *core, struct core_pipeline *p, int64_t now_us,
                     const struct gw_msg_handoff *m);
/* The earliest deadline of its doomed workers; INT64_MAX = none is doomed. */
int64_t core_pipeline_deadline_us(const struct core_pipeline *p);
/* w or p has a deadline that core_moves_tick must know of. */
void core_moves_due(struct gw_core *core, int64_t due_us);
void core_moves_tick(struct gw_core *core, int64_t now_us);
/* After a step: when the next tick is due, exactly. */
void core_moves_rearm(struct gw_core *core);

/* ---- core_notices.c ---- */

void core_on_notice(struct gw_core *core, int64_t now_us, const char *name, uint8_t kind,
                    int64_t deadline_us);
void core_on_worker_notice(struct gw_core *core, struct core_worker *w, int64_t now_us,
                           const struct gw_msg_notice *m);
/* A new worker may belong to an instance that will go. */
void core_notices_greet(struct gw_core *core, struct core_worker *w, int64_t now_us);
/* Its notice was wrong or is taken back. What was cut over stays so; its HANDOFFs are still awaited. */
void core_worker_undoom(struct gw_core *core, struct core_worker *w, const char *why);

#endif
