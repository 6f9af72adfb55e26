/* The CPU device inside the backend: its threads share out the items of one job at a time.
 *
 * gw_device_parallel(job, items) runs fn over [0, items) in ranges, on the caller's thread and on whichever
 * helper threads are awake in time; it returns when all ranges are done. A helper that wakes late finds the
 * job closed and is not waited for, so that a thread without a core costs nothing. Which thread takes which
 * range is chance: fn's results may not depend on it.
 *
 * Owner: the device owns its threads, one scratch area per thread, one for quantized rows. Thread: one caller at a time, FTZ and
 * DAZ on (asserted). Units: ns for cost. Errors: none. Source: own design. */
#ifndef GW_KERNELS_CPU_DEVICE_H
#define GW_KERNELS_CPU_DEVICE_H

#include "kernels/op.h"

/* Per thread; the largest user is a tree of products (kernels/cpu/matmul.c). */
#define GW_SCRATCH_BYTES (720 * 1024)

/* Rows of x that a product has quantized, and their scales (kernels/cpu/matmul_int8.h); resident only as far as rows
 * have been there. The longest row, 128 shares of GW_INT8_K_MAX each, has half of it. */
#define GW_QUANT_BYTES ((size_t)32 << 20)

/* Handles items [first, last). scratch: GW_SCRATCH_BYTES, 64-byte aligned, the thread's own, of any content.
 */
typedef void gw_work_fn(const void *arg, void *scratch, size_t first, size_t last);

/* item_ns: about how long one item takes on one thread; small jobs run on the caller alone. */
void gw_device_parallel(struct gw_device *dev, gw_work_fn *fn, const void *arg, size_t items, double item_ns);

/* The same of items of which some may take many times as long as others, by item_ns on average: in shorter ranges. */
void gw_device_parallel_uneven(struct gw_device *dev, gw_work_fn *fn, const void *arg, size_t items,
                               double item_ns);

/* GW_QUANT_BYTES, 64-byte aligned, of any content. */
void *gw_device_quant(struct gw_device *dev);

#endif
