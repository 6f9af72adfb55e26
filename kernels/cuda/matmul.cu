/* Products y = x · wᵀ of the exact profile.
 *
 *     x [m, …] bf16, rows x_stride apart    w [n, k] bf16, row after row    y [m, …] f32, rows y_stride apart
 *
 * The value of (m, n): acc = 0; for 16 k at a time, ascending: acc = mma(x, w, acc). Zeros behind k change no bit. That is all that
 * a value depends on: blocks and warps split m and n only, never k, so a row has the same bits alone and in a batch, and in
 * each of the three shapes of tile below. (A tensor core's element depends on its own row and column alone; how it rounds
 * inside is its architecture's affair, which is why the profile names one.)
 *
 *     m         tile       warps    shared
 *     1-16      16 x 32    1 x 4     41 KB    as many blocks as there are columns / 32: reading w is the time
 *     17-64     64 x 32    4 x 1     54 KB    the same
 *     65-       128 x 128  2 x 2    108 KB
 *
 * A block walks k in pieces of K_PIECE, STAGES - 1 of them on their way while one is multiplied; rows in shared memory are K_PIECE +
 * 8 apart, so that ldmatrix meets each bank once. Several products of one x are one launch: blocks in z.
 *
 * Row-parallel products over shares: one product per share (x_at: its columns, y_at: its plane), then gw_cuda_tree_add.
 *
 * Floor: the larger of n · k · 2 bytes / bandwidth and 2 m n k / tensor FLOP/s. Limits: k, strides and offsets of x multiples of
 * 8, x and w aligned to 16 bytes. sm_75 has no shared memory for the largest tile. Source: own design, after CUTLASS' multi-stage
 * pipeline. */
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/ptx.cuh"

#define THREADS    128u
#define K_PIECE    64u
#define K_STEP     16u /* of an mma */
#define ROW        (K_PIECE + 8u)
#define BLOCKS_MAX 65535u /* the grid's y */

struct products {
    struct gw_cuda_product of[GW_CUDA_PRODUCTS_MAX];
};

struct matmul_args {
    float *y;
    const uint16_t *x;
    size_t y_stride, x_stride;
    uint32_t m;
};

/* WARPS_M · WARPS_N = 4 warps; each has M_TILES · 16 rows and N_TILES · 8 columns. */
template <uint32_t WARPS_M_, uint32_t M_TILES_, uint32_t N_TILES_, uint32_t STAGES_> struct shape {
    static constexpr uint32_t WARPS_M = WARPS_M_, M_TILES = M_TILES_, N_TILES = N_TILES_, STAGES = STAGES_;
    static constexpr uint32_t WARPS_N = THREADS / GW_WARP / WARPS_M;
    static constexpr uint32_t ROWS = WARPS_M * M_TILES * 16, COLUMNS = WARPS_N * N_TILES * 8;
    static constexpr uint32_t STAGE = (ROWS + COLUMNS) * ROW; /* elements: x, then w */
    static constexpr size_t SHARED = (size_t)STAGES * STAGE * sizeof(uint16_t);
};

/* Rows [first, first + ROWS) of a matrix, k from `at` on; zeros outside of it. */
template <uint32_t ROWS>
__device__ static void load(uint16_t *to, const uint16_t *from, size_t stride, uint32_t first, uint32_t rows,
                            uint32_t at, uint32_t k)
{
    for (uint32_t i = threadIdx.x; i < ROWS * (K_PIECE / 8); i += THREADS) {
        uint32_t row = i / (K_PIECE / 8), d = i % (K_PIECE / 8) * 8;
        bool is = first + row < rows && at + d < k;
        gw_copy16_async(&to[row * ROW + d], is ? from + (first + row) * stride + at + d : from, is);
    }
}

/* Requests the piece from `at` on, as one group of copies. */
template <class S>
__device__ static void load_piece(uint16_t *stage, const struct matmul_args &a,
                                  const struct gw_cuda_product &p, uint32_t at)
{
    if (at < p.k) {
        load<S::ROWS>(stage, a.x + p.x_at, a.x_stride, blockIdx.y * S::ROWS, a.m, at, p.k);
        load<S::COLUMNS>(stage + S::ROWS * ROW, p.w, p.k, blockIdx.x * S::COLUMNS, p.n, at, p.k);
    }
    gw_copies_commit();
}

