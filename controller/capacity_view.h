/* What capacity service and notice queue show of themselves: for /admin/stats, metrics and `godwit status`.
 *
 * Owner: plain data. Thread: the loop's. Units: instances, USD per hour. Errors: none. Source: own design. */
#ifndef GW_CONTROLLER_CAPACITY_VIEW_H
#define GW_CONTROLLER_CAPACITY_VIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GW_CAPACITY_VIEW_GROUPS 2
#define GW_CAPACITY_VIEW_TEXT   200
#define GW_CAPACITY_VIEW_ID     128
#define GW_CAPACITY_VIEW_SHOWN  256 /* instances of a group that are shown one by one; more are only counted */

struct gw_capacity_view_group {
    char name[256]; /* "": there is no such group */
    bool seen;      /* it has been described */
    uint32_t min, max, target, desired, running, live;
    double usd_h;                                      /* of those that are there; 0: no price is known */
    const struct gw_capacity_view_instance *instances; /* [instances_len], until the loop's next turn */
    size_t instances_len;
};

/* One of a group's instances, as last described. */
struct gw_capacity_view_instance {
    char id[GW_CAPACITY_VIEW_ID], zone[64];
    bool spot;
    bool pending; /* it is on its way */
    double usd_h; /* 0: no price is known */
};

/* Messages since the start. */
struct gw_notice_queue_view {
    bool on;
    uint64_t received, taken, unknown, odd;
    uint64_t completed; /* lifecycles */
};

struct gw_capacity_view {
    bool on; /* sizes are the controller's; false: all else but the queue is zero */
    bool dry_run;
    const char *cloud;
    uint32_t need, wish; /* instances: that the load needs, that are wished for */
    bool need_known;
    struct gw_capacity_view_group groups[GW_CAPACITY_VIEW_GROUPS]; /* spot, on demand */
    char draining[128];                                            /* an instance's id; "": none */
    uint64_t writes, deletions, failures;
    char trouble[GW_CAPACITY_VIEW_TEXT]; /* the last call's error; "": it succeeded */
    struct gw_notice_queue_view queue;
};

#endif
