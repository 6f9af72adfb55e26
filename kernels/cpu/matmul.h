/* Products y = x · wᵀ: the walk over tiles that all variants share, and the micro-kernel that each brings.
 *
 * An item is a rectangle of y: some 64-column tiles of one weight × up to GW_ITEM_ROWS rows, all of k. Inside it:
 *
 *     for each block of GW_PANEL_K of k, ascending                   w of the item's tiles stays in L2
 *         for each 6 rows
 *             fill: x of these rows and this block → panel           12 KB, stays in L1
 *             for each tile: micro: y (registers) += panel · w
 *
 * Between blocks of k the accumulators rest in y (exact: they are f32 there too), so the additions of one (m,
 * n) run over k in order whatever the blocking.
 *
 * Owner: all memory is the caller's. Thread: any number of items at a time. Units: elements, ns. Errors:
 * none; alignment and equal n or k are asserted. Source: blocking after Goto & van de Geijn 2008, k never
 * split. */
#ifndef GW_KERNELS_CPU_MATMUL_H
#define GW_KERNELS_CPU_MATMUL_H

#include "kernels/cpu/device.h"
#include "kernels/cpu/pack.h"

#define GW_MICRO_ROWS 6u   /* 6 x 4 accumulators + 4 of w + x fill the 32 registers of AVX-512 */
#define GW_PANEL_K    512u /* 64-128 KB of w per tile, reloaded accumulators cost < 1% */
#define GW_ITEM_ROWS  48u
#define GW_ITEM_TILES 4u /* tiles that share one filled panel, when there is work enough */

/* Words (f32, or pairs of bf16) from one row of the panel to the next; not a power of two: rows would fall
 * into the same cache sets. */
#define GW_PANEL_STRIDE (GW_PANEL_K + 16u)

struct gw_int8_kernel;

struct gw_matmul_kernel {
    enum gw_dtype act;
    uint32_t k_per_step;
    double fma_ns; /* on one thread, data in cache */
    const struct gw_int8_kernel
        *int8; /* kernels/cpu/matmul_int8.h, in place of all that follows; NULL: none */

    /* panel[row] = x[row, k_first .. k_first + k_len) as micro reads it, zeros behind k_len up to a step. */
    void (*fill)(void *panel, const void *x, size_t x_stride, uint32_t rows, uint32_t k_len);

    /* y[rows, cols] (+)= panel · w over `steps` steps of one tile; starts from 0 if `first`. cols <= 64. fresh: these are
     * the item's first rows, w comes from memory; else from L2. */
    void (*micro)(float *y, size_t y_stride, uint32_t rows, uint32_t cols, const void *panel, const void *w,
                  uint32_t steps, bool first, bool fresh);
};

/* The fill of micro-kernels that read f32 as it is. */
void gw_fill_f32(void *panel, const void *x, size_t x_stride, uint32_t rows, uint32_t k_len);

void gw_matmul_run(const struct gw_matmul_kernel *kernel, struct gw_device *dev, float *y, size_t y_stride,
                   const void *x, size_t x_stride, const struct gw_weight *w, const uint32_t *y_at,
                   uint32_t count, uint32_t m);

void gw_matmul_shares_run(const struct gw_matmul_kernel *kernel, struct gw_device *dev, float *y,
                          const void *x, const struct gw_weight *w, uint32_t shares, uint32_t m);

void gw_matmul_tree_add_run(const struct gw_matmul_kernel *kernel, struct gw_device *dev, float *residual,
                            const void *x, const struct gw_weight *w, uint32_t shares, uint32_t m,
                            float *scratch);

#endif
