/* How fast devices really are: steps that pipelines have measured, against the cost model's time for the same batch.
 *
 *     heartbeats of leaders ── gw_rates_look, each round ──► ratio measured / predicted per pipeline
 *       ──► median over the pipelines of a kind of device ──► median over the last rounds ──► factor, an eighth of the way
 *
 * A kind is a device's name and its numerics profile. Steps that only decode and steps that mostly prefill are told
 * apart; mixed ones say nothing of either. What moves between ranks is taken off first, and of a kind only the pipelines
 * with the fewest ranks count: the factor is the device's, not the network's. A step that was measured twice counts once;
 * what cannot be (no rows, no time, 64 times off) does not count at all. Medians and the slow step keep one disturbed
 * worker, or one slow step, from changing a layout.
 *
 * Owner: plain data. Thread: any; pure. Units: seconds per second. Errors: GW_ERR_MEMORY; nothing is then changed.
 * Source: own design; DESIGN part 7. */
#ifndef GW_CONTROLLER_LAYOUT_RATES_H
#define GW_CONTROLLER_LAYOUT_RATES_H

#include "controller/core/core.h"
#include "migrate/plan.h"

#define GW_RATES_KINDS_MAX     32
#define GW_RATES_ROUNDS        9 /* of which the median counts: four disturbed ones in a row change nothing */
#define GW_RATES_PIPELINES_MAX 128 /* looked at per round; devices of a kind are alike */
#define GW_RATES_CHANGE        1.3 /* factors that differ by this much are worth another plan */

struct gw_layout_seen;

struct gw_rate {
    double factor;                  /* 1 until something was measured */
    double ratios[GW_RATES_ROUNDS]; /* a ring of medians */
    uint64_t rounds;
};

struct gw_rates_kind {
    char device[GW_WIRE_NAME_MAX + 1], profile[GW_WIRE_NAME_MAX + 1];
    struct gw_rate decode, prefill;
};

struct gw_rates {
    struct gw_rates_kind kinds[GW_RATES_KINDS_MAX];
    uint32_t kinds_len;
    struct {
        uint64_t link, steps;
    } looked_at[GW_RATES_PIPELINES_MAX]; /* in the last round: leaders, and their count of steps */
    uint32_t looked_at_len;
};

/* Zeros are an empty one. One round over what the core shows; more kinds than there is room for are not measured. */
gw_err_t gw_rates_look(struct gw_rates *rates, const struct gw_layout_seen *seen,
                       const struct gw_plan_model *model) GW_MUST_USE;

/* The factors of a kind; 1 if it was never measured. */
void gw_rates_factors(const struct gw_rates *rates, const char *device, const char *profile, double *decode,
                      double *prefill);

/* Has a factor changed by GW_RATES_CHANGE? */
bool gw_rates_changed(const struct gw_rates *before, const struct gw_rates *now);

#endif
