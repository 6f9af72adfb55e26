#include "controller/plan/search_internal.h"

#define CHUNKED 12 /* fleets of so many devices are cut into 1, 2, … equal parts, whatever their classes */

struct small {
    struct search *s;
    struct solution *work;
    void (*found)(void *arg, const struct solution *sol);
    void *arg;
    uint32_t
        alike[GW_SEARCH_SMALL]; /* per device (by position): the devices before it that may stand in for it */
};

/* Sets of devices are bits by position. */
static uint32_t list_of(const struct search *s, uint32_t set, uint32_t *devices)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < GW_SEARCH_SMALL; i++)
        if (set >> i & 1) devices[n++] = s->order[i];
    return n;
}

/* Half of the budget, the short lists first: what they leave goes to the longer ones. The rest is for what is made of them. */
void search_small_lists(struct search *s)
{
    uint32_t usable = s->classes.usable, devices[GW_SEARCH_SMALL];
    uint64_t rest = s->budget / 2;
    if (usable > GW_SEARCH_SMALL) return;
    uint32_t left = (1u << usable) - 1;
    for (uint32_t n = 1; n <= usable; n++)
        for (uint32_t set = 1; set < 1u << usable; set++) {
            if ((uint32_t)__builtin_popcount(set) != n) continue;
            s->thorough = s->budget > rest ? (s->budget - rest) / left : 0;
            left--;
            (void)search_shapes(s, devices, list_of(s, set, devices));
        }
    s->thorough = 0;
}

static void hand_out(struct small *m)
{
    solution_score(m->s, m->work);
    if (m->work->len) m->found(m->arg, m->work);
}

/* The order of devices, less one class (or none), cut into equal parts across classes. */
static void seed_chunks(struct small *m, uint32_t without)
{
    struct search *s = m->s;
    uint32_t order[CHUNKED], n = 0;
    for (uint32_t i = 0; i < s->classes.usable; i++)
        if (s->classes.class_of[s->in->fleet->devices[s->order[i]].instance] != without)
            order[n++] = s->order[i];
    for (uint32_t parts = 1; parts <= n; parts++) {
        solution_clear(s, m->work);
        for (uint32_t i = 0; i < parts; i++) {
            uint32_t begin = i * n / parts, end = (i + 1) * n / parts;
            const struct shapes *set = search_shapes(s, &order[begin], end - begin);
            if (set) solution_add(s, m->work, &set->shapes[0], &order[begin], end - begin);
        }
        hand_out(m);
    }
}

/* May one stand in for the other in any list? Of one instance; or alone in instances of one class. */
static bool are_alike(const struct search *s, uint32_t a, uint32_t b)
{
    const struct gw_plan_fleet *f = s->in->fleet;
    uint32_t x = f->devices[s->order[a]].instance, y = f->devices[s->order[b]].instance;
    return search_are_equal(s, s->order[a], s->order[b]) && (x == y || f->instances[x].devices == 1);
}

static void find_alike(struct small *m)
{
    for (uint32_t i = 0; i < m->s->classes.usable; i++)
        for (uint32_t j = 0; j < i; j++)
            if (are_alike(m->s, i, j)) m->alike[i] |= 1u << j;
}

/* Of those alike the first ones are in the part: others would give the same again. */
static bool takes_first(const struct small *m, uint32_t part, uint32_t left)
{
    for (uint32_t i = 0; i < GW_SEARCH_SMALL; i++)
        if (part >> i & 1 && m->alike[i] & left & ~part) return false;
    return true;
}

/* Every way to deal the devices of `left` to pipelines and to nothing, in every shape that was kept. */
static void seed_partitions(struct small *m, uint32_t left)
{
    if (left == 0) {
        hand_out(m);
        return;
    }
    uint32_t first = left & -left, idle = first;
    for (uint32_t i = 0; i < GW_SEARCH_SMALL; i++)
        if (m->alike[i] & first) idle |= 1u << i; /* if it is idle, so are those alike */
    seed_partitions(m, left & ~idle);
    for (uint32_t part = left; part && m->s->budget; part = (part - 1) & left) {
        uint32_t devices[GW_SEARCH_SMALL], n = list_of(m->s, part, devices);
        if (!(part & first) || !takes_first(m, part, left)) continue;
        const struct shapes *set = search_shapes(m->s, devices, n);
        for (uint32_t i = 0; set && i < set->len; i++) {
            solution_add(m->s, m->work, &set->shapes[i], devices, n);
            seed_partitions(m, left & ~part);
            solution_pop(m->work);
        }
    }
}

void search_small_seeds(struct search *s, struct solution *work,
                        void (*found)(void *arg, const struct solution *sol), void *arg)
{
    struct small m = {.s = s, .work = work, .found = found, .arg = arg};
    uint32_t n = s->classes.usable;
    if (n <= GW_SEARCH_SMALL) {
        find_alike(&m);
        solution_clear(s, work);
        seed_partitions(&m, (1u << n) - 1);
    } else if (n <= CHUNKED) {
        seed_chunks(&m, GW_PLAN_NONE);
        for (uint32_t c = 0; c < s->classes.len; c++) seed_chunks(&m, c);
    }
}
