#include "controller/plan/planner.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "controller/plan/mapping.h"
#include "controller/plan/move.h"
#include "controller/plan/search.h"

#define PROFILE_BITS   64    /* of gw_plan_load.profiles */
#define SERVED_DIFFERS 0.001 /* relative; below it rates are equal */

/* A gone instance is one that is doomed and holds nothing: nothing is placed on it, nothing fetched from it. */
#define GONE_S 1e-9

static double larger(double a, double b)
{
    return a > b ? a : b;
}
static double smaller(double a, double b)
{
    return a < b ? a : b;
}

static bool must_part(const struct gw_plan_fleet *f, const struct gw_layout_rank *ranks, uint32_t n)
{
    for (uint32_t i = 0; i < f->apart_len; i++) {
        uint32_t found = 0;
        for (uint32_t r = 0; r < n; r++)
            found += ranks[r].device == f->apart[i].a || ranks[r].device == f->apart[i].b;
        if (found > 1) return true;
    }
    return false;
}

/* Takes out the pipelines that have a rank on a doomed instance, or two that must be apart. */
static void drop_doomed(const struct gw_plan_fleet *f, struct gw_layout *l)
{
    uint32_t kept = 0, pipelines = 0;
    for (uint32_t i = 0, next; i < l->ranks_len; i = next) {
        bool doomed = false;
        for (next = i; next < l->ranks_len && l->ranks[next].pipeline == l->ranks[i].pipeline; next++)
            doomed |= f->instances[f->devices[l->ranks[next].device].instance].doomed_at_s > 0;
        if (doomed || must_part(f, &l->ranks[i], next - i)) continue;
        for (uint32_t j = i, p = pipelines++; j < next; j++) {
            struct gw_layout_rank r = l->ranks[j];
            r.pipeline = p;
            l->ranks[kept++] = r;
        }
    }
    l->ranks_len = kept;
    l->pipelines = pipelines;
}

static bool same_layout(const struct gw_layout *a, const struct gw_layout *b)
{
    if (a->ranks_len != b->ranks_len || a->pipelines != b->pipelines) return false;
    for (uint32_t i = 0; i < a->ranks_len; i++)
        if (a->ranks[i].device != b->ranks[i].device || a->ranks[i].stage != b->ranks[i].stage ||
            !gw_rect_equal(a->ranks[i].cells, b->ranks[i].cells))
            return false;
    return true;
}

/* One of the layouts that compete with what serves. */
struct candidate {
    struct gw_layout layout;
    struct gw_score score;
    struct gw_move move;
    double gain, loss;
};

static void fini_candidate(struct candidate *c)
{
    gw_layout_fini(&c->layout);
    gw_move_fini(&c->move);
}

static double served_by(const struct gw_plan_input *in, const struct gw_score *s)
{
    return smaller(in->load->arrival_rps, GW_COST_RHO_MAX * s->throughput_rps);
}

/* The relative gain of `to` over `from`: see planner.h. */
static double gain_of(const struct gw_plan_input *in, const struct gw_score *from, const struct gw_score *to)
{
    double before = served_by(in, from), after = served_by(in, to);
    if (from->unserved != to->unserved) return (double)from->unserved - (double)to->unserved;
    if (fabs(after - before) > SERVED_DIFFERS * before) return (after - before) / larger(before, 1e-9);
    if (from->promise != to->promise) return (double)to->promise - (double)from->promise;
    double latency = 1 - to->latency_p99_s / from->latency_p99_s;
    if (fabs(latency) > GW_COST_STEP || from->usd_h <= 0) return latency;
    return 1 - to->usd_h / from->usd_h;
}

static void weigh(const struct gw_plan_input *in, const struct gw_plan *plan, double horizon_s,
                  struct candidate *c)
{
    const struct gw_move *m = &c->move;
    double touched = plan->current.pipelines ? smaller(1, (double)m->touched / plan->current.pipelines) : 1;
    double usd = plan->current_score.usd_h * horizon_s / 3600;
    c->gain = larger(0, 1 - m->seconds / horizon_s) * gain_of(in, &plan->current_score, &c->score);
    c->loss =
        touched * (GW_PLANNER_SLOWDOWN * m->seconds + m->gap_s) / horizon_s + (usd > 0 ? m->usd / usd : 0);
}

static gw_err_t prepare_candidate(const struct gw_plan_input *in, const struct gw_plan *plan,
                                  double horizon_s, struct candidate *c)
{
    TRY(gw_mapping(in->fleet, in->model, &c->layout));
    TRY(gw_move_plan(in->fleet, in->model, &c->layout, &c->move));
    weigh(in, plan, horizon_s, c);
    return GW_OK;
}

static void take(struct gw_plan *plan, struct candidate *c)
{
    gw_layout_fini(&plan->layout);
    gw_move_fini(&plan->move);
    plan->layout = c->layout;
    plan->move = c->move;
    plan->score = c->score;
    plan->gain = c->gain;
    plan->loss = c->loss;
    plan->verdict = GW_VERDICT_MOVE;
    c->layout = (struct gw_layout){0};
    c->move = (struct gw_move){0};
}

