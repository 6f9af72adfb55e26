#include "worker/order.h"

#include "kernels/pick.h"

#define BUCKET_SHIFT 20
#define BUCKETS      2048u       /* 31 bits of a distance >> BUCKET_SHIFT */
#define DISTANCE_INF 0x7F800000u /* of a masked token; NaN's is above */
#define DIGIT_BITS   8
#define DIGITS       4 /* 4 · 8 bits of a logit */

static uint32_t distance(float top, float x)
{
    return gw_f32_bits(top - x) & 0x7FFFFFFFu;
}

/* The last bucket that is needed for `count` elements. */
static uint32_t last_bucket(const float *x, uint32_t vocab, float top, uint32_t count, bool *all)
{
    uint32_t counts[BUCKETS] = {0}, sum = 0, total = 0;
    for (uint32_t i = 0; i < vocab; i++) {
        uint32_t d = distance(top, x[i]);
        if (d >= DISTANCE_INF) continue;
        counts[d >> BUCKET_SHIFT]++;
        total++;
    }
    uint32_t last = 0;
    for (sum = counts[0]; sum < count && sum < total;) sum += counts[++last];
    *all = sum == total;
    return last;
}

static uint32_t collect(const float *x, uint32_t vocab, float top, uint32_t last, uint64_t *out)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < vocab; i++) {
        uint32_t d = distance(top, x[i]);
        if (d < DISTANCE_INF && d >> BUCKET_SHIFT <= last) out[n++] = gw_pick_word(x[i], i);
    }
    return n;
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

uint32_t gw_order_best(const float *x, uint32_t vocab, float top, uint32_t count, uint64_t *words,
                       uint64_t *spare, bool *all)
{
    uint32_t n = collect(x, vocab, top, last_bucket(x, vocab, top, count, all), words);
    /* They come in order of ids, so stable passes over the logits alone sort the whole words. */
    for (int d = 0; d < DIGITS; d += 2) { /* DIGITS is even: the result ends in words */
        radix_pass(words, spare, n, 32 + d * DIGIT_BITS);
        radix_pass(spare, words, n, 32 + (d + 1) * DIGIT_BITS);
    }
    return n;
}
