/* Pick on the CPU: what its variants share (kernels/pick.h).
 *
 * The best `keep` of a row are found in one pass over words (logit, id): those better than a bar are collected, and when
 * there is no more room, the best `keep` stay and the worst of them is the new bar. Few elements pass the bar after the
 * first thousand, so the pass costs little more than reading. The one of the best score starts from the best logit: nearly
 * all others are then hopeless by their random bits alone (kernels/keyed_random.h). Both results are defined without
 * regard to the order in which elements are looked at, so variants agree to the bit.
 *
 * Owner: all memory is the caller's. Thread: rows are independent. Units: elements. Errors: none; lengths are asserted.
 * Source: own design. */
#ifndef GW_KERNELS_CPU_PICK_H
#define GW_KERNELS_CPU_PICK_H

#include <assert.h>
#include <float.h>

#include "kernels/cpu/device.h"
#include "kernels/cpu/simd_c.h"
#include "kernels/keyed_random.h"
#include "kernels/pick.h"

#define GW_PICK_BLOCK 64 /* elements between two looks at the room */
#define GW_PICK_WORDS (2 * GW_PICK_KEEP_MAX + GW_PICK_BLOCK)

/* The best of what has been pushed, and some that were not good enough yet. */
struct gw_pick_heap {
    uint32_t keep, len;
    float bar; /* once there were `keep`: what is not above it is not among the best */
    uint64_t words[GW_PICK_WORDS];
};

/* Room for another block of pushes; lets go of what is not among the best if there is none. */
void gw_pick_heap_make_room(struct gw_pick_heap *h);
static inline bool gw_pick_heap_is_full(const struct gw_pick_heap *h)
{
    return h->len + GW_PICK_BLOCK > GW_PICK_WORDS;
}

static inline void gw_pick_push(struct gw_pick_heap *h, float logit, uint32_t id)
{
    h->words[h->len++] = gw_pick_word(logit, id);
}

/* Pushes elements, NaN excepted, one by one until there is no room or none left; returns how many were looked at. */
uint32_t gw_pick_fill(struct gw_pick_heap *h, const float *x, uint32_t columns, uint32_t first);

/* The best score so far. */
struct gw_pick_draw {
    uint64_t stream;
    float inverse;
    float reference; /* relative logits: (x - reference) · inverse */
    double score;
    uint32_t id;
};

/* Takes the id if its score is better; returns whether it is. */
bool gw_pick_try(struct gw_pick_draw *d, float logit, uint32_t id);

static inline float gw_pick_relative_best(const struct gw_pick_draw *d)
{
    return (float)(d->score - (double)d->reference * (double)d->inverse);
}

/* What a variant is made of. x[columns], column 0 is id `first`. */
struct gw_pick_variant {
    void (*best)(struct gw_pick_heap *h, const float *x, uint32_t columns, uint32_t first);
    void (*draw)(struct gw_pick_draw *d, const float *x, uint32_t columns, uint32_t first);
    /* Of a share: max, and the sum of e^((x - max) · inverse) over 16 virtual lanes counted from its start. */
    struct gw_pick_sum (*sum)(const float *x, uint32_t columns, float inverse);
};

/* rows[first, last) of a job. */
struct gw_pick_job {
    const struct gw_pick_row *rows;
    const struct gw_pick_variant *variant;
};
gw_work_fn gw_pick_rows;

struct gw_weigh_job {
    float *y;
    const float *x;
    uint32_t n;
    float top, inverse;
};

#define GW_WEIGH_BLOCK 4096u /* elements that one thread takes at a time */

static inline uint32_t gw_weigh_end(const struct gw_weigh_job *job, uint32_t at)
{
    return job->n - at < GW_WEIGH_BLOCK ? job->n : at + GW_WEIGH_BLOCK;
}

static inline size_t gw_weigh_blocks(uint32_t n)
{
    return (n + (size_t)GW_WEIGH_BLOCK - 1) / GW_WEIGH_BLOCK;
}

#define GW_PICK_COLUMN_NS 0.5 /* about, for all passes over a row */

#endif
