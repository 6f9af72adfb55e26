/* Cut: top-k, top-p and min-p of a whole row: what they drop becomes -infinity.
 *
 * Order and mass are those of worker/sampler.h: by (logit descending, id ascending), and weights in units that add up
 * exactly in any order. So a histogram of the distances from the best, top - x >= 0, ordered by their top 11 bits, finds
 * the bucket in which a limit lies, and only that bucket is sorted: the cost hardly depends on how flat the row is.
 *
 * Owner: the caller's arrays. Thread: any, FTZ and DAZ on. Units: ids; GW_MASS_UNIT. Errors: none. Source: own design. */
#ifndef GW_WORKER_CUT_H
#define GW_WORKER_CUT_H

#include <stdint.h>

/* Weights are at most 1: 2^17 of them still fit into 64 bits many times over, and the least that counts is that of a token
 * that is drawn once in 10^12 times. */
#define GW_MASS_UNIT 0x1p-40

/* More than 1 (NaN too), which only a rank that lies can bring about, counts as 1. */
static inline uint64_t gw_mass_of(float weight)
{
    return (uint64_t)((double)(weight < 1 ? weight : 1) * (1 / GW_MASS_UNIT));
}

struct gw_cut {
    float top;      /* the largest logit, finite */
    float inverse;  /* 1 / temperature */
    uint32_t count; /* top-k; 0 = all */
    float top_p;    /* 1 = all */
    double
        mass; /* that top_p is of, in units; used unless there is a count: then it is of what that leaves */
    float z_min; /* of (x - top) · inverse; -infinity = all */
};

struct gw_cut_scratch {
    float *weights;          /* [vocab] e^((x - top) · inverse), NaN's are 0; used if top_p < 1 */
    uint64_t *words, *spare; /* [vocab] */
};

void gw_cut_row(float *x, uint32_t vocab, const struct gw_cut *cut, const struct gw_cut_scratch *scratch);

#endif
