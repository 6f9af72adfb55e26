/* Requests of all kinds, made from a seed: lengths from 1 token on, greedy and random, every sampling
 * parameter on in some of them. The i-th of a seed is always the same. */
#ifndef GW_TESTS_MIXED_REQUESTS_H
#define GW_TESTS_MIXED_REQUESTS_H

#include "tests/lib/engine_fixture.h"

#define MIXED_PROMPT_MAX   300 /* beyond one attention chunk (256) */
#define MIXED_PROMPT_SHORT 48
#define MIXED_LONG_EVERY   11 /* one in so many is long */
#define MIXED_NEW_MAX      40

static inline float mixed_pick(struct gw_rng *r, float low, float high)
{
    return low + (high - low) * (float)gw_rng_unit(r);
}

static inline void mixed_truncation(struct gw_rng *r, struct gw_sampling *s)
{
    s->temperature = mixed_pick(r, 0.3f, 2.0f);
    if (gw_rng_below(r, 2)) s->top_k = 1 + (uint32_t)gw_rng_below(r, 60);
    if (gw_rng_below(r, 2)) s->top_p = mixed_pick(r, 0.1f, 1.0f);
    if (gw_rng_below(r, 3) == 0) s->min_p = mixed_pick(r, 0.0f, 0.2f);
}

static inline void mixed_penalties(struct gw_rng *r, struct gw_sampling *s)
{
    s->presence_penalty = mixed_pick(r, -1, 2);
    s->frequency_penalty = mixed_pick(r, -1, 2);
    s->repetition_penalty = mixed_pick(r, 0.8f, 1.6f);
}

/* Stop ids that a model of a few hundred ids will meet, kept off by min_tokens for a while. */
static inline void mixed_stops(struct gw_rng *r, struct gw_sampling *s, uint32_t vocab)
{
    s->stop_ids_len = 24;
    s->stop_ids = malloc(s->stop_ids_len * sizeof *s->stop_ids);
    for (uint32_t i = 0; i < s->stop_ids_len; i++) s->stop_ids[i] = (uint32_t)gw_rng_below(r, vocab);
    s->min_tokens = (uint32_t)gw_rng_below(r, s->max_tokens);
}

static inline void mixed_bias(struct gw_rng *r, struct gw_sampling *s, uint32_t vocab)
{
    s->bias_len = 5;
    s->bias = malloc(s->bias_len * sizeof *s->bias);
    for (uint32_t i = 0; i < s->bias_len; i++)
        s->bias[i] = (struct gw_logit_bias){(uint32_t)gw_rng_below(r, vocab), mixed_pick(r, -20, 20)};
}

/* Request id i + 1 of this seed; the tenant is its own, so that it shares no prefix unless the test says so.
 */
static inline struct gw_request mixed_request(uint64_t seed, uint32_t i, uint32_t vocab)
{
    uint32_t prompt[MIXED_PROMPT_MAX];
    struct gw_rng r;
    gw_rng_init(&r, seed * 1000 + i);
    uint32_t len = 1 + (uint32_t)gw_rng_below(&r, MIXED_PROMPT_SHORT);
    if (i % MIXED_LONG_EVERY == 0) len = MIXED_PROMPT_MAX - len;
    for (uint32_t k = 0; k < len; k++) prompt[k] = (uint32_t)gw_rng_below(&r, vocab);
    struct gw_request q = fixture_request(i + 1, prompt, len, 1 + (uint32_t)gw_rng_below(&r, MIXED_NEW_MAX));
    struct gw_sampling *s = &q.sampling;
    memcpy(q.tenant, &i, sizeof i);
    s->seed = gw_rng_next(&r);
    if (gw_rng_below(&r, 4)) mixed_truncation(&r, s);
    if (gw_rng_below(&r, 3) == 0) mixed_penalties(&r, s);
    if (gw_rng_below(&r, 3) == 0) mixed_bias(&r, s, vocab);
    if (gw_rng_below(&r, 2)) mixed_stops(&r, s, vocab);
    s->logprobs = gw_rng_below(&r, 2);
    if (s->logprobs) s->top_logprobs = (uint32_t)gw_rng_below(&r, 6);
    return q;
}

static inline uint32_t mixed_top_n(uint64_t seed, uint32_t i, uint32_t vocab)
{
    struct gw_request q = mixed_request(seed, i, vocab);
    uint32_t n = q.sampling.top_logprobs;
    gw_request_fini(&q);
    return n;
}

#endif
