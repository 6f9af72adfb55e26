/* Products on tensor cores, tile by tile: what all number formats share.
 *
 * A row of x or of w is k words of 16 bits, each a bf16 or a pair of int8: what is loaded, where it lies and which lane gets it does
 * not depend on which. Of w a word may be an e4m3 of 8 bits instead, which a lane makes a bf16 when it has loaded it (fp8.cuh). One step of STEP words is one mma (m16n8k16 of bf16, m16n8k32 of int8):
 *
 *     acc = 0; for STEP words of k at a time, ascending: acc = mma(x, w, acc)
 *
 * Zeros behind k change no bit. That is all that a value depends on: blocks and warps split m and n only, never k, so a row has the
 * same bits alone and in a batch, and in each of the three shapes of tile below. (A tensor core's element depends on its own row
 * and column alone.)
 *
 *     m         tile       warps    shared (fp8)
 *     1-16      16 x 32    1 x 4     41 KB (29)    as many blocks as there are columns / 32: reading w is the time
 *     17-64     64 x 32    4 x 1     54 KB (46)    the same
 *     65-       128 x 128  2 x 2    108 KB (84)
 *
 * A block walks k in pieces of PIECE words, STAGES - 1 of them on their way while one is multiplied; rows in shared memory are 16 bytes
 * more than PIECE words apart, so that ldmatrix, or a warp's load of fp8, meets each bank once. Several products of one x are one launch: blocks in z.
 *
 * A format is a job, which goes with the launch:
 *
 *     typedef … sum;                                                        float or int32_t: gw_mm_mma's
 *     typedef … weight;                                                     uint16_t, or uint8_t: e4m3
 *     gw_mm_operands<weight> operands(uint32_t product) const;
 *     void put(uint32_t product, uint32_t row, uint32_t column, sum) const; into y
 *
 * Rows are aligned to 16 bytes, k a multiple of 8 words. sm_75, 86 and 89 have no shared memory for the largest tile: there the next
 * one takes its rows, more slowly.
 *
 * Owner: all memory is the caller's. Thread: a block. Units: words, elements of y. Errors: those of the launch. Source: own design,
 * after CUTLASS' multi-stage pipeline. */
#ifndef GW_KERNELS_CUDA_MATMUL_TILES_CUH
#define GW_KERNELS_CUDA_MATMUL_TILES_CUH

#include "kernels/cuda/fp8.cuh"
#include "kernels/cuda/launchers.h"

#define GW_MM_THREADS  128u
#define GW_MM_PIECE    64u
#define GW_MM_STEP     16u
#define GW_MM_ROW      (GW_MM_PIECE + 8u)
#define GW_MM_FP8_ROW  (GW_MM_PIECE + 16u)
#define GW_MM_ROWS_MAX (65535u * 128u) /* the grid's y, of the largest tile */

/* WARPS_M · WARPS_N = 4 warps; each has M_TILES · 16 rows and N_TILES · 8 columns. */
template <uint32_t WARPS_M_, uint32_t M_TILES_, uint32_t N_TILES_, uint32_t STAGES_> struct gw_mm_shape {
    static constexpr uint32_t WARPS_M = WARPS_M_, M_TILES = M_TILES_, N_TILES = N_TILES_, STAGES = STAGES_;
    static constexpr uint32_t WARPS_N = GW_MM_THREADS / GW_WARP / WARPS_M;
    static constexpr uint32_t ROWS = WARPS_M * M_TILES * 16, COLUMNS = WARPS_N * N_TILES * 8;
};

/* What is in shared memory with weights of W: in each stage x, then w. */
template <class S, class W> struct gw_mm_shared {
    static constexpr uint32_t X = S::ROWS * GW_MM_ROW * sizeof(uint16_t);
    static constexpr uint32_t STAGE = X + S::COLUMNS * (GW_MM_PIECE * sizeof(W) + 16u);
    static constexpr size_t BYTES = (size_t)S::STAGES * STAGE;
};

/* x [m, k], rows x_stride apart; w [n, k], rows w_stride apart. */
template <class W> struct gw_mm_operands {
    const uint16_t *x;
    const W *w;
    size_t x_stride, w_stride;
    uint32_t m, n, k;
};

__device__ static inline void gw_mm_mma(float d[4], const uint32_t a[4], const uint32_t b[2])
{
    gw_mma_bf16(d, a, b);
}
__device__ static inline void gw_mm_mma(int32_t d[4], const uint32_t a[4], const uint32_t b[2])
{
    gw_mma_int8(d, a, b);
}

