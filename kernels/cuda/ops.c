/* The table of operations over the launchers: what kernels/op.h gives an operation, as its launcher wants it. Attention and
 * what goes with it: ops_attention.c; picking from rows on the device: ops_pick.c. */
#include <assert.h>
#include <string.h>

#include "kernels/cuda/cuda_device_internal.h"

#define K_STEP 8u /* what matmul.cu takes k in */

/* ---- weights: rows of bf16, padded with zeros ---- */

static size_t pack_bytes(uint32_t n, uint32_t k)
{
    return (size_t)n * gw_cuda_whole_steps(k, K_STEP) * sizeof(uint16_t);
}

static void pack(void *dst, const void *src, enum gw_dtype src_type, uint32_t n, uint32_t k,
                 size_t row_stride)
{
    const uint16_t *from = src;
    uint16_t *to = dst;
    assert(src_type == GW_BF16);
    for (uint32_t row = 0; row < n; row++, from += row_stride, to += gw_cuda_whole_steps(k, K_STEP)) {
        memcpy(to, from, k * sizeof *to);
        memset(to + k, 0, (gw_cuda_whole_steps(k, K_STEP) - k) * sizeof *to);
    }
}

/* ---- products ---- */

/* A product's x as the launcher takes it. */
struct rows {
    const uint16_t *x;
    size_t stride;
};

/* Products of rows [first, first + m): y's planes are m_all rows apart in `list` already. */
static gw_err_t multiply(struct gw_cuda_device *d, gw_cuda_matmul_fn *launch, float *y, size_t y_stride,
                         struct rows x, const struct gw_cuda_product *list, uint32_t count, uint32_t m,
                         struct gw_err_ctx *ctx)
{
    for (uint32_t i = 0; i < count; i += GW_CUDA_PRODUCTS_MAX)
        TRY(launch(gw_cuda_compute(d), y, y_stride, x.x, x.stride, list + i,
                   gw_cuda_min(count - i, GW_CUDA_PRODUCTS_MAX), m, ctx));
    return GW_OK;
}

static bool is_aligned(struct rows x, uint32_t k)
{
    return k % K_STEP == 0 && x.stride % K_STEP == 0 && (uintptr_t)x.x % 16 == 0;
}

/* The same of an x that the launcher does not take: its rows, parts of k each, go through the scratch. */
static gw_err_t multiply_padded(struct gw_cuda_device *d, gw_cuda_matmul_fn *launch, float *y,
                                size_t y_stride, struct rows x, uint32_t parts, uint32_t k,
                                const struct gw_cuda_product *list, uint32_t count, uint32_t m,
                                struct gw_err_ctx *ctx)
{
    size_t row = (size_t)parts * gw_cuda_whole_steps(k, K_STEP);
    uint16_t *to = (uint16_t *)(void *)d->scratch;
    size_t most = d->config.scratch_bytes / (row * sizeof *to);
    if (most == 0) return gw_fail(ctx, GW_ERR_LIMIT, "a product of %zu columns: too many to pad", row);
    for (uint32_t first = 0; first < m;) {
        uint32_t some = m - first < most ? m - first : (uint32_t)most;
        TRY(gw_cuda_pad(gw_cuda_compute(d), to, x.x + first * x.stride, x.stride, some, parts, k,
                        gw_cuda_whole_steps(k, K_STEP), ctx));
        TRY(multiply(d, launch, y + first * y_stride, y_stride, (struct rows){to, row}, list, count, some,
                     ctx));
        first += some;
    }
    return GW_OK;
}

/* The products of one launch each; more are more launches. */
struct products {
    struct gw_cuda_product of[GW_CUDA_PRODUCTS_MAX];
    uint32_t len;
};

