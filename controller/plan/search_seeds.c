#include "controller/plan/search_internal.h"

#include <stdlib.h>
#include <string.h>

#define OPTIONS_MAX 16384 /* 60 classes * 16 sizes * 4 shapes is 3840 */

/* Load factors that are tried: dense where queues begin to show. */
static const double rhos[] = {0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.94};

/* Devices of one profile in each instance of a class: [begin, end) of them. Mixed instances have several, each a market of
 * its own. */
struct run {
    uint32_t class_, begin, end;
};

/* Up to `most` pipelines of one shape over parts of the instances of one run. */
struct option {
    uint32_t run, n, most;
    const struct gw_shape *shape;
    double latency_s; /* at the load factor looked at */
    bool slo;
};

struct choice {
    uint32_t option, count; /* option GW_PLAN_NONE: the run is not used */
};

struct seeds {
    struct search *s;
    struct option *options;
    uint32_t options_len;
    uint32_t *sorted; /* options by latency */
    struct run *runs;
    uint32_t runs_len;
    struct choice *choice; /* per run */
    double *run_rps;       /* per run, of what was taken */
    struct solution *work;
    void (*found)(void *arg, const struct solution *sol);
    void *arg;
};

/* ---- options ---- */

static uint32_t profile_at(const struct search *s, uint32_t position)
{
    const struct gw_plan_fleet *f = s->in->fleet;
    return f->types[f->devices[s->order[position]].type].profile;
}

static void make_runs(struct seeds *d)
{
    for (uint32_t i = 0; i < d->s->classes.len; i++) {
        const struct gw_class *c = &d->s->classes.classes[i];
        for (uint32_t begin = 0, end; begin < c->devices; begin = end) {
            for (end = begin + 1; end < c->devices && profile_at(d->s, c->position + end) ==
                                                          profile_at(d->s, c->position + begin);)
                end++;
            d->runs[d->runs_len++] = (struct run){i, begin, end};
        }
    }
}

static void add_options(struct seeds *d, uint32_t run, uint32_t n)
{
    struct search *s = d->s;
    const struct run *r = &d->runs[run];
    const struct gw_class *c = &s->classes.classes[r->class_];
    uint32_t each = r->end - r->begin;
    const struct shapes *set = search_shapes(s, &s->order[c->position + r->begin], n);
    uint32_t most = n <= each ? c->instances * (each / n) : c->instances / (n / each);
    for (uint32_t i = 0; set && i < set->len && d->options_len < OPTIONS_MAX; i++)
        d->options[d->options_len++] = (struct option){run, n, most, &set->shapes[i], 0, false};
}

/* Sizes: every part of a run, then, where a run is all of an instance, whole instances. */
static void make_options(struct seeds *d)
{
    for (uint32_t i = 0; i < d->runs_len; i++) {
        const struct gw_class *c = &d->s->classes.classes[d->runs[i].class_];
        uint32_t each = d->runs[i].end - d->runs[i].begin;
        for (uint32_t n = 1; n <= each && n <= GW_SHAPE_RANKS_MAX; n++) add_options(d, i, n);
        for (uint32_t m = 2; each == c->devices && m <= c->instances && m * each <= GW_SHAPE_RANKS_MAX; m++)
            add_options(d, i, m * each);
    }
}

static double rps_of(const struct option *o)
{
    return o->most * o->shape->cost.capacity_rps;
}

static int by_latency(const void *a, const void *b, void *options)
{
    const struct option *o = options;
    uint32_t i = *(const uint32_t *)a, j = *(const uint32_t *)b;
    if (o[i].latency_s != o[j].latency_s) return o[i].latency_s < o[j].latency_s ? -1 : 1;
    return i < j ? -1 : i > j;
}

/* Promises of all options at rho, and their order; returns how many keep the SLO (those come into `sorted`). */
static uint32_t sort_options(struct seeds *d, double rho, bool slo_only)
{
    const struct gw_plan_load *load = d->s->in->load;
    uint32_t n = 0;
    for (uint32_t i = 0; i < d->options_len; i++) {
        struct option *o = &d->options[i];
        struct gw_pipe_promise p = gw_cost_promise(&o->shape->cost, load, rho);
        o->latency_s = p.latency_p99_s;
        o->slo = (load->slo_ttft_s <= 0 || p.ttft_p99_s <= load->slo_ttft_s) &&
                 (load->slo_tpot_s <= 0 || p.tpot_s <= load->slo_tpot_s);
        if (o->slo || !slo_only) d->sorted[n++] = i;
    }
    qsort_r(d->sorted, n, sizeof *d->sorted, by_latency, d->options);
    return n;
}

/* ---- choices ---- */

static void choose_nothing(struct seeds *d)
{
    for (uint32_t i = 0; i < d->runs_len; i++) {
        d->choice[i] = (struct choice){GW_PLAN_NONE, 0};
        d->run_rps[i] = 0;
    }
}

static double price_of(const struct option *o)
{
    return o->shape->cost.usd_h / o->shape->cost.capacity_rps;
}

/* Is `o` the better choice for its run: more capacity, or less price per capacity? */
static bool better(const struct seeds *d, const struct option *o, bool cheap)
{
    const struct choice *c = &d->choice[o->run];
    if (c->option == GW_PLAN_NONE) return true;
    const struct option *now = &d->options[c->option];
    if (cheap && price_of(o) != price_of(now)) return price_of(o) < price_of(now);
    return rps_of(o) > rps_of(now);
}

