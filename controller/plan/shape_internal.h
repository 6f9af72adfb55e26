/* Shared by the sources of the shape search (shape.h): its state, what is tried, what is kept. */
#ifndef GW_CONTROLLER_PLAN_SHAPE_INTERNAL_H
#define GW_CONTROLLER_PLAN_SHAPE_INTERNAL_H

#include "controller/plan/shape.h"

enum balance { BY_BANDWIDTH, BY_MIX, BY_FLOPS, BY_MEMORY, BALANCES };

/* What shapes are compared by (shape_front.c): seconds and 1 / capacity, less is better. */
#define SHAPING_VALUES 23

struct shaping {
    const struct gw_plan_input *in;
    double headroom;
    const uint32_t *devices;
    uint32_t n;
    bool all_widths;                   /* try every way to deal shares, not only balances */
    bool all_groups;                   /* of this cut: and every way to deal groups with each */
    bool even;                         /* gw_plan_even */
    bool uniform;                      /* one type: all balances are the same */
    bool thorough;                     /* see gw_shape_task */
    uint64_t ways;                     /* thorough: what may be tried of one cut */
    uint32_t cuts;                     /* thorough: how many there are */
    uint8_t alike[GW_SHAPE_RANKS_MAX]; /* per slot: the first slot whose device may stand in for it */
    uint64_t *budget;
    double fair_rps;
    uint32_t values; /* that shapes are compared by */
    struct gw_shape_set *kept;
    struct kept {
        double value[SHAPING_VALUES];
        bool explored; /* by the polish */
    } kept_as[GW_SHAPES_KEPT + 1];
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

/* Costs s->now (ranks by slot), unless the budget is spent, and keeps it if it is worth it. */
void shaping_evaluate(struct shaping *s);

/* ---- shape_ways.c ---- */

void shaping_set_groups(struct shaping *s, const uint16_t *groups);
/* Does no stage span zones? */
bool shaping_cut_holds(const struct shaping *s, const struct cut *cut);
/* Evaluates what is worth it of one cut: balances, or every way. */
void shaping_try_cut(struct shaping *s, const struct cut *cut);

/* ---- shape_cuts.c ---- */

/* Calls visit for every way to deal the devices to stages; those alike come in ascending stages. */
void shaping_all_cuts(struct shaping *s, void (*visit)(struct shaping *s, const struct cut *cut));
/* Tries runs of the list as stages, for each number of stages. */
void shaping_even_cuts(struct shaping *s);

/* ---- shape_front.c ---- */

/* Keeps s->now, whose cost is known, unless what is kept is as good. */
void shaping_keep(struct shaping *s);

/* ---- shape_polish.c ---- */

/* Looks around what is kept, by single steps: a share or a group from one to another, two devices exchanged. */
void shaping_polish(struct shaping *s);

#endif
