/* What every .cu file begins with: the language, by nvcc or by the host shim of the tests; the project's scalars; launches.
 *
 * A source that keeps to this header, to kernels/cuda/ptx.cuh and to CUDA's own names for places, barriers, shuffles and votes
 * compiles three ways: by nvcc, and by the host compiler with `-include tests/lib/cuda_shim.h`, plain and sanitized. Shared
 * memory and launches go by macros, because C++ has no words for them.
 *
 * Arithmetic: nvcc runs with -fmad=false -ftz=true -prec-div=true -prec-sqrt=true, so that it is what the source says, and what
 * the CPU does with FTZ and DAZ.
 *
 * Owner: nothing. Thread: any. Units: as named. Errors: GW_ERR_INPUT for shapes, GW_ERR_CUDA for launches. Source: own
 * design. */
#ifndef GW_KERNELS_CUDA_DEVICE_CUH
#define GW_KERNELS_CUDA_DEVICE_CUH

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

extern "C" {
#include "base/err.h"
#include "kernels/convert.h"
#include "kernels/op.h"
#include "kernels/vmath.h"
}

#ifdef __CUDACC__
#include <cuda_runtime.h>

#define GW_SHARED(type, name, len) __shared__ __align__(16) type name[len]
#define GW_SHARED_DYNAMIC(name)    extern __shared__ __align__(16) unsigned char name[]
#define GW_LAUNCH(kernel, blocks, threads, shared_bytes, stream, ...)                                        \
    (kernel)<<<blocks, threads, shared_bytes, stream>>>(__VA_ARGS__)
#define GW_ALLOW_SHARED(kernel, bytes)                                                                       \
    cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)(bytes))
#endif

#define GW_WARP      32u
#define GW_ALL_LANES 0xFFFFFFFFu

/* Fails the launcher whose shapes are not what its kernel can do. */
#define GW_NEED(condition, what)                                                                             \
    do {                                                                                                     \
        if (!(condition)) return gw_fail(ctx, GW_ERR_INPUT, "%s: %s", __func__, what);                       \
    } while (0)

/* Of the launch before it: did it start? */
static inline gw_err_t gw_launched(struct gw_err_ctx *ctx, const char *what)
{
    cudaError_t error = cudaGetLastError();
    if (error == cudaSuccess) return GW_OK;
    return gw_fail(ctx, GW_ERR_CUDA, "%s: %s", what, cudaGetErrorString(error));
}

static inline bool gw_aligned16(const void *p)
{
    return (uintptr_t)p % 16 == 0;
}

static inline unsigned gw_blocks_of(size_t items, unsigned per_block)
{
    return (unsigned)((items + per_block - 1) / per_block);
}

/* Blocks of a kernel whose threads take elements `blocks * threads` apart: enough to fill the largest device twice. */
#define GW_STRIDE_BLOCKS_MAX 2048u
static inline unsigned gw_stride_blocks(size_t items, unsigned threads)
{
    unsigned blocks = gw_blocks_of(items, threads);
    return blocks < GW_STRIDE_BLOCKS_MAX ? blocks : GW_STRIDE_BLOCKS_MAX;
}

/* Raw memory as an array of T. */
template <class T> __device__ static inline T *gw_as(void *memory)
{
    return static_cast<T *>(memory);
}

/* ---- elements by their type at compile time: float, or uint16_t for bf16 ---- */

__device__ static inline float gw_wide(float x)
{
    return x;
}
__device__ static inline float gw_wide(uint16_t x)
{
    return gw_f32_of_bf16(x);
}
__device__ static inline void gw_narrow(float *to, float x)
{
    *to = x;
}
__device__ static inline void gw_narrow(uint16_t *to, float x)
{
    *to = gw_bf16_of_f32(x);
}

/* ---- the 16 virtual lanes (kernels/cpu/simd_c.h), by the first 16 lanes of a warp ---- */

#define GW_LANES 16u

/* Lane i brings the sum of its elements; lane 0 gets 8, 4, 2, 1 folded. All 32 lanes call it; those from 16 on count as
 * nothing. */
__device__ static inline float gw_fold_sum(float lane)
{
    for (unsigned width = GW_LANES / 2; width >= 1; width /= 2)
        lane += __shfl_down_sync(GW_ALL_LANES, lane, width);
    return lane;
}

#endif
