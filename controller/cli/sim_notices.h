/* The notices of one instance of `godwit cloud`, as its metadata service tells them: numbered from 1 on, asked for by "after N".
 *
 * Pure bookkeeping, zeroed to begin with. Of more than SIM_NOTICES_MAX the oldest are forgotten: who asks for those gets what is
 * left. Owner: caller memory. Thread: one. Units: microseconds. Errors: none. Source: own design; the asking side is
 * cloud/source_sim.c. */
#ifndef GW_CONTROLLER_CLI_SIM_NOTICES_H
#define GW_CONTROLLER_CLI_SIM_NOTICES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

#define SIM_NOTICES_MAX 8

enum sim_notice_kind { SIM_PREEMPT, SIM_REBALANCE, SIM_MAINTENANCE, SIM_NOTICE_KINDS };

struct sim_notice {
    enum sim_notice_kind kind;
    bool cancel;
    int64_t deadline_us;
};

struct sim_notices {
    uint32_t sequence; /* of the last one; 0: there was none */
    struct sim_notice ring[SIM_NOTICES_MAX];
};

/* "preempt", "rebalance", "maintenance". */
const char *sim_notice_name(enum sim_notice_kind kind);
bool sim_notice_find(const char *name, enum sim_notice_kind *out);

void sim_notices_add(struct sim_notices *n, const struct sim_notice *notice);

/* {"sequence": 4, "notices": [{"kind": "preempt", "deadline_in_s": 29.4}, …]}: those after number `after`. */
void sim_notices_put(const struct sim_notices *n, uint32_t after, int64_t now_us, struct gw_buf *b);

#endif
