/* The table's operations of int8 weights: packing, and products whose x is quantized on the way.
 *
 *     packed    [n][k padded] int8, zeros behind k; then [n] f32 scales, whatever activations are
 *
 * The rows of x, quantized, lie in the scratch; as many at a time as fit there. A row of x is one segment where products lie side
 * by side, and a segment for each share where there are shares (kernels/op.h). */
#include <assert.h>
#include <string.h>

#include "kernels/cpu/quantize.h"
#include "kernels/cuda/cuda_device_internal.h"

#define K_STEP 16u /* what matmul_int8.cu takes k in */

/* ---- weights ---- */

static size_t pack_bytes(uint32_t n, uint32_t k)
{
    return (size_t)n * (gw_cuda_whole_steps(k, K_STEP) + sizeof(float));
}

/* Returns the row's scale. */
static float pack_row(int8_t *to, const void *src, enum gw_dtype type, size_t first, uint32_t k)
{
    float inverse, scale = gw_int8_scale(gw_largest_bits(src, type, first, k), &inverse);
    for (uint32_t i = 0; i < k; i++) to[i] = (int8_t)gw_int8_of(gw_f32_at(src, type, first + i), inverse, 0);
    memset(to + k, 0, gw_cuda_whole_steps(k, K_STEP) - k);
    return scale;
}

static void pack(void *dst, const void *src, enum gw_dtype src_type, uint32_t n, uint32_t k,
                 size_t row_stride)
{
    int8_t *to = dst;
    float *scales = (float *)(void *)(to + (size_t)n * gw_cuda_whole_steps(k, K_STEP));
    assert(src_type != GW_I8 && k <= GW_INT8_K_MAX);
    for (uint32_t row = 0; row < n; row++)
        scales[row] =
            pack_row(to + (size_t)row * gw_cuda_whole_steps(k, K_STEP), src, src_type, row * row_stride, k);
}

/* ---- products ---- */

/* Products of one x, side by side, or of shares: then each has its own columns of x, and a plane of y. */
struct job {
    const struct gw_weight *w; /* [count], of equal k */
    const uint32_t *y_at;      /* [count]; NULL: shares */
    uint32_t count, m;
    float *y;
    size_t y_stride;
    const void *x; /* act */
    size_t x_stride;
};

static uint32_t segments_of(const struct job *job)
{
    return job->y_at ? 1 : job->count;
}

/* Products [first, first + len); y's planes are those of all rows. */
static void list_products(struct gw_cuda_int8_product *list, const struct job *job, uint32_t first,
                          uint32_t len)
{
    for (uint32_t i = 0; i < len; i++) {
        const struct gw_weight *w = &job->w[first + i];
        list[i] = (struct gw_cuda_int8_product){.w = w->data, .n = w->n};
        if (job->y_at) {
            list[i].y_at = job->y_at[first + i];
        } else {
            list[i].segment = first + i;
            list[i].y_at = (size_t)(first + i) * job->m * w->n;
        }
    }
}

static gw_err_t run_rows(struct gw_cuda_device *d, const struct job *job, uint32_t first, uint32_t rows,
                         struct gw_err_ctx *ctx)
{
    struct gw_cuda_int8_product list[GW_CUDA_PRODUCTS_MAX];
    struct gw_cuda_int8_rows x = {.bytes = (int8_t *)d->scratch,
                                  .segments = segments_of(job),
                                  .k = gw_cuda_whole_steps(job->w->k, K_STEP)};
    x.scales = (float *)(void *)(x.bytes + (size_t)rows * x.segments * x.k);
    const uint8_t *from = job->x;
    from += first * job->x_stride * gw_dtype_bytes(d->ops.act);
    TRY(gw_cuda_quantize(gw_cuda_compute(d), &x, from, d->ops.act, job->x_stride, rows, job->w->k, ctx));
    for (uint32_t at = 0; at < job->count; at += GW_CUDA_PRODUCTS_MAX) {
        uint32_t len = gw_cuda_min(job->count - at, GW_CUDA_PRODUCTS_MAX);
        list_products(list, job, at, len);
        TRY(gw_cuda_matmul_int8(gw_cuda_compute(d), job->y + first * job->y_stride, job->y_stride, &x, list,
                                len, rows, ctx));
    }
    return GW_OK;
}

static gw_err_t run(struct gw_cuda_device *d, const struct job *job, struct gw_err_ctx *ctx)
{
    if (job->m == 0 || job->count == 0) return GW_OK;
    size_t row = (size_t)segments_of(job) * (gw_cuda_whole_steps(job->w->k, K_STEP) + sizeof(float));
    size_t most = d->config.scratch_bytes / row;
    if (most == 0)
        return gw_fail(ctx, GW_ERR_LIMIT, "a product of %zu bytes of x: too many to quantize", row);
    for (uint32_t first = 0; first < job->m;) {
        uint32_t some = job->m - first < most ? job->m - first : (uint32_t)most;
        TRY(run_rows(d, job, first, some, ctx));
        first += some;
    }
    return GW_OK;
}

static void run_noted(struct gw_device *dev, const struct job *job)
{
    struct gw_cuda_device *d = gw_cuda_of(dev);
    struct gw_err_ctx ctx = {0};
    if (gw_cuda_begin(d)) gw_cuda_note(d, run(d, job, &ctx), &ctx);
}

static void matmul(struct gw_device *dev, float *y, size_t y_stride, const void *x, size_t x_stride,
                   const struct gw_weight *w, const uint32_t *y_at, uint32_t count, uint32_t m)
{
    const struct job job = {.w = w,
                            .y_at = y_at,
                            .count = count,
                            .m = m,
                            .y = y,
                            .y_stride = y_stride,
                            .x = x,
                            .x_stride = x_stride};
    run_noted(dev, &job);
}

static void matmul_shares(struct gw_device *dev, float *y, const void *x, const struct gw_weight *w,
                          uint32_t shares, uint32_t m)
{
    const struct job job = {
        .w = w, .count = shares, .m = m, .y = y, .y_stride = w->n, .x = x, .x_stride = (size_t)shares * w->k};
    run_noted(dev, &job);
}

static void matmul_tree_add(struct gw_device *dev, float *residual, const void *x, const struct gw_weight *w,
                            uint32_t shares, uint32_t m, float *scratch)
{
    matmul_shares(dev, scratch, x, w, shares, m);
    gw_cuda_table.tree_add(dev, residual, scratch, shares, (size_t)m * w->n);
}

void gw_cuda_use_int8_weights(struct gw_ops *table)
{
    table->weight = GW_I8;
    table->pack_bytes = pack_bytes;
    table->pack = pack;
    table->matmul = matmul;
    table->matmul_shares = matmul_shares;
    table->matmul_tree_add = matmul_tree_add;
}
