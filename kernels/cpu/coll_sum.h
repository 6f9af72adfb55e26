/* The additions of a share tree over rows of elements, spread over the threads of a CPU device.
 *
 * A program (kernels/share_tree.h) runs over GW_SUM_CHUNK elements at a time, all its additions before the next chunk:
 * every element is read once and what lies between stays in the first-level cache.
 *
 * Owner: the caller's memory. Thread: as gw_device_parallel. Units: elements. Errors: none. Source: own design. */
#ifndef GW_KERNELS_CPU_COLL_SUM_H
#define GW_KERNELS_CPU_COLL_SUM_H

#include "kernels/cpu/device.h"
#include "kernels/share_tree.h"

#define GW_SUM_CHUNK 128u /* 64 KB of a thread's scratch for the most shares */

struct gw_sum {
    const struct gw_share_add *adds; /* [adds_len] */
    uint32_t adds_len;
    size_t elems;
};

/* The program on rows[slot][elems], in place; rows of other slots may be NULL. */
void gw_sum_in_place(struct gw_device *dev, const struct gw_sum *sum, float *const *rows);

/* The same with rows only read; what slot 0 has in the end is written to total (unless NULL) and added to residual
 * (unless NULL), [elems] each. */
void gw_sum_to(struct gw_device *dev, const struct gw_sum *sum, const float *const *rows, float *total,
               float *residual);

/* Elements are cut into slices for `parts` ranks, whole cache lines each: part i begins here, part `parts` at elems. */
size_t gw_sum_slice_at(size_t elems, uint32_t parts, uint32_t i);
/* No slice of so many elements, or fewer, is longer. */
size_t gw_sum_slice_max(size_t elems, uint32_t parts);

/* to[elems] += from[elems] */
void gw_sum_add(struct gw_device *dev, float *to, const float *from, size_t elems);

#endif
