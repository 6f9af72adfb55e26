/* The groups of `godwit cloud`: which instances there should be, which there are, which are taken away.
 *
 *     instance   event                                    next       what the caller does
 *     ────────   ──────────────────────────────────────   ────────   ──────────────────────────────────────
 *     -          fewer than the group's size, and supply   PENDING    -
 *     PENDING    boot time has passed                      RUNNING    starts its processes (sim_groups_due)
 *     RUNNING    more spot instances than supply           NOTICED    tells it (sim_groups_taken)
 *     RUNNING    reclaimed by its name                     NOTICED    tells it (sim_groups_reclaim)
 *     NOTICED    its notice is taken back                  RUNNING    tells it (sim_groups_spare)
 *     NOTICED    the notice has run out                    ENDING     kills it (sim_groups_over)
 *     any        deleted by its name                       ENDING     shuts it down; the group's size shrinks
 *     any        killed by its name                        ENDING     kills it; the size stays: another one comes
 *     any        its worker has ended                      ENDING     ends its watch
 *     ENDING     SIM_SHUTDOWN_US have passed               ENDING     kills it (sim_groups_over)
 *     ENDING     its last process has ended                -          -
 *
 * Each instance has a worker and, where somebody can be told, a watch. Pure bookkeeping: no process, no clock. Owner: caller
 * memory. Thread: one. Units: microseconds; instances. Errors: none. Source: own design. */
#ifndef GW_CONTROLLER_CLI_SIM_GROUPS_H
#define GW_CONTROLLER_CLI_SIM_GROUPS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/clock.h"
#include "controller/cli/sim_notices.h"

#define SIM_INSTANCES_MAX 64
#define SIM_ID_MAX        32
#define SIM_ZONES_MAX     8
#define SIM_ZONE_MAX      32                /* bytes of a zone's name, NUL included */
#define SIM_SHUTDOWN_US   (3 * GW_US_PER_S) /* a machine that shuts down gives its processes so long */

enum sim_market { SIM_SPOT, SIM_ON_DEMAND, SIM_MARKETS };
enum sim_state { SIM_GONE, SIM_PENDING, SIM_RUNNING, SIM_NOTICED, SIM_ENDING };

struct sim_instance {
    char id[SIM_ID_MAX];
    enum sim_state state;
    enum sim_market market;
    uint32_t zone;
    pid_t worker, watch; /* 0: there is no such process */
    int64_t at_us;       /* PENDING: it boots until then; NOTICED: it goes then; ENDING: it is killed then */
    struct sim_notices notices;
};

struct sim_groups {
    uint32_t desired[SIM_MARKETS], supply; /* supply: of spot */
    double usd_h[SIM_MARKETS];
    int64_t boot_us, notice_us;
    uint32_t number; /* of the last instance's id */
    char zones[SIM_ZONES_MAX][SIM_ZONE_MAX];
    uint32_t zones_len; /* >= 1; instances take turns */
    struct sim_instance instances[SIM_INSTANCES_MAX];
};

/* "spot", "on-demand": the groups' names. */
const char *sim_market_name(enum sim_market market);
bool sim_market_find(const char *name, enum sim_market *out);
const char *sim_zone_of(const struct sim_groups *g, const struct sim_instance *i);

/* New instances for groups that lack some. */
void sim_groups_follow(struct sim_groups *g, int64_t now_us);
/* One for which something is to be done now; NULL: none. */
struct sim_instance *sim_groups_due(struct sim_groups *g, int64_t now_us);
struct sim_instance *sim_groups_taken(struct sim_groups *g, int64_t now_us);
struct sim_instance *sim_groups_over(struct sim_groups *g, int64_t now_us);

/* By its name; NULL: there is none, or it is ending. */
struct sim_instance *sim_groups_find(struct sim_groups *g, const char *id);
void sim_groups_reclaim(struct sim_instance *i, int64_t now_us, int64_t deadline_us);
void sim_groups_spare(struct sim_instance *i);
void sim_groups_delete(struct sim_groups *g, struct sim_instance *i, int64_t now_us);
void sim_groups_kill(struct sim_instance *i, int64_t now_us);

/* NULL: none of ours. What has no process left is free, its id still there. */
struct sim_instance *sim_groups_exited(struct sim_groups *g, pid_t pid, int64_t now_us);
/* Is this process a worker, and nobody has ended it or told it that it goes? */
bool sim_groups_needs(const struct sim_groups *g, pid_t pid);

/* The answer of GET /v1/groups/NAME (cloud/sim.c). */
void sim_groups_put(const struct sim_groups *g, enum sim_market market, struct gw_buf *b);
/* The answer of GET /v1/instances: all that there are, for people and tests. */
void sim_groups_put_all(const struct sim_groups *g, int64_t now_us, struct gw_buf *b);

#endif
