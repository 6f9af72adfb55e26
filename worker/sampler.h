/* Sampler: one logit row → one record, a pure function of the row, the parameters and the branch's tokens.
 *
 *     raw row → bias → repetition → presence, frequency → min_tokens mask → temperature → top-k → top-p →
 * min-p → the id with the largest z + Gumbel(seed, branch, position, id);  temperature 0: the largest logit
 *
 * z = (logit - largest) / temperature. Order "best first" is by (logit descending, id ascending) everywhere,
 * so equal logits never make a draw depend on chance: top-k keeps the first k, top-p the shortest beginning
 * whose probability (among what top-k left) reaches p, min-p those with at least p times the best one's.
 * Logprobs are of the raw row.
 *
 * A row costs O(vocab), and O(tokens so far) when a penalty is on; nothing is allocated.
 *
 * Owner: gw_sampler_destroy frees the scratch. Thread: one, with FTZ and DAZ on (gw_device_enter_thread).
 * Units: token ids. Errors: GW_ERR_MEMORY at creation. NaN logits are never chosen unless all are.
 * Source: DESIGN part 4; penalties as vLLM defines them. */
#ifndef GW_WORKER_SAMPLER_H
#define GW_WORKER_SAMPLER_H

#include "migrate/request.h"

struct gw_sampler;

struct gw_sample_in {
    const float *logits; /* [vocab] */
    const struct gw_sampling *params;
    const uint32_t *prompt, *output; /* ids < vocab */
    uint32_t prompt_len, output_len; /* output_len is the position that is drawn */
    uint32_t branch;
    float max, sum; /* softmax statistics of the row (gw_ops.softmax_stats); used for logprobs only */
};

struct gw_sample_out {
    uint32_t id;
    float logprob;                         /* 0 unless params->logprobs */
    struct gw_top top[GW_REQUEST_TOP_MAX]; /* the first params->top_logprobs are set */
};

/* What stands for a logprob of minus infinity, which JSON cannot say. */
#define GW_LOGPROB_MIN (-9999.0f)

gw_err_t gw_sampler_create(uint32_t vocab, struct gw_sampler **out) GW_MUST_USE;
void gw_sampler_destroy(struct gw_sampler *sampler);

/* How many of the row's best logits (logit descending, id ascending) decide the draw, whatever the others are below
 * them: a row with -infinity in their place gives the same id. 0: all are needed. */
uint32_t gw_sampler_keep(const struct gw_sampling *params, uint32_t output_len);

/* The largest gw_sampler_keep. */
#define GW_SAMPLER_KEEP_MAX 256

void gw_sampler_draw(struct gw_sampler *sampler, const struct gw_sample_in *in, struct gw_sample_out *out);

#endif
