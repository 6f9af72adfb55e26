/* The simulator: the core's own object code in a world of virtual time, network and workers.
 *
 * One seed makes one run: a fleet of instances, a model that fits into one worker or needs several, requests, and
 * faults for some seconds, then quiet until all requests ended. All randomness comes from the seed, so a
 * failing run is replayed by it. Every event is followed by checks (sim_front.c: what clients see; sim_check.c and
 * sim_pipes.c, sim_moves.c: what workers are told).
 *
 *     main_sim.c ── sim_world.c ── events in time order ──► sim_net.c      frames, cuts
 *                        │                                  sim_worker.c   worker processes: links, heartbeats
 *                        │                                  sim_ranks.c    … as ranks of pipelines
 *                        │                                  sim_jobs.c     … as leaders: requests, steps
 *                        │                                  sim_kv.c       … as holders of pages, which they copy
 *                        │                                  sim_plan.c     a planner: when, and random layouts
 *                        │                                  sim_planner.c  the planner itself (controller/plan)
 *                        ▼                                  sim_front.c    clients, and the oracle of results
 *                    gw_core_step                           sim_faults.c   kill, freeze, notices, stalls, storms
 *                        │ actions ─────────────────────►   sim_check.c    invariants of requests and links
 *                                                           sim_pipes.c    … of pipelines
 *                                                           sim_moves.c    … of KV on the move
 *
 * Time: `now_us` is the world's clock; the core's clock is ahead of it by `skew_us` (a suspended machine).
 * Owner: struct sim owns all. Thread: one. Errors: a broken invariant is recorded once and ends the run;
 * out of memory aborts. Source: own design, after FoundationDB's and TigerBeetle's simulators. */
#ifndef GW_TESTS_SIM_H
#define GW_TESTS_SIM_H

#include "base/clock.h"
#include "base/rng.h"
#include "controller/core/core.h"
#include "migrate/plan.h"

#define SIM_INSTANCES_MAX 20
#define SIM_WORKERS_MAX   (2 * SIM_INSTANCES_MAX)
#define SIM_REQUESTS_MAX  512
#define SIM_GROUPS_MAX    6
#define SIM_SHARES_MAX    8
#define SIM_TOKENS_MAX    64 /* max_tokens at most */
#define SIM_VOCAB         97
#define SIM_CONTEXT       4096
#define SIM_NEVER         UINT32_MAX
#define SIM_TRACE_LINES   400
#define SIM_TRACE_WIDTH   200

enum sim_event_type {
    SIM_FRAME_TO_CORE,
    SIM_FRAME_TO_WORKER,
    SIM_DOWN_TO_CORE,
    SIM_DOWN_TO_WORKER,
    SIM_WORKER_START,
    SIM_WORKER_CONNECT,
    SIM_WORKER_STEP,
    SIM_WORKER_BEAT,
    SIM_WORKER_PREPARE,
    SIM_WORKER_COPIED,
    SIM_WORKER_RECLAIM,
    SIM_NOTICE_CANCEL,
    SIM_REQUEST,
    SIM_CLIENT_GONE,
    SIM_FRONT_STOP,
    SIM_FAULT,
    SIM_STRIKE, /* at one process, in the middle of something */
    SIM_PLAN_BEGIN,
    SIM_PLAN_DONE,
};

struct sim_event {
    int64_t at_us;
    uint64_t order; /* of creation: equal times are first come, first served */
    enum sim_event_type type;
    uint32_t slot, life; /* worker events: stale when the slot's process has changed */
    uint64_t link;
    uint64_t generation;            /* of the role that is prepared, or copied for */
    uint32_t request, branch, keep; /* COPIED: branch is the attempt */
    struct gw_frame frame;          /* payload is owned */
};

/* One run of the pure function for one branch. */
struct sim_model {
    uint64_t state;
    uint32_t position;
};

struct sim_record {
    uint32_t id;
    float logprob;
    struct gw_top top[GW_REQUEST_TOP_MAX];
};

