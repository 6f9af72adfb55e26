/* The few instructions that CUDA C++ has no word for, one function each. The host shim of the tests has bodies of its own under
 * the same names (tests/lib/cuda_shim.h); everything else of a kernel is plain C++.
 *
 *     gw_ldmatrix_x4         four 8 x 8 matrices of 16 bits: lane i names the row i % 8 of matrix i / 8 (16 bytes, aligned)
 *     gw_ldmatrix_x2_trans   two of them, by lanes 0-15, each transposed
 *     gw_mma_bf16            d[16, 8] f32 += a[16, 16] bf16 · b[16, 8] bf16, fragments as in PTX' mma.m16n8k16
 *     gw_mma_int8            d[16, 8] int32 += a[16, 32] int8 · b[32, 8] int8, fragments as in PTX' mma.m16n8k32: a register holds
 *                            four k where that of bf16 holds two, so that ldmatrix brings both
 *     gw_rebias_bf16x2       two bf16, each times 2^120 (exact: subnormal ones count, and none is 2^-112 or more)
 *     gw_copy16_async        16 bytes from global to shared memory; not `whole`: zeros, and global is not read
 *     gw_copy_small_async<n> the same of 4 or 8 bytes
 *     gw_copies_commit       closes the group of copies requested so far
 *     gw_copies_wait<n>      waits for all groups of this thread but the last n; others see the data behind a barrier
 *
 * Below sm_80 there is neither cp.async nor a bf16 tensor core: copies are then made at once, and products by shuffles and fma, k
 * ascending; right, and slow.
 *
 * Owner: nothing. Thread: all 32 lanes of a warp together for ldmatrix and mma; each for itself else. Units: bytes,
 * fragments. Errors: none. Source: PTX ISA 9.0, "Warp-level matrix instructions", "cp.async". */
#ifndef GW_KERNELS_CUDA_PTX_CUH
#define GW_KERNELS_CUDA_PTX_CUH

#include "kernels/cuda/device.cuh"

#ifdef __CUDACC__

#define GW_HAS_SM80 (!defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800)

__device__ static inline uint32_t gw_shared_address(const void *shared)
{
    return (uint32_t)__cvta_generic_to_shared(shared);
}

__device__ static inline void gw_ldmatrix_x4(uint32_t r[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(gw_shared_address(row))
                 : "memory");
}

__device__ static inline void gw_ldmatrix_x2_trans(uint32_t r[2], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(gw_shared_address(row))
                 : "memory");
}

#if GW_HAS_SM80

__device__ static inline uint32_t gw_rebias_bf16x2(uint32_t pair)
{
    uint32_t to; /* bf16's 2^120, and -0, which changes no product */
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(to) : "r"(pair), "r"(0x7B807B80u), "r"(0x80008000u));
    return to;
}

__device__ static inline void gw_mma_bf16(float d[4], const uint32_t a[4], const uint32_t b[2])
{
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ static inline void gw_mma_int8(int32_t d[4], const uint32_t a[4], const uint32_t b[2])
{
    asm volatile(
        "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ static inline void gw_copy16_async(void *shared, const void *global, bool whole)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :
                 : "r"(gw_shared_address(shared)), "l"(global), "r"(whole ? 16 : 0)
                 : "memory");
}

template <int bytes>
__device__ static inline void gw_copy_small_async(void *shared, const void *global, bool whole)
{
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;"
                 :
                 : "r"(gw_shared_address(shared)), "l"(global), "n"(bytes), "r"(whole ? bytes : 0)
                 : "memory");
}

__device__ static inline void gw_copies_commit()
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}

template <int groups> __device__ static inline void gw_copies_wait()
{
    asm volatile("cp.async.wait_group %0;" ::"n"(groups) : "memory");
}

#else

/* A subnormal bf16 is its fraction times 2^-133. */
__device__ static inline uint32_t gw_rebias_bf16(uint32_t half)
{
    uint32_t magnitude = half & 0x7FFFu;
    if (magnitude >= 0x80u) return half + (120u << 7);
    return (half & 0x8000u) | gw_f32_bits((float)magnitude * 0x1p-13f) >> 16;
}

__device__ static inline uint32_t gw_rebias_bf16x2(uint32_t pair)
{
    return gw_rebias_bf16(pair & 0xFFFFu) | gw_rebias_bf16(pair >> 16) << 16;
}

__device__ static inline float gw_fma_pair(uint32_t a, uint32_t b, float c)
{
    c = fmaf(gw_f32_of_bf16((uint16_t)a), gw_f32_of_bf16((uint16_t)b), c);
    return fmaf(gw_f32_of_bf16((uint16_t)(a >> 16)), gw_f32_of_bf16((uint16_t)(b >> 16)), c);
}

/* Not inline: unrolled a hundred times over, it would take the compiler minutes. */
__device__ static __noinline__ void gw_mma_bf16(float d[4], const uint32_t a[4], const uint32_t b[2])
{
    int lane = (int)(threadIdx.x % GW_WARP), row = lane / 4 * 4, column = lane % 4 * 8;
    for (int half = 0; half < 2; half++)
        for (int pair = 0; pair < 4; pair++) {
            uint32_t upper = __shfl_sync(GW_ALL_LANES, half ? a[2] : a[0], row + pair);
            uint32_t lower = __shfl_sync(GW_ALL_LANES, half ? a[3] : a[1], row + pair);
            uint32_t even = __shfl_sync(GW_ALL_LANES, half ? b[1] : b[0], column + pair);
            uint32_t odd = __shfl_sync(GW_ALL_LANES, half ? b[1] : b[0], column + 4 + pair);
            d[0] = gw_fma_pair(upper, even, d[0]);
            d[1] = gw_fma_pair(upper, odd, d[1]);
            d[2] = gw_fma_pair(lower, even, d[2]);
            d[3] = gw_fma_pair(lower, odd, d[3]);
        }
}

__device__ static __noinline__ void gw_mma_int8(int32_t d[4], const uint32_t a[4], const uint32_t b[2])
{
    int lane = (int)(threadIdx.x % GW_WARP), row = lane / 4 * 4, column = lane % 4 * 8;
    for (int half = 0; half < 2; half++)
        for (int four = 0; four < 4; four++) {
            int upper = (int)__shfl_sync(GW_ALL_LANES, half ? a[2] : a[0], row + four);
            int lower = (int)__shfl_sync(GW_ALL_LANES, half ? a[3] : a[1], row + four);
            int even = (int)__shfl_sync(GW_ALL_LANES, half ? b[1] : b[0], column + four);
            int odd = (int)__shfl_sync(GW_ALL_LANES, half ? b[1] : b[0], column + 4 + four);
            d[0] = __dp4a(upper, even, d[0]);
            d[1] = __dp4a(upper, odd, d[1]);
            d[2] = __dp4a(lower, even, d[2]);
            d[3] = __dp4a(lower, odd, d[3]);
        }
}

__device__ static inline void gw_copy16_async(void *shared, const void *global, bool whole)
{
    *(uint4 *)shared = whole ? *(const uint4 *)global : make_uint4(0, 0, 0, 0);
}

template <int bytes>
__device__ static inline void gw_copy_small_async(void *shared, const void *global, bool whole)
{
    for (int i = 0; i < bytes / 4; i++) ((uint32_t *)shared)[i] = whole ? ((const uint32_t *)global)[i] : 0;
}

__device__ static inline void gw_copies_commit() {}

template <int groups> __device__ static inline void gw_copies_wait() {}

#endif
#endif
#endif