static gw_err_t run_products(struct gw_cuda_device *d, gw_cuda_matmul_fn *launch, float *y, size_t y_stride,
                             struct rows x, uint32_t parts, uint32_t k, const struct products *p, uint32_t m,
                             struct gw_err_ctx *ctx)
{
    if (m == 0 || p->len == 0) return GW_OK;
    if (is_aligned(x, k)) return multiply(d, launch, y, y_stride, x, p->of, p->len, m, ctx);
    return multiply_padded(d, launch, y, y_stride, x, parts, k, p->of, p->len, m, ctx);
}

void gw_cuda_op_matmul(struct gw_device *dev, gw_cuda_matmul_fn *launch, float *y, size_t y_stride,
                       const void *x, size_t x_stride, const struct gw_weight *w, const uint32_t *y_at,
                       uint32_t count, uint32_t m)
{
    struct gw_cuda_device *d = gw_cuda_of(dev);
    struct gw_err_ctx ctx = {0};
    for (uint32_t first = 0; first < count; first += GW_CUDA_PRODUCTS_MAX) {
        struct products p = {.len = gw_cuda_min(count - first, GW_CUDA_PRODUCTS_MAX)};
        for (uint32_t i = 0; i < p.len; i++)
            p.of[i] = (struct gw_cuda_product){.w = w[first + i].data,
                                               .y_at = y_at[first + i],
                                               .n = w[first + i].n,
                                               .k = gw_cuda_whole_steps(w->k, K_STEP)};
        if (!gw_cuda_begin(d)) return;
        gw_cuda_note(
            d, run_products(d, launch, y, y_stride, (struct rows){x, x_stride}, 1, w->k, &p, m, &ctx), &ctx);
    }
}

/* y[shares][m, n]: a plane for each share, whose columns of x begin where the last one's end. */
static gw_err_t multiply_shares(struct gw_cuda_device *d, gw_cuda_matmul_fn *launch, float *y, const void *x,
                                const struct gw_weight *w, uint32_t shares, uint32_t m,
                                struct gw_err_ctx *ctx)
{
    const struct rows all = {x, (size_t)shares * w->k};
    uint32_t k = is_aligned(all, w->k) ? w->k : gw_cuda_whole_steps(w->k, K_STEP);
    struct products p = {.len = shares};
    assert(shares <= GW_CUDA_PRODUCTS_MAX);
    for (uint32_t s = 0; s < shares; s++)
        p.of[s] = (struct gw_cuda_product){.w = w[s].data,
                                           .x_at = (size_t)s * k,
                                           .y_at = (size_t)s * m * w->n,
                                           .n = w->n,
                                           .k = gw_cuda_whole_steps(w->k, K_STEP)};
    return run_products(d, launch, y, w->n, all, shares, w->k, &p, m, ctx);
}

void gw_cuda_op_matmul_shares(struct gw_device *dev, gw_cuda_matmul_fn *launch, float *y, const void *x,
                              const struct gw_weight *w, uint32_t shares, uint32_t m)
{
    struct gw_cuda_device *d = gw_cuda_of(dev);
    struct gw_err_ctx ctx = {0};
    if (gw_cuda_begin(d)) gw_cuda_note(d, multiply_shares(d, launch, y, x, w, shares, m, &ctx), &ctx);
}

static void matmul(struct gw_device *dev, float *y, size_t y_stride, const void *x, size_t x_stride,
                   const struct gw_weight *w, const uint32_t *y_at, uint32_t count, uint32_t m)
{
    gw_cuda_op_matmul(dev, gw_cuda_matmul, y, y_stride, x, x_stride, w, y_at, count, m);
}

static void matmul_shares(struct gw_device *dev, float *y, const void *x, const struct gw_weight *w,
                          uint32_t shares, uint32_t m)
{
    gw_cuda_op_matmul_shares(dev, gw_cuda_matmul, y, x, w, shares, m);
}

static void tree_add(struct gw_device *dev, float *residual, const float *partials, uint32_t shares,
                     size_t elems)
{
    struct gw_cuda_device *d = gw_cuda_of(dev);
    struct gw_err_ctx ctx = {0};
    if (gw_cuda_begin(d))
        gw_cuda_note(d, gw_cuda_tree_add(gw_cuda_compute(d), residual, partials, shares, elems, &ctx), &ctx);
}

