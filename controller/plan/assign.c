#include "controller/plan/assign.h"

#include <assert.h>
#include <stdbool.h>

#define NONE GW_ASSIGN_MAX

/* Columns are 0 … n - 1; column NONE is where a row that is being added waits. */
struct state {
    const int64_t *value;
    uint32_t n;
    int64_t u[GW_ASSIGN_MAX], v[GW_ASSIGN_MAX + 1];
    uint32_t row_of[GW_ASSIGN_MAX + 1];
    uint32_t from[GW_ASSIGN_MAX]; /* the column before this one on the path */
    int64_t slack[GW_ASSIGN_MAX]; /* least reduced cost over the rows of the tree */
    bool in_tree[GW_ASSIGN_MAX + 1];
};

/* The cost is the value's negative: the least cost is the largest value. */
static int64_t reduced(const struct state *s, uint32_t row, uint32_t column)
{
    return -s->value[row * s->n + column] - s->u[row] - s->v[column];
}

/* Grows the tree by the row in `column`; returns the column outside of it with the least slack. */
static uint32_t nearest(struct state *s, uint32_t column, int64_t *delta)
{
    uint32_t best = NONE;
    for (uint32_t j = 0; j < s->n; j++) {
        if (s->in_tree[j]) continue;
        int64_t cost = reduced(s, s->row_of[column], j);
        if (cost < s->slack[j]) {
            s->slack[j] = cost;
            s->from[j] = column;
        }
        if (best == NONE || s->slack[j] < s->slack[best]) best = j;
    }
    assert(best != NONE); /* fewer rows than columns are in the tree */
    *delta = s->slack[best];
    return best;
}

static void shift_potentials(struct state *s, int64_t delta)
{
    s->u[s->row_of[NONE]] += delta;
    for (uint32_t j = 0; j < s->n; j++) {
        if (s->in_tree[j]) {
            s->u[s->row_of[j]] += delta;
            s->v[j] -= delta;
        } else {
            s->slack[j] -= delta;
        }
    }
}

static void add_row(struct state *s, uint32_t row)
{
    uint32_t column = NONE;
    s->row_of[NONE] = row;
    for (uint32_t j = 0; j < s->n; j++) {
        s->slack[j] = INT64_MAX;
        s->in_tree[j] = false;
    }
    do {
        int64_t delta;
        if (column != NONE) s->in_tree[column] = true;
        uint32_t next = nearest(s, column, &delta);
        shift_potentials(s, delta);
        column = next;
    } while (s->row_of[column] != NONE);
    while (column != NONE) { /* turn the path around */
        uint32_t before = s->from[column];
        s->row_of[column] = s->row_of[before];
        column = before;
    }
}

int64_t gw_assign(const int64_t *value, uint32_t n, uint32_t *column_of)
{
    struct state s = {.value = value, .n = n};
    int64_t sum = 0;
    assert(n <= GW_ASSIGN_MAX);
    for (uint32_t j = 0; j < n; j++) s.row_of[j] = NONE;
    for (uint32_t i = 0; i < n; i++) add_row(&s, i);
    for (uint32_t j = 0; j < n; j++) {
        column_of[s.row_of[j]] = j;
        sum += value[s.row_of[j] * n + j];
    }
    return sum;
}
