/* Order: the best logits of a whole row, sorted.
 *
 * The distances from the best, top - x >= 0, are ordered by their bits: a histogram over the top 11 of them finds how far
 * down so many reach; what lies above is collected and radix-sorted as words (kernels/pick.h).
 *
 * Owner: the caller's arrays. Thread: any, FTZ and DAZ on. Units: ids. Errors: none. Source: own design. */
#ifndef GW_WORKER_ORDER_H
#define GW_WORKER_ORDER_H

#include <stdbool.h>
#include <stdint.h>

/* Writes at least the `count` best logits of x[vocab] to words, best first, or all that are above -infinity (*all), and
 * returns how many. top: the largest, finite. words, spare: [vocab]. */
uint32_t gw_order_best(const float *x, uint32_t vocab, float top, uint32_t count, uint64_t *words,
                       uint64_t *spare, bool *all);

#endif
