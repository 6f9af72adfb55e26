/* Part: what a rank picked from its columns of a logit row (kernels/pick.h), as it travels to the leader.
 *
 *     words          field
 *     3 · n          (u32 id, f32 logit, f32 raw) × n, best first; n = keep, or 1 by score, or all columns if those are
 *                    fewer. Id 2^32 - 1: there were not so many numbers
 *     2 · t          (u32 id, f32 raw) × t, best first, likewise; t = top, or all columns
 *     2 · shares     (f32 max, f32 sum) of the weights, if they are wanted
 *     2 · shares     (f32 max, f32 sum) of the stats, if they are wanted
 *
 * Both sides know the length from the wish.
 *
 * Owner: caller memory. Thread: any. Units: words of 4 bytes. Errors: gw_part_get's false. Source: own design; DESIGN part
 * 4 (sampling). */
#ifndef GW_WORKER_PART_H
#define GW_WORKER_PART_H

#include "kernels/pick.h"

/* Of any part. */
#define GW_PART_WORDS_MAX (3 * GW_PICK_KEEP_MAX + 2 * GW_PICK_TOP_MAX + 4 * GW_SHARES_MAX)

/* Columns [first, first + columns) of `shares` shares. */
struct gw_part_of {
    uint32_t first, columns, shares;
};

size_t gw_part_words(const struct gw_pick_want *want, const struct gw_part_of *of);
/* Writes gw_part_words words. */
void gw_part_put(const struct gw_pick_part *part, const struct gw_pick_want *want,
                 const struct gw_part_of *of, float *to);
/* Reads as many. False for ids that are not of these columns. */
bool gw_part_get(const float *from, const struct gw_pick_want *want, const struct gw_part_of *of,
                 struct gw_pick_part *part);

#endif
