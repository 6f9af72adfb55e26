/* The load as it was measured: arrivals, and lengths of prompts and outputs, over the last minutes.
 *
 * The past is kept in GW_LOAD_SLOTS slots of GW_LOAD_SLOT_S seconds each; the oldest one is forgotten as time goes on. In
 * each slot: counts, sums, and a histogram of lengths whose bounds grow by 2^(1/2), so a P99 is at most 41% too high.
 * What is known before anything was measured is a prior that weighs as much as GW_LOAD_PRIOR requests. A branch counts as a
 * request of its own, because it decodes as one.
 *
 * Owner: gw_load_fini frees. Thread: one. Units: tokens, seconds; now_us on any clock that does not go back.
 * Errors: a request for which memory is lacking is not counted. Source: own design. */
#ifndef GW_CONTROLLER_LAYOUT_LOAD_H
#define GW_CONTROLLER_LAYOUT_LOAD_H

#include "base/id_map.h"
#include "migrate/plan.h"

#define GW_LOAD_SLOT_S 10
#define GW_LOAD_SLOTS                                                                                        \
    30 /* five minutes: long enough for a P99 of a few requests per second, short enough to follow a day */
#define GW_LOAD_BUCKETS 42 /* up to 2^21 tokens */
#define GW_LOAD_PRIOR   20.0

/* Before anything is measured: one chat request per second (ShareGPT's means, rounded). */
#define GW_LOAD_PRIOR_RPS    1.0
#define GW_LOAD_PRIOR_PROMPT 256.0
#define GW_LOAD_PRIOR_OUTPUT 256.0
#define GW_LOAD_PRIOR_P99    4.0 /* a P99 is so many means */

struct gw_load_lengths {
    uint32_t count;
    double sum;
    uint32_t buckets[GW_LOAD_BUCKETS];
};

struct gw_load_slot {
    uint32_t arrivals;
    uint64_t tokens;
    struct gw_load_lengths prompt, output;
};

struct gw_load {
    int64_t begun_us;
    int64_t slot; /* number of the slot that now_us is in, since begun_us */
    struct gw_load_slot slots[GW_LOAD_SLOTS];
    struct gw_id_map live; /* request → its tokens so far */
    double context;        /* of the model: no length is beyond it */
};

void gw_load_init(struct gw_load *load, uint32_t context, int64_t now_us);
void gw_load_fini(struct gw_load *load);

void gw_load_arrived(struct gw_load *load, uint64_t request, uint32_t branches, uint32_t prompt_len,
                     int64_t now_us);
void gw_load_tokens(struct gw_load *load, uint64_t request, uint32_t count, int64_t now_us);
/* whole: its output's length counts; else (failed, cancelled) it is just forgotten. */
void gw_load_ended(struct gw_load *load, uint64_t request, bool whole, int64_t now_us);

/* Measured and prior; the SLO fields stay as they are. */
void gw_load_read(struct gw_load *load, int64_t now_us, struct gw_plan_load *out);
/* Requests per second over the slots; tokens per second over the last whole one. No prior. */
double gw_load_rps(struct gw_load *load, int64_t now_us);
double gw_load_tokens_s(struct gw_load *load, int64_t now_us);

/* Are rate or lengths so different that another layout may be better? By a factor of GW_LOAD_CHANGE; rates that are
 * both below GW_LOAD_IDLE_RPS are equal. */
#define GW_LOAD_CHANGE   1.3
#define GW_LOAD_IDLE_RPS 0.1
bool gw_load_changed(const struct gw_plan_load *before, const struct gw_plan_load *now);

#endif
