#include "worker/truncate.h"

#include <string.h>

#include "kernels/vmath.h"

#define BUCKET_SHIFT 20
#define BUCKETS      2048u       /* 31 bits of |z| >> BUCKET_SHIFT */
#define RANK_INF     0x7F800000u /* |z| of a masked token; NaN is above */
#define DIGIT_BITS   8
#define DIGITS       4  /* 4 · 8 >= 31 */
#define SORT_SMALL   24 /* below it, insertion sort beats four passes over 256 counters */

static uint32_t rank_of(float z)
{
    return gw_f32_bits(z) & 0x7FFFFFFFu;
}

static double weight_of(uint64_t candidate)
{
    return (double)gw_expf(-gw_f32_of_bits((uint32_t)(candidate >> 32)));
}

struct histogram {
    uint32_t count[BUCKETS];
    double mass[BUCKETS]; /* sum of e^z, in order of ids */
    uint32_t last;        /* that holds anything */
    double total;         /* of all masses, in order of buckets */
};

/* e^z for z <= 0, in a loop that the compiler makes vectors of; what is below e^-87 = 1e-38 counts as that. */
static void fill_weights(const float *restrict z, float *restrict weights, uint32_t vocab)
{
    for (uint32_t i = 0; i < vocab; i++) weights[i] = gw_expf_inside(z[i] > GW_EXPF_MIN ? z[i] : GW_EXPF_MIN);
}

/* weights NULL: counts only. */
static void fill_histogram(struct histogram *h, const float *z, uint32_t vocab, const float *weights)
{
    memset(h, 0, sizeof *h);
    for (uint32_t i = 0; i < vocab; i++) {
        uint32_t rank = rank_of(z[i]), b = rank >> BUCKET_SHIFT;
        if (rank >= RANK_INF) continue;
        h->count[b]++;
        if (weights) h->mass[b] += (double)weights[i];
        if (b > h->last) h->last = b;
    }
    for (uint32_t b = 0; weights && b <= h->last; b++) h->total += h->mass[b];
}

/* The last bucket whose best member can have min_p times the weight of the best; expf falls with |z|. */
static uint32_t last_above(float min_p, uint32_t last)
{
    uint32_t low = 0;
    if (min_p <= 0) return last;
    while (low < last) { /* low's first member is not below min_p */
        uint32_t mid = low + (last - low + 1) / 2;
        if (gw_expf(-gw_f32_of_bits(mid << BUCKET_SHIFT)) < min_p)
            last = mid - 1;
        else
            low = mid;
    }
    return low;
}

/* The last bucket that can hold a candidate: where the k-th lies, else where p of the mass is reached. */
static uint32_t last_bucket(const struct histogram *h, const struct gw_truncation *limits)
{
    uint64_t count = 0;
    double mass = 0;
    for (uint32_t b = 0; b <= h->last; b++) {
        count += h->count[b];
        mass += h->mass[b];
        if (limits->top_k && count >= limits->top_k) return b;
        if (!limits->top_k && limits->top_p < 1 && count && mass >= (double)limits->top_p * h->total)
            return b;
    }
    return h->last;
}

static uint32_t collect(const float *z, uint32_t vocab, uint32_t last, uint64_t *out)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < vocab; i++) {
        uint32_t rank = rank_of(z[i]);
        if (rank < RANK_INF && rank >> BUCKET_SHIFT <= last) out[n++] = (uint64_t)rank << 32 | i;
    }
    return n;
}

static void insertion_sort(uint64_t *a, uint32_t n)
{
    for (uint32_t i = 1; i < n; i++) {
        uint64_t word = a[i];
        uint32_t at = i;
        for (; at > 0 && a[at - 1] > word; at--) a[at] = a[at - 1];
        a[at] = word;
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

/* a arrives in order of ids, so stable passes over the rank alone sort the whole words. */
static void sort_words(uint64_t *a, uint64_t *spare, uint32_t n)
{
    if (n < SORT_SMALL) {
        insertion_sort(a, n);
        return;
    }
    for (int d = 0; d < DIGITS; d += 2) { /* DIGITS is even: the result ends in a */
        radix_pass(a, spare, n, 32 + d * DIGIT_BITS);
        radix_pass(spare, a, n, 32 + (d + 1) * DIGIT_BITS);
    }
}

static uint32_t cut_top_p(const uint64_t *a, uint32_t n, double want)
{
    double mass = 0;
    for (uint32_t i = 0; i < n; i++) {
        mass += weight_of(a[i]);
        if (mass >= want) return i + 1;
    }
    return n;
}

uint32_t gw_truncate(const float *z, uint32_t vocab, const struct gw_truncation *limits,
                     struct gw_truncation_scratch *scratch)
{
    struct histogram h;
    uint64_t *candidates = scratch->candidates;
    bool mass_of_all = limits->top_p < 1 && !limits->top_k;
    if (mass_of_all) fill_weights(z, scratch->weights, vocab);
    fill_histogram(&h, z, vocab, mass_of_all ? scratch->weights : NULL);
    uint32_t last = last_bucket(&h, limits);
    /* top-p of what top-k left needs all of that */
    if (!limits->top_k || limits->top_p >= 1) last = last_above(limits->min_p, last);
    uint32_t n = collect(z, vocab, last, candidates);
    sort_words(candidates, scratch->spare, n);
    if (limits->top_k && n > limits->top_k) n = limits->top_k;
    if (limits->top_p < 1) {
        double total = h.total;
        for (uint32_t i = 0; !mass_of_all && i < n; i++) total += weight_of(candidates[i]);
        n = cut_top_p(candidates, n, (double)limits->top_p * total);
    }
    while (n > 1 && weight_of(candidates[n - 1]) < (double)limits->min_p) n--;
    return n;
}
