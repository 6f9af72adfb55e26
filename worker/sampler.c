#include "worker/sampler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "worker/keyed_random.h"
#include "worker/truncate.h"

struct gw_sampler {
    uint32_t vocab;
    float *row;      /* the row that is transformed */
    uint32_t *stamp; /* [vocab] == epoch: this id was seen in the current pass */
    uint32_t *count; /* [vocab] valid where the stamp is */
    uint32_t epoch;
    struct gw_truncation_scratch truncation;
};

gw_err_t gw_sampler_create(uint32_t vocab, struct gw_sampler **out)
{
    struct gw_sampler *s = calloc(1, sizeof *s);
    if (!s) return GW_ERR_MEMORY;
    s->vocab = vocab;
    s->row = malloc(vocab * sizeof *s->row);
    s->stamp = calloc(vocab, sizeof *s->stamp);
    s->count = calloc(vocab, sizeof *s->count);
    struct gw_truncation_scratch *t = &s->truncation;
    t->candidates = malloc(vocab * sizeof *t->candidates);
    t->spare = malloc(vocab * sizeof *t->spare);
    t->weights = malloc(vocab * sizeof *t->weights);
    if (!s->row || !s->stamp || !s->count || !t->candidates || !t->spare || !t->weights) {
        gw_sampler_destroy(s);
        return GW_ERR_MEMORY;
    }
    *out = s;
    return GW_OK;
}

void gw_sampler_destroy(struct gw_sampler *s)
{
    if (!s) return;
    free(s->row);
    free(s->stamp);
    free(s->count);
    free(s->truncation.candidates);
    free(s->truncation.spare);
    free(s->truncation.weights);
    free(s);
}

static void next_epoch(struct gw_sampler *s)
{
    if (++s->epoch != 0) return;
    memset(s->stamp, 0, s->vocab * sizeof *s->stamp);
    s->epoch = 1;
}

/* True the first time an id is seen in this epoch; its count is then 0. */
static bool first_sight(struct gw_sampler *s, uint32_t id)
{
    if (s->stamp[id] == s->epoch) return false;
    s->stamp[id] = s->epoch;
    s->count[id] = 0;
    return true;
}

static void penalize_repeated(struct gw_sampler *s, const uint32_t *ids, uint32_t len, float penalty)
{
    for (uint32_t i = 0; i < len; i++) {
        if (!first_sight(s, ids[i])) continue;
        float *x = &s->row[ids[i]];
        *x = *x > 0 ? *x / penalty : *x * penalty;
    }
}

static void penalize_used(struct gw_sampler *s, const struct gw_sample_in *in)
{
    const struct gw_sampling *p = in->params;
    next_epoch(s);
    for (uint32_t i = 0; i < in->output_len; i++) {
        first_sight(s, in->output[i]);
        s->count[in->output[i]]++;
    }
    for (uint32_t i = 0; i < in->output_len; i++) {
        uint32_t id = in->output[i], count = s->count[id];
        if (count == 0) continue;
        s->row[id] -= p->frequency_penalty * (float)count + p->presence_penalty;
        s->count[id] = 0; /* once per id */
    }
}

static bool changes_logits(const struct gw_sampling *p, uint32_t output_len)
{
    return p->bias_len || p->repetition_penalty != 1 || p->presence_penalty != 0 ||
           p->frequency_penalty != 0 || (output_len < p->min_tokens && p->stop_ids_len);
}

uint32_t gw_sampler_keep(const struct gw_sampling *p, uint32_t output_len)
{
    if (p->logprobs || changes_logits(p, output_len)) return 0;
    if (p->temperature <= 0) return 1;
    return p->top_k <= GW_SAMPLER_KEEP_MAX ? p->top_k : 0;
}

/* bias … min_tokens mask. Returns the row to go on with: the caller's own when nothing changes. */
static const float *adjusted(struct gw_sampler *s, const struct gw_sample_in *in)
{
    const struct gw_sampling *p = in->params;
    if (!changes_logits(p, in->output_len)) return in->logits;
    memcpy(s->row, in->logits, s->vocab * sizeof *s->row);
    for (uint32_t i = 0; i < p->bias_len; i++) s->row[p->bias[i].id] += p->bias[i].bias;
    if (p->repetition_penalty != 1) {
        next_epoch(s);
        penalize_repeated(s, in->prompt, in->prompt_len, p->repetition_penalty);
        penalize_repeated(s, in->output, in->output_len, p->repetition_penalty);
    }
    if (p->presence_penalty != 0 || p->frequency_penalty != 0) penalize_used(s, in);
    if (in->output_len < p->min_tokens)
        for (uint32_t i = 0; i < p->stop_ids_len; i++) s->row[p->stop_ids[i]] = -INFINITY;
    return s->row;
}

#define MAX_LANES 16 /* independent maxima, so that the compiler makes vectors of the loop */

