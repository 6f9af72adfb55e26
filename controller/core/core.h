/* clang-format off */
/* The core: a sans-I/O state machine that holds the truth about requests and decides where they run.
 *
 *     gw_core_step(core, now_us, event)  →  actions
 *
 * It does no I/O, reads no clock, draws no random numbers: the program (links, front) and the simulator drive
 * the same object code. The truth is the request and its log, one per branch; workers are caches.
 *
 * Front and core speak only events and actions. Token path: a worker's TOKENS are appended iff they are of
 * the current attempt and begin at position = log length; an overlap must equal the log (else the worker's
 * arithmetic is broken: GW_NOTE_DIVERGED, the worker is dropped, the log wins); a gap resubmits. Stop ids and
 * max_tokens are decided per record before it is committed; overshoot is discarded.
 *
 * Owner: the core owns requests handed in by EV_SUBMIT; actions and all they point to live until the next
 * gw_core_step. Thread: one. Units: microseconds on the caller's monotonic clock.
 * Errors: steps do not fail; trouble is an action. Allocation failure in a step: the request concerned fails.
 * Source: own design; DESIGN part 6. */

/* A request runs on a pipeline, a pipeline on workers, one per rank. Four tables: worker, pipeline, transition,
 * request.
 *
 * Worker states (one link = one incarnation of one worker). A worker of protocol 1 is a pipeline of its own from
 * WELCOME on, serving, never planned. Any other waits for a plan; it is a rank of at most one pipeline that
 * serves and of one that is prepared.
 *
 *     state    event                       next      what is done
 *     ──────   ─────────────────────────   ───────   ──────────────────────────────────────────────────────
 *     -        HELLO good                  UP        WELCOME; a plan is wanted
 *     -        HELLO good, protocol 1      UP        WELCOME with its pipeline and generation; queue is dispatched
 *     -        HELLO bad                   -         REFUSE, close
 *     -        HELLO, same worker and      UP        the old incarnation is lost, the new one comes UP (its
 *              instance registered                   process restarted faster than we noticed)
 *     -        HELLO, same worker, other   -         REFUSE: two processes share a name
 *              instance
 *     -        HELLO, announced instance   DOOMED    comes UP, then NOTICE with the deadline known
 *     UP       any frame in time           UP        the silence deadline moves
 *     UP       RESYNC                      UP        the QUEUED requests that it names go to the pipeline that it leads, if
 *                                                    that takes them; they wait while it is FORMING of cells that it holds
 *     UP       NOTICE(deadline)            DOOMED    the pipeline that it prepares is DEAD; the one that it
 *                                                    serves is doomed; a plan is wanted
 *     UP       NOTICE(REBALANCE)           UP        a recommendation dooms nobody: remembered (by instance for a day),
 *                                                    shown; new work prefers pipelines without it
 *     DOOMED   NOTICE(REBALANCE)           DOOMED    the same; the deadline stays
 *     any      NOTICE cancel               same      … it is taken back, too
 *     UP       link down · GOODBYE         GONE      unannounced loss: its pipelines are DEAD; a plan is wanted
 *     UP       no frame until deadline     GONE      the same, link closed (frozen, cut off)
 *     DOOMED   NOTICE again                DOOMED    the deadline moves
 *     DOOMED   NOTICE cancel               UP        a plan is wanted; before CUTOVER: nothing moved; after: what
 *                                                    moved stays moved, HANDOFFs are still awaited
 *     DOOMED   link down · silence         GONE      the same as from UP, but announced: never counted
 *     DOOMED   deadline + grace, alive     UP        the notice was wrong; a plan is wanted
 *     GONE     anything                    GONE      ignored; its link is closed
 *
 * Pipeline states (number and generation in the head; a generation is never used again). DOOMED = one of its workers
 * is; RETIRED = the last plan does not have it.
 *
 *     state      event                      next      what is done
 *     ────────   ────────────────────────   ───────   ─────────────────────────────────────────────────────
 *     -          PLAN has it, none such     FORMING   ASSIGN to each rank
 *     any        PLAN has it: same links,   same      nothing; not RETIRED (any more)
 *                stages, cells
 *     FORMING    READY of a rank            FORMING   remembered; again from the same rank: stale
 *     FORMING    READY of the last rank     READY     its component is reviewed
 *     FORMING    prepare_timeout            DEAD      RELEASE to all; a plan is wanted after replan_wait
 *     FORMING,   PLAN does not have it      DEAD      RELEASE to all: planned away
 *      READY     NOTICE to a rank           DEAD      RELEASE to all; a plan is wanted
 *                a rank is GONE             DEAD      RELEASE to the others; a plan is wanted
 *                BROKEN of a rank           DEAD      RELEASE to all; a plan is wanted after replan_wait
 *     READY      its component may start    SERVING   START to all; SUBMITs to the leader follow
 *     READY,     what others run shall go   same      WARM for each such request to the leader (protocol 3); at most one
 *      SERVING    there                                per request is under way
 *     SERVING    PLAN does not have it      SERVING   RETIRED: as before, until its component is READY, or another
 *                                                     pipeline can take what it has
 *     SERVING    told to drain (below)      DRAINING  CUTOVER of all requests; nothing new
 *     DRAINING   reason gone (below)        SERVING   what was cut over is handed off and queued all the same
 *     DRAINING   HANDOFF                    DRAINING  request queued (announced)
 *     DRAINING   handoff_timeout            DRAINING  CANCEL, queued from its log (announced)
 *     DRAINING   empty                      DEAD      its component's new ones START together; RELEASE to those of its
 *                                                     workers that are in none of them
 *     SERVING,   a rank is GONE             DEAD      RELEASE to the others, its requests are queued (announced if the
 *      DRAINING                                       worker was DOOMED); a plan is wanted
 *                BROKEN of a rank           DEAD      the same (announced if any of its workers is DOOMED), RELEASE to
 *                                                     all; a plan is wanted after replan_wait, doubled each time until
 *                                                     a younger pipeline commits a token
 *     DEAD       anything                   DEAD      its number and generation are unknown: stale
 *
 * New work goes to pipelines that will stay; to those that are DOOMED (or RETIRED with none to follow) only while no
 * other takes any.
 *
 * Transition: the new pipelines (FORMING, READY) and old ones (SERVING, DRAINING) that share workers, directly or
 * through others, are a component. Decided anew from what is there at each change (core_transitions.c):
 *
 *     component                                  what is done with its old ones          … its new ones
 *     ────────────────────────────────────────   ─────────────────────────────────────   ─────────────────
 *     new ones, one of them FORMING              serve on                                wait
 *     the same, an old one is DOOMED and its     that one drains, then ends: its         wait
 *      deadline nearer than the margin           requests are queued
 *     new ones, all READY                        serve on while copies are made          copy (WARM)
 *     the same, copies made (below)              drain                                   wait
 *     the same, and all old ones empty (or       end                                     START
 *      there are none)
 *     a new one ended while old ones drained     serve on                                wait
 *     no new one, an old one DOOMED or RETIRED   once the plan for this fleet is there   -
 *                                                 and another pipeline stays: serves on
 *                                                 while copies are made there, drains;
 *                                                 at the latest at the margin; ends
 *
 * Copies are made when all WARMEDs of the last round have come (core_warm.c), warm_timeout has passed, the margin before
 * any old one's deadline is reached, or an old one drains already. Nothing waits for a copy but the pipeline that it is
 * made from, and that serves on.
 *
 *     event in the middle                        what follows
 *     ────────────────────────────────────────   ──────────────────────────────────────────────────────────
 *     a second NOTICE while FORMING              the pipeline that it hits is DEAD, a plan is wanted; the old ones
 *                                                serve on, each until its own deadline - margin
 *     the NOTICE is cancelled                    a plan is wanted; if it has the old ones again they stay, and the
 *                                                new ones are RELEASEd
 *     workers come                               a plan is wanted; new ones that it still has are untouched
 *     the leader dies while DRAINING             its pipeline is DEAD: what was not handed off is queued; new ones
 *                                                that are READY start at once
 *     a source dies while copies are made        the same: new ones start at once, what was copied or is being copied
 *                                                goes on there, naming the survivors as holders
 *     a target ends while copies are made        its copies count as made; if others may follow, they are made there,
 *                                                else the old ones serve on
 *     a NOTICE while copies are made             to an old one's worker: the margin may come nearer; to a new one's: it
 *                                                is DEAD, as above
 *     the NOTICE is cancelled meanwhile          a plan is wanted; the old ones serve on, copies that were made are of
 *                                                use if anything moves later
 *     a PLAN for an older fleet                  what of it is still possible is taken; a plan is wanted
 *     a PLAN that no fleet can serve             those pipelines are ignored: a note, a plan is wanted after replan_wait
 *     a PLAN of no ranks                         old ones serve on as long as they can; requests wait (max_queue_wait)
 *
 * Silence: judged on TICK only, after the program has fed every frame that has arrived. While there are workers
 * a step is due each heartbeat (gw_core_next_deadline_us); after a gap of over half the timeout without any step
 * all silence deadlines move by the gap. More than half of the fleet (of two or more) quiet at once: those due
 * get mass_loss_recheck_us more.
 *
 * Holders: a request remembers whose workers it has run on since it began there (HANDOFF, its loss, BROKEN, loss of a
 * rank); SUBMIT and WARM name those that live still, serve pages and are of the target's profile: survivors of a dead
 * pipeline are holders, the dead are not. A new prompt that is routed away from its prefix names who has that, also ranks
 * of a pipeline that has ended; a request of an earlier controller names whoever came with cells. Holders are hints:
 * whoever was wrongly not named costs a recomputation, whoever was wrongly named an answer "I have not".
 *
 * Sources: ASSIGN names to a rank who may have cells that it lacks: workers of its profile that are there, DOOMED ones too, by
 * what they served last. Hints as well: who was wrongly named says so, and what nobody gives comes from the disk.
 *
 * Stores: which workers keep KV pages for others (worker/stores.h). The list has those that said so in HELLO, speak protocol
 * 3 and are UP; of more than GW_WIRE_STORES_MAX the same ones for as long as they stay (core_stores.c).
 *
 *     event                                      what is done
 *     ────────────────────────────────────────   ──────────────────────────────────────────────────────────
 *     a worker comes, is lost, is DOOMED, is     the list is made anew; STORES to all of protocol 3 if it is another one,
 *      not DOOMED any more                       else to who has just come
 *     STORES is lost                             with its link: told again when the worker registers
 *
 * Request states:
 *
 *     state     event                      next      what is done
 *     ───────   ────────────────────────   ───────   ──────────────────────────────────────────────────────
 *     -         SUBMIT, room               QUEUED    GW_ACT_ACCEPTED
 *     -         SUBMIT, queue full         -         GW_ACT_FAILED (LIMIT)
 *     -         RESTORE                    QUEUED    GW_ACT_ACCEPTED; its logs are what the journal kept; served before
 *                                                    new ones, only by the profile of its records; no queue is full for
 *                                                    it. What the journal did not keep is generated again
 *     -         RESTORE, no memory         -         GW_ACT_FAILED (MEMORY)
 *     QUEUED    a pipeline has room        RUNNING   attempt + 1, SUBMIT with the logs to its leader
 *     QUEUED    max_queue_wait passed      -         GW_ACT_FAILED (LIMIT): one clear error
 *     RUNNING   TOKENS                     RUNNING   logs grow; GW_ACT_TOKENS; GW_ACT_FINISH per branch
 *     RUNNING   last branch finished       -         CANCEL to the leader if it may still run; GW_ACT_DONE
 *     RUNNING   pipeline DEAD              QUEUED    served before new ones; counted if it had started and
 *                                                    nothing was committed since the last loss (a commit
 *                                                    sets the count back)
 *     RUNNING   counted twice              QUEUED    GW_NOTE_REQUEST_ALONE: it waits for a pipeline to itself
 *     RUNNING   alone, lost three times    -         GW_ACT_FAILED (INTERNAL)
 *     RUNNING   WARM sent                  RUNNING   nothing changes for it; its target is remembered
 *     any       WARMED                     same      the target has what it could get: dispatch prefers it
 *     any       is submitted elsewhere,    …         CANCEL (of the attempt that WARM named) to the target
 *                or ends
 *     RUNNING   ORIGIN                     RUNNING   counted once per attempt, and noted, if it was resubmitted or had
 *                                                    holders
 *     RUNNING   REJECT                     -         GW_ACT_FAILED with the leader's code and text
 *     RUNNING   CUTOVER sent               MOVING    TOKENS are still taken
 *     MOVING    HANDOFF · its deadline     QUEUED    served before new ones; never counted
 *     any       client CANCEL              -         CANCEL to the leader
 *     any       front STOP(branch, keep)   same      that branch's log is cut to keep records and finished
 *
 * Lost messages: every loss is the loss of a link (wire.h): that worker is GONE, its pipelines are DEAD, and what the
 * message would have done is undone by that.
 *
 *     lost              what happens
 *     ───────────────   ─────────────────────────────────────────────────────────────────────────────────────
 *     ASSIGN, READY     the pipeline never becomes READY: DEAD with the worker, at the latest by prepare_timeout
 *     START             the others serve with a rank that does not know: their steps wait until it is GONE or say BROKEN
 *     SUBMIT, TOKENS    resubmitted from the log: what is lost is generated again, bit for bit
 *     CANCEL            it died with the link
 *     WARM, WARMED      the source serves on until warm_timeout or the margin, then what was not copied is fetched from
 *                       holders by who gets the SUBMIT, or computed; with the target's link its copies end
 *     ORIGIN            that attempt is not counted
 *     CUTOVER, HANDOFF  no HANDOFF by its deadline, or GONE before: resubmitted from the log
 *     RELEASE           the worker has left everything when it registers again
 *     BROKEN            the other ranks' steps fail too, or the worker is GONE
 *     NOTICE            kept by name: it holds for the next incarnation
 *
 * TOKENS, REJECT, HANDOFF, ORIGIN count only from the leader's link under its pipeline's number and generation, WARMED
 * also before START, READY and BROKEN from a rank's; TOKENS of an old attempt, of a branch that is finished, or for an
 * unknown request, WARMED of what is not being copied there, a second ORIGIN of one attempt are stale
 * too: dropped and counted. */
