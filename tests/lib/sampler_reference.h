/* Samplers for tests, a reference in float64 that sorts everything, and requests and rows of all kinds. */
#ifndef GW_TESTS_SAMPLER_REFERENCE_H
#define GW_TESTS_SAMPLER_REFERENCE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "kernels/keyed_random.h"
#include "kernels/op.h"
#include "worker/sampler.h"

#define REFERENCE_SHARES 8
#define REFERENCE_TOKENS 40 /* of a prompt or an output at most */
/* What float32 sums of 1e5 elements may be off, and then some. */
#define REFERENCE_SLACK 2e-5

/* A sampler over the best operations here and one thread. */
struct test_sampler {
    struct gw_device *device;
    const struct gw_ops *ops;
    struct gw_sampler *sampler;
};

static inline struct test_sampler test_sampler_open(uint32_t vocab, enum gw_isa isa)
{
    struct test_sampler t = {0};
    gw_device_enter_thread();
    assert_int_equal(gw_device_cpu_create(1, false, &t.device, NULL), GW_OK);
    assert_int_equal(gw_ops_cpu("cpu-f32-2", isa, &t.ops, NULL), GW_OK);
    const struct gw_sampler_config config = {
        .vocab = vocab, .shares = REFERENCE_SHARES, .ops = t.ops, .device = t.device};
    assert_int_equal(gw_sampler_create(&config, &t.sampler), GW_OK);
    return t;
}

static inline void test_sampler_close(struct test_sampler *t)
{
    gw_sampler_destroy(t->sampler);
    gw_device_destroy(t->device);
}

static inline struct gw_sampling plain_sampling(void)
{
    return (struct gw_sampling){.top_p = 1, .repetition_penalty = 1, .max_tokens = 100};
}

/* ---- requests and rows of all kinds ---- */

struct random_draw {
    struct gw_sampling params;
    struct gw_sample_in in;
    uint32_t prompt[REFERENCE_TOKENS], output[REFERENCE_TOKENS], stops[4];
    struct gw_logit_bias bias[6];
};

static inline float between(struct gw_rng *r, float low, float high)
{
    return low + (high - low) * (float)gw_rng_unit(r);
}

static inline void random_truncation(struct gw_rng *r, uint32_t vocab, struct gw_sampling *p)
{
    p->temperature = between(r, 0.05f, 3);
    if (gw_rng_below(r, 2)) p->top_k = 1 + (uint32_t)gw_rng_below(r, gw_rng_below(r, 4) ? 60 : vocab);
    if (gw_rng_below(r, 2)) p->top_p = between(r, 0.01f, 1);
    if (gw_rng_below(r, 3) == 0) p->min_p = between(r, 0, 0.3f);
}

static inline void random_draw_fill(struct gw_rng *r, uint32_t vocab, struct random_draw *d)
{
    *d = (struct random_draw){.params = plain_sampling()};
    struct gw_sampling *p = &d->params;
    p->seed = gw_rng_next(r);
    if (gw_rng_below(r, 6)) random_truncation(r, vocab, p);
    for (uint32_t i = 0; i < REFERENCE_TOKENS; i++) {
        d->prompt[i] = (uint32_t)gw_rng_below(r, vocab);
        d->output[i] = (uint32_t)gw_rng_below(r, i % 2 ? vocab : vocab / 50 + 1); /* some again and again */
    }
    for (uint32_t i = 0; i < 4; i++) d->stops[i] = (uint32_t)gw_rng_below(r, vocab);
    for (uint32_t i = 0; i < 6; i++) /* the same id more than once, too */
        d->bias[i] = (struct gw_logit_bias){(uint32_t)gw_rng_below(r, vocab / 2 + 1), between(r, -5, 5)};
    if (gw_rng_below(r, 3) == 0) p->repetition_penalty = between(r, 0.7f, 1.8f);
    if (gw_rng_below(r, 3) == 0) p->presence_penalty = between(r, -2, 2);
    if (gw_rng_below(r, 3) == 0) p->frequency_penalty = between(r, -2, 2);
    p->stop_ids = d->stops;
    p->stop_ids_len = 4;
    p->min_tokens = (uint32_t)gw_rng_below(r, 2) * REFERENCE_TOKENS;
    p->bias = d->bias;
    p->bias_len = gw_rng_below(r, 3) == 0 ? 6 : 0;
    p->logprobs = gw_rng_below(r, 2);
    p->top_logprobs = p->logprobs ? (uint32_t)gw_rng_below(r, GW_REQUEST_TOP_MAX + 1) : 0;
    d->in = (struct gw_sample_in){.params = p,
                                  .prompt = d->prompt,
                                  .prompt_len = 1 + (uint32_t)gw_rng_below(r, REFERENCE_TOKENS),
                                  .output = d->output,
                                  .output_len = (uint32_t)gw_rng_below(r, REFERENCE_TOKENS),
                                  .branch = (uint32_t)gw_rng_below(r, 3)};
}

/* Flat and peaked, with ties, masked tokens and, in some, NaN. */
static inline void random_row(struct gw_rng *r, float *row, uint32_t vocab)
{
    float spread = (float)(1 << gw_rng_below(r, 7));
    bool coarse = gw_rng_below(r, 2), nan = gw_rng_below(r, 5) == 0;
    for (uint32_t i = 0; i < vocab; i++) {
        row[i] = spread * ((float)gw_rng_unit(r) + (float)gw_rng_unit(r) - 1);
        if (coarse) row[i] = floorf(row[i] * 4) / 4; /* many ties */
        if (gw_rng_below(r, 50) == 0) row[i] = -INFINITY;
        if (nan && gw_rng_below(r, 50) == 0) row[i] = NAN;
    }
}

