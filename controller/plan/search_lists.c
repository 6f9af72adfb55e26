#include "controller/plan/search_internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"

#define SLOTS (2 * GW_SEARCH_LISTS_MAX) /* at most half full; a power of two */

/* A list's key: what matters of its devices (kind, type) and which of them share a zone or an instance. */
struct search_list {
    uint32_t n;
    uint64_t key[GW_SHAPE_RANKS_MAX];
    struct shapes set;
    struct gw_shape room[]; /* set.shapes */
};

static int by_position(const void *a, const void *b, void *arg)
{
    const uint32_t *position = arg;
    uint32_t x = position[*(const uint32_t *)a], y = position[*(const uint32_t *)b];
    return x < y ? -1 : x > y;
}

void search_sort(const struct search *s, uint32_t *devices, uint32_t n)
{
    qsort_r(devices, n, sizeof *devices, by_position, s->classes.position);
}

static uint64_t make_key(const struct search *s, const uint32_t *devices, uint32_t n, uint64_t *key)
{
    const struct gw_plan_fleet *f = s->in->fleet;
    uint64_t hash = n, zone = 0, instance = 0;
    for (uint32_t i = 0; i < n; i++) {
        const struct gw_plan_device *d = &f->devices[devices[i]];
        const struct gw_class *c = &s->classes.classes[s->classes.class_of[d->instance]];
        if (i) {
            const struct gw_plan_device *before = &f->devices[devices[i - 1]];
            instance += before->instance != d->instance;
            zone += f->instances[before->instance].zone != c->zone;
        }
        key[i] = (uint64_t)c->kind << 32 | (uint64_t)d->type << 16 | zone << 8 | instance;
        hash = gw_mix64(hash ^ key[i]);
    }
    return hash;
}

bool search_are_apart(const struct search *s, const uint32_t *devices, uint32_t n)
{
    const struct gw_plan_fleet *f = s->in->fleet;
    for (uint32_t i = 0; i < f->apart_len; i++) {
        uint32_t found = 0;
        for (uint32_t d = 0; d < n; d++) found += devices[d] == f->apart[i].a || devices[d] == f->apart[i].b;
        if (found > 1) return true;
    }
    return false;
}

static bool has_to_be_apart(const struct gw_plan_fleet *f, uint32_t device)
{
    for (uint32_t i = 0; i < f->apart_len; i++)
        if (f->apart[i].a == device || f->apart[i].b == device) return true;
    return false;
}

bool search_are_equal(const struct search *s, uint32_t a, uint32_t b)
{
    const struct gw_plan_fleet *f = s->in->fleet;
    const struct gw_plan_device *x = &f->devices[a], *y = &f->devices[b];
    if (s->classes.class_of[x->instance] != s->classes.class_of[y->instance] || x->type != y->type)
        return false;
    return a == b || (!has_to_be_apart(f, a) && !has_to_be_apart(f, b));
}

double search_speed(const struct search *s, uint32_t device)
{
    const struct gw_plan_type *t = &s->in->fleet->types[s->in->fleet->devices[device].type];
    return t->bytes_s / t->decode_factor;
}

static struct search_list *list_create(const uint64_t *key, uint32_t n, const struct gw_shape *shapes,
                                       uint32_t shapes_len)
{
    struct search_list *list = malloc(sizeof *list + shapes_len * sizeof *shapes);
    if (!list) return NULL;
    list->n = n;
    memcpy(list->key, key, n * sizeof *key);
    list->set = (struct shapes){shapes_len, list->room};
    memcpy(list->room, shapes, shapes_len * sizeof *shapes);
    return list;
}

static struct search_list *shape_list(struct search *s, const uint32_t *devices, uint32_t n,
                                      const uint64_t *key)
{
    if (s->lists_len == GW_SEARCH_LISTS_MAX || s->budget == 0) return NULL;
    double speed = 0;
    for (uint32_t i = 0; i < n; i++) speed += search_speed(s, devices[i]);
    struct gw_shape_task task = {.devices = devices,
                                 .n = n,
                                 .fair_rps = s->in->load->arrival_rps * speed / s->speed,
                                 .thorough = s->thorough};
    gw_shape_search(s->in, s->headroom, &task, &s->budget, s->found);
    s->lists_len++;
    return list_create(key, n, s->found->shapes, s->found->len);
}

const struct shapes *search_shapes(struct search *s, const uint32_t *devices, uint32_t n)
{
    uint64_t key[GW_SHAPE_RANKS_MAX];
    if (n < 1 || n > GW_SHAPE_RANKS_MAX || search_are_apart(s, devices, n)) return NULL;
    uint64_t at = make_key(s, devices, n, key) & (SLOTS - 1);
    if (!s->lists && !(s->lists = calloc(SLOTS, sizeof *s->lists))) return NULL;
    struct search_list *list;
    for (; (list = s->lists[at]); at = (at + 1) & (SLOTS - 1))
        if (list->n == n && memcmp(list->key, key, n * sizeof *key) == 0) break;
    if (!list) list = s->lists[at] = shape_list(s, devices, n, key);
    return list && list->set.len ? &list->set : NULL;
}

static bool shape_is(const struct gw_shape *shape, const struct gw_layout_rank *ranks, uint32_t n)
{
    if (shape->ranks_len != n) return false;
    for (uint32_t i = 0; i < n; i++)
        if (!gw_rect_equal(shape->ranks[i].cells, ranks[i].cells)) return false;
    return true;
}

const struct gw_shape *search_given_shape(struct search *s, const struct gw_layout_rank *ranks, uint32_t n)
{
    uint32_t devices[GW_SHAPE_RANKS_MAX];
    uint64_t key[GW_SHAPE_RANKS_MAX];
    struct gw_shape shape = {.ranks_len = (uint16_t)n, .stages = (uint16_t)(ranks[n - 1].stage + 1)};
    for (uint32_t i = 0; i < n; i++) {
        devices[i] = ranks[i].device;
        shape.ranks[i] = ranks[i];
        shape.ranks[i].device = i;
    }
    if (search_are_apart(s, devices, n)) return NULL;
    make_key(s, devices, n, key);
    for (uint32_t i = 0; i < s->given_len; i++)
        if (s->given[i]->n == n && memcmp(s->given[i]->key, key, n * sizeof *key) == 0 &&
            shape_is(&s->given[i]->set.shapes[0], ranks, n))
            return &s->given[i]->set.shapes[0];
    if (s->given_len == SEARCH_GIVEN_MAX || s->budget == 0) return NULL;
    s->budget--;
    if (!gw_cost_pipeline(s->in, s->headroom, ranks, n, &shape.cost)) return NULL;
    struct search_list *list = list_create(key, n, &shape, 1);
    if (!list) return NULL;
    s->given[s->given_len++] = list;
    return &list->set.shapes[0];
}

void search_lists_free(struct search *s)
{
    for (uint32_t i = 0; i < s->given_len; i++) free(s->given[i]);
    for (uint32_t i = 0; s->lists && i < SLOTS; i++) free(s->lists[i]);
    free(s->lists);
    s->lists = NULL;
}