struct sim_link {
    uint64_t id;
    uint32_t slot, life;
    uint16_t proto;
    char worker[GW_WIRE_NAME_MAX + 1];
    uint32_t profile; /* numerics profile of its worker */
    bool core_open;   /* the controller's end */
    bool worker_open; /* the worker's end */
    bool cut;         /* what is sent from now on is lost */
    bool healthy;     /* never cut, never frozen, its process never harmed: must not be declared dead */
    int64_t to_core_us, to_worker_us; /* last arrival in each direction: FIFO */
    int64_t heard_us;                 /* the core was fed a frame last */
    int64_t quiet_us;                 /* the same, moved by the time in which the core did not run */
    /* what the core has said about it */
    bool welcomed, doomed;
    bool in_core;               /* welcomed, and no note has said that it is gone */
    uint64_t serving, prepared; /* generations; 0 = none */
    uint64_t stores;            /* sim_stores.c: whom it was told */
};

/* Pages of one request: positions from 0 on, of those cells. */
struct sim_pages {
    uint32_t tokens;
    struct gw_cell_rect cells;
};

struct sim_copy;

/* A pipeline, as far as the core's messages and notes tell. */
struct sim_pipe {
    uint64_t generation;
    uint32_t number;
    bool single; /* of protocol 1 */
    uint32_t profile;
    int64_t assigned_us; /* on the core's clock */
    uint32_t ranks_len;
    struct gw_core_plan_rank ranks[SIM_WORKERS_MAX];
    bool ready[SIM_WORKERS_MAX]; /* the core was told so */
    uint32_t kv_tokens;          /* of its smallest rank, once READY */
    uint32_t assigned, started;  /* to how many ranks it was said */
    bool planned;                /* the last plan has it */
    bool draining;
    bool ended;     /* a rank is gone, it broke, was released or replaced */
    uint32_t held;  /* requests submitted and not given up */
    uint32_t alone; /* index + 1 of the request that runs alone here */
};

/* A request as a worker process sees it. */
struct sim_job {
    struct gw_msg submit; /* owned */
    uint32_t prefill_steps;
    bool begun, cutover;
    struct gw_msg_origin origin;
    struct sim_job_branch {
        struct sim_model model;
        uint32_t sent; /* records up to here have left */
        uint32_t made, made_cap;
        struct sim_record *records; /* from the SUBMIT's log length on */
        bool done;
    } * branches;
};

/* A worker as a rank of one pipeline. */
struct sim_role {
    uint64_t generation; /* 0 = none */
    uint32_t pipeline;
    uint32_t self, ranks_len;
    uint32_t slots[SIM_WORKERS_MAX]; /* of its ranks; SIM_NEVER: there was no process of that name */
    uint32_t lives[SIM_WORKERS_MAX];
    struct gw_cell_rect rects[SIM_WORKERS_MAX];
    struct gw_cell_rect cells;
    int64_t loaded_us;     /* its cells are there then */
    int64_t find_until_us; /* BROKEN if a peer is not there by then */
    int64_t stuck_us;      /* since when no step has ended; 0 = they do */
    bool fails, hangs;     /* it will not become READY, and says so, or does not */
    bool ready, started;
};

struct sim_worker {
    uint32_t slot, life;
    bool alive;
    char name[GW_WIRE_NAME_MAX + 1], instance[GW_WIRE_NAME_MAX + 1];
    uint32_t pid;
    uint16_t proto;
    int64_t frozen_until_us;
    int64_t unreachable_until_us; /* for other workers */
    int64_t reclaim_us;           /* it goes then; 0 = not announced */
    int64_t heard_us;             /* last frame from the controller */
    uint32_t profile;             /* numerics profile: which hardware the slot has */
    bool leaves;                  /* says GOODBYE as soon as it is empty */
    uint64_t link;                /* 0 = none */
    bool welcome;
    uint64_t term, max_term;
    struct sim_role serving, prepared;
    struct gw_cell_rect holds;
    int64_t step_us, beat_us, timeout_us;
    int64_t step_deadline_us; /* a step that takes longer is broken */
    uint32_t flush_every;     /* steps per TOKENS frame */
    bool overshoots;          /* sends records behind the end (speculation) */
    bool repeats;             /* sends the last record again with the next ones */
    bool forgets;             /* never answers a CUTOVER, nor half of the WARMs */
    uint32_t corrupt;         /* 1 in so many repeats is wrong; 0 = never */
    uint32_t skips;           /* 1 in so many frames leaves a gap; 0 = never */
    uint64_t steps;
    struct sim_job *jobs[SIM_REQUESTS_MAX];
    uint32_t jobs_len;
    struct sim_pages pages[SIM_REQUESTS_MAX];
    struct sim_copy *copies; /* that it was told to make, and has not */
};