/* clang-format on */
#ifndef GW_CONTROLLER_CORE_H
#define GW_CONTROLLER_CORE_H

#include "migrate/wire.h"

struct gw_core;

struct gw_core_config {
    uint64_t term;                             /* of this controller; higher than any before */
    uint8_t fingerprint[GW_FINGERPRINT_BYTES]; /* of the model served */
    /* Is this the right digest for that profile? A pure function (a constant table); NULL accepts all
     * (tests). */
    bool (*digest_ok)(const char *profile, const uint8_t digest[GW_DIGEST_BYTES]);
    int64_t heartbeat_us;            /* asked of workers; default 250 ms */
    int64_t heartbeat_timeout_us;    /* silence that means loss; default 1 s */
    int64_t mass_loss_recheck_us;    /* over half of the fleet silent: wait so much longer; default 2 s */
    int64_t controller_timeout_us;   /* told to workers; default 5 s */
    int64_t cutover_margin_us;       /* CUTOVER at the latest so long before the deadline; default 1 s */
    int64_t handoff_timeout_us;      /* default 2 s, never past the deadline */
    int64_t doom_grace_us;           /* default 30 s */
    int64_t max_queue_wait_us;       /* default 600 s */
    uint32_t max_queued;             /* requests waiting for a worker; default 4096 */
    uint32_t max_workers;            /* default 1024 */
    uint32_t worker_branches_target; /* branches in flight per pipeline before requests wait in the core's
                                        queue; default 4096 (leaders queue well themselves) */
    uint32_t groups, shares; /* the model's grid of cells; a plan must hold each cell once per pipeline */
    int64_t
        prepare_timeout_us; /* ASSIGN to READY of all ranks; default 600 s: large weights from slow disks */
    int64_t replan_wait_us; /* after a pipeline broke while all its workers live: wait before wanting a plan,
                                        doubled up to 30 s while that goes on; default 100 ms */
    int64_t
        warm_timeout_us; /* KV is copied ahead of a move for so long at most; 0 = it is not; default 10 s */
    bool profile_loss_continue; /* no worker of a request's numerics profile is left: go on with another
                                        (bits may change) instead of waiting; default false */
};

