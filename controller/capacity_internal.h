/* What the parts of the capacity service share: included by controller/capacity*.c alone.
 *
 * capacity.c: when, what is wished for, what is shown. capacity_carry.c: what the decisions' actions do.
 * capacity_prices.c: what instances cost. Owner, thread, units, errors: capacity.h. */
#ifndef GW_CONTROLLER_CAPACITY_INTERNAL_H
#define GW_CONTROLLER_CAPACITY_INTERNAL_H

#include "cloud/capacity.h"
#include "controller/capacity.h"
#include "controller/capacity_churn.h"
#include "controller/capacity_fleet.h"
#include "controller/capacity_need.h"
#include "controller/capacity_wish.h"
#include "controller/price_file.h"

#define CAPACITY_EVENTS_MAX 16 /* that one event's actions bring at once: one per action */

/* Prices as the cloud tells them, copied for threads. */
struct capacity_prices {
    struct gw_cloud_price *list; /* [len] */
    size_t len;
};

struct capacity_group {
    const char *name;         /* NULL: there is no such group */
    bool seen_once, read_due; /* read_due: a group that is not there wants its description */
    struct gw_capacity_seen seen;
    double usd_h, default_usd_h;
    struct gw_capacity_view_instance *shown; /* [shown_len] */
    size_t shown_len;
    uint64_t entry; /* of the journal, of the intent that is stored; 0: none */
    /* Who is being drained; "": nobody. told: by a notice of ours, until deadline_us */
    char draining[GW_CLOUD_INSTANCE_MAX];
    bool told, drained;
    int64_t deadline_us;
    bool complained; /* the last call of it failed */
};

struct gw_capacities {
    struct gw_capacities_config config;
    struct gw_capacity *decisions;
    struct capacity_group groups[GW_CAPACITY_GROUPS];
    struct event *tick;
    int64_t begun_us, need_due_us, prices_due_us;
    bool stopped, settled;
    struct gw_capacity_event events[CAPACITY_EVENTS_MAX];
    size_t events_len;
    bool feeding;
    struct gw_churn churn;
    bool draining_now;                 /* the notice that the core hears is ours: no churn */
    struct gw_capacity_need *need_job; /* being computed */
    uint32_t need;                     /* 0: not known */
    struct gw_capacity_wish wish;
    uint32_t wished;
    struct capacity_prices prices;
    bool prices_asked, prices_none; /* none: this cloud tells none */
    bool prices_file_bad;           /* and that has been said */
    struct gw_cloud_ask prices_ask;
    char types[GW_CLOUD_TYPES_MAX][64]; /* of the instances that there are */
    size_t types_len;
    uint64_t writes, deletions, failures;
    char trouble[GW_CAPACITY_VIEW_TEXT];
};

/* Steps the decisions and carries out what they say; from inside of that, later. */
void capacity_feed(struct gw_capacities *c, const struct gw_capacity_event *e);

/* capacity_carry.c */
void capacity_carry(struct gw_capacities *c, const struct gw_capacity_action *a);
/* Are those that are being drained drained by now? */
void capacity_look_at_drains(struct gw_capacities *c, const struct gw_capacity_fleet *fleet);
/* A call or the journal failed: told once until one succeeds. */
void capacity_complain(struct gw_capacities *c, enum gw_capacity_group group, const char *text);

/* capacity_prices.c */
void capacity_ask_prices(struct gw_capacities *c, int64_t now_us);
gw_err_t capacity_prices_copy(const struct capacity_prices *from, struct capacity_prices *to);
/* Where prices of a group's instances come from: the cloud, else the operator's file, else his flag. */
struct capacity_price_sources {
    const struct capacity_prices *told; /* NULL: none of these is */
    const struct gw_price_file *file;
    bool spot;
    double default_usd_h;
};

/* All that live, by their types and zones; the first GW_CAPACITY_VIEW_SHOWN of them go into shown. */
double capacity_cost(const struct capacity_price_sources *sources, const struct gw_cloud_answer *answer,
                     struct gw_capacity_view_instance *shown, size_t *shown_len);
/* Types to ask prices for. */
void capacity_note_types(struct gw_capacities *c, const char types[][64], size_t len);

static inline int64_t capacity_now(const struct gw_capacities *c)
{
    return c->config.clock.now_us(c->config.clock.arg);
}

static inline const char *capacity_group_name(enum gw_capacity_group g)
{
    return g == GW_CAPACITY_SPOT ? "spot" : "on demand";
}

#endif
