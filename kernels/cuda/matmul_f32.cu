/* Products y = x · wᵀ of x in f32, with the CPU's bits (cpu-f32-2; of fp8 weights cpu-f32-fp8-1).
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
 * fp8: w is e4m3, widened as it is read from shared memory (20 KB, 25 KB), and the sum is multiplied by its row's scale
 * (launchers.h has the form).
 *
 * A block walks k in pieces of PIECE, STAGES - 1 of them on their way while one is multiplied; rows in shared memory are 16 bytes
 * more than PIECE numbers apart, so that eight threads of as many rows, which read 16 bytes each, meet all banks once. A thread's rows and columns
 * are a tile's threads apart. Nothing is padded: behind k nothing is added, which would make a -0 of the sum a 0.
 *
 * Floor: the larger of n · k · 4 bytes (fp8: n · (k + 4)) / bandwidth and 2 m n k / FLOP/s of f32. Limits: none but the grid's; k, strides, offsets and
 * addresses in multiples of 16 bytes are read 16 at a time, else 4. */
#include "kernels/cuda/fp8.cuh"
#include "kernels/cuda/launchers.h"

#define THREADS  128u
#define PIECE    32u
#define ROW      (PIECE + 4u)
#define ROWS_MAX (65535u * 4u) /* the grid's y, of the smaller tile */

/* Of a tile: RM · RN of each thread, DOWN · (THREADS / DOWN) threads. */
template <uint32_t DOWN_, uint32_t RM_, uint32_t RN_, uint32_t STAGES_> struct shape {
    static constexpr uint32_t DOWN = DOWN_, ACROSS = THREADS / DOWN, RM = RM_, RN = RN_, STAGES = STAGES_;
    static constexpr uint32_t ROWS = DOWN * RM, COLUMNS = ACROSS * RN;
};

/* What is in shared memory with weights of W: in each stage x, then w, rows 16 bytes longer than a piece. */
template <class S, class W> struct shared_of {
    static constexpr uint32_t X = S::ROWS * ROW * sizeof(float), W_ROW = PIECE + 16u / sizeof(W);
    static constexpr uint32_t STAGE = X + S::COLUMNS * W_ROW * sizeof(W);
    static constexpr size_t BYTES = (size_t)S::STAGES * STAGE;
};

struct job {
    float *y;
    const float *x;
    size_t y_stride, x_stride;
    uint32_t m;
    struct gw_cuda_product of[GW_CUDA_PRODUCTS_MAX];
};

/* Rows [first, first + ROWS) of a matrix, k from `at` on; zeros outside of it. NUMBERS: at a time, of 16 bytes, or one of 4. */
template <uint32_t ROWS, uint32_t NUMBERS, class T>
__device__ static void load(T *to, const T *from, size_t stride, uint32_t first, uint32_t rows, uint32_t at,
                            uint32_t k)
{
    constexpr uint32_t TO_ROW = PIECE + 16u / sizeof(T);
    for (uint32_t i = threadIdx.x; i < ROWS * (PIECE / NUMBERS); i += THREADS) {
        uint32_t row = i / (PIECE / NUMBERS), d = i % (PIECE / NUMBERS) * NUMBERS;
        bool is = first + row < rows && at + d < k;
        const T *source = is ? from + (first + row) * stride + at + d : from;
        if constexpr (NUMBERS * sizeof(T) == 16)
            gw_copy16_async(&to[row * TO_ROW + d], source, is);
        else
            gw_copy_small_async<4>(&to[row * TO_ROW + d], source, is);
    }
}

/* From row to row of w. */
template <class W> __device__ static inline size_t w_stride(const struct gw_cuda_product &p)
{
    return sizeof(W) == 1 ? (size_t)gw_cuda_whole_steps(p.k, GW_CUDA_FP8_STEP) : p.k;
}

/* Requests the piece from `at` on, as one group of copies. NUMBERS: of x, and of w in f32. */
template <class S, class W, uint32_t NUMBERS>
__device__ static void load_piece(unsigned char *stage, const struct job &job,
                                  const struct gw_cuda_product &p, uint32_t at)
{
    constexpr uint32_t W_NUMBERS = sizeof(W) == 1 ? 16 : NUMBERS;
    if (at < p.k) {
        load<S::ROWS, NUMBERS>(gw_as<float>(stage), job.x + p.x_at, job.x_stride, blockIdx.y * S::ROWS, job.m,
                               at, p.k);
        load<S::COLUMNS, W_NUMBERS>(gw_as<W>(stage + shared_of<S, W>::X), static_cast<const W *>(p.w),
                                    w_stride<W>(p), blockIdx.x * S::COLUMNS, p.n, at, p.k);
    }
    gw_copies_commit();
}

__device__ static inline void load4(float to[4], const float *from)
{
    const float4 four = *static_cast<const float4 *>(static_cast<const void *>(from));
    to[0] = four.x, to[1] = four.y, to[2] = four.z, to[3] = four.w;
}
__device__ static inline void load4(float to[4], const uint8_t *from)
{
    gw_fp8_wide_f32(to, *static_cast<const uint32_t *>(static_cast<const void *>(from)));
}

