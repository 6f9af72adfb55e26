#include "worker/sampler.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/keyed_random.h"
#include "worker/candidates.h"
#include "worker/cut.h"

struct gw_sampler {
    struct gw_sampler_config config;
    struct gw_wisher *wisher;
    struct gw_wish_room room; /* of a whole row's wish: any will fit */
    float *row;               /* [vocab] a row that is edited */
    struct gw_cut_scratch scratch;
    struct gw_pick_part part; /* of that */
    struct gw_pick_part raw;  /* of the same, not edited: logprobs */
};

gw_err_t gw_sampler_create(const struct gw_sampler_config *config, struct gw_sampler **out)
{
    struct gw_sampler *s = calloc(1, sizeof *s);
    uint32_t vocab = config->vocab;
    if (!s) return GW_ERR_MEMORY;
    s->config = *config;
    s->row = malloc(vocab * sizeof *s->row);
    s->scratch.weights = malloc(vocab * sizeof *s->scratch.weights);
    s->scratch.words = malloc(vocab * sizeof *s->scratch.words);
    s->scratch.spare = malloc(vocab * sizeof *s->scratch.spare);
    if (!s->row || !s->scratch.weights || !s->scratch.words || !s->scratch.spare ||
        gw_wisher_create(vocab, &s->wisher) != GW_OK ||
        gw_wish_room_init(&s->room, vocab + GW_REQUEST_STOP_IDS_MAX, vocab + GW_REQUEST_BIAS_MAX) != GW_OK) {
        gw_sampler_destroy(s);
        return GW_ERR_MEMORY;
    }
    *out = s;
    return GW_OK;
}

void gw_sampler_destroy(struct gw_sampler *s)
{
    if (!s) return;
    gw_wisher_destroy(s->wisher);
    gw_wish_room_fini(&s->room);
    free(s->row);
    free(s->scratch.weights);
    free(s->scratch.words);
    free(s->scratch.spare);
    free(s);
}

void gw_sampler_wish(struct gw_sampler *s, const struct gw_sample_in *in, struct gw_wish_room *room,
                     struct gw_wish *out)
{
    gw_wish_make(s->wisher, in, room, out);
}

/* ---- the draw ---- */

/* The best score so far. */
struct draw {
    const struct gw_pick_want *want;
    float top; /* the largest logit */
    double score;
    struct gw_pick_entry best;
};

static bool is_hopeless(const struct draw *d, const struct gw_pick_entry *e)
{
    float best = (float)(d->score - (double)d->top * (double)d->want->inverse);
    uint8_t shift = gw_gumbel_shift((e->logit - d->top) * d->want->inverse, best);
    return gw_gumbel_hopeless(gw_keyed_bits(d->want->stream, e->id), shift);
}

static void try_entry(struct draw *d, const struct gw_pick_entry *e)
{
    if (is_hopeless(d, e)) return;
    double score = gw_keyed_score(e->logit, d->want->inverse, d->want->stream, e->id);
    if (!(score > d->score || (score == d->score && e->id < d->best.id))) return;
    d->score = score;
    d->best = *e;
}

/* Where truncation ends. */
struct limits {
    uint32_t count; /* of candidates */
    double mass;    /* that top-p wants, in units */
    float z_min;
};

static float z_of(const struct draw *d, const struct gw_pick_entry *e)
{
    return (e->logit - d->top) * d->want->inverse;
}

/* The mass of the first `count` candidates. False if they ran out. */
static bool mass_of(struct gw_candidates c, const struct draw *d, uint32_t count, double *mass)
{
    struct gw_pick_entry e;
    uint64_t sum = 0;
    for (uint32_t i = 0; i < count && gw_candidates_next(&c, &e); i++)
        sum += gw_mass_of(gw_expf(z_of(d, &e)));
    *mass = (double)sum;
    return !c.ran_out;
}

/* min_p times the best one's weight, which is 1, as a distance; what is no distance, is dropped by nobody. */
static float z_min_of(const struct gw_sampling *p)
{
    return p->min_p > 0 ? gw_logf(p->min_p) : -INFINITY;
}

/* mass: of the row, in units, if that is wanted. */
static bool find_limits(const struct gw_sampling *p, const struct gw_candidates *c, const struct draw *d,
                        double mass, struct limits *l)
{
    *l = (struct limits){
        .count = p->top_k ? p->top_k : UINT32_MAX, .mass = (double)INFINITY, .z_min = z_min_of(p)};
    if (p->top_p >= 1) return true;
    if (!d->want->weights && !mass_of(*c, d, l->count, &mass)) return false; /* p of what top-k leaves */
    l->mass = (double)p->top_p * mass;
    return true;
}

