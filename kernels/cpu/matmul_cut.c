#include "kernels/cpu/matmul_job.h"

#define ITEMS_PER_THREAD 4u  /* so that threads of unequal speed end together */
#define ITEM_ROWS_LEAST  48u /* below, the time to read w is longer than that to multiply it by the rows */

size_t gw_job_product_items(const struct gw_matmul_job *job, uint32_t product)
{
    return (size_t)gw_blocks_of(gw_tiles(job->w[product].n), job->tiles_per_item) * job->row_blocks;
}

size_t gw_job_items(const struct gw_matmul_job *job)
{
    size_t items = 0;
    for (uint32_t i = 0; i < (job->shares ? 1 : job->count); i++) items += gw_job_product_items(job, i);
    return items;
}

/* Of the stack of a tree: one for each bit of the number of shares. */
static uint32_t count_levels(uint32_t shares)
{
    uint32_t levels = 0;
    while (shares >> levels) levels++;
    return levels;
}

/* Items of so many tiles, and of up to so many rows, whole micro-kernels', as nearly equal as they can be. */
static void cut(struct gw_matmul_job *job, uint32_t tiles, uint32_t rows_max)
{
    job->tiles_per_item = tiles;
    uint32_t at_once = gw_job_micro_rows(job);
    job->row_blocks = gw_blocks_of(job->m, rows_max / at_once * at_once);
    job->rows_per_item = gw_blocks_of(gw_blocks_of(job->m, job->row_blocks), at_once) * at_once;
}

/* Of a single pass items are single tiles, and those that a thread takes at a time make one rectangle. */
static bool grows(const struct gw_matmul_job *job)
{
    return gw_job_single_pass(job) && !job->kernel->widen && !job->kernel->tiled;
}

static uint32_t int8_tiles_most(const struct gw_matmul_job *job)
{
    const struct gw_int8_kernel *int8 = job->kernel->int8;
    if (!int8->tiles_short || !job->shares || job->m <= GW_ITEM_ROWS) return int8->tiles;
    return gw_clamp_u32(int8->k_block / job->w[0].k, int8->tiles, int8->tiles_short);
}

static uint32_t tiles_most(const struct gw_matmul_job *job)
{
    const struct gw_matmul_kernel *kernel = job->kernel;
    if (kernel->tiled) return kernel->tiled->tiles;
    if (grows(job)) return 1;
    if (kernel->int8) return int8_tiles_most(job);
    return kernel->fill ? GW_ITEM_TILES_FILLED : GW_ITEM_TILES;
}

/* How many neighbours a rectangle takes in, where it grows: to a run of w in each block, and as far as there is room for sums. */
static uint32_t items_at_once(const struct gw_matmul_job *job)
{
    if (!grows(job)) return 1;
    const uint32_t levels = job->residual ? count_levels(job->count) : 1;
    const size_t run =
        (size_t)gw_steps(gw_min_u32(job->w[0].k, gw_job_panel_k(job)), gw_job_k_per_step(job)) *
        GW_STEP_BYTES;
    return gw_clamp_u32((uint32_t)(GW_RUN_BYTES / run), 1, GW_TREE_ROWS / (job->rows_per_item * levels));
}

/* Large items read and fill less; small ones keep all threads busy. */
void gw_job_cut(struct gw_matmul_job *job, uint32_t threads)
{
    uint32_t tiles = tiles_most(job), rows = GW_ITEM_ROWS;
    if (job->residual) rows = gw_min_u32(rows, GW_TREE_ROWS / (tiles * count_levels(job->count)));
    cut(job, tiles, rows);
    while (gw_job_items(job) < ITEMS_PER_THREAD * (size_t)threads && rows > ITEM_ROWS_LEAST) {
        rows /= 2;
        cut(job, tiles, rows);
    }
    while (gw_job_items(job) < ITEMS_PER_THREAD * (size_t)threads && tiles > 1) cut(job, tiles /= 2, rows);
    job->items_at_once = items_at_once(job);
}
