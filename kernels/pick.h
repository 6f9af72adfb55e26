/* Pick: what some columns of one logit row say about the row's next token.
 *
 * A row is drawn from by shares of its vocabulary: each rank picks from its own columns what can decide, and the leader
 * joins the parts (worker/sampler.h). A part is the same whatever the columns' rank is, so every layout draws the same.
 *
 *     raw row ─┬─► stats (max, sum of e^(x - max)) per share, the best `top`                  logprobs
 *              └─► edits: bias, repetition, presence and frequency, mask
 *                    ├─► the best `keep` logits, or the one of the best score                 candidates
 *                    └─► weights (max, sum of e^((x - max) · inverse)) per share               top-p
 *
 *     score(id) = x · inverse + Gumbel(stream, id)                                    kernels/keyed_random.h
 *
 * "Best" is logit (or score) descending, id ascending. NaN is never picked and has no weight.
 *
 * Owner: all memory is the caller's. Thread: any; FTZ and DAZ on. Units: token ids, columns, shares. Errors: none; ids of
 * edits may lie outside the columns: those are skipped. Source: own design; DESIGN part 4 (sampling). */
#ifndef GW_KERNELS_PICK_H
#define GW_KERNELS_PICK_H

#include <stdint.h>

#include "kernels/convert.h"

#define GW_PICK_KEEP_MAX 256 /* candidates of one part: nearly always enough for top-p, and 3 KiB */
#define GW_PICK_TOP_MAX  20  /* OpenAI's limit of top_logprobs */

struct gw_pick_change {
    uint32_t id;
    float value;
};

/* Applied list after list. A list of added, repeated or taken has no id twice (worker/wish.h makes none that has): a device
 * edits all of a list at once. */
struct gw_pick_edits {
    const struct gw_pick_change *added; /* x += value */
    const uint32_t *repeated;           /* x = x > 0 ? x / repetition : x * repetition */
    const struct gw_pick_change *taken; /* x -= value */
    const uint32_t *masked;             /* x = -infinity */
    uint32_t added_len, repeated_len, taken_len, masked_len;
    float repetition;
};

struct gw_pick_want {
    uint64_t stream; /* of the scores */
    float inverse;   /* 1 / temperature; 0: greedy */
    uint32_t keep;   /* so many by logit, <= GW_PICK_KEEP_MAX; 0: the one of the best score */
    uint32_t top;    /* so many by raw logit, <= GW_PICK_TOP_MAX */
    bool weights, stats;
    struct gw_pick_edits edits;
};

struct gw_pick_entry {
    uint32_t id;
    float logit, raw; /* after and before the edits */
};

struct gw_pick_sum {
    float max, sum; /* (-FLT_MAX, 0) of nothing */
};

struct gw_pick_part {
    uint32_t entries_len, top_len, shares;          /* shares: length of the sums */
    bool all;                                       /* the columns have no other candidates */
    struct gw_pick_entry entries[GW_PICK_KEEP_MAX]; /* best first */
    struct gw_pick_entry top[GW_PICK_TOP_MAX];      /* best first; logit = raw */
    struct gw_pick_sum weights[GW_SHARES_MAX], stats[GW_SHARES_MAX];
};

/* One row's columns of shares [share_first, share_last) of `shares`. */
struct gw_pick_row {
    float *x; /* [columns] raw; edited during the call, afterwards as before */
    uint32_t vocab, shares, share_first, share_last;
    const struct gw_pick_want *want;
    float *kept; /* [gw_pick_edits_len] scratch */
    struct gw_pick_part *part;
};

static inline uint32_t gw_pick_edits_len(const struct gw_pick_edits *e)
{
    return e->added_len + e->repeated_len + e->taken_len + e->masked_len;
}

/* What the repetition penalty makes of a logit. */
GW_BOTH static inline float gw_pick_repeated(float x, float repetition)
{
    return x > 0 ? x / repetition : x * repetition;
}

/* First column of a share. */
GW_BOTH static inline uint32_t gw_pick_share_at(uint32_t vocab, uint32_t shares, uint32_t share)
{
    return (uint32_t)((uint64_t)share * vocab / shares);
}

/* Edits x[columns], whose column 0 is id `first`; kept [gw_pick_edits_len], unless NULL, gets what undo needs. */
void gw_pick_edit(float *x, uint32_t first, uint32_t columns, const struct gw_pick_edits *edits, float *kept);
void gw_pick_undo(float *x, uint32_t first, uint32_t columns, const struct gw_pick_edits *edits,
                  const float *kept);

/* Adds up the sums of all shares by the fixed tree, in place: pairs merge as M = max(a, b), sum = sum_a e^((max_a - M) ·
 * inverse) + sum_b e^((max_b - M) · inverse). inverse is that of the sums; 1 for stats. */
struct gw_pick_sum gw_pick_tree(struct gw_pick_sum *sums, uint32_t shares, float inverse);

/* A logit and its id as one word: ascending words are best first. -0 counts as 0, as do denormals (DAZ). */
GW_BOTH static inline uint64_t gw_pick_word(float logit, uint32_t id)
{
    uint32_t bits = gw_f32_bits(logit + 0.0f);
    uint32_t ascending = bits >> 31 ? ~bits : bits | 0x80000000u;
    return (uint64_t)~ascending << 32 | id;
}

GW_BOTH static inline float gw_pick_word_logit(uint64_t word)
{
    uint32_t ascending = ~(uint32_t)(word >> 32);
    return gw_f32_of_bits(ascending >> 31 ? ascending & 0x7FFFFFFFu : ~ascending);
}

#endif