static void matmul_tree_add(struct gw_device *dev, float *residual, const void *x, const struct gw_weight *w,
                            uint32_t shares, uint32_t m, float *scratch)
{
    matmul_shares(dev, scratch, x, w, shares, m);
    tree_add(dev, residual, scratch, shares, (size_t)m * w->n);
}

/* ---- rows ---- */

/* Rows of the table, which is the host's, and the numbers 0, 1, … by which the kernel finds them. */
static gw_err_t embed_some(struct gw_cuda_device *d, float *y, const uint8_t *table, enum gw_dtype type,
                           const uint32_t *ids, uint32_t m, uint32_t hidden, struct gw_err_ctx *ctx)
{
    size_t row = hidden * gw_dtype_bytes(type);
    if (!gw_cuda_reserve(d, gw_cuda_padded(m * row) + gw_cuda_padded(m * sizeof *ids))) return GW_OK;
    struct gw_cuda_piece rows = gw_cuda_take(d, m * row), numbers = gw_cuda_take(d, m * sizeof *ids);
    for (uint32_t i = 0; i < m; i++) {
        memcpy(rows.pinned + i * row, table + ids[i] * row, row);
        memcpy(numbers.pinned + i * sizeof i, &i, sizeof i);
    }
    if (!gw_cuda_send(d, rows) || !gw_cuda_send(d, numbers)) return GW_OK; /* noted */
    return gw_cuda_embed(gw_cuda_compute(d), y, rows.device, type, (const uint32_t *)(void *)numbers.device,
                         m, hidden, ctx);
}

static void embed(struct gw_device *dev, float *y, const void *table, enum gw_dtype table_type,
                  const uint32_t *ids, uint32_t m, uint32_t hidden)
{
    struct gw_cuda_device *d = gw_cuda_of(dev);
    struct gw_err_ctx ctx = {0};
    size_t most = d->config.step_bytes / 2 / (hidden * gw_dtype_bytes(table_type) + sizeof *ids);
    uint32_t rows = most < 1 ? 1 : most > m ? m : (uint32_t)most;
    for (uint32_t at = 0; at < m && gw_cuda_begin(d); at += rows)
        gw_cuda_note(d,
                     embed_some(d, y + (size_t)at * hidden, table, table_type, ids + at,
                                gw_cuda_min(rows, m - at), hidden, &ctx),
                     &ctx);
}

/* The launcher's x is not const, for it may add to it; here it does not. */
static void rmsnorm(struct gw_device *dev, void *y, const float *x, const float *w, float eps, uint32_t m,
                    uint32_t k)
{
    struct gw_cuda_device *d = gw_cuda_of(dev);
    struct gw_err_ctx ctx = {0};
    if (gw_cuda_begin(d))
        gw_cuda_note(d,
                     gw_cuda_rmsnorm(gw_cuda_compute(d), y, d->ops.act, (float *)(uintptr_t)x, NULL, w, eps,
                                     m, k, &ctx),
                     &ctx);
}

static void silu_mul(struct gw_device *dev, void *y, const float *gate_up, uint32_t m, uint32_t shares,
                     uint32_t share_cols)
{
    struct gw_cuda_device *d = gw_cuda_of(dev);
    struct gw_err_ctx ctx = {0};
    if (gw_cuda_begin(d))
        gw_cuda_note(
            d, gw_cuda_silu_mul(gw_cuda_compute(d), y, d->ops.act, gate_up, m, shares, share_cols, &ctx),
            &ctx);
}

/* ---- experts ---- */

