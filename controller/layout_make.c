#include "controller/layout_make.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "controller/layout_place.h"

struct maker {
    const struct gw_plan_input *in;
    const struct gw_layout_spec *spec;
    struct gw_layout_made *made;
    uint32_t usable; /* devices that are not doomed */
    uint64_t memory; /* all they have */
};

static struct gw_cell_rect whole_model(const struct gw_plan_model *m)
{
    return (struct gw_cell_rect){0, (uint16_t)m->groups, 0, (uint16_t)m->shares};
}

static bool is_usable(const struct gw_plan_fleet *f, uint32_t device)
{
    return f->instances[f->devices[device].instance].doomed_at_s <= 0;
}

static void count_usable(struct maker *m)
{
    const struct gw_plan_fleet *f = m->in->fleet;
    for (uint32_t d = 0; d < f->devices_len; d++) {
        if (!is_usable(f, d)) continue;
        m->usable++;
        m->memory += f->types[f->devices[d].type].memory_bytes;
    }
}

/* "1.24 GB", 1 GB = 10^9 bytes */
static const char *bytes_text(uint64_t bytes, char text[24])
{
    static const char *const units[] = {"bytes", "kB", "MB", "GB", "TB", "PB"};
    double v = (double)bytes;
    int unit = 0;
    for (; v >= 1000 && unit < 5; unit++) v /= 1000;
    snprintf(text, 24, "%.3g %s", v, units[unit]);
    return text;
}

/* ---- what is missing ---- */

/* Ranks repeat a little (norms), so this is what is needed at least. */
static void explain_memory(struct maker *m)
{
    char need[24], weights[24], have[24], missing[24];
    struct gw_cell_rect all = whole_model(m->in->model);
    uint64_t bytes = gw_layout_rank_bytes(m->in, all);
    m->made->missing_bytes = bytes > m->memory ? bytes - m->memory : 0;
    int n = snprintf(
        m->made->reason, sizeof m->made->reason,
        "the model needs %s (weights %s, the rest for one request of %.0f tokens), %u worker%s ha%s %s: ",
        bytes_text(bytes, need), bytes_text(gw_plan_weight_bytes(m->in->model, all), weights),
        m->in->load->prompt_p99 + m->in->load->output_p99, m->usable, m->usable == 1 ? "" : "s",
        m->usable == 1 ? "s" : "ve", bytes_text(m->memory, have));
    if (n < 0 || (size_t)n >= sizeof m->made->reason) return;
    if (m->made->missing_bytes)
        snprintf(m->made->reason + n, sizeof m->made->reason - (size_t)n, "%s are missing",
                 bytes_text(m->made->missing_bytes, missing));
    else
        snprintf(m->made->reason + n, sizeof m->made->reason - (size_t)n,
                 "enough together, but no cut into ranks fits them");
}

/* The shape's most demanding rank, against the device with most memory. */
static void explain_rank(struct maker *m, const struct gw_layout_kind *kind)
{
    char need[24], have[24];
    uint64_t most = 0, largest = 0;
    const struct gw_plan_fleet *f = m->in->fleet;
    for (uint32_t i = 0; i < kind->ranks_len; i++) {
        uint64_t bytes = gw_layout_rank_bytes(m->in, kind->ranks[i].cells);
        most = bytes > most ? bytes : most;
    }
    for (uint32_t d = 0; d < f->devices_len; d++) {
        uint64_t memory = f->types[f->devices[d].type].memory_bytes;
        if (is_usable(f, d) && memory > largest) largest = memory;
    }
    m->made->missing_bytes = most > largest ? most - largest : 0;
    if (most > largest)
        snprintf(m->made->reason, sizeof m->made->reason,
                 "a rank of layout %.64s needs %s, the largest worker has %s", m->spec->text,
                 bytes_text(most, need), bytes_text(largest, have));
    else
        snprintf(m->made->reason, sizeof m->made->reason,
                 "layout %.64s: too few workers of one profile and zone have the memory for its ranks",
                 m->spec->text);
}

static void explain_nothing(struct maker *m)
{
    const struct gw_layout_kind *kind = m->spec->mode == GW_LAYOUT_SHAPE ? &m->spec->kinds[0] : NULL;
    if (m->usable == 0)
        snprintf(m->made->reason, sizeof m->made->reason, "no worker is there that can be planned");
    else if (kind && kind->ranks_len > m->usable)
        snprintf(m->made->reason, sizeof m->made->reason,
                 "layout %.64s needs %u workers, %u %s there: waiting", m->spec->text, kind->ranks_len,
                 m->usable, m->usable == 1 ? "is" : "are");
    else if (kind)
        explain_rank(m, kind);
    else
        explain_memory(m);
}

/* ---- the three ways ---- */

/* The promise, where one was asked for. */
static const char *slo_text(const struct gw_plan_load *l, enum gw_promise promise)
{
    if (promise == GW_PROMISE_NONE || (l->slo_ttft_s <= 0 && l->slo_tpot_s <= 0)) return "";
    return promise == GW_PROMISE_SLO ? ", within the SLO" : ", beyond the SLO";
}

