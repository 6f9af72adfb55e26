#include "controller/plan/mapping.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "controller/plan/assign.h"
#include "controller/plan/classes.h"

/* One instance, as a place where the layout wants ranks, and as a holder of cells. */
struct place {
    uint32_t instance;
    uint32_t first_rank, ranks; /* in `by_instance` */
    uint64_t wants, holds;      /* hash of the cells, in no order */
    uint32_t new_pipeline;      /* of its first rank */
    uint32_t old_pipeline;      /* GW_PLAN_NONE: none, or one that is not whole any more */
    bool done;                  /* as a place */
    bool taken;                 /* as an instance */
};

struct mapping {
    const struct gw_plan_fleet *fleet;
    const struct gw_plan_model *model;
    struct gw_layout *layout;
    struct gw_classes classes;
    struct place *places;  /* by class, as classes.order */
    uint32_t *by_instance; /* ranks, sorted by the instance of their device */
    uint32_t *device_of;   /* the answer: per rank */
};

uint64_t gw_mapping_reuse(const struct gw_plan_model *m, const struct gw_plan_device *d,
                          struct gw_cell_rect cells)
{
    struct gw_cell_rect both = gw_rect_meet(d->holds, cells);
    if (gw_rect_empty(both)) return 0;
    return gw_plan_weight_bytes(m, both) + d->kv_cell_bytes * gw_rect_cells(both);
}

static uint64_t hash_rect(struct gw_cell_rect r)
{
    if (gw_rect_empty(r)) return 0;
    return gw_mix64((uint64_t)r.g0 << 48 | (uint64_t)r.g1 << 32 | (uint64_t)r.s0 << 16 | r.s1);
}

static const struct gw_plan_instance *instance_at(const struct mapping *m, const struct place *p)
{
    return &m->fleet->instances[p->instance];
}

/* ---- devices inside an instance ---- */

/* The best assignment of the ranks wanted at `place` to the devices of `instance`; device [ranks] may be NULL. */
static int64_t assign_inside(const struct mapping *m, const struct place *place, const struct place *instance,
                             uint32_t *device)
{
    const struct gw_plan_instance *in = instance_at(m, instance);
    int64_t value[64 * 64];
    uint32_t column[64], n = in->devices;
    int64_t sum = 0;
    if (n > 64) { /* too many for a matrix: as they come */
        for (uint32_t r = 0; r < place->ranks && device; r++) device[r] = in->first_device + r;
        return 0;
    }
    memset(value, 0, n * n * sizeof *value);
    for (uint32_t r = 0; r < place->ranks; r++) {
        const struct gw_layout_rank *rank = &m->layout->ranks[m->by_instance[place->first_rank + r]];
        uint32_t type = m->fleet->devices[rank->device].type;
        for (uint32_t d = 0; d < n; d++) {
            const struct gw_plan_device *dev = &m->fleet->devices[in->first_device + d];
            /* a device of another type was costed otherwise; between equals, who has the rank keeps it */
            value[r * n + d] = -(GW_ASSIGN_VALUE_MAX / GW_ASSIGN_MAX);
            if (dev->type != type) continue;
            value[r * n + d] = (int64_t)gw_mapping_reuse(m->model, dev, rank->cells) +
                               (in->first_device + d == rank->device);
        }
    }
    sum = gw_assign(value, n, column);
    for (uint32_t r = 0; r < place->ranks && device; r++) device[r] = in->first_device + column[r];
    return sum;
}

static void settle(struct mapping *m, struct place *place, struct place *instance)
{
    uint32_t device[GW_ASSIGN_MAX];
    if (place->ranks <= GW_ASSIGN_MAX) {
        assign_inside(m, place, instance, device);
        for (uint32_t r = 0; r < place->ranks; r++)
            m->device_of[m->by_instance[place->first_rank + r]] = device[r];
    } else {
        for (uint32_t r = 0; r < place->ranks; r++)
            m->device_of[m->by_instance[place->first_rank + r]] = instance_at(m, instance)->first_device + r;
    }
    place->done = instance->taken = true;
}