/* Fills in the defaults above (term and fingerprint stay zero). */
void gw_core_config_default(struct gw_core_config *config);

/* A layout in the core's terms: workers are named by their links. Ranks are sorted by pipeline, stage, first share;
 * pipelines are numbered from 0 on, for this plan only. */
struct gw_core_plan_rank {
    uint64_t link;
    uint32_t pipeline;
    uint16_t stage;
    struct gw_cell_rect cells;
};

struct gw_core_plan {
    uint64_t
        fleet; /* GW_ACT_PLAN_WANTED's number that it was made for; of an older fleet it is applied as far as its workers
                       are still there */
    const struct gw_core_plan_rank *ranks; /* [ranks_len]; 0: serve nothing */
    uint32_t ranks_len;
};

enum gw_event_type {
    GW_EV_TICK,      /* time has passed: due deadlines fire (all but silence fire on every other event too) */
    GW_EV_HELLO,     /* an authenticated worker introduces itself on `link` (mac was checked outside) */
    GW_EV_MSG,       /* any later message on `link` */
    GW_EV_LINK_DOWN, /* the link is gone; fires at most once per link and never after ACT_CLOSE */
    GW_EV_SUBMIT,    /* front: a new request; the core owns it from here on */
    GW_EV_RESTORE,   /* front: a request of an earlier controller, with what its journal kept of the logs */
    GW_EV_CANCEL,    /* front: the client has gone */
    GW_EV_STOP,      /* front: stop string found; keep so many records of that branch and finish it */
    GW_EV_NOTICE,    /* admin, cloud: an instance (or worker) will go, or will not */
    GW_EV_PLAN, /* planner, admin: the layout to be served; the core moves there from where things stand */
};

