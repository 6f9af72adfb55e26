/* What is multiplied in one go, and how it is cut into items (kernels/cpu/matmul.h says what an item is).
 *
 * Owner: all memory is the caller's. Thread: a job that is cut is only read. Units: elements. Errors: none. Source: own design. */
#ifndef GW_KERNELS_CPU_MATMUL_JOB_H
#define GW_KERNELS_CPU_MATMUL_JOB_H

#include "kernels/cpu/matmul_int8.h"
#include "kernels/cpu/matmul_tiled.h"

/* Several products in one job. Either side by side: the same x, each its own columns of y; an item is a rectangle of one
 * of them. Or shares: each its own columns of x and its own y; an item is the same rectangle of all of them. */
struct gw_matmul_job {
    const struct gw_matmul_kernel *kernel;
    const struct gw_weight *w; /* [count]; equal k side by side, equal n as shares */
    uint32_t count, m;
    bool shares;
    const void *x; /* [m, k], or as shares [m, sum of k] */
    size_t x_stride;
    float *y; /* [m, ...], or as shares [count][m, n] */
    size_t y_stride, y_share;
    const uint32_t *y_at;       /* [count] first column in y of each product side by side */
    float *residual;            /* [m, n] that the tree over shares is added to; NULL: y is the result */
    struct gw_int8_x quantized; /* x, with an int8 kernel */
    struct gw_tiled_x tiled;    /* x, with a kernel of tiles */
    uint32_t tiles_per_item, rows_per_item, row_blocks;
    uint32_t items_at_once; /* side by side, that make one rectangle */
};

static inline uint32_t gw_min_u32(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static inline uint32_t gw_clamp_u32(uint32_t a, uint32_t least, uint32_t most)
{
    return a < least ? least : gw_min_u32(a, most);
}

static inline uint32_t gw_blocks_of(uint32_t len, uint32_t block)
{
    return (len + block - 1) / block;
}

static inline uint32_t gw_job_micro_rows(const struct gw_matmul_job *job)
{
    if (job->kernel->int8) return job->kernel->int8->rows;
    return job->kernel->tiled ? job->kernel->tiled->rows : GW_MICRO_ROWS;
}

/* All rows in one pass. */
static inline bool gw_job_single_pass(const struct gw_matmul_job *job)
{
    return job->m <= gw_job_micro_rows(job);
}

/* What stays in a cache while all rows of an item pass; a single pass has nothing to gain from short blocks. */
static inline uint32_t gw_job_panel_k(const struct gw_matmul_job *job)
{
    const struct gw_int8_kernel *int8 = job->kernel->int8;
    const struct gw_tiled_kernel *tiled = job->kernel->tiled;
    const bool single = gw_job_single_pass(job);
    if (job->kernel->widen) return single ? GW_FP8_PANEL_K_FEW : GW_FP8_PANEL_K;
    if (int8) return single ? GW_INT8_PANEL_K : int8->k_block;
    if (tiled) return single ? GW_TILED_PANEL_K : tiled->k_block;
    return single ? GW_PANEL_K_SINGLE : GW_PANEL_K;
}

static inline uint32_t gw_job_k_per_step(const struct gw_matmul_job *job)
{
    return job->kernel->int8 ? GW_INT8_K_STEP : job->kernel->k_per_step;
}

/* Cuts items for so many threads: fills tiles_per_item and what follows. */
void gw_job_cut(struct gw_matmul_job *job, uint32_t threads);

/* Of one product; each item runs down the rows before the next tiles begin. */
size_t gw_job_product_items(const struct gw_matmul_job *job, uint32_t product);

/* Of all products; of shares, those of one. */
size_t gw_job_items(const struct gw_matmul_job *job);

#endif
