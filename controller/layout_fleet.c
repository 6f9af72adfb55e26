#include "controller/layout_fleet.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RATE_MIN     1e6 /* of a probe that went wrong: nothing is divided by zero */
#define DOOMED_S_MIN 1e-3
#define MEMORY_DIGITS                                                                                        \
    10 /* binary: machines of one type differ in the rest, which must not make them two types */
#define PROFILES_MAX GW_PLAN_TYPES_MAX

struct maker {
    const struct gw_layout_seen *seen;
    const struct gw_plan_model *model;
    struct gw_layout_fleet *out;
    uint32_t *order;      /* workers that may be devices, neighbours together */
    const char **kind_of; /* [types_len] names of the workers' kinds */
    uint32_t order_len;
    double *rates; /* scratch, [workers_len] */
};

const char *gw_layout_why_text(enum gw_layout_why why)
{
    switch (why) {
    case GW_WHY_PLACED: return "it has a rank";
    case GW_WHY_PROTOCOL: return "it speaks protocol 1: it is a pipeline of its own, not planned";
    case GW_WHY_DOOMED: return "its instance is about to go";
    case GW_WHY_KINDS: return "there are more kinds of devices or zones than are planned with";
    case GW_WHY_MEMORY: return "no rank of the layout fits into its memory";
    case GW_WHY_SPARE: return "the layout has no place for it";
    }
    return "?";
}

static bool is_doomed(const struct gw_core_worker_view *w)
{
    return strcmp(w->state, "doomed") == 0;
}

/* ---- order ---- */

static int compare_workers(const void *pa, const void *pb, void *arg)
{
    const struct gw_layout_seen *seen = arg;
    uint32_t a = *(const uint32_t *)pa, b = *(const uint32_t *)pb;
    const struct gw_core_worker_view *x = &seen->workers[a], *y = &seen->workers[b];
    int c = strcmp(seen->devices[a].zone, seen->devices[b].zone);
    if (c == 0) c = strcmp(x->instance, y->instance);
    if (c == 0) c = (int)is_doomed(x) - (int)is_doomed(y);
    return c ? c : strcmp(x->worker, y->worker);
}

static bool same_instance(const struct gw_layout_seen *seen, uint32_t a, uint32_t b)
{
    return strcmp(seen->devices[a].zone, seen->devices[b].zone) == 0 &&
           strcmp(seen->workers[a].instance, seen->workers[b].instance) == 0 &&
           is_doomed(&seen->workers[a]) == is_doomed(&seen->workers[b]);
}

/* ---- tables of names ---- */

/* The index of name in names[0..*len), appended if there is room; GW_PLAN_NONE if not. */
static uint32_t name_index(char (*names)[GW_PLAN_NAME_MAX], uint32_t *len, uint32_t max, const char *name)
{
    char cut[GW_PLAN_NAME_MAX];
    snprintf(cut, sizeof cut, "%s", name[0] ? name : "default");
    for (uint32_t i = 0; i < *len; i++)
        if (strcmp(names[i], cut) == 0) return i;
    if (*len == max) return GW_PLAN_NONE;
    memcpy(names[*len], cut, sizeof cut);
    return (*len)++;
}

static uint64_t round_memory(uint64_t bytes)
{
    uint32_t drop = 0;
    while (bytes >> drop >= 1u << MEMORY_DIGITS) drop++;
    uint64_t rounded = bytes >> drop << drop;
    return rounded < 1 ? 1 : rounded;
}

static int compare_rates(const void *pa, const void *pb)
{
    double a = *(const double *)pa, b = *(const double *)pb;
    return a < b ? -1 : a > b;
}

/* The median over all workers of that kind. */
static double median_rate(const struct maker *m, const char *kind, bool flop)
{
    uint32_t n = 0;
    for (size_t i = 0; i < m->seen->workers_len; i++) {
        const struct gw_core_device_view *d = &m->seen->devices[i];
        if (d->proto < 2 || strcmp(d->device, kind) != 0) continue;
        m->rates[n++] = (double)(flop ? d->flop_s : d->bytes_s);
    }
    qsort(m->rates, n, sizeof *m->rates, compare_rates);
    double median = n ? m->rates[n / 2] : 0;
    return median < RATE_MIN ? RATE_MIN : median;
}