static gw_err_t copy_layout(const struct gw_layout *from, struct gw_layout *to)
{
    *to = *from;
    to->ranks = malloc((from->ranks_len + 1) * sizeof *to->ranks);
    if (!to->ranks) return GW_ERR_MEMORY;
    memcpy(to->ranks, from->ranks, from->ranks_len * sizeof *to->ranks);
    return GW_OK;
}

/* What serves goes on: the move does nothing but drop what no rank wants. */
static gw_err_t keep_current(const struct gw_plan_input *in, struct gw_plan *plan)
{
    plan->verdict = GW_VERDICT_KEEP;
    plan->score = plan->current_score;
    TRY(copy_layout(&plan->current, &plan->layout));
    return gw_move_plan(in->fleet, in->model, &plan->layout, &plan->move);
}

static gw_err_t decide(const struct gw_plan_input *in, double horizon_s, struct candidate *c, uint32_t n,
                       struct gw_plan *plan)
{
    struct candidate *best = NULL;
    for (uint32_t i = 0; i < n; i++) {
        if (c[i].layout.pipelines == 0) continue;
        TRY(prepare_candidate(in, plan, horizon_s, &c[i]));
        if (plan->current.pipelines == 0) { /* nothing to lose */
            c[i].gain = c[i].loss = 0;
            take(plan, &c[i]);
            return GW_OK;
        }
        plan->gain = c[i].gain;
        plan->loss = c[i].loss;
        bool pays = c[i].gain > c[i].loss && !same_layout(&c[i].layout, &plan->current);
        if (pays && (!best || c[i].gain - c[i].loss > best->gain - best->loss)) best = &c[i];
    }
    if (best)
        take(plan, best);
    else if (plan->current.pipelines)
        TRY(keep_current(in, plan));
    return GW_OK;
}

/* As bits of gw_plan_load.profiles. */
static uint64_t profiles_of(const struct gw_plan_fleet *f, const struct gw_layout *l)
{
    uint64_t profiles = 0;
    for (uint32_t i = 0; i < l->ranks_len; i++) {
        uint32_t profile = f->types[f->devices[l->ranks[i].device].type].profile;
        if (profile < PROFILE_BITS) profiles |= 1ull << profile;
    }
    return profiles;
}

/* Is there a profile that the layout does not serve, though its devices have memory for the model? */
static bool may_serve_more(const struct gw_plan_input *in, const struct gw_layout *l)
{
    const struct gw_plan_fleet *f = in->fleet;
    const struct gw_cell_rect all = {0, (uint16_t)in->model->groups, 0, (uint16_t)in->model->shares};
    double memory[PROFILE_BITS] = {0};
    uint64_t wanted = in->load->profiles & ~profiles_of(f, l);
    for (uint32_t d = 0; d < f->devices_len; d++) {
        const struct gw_plan_type *t = &f->types[f->devices[d].type];
        if (t->profile < PROFILE_BITS && f->instances[f->devices[d].instance].doomed_at_s <= 0)
            memory[t->profile] += (double)t->memory_bytes;
    }
    for (uint32_t p = 0; p < PROFILE_BITS; p++)
        if (wanted >> p & 1 && memory[p] >= (double)gw_plan_weight_bytes(in->model, all)) return true;
    return false;
}

/* Search with headroom; without, if more profiles are served then, or anything at all. */
static gw_err_t find(const struct gw_plan_input *in, uint64_t budget, struct gw_plan *plan,
                     struct gw_search_result *found)
{
    struct gw_search_result bare;
    plan->headroom = gw_cost_headroom(in->fleet);
    plan->headroom_kept = true;
    TRY(gw_search(in, plan->headroom, budget, &plan->current, found));
    plan->evaluated = found->evaluated;
    bool nothing = found->layout.pipelines == 0;
    if (plan->headroom <= 0 || (!nothing && !may_serve_more(in, &found->layout))) return GW_OK;
    gw_err_t err = gw_search(in, 0, budget - plan->evaluated, &plan->current, &bare);
    if (err != GW_OK) {
        gw_search_fini(found);
        return err;
    }
    plan->evaluated += bare.evaluated;
    bool better = bare.layout.pipelines > 0 && (nothing || bare.score.unserved < found->score.unserved);
    gw_search_fini(better ? found : &bare);
    if (!better) return GW_OK;
    *found = bare;
    plan->headroom = 0;
    plan->headroom_kept = false;
    return GW_OK;
}

