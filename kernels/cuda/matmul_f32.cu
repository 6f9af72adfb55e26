/* Products y = x · wᵀ of f32, with the CPU's bits (cpu-f32-2).
 *
 *     x [m, …] f32, rows x_stride apart    w [n, k] f32, row after row    y [m, …] f32, rows y_stride apart
 *
 * The value of (m, n): acc = 0; for k ascending: acc = fma(x[k], w[k], acc). A thread has all of it: blocks and threads split m and n
 * only. Tensor cores have no such order (and round f32 to tf32), so these are the device's ordinary multipliers.
 *
 *     m        tile      a thread's    shared
 *     1-16     4 x 32    1 x 1         21 KB    as many blocks as there are columns / 32: reading w is the time
 *     17-      64 x 64   8 x 4         37 KB
 *
 * A block walks k in pieces of PIECE, STAGES - 1 of them on their way while one is multiplied; rows in shared memory are PIECE + 4
 * numbers apart, so that eight threads of as many rows, which read 16 bytes each, meet all banks once. A thread's rows and columns
 * are a tile's threads apart. Nothing is padded: behind k nothing is added, which would make a -0 of the sum a 0.
 *
 * Floor: the larger of n · k · 4 bytes / bandwidth and 2 m n k / FLOP/s of f32. Limits: none but the grid's; k, strides, offsets and
 * addresses in multiples of 16 bytes are read 16 at a time, else 4. */
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/ptx.cuh"

#define THREADS  128u
#define PIECE    32u
#define ROW      (PIECE + 4u)
#define ROWS_MAX (65535u * 4u) /* the grid's y, of the smaller tile */

/* Of a tile: RM · RN of each thread, DOWN · (THREADS / DOWN) threads. */
template <uint32_t DOWN_, uint32_t RM_, uint32_t RN_, uint32_t STAGES_> struct shape {
    static constexpr uint32_t DOWN = DOWN_, ACROSS = THREADS / DOWN, RM = RM_, RN = RN_, STAGES = STAGES_;
    static constexpr uint32_t ROWS = DOWN * RM, COLUMNS = ACROSS * RN, STAGE = (ROWS + COLUMNS) * ROW;
    static constexpr size_t SHARED = (size_t)STAGES * STAGE * sizeof(float);
};

struct job {
    float *y;
    const float *x;
    size_t y_stride, x_stride;
    uint32_t m;
    struct gw_cuda_f32_product of[GW_CUDA_PRODUCTS_MAX];
};

/* Rows [first, first + ROWS) of a matrix, k from `at` on; zeros outside of it. NUMBERS: 4 or 1 at a time. */
template <uint32_t ROWS, uint32_t NUMBERS>
__device__ static void load(float *to, const float *from, size_t stride, uint32_t first, uint32_t rows,
                            uint32_t at, uint32_t k)
{
    for (uint32_t i = threadIdx.x; i < ROWS * (PIECE / NUMBERS); i += THREADS) {
        uint32_t row = i / (PIECE / NUMBERS), d = i % (PIECE / NUMBERS) * NUMBERS;
        bool is = first + row < rows && at + d < k;
        const float *source = is ? from + (first + row) * stride + at + d : from;
        if constexpr (NUMBERS == 4)
            gw_copy16_async(&to[row * ROW + d], source, is);
        else
            gw_copy_small_async<4>(&to[row * ROW + d], source, is);
    }
}

/* Requests the piece from `at` on, as one group of copies. */
template <class S, uint32_t NUMBERS>
__device__ static void load_piece(float *stage, const struct job &job, const struct gw_cuda_f32_product &p,
                                  uint32_t at)
{
    if (at < p.k) {
        load<S::ROWS, NUMBERS>(stage, job.x + p.x_at, job.x_stride, blockIdx.y * S::ROWS, job.m, at, p.k);
        load<S::COLUMNS, NUMBERS>(stage + S::ROWS * ROW, p.w, p.k, blockIdx.x * S::COLUMNS, p.n, at, p.k);
    }
    gw_copies_commit();
}

__device__ static inline void load4(float to[4], const float *from)
{
    const float4 four = *static_cast<const float4 *>(static_cast<const void *>(from));
    to[0] = four.x, to[1] = four.y, to[2] = four.z, to[3] = four.w;
}