template <class S>
__device__ static void multiply(float acc[S::M_TILES][S::N_TILES][4], const uint16_t *stage)
{
    const uint32_t warp = threadIdx.x / GW_WARP, lane = threadIdx.x % GW_WARP;
    const uint16_t *x = stage + (warp / S::WARPS_N * S::M_TILES * 16 + lane % 16) * ROW + lane / 16 * 8;
    const uint16_t *w =
        stage + (S::ROWS + warp % S::WARPS_N * S::N_TILES * 8 + lane % 8) * ROW + lane / 8 * 8;
#pragma unroll
    for (uint32_t k = 0; k < K_PIECE; k += 2 * K_STEP) {
        uint32_t left[2][S::M_TILES][4];
#pragma unroll
        for (uint32_t i = 0; i < 2 * S::M_TILES; i++)
            gw_ldmatrix_x4(left[i % 2][i / 2], x + i / 2 * 16 * ROW + k + i % 2 * K_STEP);
#pragma unroll
        for (uint32_t n = 0; n < S::N_TILES; n++) {
            uint32_t right[4]; /* 8 columns, 2 · K_STEP of k */
            gw_ldmatrix_x4(right, w + n * 8 * ROW + k);
#pragma unroll
            for (uint32_t i = 0; i < 2 * S::M_TILES; i++)
                gw_mma_bf16(acc[i % S::M_TILES][n], left[i / S::M_TILES][i % S::M_TILES],
                            right + i / S::M_TILES * 2);
        }
    }
}

template <class S>
__device__ static void store(const float acc[S::M_TILES][S::N_TILES][4], const struct matmul_args &a,
                             const struct gw_cuda_product &p)
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
                if (r < a.m && c < p.n) a.y[r * a.y_stride + p.y_at + c] = acc[m][n][i];
            }
}

template <class S>
__global__ static void __launch_bounds__(THREADS) product(struct matmul_args a, const struct products list)
{
    GW_SHARED_DYNAMIC(memory);
    const struct gw_cuda_product p = list.of[blockIdx.z];
    uint16_t *stages = gw_as<uint16_t>(memory);
    float acc[S::M_TILES][S::N_TILES][4] = {};
    if (blockIdx.x * S::COLUMNS >= p.n) return;
    for (uint32_t s = 0; s < S::STAGES - 1; s++) load_piece<S>(stages + s * S::STAGE, a, p, s * K_PIECE);
    for (uint32_t piece = 0; piece * K_PIECE < p.k; piece++) {
        uint32_t next = piece + S::STAGES - 1;
        gw_copies_wait<S::STAGES - 2>();
        __syncthreads(); /* this piece is there, and nobody reads the one before it any more */
        load_piece<S>(stages + next % S::STAGES * S::STAGE, a, p, next * K_PIECE);
        multiply<S>(acc, stages + piece % S::STAGES * S::STAGE);
    }
    gw_copies_wait<0>();
    store<S>(acc, a, p);
}

template <class S>
static gw_err_t launch(gw_cuda_stream stream, const struct matmul_args &a, const struct products &list,
                       uint32_t count, uint32_t n_max, struct gw_err_ctx *ctx)
{
    auto *kernel = product<S>;
    dim3 blocks(gw_blocks_of(n_max, S::COLUMNS), gw_blocks_of(a.m, S::ROWS), count);
    (void)GW_ALLOW_SHARED(kernel, S::SHARED); /* what it refuses, the launch refuses */
    GW_LAUNCH(kernel, blocks, THREADS, S::SHARED, stream, a, list);
    return gw_launched(ctx, "matmul");
}

static bool in_eights(const struct gw_cuda_product *p)
{
    return p->k % 8 == 0 && p->x_at % 8 == 0 && gw_aligned16(p->w);
}

extern "C" gw_err_t gw_cuda_matmul(gw_cuda_stream stream, float *y, size_t y_stride, const uint16_t *x,
                                   size_t x_stride, const struct gw_cuda_product *list, uint32_t count,
                                   uint32_t m, struct gw_err_ctx *ctx)
{
    struct products products = {};
    uint32_t n_max = 0;
    GW_NEED(count <= GW_CUDA_PRODUCTS_MAX, "128 products at most");
    GW_NEED(x_stride % 8 == 0 && gw_aligned16(x), "rows of x aligned to 16 bytes");
    GW_NEED(m <= BLOCKS_MAX * 128u, "8 million rows at most");
    for (uint32_t i = 0; i < count; i++) {
        GW_NEED(in_eights(&list[i]), "k and x_at multiples of 8, w aligned to 16 bytes");
        products.of[i] = list[i];
        n_max = list[i].n > n_max ? list[i].n : n_max;
    }
    if (m == 0 || n_max == 0) return GW_OK;
    struct matmul_args a;
    a.y = y;
    a.x = x;
    a.y_stride = y_stride;
    a.x_stride = x_stride;
    a.m = m;
    if (m <= 16) return launch<shape<1, 1, 1, 6>>(stream, a, products, count, n_max, ctx);
    if (m <= 64) return launch<shape<4, 1, 4, 4>>(stream, a, products, count, n_max, ctx);
    return launch<shape<2, 4, 8, 3>>(stream, a, products, count, n_max, ctx);
}
