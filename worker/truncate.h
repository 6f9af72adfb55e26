/* Truncation: the candidates that top-k, top-p and min-p leave of a row, best first.
 *
 * Rows are z <= 0 with z = 0 for the best (sampler.h), so the bits of |z| order them: a candidate is the
 * 64-bit word (bits of |z|) << 32 | id, and ascending words are (logit descending, id ascending). A histogram
 * over the top 11 bits finds how far down the row the limits reach; only what lies above is collected and
 * radix-sorted.
 *
 * Owner: the caller's arrays, [vocab] each. Thread: any, FTZ and DAZ on. Units: ids. Errors: none.
 * Source: own design. */
#ifndef GW_WORKER_TRUNCATE_H
#define GW_WORKER_TRUNCATE_H

#include <stdint.h>

struct gw_truncation {
    uint32_t top_k; /* 0 = all */
    float top_p;    /* 1 = all */
    float min_p;    /* 0 = all */
};

static inline uint32_t gw_candidate_id(uint64_t candidate)
{
    return (uint32_t)candidate;
}

/* Arrays of [vocab]; what they hold before does not matter. */
struct gw_truncation_scratch {
    uint64_t *candidates, *spare;
    float *weights;
};

/* Leaves the candidates in scratch->candidates and returns how many are kept: at least 1 unless no z is finite. */
uint32_t gw_truncate(const float *z, uint32_t vocab, const struct gw_truncation *limits,
                     struct gw_truncation_scratch *scratch);

#endif
