/* Products y = x · wᵀ of int8, on rows that quantize.cu has left.
 *
 *     x [m][segments][k] int8, each segment with a scale of its own: x_scales [m][segments]
 *     w [n][k] int8, then [n] f32 scales (ops_int8.c packs it so)       y [m, …] f32, rows y_stride apart
 *
 *     y = (f32(Σ x · w) · scale of x) · scale of w
 *
 * The sum is exact in 32 bits (k <= GW_INT8_K_MAX), whatever its order: so these are the bits of the CPU's product, on every
 * architecture. Tiles: matmul_tiles.cuh, a word of 16 bits being a pair of k. Segment s of x meets the products that name it: one for
 * each share of a row-parallel product, or segment 0 for all products of one x.
 *
 * Floor: the larger of n · k bytes / bandwidth and 2 m n k / tensor op/s. Limits: k a multiple of 16 (zeros behind the last one), x and
 * w aligned to 16 bytes. */
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/matmul_tiles.cuh"

#define K_STEP 16u

struct int8_job {
    typedef int32_t sum;
    typedef uint16_t weight;
    float *y;
    size_t y_stride;
    struct gw_cuda_int8_rows x;
    uint32_t m;
    struct gw_cuda_int8_product of[GW_CUDA_PRODUCTS_MAX];

    __device__ struct gw_mm_operands<uint16_t> operands(uint32_t i) const {
        const struct gw_cuda_int8_product &p = of[i];
        const void *first = x.bytes + (size_t)p.segment * x.k;
        struct gw_mm_operands<uint16_t> o = {
            static_cast<const uint16_t *>(first), static_cast<const uint16_t *>(p.w),
                (size_t)x.segments *x.k / 2, x.k / 2, m, p.n, x.k / 2
        };
        return o;
    }

    __device__ void
    put(uint32_t i, uint32_t row, uint32_t column, int32_t acc) const
    {
        const struct gw_cuda_int8_product &p = of[i];
        const void *scales = static_cast<const int8_t *>(p.w) + (size_t)p.n * x.k;
        float x_scale = x.scales[(size_t)row * x.segments + p.segment];
        y[row * y_stride + p.y_at + column] =
            (float)acc * x_scale * static_cast<const float *>(scales)[column];
    }
};

extern "C" gw_err_t gw_cuda_matmul_int8(gw_cuda_stream stream, float *y, size_t y_stride,
                                        const struct gw_cuda_int8_rows *x,
                                        const struct gw_cuda_int8_product *list, uint32_t count, uint32_t m,
                                        struct gw_err_ctx *ctx)
{
    struct int8_job job = {};
    struct gw_mm_size size = {m, 0, count};
    GW_NEED(count <= GW_CUDA_PRODUCTS_MAX, "128 products at most");
    GW_NEED(x->k % K_STEP == 0 && gw_aligned16(x->bytes), "rows of x in 16 bytes, and aligned to them");
    GW_NEED(x->k <= GW_INT8_K_MAX, "131072 k at most: a sum must fit into 32 bits");
    GW_NEED(m <= GW_MM_ROWS_MAX, "8 million rows at most");
    for (uint32_t i = 0; i < count; i++) {
        GW_NEED(gw_aligned16(list[i].w), "w aligned to 16 bytes");
        GW_NEED(list[i].segment < x->segments, "a segment that x has");
        job.of[i] = list[i];
        size.n_max = list[i].n > size.n_max ? list[i].n : size.n_max;
    }
    job.y = y;
    job.y_stride = y_stride;
    job.x = *x;
    job.m = m;
    return gw_mm_launch(stream, job, size, "matmul_int8", ctx);
}