/* Rows [first, first + ROWS) of a matrix, k from `at` on; zeros outside of it. */
template <uint32_t ROWS, class T>
__device__ static void gw_mm_load(T *to, const T *from, size_t stride, uint32_t first, uint32_t rows,
                                  uint32_t at, uint32_t k)
{
    constexpr uint32_t COPY = 16u / sizeof(T),
                       COPIES = GW_MM_PIECE / COPY; /* words of a copy, copies of a row */
    for (uint32_t i = threadIdx.x; i < ROWS * COPIES; i += GW_MM_THREADS) {
        uint32_t row = i / COPIES, d = i % COPIES * COPY;
        bool is = first + row < rows && at + d < k;
        gw_copy16_async(&to[row * (GW_MM_PIECE + COPY) + d],
                        is ? from + (first + row) * stride + at + d : from, is);
    }
}

/* Requests the piece from `at` on, as one group of copies. */
template <class S, class W>
__device__ static void gw_mm_load_piece(unsigned char *stage, const struct gw_mm_operands<W> &o, uint32_t at)
{
    if (at < o.k) {
        gw_mm_load<S::ROWS>(gw_as<uint16_t>(stage), o.x, o.x_stride, blockIdx.y * S::ROWS, o.m, at, o.k);
        gw_mm_load<S::COLUMNS>(gw_as<W>(stage + gw_mm_shared<S, W>::X), o.w, o.w_stride,
                               blockIdx.x * S::COLUMNS, o.n, at, o.k);
    }
    gw_copies_commit();
}

/* Where a lane reads w: of the first 8 of its warp's columns, which begin at `columns`. */
__device__ static inline const uint16_t *gw_mm_lane(const uint16_t *columns, uint32_t lane)
{
    return columns + lane % 8 * GW_MM_ROW + lane / 8 * 8;
}
__device__ static inline const uint8_t *gw_mm_lane(const uint8_t *columns, uint32_t lane)
{
    return columns + lane / 4 * GW_MM_FP8_ROW + lane % 4 * 4;
}

/* 8 columns, two steps of k from there on. */
__device__ static inline void gw_mm_right(uint32_t right[4], const uint16_t *w, uint32_t columns, uint32_t k)
{
    gw_ldmatrix_x4(right, w + columns * GW_MM_ROW + k);
}
__device__ static inline void gw_mm_right(uint32_t right[4], const uint8_t *w, uint32_t columns, uint32_t k)
{
    const void *from = w + columns * GW_MM_FP8_ROW + k;
    const uint32_t *codes = static_cast<const uint32_t *>(from);
    gw_fp8_wide(right, codes[0]);
    gw_fp8_wide(right + 2, codes[GW_MM_STEP / 4]);
}

template <class S, class W, class Sum>
__device__ static void gw_mm_multiply(Sum acc[S::M_TILES][S::N_TILES][4], unsigned char *stage)
{
    const uint32_t warp = threadIdx.x / GW_WARP, lane = threadIdx.x % GW_WARP;
    const uint16_t *x = gw_as<uint16_t>(stage) +
                        (warp / S::WARPS_N * S::M_TILES * 16 + lane % 16) * GW_MM_ROW + lane / 16 * 8;
    const W *w = gw_mm_lane(gw_as<W>(stage + gw_mm_shared<S, W>::X +
                                     warp % S::WARPS_N * S::N_TILES * 8 * (GW_MM_PIECE * sizeof(W) + 16u)),
                            lane);
#pragma unroll
    for (uint32_t k = 0; k < GW_MM_PIECE; k += 2 * GW_MM_STEP) {
        uint32_t left[2][S::M_TILES][4];
#pragma unroll
        for (uint32_t i = 0; i < 2 * S::M_TILES; i++)
            gw_ldmatrix_x4(left[i % 2][i / 2], x + i / 2 * 16 * GW_MM_ROW + k + i % 2 * GW_MM_STEP);
#pragma unroll
        for (uint32_t n = 0; n < S::N_TILES; n++) {
            uint32_t right[4]; /* 8 columns, two steps of k */
            gw_mm_right(right, w, n * 8, k);
#pragma unroll
            for (uint32_t i = 0; i < 2 * S::M_TILES; i++)
                gw_mm_mma(acc[i % S::M_TILES][n], left[i / S::M_TILES][i % S::M_TILES],
                          right + i / S::M_TILES * 2);
        }
    }
}

