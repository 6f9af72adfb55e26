/* The table's products in the fast profile: by cuBLASLt (cublas_matmul.h) where a batch has so many rows that multiplying is the time.
 *
 *     rows                        matmul.cu, matmul_f32.cu           cuBLASLt
 *     ─────────────────────────   ────────────────────────────────   ──────────────────────────────────────────────────────
 *     below config.fast_rows      all of them: reading weights is    not used: it wants a call for each piece of a matrix
 *                                 the time, and all pieces of a
 *                                 matrix are one launch
 *     from there on               shapes that cuBLASLt does not      a call for each piece; shares' products are added to
 *                                 take: x not aligned, no            the residual stream in its epilogue, without planes and
 *                                 algorithm, too little workspace    without the tree
 *
 * Weights are packed for either: rows of act. So nothing else of a worker knows which profile it runs. */
#include "kernels/cuda/cublas_matmul.h"
#include "kernels/cuda/cuda_device_internal.h"

#define X_ALIGN 16u /* bytes, of x and of its rows: below that cuBLASLt has slow algorithms alone */

/* x as rows of act. */
struct rows {
    const uint8_t *x;
    size_t stride;
};

static bool takes(const struct gw_cuda_device *d, struct rows x, uint32_t k, uint32_t m)
{
    uint32_t step = X_ALIGN / (uint32_t)gw_dtype_bytes(d->ops.act);
    return m >= d->config.fast_rows && k % step == 0 && x.stride % step == 0 && (uintptr_t)x.x % X_ALIGN == 0;
}

/* False: the exact table has to do it. True after an error, too. */
static bool multiply(struct gw_cuda_device *d, float *y, size_t y_stride, struct rows x,
                     const struct gw_weight *w, uint32_t m, bool add)
{
    const struct gw_cublas_product p = {.y = y,
                                        .y_stride = y_stride,
                                        .x = x.x,
                                        .x_stride = x.stride,
                                        .w = w->data,
                                        .m = m,
                                        .n = w->n,
                                        .k = w->k,
                                        .add = add};
    struct gw_err_ctx ctx = {0};
    if (!gw_cuda_begin(d)) return true;
    gw_err_t err = gw_cublas_multiply(d->cublas, &p, d->config.compute.stream, &ctx);
    if (err == GW_ERR_NOT_FOUND) return false;
    gw_cuda_note(d, err, &ctx);
    return true;
}

static void matmul(struct gw_device *dev, float *y, size_t y_stride, const void *x, size_t x_stride,
                   const struct gw_weight *w, const uint32_t *y_at, uint32_t count, uint32_t m)
{
    struct gw_cuda_device *d = gw_cuda_of(dev);
    const struct rows rows = {x, x_stride};
    if (count == 0 || !takes(d, rows, w->k, m)) {
        d->exact.matmul(dev, y, y_stride, x, x_stride, w, y_at, count, m);
        return;
    }
    for (uint32_t i = 0; i < count; i++)
        if (!multiply(d, y + y_at[i], y_stride, rows, &w[i], m, false))
            d->exact.matmul(dev, y, y_stride, x, x_stride, &w[i], &y_at[i], 1, m);
}

/* Share s of x's columns. */
static struct rows share_of(const struct gw_cuda_device *d, const void *x, const struct gw_weight *w,
                            uint32_t shares, uint32_t s)
{
    return (struct rows){(const uint8_t *)x + (size_t)s * w->k * gw_dtype_bytes(d->ops.act),
                         (size_t)shares * w->k};
}

static void matmul_shares(struct gw_device *dev, float *y, const void *x, const struct gw_weight *w,
                          uint32_t shares, uint32_t m)
{
    struct gw_cuda_device *d = gw_cuda_of(dev);
    if (!takes(d, share_of(d, x, w, shares, 0), w->k, m)) {
        d->exact.matmul_shares(dev, y, x, w, shares, m);
        return;
    }
    for (uint32_t s = 0; s < shares; s++, y += (size_t)m * w->n) {
        const struct rows rows = share_of(d, x, w, shares, s);
        if (!multiply(d, y, w->n, rows, &w[s], m, false))
            d->exact.matmul(dev, y, w->n, rows.x, rows.stride, &w[s], &(uint32_t){0}, 1, m);
    }
}

static void matmul_tree_add(struct gw_device *dev, float *residual, const void *x, const struct gw_weight *w,
                            uint32_t shares, uint32_t m, float *scratch)
{
    struct gw_cuda_device *d = gw_cuda_of(dev);
    if (!takes(d, share_of(d, x, w, shares, 0), w->k, m)) {
        d->exact.matmul_tree_add(dev, residual, x, w, shares, m, scratch);
        return;
    }
    for (uint32_t s = 0; s < shares; s++) {
        const struct rows rows = share_of(d, x, w, shares, s);
        if (multiply(d, residual, w->n, rows, &w[s], m, true)) continue;
        d->exact.matmul(dev, scratch, w->n, rows.x, rows.stride, &w[s], &(uint32_t){0}, 1, m);
        d->exact.tree_add(dev, residual, scratch, 1, (size_t)m * w->n);
    }
}

void gw_cuda_take_fast(struct gw_cuda_device *d)
{
    d->exact = d->ops;
    d->ops.matmul = matmul;
    d->ops.matmul_plain = matmul;
    d->ops.matmul_shares = matmul_shares;
    d->ops.matmul_tree_add = matmul_tree_add;
}
