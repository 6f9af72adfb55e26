/* The fixed tree that adds the partial sums of S shares, for any cut of the shares into ranges.
 *
 * A program is a list of additions value[to] += value[from] over S slots, a slot per share; slot 0 has the sum of all
 * when every addition of the tree is done:
 *
 *     for step = 1, 2, 4, … < S:  for i = 0, 2 step, 4 step, … with i + step < S:  value[i] += value[i + step]
 *
 * What an addition sums is the subtree of shares [to, min(to + 2 step, S)). A range that holds all of these owns the
 * subtree whole and does the addition itself; the slots that are left of the range are its roots. The additions that no
 * range owns finish the tree. Either part keeps the order above, so the same sums are added whatever the cut.
 *
 *     S = 8, ranges [0,3) [3,6) [6,8)    within              roots       rest
 *                                        0 += 1              0 2         2 += 3, 0 += 2, 4 += 6, 0 += 4
 *                                        4 += 5              3 4
 *                                        6 += 7              6
 *
 * Owner: the caller's arrays. Thread: any. Units: shares. Errors: none; 1 <= S <= GW_SHARES_MAX and ranges within it are
 * asserted. Source: own design; DESIGN part 4. */
#ifndef GW_KERNELS_SHARE_TREE_H
#define GW_KERNELS_SHARE_TREE_H

#include "kernels/op.h"

struct gw_share_add {
    uint8_t to, from;
};

#define GW_SHARE_ADDS_MAX  (GW_SHARES_MAX - 1)
#define GW_SHARE_ROOTS_MAX 12 /* of one range: two for each size of subtree from 1 to S / 4 */

/* The additions whose subtree lies within [first, last). Returns how many. */
uint32_t gw_share_tree_within(uint32_t shares, uint32_t first, uint32_t last,
                              struct gw_share_add adds[GW_SHARE_ADDS_MAX]);

/* The slots of [first, last) that are left after those, ascending. Returns how many: none of an empty range. */
uint32_t gw_share_tree_roots(uint32_t shares, uint32_t first, uint32_t last,
                             uint8_t roots[GW_SHARE_ROOTS_MAX]);

/* The additions whose subtree lies within no range [cuts[i], cuts[i + 1]); cuts[ranges + 1], ascending from 0 to S. */
uint32_t gw_share_tree_rest(uint32_t shares, const uint16_t *cuts, uint32_t ranges,
                            struct gw_share_add adds[GW_SHARE_ADDS_MAX]);

#endif