/* Also adds its profiles to the load: their requests are there. */
static gw_err_t find_current(const struct gw_plan_input *in, struct gw_plan_load *load, struct gw_plan *plan)
{
    const struct gw_plan_fleet *f = in->fleet;
    TRY(gw_layout_of_fleet(f, in->model, &plan->current));
    load->profiles |= profiles_of(f, &plan->current);
    drop_doomed(f, &plan->current);
    /* it runs: memory that its KV took from the headroom is its own affair */
    if (gw_cost_layout(in, 0, &plan->current, &plan->current_score) == GW_ERR_MEMORY) return GW_ERR_MEMORY;
    return GW_OK;
}

static uint32_t usable_devices(const struct gw_plan_fleet *f)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < f->instances_len; i++)
        n += f->instances[i].doomed_at_s > 0 ? 0 : f->instances[i].devices;
    return n;
}

static gw_err_t make_plan(const struct gw_plan_input *given, const struct gw_planner_options *o,
                          struct gw_plan *plan)
{
    struct gw_plan_load load = *given->load;
    const struct gw_plan_input input = {given->fleet, given->model, &load}, *in = &input;
    double horizon_s = o->horizon_s > 0 ? o->horizon_s : GW_PLANNER_HORIZON_S;
    uint64_t budget = o->budget ? o->budget : gw_search_budget(usable_devices(in->fleet));
    struct gw_search_result found = {0};
    TRY(find_current(in, &load, plan));
    gw_err_t err = find(in, budget, plan, &found);
    if (err != GW_OK) return err;
    struct candidate c[] = {{.layout = found.layout, .score = found.score},
                            {.layout = found.from_start, .score = found.from_start_score}};
    plan->runner_up = found.runner_up;
    plan->runner_up_score = found.runner_up_score;
    err = decide(in, horizon_s, c, 2, plan);
    fini_candidate(&c[0]);
    fini_candidate(&c[1]);
    if (err == GW_OK) err = gw_wish_make(in, plan->headroom, &plan->score, &o->preemptions, &plan->wish);
    return err;
}

gw_err_t gw_planner_run(const struct gw_plan_input *in, const struct gw_planner_options *options,
                        struct gw_plan *out, struct gw_err_ctx *ctx)
{
    struct gw_plan plan = {.verdict = GW_VERDICT_NO_FIT};
    TRY(gw_plan_model_check(in->model, ctx));
    TRY(gw_plan_fleet_check(in->fleet, in->model, ctx));
    TRY(gw_plan_load_check(in->load, ctx));
    gw_err_t err = make_plan(in, options, &plan);
    if (err != GW_OK) {
        gw_plan_fini(&plan);
        return gw_fail(ctx, err, "out of memory");
    }
    *out = plan;
    return GW_OK;
}

void gw_plan_fini(struct gw_plan *plan)
{
    gw_layout_fini(&plan->layout);
    gw_layout_fini(&plan->runner_up);
    gw_layout_fini(&plan->current);
    gw_move_fini(&plan->move);
}

/* The fleet as it will be: every device holds what the layout gives it, and KV as now. */
static void hold_layout(const struct gw_layout *l, struct gw_plan_device *devices, uint32_t len)
{
    for (uint32_t i = 0; i < len; i++) {
        devices[i].holds = (struct gw_cell_rect){0};
        devices[i].pipeline = GW_PLAN_NONE;
    }
    for (uint32_t i = 0; i < l->ranks_len; i++) {
        devices[l->ranks[i].device].holds = l->ranks[i].cells;
        devices[l->ranks[i].device].pipeline = l->ranks[i].pipeline;
    }
}

gw_err_t gw_planner_loss(const struct gw_plan_input *in, const struct gw_planner_options *options,
                         const struct gw_plan *plan, uint32_t instance, double seconds, struct gw_plan *out,
                         struct gw_err_ctx *ctx)
{
    struct gw_plan_fleet f = *in->fleet;
    f.devices = malloc((f.devices_len + 1) * sizeof *f.devices);
    f.instances = malloc((f.instances_len + 1) * sizeof *f.instances);
    gw_err_t err = f.devices && f.instances ? GW_OK : gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    if (err == GW_OK) {
        memcpy(f.devices, in->fleet->devices, f.devices_len * sizeof *f.devices);
        memcpy(f.instances, in->fleet->instances, f.instances_len * sizeof *f.instances);
        hold_layout(&plan->layout, f.devices, f.devices_len);
        f.instances[instance].doomed_at_s = seconds > 0 ? seconds : GONE_S;
        for (uint32_t d = 0; seconds <= 0 && d < f.instances[instance].devices; d++) {
            struct gw_plan_device *dev = &f.devices[f.instances[instance].first_device + d];
            dev->holds = (struct gw_cell_rect){0};
            dev->pipeline = GW_PLAN_NONE;
        }
        struct gw_plan_load load = *in->load;
        load.profiles |= profiles_of(in->fleet, &plan->layout);
        struct gw_plan_input then = {&f, in->model, &load};
        err = gw_planner_run(&then, options, out, ctx);
    }
    free(f.devices);
    free(f.instances);
    return err;
}