/* acc += x · w of `len` k of the piece. */
template <class S, class W>
__device__ static void multiply(float acc[S::RM][S::RN], unsigned char *stage, uint32_t len)
{
    constexpr uint32_t W_ROW = shared_of<S, W>::W_ROW;
    const float *x = gw_as<float>(stage) + threadIdx.x / S::ACROSS * ROW;
    const W *w = gw_as<W>(stage + shared_of<S, W>::X) + threadIdx.x % S::ACROSS * W_ROW;
    for (uint32_t k = 0; k < len; k += 4) {
        float a[S::RM][4], b[S::RN][4];
#pragma unroll
        for (uint32_t r = 0; r < S::RM; r++) load4(a[r], x + r * S::DOWN * ROW + k);
#pragma unroll
        for (uint32_t c = 0; c < S::RN; c++) load4(b[c], w + c * S::ACROSS * W_ROW + k);
#pragma unroll
        for (uint32_t i = 0; i < 4; i++)
            if (k + i < len)
#pragma unroll
                for (uint32_t r = 0; r < S::RM; r++)
#pragma unroll
                    for (uint32_t c = 0; c < S::RN; c++) acc[r][c] = fmaf(a[r][i], b[c][i], acc[r][c]);
    }
}

/* Of fp8 by its row's scale. */
template <class W>
__device__ static inline float scaled(const struct gw_cuda_product &p, uint32_t n, float acc)
{
    if constexpr (sizeof(W) == 1) {
        const void *scales = static_cast<const W *>(p.w) + p.n * w_stride<W>(p);
        acc *= static_cast<const float *>(scales)[n];
    }
    return acc;
}

template <class S, class W>
__device__ static void store(const float acc[S::RM][S::RN], const struct job &job,
                             const struct gw_cuda_product &p)
{
    const uint32_t row = blockIdx.y * S::ROWS + threadIdx.x / S::ACROSS;
    const uint32_t column = blockIdx.x * S::COLUMNS + threadIdx.x % S::ACROSS;
#pragma unroll
    for (uint32_t r = 0; r < S::RM; r++)
#pragma unroll
        for (uint32_t c = 0; c < S::RN; c++) {
            uint32_t m = row + r * S::DOWN, n = column + c * S::ACROSS;
            if (m < job.m && n < p.n) job.y[m * job.y_stride + p.y_at + n] = scaled<W>(p, n, acc[r][c]);
        }
}

template <class S, class W, uint32_t NUMBERS>
__global__ static void __launch_bounds__(THREADS) product(const __grid_constant__ struct job job)
{
    GW_SHARED_DYNAMIC(memory);
    const struct gw_cuda_product p = job.of[blockIdx.z];
    constexpr uint32_t STAGE = shared_of<S, W>::STAGE;
    unsigned char *stages = memory;
    float acc[S::RM][S::RN] = {};
    if (blockIdx.x * S::COLUMNS >= p.n) return;
    for (uint32_t s = 0; s < S::STAGES - 1; s++)
        load_piece<S, W, NUMBERS>(stages + s * STAGE, job, p, s * PIECE);
    for (uint32_t piece = 0; piece * PIECE < p.k; piece++) {
        uint32_t next = piece + S::STAGES - 1;
        gw_copies_wait<S::STAGES - 2>();
        __syncthreads(); /* this piece is there, and nobody reads the one before it any more */
        load_piece<S, W, NUMBERS>(stages + next % S::STAGES * STAGE, job, p, next * PIECE);
        multiply<S, W>(acc, stages + piece % S::STAGES * STAGE, min(PIECE, p.k - piece * PIECE));
    }
    gw_copies_wait<0>();
    store<S, W>(acc, job, p);
}

template <class S, class W>
static gw_err_t launch(gw_cuda_stream stream, const struct job &job, uint32_t n_max, uint32_t count,
                       bool in_fours, struct gw_err_ctx *ctx)
{
    auto *kernel = in_fours ? product<S, W, 4> : product<S, W, 1>;
    dim3 blocks(gw_blocks_of(n_max, S::COLUMNS), gw_blocks_of(job.m, S::ROWS), count);
    GW_LAUNCH(kernel, blocks, THREADS, (shared_of<S, W>::BYTES), stream, job);
    return gw_launched(ctx, "matmul_f32");
}

static bool is_in_fours(const struct gw_cuda_product *p)
{
    return p->k % 4 == 0 && p->x_at % 4 == 0 && gw_aligned16(p->w);
}

template <class W>
static gw_err_t multiply_all(gw_cuda_stream stream, float *y, size_t y_stride, const float *x,
                             size_t x_stride, const struct gw_cuda_product *list, uint32_t count, uint32_t m,
                             struct gw_err_ctx *ctx)
{
    struct job job = {};
    uint32_t n_max = 0;
    bool in_fours = x_stride % 4 == 0 && gw_aligned16(x);
    GW_NEED(count <= GW_CUDA_PRODUCTS_MAX, "128 products at most");
    GW_NEED(m <= ROWS_MAX, "262140 rows at most");
    for (uint32_t i = 0; i < count; i++) {
        GW_NEED(sizeof(W) == 4 || gw_aligned16(list[i].w), "w of fp8 aligned to 16 bytes");
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
    if (m <= 16) return launch<shape<4, 1, 1, 4>, W>(stream, job, n_max, count, in_fours, ctx);
    return launch<shape<8, 8, 4, 2>, W>(stream, job, n_max, count, in_fours, ctx);
}

extern "C" gw_err_t gw_cuda_matmul_f32(gw_cuda_stream stream, float *y, size_t y_stride, const float *x,
                                       size_t x_stride, const struct gw_cuda_product *list, uint32_t count,
                                       uint32_t m, struct gw_err_ctx *ctx)
{
    return multiply_all<float>(stream, y, y_stride, x, x_stride, list, count, m, ctx);
}

extern "C" gw_err_t gw_cuda_matmul_f32_fp8(gw_cuda_stream stream, float *y, size_t y_stride, const float *x,
                                           size_t x_stride, const struct gw_cuda_product *list,
                                           uint32_t count, uint32_t m, struct gw_err_ctx *ctx)
{
    return multiply_all<uint8_t>(stream, y, y_stride, x, x_stride, list, count, m, ctx);
}
