/* Assignment: Kuhn-Munkres in integers, O(n^3).
 *
 * Finds a permutation of columns that maximises the sum of value[row][column] over a square matrix. The method keeps
 * potentials u (rows) and v (columns) with u[i] + v[j] <= cost[i][j], and adds one row at a time along a shortest
 * augmenting path of reduced costs; ties are broken by the lower column, so equal input gives equal output.
 *
 * Owner: plain arrays. Thread: any; pure. Units: the caller's; |value| <= GW_ASSIGN_VALUE_MAX.
 * Errors: none; n <= GW_ASSIGN_MAX is the caller's to keep (asserted). Source: Kuhn 1955, Munkres 1957; the form with
 * potentials after Jonker and Volgenant 1987. */
#ifndef GW_CONTROLLER_PLAN_ASSIGN_H
#define GW_CONTROLLER_PLAN_ASSIGN_H

#include <stdint.h>

#define GW_ASSIGN_MAX       256
#define GW_ASSIGN_VALUE_MAX ((int64_t)1 << 52) /* sums over 256 rows stay far from overflow */

/* value [n][n], row by row; column_of [n] gets each row's column. Returns the sum. */
int64_t gw_assign(const int64_t *value, uint32_t n, uint32_t *column_of);

#endif
