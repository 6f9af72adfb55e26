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

/* 0: of one kind. */
static int compare_kinds(const struct gw_plan_fleet *f, uint32_t ia, uint32_t ib)
{
    const struct gw_plan_instance *a = &f->instances[ia], *b = &f->instances[ib];
    int c = compare_u32(a->devices, b->devices);
    for (uint32_t d = 0; c == 0 && d < a->devices; d++)
        c = compare_u32(f->devices[a->first_device + d].type, f->devices[b->first_device + d].type);
    if (c == 0) c = compare_double(a->price_usd_h, b->price_usd_h);
    if (c == 0) c = compare_links(&a->intra, &b->intra);
    if (c == 0) c = compare_links(&a->inter, &b->inter);
    return c ? c : (int)a->on_demand - (int)b->on_demand;
}

static int by_kind(const void *a, const void *b, void *fleet)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    int c = compare_kinds(fleet, x, y);
    return c ? c : compare_u32(x, y);
}

struct kinds {
    const struct gw_plan_fleet *fleet;
    const uint32_t *of;
};

static int by_class(const void *a, const void *b, void *arg)
{
    const struct kinds *k = arg;
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    int c = compare_u32(k->fleet->instances[x].zone, k->fleet->instances[y].zone);
    if (c == 0) c = compare_u32(k->of[x], k->of[y]);
    return c ? c : compare_u32(x, y);
}

static void fill_classes(const struct gw_plan_fleet *f, const uint32_t *kind_of, uint32_t n,
                         struct gw_classes *out)
{
    for (uint32_t i = 0; i < n; i++) {
        uint32_t instance = out->order[i];
        const struct gw_plan_instance *in = &f->instances[instance];
        struct gw_class *c = out->len ? &out->classes[out->len - 1] : NULL;
        if (!c || c->zone != in->zone || c->kind != kind_of[instance]) {
            c = &out->classes[out->len++];
            *c = (struct gw_class){
                .kind = kind_of[instance], .zone = in->zone, .devices = in->devices, .first = i};
        }
        c->instances++;
        out->class_of[instance] = out->len - 1;
        for (uint32_t d = 0; d < in->devices; d++) out->position[in->first_device + d] = out->usable++;
    }
}

gw_err_t gw_classes_make(const struct gw_plan_fleet *f, struct gw_classes *out)
{
    uint32_t n = 0, kind = 0;
    struct gw_classes c = {.classes = calloc(f->instances_len + 1, sizeof *c.classes),
                           .order = calloc(f->instances_len + 1, sizeof *c.order),
                           .position = malloc((f->devices_len + 1) * sizeof *c.position),
                           .class_of = malloc((f->instances_len + 1) * sizeof *c.class_of)};
    uint32_t *kind_of = calloc(f->instances_len + 1, sizeof *kind_of);
    if (!c.classes || !c.order || !c.position || !c.class_of || !kind_of) {
        free(kind_of);
        gw_classes_fini(&c);
        return GW_ERR_MEMORY;
    }
    memset(c.position, 0xff, f->devices_len * sizeof *c.position);
    memset(c.class_of, 0xff, f->instances_len * sizeof *c.class_of);
    for (uint32_t i = 0; i < f->instances_len; i++)
        if (f->instances[i].doomed_at_s <= 0) c.order[n++] = i;
    qsort_r(c.order, n, sizeof *c.order, by_kind, (void *)f);
    for (uint32_t i = 0; i < n; i++) {
        if (i && compare_kinds(f, c.order[i - 1], c.order[i]) != 0) kind++;
        kind_of[c.order[i]] = kind;
    }
    qsort_r(c.order, n, sizeof *c.order, by_class, &(struct kinds){f, kind_of});
    fill_classes(f, kind_of, n, &c);
    free(kind_of);
    *out = c;
    return GW_OK;
}

void gw_classes_fini(struct gw_classes *c)
{
    free(c->classes);
    free(c->order);
    free(c->position);
    free(c->class_of);
    *c = (struct gw_classes){0};
}