/* Draws among what truncation leaves. False if the candidates ran out before its end. */
static bool draw_among(struct draw *d, struct gw_candidates *c, const struct limits *l)
{
    struct gw_pick_entry e;
    uint64_t mass = 0;
    for (uint32_t n = 0; n < l->count && (double)mass < l->mass; n++) {
        if (!gw_candidates_next(c, &e)) return !c->ran_out;
        float z = z_of(d, &e);
        if (e.logit == -INFINITY || z < l->z_min) break;
        try_entry(d, &e);
        if (l->mass < (double)INFINITY) mass += gw_mass_of(gw_expf(z));
    }
    return true;
}

/* Chooses from the candidates; mass: what the row weighs, if that is wanted. */
static bool choose(const struct gw_sampling *p, const struct gw_pick_want *want, struct gw_candidates *c,
                   double mass, struct gw_pick_entry *out)
{
    struct gw_candidates first = *c;
    *out = (struct gw_pick_entry){.raw = NAN}; /* nothing but NaN: id 0 */
    if (!gw_candidates_next(&first, out)) return !first.ran_out;
    if (want->inverse == 0 || !isfinite(out->logit)) return true; /* else nothing sensible to draw from */
    struct draw d = {.want = want, .top = out->logit, .score = (double)-INFINITY, .best = *out};
    struct limits l;
    if (!find_limits(p, c, &d, mass, &l) || !draw_among(&d, c, &l)) return false;
    *out = d.best;
    return true;
}

/* Each part has the one of its best score. */
static void choose_by_score(const struct gw_pick_want *want, const struct gw_pick_part *parts, uint32_t len,
                            struct gw_pick_entry *out)
{
    double best = 0;
    bool any = false;
    *out = (struct gw_pick_entry){.raw = NAN};
    for (uint32_t i = 0; i < len; i++) {
        if (parts[i].entries_len == 0) continue;
        const struct gw_pick_entry *e = &parts[i].entries[0];
        double score = gw_keyed_score(e->logit, want->inverse, want->stream, e->id);
        if (any && !(score > best)) continue; /* parts ascend: of equals the first has the lowest id */
        best = score;
        *out = *e;
        any = true;
    }
}

/* ---- logprobs ---- */

static float logprob_of(struct gw_pick_sum row, float logit)
{
    double v = (double)logit - (double)row.max - gw_log((double)row.sum);
    return v >= (double)GW_LOGPROB_MIN ? (float)v : GW_LOGPROB_MIN; /* NaN too */
}

/* The n best of all parts. */
static void find_top(const struct gw_pick_part *parts, uint32_t parts_len, struct gw_pick_sum row, uint32_t n,
                     struct gw_top *top)
{
    uint32_t len = 0;
    for (uint32_t i = 0; i < n; i++) top[i] = (struct gw_top){.logprob = -INFINITY};
    for (uint32_t p = 0; p < parts_len; p++)
        for (uint32_t i = 0; i < parts[p].top_len; i++) {
            float x = parts[p].top[i].raw;
            if (len == n && !(x > top[n - 1].logprob)) break;
            uint32_t at = len < n ? len++ : n - 1;
            for (; at > 0 && x > top[at - 1].logprob; at--) top[at] = top[at - 1];
            top[at] = (struct gw_top){.id = parts[p].top[i].id, .logprob = x};
        }
    for (uint32_t i = 0; i < n; i++) top[i].logprob = logprob_of(row, top[i].logprob);
}

/* ---- from parts ---- */

enum which { WEIGHTS, STATS };

/* The sums of all shares, added up. */
static struct gw_pick_sum sum_of(const struct gw_pick_part *parts, uint32_t parts_len, enum which which,
                                 float inverse)
{
    struct gw_pick_sum sums[GW_SHARES_MAX];
    uint32_t shares = 0;
    for (uint32_t i = 0; i < parts_len; i++) {
        assert(parts[i].shares <= GW_SHARES_MAX - shares);
        memcpy(sums + shares, which == STATS ? parts[i].stats : parts[i].weights,
               parts[i].shares * sizeof *sums);
        shares += parts[i].shares;
    }
    return gw_pick_tree(sums, shares, inverse);
}

