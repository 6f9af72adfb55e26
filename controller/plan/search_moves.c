#include "controller/plan/search_internal.h"

#include <string.h>

#define REPS_MAX  48 /* pipelines looked at per sweep, one per shape: pairs of them are what a sweep costs */
#define IDLE_MAX  32 /* kinds of idle devices looked at */
#define IDLE_SEEN 4 /* the last of these are not taken again: kinds take turns where instances have several */
#define SPLIT_ALL 8 /* pipelines of up to so many devices are split at every place */

struct moves {
    struct search *s;
    struct solution *sol;
    uint64_t reserve;
    uint32_t reps[REPS_MAX], reps_len;
    uint32_t idle[IDLE_MAX], idle_len; /* the first idle device of those that are equal */
};

static bool spent(const struct moves *m)
{
    return m->s->budget <= m->reserve;
}

static bool are_equal(const struct moves *m, uint32_t device_a, uint32_t device_b)
{
    return search_are_equal(m->s, device_a, device_b);
}

static uint32_t profile_of(const struct moves *m, uint32_t device)
{
    const struct gw_plan_fleet *f = m->s->in->fleet;
    return f->types[f->devices[device].type].profile;
}

static void find_reps(struct moves *m)
{
    m->reps_len = 0;
    for (uint32_t i = 0; i < m->sol->len && m->reps_len < REPS_MAX; i++) {
        bool seen = false;
        for (uint32_t j = 0; j < m->reps_len && !seen; j++)
            seen = m->sol->pipes[m->reps[j]].shape == m->sol->pipes[i].shape &&
                   are_equal(m, m->sol->pipes[m->reps[j]].devices[0], m->sol->pipes[i].devices[0]);
        if (!seen) m->reps[m->reps_len++] = i;
    }
}

static bool is_seen(const struct moves *m, uint32_t device)
{
    uint32_t from = m->idle_len > IDLE_SEEN ? m->idle_len - IDLE_SEEN : 0;
    for (uint32_t i = from; i < m->idle_len; i++)
        if (are_equal(m, m->idle[i], device)) return true;
    return false;
}

static void find_idle(struct moves *m)
{
    m->idle_len = 0;
    for (uint32_t i = 0; i < m->s->classes.usable && m->idle_len < IDLE_MAX; i++) {
        uint32_t d = m->s->order[i];
        if (m->sol->pipe_of[d] == GW_PLAN_NONE && !is_seen(m, d)) m->idle[m->idle_len++] = d;
    }
}

/* Gives `p`, the last of c's incoming pipelines, its best shape, those before it having theirs; false if none improves. */
static bool try_last(struct moves *m, struct change *c, struct pipe *p)
{
    const struct shapes *set = search_shapes(m->s, p->devices, p->n);
    const struct gw_shape *best = NULL;
    struct gw_score best_score = m->sol->score;
    for (uint32_t i = 0; set && i < set->len; i++) {
        p->shape = &set->shapes[i];
        struct gw_score score = solution_try(m->s, m->sol, c);
        if (gw_score_compare(&score, &best_score) <= 0) continue;
        best_score = score;
        best = p->shape;
    }
    p->shape = best;
    return best;
}

/* Gives c's incoming pipelines (one or two) shapes that improve the solution; false if there are none. */
static bool try_shapes(struct moves *m, struct change *c)
{
    for (uint32_t i = 0; i < c->in_len; i++) search_sort(m->s, c->in[i].devices, c->in[i].n);
    if (c->in_len == 1) return try_last(m, c, &c->in[0]);
    const struct shapes *set = search_shapes(m->s, c->in[0].devices, c->in[0].n);
    for (uint32_t i = 0; set && i < set->len; i++) {
        c->in[0].shape = &set->shapes[i];
        if (try_last(m, c, &c->in[1])) return true;
    }
    return false;
}

/* Does c (its shapes still open) improve the solution? If so it is done. */
static bool attempt(struct moves *m, struct change *c)
{
    if (spent(m)) return false;
    for (uint32_t i = 0; i < c->in_len; i++)
        if (c->in[i].n < 1 || c->in[i].n > GW_SHAPE_RANKS_MAX) return false;
    if (c->in_len) {
        if (!try_shapes(m, c)) return false;
    } else {
        struct gw_score score = solution_try(m->s, m->sol, c);
        if (gw_score_compare(&score, &m->sol->score) <= 0) return false;
    }
    solution_apply(m->s, m->sol, c);
    return true;
}

