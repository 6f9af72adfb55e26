/* The planner: from fleet, model and load to what should be done.
 *
 *     search with headroom (without, if nothing fits with it)  →  mapping  →  migration plan  →  does it pay?
 *
 * Profiles. What serves now, doomed or not, may have requests that no other numerics profile can go on with: its profiles are
 * served on wherever devices suffice, as those that the load names; headroom is given up for that, too.
 *
 * Hysteresis. What serves now is compared with two candidates: the best layout, and the best that moves make of what serves.
 * All as fractions of what is served over the horizon H, M the migration's seconds, f the fraction of pipelines touched:
 *      gain = (1 − M/H) · g,   loss = f · (GW_PLANNER_SLOWDOWN · M + gap) / H + move's USD / (H's USD)
 * where g is the gain of the first of these that differs: profiles served, requests served (by over 0.1%), SLO kept, P99 latency (by
 * a step of cost.h), price. A candidate with gain > loss is taken, the one with the larger difference. If nothing serves,
 * the best layout is taken.
 *
 * Owner: gw_planner_fini frees. Thread: any; pure: equal input gives an equal plan. Units: as in migrate/plan.h.
 * Errors: GW_ERR_INPUT from the checks of plan.h, GW_ERR_MEMORY; *out is then unchanged. Source: own design. */
#ifndef GW_CONTROLLER_PLAN_PLANNER_H
#define GW_CONTROLLER_PLAN_PLANNER_H

#include "controller/plan/wish.h"

#define GW_PLANNER_SLOWDOWN  0.1 /* of the serving rate, while ranks fetch: the bound that PREPARE keeps */
#define GW_PLANNER_HORIZON_S 600

struct gw_planner_options {
    uint64_t budget;  /* evaluations; 0 = gw_search_budget */
    double horizon_s; /* 0 = GW_PLANNER_HORIZON_S: over which a move must pay */
    struct gw_preemptions preemptions;
};

enum gw_verdict {
    GW_VERDICT_NO_FIT, /* nothing can serve: requests wait */
    GW_VERDICT_KEEP,   /* what serves is best, or nothing pays for its move */
    GW_VERDICT_MOVE,
};

struct gw_plan {
    enum gw_verdict verdict;
    struct gw_layout layout; /* to be served */
    struct gw_score score;
    struct gw_layout runner_up;
    struct gw_score runner_up_score;
    struct gw_layout
        current; /* what serves and may go on: whole pipelines, none doomed, none with two that must be apart */
    struct gw_score current_score;
    struct gw_move move; /* from what the fleet holds to `layout` */
    double gain, loss;   /* of the candidate that was looked at last; see above */
    double headroom;     /* fraction of memory that the layout keeps free */
    bool headroom_kept;  /* false: the layout needs memory that should have been headroom */
    struct gw_wish wish;
    uint64_t evaluated;
};

gw_err_t gw_planner_run(const struct gw_plan_input *in, const struct gw_planner_options *options,
                        struct gw_plan *out, struct gw_err_ctx *ctx) GW_MUST_USE;
void gw_plan_fini(struct gw_plan *plan);

/* What if the fleet, serving `plan`, got word that one instance goes? *out: the plan made then (its `current`: what goes on
 * serving at once). seconds > 0: notice; 0: it is gone without a word, with all it holds. */
gw_err_t gw_planner_loss(const struct gw_plan_input *in, const struct gw_planner_options *options,
                         const struct gw_plan *plan, uint32_t instance, double seconds, struct gw_plan *out,
                         struct gw_err_ctx *ctx) GW_MUST_USE;

#endif
