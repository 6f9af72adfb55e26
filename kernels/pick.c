#include "kernels/pick.h"

#include <math.h>

#include "kernels/vmath.h"

/* The element of an id, NULL outside the columns. */
static float *element(float *x, uint32_t first, uint32_t columns, uint32_t id)
{
    return id - first < columns ? &x[id - first] : NULL;
}

/* The edits of all lists are numbered one list after another. */
static uint32_t edit_id(const struct gw_pick_edits *e, uint32_t at)
{
    if (at < e->added_len) return e->added[at].id;
    at -= e->added_len;
    if (at < e->repeated_len) return e->repeated[at];
    at -= e->repeated_len;
    if (at < e->taken_len) return e->taken[at].id;
    return e->masked[at - e->taken_len];
}

static float edited(const struct gw_pick_edits *e, uint32_t at, float x)
{
    if (at < e->added_len) return x + e->added[at].value;
    at -= e->added_len;
    if (at < e->repeated_len) return gw_pick_repeated(x, e->repetition);
    at -= e->repeated_len;
    if (at < e->taken_len) return x - e->taken[at].value;
    return -INFINITY;
}

void gw_pick_edit(float *x, uint32_t first, uint32_t columns, const struct gw_pick_edits *e, float *kept)
{
    uint32_t len = gw_pick_edits_len(e);
    for (uint32_t i = 0; i < len; i++) {
        float *to = element(x, first, columns, edit_id(e, i));
        if (!to) continue;
        if (kept) kept[i] = *to;
        *to = edited(e, i, *to);
    }
}

void gw_pick_undo(float *x, uint32_t first, uint32_t columns, const struct gw_pick_edits *e,
                  const float *kept)
{
    for (uint32_t i = gw_pick_edits_len(e); i-- > 0;) { /* an id may have been edited more than once */
        float *to = element(x, first, columns, edit_id(e, i));
        if (to) *to = kept[i];
    }
}

static struct gw_pick_sum merge(struct gw_pick_sum a, struct gw_pick_sum b, float inverse)
{
    float max = a.max > b.max ? a.max : b.max;
    float sum_b = b.sum * gw_expf((b.max - max) * inverse);
    return (struct gw_pick_sum){.max = max, .sum = fmaf(a.sum, gw_expf((a.max - max) * inverse), sum_b)};
}

struct gw_pick_sum gw_pick_tree(struct gw_pick_sum *sums, uint32_t shares, float inverse)
{
    for (uint32_t step = 1; step < shares; step *= 2)
        for (uint32_t i = 0; i + step < shares; i += 2 * step)
            sums[i] = merge(sums[i], sums[i + step], inverse);
    return sums[0];
}
