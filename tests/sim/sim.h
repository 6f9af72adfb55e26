/* The simulator: the core's own object code in a world of virtual time, network and workers.
 *
 * One seed makes one run: a fleet, requests, and faults for some seconds, then quiet until all requests
 * ended. All randomness comes from the seed, so a failing run is replayed by it. Every event is followed by
 * checks (sim_front.c: what clients see; sim_check.c: what workers are told).
 *
 *     main_sim.c ── sim_world.c ── events in time order ──► sim_net.c      frames, cuts
 *                        │                                  sim_worker.c   worker processes
 *                        ▼                                  sim_front.c    clients, and the oracle of results
 *                    gw_core_step                           sim_faults.c   kill, freeze, notices, stalls
 *                        │ actions ─────────────────────►   sim_check.c    invariants
 *
 * Time: `now_us` is the world's clock; the core's clock is ahead of it by `skew_us` (a suspended machine).
 * Owner: struct sim owns all. Thread: one. Errors: a broken invariant is recorded once and ends the run;
 * out of memory aborts. Source: own design, after FoundationDB's and TigerBeetle's simulators. */
#ifndef GW_TESTS_SIM_H
#define GW_TESTS_SIM_H

#include "base/clock.h"
#include "base/rng.h"
#include "controller/core/core.h"

#define SIM_WORKERS_MAX  16
#define SIM_REQUESTS_MAX 512
#define SIM_TOKENS_MAX   64 /* max_tokens at most */
#define SIM_VOCAB        97
#define SIM_CONTEXT      4096
#define SIM_NEVER        UINT32_MAX
#define SIM_TRACE_LINES  400
#define SIM_TRACE_WIDTH  200

enum sim_event_type {
    SIM_FRAME_TO_CORE,
    SIM_FRAME_TO_WORKER,
    SIM_DOWN_TO_CORE,
    SIM_DOWN_TO_WORKER,
    SIM_WORKER_START,
    SIM_WORKER_CONNECT,
    SIM_WORKER_STEP,
    SIM_WORKER_BEAT,
    SIM_WORKER_RECLAIM,
    SIM_NOTICE_CANCEL,
    SIM_REQUEST,
    SIM_CLIENT_GONE,
    SIM_FRONT_STOP,
    SIM_FAULT,
};

struct sim_event {
    int64_t at_us;
    uint64_t order; /* of creation: equal times are first come, first served */
    enum sim_event_type type;
    uint32_t slot, life; /* worker events: stale when the slot's process has changed */
    uint64_t link;
    uint32_t request, branch, keep;
    struct gw_frame frame; /* payload is owned */
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
    uint32_t profile; /* numerics profile of its worker */
    bool core_open;   /* the controller's end */
    bool worker_open; /* the worker's end */
    bool cut;         /* what is sent from now on is lost */
    bool healthy;     /* never cut, never frozen, its process never harmed: must not be declared dead */
    int64_t to_core_us, to_worker_us; /* last arrival in each direction: FIFO */
    int64_t heard_us;                 /* the core was fed a frame last */
    int64_t quiet_us;                 /* the same, moved by the time in which the core did not run */
    /* what the core has said about it */
    uint32_t pipeline;
    uint64_t generation; /* 0 = no WELCOME yet */
    bool doomed;
    uint32_t held;  /* requests submitted and not given up */
    uint32_t alone; /* index + 1 of the request that runs alone here */
};

/* A request as a worker process sees it. */
struct sim_job {
    struct gw_msg submit; /* owned */
    uint32_t prefill_steps;
    bool begun, cutover;
    struct sim_job_branch {
        struct sim_model model;
        uint32_t sent; /* records up to here have left */
        uint32_t made, made_cap;
        struct sim_record *records; /* from the SUBMIT's log length on */
        bool done;
    } * branches;
};

struct sim_worker {
    uint32_t slot, life;
    bool alive;
    char name[GW_WIRE_NAME_MAX + 1], instance[GW_WIRE_NAME_MAX + 1];
    uint32_t pid;
    int64_t frozen_until_us;
    int64_t reclaim_us; /* it goes then; 0 = not announced */
    int64_t heard_us;   /* last frame from the controller */
    uint32_t profile;   /* numerics profile: which hardware the slot has */
    bool leaves;        /* says GOODBYE as soon as it is empty */
    uint64_t link;      /* 0 = none */
    bool welcome;
    uint64_t term, generation, max_term;
    uint32_t pipeline;
    int64_t step_us, beat_us, timeout_us;
    uint32_t flush_every; /* steps per TOKENS frame */
    bool overshoots;      /* sends records behind the end (speculation) */
    bool repeats;         /* sends the last record again with the next ones */
    bool forgets;         /* never answers a CUTOVER */
    uint32_t corrupt;     /* 1 in so many repeats is wrong; 0 = never */
    uint32_t skips;       /* 1 in so many frames leaves a gap; 0 = never */
    uint64_t steps;
    struct sim_job *jobs[SIM_REQUESTS_MAX];
    uint32_t jobs_len;
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
    uint64_t holder;          /* link of the current attempt */
    bool released;            /* the holder has given it up: HANDOFF, CANCEL, or its link is gone */
    bool alone;               /* noted; holds until it has progressed */
    uint32_t profile;         /* of the worker that its records came from; 0 = none */
    bool killed;              /* the process of the current attempt died of it */
    bool begun, progressed;   /* a step of this attempt began; a commit since the last unannounced loss */
    uint32_t counted, deaths; /* since the last commit: losses that count, and those because it killed */
};

struct sim_options {
    uint32_t requests, workers;
    bool verbose;
    bool first; /* end at the first failing seed */
};

struct sim {
    struct gw_rng rng;
    uint64_t seed;
    struct sim_options options;
    struct gw_core_config config;
    struct gw_core *core;
    uint32_t profiles; /* 1 or 2 in this fleet */
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
void sim_check_handoff(struct sim *sim, const struct gw_msg *m, const struct sim_link *l);
void sim_check_begun(struct sim *sim, const struct gw_msg *m, const struct sim_link *l);
/* Does m repeat records wrongly, so that the core must drop the worker? */
bool sim_check_diverges(struct sim *sim, const struct gw_msg *m, const struct sim_link *l);
/* The core has heard that the link is gone, or has closed it. */
void sim_check_link_gone(struct sim *sim, struct sim_link *l);
void sim_check_request_ended(struct sim *sim, struct sim_request *r);
void sim_check_totals(struct sim *sim);
void sim_check_end(struct sim *sim);

/* ---- sim_faults.c ---- */

void sim_faults_plan(struct sim *sim);
void sim_on_fault(struct sim *sim);
void sim_on_reclaim(struct sim *sim, const struct sim_event *e);
void sim_on_notice_cancel(struct sim *sim, const struct sim_event *e);

#endif