static uint32_t type_index(struct maker *m, uint32_t worker, uint32_t profile)
{
    struct gw_plan_fleet *f = &m->out->plan;
    const struct gw_core_device_view *d = &m->seen->devices[worker];
    uint64_t memory = round_memory(d->memory_bytes);
    for (uint32_t t = 0; t < f->types_len; t++)
        if (strcmp(m->kind_of[t], d->device) == 0 && f->types[t].profile == profile &&
            f->types[t].memory_bytes == memory)
            return t;
    if (f->types_len == GW_PLAN_TYPES_MAX) return GW_PLAN_NONE;
    struct gw_plan_type *t = &f->types[f->types_len];
    *t = (struct gw_plan_type){.profile = profile,
                               .memory_bytes = memory,
                               .bytes_s = median_rate(m, d->device, false),
                               .flop_s = median_rate(m, d->device, true),
                               .decode_factor = 1,
                               .prefill_factor = 1,
                               .instance_devices = 1,
                               .intra = {GW_LINK_MACHINE_BYTES_S, GW_LINK_MACHINE_S},
                               .inter = {GW_LINK_NETWORK_BYTES_S, GW_LINK_NETWORK_S}};
    if (m->seen->rates)
        gw_rates_factors(m->seen->rates, d->device, m->seen->workers[worker].profile, &t->decode_factor,
                         &t->prefill_factor);
    snprintf(t->name, sizeof t->name, "%s", d->device);
    m->kind_of[f->types_len] = d->device;
    return f->types_len++;
}

/* ---- cells ---- */

/* How much a pipeline in that state says of what its workers hold and serve: 0 nothing. */
static int weight_of_state(const char *state)
{
    if (strcmp(state, "serving") == 0) return 2;
    return strcmp(state, "forming") == 0 || strcmp(state, "ready") == 0;
}

static void set_cells(const struct maker *m, uint64_t link, struct gw_plan_device *d)
{
    int best = 0;
    for (size_t i = 0; i < m->seen->pipelines_len; i++) {
        const struct gw_core_pipeline_view *p = &m->seen->pipelines[i];
        int weight = weight_of_state(p->state);
        for (uint32_t r = 0; weight > best && r < p->ranks_len; r++) {
            if (p->ranks[r].link != link) continue;
            best = weight;
            d->holds = p->ranks[r].cells;
            d->pipeline = p->pipeline;
        }
    }
    if (d->holds.g1 > m->model->groups || d->holds.s1 > m->model->shares || gw_rect_empty(d->holds)) {
        d->holds = (struct gw_cell_rect){0};
        d->pipeline = GW_PLAN_NONE;
    }
}

/* ---- devices and instances ---- */

static double doomed_at_s(const struct gw_core_worker_view *w, int64_t now_us)
{
    double s = (double)(w->deadline_us - now_us) * 1e-6;
    return s > DOOMED_S_MIN ? s : DOOMED_S_MIN;
}

static void add_instance(struct maker *m, uint32_t worker, uint32_t zone)
{
    struct gw_plan_fleet *f = &m->out->plan;
    const struct gw_core_worker_view *w = &m->seen->workers[worker];
    struct gw_plan_instance *in = &f->instances[f->instances_len++];
    *in = (struct gw_plan_instance){.zone = zone,
                                    .first_device = f->devices_len,
                                    .intra = {GW_LINK_MACHINE_BYTES_S, GW_LINK_MACHINE_S},
                                    .inter = {GW_LINK_NETWORK_BYTES_S, GW_LINK_NETWORK_S},
                                    .doomed_at_s = is_doomed(w) ? doomed_at_s(w, m->seen->now_us) : 0};
    snprintf(in->id, sizeof in->id, "%s", w->instance);
}

/* before: the worker that the last device was made of. */
static bool add_device(struct maker *m, uint32_t worker, uint32_t before)
{
    struct gw_plan_fleet *f = &m->out->plan;
    const struct gw_core_device_view *d = &m->seen->devices[worker];
    uint32_t zone = name_index(f->zones, &f->zones_len, GW_PLAN_ZONES_MAX, d->zone);
    uint32_t profile =
        name_index(f->profiles, &f->profiles_len, PROFILES_MAX, m->seen->workers[worker].profile);
    uint32_t type = profile == GW_PLAN_NONE ? GW_PLAN_NONE : type_index(m, worker, profile);
    if (zone == GW_PLAN_NONE || type == GW_PLAN_NONE) return false;
    if (before == GW_PLAN_NONE || !same_instance(m->seen, worker, before)) add_instance(m, worker, zone);
    struct gw_plan_instance *in = &f->instances[f->instances_len - 1];
    struct gw_plan_device *device = &f->devices[f->devices_len];
    *device = (struct gw_plan_device){.instance = f->instances_len - 1,
                                      .index = in->devices++,
                                      .type = type,
                                      .holds = d->holds,
                                      .pipeline = GW_PLAN_NONE};
    set_cells(m, d->link, device);
    m->out->links[f->devices_len] = d->link;
    m->out->worker_of[f->devices_len++] = worker;
    return true;
}

