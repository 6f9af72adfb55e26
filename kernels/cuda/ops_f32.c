/* The table's operations of f32 weights: packing, and products of f32 activations. All of its results have the CPU's bits
 * (cpu-f32-2); what else depends on the type of activations looks at the table's `act`.
 *
 *     packed    [n][k] f32 */
#include <assert.h>

#include "kernels/cuda/cuda_device_internal.h"

/* ---- weights ---- */

static size_t pack_bytes(uint32_t n, uint32_t k)
{
    return (size_t)n * k * sizeof(float);
}

static void pack(void *dst, const void *src, enum gw_dtype src_type, uint32_t n, uint32_t k,
                 size_t row_stride)
{
    float *to = dst;
    assert(src_type != GW_I8);
    for (uint32_t row = 0; row < n; row++)
        for (uint32_t i = 0; i < k; i++) *to++ = gw_f32_at(src, src_type, row * row_stride + i);
}

/* ---- products ---- */

void gw_cuda_op_matmul_f32(struct gw_device *dev, gw_cuda_matmul_f32_fn *launch, float *y, size_t y_stride,
                           const void *x, size_t x_stride, const struct gw_weight *w, const uint32_t *y_at,
                           uint32_t count, uint32_t m)
{
    struct gw_cuda_device *d = gw_cuda_of(dev);
    struct gw_err_ctx ctx = {0};
    for (uint32_t first = 0; first < count && gw_cuda_begin(d); first += GW_CUDA_PRODUCTS_MAX) {
        struct gw_cuda_product of[GW_CUDA_PRODUCTS_MAX];
        uint32_t len = gw_cuda_min(count - first, GW_CUDA_PRODUCTS_MAX);
        for (uint32_t i = 0; i < len; i++)
            of[i] = (struct gw_cuda_product){
                .w = w[first + i].data, .y_at = y_at[first + i], .n = w[first + i].n, .k = w->k};
        gw_cuda_note(d, launch(gw_cuda_compute(d), y, y_stride, x, x_stride, of, len, m, &ctx), &ctx);
    }
}

/* y[shares][m, n]: a plane for each share, whose columns of x begin where the last one's end. */
void gw_cuda_op_matmul_shares_f32(struct gw_device *dev, gw_cuda_matmul_f32_fn *launch, float *y,
                                  const void *x, const struct gw_weight *w, uint32_t shares, uint32_t m)
{
    struct gw_cuda_device *d = gw_cuda_of(dev);
    struct gw_cuda_product of[GW_CUDA_PRODUCTS_MAX];
    struct gw_err_ctx ctx = {0};
    assert(shares <= GW_CUDA_PRODUCTS_MAX);
    for (uint32_t s = 0; s < shares; s++)
        of[s] = (struct gw_cuda_product){
            .w = w[s].data, .x_at = (size_t)s * w->k, .y_at = (size_t)s * m * w->n, .n = w->n, .k = w->k};
    if (gw_cuda_begin(d))
        gw_cuda_note(d, launch(gw_cuda_compute(d), y, w->n, x, (size_t)shares * w->k, of, shares, m, &ctx),
                     &ctx);
}

static void matmul(struct gw_device *dev, float *y, size_t y_stride, const void *x, size_t x_stride,
                   const struct gw_weight *w, const uint32_t *y_at, uint32_t count, uint32_t m)
{
    gw_cuda_op_matmul_f32(dev, gw_cuda_matmul_f32, y, y_stride, x, x_stride, w, y_at, count, m);
}

static void matmul_shares(struct gw_device *dev, float *y, const void *x, const struct gw_weight *w,
                          uint32_t shares, uint32_t m)
{
    gw_cuda_op_matmul_shares_f32(dev, gw_cuda_matmul_f32, y, x, w, shares, m);
}

static void matmul_tree_add(struct gw_device *dev, float *residual, const void *x, const struct gw_weight *w,
                            uint32_t shares, uint32_t m, float *scratch)
{
    matmul_shares(dev, scratch, x, w, shares, m);
    gw_cuda_table.tree_add(dev, residual, scratch, shares, (size_t)m * w->n);
}

void gw_cuda_use_f32(struct gw_ops *table)
{
    table->act = table->weight = table->kv = GW_F32;
    table->pack_bytes = table->pack_bytes_plain = pack_bytes;
    table->pack = table->pack_plain = pack;
    table->matmul = table->matmul_plain = matmul;
    table->matmul_shares = matmul_shares;
    table->matmul_tree_add = matmul_tree_add;
}