/* A branch's log: records from position 0 on, no more than max_tokens; done: it has ended (a stop string, or the last
 * record says so). */
struct gw_core_restored {
    struct gw_tokens tokens;
    bool done;
};

struct gw_event {
    enum gw_event_type type;
    union {
        struct {
            uint64_t link; /* not 0 */
            const struct gw_msg *msg;
        } link; /* HELLO, MSG, LINK_DOWN (msg NULL) */
        struct {
            struct gw_request *request;
        } submit; /* request->id: unique, not 0, chosen by the front */
        struct {
            struct gw_request *request;              /* as in submit; at least one branch is not done */
            const struct gw_core_restored *branches; /* [request->n], borrowed */
            const char *profile; /* that the records were computed with; "" iff there are none */
        } restore;
        struct {
            uint64_t request;
        } cancel;
        struct {
            uint64_t request;
            uint32_t branch;
            uint32_t keep;
        } stop;
        struct {
            const char *name;
            uint8_t kind;
            int64_t deadline_us;
        } notice;                        /* instance id or worker name; absolute */
        const struct gw_core_plan *plan; /* borrowed */
    };
};

enum gw_action_type {
    GW_ACT_SEND,     /* encode msg onto link */
    GW_ACT_CLOSE,    /* close link after what was sent before; reason is for the log */
    GW_ACT_ACCEPTED, /* front: the request is in; exactly one of DONE, FAILED or silence-after-cancel follows
                      */
    GW_ACT_TOKENS,   /* front: committed records */
    GW_ACT_FINISH,   /* front: a branch ended (not sent for branches ended by EV_STOP) */
    GW_ACT_DONE,     /* front: all branches ended; the request is forgotten */
    GW_ACT_FAILED,   /* front: one clear error; the request is forgotten */
    GW_ACT_NOTE,     /* timeline: for log, metrics, dashboard */
    GW_ACT_PLAN_WANTED, /* the fleet has changed: a GW_EV_PLAN should follow */
};

