/* Sampler: the parts of one logit row → one record, a pure function of the row, the parameters and the branch's tokens.
 *
 *     raw row → bias → repetition → presence, frequency → min_tokens mask → top-k → top-p → min-p →
 * the id with the largest logit / temperature + Gumbel(seed, branch, position, id);  temperature 0: the largest logit
 *
 * Order "best first" is by (logit descending, id ascending) everywhere, so equal logits never make a draw depend on chance:
 * top-k keeps the first k, top-p the shortest beginning whose weight e^z, z = (logit - largest) / temperature, reaches p
 * times that of all that top-k left, min-p those with z >= ln(min-p). Weights add up in whole units of 2^-40, so their
 * order does not matter; what all of a row weighs is summed in floats by shares and the fixed tree. Logprobs are of the raw
 * row, likewise.
 *
 * So a draw needs no whole row: each rank tells of its columns what a wish asks (worker/wish.h). gw_sampler_decide draws
 * from such parts unless they cannot decide; gw_sampler_draw draws from the whole row: the same record, whatever
 * the parts were.
 *
 * Owner: gw_sampler_destroy frees the scratch; operations and device must outlive it. Thread: one, with FTZ and DAZ on
 * (gw_device_enter_thread). Units: token ids. Errors: GW_ERR_MEMORY at creation. NaN logits are never chosen unless all
 * are. Source: DESIGN part 4; penalties as vLLM defines them. */
#ifndef GW_WORKER_SAMPLER_H
#define GW_WORKER_SAMPLER_H

#include "migrate/request.h"
#include "worker/wish.h"

struct gw_sampler;

struct gw_sampler_config {
    uint32_t vocab, shares;
    const struct gw_ops *ops;
    struct gw_device *device;
};

struct gw_sample_out {
    uint32_t id;
    float logprob;                         /* 0 unless params->logprobs */
    struct gw_top top[GW_REQUEST_TOP_MAX]; /* the first params->top_logprobs are set */
};

/* What stands for a logprob of minus infinity, which JSON cannot say. */
#define GW_LOGPROB_MIN (-9999.0f)

gw_err_t gw_sampler_create(const struct gw_sampler_config *config, struct gw_sampler **out) GW_MUST_USE;
void gw_sampler_destroy(struct gw_sampler *sampler);

/* The wish for this token; lists go to the room. */
void gw_sampler_wish(struct gw_sampler *sampler, const struct gw_sample_in *in, struct gw_wish_room *room,
                     struct gw_wish *out);

/* Draws from the parts of all columns, ascending, picked by this wish. False: they cannot decide (*out is then undefined). */
bool gw_sampler_decide(const struct gw_sample_in *in, const struct gw_pick_want *want,
                       const struct gw_pick_part *parts, uint32_t parts_len, struct gw_sample_out *out);

/* Draws from the whole row[vocab]. part: what was picked from all of it, and could not decide; NULL: nothing was. */
void gw_sampler_draw(struct gw_sampler *sampler, const struct gw_sample_in *in, const float *row,
                     const struct gw_pick_part *part, struct gw_sample_out *out);

#endif
