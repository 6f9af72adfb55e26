/* The fleet of `godwit up`: which workers there should be, what state each is in, who is due for replacement.
 *
 * Pure bookkeeping (state table: up.h): it starts no process and reads no clock; up.c tells it what happened
 * and asks what to do.
 *
 * Owner: caller memory, no heap. Thread: one. Units: microseconds on the monotonic clock.
 * Errors: GW_ERR_LIMIT at FLEET_MAX. Source: own design. */
#ifndef GW_CONTROLLER_CLI_FLEET_H
#define GW_CONTROLLER_CLI_FLEET_H

#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

#define FLEET_MAX       256 /* slots, replaced ones included; replaced slots whose process ended are reused */
#define FLEET_ID_MAX    64
#define FLEET_GROUP_MAX 16
#define FAST_EXITS_MAX  3 /* a worker that never comes up will not with a fourth try */

enum fleet_state {
    FLEET_FREE,
    FLEET_STARTING,
    FLEET_UP,
    FLEET_DOOMED,
    FLEET_LOST,
    FLEET_REPLACED,
    FLEET_EXITED
};

struct fleet_worker {
    char id[FLEET_ID_MAX];
    pid_t pid; /* 0 = no process */
    enum fleet_state state;
    int64_t replace_at_us; /* when LOST or EXITED */
    int replacements;      /* for the next id: w1r1, w1r2 … */
    bool
        replaced; /* another one runs in its place: if it comes back, it is one more, and never replaced again */
    int fast_exits;
    int starts;                  /* processes so far: each is an instance of its own to the controller */
    char group[FLEET_GROUP_MAX]; /* of its cloud; "": up plays the cloud itself */
};

/* An instance that somebody else runs. */
struct fleet_seen {
    char id[FLEET_ID_MAX], group[FLEET_GROUP_MAX];
    pid_t pid;
};

struct fleet {
    struct fleet_worker workers[FLEET_MAX];
    size_t len;
    int64_t replace_after_us;
    bool changed; /* the state file is due */
};

void fleet_init(struct fleet *fleet, int64_t replace_after_us);

/* A slot that wants a process (state STARTING, pid 0). */
gw_err_t fleet_add(struct fleet *fleet, const char *id, struct fleet_worker **out) GW_MUST_USE;

/* The process of `pid` has ended. Returns its slot, NULL if it is none of ours. */
struct fleet_worker *fleet_on_exit(struct fleet *fleet, pid_t pid, int64_t now_us);

/* One view of the controller: state_of(id) returns "up", "doomed" or NULL (not listed). */
void fleet_on_view(struct fleet *fleet, const char *(*state_of)(void *arg, const char *id), void *arg,
                   int64_t now_us);

/* The workers become those of these instances: new ones are STARTING, those that are not among them are forgotten. Nothing is due for
 * replacement then, which is the affair of who runs them. */
void fleet_follow(struct fleet *fleet, const struct fleet_seen *seen, size_t len);

/* A slot that wants a process now, after making replacements that are due; NULL if none. */
struct fleet_worker *fleet_next_start(struct fleet *fleet, int64_t now_us);

/* "starting", "up", … as in the state file. */
const char *fleet_state_name(enum fleet_state state);

/* Workers whose state is UP or DOOMED. */
size_t fleet_up(const struct fleet *fleet);

#endif
