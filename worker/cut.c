#include "worker/cut.h"

#include <math.h>
#include <string.h>

#include "kernels/pick.h"

#define BUCKET_SHIFT 20
#define BUCKETS      2048u       /* 31 bits of a distance >> BUCKET_SHIFT */
#define DISTANCE_INF 0x7F800000u /* of a masked token; NaN's is above */
#define DIGIT_BITS   8
#define DIGITS       4 /* 4 · 8 bits of a logit */

struct histogram {
    uint32_t count[BUCKETS];
    uint64_t mass[BUCKETS];
};

/* The last word that stays, and the mass up to it. */
struct end {
    uint64_t word;
    uint64_t mass;
};

static uint32_t distance(float top, float x)
{
    return gw_f32_bits(top - x) & 0x7FFFFFFFu;
}

/* weights NULL: counts only. */
static void fill_histogram(struct histogram *h, const float *x, uint32_t vocab, float top,
                           const float *weights)
{
    memset(h, 0, sizeof *h);
    for (uint32_t i = 0; i < vocab; i++) {
        uint32_t d = distance(top, x[i]);
        if (d >= DISTANCE_INF) continue;
        h->count[d >> BUCKET_SHIFT]++;
        if (weights) h->mass[d >> BUCKET_SHIFT] += gw_mass_of(weights[i]);
    }
}

/* One stable counting pass from a to b by the digit at shift. */
static void radix_pass(const uint64_t *a, uint64_t *b, uint32_t n, int shift)
{
    uint32_t at[1u << DIGIT_BITS] = {0};
    const uint32_t mask = (1u << DIGIT_BITS) - 1;
    for (uint32_t i = 0; i < n; i++) at[a[i] >> shift & mask]++;
    uint32_t sum = 0;
    for (uint32_t d = 0; d <= mask; d++) {
        uint32_t count = at[d];
        at[d] = sum;
        sum += count;
    }
    for (uint32_t i = 0; i < n; i++) b[at[a[i] >> shift & mask]++] = a[i];
}

/* The words of one bucket, sorted, in scratch->words. */
static void sort_bucket(const float *x, uint32_t vocab, float top, uint32_t bucket,
                        const struct gw_cut_scratch *scratch)
{
    uint64_t *words = scratch->words, *spare = scratch->spare;
    uint32_t n = 0;
    for (uint32_t i = 0; i < vocab; i++)
        if (distance(top, x[i]) >> BUCKET_SHIFT == bucket) words[n++] = gw_pick_word(x[i], i);
    /* They come in order of ids, so stable passes over the logits alone sort the whole words. */
    for (int d = 0; d < DIGITS; d += 2) { /* DIGITS is even: the result ends in words */
        radix_pass(words, spare, n, 32 + d * DIGIT_BITS);
        radix_pass(spare, words, n, 32 + (d + 1) * DIGIT_BITS);
    }
}

/* Where `count` tokens, or `mass`, are reached. All: the end of the row. */
static struct end find_end(const struct histogram *h, const float *x, uint32_t vocab,
                           const struct gw_cut *cut, uint32_t count, double mass,
                           const struct gw_cut_scratch *scratch)
{
    struct end end = {.word = UINT64_MAX};
    uint32_t before = 0, b = 0;
    for (; b < DISTANCE_INF >> BUCKET_SHIFT; b++) {
        if (before + h->count[b] >= count || (double)(end.mass + h->mass[b]) >= mass) break;
        before += h->count[b];
        end.mass += h->mass[b];
    }
    if (b == DISTANCE_INF >> BUCKET_SHIFT) return end;
    sort_bucket(x, vocab, cut->top, b, scratch);
    for (uint32_t i = 0; i < h->count[b]; i++) {
        end.word = scratch->words[i];
        if (cut->top_p < 1) end.mass += gw_mass_of(scratch->weights[(uint32_t)end.word]);
        if (before + i + 1 >= count || (double)end.mass >= mass) break;
    }
    return end;
}

static void drop(float *x, uint32_t vocab, const struct gw_cut *cut, uint64_t last)
{
    float logit = last == UINT64_MAX ? -INFINITY : gw_pick_word_logit(last);
    uint32_t id = (uint32_t)last;
    for (uint32_t i = 0; i < vocab; i++) {
        bool out = x[i] < logit || (x[i] == logit && i > id) || (x[i] - cut->top) * cut->inverse < cut->z_min;
        x[i] = out ? -INFINITY : x[i];
    }
}

void gw_cut_row(float *x, uint32_t vocab, const struct gw_cut *cut, const struct gw_cut_scratch *scratch)
{
    struct histogram h;
    struct end end = {.word = UINT64_MAX};
    bool by_mass = cut->top_p < 1;
    double mass = cut->mass;
    if (cut->count || by_mass) fill_histogram(&h, x, vocab, cut->top, by_mass ? scratch->weights : NULL);
    if (cut->count) {
        end = find_end(&h, x, vocab, cut, cut->count, (double)INFINITY, scratch);
        mass = (double)end.mass;
    }
    if (by_mass) /* of what the count leaves: never behind its end */
        end = find_end(&h, x, vocab, cut, UINT32_MAX, (double)cut->top_p * mass, scratch);
    drop(x, vocab, cut, end.word);
}
