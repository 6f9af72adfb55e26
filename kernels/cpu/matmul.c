#include "kernels/cpu/matmul.h"

#include <assert.h>
#include <string.h>

#include "kernels/cpu/matmul_int8.h"

/* Several products in one job. Either side by side: the same x, each its own columns of y; an item is a rectangle of one
 * of them. Or shares: each its own columns of x and its own y; an item is the same rectangle of all of them. */
struct matmul_job {
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
    uint32_t tiles_per_item, row_blocks;
};

struct rectangle {
    uint32_t product; /* as shares: the first of all */
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

/* y += x · wᵀ for the rectangle, over k in [k_first, k_first + k_len) of w; x_k: where w's k begin in a row of x. */
static void multiply_block(const struct matmul_job *job, const struct gw_weight *w, size_t x_k, float *y,
                           struct rectangle r, uint32_t k_first, uint32_t k_len, void *panel)
{
    const struct gw_matmul_kernel *kernel = job->kernel;
    size_t tile_bytes = (size_t)gw_steps(w->k, kernel->k_per_step) * GW_STEP_BYTES;
    const uint8_t *w_block =
        (const uint8_t *)w->data + (size_t)(k_first / kernel->k_per_step) * GW_STEP_BYTES;
    for (uint32_t row = r.row; row < r.row + r.rows; row += GW_MICRO_ROWS) {
        uint32_t rows = min_u32(GW_MICRO_ROWS, r.row + r.rows - row);
        kernel->fill(panel, x_at(job, row, x_k + k_first), job->x_stride, rows, k_len);
        for (uint32_t tile = r.tile; tile < r.tile + r.tiles; tile++)
            kernel->micro(y + row * job->y_stride + tile * GW_TILE_N, job->y_stride, rows,
                          min_u32(GW_TILE_N, w->n - tile * GW_TILE_N), panel, w_block + tile * tile_bytes,
                          gw_steps(k_len, kernel->k_per_step), k_first == 0, row == r.row);
    }
}

/* segment, x_k: which share's part of a row of x, and where it begins. */
static void multiply(const struct matmul_job *job, const struct gw_weight *w, uint32_t segment, size_t x_k,
                     float *y, struct rectangle r, void *panel)
{
    if (job->kernel->int8) {
        gw_int8_multiply(job->kernel->int8, w, &job->quantized, segment, x_k, y, job->y_stride,
                         (struct gw_int8_rectangle){r.row, r.rows, r.tile, r.tiles});
        return;
    }
    for (uint32_t at = 0; at < w->k; at += GW_PANEL_K)
        multiply_block(job, w, x_k, y, r, at, min_u32(GW_PANEL_K, w->k - at), panel);
}

/* residual += tree over the shares' products, for the rectangle. */
static void add_tree(const struct matmul_job *job, struct rectangle r)
{
    uint32_t col = r.tile * GW_TILE_N, cols = min_u32(r.tiles * GW_TILE_N, job->w[0].n - col);
    for (uint32_t row = r.row; row < r.row + r.rows; row++) {
        float *y = job->y + row * job->y_stride + col;
        for (uint32_t step = 1; step < job->count; step *= 2)
            for (uint32_t i = 0; i + step < job->count; i += 2 * step) {
                float *a = y + i * job->y_share;
                const float *b = a + step * job->y_share;
                for (uint32_t c = 0; c < cols; c++) a[c] += b[c];
            }
        float *residual = job->residual + (size_t)row * job->w[0].n + col;
        for (uint32_t c = 0; c < cols; c++) residual[c] += y[c];
    }
}

static void multiply_shares(const struct matmul_job *job, struct rectangle r, void *panel)
{
    size_t x_k = 0;
    for (uint32_t i = 0; i < job->count; i++) {
        multiply(job, &job->w[i], i, x_k, job->y + i * job->y_share, r, panel);
        x_k += job->kernel->int8 ? gw_int8_segment(job->w[i].k) : job->w[i].k;
    }
    if (job->residual) add_tree(job, r);
}

/* Items of one product; each runs down the rows before the next tiles begin. */
static size_t product_items(const struct matmul_job *job, uint32_t product)
{
    return (size_t)blocks_of(gw_tiles(job->w[product].n), job->tiles_per_item) * job->row_blocks;
}

static struct rectangle item_rectangle(const struct matmul_job *job, uint32_t product, size_t item)
{
    struct rectangle r = {.product = product,
                          .row = (uint32_t)(item % job->row_blocks) * GW_ITEM_ROWS,
                          .tile = (uint32_t)(item / job->row_blocks) * job->tiles_per_item};
    r.rows = min_u32(GW_ITEM_ROWS, job->m - r.row);
    r.tiles = min_u32(job->tiles_per_item, gw_tiles(job->w[product].n) - r.tile);
    return r;
}

static void matmul_items(const void *arg, void *scratch, size_t first, size_t last)
{
    const struct matmul_job *job = arg;
    uint32_t product = 0;
    size_t product_first = 0, product_len = product_items(job, 0);
    for (size_t item = first; item < last; item++) {
        while (item - product_first >= product_len) {
            product_first += product_len;
            product_len = product_items(job, ++product);
        }
        struct rectangle r = item_rectangle(job, product, item - product_first);
        if (job->shares)
            multiply_shares(job, r, scratch);
        else
            multiply(job, &job->w[product], 0, 0, job->y + job->y_at[product], r, scratch);
    }
}

static size_t count_items(const struct matmul_job *job)
{
    size_t items = 0;
    for (uint32_t i = 0; i < (job->shares ? 1 : job->count); i++) items += product_items(job, i);
    return items;
}

/* Weights of all products. */
static double count_weights(const struct matmul_job *job)
{
    double weights = 0;
    for (uint32_t i = 0; i < job->count; i++) {
        const struct gw_weight *w = &job->w[i];
        assert(w->n > 0 && w->k > 0 && (uintptr_t)w->data % 64 == 0);
        assert(job->shares ? w->n == job->w[0].n : w->k == job->w[0].k);
        weights += (double)gw_tiles(w->n) * GW_TILE_N * w->k;
    }
    return weights;
}

static void run_rows(struct matmul_job *job, struct gw_device *dev)
{
    double weights = count_weights(job);
    job->row_blocks = blocks_of(job->m, GW_ITEM_ROWS);
    /* Wide items save filling; narrow ones keep all threads busy. */
    job->tiles_per_item = GW_ITEM_TILES;
    if (count_items(job) < 8u * (size_t)gw_device_threads(dev)) job->tiles_per_item = 1;
    size_t items = count_items(job);
    /* per weight: 0.1 ns to read it, and one fma for each row */
    double item_weights = weights * job->row_blocks / (double)items;
    double rows = min_u32(job->m, GW_ITEM_ROWS);
    gw_device_parallel(dev, matmul_items, job, items, item_weights * (0.1 + rows * job->kernel->fma_ns));
}

/* As many rows at a time as can be quantized at once. */
static void run_int8(struct matmul_job job, struct gw_device *dev)
{
    uint32_t m = job.m, segments = job.shares ? job.count : 1;
    for (uint32_t done = 0; done < m; done += job.m) {
        gw_int8_place(dev, job.w, segments, m - done, &job.quantized);
        gw_int8_quantize(job.kernel, dev, x_at(&job, 0, 0), job.x_stride, job.w, &job.quantized);
        job.m = job.quantized.rows;
        run_rows(&job, dev);
        job.x = x_at(&job, job.m, 0);
        job.y += job.m * job.y_stride;
        if (job.residual) job.residual += (size_t)job.m * job.w[0].n;
    }
}

static void run(struct matmul_job *job, struct gw_device *dev)
{
    static_assert(GW_MICRO_ROWS * GW_PANEL_STRIDE * 4 <= GW_SCRATCH_BYTES, "a panel fits");
    if (job->count == 0 || job->m == 0) return;
    if (job->kernel->int8)
        run_int8(*job, dev);
    else
        run_rows(job, dev);
}

void gw_fill_f32(void *panel, const void *x, size_t x_stride, uint32_t rows, uint32_t k_len)
{
    for (uint32_t r = 0; r < rows; r++)
        memcpy((float *)panel + (size_t)r * GW_PANEL_STRIDE, (const float *)x + r * x_stride,
               k_len * sizeof(float));
}

void gw_matmul_run(const struct gw_matmul_kernel *kernel, struct gw_device *dev, float *y, size_t y_stride,
                   const void *x, size_t x_stride, const struct gw_weight *w, const uint32_t *y_at,
                   uint32_t count, uint32_t m)
{
    struct matmul_job job = {.kernel = kernel,
                             .w = w,
                             .count = count,
                             .m = m,
                             .x = x,
                             .x_stride = x_stride,
                             .y = y,
                             .y_stride = y_stride,
                             .y_at = y_at};
    run(&job, dev);
}

static void run_shares(const struct gw_matmul_kernel *kernel, struct gw_device *dev, float *residual,
                       float *y, const void *x, const struct gw_weight *w, uint32_t shares, uint32_t m)
{
    struct matmul_job job = {.kernel = kernel,
                             .w = w,
                             .count = shares,
                             .m = m,
                             .shares = true,
                             .x = x,
                             .y = y,
                             .y_stride = w[0].n,
                             .y_share = (size_t)m * w[0].n,
                             .residual = residual};
    for (uint32_t i = 0; i < shares; i++) job.x_stride += w[i].k;
    run(&job, dev);
}

void gw_matmul_shares_run(const struct gw_matmul_kernel *kernel, struct gw_device *dev, float *y,
                          const void *x, const struct gw_weight *w, uint32_t shares, uint32_t m)
{
    run_shares(kernel, dev, NULL, y, x, w, shares, m);
}

void gw_matmul_tree_add_run(const struct gw_matmul_kernel *kernel, struct gw_device *dev, float *residual,
                            const void *x, const struct gw_weight *w, uint32_t shares, uint32_t m,
                            float *scratch)
{
    run_shares(kernel, dev, residual, scratch, x, w, shares, m);
}
