#include "controller/plan/search.h"

#include <stdlib.h>
#include <string.h>

#include "controller/plan/search_internal.h"

/* The best solutions seen, best first; each of another form. */
struct best {
    const struct search *s;
    struct solution sol[SEARCH_BEST_KEPT + 1]; /* the last one is room to insert */
    uint32_t len;
};

/* Of one form: as many pipelines, with as many stages and ranks. */
static bool same_form(const struct solution *a, const struct solution *b)
{
    if (a->len != b->len || a->kinds_len != b->kinds_len) return false;
    for (uint32_t i = 0; i < a->kinds_len; i++)
        if (a->kinds[i].shape->stages != b->kinds[i].shape->stages ||
            a->kinds[i].count != b->kinds[i].count ||
            a->kinds[i].shape->ranks_len != b->kinds[i].shape->ranks_len)
            return false;
    return true;
}

static void drop(struct best *b, uint32_t at)
{
    struct solution room = b->sol[at];
    memmove(&b->sol[at], &b->sol[at + 1], (SEARCH_BEST_KEPT - at) * sizeof *b->sol);
    b->sol[SEARCH_BEST_KEPT] = room;
    b->len--;
}

static void keep(void *arg, const struct solution *sol)
{
    struct best *b = arg;
    uint32_t at = 0;
    for (uint32_t i = 0; i < b->len; i++) {
        if (!same_form(&b->sol[i], sol)) continue;
        if (gw_score_compare(&sol->score, &b->sol[i].score) <= 0) return;
        drop(b, i);
        break;
    }
    while (at < b->len && gw_score_compare(&sol->score, &b->sol[at].score) <= 0) at++;
    if (at == SEARCH_BEST_KEPT) return;
    struct solution room = b->sol[SEARCH_BEST_KEPT];
    solution_copy(b->s, &room, sol);
    memmove(&b->sol[at + 1], &b->sol[at], (SEARCH_BEST_KEPT - at) * sizeof *b->sol);
    b->sol[at] = room;
    if (b->len < SEARCH_BEST_KEPT) b->len++;
}

/* The pipelines of a layout, as far as they still fit. */
static void from_layout(struct search *s, const struct gw_layout *l, struct solution *sol)
{
    solution_clear(s, sol);
    for (uint32_t i = 0, next; i < l->ranks_len; i = next) {
        for (next = i + 1; next < l->ranks_len && l->ranks[next].pipeline == l->ranks[i].pipeline;) next++;
        uint32_t devices[GW_SHAPE_RANKS_MAX];
        if (next - i > GW_SHAPE_RANKS_MAX) continue;
        const struct gw_shape *shape = search_given_shape(s, &l->ranks[i], next - i);
        if (!shape) continue;
        for (uint32_t r = i; r < next; r++) devices[r - i] = l->ranks[r].device;
        solution_add(s, sol, shape, devices, next - i);
    }
    solution_score(s, sol);
}

static gw_err_t init_best(const struct search *s, struct best *b)
{
    b->s = s;
    for (uint32_t i = 0; i <= SEARCH_BEST_KEPT; i++) TRY(solution_init(s, &b->sol[i]));
    return GW_OK;
}

static gw_err_t init_search(struct search *s)
{
    TRY(gw_classes_make(s->in->fleet, &s->classes));
    uint32_t n = s->classes.usable;
    s->order = malloc((n + 1) * sizeof *s->order);
    s->costs = malloc((n + 8) * sizeof *s->costs); /* a change adds two kinds at most */
    s->counts = malloc((n + 8) * sizeof *s->counts);
    s->found = malloc(sizeof *s->found);
    if (!s->order || !s->costs || !s->counts || !s->found) return GW_ERR_MEMORY;
    for (uint32_t d = 0; d < s->in->fleet->devices_len; d++)
        if (s->classes.position[d] != GW_PLAN_NONE) {
            s->order[s->classes.position[d]] = d;
            s->speed += search_speed(s, d);
        }
    return GW_OK;
}

static gw_err_t improve_start(struct search *s, const struct gw_layout *start, struct best *results,
                              struct solution *work, struct gw_search_result *out)
{
    from_layout(s, start, work);
    if (work->len == 0) return GW_OK;
    keep(results, work);
    search_improve(s, work, s->budget - s->budget / 4);
    keep(results, work);
    out->from_start_score = work->score;
    return solution_layout(work, &out->from_start);
}

/* What the fleet runs now, then seeds, and moves from each with an equal part of the budget; all compete in `results`. */
static gw_err_t look(struct search *s, const struct gw_layout *start, struct best *seeds,
                     struct best *results, struct solution *work, struct gw_search_result *out)
{
    search_small_lists(s);
    if (start && start->ranks_len) TRY(improve_start(s, start, results, work, out));
    TRY(search_seeds(s, work, keep, seeds));
    for (uint32_t i = 0; i < seeds->len; i++) keep(results, &seeds->sol[i]);
    for (uint32_t i = 0; i < seeds->len; i++) {
        solution_copy(s, work, &seeds->sol[i]);
        search_improve(s, work, s->budget - s->budget / (seeds->len - i));
        keep(results, work);
    }
    return GW_OK;
}

static gw_err_t hand_out(const struct best *results, struct gw_search_result *out)
{
    if (results->len > 0) {
        TRY(solution_layout(&results->sol[0], &out->layout));
        out->score = results->sol[0].score;
    }
    if (results->len > 1) {
        TRY(solution_layout(&results->sol[1], &out->runner_up));
        out->runner_up_score = results->sol[1].score;
    }
    return GW_OK;
}

static void free_search(struct search *s, struct best *seeds, struct best *results)
{
    for (uint32_t i = 0; i <= SEARCH_BEST_KEPT; i++) {
        solution_fini(&seeds->sol[i]);
        solution_fini(&results->sol[i]);
    }
    search_lists_free(s);
    gw_classes_fini(&s->classes);
    free(s->order);
    free(s->costs);
    free(s->counts);
    free(s->found);
}

gw_err_t gw_search(const struct gw_plan_input *in, double headroom, uint64_t budget,
                   const struct gw_layout *start, struct gw_search_result *out)
{
    gw_err_t err;
    struct search s = {.in = in, .headroom = headroom, .budget = budget};
    struct best seeds = {0}, results = {0};
    struct solution work = {0};
    struct gw_search_result r = {0};
    TRY_GOTO(init_search(&s), out);
    TRY_GOTO(init_best(&s, &seeds), out);
    TRY_GOTO(init_best(&s, &results), out);
    TRY_GOTO(solution_init(&s, &work), out);
    TRY_GOTO(look(&s, start, &seeds, &results, &work, &r), out);
    TRY_GOTO(hand_out(&results, &r), out);
    r.evaluated = budget - s.budget;
    *out = r;
out:
    if (err != GW_OK) gw_search_fini(&r);
    solution_fini(&work);
    free_search(&s, &seeds, &results);
    return err;
}

void gw_search_fini(struct gw_search_result *r)
{
    gw_layout_fini(&r->layout);
    gw_layout_fini(&r->runner_up);
    gw_layout_fini(&r->from_start);
}