/* ---- instances of one class ---- */

static int by_wants(const void *a, const void *b)
{
    const struct place *x = *(struct place *const *)a, *y = *(struct place *const *)b;
    if (x->wants != y->wants) return x->wants < y->wants ? -1 : 1;
    if (x->new_pipeline != y->new_pipeline) return x->new_pipeline < y->new_pipeline ? -1 : 1;
    return x < y ? -1 : x > y;
}

static int by_holds(const void *a, const void *b)
{
    const struct place *x = *(struct place *const *)a, *y = *(struct place *const *)b;
    if (x->holds != y->holds) return x->holds < y->holds ? -1 : 1;
    if (x->old_pipeline != y->old_pipeline) return x->old_pipeline < y->old_pipeline ? -1 : 1;
    return x < y ? -1 : x > y;
}

/* The places that still want ranks, and the instances that are still free. */
static void collect(struct place *places, uint32_t n, struct place **want, uint32_t *wants,
                    struct place **have, uint32_t *haves)
{
    *wants = *haves = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (!places[i].done && places[i].ranks) want[(*wants)++] = &places[i];
        if (!places[i].taken) have[(*haves)++] = &places[i];
    }
    qsort(want, *wants, sizeof *want, by_wants);
    qsort(have, *haves, sizeof *have, by_holds);
}

static void pair_equals(struct mapping *m, struct place **want, uint32_t wants, struct place **have,
                        uint32_t haves)
{
    for (uint32_t i = 0, j = 0; i < wants && j < haves;) {
        if (want[i]->wants == have[j]->holds)
            settle(m, want[i++], have[j++]);
        else if (want[i]->wants < have[j]->holds)
            i++;
        else
            j++;
    }
}

/* n places against `haves` instances, haves >= n, both at most GW_MAPPING_BLOCK. */
static void assign_block(struct mapping *m, struct place **want, uint32_t n, struct place **have,
                         uint32_t haves, int64_t *value)
{
    uint32_t column[GW_MAPPING_BLOCK];
    memset(value, 0, (size_t)haves * haves * sizeof *value);
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < haves; j++) value[i * haves + j] = assign_inside(m, want[i], have[j], NULL);
    gw_assign(value, haves, column);
    for (uint32_t i = 0; i < n; i++) settle(m, want[i], have[column[i]]);
}

/* Ranks stay where the layout put them: who must be apart cannot be exchanged. */
static void map_as_is(struct mapping *m, struct place *place)
{
    for (uint32_t r = 0; r < place->ranks; r++) {
        uint32_t rank = m->by_instance[place->first_rank + r];
        m->device_of[rank] = m->layout->ranks[rank].device;
    }
}

static gw_err_t map_class(struct mapping *m, const struct gw_class *c)
{
    struct place *places = &m->places[c->first];
    uint32_t wants, haves;
    struct place **want = malloc(c->instances * sizeof *want), **have = malloc(c->instances * sizeof *have);
    int64_t *value = malloc(GW_MAPPING_BLOCK * GW_MAPPING_BLOCK * sizeof *value);
    gw_err_t err = want && have && value ? GW_OK : GW_ERR_MEMORY;
    if (err == GW_OK) {
        for (uint32_t i = 0; i < c->instances; i++)
            if (places[i].ranks && places[i].wants == places[i].holds) settle(m, &places[i], &places[i]);
        collect(places, c->instances, want, &wants, have, &haves);
        pair_equals(m, want, wants, have, haves);
        collect(places, c->instances, want, &wants, have, &haves);
        for (uint32_t i = 0; i < wants; i += GW_MAPPING_BLOCK) {
            uint32_t left = wants - i, n = left < GW_MAPPING_BLOCK ? left : GW_MAPPING_BLOCK;
            uint32_t free = haves - i < GW_MAPPING_BLOCK ? haves - i : GW_MAPPING_BLOCK;
            /* those that hold something sort behind those that hold nothing: take them from the end */
            assign_block(m, want + i, n, have + haves - i - free, free, value);
        }
    }
    free(want);
    free(have);
    free(value);
    return err;
}

