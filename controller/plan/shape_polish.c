#include "controller/plan/shape_internal.h"

#define POLISH_ROUNDS 128 /* shapes looked around */

/* Moves one share from rank a to rank b of its stage. False if that is no shape. */
static bool shift_share(struct shaping *s, uint32_t a, uint32_t b)
{
    struct gw_layout_rank *r = s->now.ranks;
    if (r[a].stage != r[b].stage || r[a].cells.s1 - r[a].cells.s0 < 2) return false;
    uint32_t first = a < b ? a : b, last = a < b ? b : a;
    int by = a < b ? -1 : 1; /* the cuts between them move */
    for (uint32_t i = first; i < last; i++) {
        r[i].cells.s1 = (uint16_t)(r[i].cells.s1 + by);
        r[i + 1].cells.s0 = (uint16_t)(r[i + 1].cells.s0 + by);
    }
    return true;
}

/* Moves one group from stage a to stage b. */
static bool shift_group(struct shaping *s, uint32_t a, uint32_t b)
{
    uint16_t groups[GW_SHAPE_RANKS_MAX] = {0};
    for (uint32_t i = 0; i < s->now.ranks_len; i++)
        groups[s->now.ranks[i].stage] = (uint16_t)(s->now.ranks[i].cells.g1 - s->now.ranks[i].cells.g0);
    if (groups[a] < 2) return false;
    groups[a]--;
    groups[b]++;
    shaping_set_groups(s, groups);
    return true;
}

static bool zones_hold(const struct shaping *s)
{
    const struct gw_layout_rank *r = s->now.ranks;
    for (uint32_t i = 1; i < s->now.ranks_len; i++)
        if (r[i].stage == r[i - 1].stage && shaping_zone(s, r[i].device) != shaping_zone(s, r[i - 1].device))
            return false;
    return true;
}

static bool exchange(struct shaping *s, uint32_t a, uint32_t b)
{
    uint32_t device = s->now.ranks[a].device;
    if (a >= b || s->alike[device] == s->alike[s->now.ranks[b].device]) return false;
    s->now.ranks[a].device = s->now.ranks[b].device;
    s->now.ranks[b].device = device;
    return zones_hold(s);
}

/* Ranks a < b of a stage change places with their widths: others send to the next stage then, and sums are cut otherwise. */
static bool reorder(struct shaping *s, uint32_t a, uint32_t b)
{
    struct gw_layout_rank *r = s->now.ranks;
    if (a >= b || r[a].stage != r[b].stage) return false;
    uint32_t device = r[a].device;
    int by = (r[b].cells.s1 - r[b].cells.s0) - (r[a].cells.s1 - r[a].cells.s0);
    if (by == 0) return false; /* that is an exchange */
    r[a].device = r[b].device;
    r[b].device = device;
    for (uint32_t i = a; i < b; i++) { /* the cuts between them move */
        r[i].cells.s1 = (uint16_t)(r[i].cells.s1 + by);
        r[i + 1].cells.s0 = (uint16_t)(r[i + 1].cells.s0 + by);
    }
    return true;
}

/* One round of all steps from one shape. */
static void step_from(struct shaping *s, const struct gw_shape *shape)
{
    const struct gw_shape from = *shape; /* it may be forgotten on the way */
    for (uint32_t a = 0; a < from.ranks_len; a++)
        for (uint32_t b = 0; b < from.ranks_len; b++) {
            if (a == b) continue;
            s->now = from;
            if (shift_share(s, a, b)) shaping_evaluate(s);
            s->now = from;
            if (exchange(s, a, b)) shaping_evaluate(s);
            s->now = from;
            if (reorder(s, a, b)) shaping_evaluate(s);
        }
    for (uint32_t a = 0; a < from.stages; a++)
        for (uint32_t b = 0; b < from.stages; b++) {
            s->now = from;
            if (a != b && shift_group(s, a, b)) shaping_evaluate(s);
        }
}

void shaping_polish(struct shaping *s)
{
    if (s->n > GW_SHAPE_POLISHED || (s->uniform && s->n > GW_SHAPE_FULL && !s->thorough)) return;
    for (uint32_t round = 0; round < POLISH_ROUNDS; round++) {
        uint32_t at = 0;
        while (at < s->kept->len && s->kept_as[at].explored) at++;
        if (at == s->kept->len) return;
        s->kept_as[at].explored = true;
        step_from(s, &s->kept->shapes[at]);
    }
}
