/* Rows of activations as int8, for products of int8 weights: each segment of a row by a scale of its own (kernels/op.h has the rule).
 *
 *     x [m], rows x_stride apart, of [segments][k] act: bf16 or f32
 *     bytes [m][segments][k padded] int8, zeros behind k    scales [m][segments] f32
 *
 * A block takes a segment of a row, twice: for its largest magnitude, which is the largest of the bits without their sign whatever
 * the order, then for its numbers. Where k and x allow it, eight are loaded at once. The bits are the CPU's (kernels/cpu/quantize.h), but of
 * a segment with an infinity or NaN, whose scale is NaN: its numbers are anything.
 *
 * Floor: m · segments · k · (b + 1) bytes, b of an element of x, and in a step of one row the launch. Limits: 65535 segments, k padded
 * a multiple of 16. */
#include "kernels/cuda/device.cuh"
#include "kernels/cpu/quantize.h"
#include "kernels/cuda/launchers.h"

#define THREADS      128u
#define WARPS        (THREADS / GW_WARP)
#define SEGMENTS_MAX 65535u /* the grid's y */
#define GROUP        8u     /* elements that a thread has at a time */
#define K_STEP       16u

/* Elements as they are loaded, and what one is in f32. */
template <class T> struct eight {
    T x[GROUP];
};

__device__ static inline float f32_of(uint16_t bf16)
{
    return gw_f32_of_bf16(bf16);
}

__device__ static inline float f32_of(float x)
{
    return x;
}

/* Elements [at, at + GROUP) of a segment, zeros behind k. WHOLE: k is a multiple of GROUP, and x aligned. */
template <bool WHOLE, class T>
__device__ static inline struct eight<T> load(const T *x, uint32_t at, uint32_t k) {
    struct eight<T> e = {
    };
    if (WHOLE) {
        const void *from = x + at;
        uint4 words[sizeof e / sizeof(uint4)] = {};
        for (uint32_t i = 0; at < k && i < sizeof e / sizeof(uint4); i++)
            words[i] = static_cast<const uint4 *>(from)[i];
        memcpy(e.x, words, sizeof e);
    } else {
        for (uint32_t i = 0; i < GROUP; i++)
            if (at + i < k) e.x[i] = x[at + i];
    }
    return e;
}

/* Of all threads of the block. */
__device__ static inline uint32_t
largest_of_block(uint32_t mine)
{
    GW_SHARED(uint32_t, largest, WARPS);
    for (int lanes = 1; lanes < (int)GW_WARP; lanes *= 2)
        mine = max(mine, __shfl_xor_sync(GW_ALL_LANES, mine, lanes));
    if (threadIdx.x % GW_WARP == 0) largest[threadIdx.x / GW_WARP] = mine;
    __syncthreads();
    for (uint32_t warp = 0; warp < WARPS; warp++) mine = max(mine, largest[warp]);
    return mine;
}

template <bool WHOLE, class T>
__global__ static void __launch_bounds__(THREADS)
    quantize_segments(struct gw_cuda_int8_rows to, const T *x, size_t x_stride, uint32_t k)
{
    const T *from = x + blockIdx.x * x_stride + (size_t)blockIdx.y * k;
    const size_t segment = (size_t)blockIdx.x * to.segments + blockIdx.y;
    uint32_t largest = 0;
    for (uint32_t at = threadIdx.x * GROUP; at < k; at += THREADS * GROUP) {
        const struct eight<T> e = load<WHOLE>(from, at, k);
        for (uint32_t i = 0; i < GROUP; i++)
            largest = max(largest, gw_f32_bits(f32_of(e.x[i])) & 0x7FFFFFFFu);
    }
    float inverse, scale = gw_int8_scale(largest_of_block(largest), &inverse);
    for (uint32_t at = threadIdx.x * GROUP; at < to.k; at += THREADS * GROUP) {
        const struct eight<T> e = load<WHOLE>(from, at, k);
        uint2 words = {};
        for (uint32_t i = 0; i < GROUP; i++) {
            uint32_t q = gw_int8_of(f32_of(e.x[i]), inverse, 0) & 0xFFu;
            (i < 4 ? words.x : words.y) |= q << i % 4 * 8;
        }
        void *out = to.bytes + segment * to.k + at;
        *static_cast<uint2 *>(out) = words;
    }
    if (threadIdx.x == 0) to.scales[segment] = scale;
}

template <class T>
static gw_err_t launch(gw_cuda_stream stream, const struct gw_cuda_int8_rows *to, const void *x,
                       size_t x_stride, uint32_t m, uint32_t k, struct gw_err_ctx *ctx)
{
    bool whole = k % GROUP == 0 && x_stride % GROUP == 0 && gw_aligned16(x);
    dim3 blocks(m, to->segments);
    auto *kernel = whole ? quantize_segments<true, T> : quantize_segments<false, T>;
    GW_LAUNCH(kernel, blocks, THREADS, 0, stream, *to, static_cast<const T *>(x), x_stride, k);
    return gw_launched(ctx, "quantize");
}

extern "C" gw_err_t gw_cuda_quantize(gw_cuda_stream stream, const struct gw_cuda_int8_rows *to, const void *x,
                                     enum gw_dtype act, size_t x_stride, uint32_t m, uint32_t k,
                                     struct gw_err_ctx *ctx)
{
    GW_NEED(to->k % K_STEP == 0 && to->k >= k, "room for k, a multiple of 16");
    GW_NEED(gw_aligned16(to->bytes), "rows of int8 aligned to 16 bytes");
    GW_NEED(to->segments <= SEGMENTS_MAX, "65535 segments at most");
    if (m == 0 || to->segments == 0) return GW_OK;
    return act == GW_F32 ? launch<float>(stream, to, x, x_stride, m, k, ctx)
                         : launch<uint16_t>(stream, to, x, x_stride, m, k, ctx);
}