enum sim_outcome { SIM_PENDING, SIM_ACCEPTED, SIM_DONE, SIM_FAILED, SIM_CANCELLED };

struct sim_branch {
    struct sim_record records[SIM_TOKENS_MAX]; /* the pure function's */
    uint32_t len;                              /* up to its own end */
    enum gw_finish reason;
    uint32_t got; /* what the front was given */
    bool ended;
    uint32_t stop_at; /* the front finds a stop string when it has so many; SIM_NEVER */
    uint32_t stop_keep;
    bool stopping;
};

struct sim_request {
    struct gw_request *request;
    struct sim_branch *branches;
    enum sim_outcome outcome;
    uint32_t poison_at; /* computing this position of branch 0 kills the process; SIM_NEVER */
    bool too_big;       /* every worker rejects it */
    int64_t submitted_us, cancel_after_us;
    /* what the core has said about it */
    uint32_t attempt;
    uint64_t holder;          /* generation of the pipeline of the current attempt */
    bool released;            /* the holder has given it up: HANDOFF, CANCEL, or its end */
    bool alone;               /* noted; holds until it has progressed */
    uint32_t profile;         /* of the pipeline that its records came from; 0 = none */
    bool killed;              /* a process of the current attempt died of it */
    uint64_t copy_generation; /* of the pipeline that was told to copy it; 0 = none */
    uint32_t copy_attempt, copy_committed;
    uint32_t copy_tokens, copied; /* that WARMED said; those of this attempt */
    bool copy_pending;            /* no WARMED has come */
    bool helped, moved;           /* its SUBMIT named holders; its ORIGIN has come */
    bool begun, progressed;       /* a step of this attempt began; a commit since the last unannounced loss */
    uint32_t counted, deaths;     /* since the last commit: losses that count, and those because it killed */
};

enum sim_planner { SIM_PLANNER_RANDOM, SIM_PLANNER_REAL };

struct sim_options {
    uint32_t requests, instances; /* 0: as the seed says */
    bool verbose;
    bool first; /* end at the first failing seed */
    bool
        sessions; /* KV on the move: longer prompts, little room, newest protocol, more notices and layouts */
};

struct sim {
    struct gw_rng rng;
    uint64_t seed;
    struct sim_options options;
    struct gw_core_config config;
    struct gw_core *core;
    uint32_t profiles; /* 1 or 2 in this fleet */
    uint32_t slots;    /* processes in this fleet */
    uint32_t per_instance,
        old_protocol;         /* workers per instance; 1 in so many speaks protocol 1, 0 = none does */
    uint32_t middle_protocol; /* 1 in so many of the others speaks protocol 2, 0 = none does */
    uint32_t kv_tokens;       /* what READY says */
    bool stores;              /* there is a store of pages */
    uint32_t stored[SIM_REQUESTS_MAX]; /* positions that it has of each request */
    struct gw_kv_origin kv;            /* what ORIGINs have said */
    int64_t core_stepped_us;           /* the core's time when it was last stepped */
    uint32_t ranks_min;                /* a pipeline of fewer has no room for the model */
    enum sim_planner planner;
    bool plan_busy, plan_again, plan_anew; /* a plan is being made; another is wanted; it keeps nothing */
    uint64_t plan_fleet;                   /* last number wanted */
    struct gw_core_plan plan;              /* the one being made */
    struct gw_core_plan_rank plan_ranks[SIM_WORKERS_MAX + 1];
    struct sim_pipe *pipes; /* by generation */
    size_t pipes_len, pipes_cap;
    int64_t now_us, skew_us, stalled_until_us, faults_end_us, stepped_us, ended_us;
    struct sim_event *queue; /* a heap */
    size_t queue_len, queue_cap;
    uint64_t next_order;
    struct sim_link *links;
    size_t links_len, links_cap;
    struct sim_worker workers[SIM_WORKERS_MAX];
    uint32_t next_pid, next_instance;
    struct sim_request requests[SIM_REQUESTS_MAX];
    uint32_t requests_len, live, ended;
    uint64_t accepted, turned_away;
    uint32_t queued_before; /* the last SUBMIT */
    uint64_t cancels;       /* CANCELs sent */
    uint32_t touched;       /* index of the request whose log was last changed */
    uint64_t last_generation;
    uint64_t events, frames, faults, cutovers, silences, alones, collateral; /* what the run has seen */
    uint64_t plans, formed, started, broken, storms, warms, warmed, named, sources;
    bool failed;
    char failure[512];
    bool tracing;
    char (*trace)[SIM_TRACE_WIDTH]; /* a ring */
    size_t trace_len;
};