/* ---- the whole fleet ---- */

static int by_instance(const void *a, const void *b, void *arg)
{
    const struct mapping *m = arg;
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    uint32_t i = m->fleet->devices[m->layout->ranks[x].device].instance;
    uint32_t j = m->fleet->devices[m->layout->ranks[y].device].instance;
    if (i != j) return i < j ? -1 : 1;
    return x < y ? -1 : x > y;
}

/* old_of: per device, the pipeline that it serves in if that one is whole. */
static void fill_place(struct mapping *m, struct place *p, uint32_t instance, const uint32_t *old_of)
{
    const struct gw_plan_instance *in = &m->fleet->instances[instance];
    *p = (struct place){.instance = instance, .old_pipeline = old_of[in->first_device]};
    for (uint32_t d = 0; d < in->devices; d++)
        p->holds += hash_rect(m->fleet->devices[in->first_device + d].holds);
}

static gw_err_t fill_places(struct mapping *m)
{
    struct gw_layout old = {0};
    const struct gw_plan_fleet *f = m->fleet;
    uint32_t *old_of = malloc((f->devices_len + 1) * sizeof *old_of);
    uint32_t *at_of = malloc((f->instances_len + 1) * sizeof *at_of);
    gw_err_t err = old_of && at_of ? gw_layout_of_fleet(f, m->model, &old) : GW_ERR_MEMORY;
    if (err == GW_OK) {
        memset(old_of, 0xff, f->devices_len * sizeof *old_of);
        for (uint32_t i = 0; i < old.ranks_len; i++) old_of[old.ranks[i].device] = old.ranks[i].pipeline;
        uint32_t n = 0;
        for (uint32_t c = 0; c < m->classes.len; c++) n += m->classes.classes[c].instances;
        for (uint32_t i = 0; i < n; i++) {
            at_of[m->classes.order[i]] = i;
            fill_place(m, &m->places[i], m->classes.order[i], old_of);
        }
        for (uint32_t i = 0; i < m->layout->ranks_len; i++) {
            const struct gw_layout_rank *r = &m->layout->ranks[m->by_instance[i]];
            struct place *p = &m->places[at_of[f->devices[r->device].instance]];
            if (!p->ranks++) {
                p->first_rank = i;
                p->new_pipeline = r->pipeline;
            }
            p->wants += hash_rect(r->cells);
        }
    }
    gw_layout_fini(&old);
    free(old_of);
    free(at_of);
    return err;
}

static gw_err_t map_all(struct mapping *m)
{
    TRY(gw_classes_make(m->fleet, &m->classes));
    uint32_t ranks = m->layout->ranks_len;
    m->places = calloc(m->fleet->instances_len + 1, sizeof *m->places);
    m->by_instance = malloc((ranks + 1) * sizeof *m->by_instance);
    m->device_of = malloc((ranks + 1) * sizeof *m->device_of);
    if (!m->places || !m->by_instance || !m->device_of) return GW_ERR_MEMORY;
    for (uint32_t i = 0; i < ranks; i++) m->by_instance[i] = i;
    qsort_r(m->by_instance, ranks, sizeof *m->by_instance, by_instance, m);
    TRY(fill_places(m));
    for (uint32_t i = 0; i < m->classes.len; i++) {
        const struct gw_class *c = &m->classes.classes[i];
        if (c->apart)
            map_as_is(m, &m->places[c->first]); /* it is the only instance of its class */
        else
            TRY(map_class(m, c));
    }
    for (uint32_t i = 0; i < ranks; i++) m->layout->ranks[i].device = m->device_of[i];
    return GW_OK;
}

gw_err_t gw_mapping(const struct gw_plan_fleet *fleet, const struct gw_plan_model *model,
                    struct gw_layout *layout)
{
    struct mapping m = {.fleet = fleet, .model = model, .layout = layout};
    gw_err_t err = map_all(&m);
    gw_classes_fini(&m.classes);
    free(m.places);
    free(m.by_instance);
    free(m.device_of);
    return err;
}