/* On one machine instances are processes: between them it is as fast as within. */
static void link_machine(struct maker *m)
{
    static const uint8_t unknown[GW_MACHINE_BYTES];
    struct gw_plan_fleet *f = &m->out->plan;
    for (uint32_t i = 0; i < f->devices_len; i++) {
        const uint8_t *machine = m->seen->devices[m->out->worker_of[i]].machine;
        const uint8_t *first = m->seen->devices[m->out->worker_of[0]].machine;
        if (memcmp(machine, first, GW_MACHINE_BYTES) != 0 || memcmp(machine, unknown, GW_MACHINE_BYTES) == 0)
            return;
    }
    for (uint32_t i = 0; i < f->instances_len; i++) f->instances[i].inter = f->instances[i].intra;
}

static gw_err_t allocate(struct maker *m)
{
    struct gw_layout_fleet *out = m->out;
    struct gw_plan_fleet *f = &out->plan;
    size_t n = m->seen->workers_len + 1;
    out->workers_len = (uint32_t)m->seen->workers_len;
    out->links = calloc(n, sizeof *out->links);
    out->worker_of = calloc(n, sizeof *out->worker_of);
    out->whys = calloc(n, sizeof *out->whys);
    f->devices = calloc(n, sizeof *f->devices);
    f->instances = calloc(n, sizeof *f->instances);
    f->types = calloc(GW_PLAN_TYPES_MAX, sizeof *f->types);
    f->zones = calloc(GW_PLAN_ZONES_MAX, sizeof *f->zones);
    f->profiles = calloc(PROFILES_MAX, sizeof *f->profiles);
    m->order = calloc(n, sizeof *m->order);
    m->kind_of = calloc(GW_PLAN_TYPES_MAX, sizeof *m->kind_of);
    m->rates = calloc(n, sizeof *m->rates);
    bool there = out->links && out->worker_of && out->whys && f->devices && f->instances && f->types &&
                 f->zones && f->profiles && m->order && m->kind_of && m->rates;
    return there ? GW_OK : GW_ERR_MEMORY;
}

static void fill(struct maker *m)
{
    struct gw_plan_fleet *f = &m->out->plan;
    uint32_t before = GW_PLAN_NONE;
    f->zone_link = (struct gw_plan_link){GW_LINK_ZONE_BYTES_S, GW_LINK_ZONE_S};
    f->zone_usd_gb = m->seen->zone_usd_gb ? *m->seen->zone_usd_gb : GW_LINK_ZONE_USD_GB;
    f->store_bytes_s = GW_LINK_STORE_BYTES_S;
    for (uint32_t i = 0; i < m->seen->workers_len; i++) {
        bool old = m->seen->devices[i].proto < 2;
        if (old)
            m->out->whys[i] = GW_WHY_PROTOCOL;
        else
            m->order[m->order_len++] = i;
    }
    qsort_r(m->order, m->order_len, sizeof *m->order, compare_workers, (void *)m->seen);
    for (uint32_t i = 0; i < m->order_len; i++) {
        uint32_t worker = m->order[i];
        if (add_device(m, worker, before))
            before = worker;
        else
            m->out->whys[worker] = GW_WHY_KINDS;
    }
    link_machine(m);
}

gw_err_t gw_layout_fleet_make(const struct gw_layout_seen *seen, const struct gw_plan_model *model,
                              struct gw_layout_fleet *out)
{
    struct gw_layout_fleet fleet = {0};
    struct maker m = {.seen = seen, .model = model, .out = &fleet};
    gw_err_t err = allocate(&m);
    if (err == GW_OK) fill(&m);
    free(m.order);
    free(m.kind_of);
    free(m.rates);
    if (err != GW_OK) gw_layout_fleet_fini(&fleet);
    *out = fleet;
    return err;
}

void gw_layout_fleet_fini(struct gw_layout_fleet *fleet)
{
    free(fleet->plan.devices);
    free(fleet->plan.instances);
    free(fleet->plan.types);
    free(fleet->plan.zones);
    free(fleet->plan.profiles);
    free(fleet->links);
    free(fleet->worker_of);
    free(fleet->whys);
    *fleet = (struct gw_layout_fleet){0};
}