/* What the host sorts by comes to it at once. */
static void route(struct gw_device *dev, uint32_t *ids, float *weights, const float *logits, uint32_t m,
                  uint32_t experts, uint32_t top, bool over_taken)
{
    struct gw_cuda_device *d = gw_cuda_of(dev);
    struct gw_err_ctx ctx = {0};
    uint32_t most = (uint32_t)(d->config.scratch_bytes / (2 * (size_t)top * sizeof *ids));
    for (uint32_t at = 0; at < m; at += most) {
        uint32_t some = gw_cuda_min(most, m - at);
        size_t len = (size_t)some * top, first = (size_t)at * top;
        uint32_t *to = (uint32_t *)(void *)d->scratch;
        float *to_weights = (float *)(void *)(to + len);
        if (gw_cuda_begin(d))
            gw_cuda_note(d,
                         gw_cuda_route(gw_cuda_compute(d), to, to_weights, logits + (size_t)at * experts,
                                       some, experts, top, over_taken, &ctx),
                         &ctx);
        gw_memory_get(dev, ids + first, to, len * sizeof *ids);
        gw_memory_get(dev, weights + first, to_weights, len * sizeof *weights);
    }
}

static void gather(struct gw_device *dev, void *y, const void *x, enum gw_dtype type, const uint32_t *rows,
                   uint32_t m, uint32_t k)
{
    struct gw_cuda_device *d = gw_cuda_of(dev);
    struct gw_err_ctx ctx = {0};
    if (m == 0 || !gw_cuda_begin(d)) return;
    const uint32_t *told = gw_cuda_tell(d, rows, m * sizeof *rows);
    if (told) gw_cuda_note(d, gw_cuda_gather(gw_cuda_compute(d), y, x, type, told, m, k, &ctx), &ctx);
}

static void scatter_add(struct gw_device *dev, float *y, uint32_t y_rows, const float *x,
                        const uint32_t *rows, const float *weights, uint32_t shares, uint32_t m, uint32_t n)
{
    struct gw_cuda_device *d = gw_cuda_of(dev);
    struct gw_err_ctx ctx = {0};
    size_t bytes = m * sizeof *rows;
    if (m == 0 || !gw_cuda_begin(d) || !gw_cuda_reserve(d, 2 * gw_cuda_padded(bytes))) return;
    const uint32_t *told = gw_cuda_tell(d, rows, bytes);
    const float *told_weights = gw_cuda_tell(d, weights, bytes);
    if (told && told_weights)
        gw_cuda_note(
            d, gw_cuda_scatter_add(gw_cuda_compute(d), y, y_rows, x, told, told_weights, shares, m, n, &ctx),
            &ctx);
}

/* ---- the host's: of rows that have come to it whole ---- */

static void pick(struct gw_device *dev, const struct gw_pick_row *rows, uint32_t count)
{
    const struct gw_cuda_device *d = gw_cuda_of(dev);
    d->config.host_ops->pick(d->config.host, rows, count);
}

static void weigh(struct gw_device *dev, float *y, const float *x, uint32_t n, float top, float inverse)
{
    const struct gw_cuda_device *d = gw_cuda_of(dev);
    d->config.host_ops->weigh(d->config.host, y, x, n, top, inverse);
}

const struct gw_ops gw_cuda_table = {.act = GW_BF16,
                                     .kv = GW_BF16,
                                     .weight = GW_BF16,
                                     .pack_bytes = pack_bytes,
                                     .pack = pack,
                                     .embed = embed,
                                     .rmsnorm = rmsnorm,
                                     .matmul = matmul,
                                     .pack_bytes_plain = pack_bytes,
                                     .pack_plain = pack,
                                     .matmul_plain = matmul,
                                     .matmul_shares = matmul_shares,
                                     .matmul_tree_add = matmul_tree_add,
                                     .rope_append = gw_cuda_op_rope_append,
                                     .attention = gw_cuda_op_attention,
                                     .silu_mul = silu_mul,
                                     .route = route,
                                     .gather = gather,
                                     .scatter_add = scatter_add,
                                     .tree_add = tree_add,
                                     .pick = pick,
                                     .pick_there = gw_cuda_op_pick_there,
                                     .weigh = weigh};