static void append(struct pipe *p, const uint32_t *devices, uint32_t n)
{
    if (p->n + n > GW_SHAPE_RANKS_MAX) {
        p->n = UINT16_MAX; /* too long: attempt refuses it */
        return;
    }
    memcpy(p->devices + p->n, devices, n * sizeof *devices);
    p->n += n;
}

static void append_but(struct pipe *p, const struct pipe *from, uint32_t without)
{
    for (uint32_t i = 0; i < from->n; i++)
        if (i != without) append(p, &from->devices[i], 1);
}

/* Of equal devices the last one in p is tried, once. */
static bool is_last_of_equals(const struct moves *m, const struct pipe *p, uint32_t i)
{
    for (uint32_t j = i + 1; j < p->n; j++)
        if (are_equal(m, p->devices[j], p->devices[i])) return false;
    return true;
}

/* ---- moves of one pipeline ---- */

static bool move_drop(struct moves *m, uint32_t at)
{
    struct change c = {.out = {at}, .out_len = 1};
    if (attempt(m, &c)) return true;
    const struct pipe p = m->sol->pipes[at];
    for (uint32_t i = 0; p.n > 1 && i < p.n; i++) {
        if (!is_last_of_equals(m, &p, i)) continue;
        c = (struct change){.out = {at}, .out_len = 1, .in_len = 1};
        append_but(&c.in[0], &p, i);
        if (attempt(m, &c)) return true;
    }
    return false;
}

static bool move_reshape(struct moves *m, uint32_t at)
{
    struct change c = {.out = {at}, .out_len = 1, .in_len = 1};
    append(&c.in[0], m->sol->pipes[at].devices, m->sol->pipes[at].n);
    return attempt(m, &c);
}

static bool move_split(struct moves *m, uint32_t at)
{
    const struct pipe p = m->sol->pipes[at];
    uint32_t step = p.n <= SPLIT_ALL ? 1 : (p.n + 3) / 4;
    for (uint32_t i = step; i < p.n; i += step) {
        struct change c = {.out = {at}, .out_len = 1, .in_len = 2};
        append(&c.in[0], p.devices, i);
        append(&c.in[1], p.devices + i, p.n - i);
        if (attempt(m, &c)) return true;
    }
    return false;
}

/* Idle devices of the instance and profile of d, at most n, from d on. */
static void append_idle(const struct moves *m, struct pipe *p, uint32_t d, uint32_t n)
{
    const struct gw_plan_device *devices = m->s->in->fleet->devices;
    for (uint32_t at = m->s->classes.position[d]; n > 0 && at < m->s->classes.usable; at++) {
        uint32_t other = m->s->order[at];
        if (devices[other].instance != devices[d].instance) return;
        if (m->sol->pipe_of[other] != GW_PLAN_NONE || profile_of(m, other) != profile_of(m, d)) continue;
        append(p, &other, 1);
        n--;
    }
}

static bool move_grow(struct moves *m, uint32_t at)
{
    const struct pipe p = m->sol->pipes[at];
    for (uint32_t i = 0; i < m->idle_len; i++)
        for (uint32_t n = 1; n <= GW_SHAPE_RANKS_MAX; n = n == 1 ? GW_SHAPE_RANKS_MAX : n + 1) {
            struct change c = {.out = {at}, .out_len = 1, .in_len = 1};
            append(&c.in[0], p.devices, p.n);
            append_idle(m, &c.in[0], m->idle[i], n);
            if (attempt(m, &c)) return true;
        }
    return false;
}

/* One device against an idle one that is not equal. */
static bool move_exchange(struct moves *m, uint32_t at)
{
    const struct pipe p = m->sol->pipes[at];
    for (uint32_t i = 0; i < m->idle_len; i++)
        for (uint32_t j = 0; j < p.n; j++) {
            if (are_equal(m, p.devices[j], m->idle[i]) || !is_last_of_equals(m, &p, j)) continue;
            struct change c = {.out = {at}, .out_len = 1, .in_len = 1};
            append_but(&c.in[0], &p, j);
            append(&c.in[0], &m->idle[i], 1);
            if (attempt(m, &c)) return true;
        }
    return false;
}

/* ---- moves of two pipelines ---- */

static bool move_merge(struct moves *m, uint32_t a, uint32_t b)
{
    struct change c = {.out = {a, b}, .out_len = 2, .in_len = 1};
    append(&c.in[0], m->sol->pipes[a].devices, m->sol->pipes[a].n);
    append(&c.in[0], m->sol->pipes[b].devices, m->sol->pipes[b].n);
    return attempt(m, &c);
}

