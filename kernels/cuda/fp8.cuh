/* e4m3 codes as the numbers that products multiply: four at a time, from one word.
 *
 *     a code at the place of a bf16's exponent and fraction, 4 bits up, is the number times 2^-120 (the difference of the biases),
 *     subnormal ones too; a product of bf16 by 2^120 is exact.
 *
 * NaN is never packed (ops_fp8.c): a row that is not finite has codes of 0 and a scale that says so.
 *
 * Owner: registers. Thread: each for itself. Units: codes. Errors: none. Source: OCP 8-bit Floating Point Specification 1.0; own
 * design. */
#ifndef GW_KERNELS_CUDA_FP8_CUH
#define GW_KERNELS_CUDA_FP8_CUH

#include "kernels/cuda/ptx.cuh"

/* The codes in bytes 1 and 3 as a pair of bf16, the first in the lower half. */
__device__ static inline uint32_t gw_fp8_pair(uint32_t codes)
{
    return gw_rebias_bf16x2((codes & 0x80008000u) | (codes >> 4 & 0x07F007F0u));
}

/* pairs[0]: of bytes 0 and 2; pairs[1]: of bytes 1 and 3. */
__device__ static inline void gw_fp8_wide(uint32_t pairs[2], uint32_t codes)
{
    pairs[0] = gw_fp8_pair(codes << 8);
    pairs[1] = gw_fp8_pair(codes);
}

/* The four in order. */
__device__ static inline void gw_fp8_wide_f32(float to[4], uint32_t codes)
{
    uint32_t pairs[2];
    gw_fp8_wide(pairs, codes);
    to[0] = gw_f32_of_bits(pairs[0] << 16);
    to[1] = gw_f32_of_bits(pairs[1] << 16);
    to[2] = gw_f32_of_bits(pairs[0] & 0xFFFF0000u);
    to[3] = gw_f32_of_bits(pairs[1] & 0xFFFF0000u);
}

#endif