/* ---- the reference ---- */

struct ranked {
    float x;
    uint32_t id;
};

static inline int best_first(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    if (x->x != y->x) return x->x > y->x ? -1 : 1;
    return x->id < y->id ? -1 : 1;
}

static inline bool seen(const uint32_t *ids, uint32_t len, uint32_t id)
{
    for (uint32_t i = 0; i < len; i++)
        if (ids[i] == id) return true;
    return false;
}

static inline float reference_logit(const struct gw_sample_in *in, const float *row, uint32_t id)
{
    const struct gw_sampling *p = in->params;
    float x = row[id];
    uint32_t count = 0;
    for (uint32_t i = 0; i < p->bias_len; i++)
        if (p->bias[i].id == id) x += p->bias[i].bias;
    if (p->repetition_penalty != 1 &&
        (seen(in->prompt, in->prompt_len, id) || seen(in->output, in->output_len, id)))
        x = x > 0 ? x / p->repetition_penalty : x * p->repetition_penalty;
    for (uint32_t i = 0; i < in->output_len; i++) count += in->output[i] == id;
    if (count) x -= p->frequency_penalty * (float)count + p->presence_penalty;
    if (in->output_len < p->min_tokens && seen(p->stop_ids, p->stop_ids_len, id)) x = -INFINITY;
    return x;
}

/* Ends of the candidates: with and against what rounding may add. */
static inline void reference_ends(const struct gw_sampling *p, const struct ranked *a, uint32_t n,
                                  uint32_t ends[2])
{
    double total = 0;
    for (uint32_t i = 0; i < n; i++) total += exp(((double)a[i].x - (double)a[0].x) / (double)p->temperature);
    for (int side = 0; side < 2; side++) {
        double slack = side ? 1 + REFERENCE_SLACK : 1 - REFERENCE_SLACK, mass = 0;
        uint32_t end = n;
        for (uint32_t i = 0; p->top_p < 1 && i < end; i++) {
            mass += exp(((double)a[i].x - (double)a[0].x) / (double)p->temperature);
            if (mass >= (double)p->top_p * total * slack) end = i + 1;
        }
        while (end > 1 && exp(((double)a[end - 1].x - (double)a[0].x) / (double)p->temperature) * slack <
                              (double)p->min_p)
            end--;
        ends[side] = end;
    }
}

/* Is that the id that the definition draws? By sorting everything, in float64; where rounding decides, any that is right
 * within it. */
static inline bool reference_accepts(const struct gw_sample_in *in, const float *row, uint32_t vocab,
                                     uint32_t id, struct ranked *scratch)
{
    const struct gw_sampling *p = in->params;
    uint64_t stream = gw_keyed_stream(p->seed, in->branch, in->output_len);
    uint32_t n = 0, ends[2] = {0, 0};
    for (uint32_t i = 0; i < vocab; i++) {
        float x = reference_logit(in, row, i);
        if (x == x) scratch[n++] = (struct ranked){x, i};
    }
    if (n == 0) return id == 0;
    qsort(scratch, n, sizeof *scratch, best_first);
    if (p->temperature <= 0 || !isfinite(scratch[0].x)) return id == scratch[0].id;
    while (n > 0 && scratch[n - 1].x == -INFINITY) n--;
    if (p->top_k && n > p->top_k) n = p->top_k;
    reference_ends(p, scratch, n, ends);
    uint32_t low = ends[0] < ends[1] ? ends[0] : ends[1], high = ends[0] < ends[1] ? ends[1] : ends[0];
    double best = (double)-INFINITY, own = (double)-INFINITY; /* of those that are certain */
    for (uint32_t i = 0; i < high; i++) {
        double u = ((double)gw_keyed_bits(stream, scratch[i].id) + 0.5) * 0x1p-52;
        double score = (double)scratch[i].x / (double)p->temperature - log(-log(u));
        if (i < low && score > best) best = score;
        if (scratch[i].id == id) own = score;
    }
    return own >= best - REFERENCE_SLACK * (1 + fabs(best));
}

static inline void assert_logprobs_near(const struct gw_sample_in *in, const float *row, uint32_t vocab,
                                        const struct gw_sample_out *out)
{
    double sum = 0, top = (double)-INFINITY;
    if (!in->params->logprobs) return;
    for (uint32_t i = 0; i < vocab; i++) {
        if (row[i] != row[i]) return; /* what NaN does to them is not defined */
        if ((double)row[i] > top) top = (double)row[i];
    }
    for (uint32_t i = 0; i < vocab; i++) sum += exp((double)row[i] - top);
    double want = (double)row[out->id] - top - log(sum);
    assert_true(fabs(want - (double)out->logprob) < 1e-4 || (want < -9000 && out->logprob == GW_LOGPROB_MIN));
    for (uint32_t i = 0; i < in->params->top_logprobs; i++) {
        float x = row[out->top[i].id], before = i ? row[out->top[i - 1].id] : INFINITY;
        want = (double)x - top - log(sum);
        assert_true(fabs(want - (double)out->top[i].logprob) < 1e-4 ||
                    (want < -9000 && out->top[i].logprob == GW_LOGPROB_MIN));
        assert_true(x < before || (x == before && out->top[i].id > out->top[i - 1].id));
    }
}

#endif