static bool move_across(struct moves *m, uint32_t a, uint32_t b)
{
    const struct pipe from = m->sol->pipes[a], to = m->sol->pipes[b];
    for (uint32_t i = 0; from.n > 1 && i < from.n; i++) {
        if (!is_last_of_equals(m, &from, i)) continue;
        struct change c = {.out = {a, b}, .out_len = 2, .in_len = 2};
        append_but(&c.in[0], &from, i);
        append(&c.in[1], to.devices, to.n);
        append(&c.in[1], &from.devices[i], 1);
        if (attempt(m, &c)) return true;
    }
    return false;
}

static bool move_swap(struct moves *m, uint32_t a, uint32_t b)
{
    const struct pipe p = m->sol->pipes[a], q = m->sol->pipes[b];
    for (uint32_t i = 0; i < p.n; i++)
        for (uint32_t j = 0; j < q.n; j++) {
            if (are_equal(m, p.devices[i], q.devices[j])) continue;
            if (!is_last_of_equals(m, &p, i) || !is_last_of_equals(m, &q, j)) continue;
            struct change c = {.out = {a, b}, .out_len = 2, .in_len = 2};
            append_but(&c.in[0], &p, i);
            append(&c.in[0], &q.devices[j], 1);
            append_but(&c.in[1], &q, j);
            append(&c.in[1], &p.devices[i], 1);
            if (attempt(m, &c)) return true;
        }
    return false;
}

/* A second pipeline like `at` to pair it with; GW_PLAN_NONE if it is the only one. */
static uint32_t twin_of(const struct moves *m, uint32_t at)
{
    for (uint32_t i = at + 1; i < m->sol->len; i++)
        if (m->sol->pipes[i].shape == m->sol->pipes[at].shape) return i;
    return GW_PLAN_NONE;
}

static bool move_pair(struct moves *m, uint32_t a, uint32_t b)
{
    return move_merge(m, a, b) || move_across(m, a, b) || move_across(m, b, a) || move_swap(m, a, b);
}

/* ---- moves of idle devices ---- */

/* Does the load need a pipeline of the device's profile, and there is none? */
static bool is_unserved(const struct moves *m, uint32_t device)
{
    uint32_t profile = profile_of(m, device);
    if (profile >= 64 || !(m->s->in->load->profiles >> profile & 1)) return false;
    for (uint32_t i = 0; i < m->sol->kinds_len; i++)
        if (m->sol->kinds[i].shape->cost.profile == profile) return false;
    return true;
}

/* A new pipeline of idle devices: 1, 2, … of those of its profile that follow the first one in the order, within its zone
 * (over all zones where nothing else will do). */
static bool move_new_from(struct moves *m, uint32_t first)
{
    const struct gw_plan_fleet *f = m->s->in->fleet;
    struct pipe p = {0};
    uint32_t zone = f->instances[f->devices[first].instance].zone;
    bool unserved = is_unserved(m, first);
    for (uint32_t at = m->s->classes.position[first]; at < m->s->classes.usable; at++) {
        uint32_t d = m->s->order[at];
        if (m->sol->pipe_of[d] != GW_PLAN_NONE || profile_of(m, d) != profile_of(m, first)) continue;
        if (p.n == GW_SHAPE_RANKS_MAX) return false;
        if (f->instances[f->devices[d].instance].zone != zone && !unserved) return false;
        append(&p, &d, 1);
        struct change c = {.in_len = 1, .in = {p}};
        if (attempt(m, &c)) return true;
    }
    return false;
}

static bool move_new(struct moves *m)
{
    for (uint32_t i = 0; i < m->idle_len; i++)
        if (move_new_from(m, m->idle[i])) return true;
    return false;
}

static bool sweep_one(struct moves *m)
{
    if (move_new(m)) return true;
    for (uint32_t i = 0; i < m->reps_len; i++) {
        uint32_t at = m->reps[i];
        if (move_grow(m, at) || move_drop(m, at) || move_split(m, at) || move_exchange(m, at) ||
            move_reshape(m, at))
            return true;
    }
    return false;
}

static bool sweep_pairs(struct moves *m)
{
    for (uint32_t i = 0; i < m->reps_len; i++) {
        uint32_t twin = twin_of(m, m->reps[i]);
        if (twin != GW_PLAN_NONE && move_pair(m, m->reps[i], twin)) return true;
        for (uint32_t j = i + 1; j < m->reps_len; j++)
            if (move_pair(m, m->reps[i], m->reps[j])) return true;
    }
    return false;
}

void search_improve(struct search *s, struct solution *sol, uint64_t reserve)
{
    struct moves m = {.s = s, .sol = sol, .reserve = reserve};
    do {
        find_reps(&m);
        find_idle(&m);
    } while (!spent(&m) && (sweep_one(&m) || sweep_pairs(&m)));
}
