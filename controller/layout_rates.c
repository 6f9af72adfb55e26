#include "controller/layout_rates.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "controller/layout_fleet.h"
#include "controller/plan/cost.h"

#define RATIO_MAX    64.0  /* beyond it, or below its inverse, something was not measured but broken */
#define STEP_S_MIN   10e-6 /* no model steps faster */
#define STEP_S_MAX   60.0  /* a worker that was suspended */
#define ROWS_MAX     1e6
#define PREFILL_ROWS 8 /* rows per sequence from which on a step is prefill, as far as its time goes */

struct sample {
    uint32_t kind;
    bool prefill;
    uint32_t ranks;
    double ratio;
};

struct round {
    struct gw_rates *rates;
    const struct gw_layout_seen *seen;
    const struct gw_plan_model *model;
    struct gw_layout_fleet fleet;
    struct sample samples[GW_RATES_PIPELINES_MAX];
    uint32_t samples_len;
    struct {
        uint64_t link, steps;
    } looked_at[GW_RATES_PIPELINES_MAX];
    uint32_t looked_at_len;
};

/* ---- kinds ---- */

static struct gw_rates_kind *find_kind(const struct gw_rates *r, const char *device, const char *profile)
{
    for (uint32_t i = 0; i < r->kinds_len; i++)
        if (strcmp(r->kinds[i].device, device) == 0 && strcmp(r->kinds[i].profile, profile) == 0)
            return (struct gw_rates_kind *)&r->kinds[i];
    return NULL;
}

static struct gw_rates_kind *add_kind(struct gw_rates *r, const char *device, const char *profile)
{
    if (r->kinds_len == GW_RATES_KINDS_MAX) return NULL;
    struct gw_rates_kind *k = &r->kinds[r->kinds_len++];
    *k = (struct gw_rates_kind){.decode.factor = 1, .prefill.factor = 1};
    memcpy(k->device, device, strnlen(device, GW_WIRE_NAME_MAX));
    memcpy(k->profile, profile, strnlen(profile, GW_WIRE_NAME_MAX));
    return k;
}

void gw_rates_factors(const struct gw_rates *rates, const char *device, const char *profile, double *decode,
                      double *prefill)
{
    const struct gw_rates_kind *k = find_kind(rates, device, profile);
    *decode = k ? k->decode.factor : 1;
    *prefill = k ? k->prefill.factor : 1;
}

static bool far_apart(double a, double b)
{
    return a > b * GW_RATES_CHANGE || b > a * GW_RATES_CHANGE;
}

bool gw_rates_changed(const struct gw_rates *before, const struct gw_rates *now)
{
    for (uint32_t i = 0; i < now->kinds_len; i++) {
        const struct gw_rates_kind *k = &now->kinds[i];
        double decode, prefill;
        gw_rates_factors(before, k->device, k->profile, &decode, &prefill);
        if (far_apart(decode, k->decode.factor) || far_apart(prefill, k->prefill.factor)) return true;
    }
    return false;
}

/* ---- one pipeline ---- */

/* GW_PLAN_NONE: it is no device. */
static uint32_t device_of(const struct round *r, uint64_t link)
{
    for (uint32_t d = 0; d < r->fleet.plan.devices_len; d++)
        if (r->fleet.links[d] == link) return d;
    return GW_PLAN_NONE;
}

/* The pipeline in the planner's terms; false if its devices are not all of one type. */
static bool ranks_of(const struct round *r, const struct gw_core_pipeline_view *p, struct gw_layout_rank *out)
{
    const struct gw_plan_device *devices = r->fleet.plan.devices;
    for (uint32_t i = 0; i < p->ranks_len; i++) {
        uint32_t d = device_of(r, p->ranks[i].link);
        if (d == GW_PLAN_NONE) return false;
        out[i] = (struct gw_layout_rank){.device = d, .stage = p->ranks[i].stage, .cells = p->ranks[i].cells};
        if (devices[d].type != devices[out[0].device].type) return false;
    }
    return p->ranks_len > 0;
}

static bool is_sane(const struct gw_msg_heartbeat *h)
{
    double step_s = (double)h->step_us * 1e-6;
    return h->step_rows > 0 && h->step_rows <= ROWS_MAX && h->step_sequences > 0 &&
           h->step_sequences <= h->step_rows && step_s >= STEP_S_MIN && step_s <= STEP_S_MAX &&
           (double)h->step_kv_tokens <=
               (double)h->step_rows * (GW_REQUEST_PROMPT_MAX + GW_REQUEST_TOKENS_MAX);
}