static float largest_value(const float *row, uint32_t vocab)
{
    float lanes[MAX_LANES], top = -INFINITY;
    uint32_t i = 0;
    for (int k = 0; k < MAX_LANES; k++) lanes[k] = -INFINITY;
    for (; i + MAX_LANES <= vocab; i += MAX_LANES)
        for (int k = 0; k < MAX_LANES; k++) lanes[k] = row[i + k] > lanes[k] ? row[i + k] : lanes[k];
    for (; i < vocab; i++) top = row[i] > top ? row[i] : top;
    for (int k = 0; k < MAX_LANES; k++) top = lanes[k] > top ? lanes[k] : top;
    return top;
}

/* The lowest id that has the largest value; 0 if all are NaN. */
static uint32_t largest(const float *row, uint32_t vocab)
{
    float top = largest_value(row, vocab);
    for (uint32_t i = 0; i < vocab; i++)
        if (row[i] == top) return i;
    return 0;
}

static void to_z(float *row, uint32_t vocab, float top, float temperature)
{
    for (uint32_t i = 0; i < vocab; i++) row[i] = (row[i] - top) / temperature;
}

struct draw {
    uint64_t stream;
    double score;
    uint32_t id;
};

static void try_id(struct draw *d, float z, uint32_t id, uint8_t shift)
{
    uint64_t bits = gw_keyed_bits(d->stream, id);
    if (gw_gumbel_hopeless(bits, shift)) return;
    double score = (double)z + gw_gumbel(bits);
    if (score > d->score || (score == d->score && id < d->id)) {
        d->score = score;
        d->id = id;
    }
}

#define DRAW_CHUNK 256 /* ids between two looks at how good the best has become */

static void draw_among_all(struct draw *d, const float *z, uint32_t vocab)
{
    uint8_t shift[DRAW_CHUNK];
    for (uint32_t first = 0; first < vocab; first += DRAW_CHUNK) {
        uint32_t count = vocab - first < DRAW_CHUNK ? vocab - first : DRAW_CHUNK;
        float best = (float)d->score;
        for (uint32_t i = 0; i < count; i++) shift[i] = gw_gumbel_shift(z[first + i], best);
        for (uint32_t i = 0; i < count; i++) try_id(d, z[first + i], first + i, shift[i]);
    }
}

static void draw_among(struct draw *d, const float *z, const uint64_t *candidates, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t id = gw_candidate_id(candidates[i]);
        try_id(d, z[id], id, gw_gumbel_shift(z[id], (float)d->score));
    }
}

static uint32_t draw_keyed(struct gw_sampler *s, const struct gw_sample_in *in, const float *row)
{
    const struct gw_sampling *p = in->params;
    uint32_t best = largest(row, s->vocab);
    float top = row[best];
    if (!isfinite(top)) return best; /* nothing sensible to draw from */
    if (row != s->row) memcpy(s->row, row, s->vocab * sizeof *s->row);
    to_z(s->row, s->vocab, top, p->temperature);
    struct draw d = {
        .stream = gw_keyed_stream(p->seed, in->branch, in->output_len), .score = -INFINITY, .id = best};
    const struct gw_truncation limits = {.top_k = p->top_k, .top_p = p->top_p, .min_p = p->min_p};
    try_id(&d, 0, best, GW_KEYED_BITS); /* always kept; first, so that nearly all others are hopeless */
    if ((p->top_k == 0 || p->top_k >= s->vocab) && p->top_p >= 1 && p->min_p <= 0)
        draw_among_all(&d, s->row, s->vocab);
    else
        draw_among(&d, s->row, s->truncation.candidates,
                   gw_truncate(s->row, s->vocab, &limits, &s->truncation));
    return d.id;
}

static float logprob_of(const struct gw_sample_in *in, float logit)
{
    double v = (double)logit - (double)in->max - gw_log((double)in->sum);
    return v >= (double)GW_LOGPROB_MIN ? (float)v : GW_LOGPROB_MIN; /* NaN too */
}

/* The n best of the raw row: a short sorted list that few elements ever enter. */
static void find_top(const struct gw_sample_in *in, uint32_t vocab, uint32_t n, struct gw_top *top)
{
    uint32_t len = 0;
    for (uint32_t i = 0; i < vocab; i++) {
        float x = in->logits[i];
        if (len == n && !(x > top[n - 1].logprob)) continue;
        uint32_t at = len < n ? len++ : n - 1;
        for (; at > 0 && x > top[at - 1].logprob; at--) top[at] = top[at - 1];
        top[at] = (struct gw_top){.id = i, .logprob = x};
    }
    for (uint32_t i = 0; i < len; i++) top[i].logprob = logprob_of(in, top[i].logprob);
}

void gw_sampler_draw(struct gw_sampler *s, const struct gw_sample_in *in, struct gw_sample_out *out)
{
    const struct gw_sampling *p = in->params;
    const float *row = adjusted(s, in);
    out->id = p->temperature > 0 ? draw_keyed(s, in, row) : largest(row, s->vocab);
    out->logprob = p->logprobs ? logprob_of(in, in->logits[out->id]) : 0;
    if (p->top_logprobs) find_top(in, s->vocab, p->top_logprobs, out->top);
}
