#include "worker/part.h"

#include <string.h>

static uint32_t entries_of(const struct gw_pick_want *want, const struct gw_part_of *of)
{
    uint32_t n = want->keep ? want->keep : 1;
    return n < of->columns ? n : of->columns;
}

static uint32_t top_of(const struct gw_pick_want *want, const struct gw_part_of *of)
{
    return want->top < of->columns ? want->top : of->columns;
}

size_t gw_part_words(const struct gw_pick_want *want, const struct gw_part_of *of)
{
    return 3 * (size_t)entries_of(want, of) + 2 * (size_t)top_of(want, of) +
           2 * (size_t)of->shares * ((want->weights ? 1 : 0) + (want->stats ? 1 : 0));
}

static float *put_sums(const struct gw_pick_sum *sums, uint32_t shares, float *to)
{
    memcpy(to, sums, shares * sizeof *sums);
    return to + 2 * (size_t)shares;
}

void gw_part_put(const struct gw_pick_part *part, const struct gw_pick_want *want,
                 const struct gw_part_of *of, float *to)
{
    static const uint32_t none = UINT32_MAX;
    uint32_t n = entries_of(want, of), t = top_of(want, of);
    memset(to, 0, (3 * (size_t)n + 2 * (size_t)t) * sizeof *to);
    for (uint32_t i = 0; i < n; i++, to += 3) {
        memcpy(to, i < part->entries_len ? &part->entries[i].id : &none, sizeof none);
        if (i >= part->entries_len) continue;
        to[1] = part->entries[i].logit;
        to[2] = part->entries[i].raw;
    }
    for (uint32_t i = 0; i < t; i++, to += 2) {
        memcpy(to, i < part->top_len ? &part->top[i].id : &none, sizeof none);
        if (i < part->top_len) to[1] = part->top[i].raw;
    }
    if (want->weights) to = put_sums(part->weights, of->shares, to);
    if (want->stats) put_sums(part->stats, of->shares, to);
}

/* False: this and those that follow are none. */
static bool get_id(const float *from, uint32_t *id)
{
    memcpy(id, from, sizeof *id);
    return *id != UINT32_MAX;
}

static bool get_entries(const float *from, uint32_t n, const struct gw_part_of *of, struct gw_pick_part *part)
{
    for (uint32_t i = 0; i < n; i++, from += 3) {
        struct gw_pick_entry *e = &part->entries[i];
        if (!get_id(from, &e->id)) break;
        if (e->id - of->first >= of->columns) return false;
        e->logit = from[1];
        e->raw = from[2];
        part->entries_len++;
    }
    return true;
}

static bool get_top(const float *from, uint32_t n, const struct gw_part_of *of, struct gw_pick_part *part)
{
    for (uint32_t i = 0; i < n; i++, from += 2) {
        struct gw_pick_entry *e = &part->top[i];
        if (!get_id(from, &e->id)) break;
        if (e->id - of->first >= of->columns) return false;
        e->logit = e->raw = from[1];
        part->top_len++;
    }
    return true;
}

bool gw_part_get(const float *from, const struct gw_pick_want *want, const struct gw_part_of *of,
                 struct gw_pick_part *part)
{
    uint32_t n = entries_of(want, of), t = top_of(want, of);
    part->entries_len = part->top_len = 0;
    part->shares = of->shares;
    if (!get_entries(from, n, of, part) || !get_top(from + 3 * (size_t)n, t, of, part)) return false;
    part->all = want->keep == 0 || part->entries_len < n || n == of->columns;
    from += 3 * (size_t)n + 2 * (size_t)t;
    size_t sums_bytes = of->shares * sizeof *part->weights;
    if (want->weights) {
        memcpy(part->weights, from, sums_bytes);
        from += 2 * (size_t)of->shares;
    }
    if (want->stats) memcpy(part->stats, from, sums_bytes);
    return true;
}
