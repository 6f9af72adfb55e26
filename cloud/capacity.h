/* Capacity controller: from a wish to the sizes of two groups, by calls that may fail, be late, or be another's.
 *
 * Sans-I/O: events in, at most GW_CAPACITY_ACTIONS_MAX actions out; no clock, no chance, no cloud.
 *
 *     wish ──► spot group first ──► spot short for short_us? ──► the rest on demand
 *                                   spot whole for whole_us? ──► on demand back to its minimum
 *
 *     up     by an absolute size, and only over a description of the group that is younger than fresh_us:
 *            READ ─► (group) ─► INTENT ─► (stored) ─► SET_DESIRED ─► (done, or failed) ─► cool-down
 *     down   one instance at a time, by its name, once nothing runs on it, never below min:
 *            READ ─► (group) ─► DRAIN ─► (drained) ─► INTENT ─► (stored) ─► DELETE ─► (done, or failed) ─► cool-down
 *
 *     lost               what follows
 *     ────────────────   ─────────────────────────────────────────────────────────────────────────────────────
 *     a call's answer    its caller says FAILED at its deadline; the group is read again: sizes are absolute, and a
 *                        deletion names one instance, so asking twice is asking once
 *     the lease          everything that was begun is forgotten; the next holder begins with READ
 *     an intent          nothing was asked for: an intent is stored before its call
 *     a drain            after drain_us UNDRAIN, and somebody is chosen anew
 *
 * One writer: no INTENT, SET_DESIRED, DRAIN or DELETE without the lease, each carries its term, and whoever carries a
 * write out must refuse one of an older term than the stored intent's.
 *
 * Owner: create/destroy; actions live until the next step. Thread: one. Units: instances; microseconds on the caller's
 * monotonic clock. Errors: GW_ERR_INPUT (bounds out of order), GW_ERR_MEMORY. Source: own design; DESIGN part 7. */
#ifndef GW_CLOUD_CAPACITY_H
#define GW_CLOUD_CAPACITY_H

#include "cloud/cloud.h"

#define GW_CAPACITY_ACTIONS_MAX 8

enum gw_capacity_group { GW_CAPACITY_SPOT, GW_CAPACITY_ON_DEMAND, GW_CAPACITY_GROUPS };

struct gw_capacity_config {
    uint32_t min[GW_CAPACITY_GROUPS], max[GW_CAPACITY_GROUPS];
    int64_t short_us;    /* default 2 min: an instance that will come is there by then */
    int64_t whole_us;    /* default 10 min: spot that came back may go again */
    int64_t fresh_us;    /* default 10 s */
    int64_t cooldown_us; /* default 30 s: what was asked for must show in a description */
    int64_t drain_us;    /* default 10 min */
    int64_t read_us;     /* default 60 s: groups are read so often when nothing is to be done */
    bool dry_run;        /* decide, and do nothing but READ */
};

void gw_capacity_config_default(struct gw_capacity_config *config);

/* A description of a group, as far as decisions need it. */
struct gw_capacity_seen {
    uint32_t max, desired;           /* max: the group's own bound; 0: it has none */
    uint32_t running, live;          /* live: running, or on their way */
    struct gw_cloud_instance victim; /* who may go first */
    bool has_victim;
};

/* May run on any thread: ten thousand instances are no matter for a loop. rank: the lowest may go first, of equals the
 * first; NULL: all are equal. */
void gw_capacity_look(const struct gw_cloud_answer *answer,
                      int (*rank)(void *arg, const struct gw_cloud_instance *instance), void *arg,
                      struct gw_capacity_seen *out);

enum gw_capacity_event_type {
    GW_CAPACITY_EV_TICK,
    GW_CAPACITY_EV_LEASE,   /* term: held from now on; 0: lost */
    GW_CAPACITY_EV_WISH,    /* count */
    GW_CAPACITY_EV_GROUP,   /* seen: a description of the group, or NULL: it could not be read */
    GW_CAPACITY_EV_STORED,  /* the intent is stored */
    GW_CAPACITY_EV_DONE,    /* the write was accepted */
    GW_CAPACITY_EV_FAILED,  /* the write, or storing its intent, was not */
    GW_CAPACITY_EV_DRAINED, /* nothing runs on instance */
};

struct gw_capacity_event {
    enum gw_capacity_event_type type;
    enum gw_capacity_group group; /* GROUP, STORED, DONE, FAILED, DRAINED */
    uint64_t term;
    uint32_t count;
    const struct gw_capacity_seen *seen;
    const char *instance;
};

enum gw_capacity_action_type {
    GW_CAPACITY_READ,
    GW_CAPACITY_DRAIN,
    GW_CAPACITY_UNDRAIN, /* it stays after all */
    GW_CAPACITY_INTENT,  /* store what the write will be */
    GW_CAPACITY_SET_DESIRED,
    GW_CAPACITY_DELETE,
};

struct gw_capacity_action {
    enum gw_capacity_action_type type;
    enum gw_capacity_group group;
    uint64_t term;
    uint32_t desired;                     /* SET_DESIRED, its INTENT */
    char instance[GW_CLOUD_INSTANCE_MAX]; /* DRAIN, UNDRAIN, DELETE, its INTENT; "" else */
    char handle[GW_CLOUD_NAME_MAX];
};

struct gw_capacity;

gw_err_t gw_capacity_create(const struct gw_capacity_config *config, struct gw_capacity **out) GW_MUST_USE;
void gw_capacity_destroy(struct gw_capacity *capacity);

void gw_capacity_step(struct gw_capacity *capacity, int64_t now_us, const struct gw_capacity_event *event);
const struct gw_capacity_action *gw_capacity_actions(const struct gw_capacity *capacity, size_t *count);

/* For status: what each group should have now. */
uint32_t gw_capacity_target(const struct gw_capacity *capacity, enum gw_capacity_group group);

#endif
