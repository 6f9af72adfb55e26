/* Shared by the sources of the layout search (search.h): its state, the lists that were shaped, seeds and moves. */
#ifndef GW_CONTROLLER_PLAN_SEARCH_INTERNAL_H
#define GW_CONTROLLER_PLAN_SEARCH_INTERNAL_H

#include "controller/plan/classes.h"
#include "controller/plan/search.h"
#include "controller/plan/shape.h"

#define SEARCH_GIVEN_MAX 256 /* different shapes of pipelines that run now; others are laid out anew */
#define SEARCH_BEST_KEPT 3   /* seeds that moves begin from */

struct search_list; /* one list of devices and its shapes */

struct shapes {
    uint32_t len;
    struct gw_shape *shapes; /* the fastest at no load first */
};

struct search {
    const struct gw_plan_input *in;
    double headroom;
    uint64_t budget; /* left */
    double speed;    /* of all usable devices: see search_speed */
    struct gw_classes classes;
    struct search_list **lists; /* open addressing by key */
    uint32_t lists_len;
    uint64_t thorough;                           /* what a list may be given now (gw_shape_task) */
    struct gw_shape_set *found;                  /* scratch for shaping a list */
    struct search_list *given[SEARCH_GIVEN_MAX]; /* shapes that pipelines have now */
    uint32_t given_len;
    uint32_t *order;                   /* usable devices by position */
    const struct gw_pipe_cost **costs; /* scratch for scoring, one per kind */
    uint32_t *counts;
};

struct pipe {
    const struct gw_shape *shape;
    uint32_t n;
    uint32_t devices[GW_SHAPE_RANKS_MAX]; /* ascending by position */
};

/* One layout in the making. kinds: its shapes, each once, with how many pipelines have it. */
struct solution {
    struct pipe *pipes;
    uint32_t len, cap;
    struct kind {
        const struct gw_shape *shape;
        uint32_t count;
    } * kinds;
    uint32_t kinds_len;
    uint32_t *pipe_of; /* of each device; GW_PLAN_NONE = idle */
    struct gw_score score;
};

/* ---- search_lists.c ---- */

/* Shapes for devices[0, n), sorted by position; NULL when nothing fits, when some must be apart, when the budget is
 * spent, or when GW_SEARCH_LISTS_MAX is reached. Pointers live as long as the search. */
const struct shapes *search_shapes(struct search *s, const uint32_t *devices, uint32_t n);
/* The shape that n ranks (of one pipeline, in order) have now, over their devices in that order; NULL if it does not fit
 * into memory, if some must be apart, or if too many different ones were given. Equal ones are one pointer. */
const struct gw_shape *search_given_shape(struct search *s, const struct gw_layout_rank *ranks, uint32_t n);
/* Are two devices among them that must be apart? */
bool search_are_apart(const struct search *s, const uint32_t *devices, uint32_t n);
/* Is it one thing to a pipeline which of the two it has? */
bool search_are_equal(const struct search *s, uint32_t device_a, uint32_t device_b);
/* What a device counts for when arrivals are shared: its bandwidth, as decoding mostly waits for that. */
double search_speed(const struct search *s, uint32_t device);
void search_lists_free(struct search *s);
void search_sort(const struct search *s, uint32_t *devices, uint32_t n);

/* ---- search_solution.c ---- */

gw_err_t solution_init(const struct search *s, struct solution *sol) GW_MUST_USE;
void solution_fini(struct solution *sol);
void solution_clear(const struct search *s, struct solution *sol);
void solution_copy(const struct search *s, struct solution *to, const struct solution *from);

/* A change: pipelines taken out, pipelines put in. */
struct change {
    uint32_t out[2], out_len; /* indices of pipes */
    struct pipe in[2];
    uint32_t in_len;
};

/* What the score would be; counts against the budget. */
struct gw_score solution_try(struct search *s, const struct solution *sol, const struct change *c);
void solution_apply(struct search *s, struct solution *sol, const struct change *c);
void solution_add(struct search *s, struct solution *sol, const struct gw_shape *shape,
                  const uint32_t *devices, uint32_t n);
/* Takes the last one out again. */
void solution_pop(struct solution *sol);
void solution_score(struct search *s, struct solution *sol);
gw_err_t solution_layout(const struct solution *sol, struct gw_layout *out) GW_MUST_USE;

/* ---- search_seeds.c ---- */

/* Calls found(arg, solution) for each seed that is worth a look. `work` is scratch. */
gw_err_t search_seeds(struct search *s, struct solution *work,
                      void (*found)(void *arg, const struct solution *sol), void *arg) GW_MUST_USE;

/* ---- search_small.c ---- */

/* A fleet of GW_SEARCH_SMALL devices at most: thorough shapes for every list there is. Others: nothing. */
void search_small_lists(struct search *s);
/* Seeds over all classes: of few devices the order cut in equal parts; of very few every way to deal them to pipelines. */
void search_small_seeds(struct search *s, struct solution *work,
                        void (*found)(void *arg, const struct solution *sol), void *arg);

/* ---- search_moves.c ---- */

/* Improves sol until no move helps or the budget is down to `reserve`. */
void search_improve(struct search *s, struct solution *sol, uint64_t reserve);

#endif
