/* The groups of `godwit cloud`: which instances there should be, which there are, which are taken away.
 *
 *     instance   event                                    next       what the caller does
 *     ────────   ──────────────────────────────────────   ────────   ─────────────────────────────────
 *     -          fewer than the group's size, and supply   PENDING    -
 *     PENDING    boot time has passed                      RUNNING    starts a process (sim_groups_due)
 *     RUNNING    more spot instances than supply           NOTICED    tells it (sim_groups_taken)
 *     NOTICED    the notice has run out                    ENDING     kills it (sim_groups_over)
 *     any        deleted by its name                       ENDING     kills it; the group's size shrinks
 *     any        its process has ended                     -          -
 *
 * Pure bookkeeping: no process, no clock. Owner: caller memory. Thread: one. Units: microseconds; instances.
 * Errors: none. Source: own design. */
#ifndef GW_CONTROLLER_CLI_SIM_GROUPS_H
#define GW_CONTROLLER_CLI_SIM_GROUPS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"

#define SIM_INSTANCES_MAX 64
#define SIM_ID_MAX        32

enum sim_market { SIM_SPOT, SIM_ON_DEMAND, SIM_MARKETS };
enum sim_state { SIM_GONE, SIM_PENDING, SIM_RUNNING, SIM_NOTICED, SIM_ENDING };

struct sim_instance {
    char id[SIM_ID_MAX];
    enum sim_state state;
    enum sim_market market;
    pid_t pid;     /* 0: it has no process */
    int64_t at_us; /* PENDING: it boots until then; NOTICED: it goes then */
};

struct sim_groups {
    uint32_t desired[SIM_MARKETS], supply; /* supply: of spot */
    int64_t boot_us, notice_us;
    uint32_t number; /* of the last instance's id */
    struct sim_instance instances[SIM_INSTANCES_MAX];
};

/* "spot", "on-demand": the groups' names. */
const char *sim_market_name(enum sim_market market);
bool sim_market_find(const char *name, enum sim_market *out);

/* New instances for groups that lack some. */
void sim_groups_follow(struct sim_groups *g, int64_t now_us);
/* One for which something is to be done now; NULL: none. */
struct sim_instance *sim_groups_due(struct sim_groups *g, int64_t now_us);
struct sim_instance *sim_groups_taken(struct sim_groups *g, int64_t now_us);
struct sim_instance *sim_groups_over(struct sim_groups *g, int64_t now_us);

/* NULL: there is none of that name, or it is ending. */
struct sim_instance *sim_groups_delete(struct sim_groups *g, const char *id);
/* NULL: none of ours. */
struct sim_instance *sim_groups_exited(struct sim_groups *g, pid_t pid);

/* The answer of GET /v1/groups/NAME (cloud/sim.c). */
void sim_groups_put(const struct sim_groups *g, enum sim_market market, struct gw_buf *b);

#endif