/* What the row weighs, in units; 0 if that is not wanted. */
static double row_mass(const struct gw_pick_part *parts, uint32_t parts_len, const struct gw_pick_want *want)
{
    if (!want->weights) return 0;
    return (double)sum_of(parts, parts_len, WEIGHTS, want->inverse).sum * (1 / GW_MASS_UNIT);
}

static void say(const struct gw_sampling *p, const struct gw_pick_entry *chosen,
                const struct gw_pick_part *parts, uint32_t parts_len, struct gw_sample_out *out)
{
    out->id = chosen->id;
    out->logprob = 0;
    if (!p->logprobs) return;
    struct gw_pick_sum row = sum_of(parts, parts_len, STATS, 1);
    out->logprob = logprob_of(row, chosen->raw);
    find_top(parts, parts_len, row, p->top_logprobs, out->top);
}

bool gw_sampler_decide(const struct gw_sample_in *in, const struct gw_pick_want *want,
                       const struct gw_pick_part *parts, uint32_t parts_len, struct gw_sample_out *out)
{
    struct gw_pick_entry chosen;
    struct gw_candidates c = {.parts = parts, .parts_len = parts_len};
    assert(parts_len <= GW_WIRE_RANKS_MAX);
    if (want->keep == 0)
        choose_by_score(want, parts, parts_len, &chosen);
    else if (!choose(in->params, want, &c, row_mass(parts, parts_len, want), &chosen))
        return false;
    say(in->params, &chosen, parts, parts_len, out);
    return true;
}

/* ---- from a whole row ---- */

static void pick_whole(struct gw_sampler *s, const struct gw_pick_want *want, struct gw_pick_part *part)
{
    const struct gw_pick_row row = {.x = s->row,
                                    .vocab = s->config.vocab,
                                    .shares = s->config.shares,
                                    .share_last = s->config.shares,
                                    .want = want,
                                    .part = part};
    s->config.ops->pick(s->config.device, &row, 1);
}

/* Its part cannot decide: what truncation drops of the row is masked, and the best score of what is left wins. */
static void choose_from_row(struct gw_sampler *s, const struct gw_sampling *p,
                            const struct gw_pick_want *want, const struct gw_pick_part *part,
                            struct gw_pick_entry *out)
{
    const struct gw_pick_want by_score = {.stream = want->stream, .inverse = want->inverse};
    const struct gw_cut cut = {.top = part->entries[0].logit,
                               .inverse = want->inverse,
                               .count = want->weights ? 0 : p->top_k,
                               .top_p = p->top_p,
                               .mass = row_mass(part, 1, want),
                               .z_min = z_min_of(p)};
    if (cut.top_p < 1)
        s->config.ops->weigh(s->config.device, s->scratch.weights, s->row, s->config.vocab, cut.top,
                             cut.inverse);
    gw_cut_row(s->row, s->config.vocab, &cut, &s->scratch);
    pick_whole(s, &by_score, &s->part);
    choose_by_score(&by_score, &s->part, 1, out);
}

/* From the edited row. */
static void choose_from_whole(struct gw_sampler *s, const struct gw_sampling *p,
                              const struct gw_pick_want *want, struct gw_pick_entry *out)
{
    struct gw_candidates c = {.parts = &s->part, .parts_len = 1};
    pick_whole(s, want, &s->part);
    if (want->keep == 0)
        choose_by_score(want, &s->part, 1, out);
    else if (!choose(p, want, &c, row_mass(&s->part, 1, want), out))
        choose_from_row(s, p, want, &s->part, out);
}

void gw_sampler_draw(struct gw_sampler *s, const struct gw_sample_in *in, const float *row,
                     const struct gw_pick_part *part, struct gw_sample_out *out)
{
    struct gw_pick_entry chosen;
    struct gw_wish wish;
    gw_wish_room_clear(&s->room);
    gw_wish_make(s->wisher, in, &s->room, &wish);
    struct gw_pick_want want = wish.want;
    const struct gw_pick_want logprobs = {.keep = 1, .top = want.top, .stats = true};
    memcpy(s->row, row, s->config.vocab * sizeof *s->row);
    if (want.stats && !part) pick_whole(s, &logprobs, &s->raw);
    gw_pick_edit(s->row, 0, s->config.vocab, &want.edits, NULL);
    want.edits = (struct gw_pick_edits){0};
    want.stats = false;
    want.top = 0;
    if (part)
        choose_from_row(s, in->params, &want, part, &chosen);
    else
        choose_from_whole(s, in->params, &want, &chosen);
    chosen.raw = row[chosen.id];
    say(in->params, &chosen, part ? part : &s->raw, 1, out);
}