enum gw_note_kind {
    GW_NOTE_WORKER_UP = 1,
    GW_NOTE_WORKER_REFUSED,
    GW_NOTE_WORKER_DOOMED,
    GW_NOTE_NOTICE_CANCELLED,
    GW_NOTE_WORKER_LOST,   /* text: why */
    GW_NOTE_WORKER_LEFT,   /* announced, nothing was left on it */
    GW_NOTE_REQUEST_MOVED, /* request resubmitted; announced or not in `announced`, position = committed
                              records of all branches */
    GW_NOTE_REQUEST_ALONE,
    GW_NOTE_DIVERGED,
    GW_NOTE_EPOCH,            /* a plan was taken; generation: the epoch, count: pipelines */
    GW_NOTE_PIPELINE_FORMING, /* worker: the leader, generation: the pipeline's, count: ranks */
    GW_NOTE_PIPELINE_SERVING,
    GW_NOTE_PIPELINE_DRAINING,
    GW_NOTE_WORKER_ADVISED,   /* text: what was recommended */
    GW_NOTE_PIPELINE_WARMING, /* KV of its requests is copied ahead, count: requests */
    GW_NOTE_REQUEST_ORIGIN, /* where the KV of an attempt came from: `origin`, in tokens; generation: its pipeline's */
    GW_NOTE_WORKERS_APART, /* worker could not reach the worker that text names; both are up */
    GW_NOTE_PIPELINE_DEAD, /* text: why; announced: it was told to end; count: requests on it. generation 0: planned,
                              but ignored */
};