static void explain_plan(struct maker *m, const struct gw_plan *plan)
{
    const struct gw_score *s = &plan->score;
    const char *what = plan->verdict == GW_VERDICT_KEEP ? "kept, no move pays"
                       : plan->current.pipelines        ? "moved, it pays"
                                                        : "the best found";
    snprintf(m->made->reason, sizeof m->made->reason,
             "auto: %s; carries %.3g requests/s (%.3g arrive%s), P99 %.3g s%s%s", what, s->throughput_rps,
             m->in->load->arrival_rps, s->promise == GW_PROMISE_NONE ? ": too many" : "", s->latency_p99_s,
             slo_text(m->in->load, s->promise),
             plan->headroom_kept ? "" : "; no memory is left for the loss of an instance");
}

static gw_err_t make_auto(struct maker *m, struct gw_err_ctx *ctx)
{
    const struct gw_planner_options options = {0};
    struct gw_plan plan;
    TRY(gw_planner_run(m->in, &options, &plan, ctx));
    if (plan.verdict != GW_VERDICT_NO_FIT) explain_plan(m, &plan);
    m->made->kept = plan.verdict == GW_VERDICT_KEEP;
    m->made->layout = plan.layout;
    m->made->pipelines_wanted = plan.layout.pipelines;
    plan.layout = (struct gw_layout){0};
    gw_plan_fini(&plan);
    return GW_OK;
}

static gw_err_t make_replicas(struct maker *m)
{
    const struct gw_layout_kind kind = {
        .copies = m->usable, .ranks_len = 1, .ranks = {{0, whole_model(m->in->model)}}};
    TRY(gw_layout_place(m->in, &kind, 1, &m->made->layout));
    m->made->pipelines_wanted = m->made->layout.pipelines;
    snprintf(m->made->reason, sizeof m->made->reason, "replicas: %u of %u workers can hold the model",
             m->made->layout.pipelines, m->usable);
    return GW_OK;
}

static gw_err_t make_shape(struct maker *m)
{
    TRY(gw_layout_place(m->in, m->spec->kinds, m->spec->kinds_len, &m->made->layout));
    m->made->pipelines_wanted = gw_layout_spec_pipelines(m->spec);
    snprintf(m->made->reason, sizeof m->made->reason,
             "layout %.64s: %u of %u pipelines placed over %u workers", m->spec->text,
             m->made->layout.pipelines, m->made->pipelines_wanted, m->usable);
    return GW_OK;
}

/* ---- who is left ---- */

/* A device without a rank: too small for each of the layout's ranks, or not needed. */
static gw_err_t explain_devices(struct maker *m)
{
    const struct gw_plan_fleet *f = m->in->fleet;
    const struct gw_layout *l = &m->made->layout;
    uint64_t least = l->ranks_len ? UINT64_MAX : gw_layout_rank_bytes(m->in, whole_model(m->in->model));
    m->made->whys = calloc(f->devices_len + 1, sizeof *m->made->whys);
    if (!m->made->whys) return GW_ERR_MEMORY;
    for (uint32_t d = 0; d < f->devices_len; d++)
        m->made->whys[d] = is_usable(f, d) ? GW_WHY_SPARE : GW_WHY_DOOMED;
    for (uint32_t i = 0; i < l->ranks_len; i++) {
        uint64_t bytes = gw_layout_rank_bytes(m->in, l->ranks[i].cells);
        least = bytes < least ? bytes : least;
        m->made->whys[l->ranks[i].device] = GW_WHY_PLACED;
    }
    for (uint32_t d = 0; d < f->devices_len; d++)
        if (m->made->whys[d] == GW_WHY_SPARE && f->types[f->devices[d].type].memory_bytes < least)
            m->made->whys[d] = GW_WHY_MEMORY;
    return GW_OK;
}

gw_err_t gw_layout_make(const struct gw_plan_input *in, const struct gw_layout_spec *spec,
                        struct gw_layout_made *out, struct gw_err_ctx *ctx)
{
    struct gw_layout_made made = {0};
    struct maker m = {.in = in, .spec = spec, .made = &made};
    gw_err_t err = GW_OK;
    count_usable(&m);
    if (m.usable > 0 && spec->mode == GW_LAYOUT_AUTO) err = make_auto(&m, ctx);
    if (m.usable > 0 && spec->mode == GW_LAYOUT_REPLICAS) err = make_replicas(&m);
    if (spec->mode == GW_LAYOUT_SHAPE) err = make_shape(&m);
    if (err == GW_OK && made.layout.pipelines == 0) explain_nothing(&m);
    if (err == GW_OK) err = explain_devices(&m);
    if (err != GW_OK) {
        gw_layout_made_fini(&made);
        return gw_fail(ctx, err, "out of memory");
    }
    *out = made;
    return GW_OK;
}

void gw_layout_made_fini(struct gw_layout_made *made)
{
    gw_layout_fini(&made->layout);
    free(made->whys);
    *made = (struct gw_layout_made){0};
}
