/* Best: a rank's columns of a logit row as they travel to the leader: all of them, or as many of the best as decide the
 * draw.
 *
 *     keep = 0, or that is shorter   f32 × columns
 *     else                            (u32 id, f32 logit) × keep in any order: the first by logit descending, id
 *                                     ascending; NaN never. Id 2^32 - 1: there were not so many
 *
 * Owner: caller memory. Thread: any. Units: words of 4 bytes. Errors: gw_best_get's false. Source: own design; DESIGN part
 * 4 (vocabulary-parallel sampling). */
#ifndef GW_WORKER_BEST_H
#define GW_WORKER_BEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Words that one row takes. */
static inline size_t gw_best_words(uint32_t keep, uint32_t columns)
{
    return keep == 0 || keep >= columns / 2 ? columns : 2 * (size_t)keep;
}

/* Writes row[columns], whose column 0 is token id `first`; returns the words written. */
size_t gw_best_put(const float *row, uint32_t columns, uint32_t first, uint32_t keep, float *to);

/* Reads it into a whole row, of which [first, first + columns) is written. False for an id outside of that. */
bool gw_best_get(const float *from, uint32_t columns, uint32_t first, uint32_t keep, float *row);

#endif