/* Tokens of KV that attempts began with (what was copied ahead of them counts as moved); see gw_kv_recomputed. */
struct gw_kv_origin {
    uint64_t total, cached, moved, stored;
};

static inline uint64_t gw_kv_recomputed(const struct gw_kv_origin *o)
{
    return o->total - o->cached - o->moved - o->stored;
}

struct gw_note {
    enum gw_note_kind kind;
    bool announced;
    const char *worker; /* name, "" if none */
    uint64_t generation;
    uint64_t request; /* 0 = none */
    uint32_t attempt;
    uint32_t count; /* requests that were on the worker; or records committed */
    const char *text;
    uint64_t
        left; /* REQUEST_MOVED, REQUEST_ORIGIN: generation of the pipeline that it ran on before; 0 = none */
    struct gw_kv_origin origin;
};

struct gw_action {
    enum gw_action_type type;
    union {
        struct {
            uint64_t link;
            struct gw_msg *msg;
            const char *reason;
        } link; /* msg owned by the core, valid till next step */
        struct {
            uint64_t request;
        } accepted, done;
        struct {
            uint64_t request;
            uint32_t branch;
            struct gw_tokens tokens;
            const char *profile; /* numerics profile that they were computed with */
        } tokens;                /* points into the log */
        struct {
            uint64_t request;
            uint32_t branch;
            enum gw_finish reason;
        } finish;
        struct {
            uint64_t request;
            gw_err_t code;
            const char *text;
        } failed;
        struct gw_note note;
        struct {
            uint64_t fleet;
        } plan_wanted;
    };
};

/* GW_ERR_INPUT: term 0, a maximum of 0, or timeouts too short for the heartbeat. */
gw_err_t gw_core_create(const struct gw_core_config *config, struct gw_core **out) GW_MUST_USE;
void gw_core_destroy(struct gw_core *core);

/* Feeds one event; msg and name pointers are borrowed for the call only. now_us never goes back. */
void gw_core_step(struct gw_core *core, int64_t now_us, const struct gw_event *event);

/* The actions of the last step, in the order in which they must be carried out. */
const struct gw_action *gw_core_actions(const struct gw_core *core, size_t *count);

/* When the next GW_EV_TICK is due; INT64_MAX = nothing is pending. */
int64_t gw_core_next_deadline_us(const struct gw_core *core);

