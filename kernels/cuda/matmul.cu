/* Products y = x · wᵀ of the exact profile, of bf16 and of fp8 weights.
 *
 *     x [m, …] bf16, rows x_stride apart    w [n, k] bf16, row after row    y [m, …] f32, rows y_stride apart
 *
 * The value of (m, n): acc = 0; for 16 k at a time, ascending: acc = mma(x, w, acc); tiles and what else it may depend on:
 * matmul_tiles.cuh. How a tensor core rounds inside is its architecture's affair, which is why the profile names one.
 *
 * fp8: w is e4m3, widened to bf16 by each lane, and the sum is multiplied by its row's scale (launchers.h has the form).
 *
 * Row-parallel products over shares: one product per share (x_at: its columns, y_at: its plane), then gw_cuda_tree_add.
 *
 * Floor: the larger of n · k · 2 bytes (fp8: n · (k + 4)) / bandwidth and 2 m n k / tensor FLOP/s. Limits: k, strides and offsets of x multiples of
 * 8, x and w aligned to 16 bytes. */
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/matmul_tiles.cuh"

template <class W> struct product_job {
    typedef float sum;
    typedef W weight;
    float *y;
    const uint16_t *x;
    size_t y_stride, x_stride;
    uint32_t m;
    struct gw_cuda_product of[GW_CUDA_PRODUCTS_MAX];

    /* From row to row of w. */
    __device__ size_t w_stride(const struct gw_cuda_product &p) const
    {
        return sizeof(W) == 1 ? (size_t)gw_cuda_whole_steps(p.k, GW_CUDA_FP8_STEP) : p.k;
    }

    __device__ struct gw_mm_operands<W> operands(uint32_t i) const {
        const struct gw_cuda_product &p = of[i];
        struct gw_mm_operands<W> o = {
            x + p.x_at, static_cast<const W *>(p.w), x_stride, w_stride(p), m, p.n, p.k
        };
        return o;
    }

    __device__ void
    put(uint32_t i, uint32_t row, uint32_t column, float acc) const
    {
        const struct gw_cuda_product &p = of[i];
        if constexpr (sizeof(W) == 1) {
            const void *scales = static_cast<const W *>(p.w) + p.n * w_stride(p);
            acc *= static_cast<const float *>(scales)[column];
        }
        y[row * y_stride + p.y_at + column] = acc;
    }
};

static bool in_eights(const struct gw_cuda_product *p)
{
    return p->k % 8 == 0 && p->x_at % 8 == 0 && gw_aligned16(p->w);
}

template <class W>
static gw_err_t multiply(gw_cuda_stream stream, float *y, size_t y_stride, const uint16_t *x, size_t x_stride,
                         const struct gw_cuda_product *list, uint32_t count, uint32_t m, const char *what,
                         struct gw_err_ctx *ctx)
{
    struct product_job<W> job = {
    };
    struct gw_mm_size size = {m, 0, count};
    GW_NEED(count <= GW_CUDA_PRODUCTS_MAX, "128 products at most");
    GW_NEED(x_stride % 8 == 0 && gw_aligned16(x), "rows of x aligned to 16 bytes");
    GW_NEED(m <= GW_MM_ROWS_MAX, "8 million rows at most");
    for (uint32_t i = 0; i < count; i++) {
        GW_NEED(in_eights(&list[i]), "k and x_at multiples of 8, w aligned to 16 bytes");
        job.of[i] = list[i];
        size.n_max = list[i].n > size.n_max ? list[i].n : size.n_max;
    }
    job.y = y;
    job.x = x;
    job.y_stride = y_stride;
    job.x_stride = x_stride;
    job.m = m;
    return gw_mm_launch(stream, job, size, what, ctx);
}

extern "C" gw_err_t gw_cuda_matmul(gw_cuda_stream stream, float *y, size_t y_stride, const uint16_t *x,
                                   size_t x_stride, const struct gw_cuda_product *list, uint32_t count,
                                   uint32_t m, struct gw_err_ctx *ctx)
{
    return multiply<uint16_t>(stream, y, y_stride, x, x_stride, list, count, m, "matmul", ctx);
}

extern "C" gw_err_t gw_cuda_matmul_fp8(gw_cuda_stream stream, float *y, size_t y_stride, const uint16_t *x,
                                       size_t x_stride, const struct gw_cuda_product *list, uint32_t count,
                                       uint32_t m, struct gw_err_ctx *ctx)
{
    return multiply<uint8_t>(stream, y, y_stride, x, x_stride, list, count, m, "matmul_fp8", ctx);
}
