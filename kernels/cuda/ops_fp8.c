/* The table's operations of fp8 weights: packing, and products that widen them on the way, of activations of bf16 and of f32.
 *
 *     packed    [n][k padded to 16] e4m3, zeros behind k; then [n] f32 scales
 *               of bf16 activations every 16 of k are in the order in which a tensor core's lanes want them (launchers.h) */
#include <assert.h>
#include <string.h>

#include "kernels/cpu/quantize.h"
#include "kernels/cuda/cuda_device_internal.h"

/* ---- weights ---- */

static size_t pack_bytes(uint32_t n, uint32_t k)
{
    return (size_t)n * (gw_cuda_whole_steps(k, GW_CUDA_FP8_STEP) + sizeof(float));
}

/* Where code k of a row goes. */
typedef uint32_t place_fn(uint32_t k);

static uint32_t in_order(uint32_t k)
{
    return k;
}

/* Lane j of four takes k 2 j, 2 j + 8, 2 j + 1, 2 j + 9 of 16 from its four bytes. */
static uint32_t by_lanes(uint32_t k)
{
    uint32_t of_16 = k % 16;
    return k - of_16 + of_16 % 8 / 2 * 4 + of_16 % 2 * 2 + of_16 / 8;
}

static void pack_as(uint8_t *to, const void *src, enum gw_dtype type, uint32_t n, uint32_t k,
                    size_t row_stride, place_fn *place)
{
    size_t row_bytes = gw_cuda_whole_steps(k, GW_CUDA_FP8_STEP);
    float inverse, *scales = (float *)(void *)(to + n * row_bytes);
    assert(type <= GW_F16);
    memset(to, 0, n * row_bytes);
    for (uint32_t row = 0; row < n; row++, to += row_bytes) {
        size_t first = row * row_stride;
        scales[row] = gw_fp8_scale(gw_largest_bits(src, type, first, k), &inverse);
        for (uint32_t i = 0; i < k; i++) to[place(i)] = gw_fp8_of(gw_f32_at(src, type, first + i), inverse);
    }
}

static void pack_bf16(void *dst, const void *src, enum gw_dtype src_type, uint32_t n, uint32_t k,
                      size_t row_stride)
{
    pack_as(dst, src, src_type, n, k, row_stride, by_lanes);
}

static void pack_f32(void *dst, const void *src, enum gw_dtype src_type, uint32_t n, uint32_t k,
                     size_t row_stride)
{
    pack_as(dst, src, src_type, n, k, row_stride, in_order);
}

/* ---- products ---- */

static void matmul_bf16(struct gw_device *dev, float *y, size_t y_stride, const void *x, size_t x_stride,
                        const struct gw_weight *w, const uint32_t *y_at, uint32_t count, uint32_t m)
{
    gw_cuda_op_matmul(dev, gw_cuda_matmul_fp8, y, y_stride, x, x_stride, w, y_at, count, m);
}

static void matmul_shares_bf16(struct gw_device *dev, float *y, const void *x, const struct gw_weight *w,
                               uint32_t shares, uint32_t m)
{
    gw_cuda_op_matmul_shares(dev, gw_cuda_matmul_fp8, y, x, w, shares, m);
}

static void matmul_f32(struct gw_device *dev, float *y, size_t y_stride, const void *x, size_t x_stride,
                       const struct gw_weight *w, const uint32_t *y_at, uint32_t count, uint32_t m)
{
    gw_cuda_op_matmul_f32(dev, gw_cuda_matmul_f32_fp8, y, y_stride, x, x_stride, w, y_at, count, m);
}

static void matmul_shares_f32(struct gw_device *dev, float *y, const void *x, const struct gw_weight *w,
                              uint32_t shares, uint32_t m)
{
    gw_cuda_op_matmul_shares_f32(dev, gw_cuda_matmul_f32_fp8, y, x, w, shares, m);
}

static void matmul_tree_add(struct gw_device *dev, float *residual, const void *x, const struct gw_weight *w,
                            uint32_t shares, uint32_t m, float *scratch)
{
    const struct gw_ops *ops = &gw_cuda_of(dev)->ops;
    ops->matmul_shares(dev, scratch, x, w, shares, m);
    ops->tree_add(dev, residual, scratch, shares, (size_t)m * w->n);
}

void gw_cuda_use_fp8_weights(struct gw_ops *table)
{
    bool f32 = table->act == GW_F32;
    table->weight = GW_F8;
    table->pack_bytes = pack_bytes;
    table->pack = f32 ? pack_f32 : pack_bf16;
    table->matmul = f32 ? matmul_f32 : matmul_bf16;
    table->matmul_shares = f32 ? matmul_shares_f32 : matmul_shares_bf16;
    table->matmul_tree_add = matmul_tree_add;
}