template <class S, class Job>
__device__ static void gw_mm_store(const typename Job::sum acc[S::M_TILES][S::N_TILES][4], const Job &job,
                                   const struct gw_mm_operands<typename Job::weight> &o)
{
    const uint32_t warp = threadIdx.x / GW_WARP, lane = threadIdx.x % GW_WARP;
    const uint32_t row = blockIdx.y * S::ROWS + warp / S::WARPS_N * S::M_TILES * 16 + lane / 4;
    const uint32_t column = blockIdx.x * S::COLUMNS + warp % S::WARPS_N * S::N_TILES * 8 + lane % 4 * 2;
#pragma unroll
    for (uint32_t m = 0; m < S::M_TILES; m++)
#pragma unroll
        for (uint32_t n = 0; n < S::N_TILES; n++)
#pragma unroll
            for (uint32_t i = 0; i < 4; i++) {
                uint32_t r = row + m * 16 + i / 2 * 8, c = column + n * 8 + i % 2;
                if (r < o.m && c < o.n) job.put(blockIdx.z, r, c, acc[m][n][i]);
            }
}

template <class S, class Job>
__global__ static void __launch_bounds__(GW_MM_THREADS) gw_mm_product(const __grid_constant__ Job job)
{
    GW_SHARED_DYNAMIC(memory);
    typedef typename Job::weight W;
    constexpr uint32_t STAGE = gw_mm_shared<S, W>::STAGE;
    const struct gw_mm_operands<W> o = job.operands(blockIdx.z);
    unsigned char *stages = memory;
    typename Job::sum acc[S::M_TILES][S::N_TILES][4] = {};
    if (blockIdx.x * S::COLUMNS >= o.n) return;
    for (uint32_t s = 0; s < S::STAGES - 1; s++) gw_mm_load_piece<S>(stages + s * STAGE, o, s * GW_MM_PIECE);
    for (uint32_t piece = 0; piece * GW_MM_PIECE < o.k; piece++) {
        uint32_t next = piece + S::STAGES - 1;
        gw_copies_wait<S::STAGES - 2>();
        __syncthreads(); /* this piece is there, and nobody reads the one before it any more */
        gw_mm_load_piece<S>(stages + next % S::STAGES * STAGE, o, next * GW_MM_PIECE);
        gw_mm_multiply<S, W>(acc, stages + piece % S::STAGES * STAGE);
    }
    gw_copies_wait<0>();
    gw_mm_store<S>(acc, job, o);
}

/* Has the device shared memory for such a tile? (What this refuses, a launch would refuse.) */
template <class S, class Job> static bool gw_mm_has_room()
{
    auto *kernel = gw_mm_product<S, Job>;
    if (GW_ALLOW_SHARED(kernel, (gw_mm_shared<S, typename Job::weight>::BYTES)) == cudaSuccess) return true;
    (void)cudaGetLastError();
    return false;
}

/* count products of m rows; n_max: the most columns of one. */
struct gw_mm_size {
    uint32_t m, n_max, count;
};

template <class S, class Job>
static gw_err_t gw_mm_launch_as(gw_cuda_stream stream, const Job &job, struct gw_mm_size size,
                                const char *what, struct gw_err_ctx *ctx)
{
    auto *kernel = gw_mm_product<S, Job>;
    dim3 blocks(gw_blocks_of(size.n_max, S::COLUMNS), gw_blocks_of(size.m, S::ROWS), size.count);
    constexpr size_t bytes = gw_mm_shared<S, typename Job::weight>::BYTES;
    GW_LAUNCH(kernel, blocks, GW_MM_THREADS, bytes, stream, job);
    return gw_launched(ctx, what);
}

template <class Job>
static gw_err_t gw_mm_launch(gw_cuda_stream stream, const Job &job, struct gw_mm_size size, const char *what,
                             struct gw_err_ctx *ctx)
{
    typedef gw_mm_shape<1, 1, 1, 6> few;
    typedef gw_mm_shape<4, 1, 4, 4> some;
    typedef gw_mm_shape<2, 4, 8, 3> many;
    if (size.m == 0 || size.n_max == 0 || size.count == 0) return GW_OK;
    if (size.m <= 16 && gw_mm_has_room<few, Job>()) return gw_mm_launch_as<few>(stream, job, size, what, ctx);
    if (size.m > 64 && gw_mm_has_room<many, Job>())
        return gw_mm_launch_as<many>(stream, job, size, what, ctx);
    (void)gw_mm_has_room<some, Job>();
    return gw_mm_launch_as<some>(stream, job, size, what, ctx);
}

#endif
