#include "kernels/cpu/matmul.h"

#include <assert.h>

struct matmul_job {
    const struct gw_matmul_kernel *kernel;
    const struct gw_weight *w; /* [shares], equal n */
    uint32_t shares, m;
    const void *x; /* [m, sum of k] */
    size_t x_stride;
    float *y; /* [shares][m, n] */
    size_t y_stride, y_share;
    float *residual; /* [m, n]; NULL: y is the result */
    uint32_t tiles_per_item, row_blocks;
};

struct rectangle {
    uint32_t row, rows;
    uint32_t tile, tiles;
};

static uint32_t min_u32(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static uint32_t blocks_of(uint32_t len, uint32_t block)
{
    return (len + block - 1) / block;
}

static const uint8_t *x_at(const struct matmul_job *job, uint32_t row, size_t k)
{
    return (const uint8_t *)job->x + (row * job->x_stride + k) * (job->kernel->act == GW_F32 ? 4 : 2);
}

/* y += x · wᵀ for the rectangle, over k in [k_first, k_first + k_len) of one share. */
static void multiply_block(const struct matmul_job *job, uint32_t share, size_t share_k, struct rectangle r,
                           uint32_t k_first, uint32_t k_len, void *panel)
{
    const struct gw_matmul_kernel *kernel = job->kernel;
    const struct gw_weight *w = &job->w[share];
    size_t tile_bytes = (size_t)gw_steps(w->k, kernel->k_per_step) * GW_STEP_BYTES;
    const uint8_t *w_block =
        (const uint8_t *)w->data + (size_t)(k_first / kernel->k_per_step) * GW_STEP_BYTES;
    for (uint32_t row = r.row; row < r.row + r.rows; row += GW_MICRO_ROWS) {
        uint32_t rows = min_u32(GW_MICRO_ROWS, r.row + r.rows - row);
        kernel->fill(panel, x_at(job, row, share_k + k_first), job->x_stride, rows, k_len);
        float *y = job->y + share * job->y_share + row * job->y_stride;
        for (uint32_t tile = r.tile; tile < r.tile + r.tiles; tile++)
            kernel->micro(y + tile * GW_TILE_N, job->y_stride, rows,
                          min_u32(GW_TILE_N, w->n - tile * GW_TILE_N), panel, w_block + tile * tile_bytes,
                          gw_steps(k_len, kernel->k_per_step), k_first == 0);
    }
}

/* residual += tree over the shares' products, for the rectangle. */
static void add_tree(const struct matmul_job *job, struct rectangle r)
{
    uint32_t col = r.tile * GW_TILE_N, cols = min_u32(r.tiles * GW_TILE_N, job->w[0].n - col);
    for (uint32_t row = r.row; row < r.row + r.rows; row++) {
        float *y = job->y + row * job->y_stride + col;
        for (uint32_t step = 1; step < job->shares; step *= 2)
            for (uint32_t i = 0; i + step < job->shares; i += 2 * step) {
                float *a = y + i * job->y_share;
                const float *b = a + step * job->y_share;
                for (uint32_t c = 0; c < cols; c++) a[c] += b[c];
            }
        float *residual = job->residual + (size_t)row * job->w[0].n + col;
        for (uint32_t c = 0; c < cols; c++) residual[c] += y[c];
    }
}

static struct rectangle item_rectangle(const struct matmul_job *job, size_t item)
{
    uint32_t tiles = gw_tiles(job->w[0].n);
    struct rectangle r = {.row = (uint32_t)(item % job->row_blocks) * GW_ITEM_ROWS,
                          .tile = (uint32_t)(item / job->row_blocks) * job->tiles_per_item};
    r.rows = min_u32(GW_ITEM_ROWS, job->m - r.row);
    r.tiles = min_u32(job->tiles_per_item, tiles - r.tile);
    return r;
}

static void matmul_items(const void *arg, void *scratch, size_t first, size_t last)
{
    const struct matmul_job *job = arg;
    for (size_t item = first; item < last; item++) {
        struct rectangle r = item_rectangle(job, item);
        size_t share_k = 0;
        for (uint32_t share = 0; share < job->shares; share++) {
            uint32_t k = job->w[share].k;
            for (uint32_t at = 0; at < k; at += GW_PANEL_K)
                multiply_block(job, share, share_k, r, at, min_u32(GW_PANEL_K, k - at), scratch);
            share_k += k;
        }
        if (job->residual) add_tree(job, r);
    }
}

static void run(struct matmul_job *job, struct gw_device *dev)
{
    static_assert(GW_MICRO_ROWS * GW_PANEL_STRIDE * 4 <= GW_SCRATCH_BYTES, "a panel fits");
    size_t k = 0;
    for (uint32_t i = 0; i < job->shares; i++) {
        assert(job->w[i].n == job->w[0].n && job->w[i].k > 0 && (uintptr_t)job->w[i].data % 64 == 0);
        k += job->w[i].k;
    }
    uint32_t tiles = gw_tiles(job->w[0].n);
    job->row_blocks = blocks_of(job->m, GW_ITEM_ROWS);
    /* Wide items save filling; narrow ones keep all threads busy. */
    size_t wide = (size_t)blocks_of(tiles, GW_ITEM_TILES) * job->row_blocks;
    job->tiles_per_item = wide >= 8u * (size_t)gw_device_threads(dev) ? GW_ITEM_TILES : 1;
    size_t items = (size_t)blocks_of(tiles, job->tiles_per_item) * job->row_blocks;
    /* per weight: 0.1 ns to read it, and one fma for each row */
    double rows = min_u32(job->m, GW_ITEM_ROWS);
    double weights = (double)k * job->tiles_per_item * GW_TILE_N;
    gw_device_parallel(dev, matmul_items, job, items, weights * (0.1 + rows * job->kernel->fma_ns));
}

void gw_matmul_run(const struct gw_matmul_kernel *kernel, struct gw_device *dev, float *y, size_t y_stride,
                   const void *x, size_t x_stride, const struct gw_weight *w, uint32_t m)
{
    struct matmul_job job = {.kernel = kernel,
                             .w = w,
                             .shares = 1,
                             .m = m,
                             .x = x,
                             .x_stride = x_stride,
                             .y = y,
                             .y_stride = y_stride};
    run(&job, dev);
}

void gw_matmul_tree_add_run(const struct gw_matmul_kernel *kernel, struct gw_device *dev, float *residual,
                            const void *x, const struct gw_weight *w, uint32_t shares, uint32_t m,
                            float *scratch)
{
    struct matmul_job job = {.kernel = kernel,
                             .w = w,
                             .shares = shares,
                             .m = m,
                             .x = x,
                             .y = scratch,
                             .y_stride = w[0].n,
                             .y_share = (size_t)m * w[0].n,
                             .residual = residual};
    for (uint32_t i = 0; i < shares; i++) job.x_stride += w[i].k;
    run(&job, dev);
}