/* Remembers that the leader was looked at; false if it has not stepped since the last round. */
static bool has_stepped(struct round *r, uint64_t link, uint64_t steps)
{
    r->looked_at[r->looked_at_len].link = link;
    r->looked_at[r->looked_at_len++].steps = steps;
    for (uint32_t i = 0; i < r->rates->looked_at_len; i++)
        if (r->rates->looked_at[i].link == link) return r->rates->looked_at[i].steps != steps;
    return true;
}

static void add_sample(struct round *r, const struct gw_core_worker_view *leader, const char *device,
                       const struct gw_layout_rank *ranks, uint32_t n)
{
    const struct gw_msg_heartbeat *h = &leader->last;
    const struct gw_plan_input in = {&r->fleet.plan, r->model, NULL};
    const struct gw_step_batch batch = {h->step_rows, h->step_sequences, (double)h->step_kv_tokens};
    bool decode = h->step_rows == h->step_sequences;
    if (!decode && h->step_rows < PREFILL_ROWS * (uint64_t)h->step_sequences) return;
    struct gw_step_time t = gw_cost_step(&in, ranks, n, &batch);
    double ratio = ((double)h->step_us * 1e-6 - t.exchange_s) / t.ranks_s;
    if (!(ratio >= 1 / RATIO_MAX && ratio <= RATIO_MAX)) return;
    struct gw_rates_kind *k = find_kind(r->rates, device, leader->profile);
    if (!k) k = add_kind(r->rates, device, leader->profile);
    if (!k) return;
    r->samples[r->samples_len++] = (struct sample){
        .kind = (uint32_t)(k - r->rates->kinds), .prefill = !decode, .ranks = n, .ratio = ratio};
}

static void look_at(struct round *r, const struct gw_core_pipeline_view *p)
{
    struct gw_layout_rank ranks[GW_WIRE_RANKS_MAX];
    if (r->looked_at_len == GW_RATES_PIPELINES_MAX || strcmp(p->state, "serving") != 0) return;
    if (!ranks_of(r, p, ranks)) return;
    uint32_t worker = r->fleet.worker_of[ranks[0].device];
    const struct gw_core_worker_view *leader = &r->seen->workers[worker];
    if (!has_stepped(r, p->ranks[0].link, leader->last.steps) || !is_sane(&leader->last)) return;
    add_sample(r, leader, r->seen->devices[worker].device, ranks, p->ranks_len);
}

/* ---- what a round says ---- */

static int compare(const void *pa, const void *pb)
{
    double a = *(const double *)pa, b = *(const double *)pb;
    return a < b ? -1 : a > b;
}

static double median(double *values, uint32_t n)
{
    qsort(values, n, sizeof *values, compare);
    return values[n / 2];
}

static void advance(struct gw_rate *rate, double ratio)
{
    double sorted[GW_RATES_ROUNDS];
    rate->ratios[rate->rounds++ % GW_RATES_ROUNDS] = ratio;
    uint32_t n = rate->rounds < GW_RATES_ROUNDS ? (uint32_t)rate->rounds : GW_RATES_ROUNDS;
    memcpy(sorted, rate->ratios, n * sizeof *sorted);
    rate->factor = gw_cost_correct(rate->factor, 1, median(sorted, n));
}

static void conclude(struct round *r, uint32_t kind, bool prefill)
{
    double ratios[GW_RATES_PIPELINES_MAX];
    uint32_t n = 0, fewest = UINT32_MAX;
    for (uint32_t i = 0; i < r->samples_len; i++) {
        const struct sample *s = &r->samples[i];
        if (s->kind != kind || s->prefill != prefill || s->ranks > fewest) continue;
        if (s->ranks < fewest) n = 0;
        fewest = s->ranks;
        ratios[n++] = s->ratio;
    }
    struct gw_rates_kind *k = &r->rates->kinds[kind];
    if (n > 0) advance(prefill ? &k->prefill : &k->decode, median(ratios, n));
}

gw_err_t gw_rates_look(struct gw_rates *rates, const struct gw_layout_seen *seen,
                       const struct gw_plan_model *model)
{
    struct round *r = calloc(1, sizeof *r);
    gw_err_t err = r ? gw_layout_fleet_make(seen, model, &r->fleet) : GW_ERR_MEMORY;
    if (err != GW_OK) {
        free(r);
        return err;
    }
    r->rates = rates;
    r->seen = seen;
    r->model = model;
    for (size_t i = 0; i < seen->pipelines_len; i++) look_at(r, &seen->pipelines[i]);
    for (uint32_t k = 0; k < rates->kinds_len; k++) {
        conclude(r, k, false);
        conclude(r, k, true);
    }
    memcpy(rates->looked_at, r->looked_at, sizeof rates->looked_at);
    rates->looked_at_len = r->looked_at_len;
    gw_layout_fleet_fini(&r->fleet);
    free(r);
    return GW_OK;
}
