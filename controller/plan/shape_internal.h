/* Shared by the sources of the shape search (shape.h): its state, the dealing of shares and groups, the polish. */
#ifndef GW_CONTROLLER_PLAN_SHAPE_INTERNAL_H
#define GW_CONTROLLER_PLAN_SHAPE_INTERNAL_H

#include "controller/plan/shape.h"

enum balance { BY_BANDWIDTH, BY_MIX, BY_FLOPS, BY_MEMORY, BALANCES };

/* What the places are for. Shapes are compared at the same rate, for at the same load factor the one with less
 * capacity would have less to do. */
enum place {
    FAST_IDLE,
    FAST_FAIR,
    FAST_ALL,
    LARGEST
}; /* at no load, at its part of the arrivals, at all of them */
_Static_assert(LARGEST + 1 == GW_SHAPES_KEPT, "a place for each");

struct shaping {
    const struct gw_plan_input *in;
    double headroom;
    const uint32_t *devices;
    uint32_t n;
    bool all_widths;                   /* try every way to deal shares, not only balances */
    bool even;                         /* gw_plan_even */
    bool uniform;                      /* one type: all balances are the same */
    uint8_t alike[GW_SHAPE_RANKS_MAX]; /* per slot: the first slot whose device may stand in for it */
    uint64_t *budget;
    double rate[LARGEST];        /* per place: requests per second */
    double best[GW_SHAPES_KEPT]; /* per place: seconds, or 1 / capacity; 0 = empty */
    struct gw_shape kept[GW_SHAPES_KEPT];
    struct gw_shape now;
};

/* Devices dealt to stages: stage k has slot[begin[k]], … up to begin[k + 1]. */
struct cut {
    uint32_t stages, begin[GW_SHAPE_RANKS_MAX + 1];
    uint8_t slot[GW_SHAPE_RANKS_MAX];
};

static inline const struct gw_plan_type *shaping_type(const struct shaping *s, uint32_t slot)
{
    return &s->in->fleet->types[s->in->fleet->devices[s->devices[slot]].type];
}

static inline uint32_t shaping_zone(const struct shaping *s, uint32_t slot)
{
    return s->in->fleet->instances[s->in->fleet->devices[s->devices[slot]].instance].zone;
}

/* ---- shape_deal.c ---- */

/* Widths of the ranks on slot[0, n): each has one share, then the one that would end first gets the
 * next. */
void shaping_deal_shares(const struct shaping *s, const uint8_t *slot, uint32_t n, enum balance by,
                         uint16_t *width);

/* Groups of each stage of s->now, whose ranks have their shares: the slowest stage is as fast as can be (which serves
 * many), or, with `fastest`, the fastest stage has all it can hold (which serves one). No stage holds more than fits.
 * False if memory is short. */
bool shaping_deal_groups(const struct shaping *s, enum balance by, bool fastest, uint16_t *groups);

/* ---- shape.c ---- */

void shaping_set_groups(struct shaping *s, const uint16_t *groups);
/* Costs s->now (ranks by slot), unless the budget is spent, and keeps it in the places where it is best. */
void shaping_evaluate(struct shaping *s);

/* ---- shape_polish.c ---- */

/* Improves what is kept by single steps: a share or a group from one to another, two devices exchanged. */
void shaping_polish(struct shaping *s);

#endif