/* Takes sorted[from, to) into the choice; stops once total reaches `enough`. Returns where it stopped. */
static uint32_t choose(struct seeds *d, uint32_t from, uint32_t to, bool cheap, double enough, double *total)
{
    uint32_t i = from;
    for (; i < to && *total < enough; i++) {
        const struct option *o = &d->options[d->sorted[i]];
        if (!better(d, o, cheap)) continue;
        *total += rps_of(o) - d->run_rps[o->run];
        d->run_rps[o->run] = rps_of(o);
        d->choice[o->run] = (struct choice){d->sorted[i], o->most};
    }
    return i;
}

/* Takes pipelines away, dearest first, while what is left carries `enough`. */
static void trim(struct seeds *d, double enough, double total)
{
    for (;;) {
        uint32_t dearest = GW_PLAN_NONE;
        double price = -1;
        for (uint32_t i = 0; i < d->runs_len; i++) {
            if (d->choice[i].count == 0) continue;
            const struct option *o = &d->options[d->choice[i].option];
            bool can = total - o->shape->cost.capacity_rps >= enough;
            if (can && price_of(o) > price) {
                price = price_of(o);
                dearest = i;
            }
        }
        if (dearest == GW_PLAN_NONE) return;
        double one = d->options[d->choice[dearest].option].shape->cost.capacity_rps;
        double many = (total - enough) / one;
        uint32_t n = many < d->choice[dearest].count ? (uint32_t)many : d->choice[dearest].count;
        if (n == 0) n = 1;
        d->choice[dearest].count -= n;
        total -= n * one;
    }
}

/* ---- from choices to solutions ---- */

/* `count` pipelines of n devices over the instances of a run, in order; not where some must be apart. */
static void place(struct seeds *d, const struct option *o, uint32_t count)
{
    struct search *s = d->s;
    const struct run *r = &d->runs[o->run];
    const struct gw_class *c = &s->classes.classes[r->class_];
    uint32_t each = r->end - r->begin;
    uint32_t per_instance = o->n <= each ? each / o->n : 1;
    uint32_t span = o->n <= each ? c->devices : o->n; /* from one placing to the next */
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t *devices =
            &s->order[c->position + r->begin + i / per_instance * span + i % per_instance * o->n];
        if (!search_are_apart(s, devices, o->n)) solution_add(s, d->work, o->shape, devices, o->n);
    }
}

static void hand_out(struct seeds *d)
{
    solution_clear(d->s, d->work);
    for (uint32_t i = 0; i < d->runs_len; i++)
        if (d->choice[i].count) place(d, &d->options[d->choice[i].option], d->choice[i].count);
    solution_score(d->s, d->work);
    if (d->work->len) d->found(d->arg, d->work);
}

/* One load factor: the least P99 that carries the rate, as it is, trimmed, and by the cheapest options. */
static void seed_at(struct seeds *d, double rho, bool slo_only)
{
    uint32_t n = sort_options(d, rho, slo_only), at, end;
    double enough = d->s->in->load->arrival_rps / rho, total = 0;
    if (n == 0) return;
    if (enough <= 0) enough = 1e-12;
    choose_nothing(d);
    at = choose(d, 0, n, false, enough, &total);
    if (total < enough) return;
    for (end = at; end < n && d->options[d->sorted[end]].latency_s <=
                                  d->options[d->sorted[at - 1]].latency_s * (1 + GW_COST_STEP);)
        end++;
    choose(d, at, end, false, 1e300, &total);
    hand_out(d);
    trim(d, enough, total);
    hand_out(d);
    total = 0;
    choose_nothing(d);
    choose(d, 0, end, true, 1e300, &total);
    if (total < enough) return;
    trim(d, enough, total);
    hand_out(d);
}

/* Everything the fleet can carry. */
static void seed_of_most(struct seeds *d)
{
    double total = 0;
    uint32_t n = sort_options(d, 0.9, false);
    choose_nothing(d);
    choose(d, 0, n, false, 1e300, &total);
    hand_out(d);
}

gw_err_t search_seeds(struct search *s, struct solution *work,
                      void (*found)(void *arg, const struct solution *sol), void *arg)
{
    struct seeds d = {.s = s, .work = work, .found = found, .arg = arg};
    d.options = malloc(OPTIONS_MAX * sizeof *d.options);
    d.sorted = malloc(OPTIONS_MAX * sizeof *d.sorted);
    d.runs = malloc((s->classes.usable + 1) * sizeof *d.runs);
    d.choice = malloc((s->classes.usable + 1) * sizeof *d.choice);
    d.run_rps = malloc((s->classes.usable + 1) * sizeof *d.run_rps);
    gw_err_t err = d.options && d.sorted && d.runs && d.choice && d.run_rps ? GW_OK : GW_ERR_MEMORY;
    if (err == GW_OK) {
        make_runs(&d);
        make_options(&d);
        seed_of_most(&d);
        bool slo = s->in->load->slo_ttft_s > 0 || s->in->load->slo_tpot_s > 0;
        for (size_t i = 0; i < sizeof rhos / sizeof *rhos; i++) {
            if (slo) seed_at(&d, rhos[i], true);
            seed_at(&d, rhos[i], false);
        }
        search_small_seeds(s, work, found, arg);
    }
    free(d.options);
    free(d.sorted);
    free(d.runs);
    free(d.choice);
    free(d.run_rps);
    return err;
}
