#include "controller/plan/classes.h"

#include <stdlib.h>
#include <string.h>

static int compare_double(double a, double b)
{
    return a < b ? -1 : a > b;
}
static int compare_u32(uint32_t a, uint32_t b)
{
    return a < b ? -1 : a > b;
}

static int compare_links(const struct gw_plan_link *a, const struct gw_plan_link *b)
{
    int c = compare_double(a->bytes_s, b->bytes_s);
    return c ? c : compare_double(a->latency_s, b->latency_s);
}

struct kinds {
    const struct gw_plan_fleet *fleet;
    const uint32_t *sorted; /* as in gw_classes */
    const bool *apart;      /* per instance */
    uint32_t *of;           /* per instance */
};

/* 0: of one kind. */
static int compare_kinds(const struct kinds *k, uint32_t ia, uint32_t ib)
{
    const struct gw_plan_fleet *f = k->fleet;
    const struct gw_plan_instance *a = &f->instances[ia], *b = &f->instances[ib];
    int c = compare_u32(a->devices, b->devices);
    for (uint32_t d = 0; c == 0 && d < a->devices; d++)
        c = compare_u32(f->devices[k->sorted[a->first_device + d]].type,
                        f->devices[k->sorted[b->first_device + d]].type);
    if (c == 0) c = compare_double(a->price_usd_h, b->price_usd_h);
    if (c == 0) c = compare_links(&a->intra, &b->intra);
    if (c == 0) c = compare_links(&a->inter, &b->inter);
    if (c == 0) c = (int)a->on_demand - (int)b->on_demand;
    return c == 0 && (k->apart[ia] || k->apart[ib]) ? compare_u32(ia, ib) : c;
}

static int by_kind(const void *a, const void *b, void *arg)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    int c = compare_kinds(arg, x, y);
    return c ? c : compare_u32(x, y);
}

static int by_class(const void *a, const void *b, void *arg)
{
    const struct kinds *k = arg;
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    int c = compare_u32(k->fleet->instances[x].zone, k->fleet->instances[y].zone);
    if (c == 0) c = compare_u32(k->of[x], k->of[y]);
    return c ? c : compare_u32(x, y);
}

static int by_profile(const void *a, const void *b, void *fleet)
{
    const struct gw_plan_fleet *f = fleet;
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    uint32_t s = f->devices[x].type, t = f->devices[y].type;
    int c = compare_u32(f->types[s].profile, f->types[t].profile);
    if (c == 0) c = compare_u32(s, t);
    return c ? c : compare_u32(x, y);
}

static void sort_devices(const struct gw_plan_fleet *f, uint32_t *sorted)
{
    for (uint32_t d = 0; d < f->devices_len; d++) sorted[d] = d;
    for (uint32_t i = 0; i < f->instances_len; i++)
        qsort_r(&sorted[f->instances[i].first_device], f->instances[i].devices, sizeof *sorted, by_profile,
                (void *)f);
}

/* Numbers the kinds of the n instances in out->order. */
static void number_kinds(struct kinds *k, uint32_t *order, uint32_t n)
{
    uint32_t kind = 0;
    qsort_r(order, n, sizeof *order, by_kind, k);
    for (uint32_t i = 0; i < n; i++) {
        if (i && compare_kinds(k, order[i - 1], order[i]) != 0) kind++;
        k->of[order[i]] = kind;
    }
}

static void fill_classes(const struct kinds *k, uint32_t n, struct gw_classes *out)
{
    for (uint32_t i = 0; i < n; i++) {
        uint32_t instance = out->order[i];
        const struct gw_plan_instance *in = &k->fleet->instances[instance];
        struct gw_class *c = out->len ? &out->classes[out->len - 1] : NULL;
        if (!c || c->zone != in->zone || c->kind != k->of[instance]) {
            c = &out->classes[out->len++];
            *c = (struct gw_class){.kind = k->of[instance],
                                   .zone = in->zone,
                                   .devices = in->devices,
                                   .first = i,
                                   .position = out->usable,
                                   .apart = k->apart[instance]};
        }
        c->instances++;
        out->class_of[instance] = out->len - 1;
        for (uint32_t d = 0; d < in->devices; d++)
            out->position[out->sorted[in->first_device + d]] = out->usable++;
    }
}

static void make_classes(struct kinds *k, bool *apart, struct gw_classes *out)
{
    const struct gw_plan_fleet *f = k->fleet;
    uint32_t n = 0;
    memset(out->position, 0xff, f->devices_len * sizeof *out->position);
    memset(out->class_of, 0xff, f->instances_len * sizeof *out->class_of);
    sort_devices(f, out->sorted);
    for (uint32_t i = 0; i < f->apart_len; i++)
        apart[f->devices[f->apart[i].a].instance] = apart[f->devices[f->apart[i].b].instance] = true;
    for (uint32_t i = 0; i < f->instances_len; i++)
        if (f->instances[i].doomed_at_s <= 0) out->order[n++] = i;
    number_kinds(k, out->order, n);
    qsort_r(out->order, n, sizeof *out->order, by_class, k);
    fill_classes(k, n, out);
}

gw_err_t gw_classes_make(const struct gw_plan_fleet *f, struct gw_classes *out)
{
    struct gw_classes c = {.classes = calloc(f->instances_len + 1, sizeof *c.classes),
                           .order = calloc(f->instances_len + 1, sizeof *c.order),
                           .position = malloc((f->devices_len + 1) * sizeof *c.position),
                           .class_of = malloc((f->instances_len + 1) * sizeof *c.class_of),
                           .sorted = malloc((f->devices_len + 1) * sizeof *c.sorted)};
    uint32_t *kind_of = calloc(f->instances_len + 1, sizeof *kind_of);
    bool *apart = calloc(f->instances_len + 1, sizeof *apart);
    bool there = c.classes && c.order && c.position && c.class_of && c.sorted && kind_of && apart;
    if (there) {
        make_classes(&(struct kinds){f, c.sorted, apart, kind_of}, apart, &c);
        *out = c;
    } else {
        gw_classes_fini(&c);
    }
    free(kind_of);
    free(apart);
    return there ? GW_OK : GW_ERR_MEMORY;
}

void gw_classes_fini(struct gw_classes *c)
{
    free(c->classes);
    free(c->order);
    free(c->position);
    free(c->class_of);
    free(c->sorted);
    *c = (struct gw_classes){0};
}
