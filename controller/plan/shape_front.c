#include <math.h>
#include <string.h>

#include "controller/plan/shape_internal.h"

/* Load factors at which a thorough search compares: dense where queues begin to show. */
static const double grid[] = {0, 0.05, 0.15, 0.3, 0.5, 0.7, 0.8, 0.88, 0.94};
#define GRID  (sizeof grid / sizeof *grid)
#define RATES 3
_Static_assert(2 * GRID + 1 + RATES + 1 <= SHAPING_VALUES,
               "room for TTFT and TPOT at each, the capacity, and all rates");

/* Seconds at no load, at the fair part of the arrivals, at all of them; 1 / capacity. At the same rates, for at the same load
 * factor the shape with less capacity would have less to do. */
static uint32_t rate_values(const struct shaping *s, double *value)
{
    const struct gw_pipe_cost *c = &s->now.cost;
    const double rates[RATES] = {0, s->fair_rps, s->in->load->arrival_rps};
    uint32_t n = 0;
    for (; n < sizeof rates / sizeof *rates; n++) {
        double rho = rates[n] / c->capacity_rps;
        value[n] = rho <= GW_COST_RHO_MAX ? gw_cost_promise(c, s->in->load, rho).latency_p99_s : INFINITY;
    }
    value[n++] = 1 / c->capacity_rps;
    return n;
}

/* Seconds over the grid; 1 / capacity. Pipelines of a layout share its load factor, whatever that comes to be. */
static uint32_t grid_values(const struct shaping *s, double *value)
{
    const struct gw_plan_load *l = s->in->load;
    uint32_t n = 0, points = l->arrival_rps > 0 ? GRID : 1;
    for (uint32_t i = 0; i < points; i++) {
        struct gw_pipe_promise p = gw_cost_promise(&s->now.cost, l, grid[i]);
        if (l->slo_ttft_s > 0 || l->slo_tpot_s > 0) {
            value[n++] = p.ttft_p99_s;
            value[n++] = p.tpot_s;
        } else
            value[n++] = p.latency_p99_s;
    }
    value[n++] = 1 / s->now.cost.capacity_rps;
    return n;
}

static bool as_good(const struct shaping *s, const struct kept *a, const struct kept *b)
{
    for (uint32_t i = 0; i < s->values; i++)
        if (a->value[i] > b->value[i]) return false;
    return true;
}

/* Is it the (first) best one in a value? */
static bool is_best(const struct shaping *s, uint32_t at)
{
    for (uint32_t i = 0; i < s->values; i++) {
        double v = s->kept_as[at].value[i];
        bool best = isfinite(v);
        for (uint32_t j = 0; j < s->kept->len && best; j++)
            best = j == at || (j < at ? v < s->kept_as[j].value[i] : v <= s->kept_as[j].value[i]);
        if (best) return true;
    }
    return false;
}

static void forget(struct shaping *s, uint32_t at)
{
    uint32_t behind = --s->kept->len - at;
    memmove(&s->kept_as[at], &s->kept_as[at + 1], behind * sizeof *s->kept_as);
    memmove(&s->kept->shapes[at], &s->kept->shapes[at + 1], behind * sizeof *s->kept->shapes);
}

/* Those that are best in nothing go: all of them, or (thorough) only as many as there is no room for. */
static void thin(struct shaping *s)
{
    for (uint32_t i = s->kept->len; i-- > 0;) {
        if (s->thorough && s->kept->len <= GW_SHAPES_KEPT) return;
        if (!is_best(s, i)) forget(s, i);
    }
}

void shaping_keep(struct shaping *s)
{
    struct kept *new = &s->kept_as[s->kept->len];
    s->values = s->thorough ? grid_values(s, new->value) : 0;
    s->values +=
        rate_values(s, &new->value[s->values]); /* thorough, too: a batch grows by whole requests, in steps */
    for (uint32_t i = 0; i < s->kept->len; i++)
        if (as_good(s, &s->kept_as[i], new)) return;
    new->explored = false;
    s->kept->shapes[s->kept->len] = s->now;
    for (uint32_t i = s->kept->len++; i-- > 0;)
        if (as_good(s, &s->kept_as[s->kept->len - 1], &s->kept_as[i])) forget(s, i);
    thin(s);
}
