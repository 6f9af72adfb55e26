#include "worker/truncate.h"

#include <string.h>

#include "kernels/vmath.h"

#define BUCKET_SHIFT 20
#define BUCKETS      2048u       /* 31 bits of |z| >> BUCKET_SHIFT */
#define RANK_INF     0x7F800000u /* |z| of a masked token; NaN is above */
#define DIGIT_BITS   11
#define DIGITS       3  /* 3 · 11 >= 31 */
#define SORT_SMALL   24 /* below it, insertion sort beats three passes over 2048 counters */

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
};

static void fill_histogram(struct histogram *h, const float *z, uint32_t vocab, bool masses)
{
    memset(h, 0, sizeof *h);
    for (uint32_t i = 0; i < vocab; i++) {
        uint32_t rank = rank_of(z[i]);
        if (rank >= RANK_INF) continue;
        h->count[rank >> BUCKET_SHIFT]++;
        if (masses) h->mass[rank >> BUCKET_SHIFT] += (double)gw_expf(z[i]);
    }
}

static double total_mass(const struct histogram *h)
{
    double total = 0;
    for (uint32_t b = 0; b < BUCKETS; b++) total += h->mass[b];
    return total;
}

/* The last bucket that can hold a candidate: where the k-th lies, else where p of the mass is reached. */
static uint32_t last_bucket(const struct histogram *h, const struct gw_truncation *limits, double total)
{
    uint64_t count = 0;
    double mass = 0;
    for (uint32_t b = 0; b < BUCKETS; b++) {
        count += h->count[b];
        mass += h->mass[b];
        if (limits->top_k && count >= limits->top_k) return b;
        if (!limits->top_k && limits->top_p < 1 && count && mass >= (double)limits->top_p * total) return b;
    }
    return BUCKETS - 1;
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
    for (int d = 0; d < DIGITS; d++) {
        radix_pass(d % 2 ? spare : a, d % 2 ? a : spare, n, 32 + d * DIGIT_BITS);
    }
    memcpy(a, spare, n * sizeof *a); /* DIGITS is odd */
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

uint32_t gw_truncate(const float *z, uint32_t vocab, const struct gw_truncation *limits, uint64_t *candidates,
                     uint64_t *spare)
{
    struct histogram h;
    bool mass_of_all = limits->top_p < 1 && !limits->top_k;
    fill_histogram(&h, z, vocab, mass_of_all);
    double total = total_mass(&h);
    uint32_t n = collect(z, vocab, last_bucket(&h, limits, total), candidates);
    sort_words(candidates, spare, n);
    if (limits->top_k && n > limits->top_k) n = limits->top_k;
    if (limits->top_p < 1) {
        if (!mass_of_all) {
            total = 0;
            for (uint32_t i = 0; i < n; i++) total += weight_of(candidates[i]);
        }
        n = cut_top_p(candidates, n, (double)limits->top_p * total);
    }
    while (n > 1 && weight_of(candidates[n - 1]) < (double)limits->min_p) n--;
    return n;
}