#define GW_CORE_FAR_S 60.0 /* what costs by the gigabyte is looked at by the minute */

/* For admin and metrics: plain numbers, copied out. */
struct gw_core_stats {
    uint32_t workers_up, workers_doomed, queued, running;
    uint64_t accepted, done, failed, cancelled, tokens;
    uint64_t losses, announced_moves, unannounced_moves, stale_frames, diverged;
    uint64_t warms, warmed;                        /* WARMs sent, WARMEDs that came in time */
    struct gw_kv_origin kv;                        /* of attempts that were resubmitted or had holders */
    uint64_t weight_disk_bytes, weight_peer_bytes; /* that workers have loaded, as their heartbeats say */
    struct gw_traffic_bytes traffic;               /* the same, that they have exchanged */
    double
        far_bytes_s; /* of it, between zones: over GW_CORE_FAR_S, the later the more, as of the last heartbeat */
};
void gw_core_stats(const struct gw_core *core, struct gw_core_stats *out);

struct gw_core_worker_view {
    char worker[GW_WIRE_NAME_MAX + 1], instance[GW_WIRE_NAME_MAX + 1], profile[GW_WIRE_NAME_MAX + 1];
    const char *state;   /* "up", "doomed" */
    uint32_t pipeline;   /* that it serves in */
    uint64_t generation; /* the same; 0 = it serves in none */
    uint32_t requests;   /* of that pipeline */
    bool advised;        /* REBALANCE: its cloud recommends to leave its instance */
    bool waited_for;     /* queued requests can go on with its numerics profile alone */
    uint32_t pid;
    int64_t deadline_us; /* of the notice; 0 = none */
    struct gw_msg_heartbeat last;
};
/* Copies at most max views; returns how many there are. */
size_t gw_core_workers(const struct gw_core *core, struct gw_core_worker_view *out, size_t max);

/* What a planner needs to know of a worker, beside the view above, in the same order. */
struct gw_core_device_view {
    uint64_t link;
    uint16_t proto; /* 1: it is a pipeline of its own for good, and not to be planned */
    char device[GW_WIRE_NAME_MAX + 1], zone[GW_WIRE_NAME_MAX + 1];
    uint8_t machine[GW_MACHINE_BYTES];
    uint64_t memory_bytes, bytes_s, flop_s;
    struct gw_cell_rect holds;
};
size_t gw_core_devices(const struct gw_core *core, struct gw_core_device_view *out, size_t max);

struct gw_core_rank_view {
    char worker[GW_WIRE_NAME_MAX + 1];
    uint64_t link;
    uint16_t stage;
    struct gw_cell_rect cells;
    bool ready;
    uint64_t loaded_bytes; /* once ready */
};

struct gw_core_pipeline_view {
    uint32_t pipeline;
    uint64_t generation, epoch;
    const char *state; /* "forming", "ready", "serving", "draining" */
    uint32_t requests, kv_tokens, context;
    uint32_t ranks_len;
    struct gw_core_rank_view ranks[GW_WIRE_RANKS_MAX];
};
/* One after another: false when there is no pipeline `index` (from 0 on, ordered by generation). */
bool gw_core_pipeline(const struct gw_core *core, size_t index, struct gw_core_pipeline_view *out);

/* The number of the last plan taken; 0 = none yet. */
uint64_t gw_core_epoch(const struct gw_core *core);
/* The fleet's number, that of the last GW_ACT_PLAN_WANTED. */
uint64_t gw_core_fleet(const struct gw_core *core);

/* Shows each live request with its logs and the profile of its records ("" = none yet), so that another controller can
 * go on with it by RESTORE. What is shown is valid during the call. */
void gw_core_each_request(const struct gw_core *core,
                          void (*each)(void *arg, const struct gw_request *request,
                                       const struct gw_core_restored *branches, const char *profile),
                          void *arg);

/* The committed log of a live request's branch (tests, simulator, journal); false if unknown. Valid till next
 * step. */
bool gw_core_log(const struct gw_core *core, uint64_t request, uint32_t branch, struct gw_tokens *out);

#endif