/* acc += x · w of `len` k of the piece. */
template <class S> __device__ static void multiply(float acc[S::RM][S::RN], const float *stage, uint32_t len)
{
    const float *x = stage + threadIdx.x / S::ACROSS * ROW;
    const float *w = stage + (S::ROWS + threadIdx.x % S::ACROSS) * ROW;
    for (uint32_t k = 0; k < len; k += 4) {
        float a[S::RM][4], b[S::RN][4];
#pragma unroll
        for (uint32_t r = 0; r < S::RM; r++) load4(a[r], x + r * S::DOWN * ROW + k);
#pragma unroll
        for (uint32_t c = 0; c < S::RN; c++) load4(b[c], w + c * S::ACROSS * ROW + k);
#pragma unroll
        for (uint32_t i = 0; i < 4; i++)
            if (k + i < len)
#pragma unroll
                for (uint32_t r = 0; r < S::RM; r++)
#pragma unroll
                    for (uint32_t c = 0; c < S::RN; c++) acc[r][c] = fmaf(a[r][i], b[c][i], acc[r][c]);
    }
}

template <class S>
__device__ static void store(const float acc[S::RM][S::RN], const struct job &job,
                             const struct gw_cuda_f32_product &p)
{
    const uint32_t row = blockIdx.y * S::ROWS + threadIdx.x / S::ACROSS;
    const uint32_t column = blockIdx.x * S::COLUMNS + threadIdx.x % S::ACROSS;
#pragma unroll
    for (uint32_t r = 0; r < S::RM; r++)
#pragma unroll
        for (uint32_t c = 0; c < S::RN; c++) {
            uint32_t m = row + r * S::DOWN, n = column + c * S::ACROSS;
            if (m < job.m && n < p.n) job.y[m * job.y_stride + p.y_at + n] = acc[r][c];
        }
}

template <class S, uint32_t NUMBERS>
__global__ static void __launch_bounds__(THREADS) product(const __grid_constant__ struct job job)
{
    GW_SHARED_DYNAMIC(memory);
    const struct gw_cuda_f32_product p = job.of[blockIdx.z];
    float *stages = gw_as<float>(memory), acc[S::RM][S::RN] = {};
    if (blockIdx.x * S::COLUMNS >= p.n) return;
    for (uint32_t s = 0; s < S::STAGES - 1; s++)
        load_piece<S, NUMBERS>(stages + s * S::STAGE, job, p, s * PIECE);
    for (uint32_t piece = 0; piece * PIECE < p.k; piece++) {
        uint32_t next = piece + S::STAGES - 1;
        gw_copies_wait<S::STAGES - 2>();
        __syncthreads(); /* this piece is there, and nobody reads the one before it any more */
        load_piece<S, NUMBERS>(stages + next % S::STAGES * S::STAGE, job, p, next * PIECE);
        multiply<S>(acc, stages + piece % S::STAGES * S::STAGE, min(PIECE, p.k - piece * PIECE));
    }
    gw_copies_wait<0>();
    store<S>(acc, job, p);
}

template <class S>
static gw_err_t launch(gw_cuda_stream stream, const struct job &job, uint32_t n_max, uint32_t count,
                       bool in_fours, struct gw_err_ctx *ctx)
{
    auto *kernel = in_fours ? product<S, 4> : product<S, 1>;
    dim3 blocks(gw_blocks_of(n_max, S::COLUMNS), gw_blocks_of(job.m, S::ROWS), count);
    GW_LAUNCH(kernel, blocks, THREADS, S::SHARED, stream, job);
    return gw_launched(ctx, "matmul_f32");
}

static bool is_in_fours(const struct gw_cuda_f32_product *p)
{
    return p->k % 4 == 0 && p->x_at % 4 == 0 && gw_aligned16(p->w);
}

extern "C" gw_err_t gw_cuda_matmul_f32(gw_cuda_stream stream, float *y, size_t y_stride, const float *x,
                                       size_t x_stride, const struct gw_cuda_f32_product *list,
                                       uint32_t count, uint32_t m, struct gw_err_ctx *ctx)
{
    struct job job = {};
    uint32_t n_max = 0;
    bool in_fours = x_stride % 4 == 0 && gw_aligned16(x);
    GW_NEED(count <= GW_CUDA_PRODUCTS_MAX, "128 products at most");
    GW_NEED(m <= ROWS_MAX, "262140 rows at most");
    for (uint32_t i = 0; i < count; i++) {
        in_fours = in_fours && is_in_fours(&list[i]);
        job.of[i] = list[i];
        n_max = list[i].n > n_max ? list[i].n : n_max;
    }
    if (m == 0 || n_max == 0) return GW_OK;
    job.y = y;
    job.x = x;
    job.y_stride = y_stride;
    job.x_stride = x_stride;
    job.m = m;
    if (m <= 16) return launch<shape<4, 1, 1, 4>>(stream, job, n_max, count, in_fours, ctx);
    return launch<shape<8, 8, 4, 2>>(stream, job, n_max, count, in_fours, ctx);
}