/* ---- sim_world.c ---- */

/* Runs one seed. Returns true if no invariant broke; else sim->failure says which. */
bool sim_run(struct sim *sim, uint64_t seed, const struct sim_options *options, bool tracing);
void sim_fini(struct sim *sim);
/* Steps the core with e and carries out its actions. */
void sim_step(struct sim *sim, const struct gw_event *e);
int64_t sim_core_now(const struct sim *sim);
void sim_fail(struct sim *sim, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void sim_trace(struct sim *sim, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void *sim_alloc(size_t count, size_t bytes);
/* [low, high] */
int64_t sim_between(struct sim *sim, int64_t low, int64_t high);
bool sim_chance(struct sim *sim, uint32_t one_in);

/* ---- sim_queue.c ---- */

void sim_queue_push(struct sim *sim, struct sim_event e);
bool sim_queue_pop(struct sim *sim, struct sim_event *out);
int64_t sim_queue_next_us(const struct sim *sim);

/* ---- sim_model.c ---- */

void sim_model_start(struct sim_model *m, const struct gw_request *q, uint32_t branch, const uint32_t *log,
                     uint32_t len);
/* The record at m's position; advances. */
void sim_model_next(struct sim_model *m, uint32_t top_n, struct sim_record *out);

/* ---- sim_net.c ---- */

struct sim_link *sim_link_open(struct sim *sim, struct sim_worker *w);
struct sim_link *sim_link_find(struct sim *sim, uint64_t id);
void sim_net_to_core(struct sim *sim, struct sim_link *l, const struct gw_msg *m);
void sim_net_to_worker(struct sim *sim, struct sim_link *l, const struct gw_msg *m);
/* The process or one of its kernels closed it: everything sent so far arrives, then the other end hears. */
void sim_link_close_by_worker(struct sim *sim, struct sim_link *l);
void sim_link_close_by_core(struct sim *sim, struct sim_link *l);
/* A suffix is lost in both directions; who is told, and when, is up to chance. */
void sim_link_cut(struct sim *sim, struct sim_link *l, bool tell_core, bool tell_worker);
void sim_on_frame_to_core(struct sim *sim, const struct sim_event *e);
void sim_on_down_to_core(struct sim *sim, const struct sim_event *e);

/* ---- sim_worker.c ---- */

void sim_worker_start(struct sim *sim, uint32_t slot, bool same_identity);
void sim_worker_die(struct sim *sim, struct sim_worker *w, int64_t replace_after_us);
void sim_on_worker_event(struct sim *sim, const struct sim_event *e);
void sim_worker_send_notice(struct sim *sim, struct sim_worker *w, uint8_t kind, uint32_t deadline_ms);
bool sim_worker_frozen(const struct sim *sim, const struct sim_worker *w);
void sim_worker_fini(struct sim_worker *w);
/* A message of w about role, or about none (NULL). */
struct gw_msg sim_worker_message(const struct sim_worker *w, const struct sim_role *role,
                                 enum gw_msg_type type);
void sim_worker_send(struct sim *sim, struct sim_worker *w, const struct gw_msg *m);
void sim_worker_later(struct sim *sim, const struct sim_worker *w, enum sim_event_type type,
                      int64_t after_us);

/* ---- sim_ranks.c ---- */

void sim_rank_on_welcome(struct sim *sim, struct sim_worker *w, const struct gw_msg *m);
void sim_rank_on_assign(struct sim *sim, struct sim_worker *w, const struct gw_msg *m);
void sim_rank_on_start(struct sim *sim, struct sim_worker *w, const struct gw_msg *m);
void sim_rank_on_release(struct sim_worker *w, const struct gw_msg *m);
/* One look at what is prepared: loaded, all peers there? */
void sim_rank_prepare(struct sim *sim, struct sim_worker *w, uint64_t generation);
/* Are the peers of what serves there, so that a step can be made? False: not now, or BROKEN has been said. */
bool sim_rank_can_step(struct sim *sim, struct sim_worker *w);
/* Between steps: says BROKEN if a peer is gone. */
void sim_rank_watch(struct sim *sim, struct sim_worker *w);
/* It has left all its pipelines. */
void sim_rank_forget(struct sim_worker *w);

/* ---- sim_jobs.c ---- */

void sim_jobs_clear(struct sim_worker *w);
void sim_jobs_submit(struct sim *sim, struct sim_worker *w, struct gw_msg *m);
void sim_jobs_cancel(struct sim_worker *w, const struct gw_msg_cancel *c);
void sim_jobs_cutover(struct sim_worker *w, const struct gw_msg_cutover *c);
void sim_jobs_step(struct sim *sim, struct sim_worker *w);

/* ---- sim_stores.c ---- */

/* How much of others' pages it says that it keeps. */
uint64_t sim_stores_bytes(const struct sim_worker *w);
void sim_stores_told(struct sim *sim, struct sim_link *l, const struct gw_msg_stores *m);
/* After a step of the core. */
void sim_stores_check(struct sim *sim);

/* ---- sim_kv.c ---- */

/* Where w serves its pages; and whose address one is. */
void sim_kv_address(const struct sim_worker *w, char out[GW_WIRE_NAME_MAX + 1]);
bool sim_kv_parse(const char *address, uint32_t *slot, uint32_t *life);
/* The link of that process which the core takes for there; NULL: there is none. */
const struct sim_link *sim_link_of_process(const struct sim *sim, uint32_t slot, uint32_t life);
/* Whom an ASSIGN to l names as having weights (sim_sources.c). */
void sim_sources_check(struct sim *sim, const struct sim_link *l, const struct gw_msg_assign *a);
/* Fetches what can be had, says what that was, and returns how many tokens are left to compute. */
uint32_t sim_kv_submit(struct sim *sim, const struct sim_role *role, const struct gw_msg_submit *s,
                       struct gw_msg_origin *origin);
/* The ranks of role have so many positions of request now. */
void sim_kv_keep(struct sim *sim, const struct sim_role *role, uint64_t request, uint32_t tokens);
void sim_kv_computed(struct sim *sim, const struct sim_role *role, uint64_t request, uint32_t tokens);
/* Takes over what m owns. */
void sim_kv_warm(struct sim *sim, struct sim_worker *w, struct gw_msg *m);
void sim_kv_cancel(struct sim_worker *w, const struct gw_msg_cancel *c);
void sim_kv_begin(struct sim_worker *w, uint64_t request);
void sim_kv_copied(struct sim *sim, struct sim_worker *w, const struct sim_event *e);
/* It has left that pipeline; 0: all. */
void sim_kv_forget(struct sim_worker *w, uint64_t generation);

/* ---- sim_plan.c ---- */

void sim_plan_wanted(struct sim *sim, uint64_t fleet);
/* As an administrator would: another layout, now. */
void sim_plan_force(struct sim *sim);
void sim_on_plan_event(struct sim *sim, const struct sim_event *e);
/* What may be planned with, one entry per worker. */
struct sim_device {
    struct gw_core_device_view view;
    char instance[GW_WIRE_NAME_MAX + 1];
    uint32_t profile, pipeline; /* its number; UINT32_MAX = serves in none */
    bool taken;
};
/* Devices that are up and speak protocol 2; returns how many. */
uint32_t sim_plan_devices(struct sim *sim, struct sim_device out[SIM_WORKERS_MAX]);
void sim_plan_add(struct sim *sim, uint64_t link, uint32_t pipeline, uint16_t stage,
                  struct gw_cell_rect cells);

/* ---- sim_planner.c ---- */

/* Sets up a grid that suits a model, of which ranks_min devices hold just one. */
void sim_planner_configure(struct sim *sim);
uint64_t sim_planner_memory(const struct sim *sim);
/* Fills in the plan by gw_planner_run. */
void sim_planner_run(struct sim *sim);

/* ---- sim_front.c ---- */

void sim_front_plan(struct sim *sim);
void sim_on_front_event(struct sim *sim, const struct sim_event *e);
/* Checks one action that is for the front. */
void sim_front_action(struct sim *sim, const struct gw_action *a);
/* Compares the core's log of request i with what the front was given. */
void sim_front_check_log(struct sim *sim, uint32_t i);
void sim_front_check_end(struct sim *sim);
struct sim_request *sim_request_by_id(struct sim *sim, uint64_t id);
void sim_front_fini(struct sim *sim);

/* ---- sim_check.c ---- */

/* Checks one action that is for a link, before it is carried out. */
void sim_check_send(struct sim *sim, struct sim_link *l, const struct gw_msg *m);
void sim_check_note(struct sim *sim, const struct gw_note *n);
void sim_check_close(struct sim *sim, struct sim_link *l, const char *reason);
/* A frame is about to be fed to the core; l's end is open. */
void sim_check_frame(struct sim *sim, const struct gw_msg *m, struct sim_link *l);
/* Does m repeat records wrongly, so that the core must drop the worker? */
bool sim_check_diverges(struct sim *sim, const struct gw_msg *m, const struct sim_link *l);
/* The core has heard that the link is gone, or has closed it. */
void sim_check_link_gone(struct sim *sim, struct sim_link *l);
void sim_check_request_ended(struct sim *sim, struct sim_request *r);
/* The holder of r's current attempt has no claim on it any more. */
void sim_check_release(struct sim *sim, struct sim_request *r);
void sim_check_totals(struct sim *sim);
void sim_check_end(struct sim *sim);

/* Are s's request and logs those that the front knows? */
void sim_check_logs(struct sim *sim, const struct sim_request *r, const struct gw_msg_submit *s);

/* ---- sim_moves.c ---- */

void sim_moves_warm(struct sim *sim, const struct sim_link *l, struct sim_pipe *p,
                    const struct gw_msg_submit *s);
/* A SUBMIT to p; r still has its last attempt's fields. */
void sim_moves_submit(struct sim *sim, const struct sim_link *l, const struct sim_pipe *p,
                      struct sim_request *r, const struct gw_msg_submit *s);
/* Is c about a copy at p? Then it is no more. */
bool sim_moves_cancel(struct sim *sim, const struct sim_pipe *p, const struct gw_msg_cancel *c);
/* WARMED and ORIGIN, about to be fed to the core. */
void sim_moves_warmed(struct sim *sim, const struct sim_link *l, const struct gw_msg *m);
void sim_moves_origin(struct sim *sim, struct sim_request *r, const struct gw_msg_origin *o);
/* Now and then: nothing is copied for what has ended, nobody serves on behind its margin. */
void sim_moves_check(struct sim *sim);

/* ---- sim_pipes.c ---- */

struct sim_pipe *sim_pipe_find(struct sim *sim, uint64_t generation);
bool sim_pipe_doomed(struct sim *sim, const struct sim_pipe *p);
/* Serves, and takes new work as far as is known. */
bool sim_pipe_open(struct sim *sim, const struct sim_pipe *p);
static inline uint64_t sim_pipe_leader(const struct sim_pipe *p)
{
    return p->ranks[0].link;
}
/* What the core says to a link about pipelines. */
void sim_pipes_welcome(struct sim *sim, struct sim_link *l, const struct gw_msg *m);
void sim_pipes_assign(struct sim *sim, struct sim_link *l, const struct gw_msg *m);
void sim_pipes_start(struct sim *sim, struct sim_link *l, const struct gw_msg *m);
void sim_pipes_release(struct sim *sim, struct sim_link *l, const struct gw_msg *m);
void sim_pipes_note(struct sim *sim, const struct gw_note *n);
/* What is said to the core: a plan, READY, BROKEN, the end of a link. */
void sim_pipes_plan(struct sim *sim, const struct gw_core_plan *plan);
void sim_pipes_ready(struct sim *sim, struct sim_link *l, const struct gw_msg *m);
void sim_pipes_broken(struct sim *sim, struct sim_link *l, const struct gw_msg *m);
void sim_pipes_link_gone(struct sim *sim, struct sim_link *l);
/* The core's views: nobody in two places, and the same pipelines as here. */
void sim_pipes_check_views(struct sim *sim);

/* ---- sim_faults.c ---- */

void sim_faults_plan(struct sim *sim);
void sim_on_fault(struct sim *sim);
void sim_on_reclaim(struct sim *sim, const struct sim_event *e);
void sim_on_notice_cancel(struct sim *sim, const struct sim_event *e);
/* A pipeline forms, or drains: sometimes a good moment to strike one of its workers. */
void sim_faults_chance(struct sim *sim, const struct sim_pipe *p, bool draining);
void sim_on_strike(struct sim *sim, const struct sim_event *e);

#endif
