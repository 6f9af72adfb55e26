#include "controller/plan/search_internal.h"

#include <stdlib.h>
#include <string.h>

gw_err_t solution_init(const struct search *s, struct solution *sol)
{
    uint32_t cap = s->classes.usable + 1;
    *sol = (struct solution){.cap = cap,
                             .pipes = malloc(cap * sizeof *sol->pipes),
                             .kinds = malloc(cap * sizeof *sol->kinds),
                             .pipe_of = malloc((s->in->fleet->devices_len + 1) * sizeof *sol->pipe_of)};
    if (!sol->pipes || !sol->kinds || !sol->pipe_of) return GW_ERR_MEMORY;
    solution_clear(s, sol);
    return GW_OK;
}

void solution_fini(struct solution *sol)
{
    free(sol->pipes);
    free(sol->kinds);
    free(sol->pipe_of);
    *sol = (struct solution){0};
}

void solution_clear(const struct search *s, struct solution *sol)
{
    memset(sol->pipe_of, 0xff, s->in->fleet->devices_len * sizeof *sol->pipe_of);
    sol->len = sol->kinds_len = 0;
    sol->score = (struct gw_score){0};
}

void solution_copy(const struct search *s, struct solution *to, const struct solution *from)
{
    memcpy(to->pipes, from->pipes, from->len * sizeof *to->pipes);
    memcpy(to->kinds, from->kinds, from->kinds_len * sizeof *to->kinds);
    memcpy(to->pipe_of, from->pipe_of, s->in->fleet->devices_len * sizeof *to->pipe_of);
    to->len = from->len;
    to->kinds_len = from->kinds_len;
    to->score = from->score;
}

static void count_kind(struct solution *sol, const struct gw_shape *shape, int by)
{
    uint32_t i = 0;
    while (i < sol->kinds_len && sol->kinds[i].shape != shape) i++;
    if (i == sol->kinds_len) sol->kinds[sol->kinds_len++] = (struct kind){shape, 0};
    sol->kinds[i].count = (uint32_t)((int)sol->kinds[i].count + by);
    if (sol->kinds[i].count == 0) sol->kinds[i] = sol->kinds[--sol->kinds_len];
}

/* Adds `by` to the count of a shape in the scratch of a search; returns the new number of kinds. */
static uint32_t count_scratch(struct search *s, uint32_t len, const struct gw_shape *shape, int by)
{
    uint32_t i = 0;
    while (i < len && s->costs[i] != &shape->cost) i++;
    if (i == len) {
        s->costs[len] = &shape->cost;
        s->counts[len++] = 0;
    }
    s->counts[i] = (uint32_t)((int)s->counts[i] + by);
    return len;
}

struct gw_score solution_try(struct search *s, const struct solution *sol, const struct change *c)
{
    uint32_t len = sol->kinds_len;
    if (s->budget) s->budget--;
    for (uint32_t i = 0; i < len; i++) {
        s->costs[i] = &sol->kinds[i].shape->cost;
        s->counts[i] = sol->kinds[i].count;
    }
    for (uint32_t i = 0; i < c->out_len; i++) len = count_scratch(s, len, sol->pipes[c->out[i]].shape, -1);
    for (uint32_t i = 0; i < c->in_len; i++) len = count_scratch(s, len, c->in[i].shape, 1);
    return gw_cost_score(s->in, s->costs, s->counts, len);
}

static void own(struct solution *sol, const struct pipe *p, uint32_t owner)
{
    for (uint32_t i = 0; i < p->n; i++) sol->pipe_of[p->devices[i]] = owner;
}

static void put(struct solution *sol, const struct pipe *p)
{
    sol->pipes[sol->len] = *p;
    own(sol, p, sol->len++);
    count_kind(sol, p->shape, 1);
}

static void take(struct solution *sol, uint32_t at)
{
    count_kind(sol, sol->pipes[at].shape, -1);
    own(sol, &sol->pipes[at], GW_PLAN_NONE);
    if (at != --sol->len) {
        sol->pipes[at] = sol->pipes[sol->len];
        own(sol, &sol->pipes[at], at);
    }
}

void solution_pop(struct solution *sol)
{
    take(sol, sol->len - 1);
}

void solution_apply(struct search *s, struct solution *sol, const struct change *c)
{
    sol->score = solution_try(s, sol, c);
    /* the higher index first: taking one moves the last pipeline into its place */
    if (c->out_len == 2) take(sol, c->out[0] > c->out[1] ? c->out[0] : c->out[1]);
    if (c->out_len) take(sol, c->out_len == 2 && c->out[1] < c->out[0] ? c->out[1] : c->out[0]);
    for (uint32_t i = 0; i < c->in_len; i++) put(sol, &c->in[i]);
}

void solution_add(struct search *s, struct solution *sol, const struct gw_shape *shape,
                  const uint32_t *devices, uint32_t n)
{
    (void)s;
    struct pipe p = {.shape = shape, .n = n};
    memcpy(p.devices, devices, n * sizeof *devices);
    put(sol, &p);
}

void solution_score(struct search *s, struct solution *sol)
{
    sol->score = solution_try(s, sol, &(struct change){0});
}

/* Pipelines in the order of their first devices, so that equal solutions give equal layouts. */
static int by_first_device(const void *a, const void *b)
{
    const struct pipe *x = *(const struct pipe *const *)a, *y = *(const struct pipe *const *)b;
    return x->devices[0] < y->devices[0] ? -1 : x->devices[0] > y->devices[0];
}

gw_err_t solution_layout(const struct solution *sol, struct gw_layout *out)
{
    uint32_t ranks = 0;
    for (uint32_t i = 0; i < sol->len; i++) ranks += sol->pipes[i].shape->ranks_len;
    struct gw_layout l = {.ranks = calloc(ranks + 1, sizeof *l.ranks), .pipelines = sol->len};
    const struct pipe **sorted = malloc((sol->len + 1) * sizeof *sorted);
    if (!l.ranks || !sorted) {
        free(l.ranks);
        free(sorted);
        return GW_ERR_MEMORY;
    }
    for (uint32_t i = 0; i < sol->len; i++) sorted[i] = &sol->pipes[i];
    qsort(sorted, sol->len, sizeof *sorted, by_first_device);
    for (uint32_t i = 0; i < sol->len; i++)
        for (uint32_t r = 0; r < sorted[i]->shape->ranks_len; r++) {
            struct gw_layout_rank *rank = &l.ranks[l.ranks_len++];
            *rank = sorted[i]->shape->ranks[r];
            rank->device = sorted[i]->devices[rank->device];
            rank->pipeline = i;
        }
    free(sorted);
    *out = l;
    return GW_OK;
}
