/* A trace of spot supply: how many spot instances there are at a time, as public traces tell it.
 *
 *     line of the file                                   says
 *     ────────────────────────────────────────────────   ───────────────────────────────────────────────
 *     480000,add,node1 · 540000,remove,node1             milliseconds; one node comes or goes (Bamboo)
 *     [60000, "remove", {"nodes": ["node-4", …]}]        the same of several (SpotServe)
 *     21529,4                                            seconds; so many are there from then on (Bamboo)
 *
 * All lines of a file are of one form; times do not go back. Other words than add and remove change nothing.
 *
 * Owner: sim_trace_fini frees. Thread: one. Units: seconds; instances. Errors: GW_ERR_INPUT with file and line, GW_ERR_IO,
 * GW_ERR_MEMORY; *out is then empty. Source: the traces' own notes. */
#ifndef GW_CONTROLLER_CLI_SIM_TRACE_H
#define GW_CONTROLLER_CLI_SIM_TRACE_H

#include <stdint.h>

#include "base/err.h"

#define SIM_TRACE_STEPS_MAX 65536
#define SIM_TRACE_LINE_MAX  16384

struct sim_trace_step {
    double at_s;
    uint32_t supply;
};

struct sim_trace {
    struct sim_trace_step *steps; /* [len], by time */
    size_t len;
};

gw_err_t sim_trace_read(const char *path, struct sim_trace *out, struct gw_err_ctx *ctx) GW_MUST_USE;
void sim_trace_fini(struct sim_trace *trace);

/* Before its first step, and without any: none. */
uint32_t sim_trace_supply(const struct sim_trace *trace, double at_s);

#endif
