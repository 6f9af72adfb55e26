/* 16 lanes at a time, the same words on every instruction set: a file is compiled for one, and takes that one's.
 *
 * Each word is the twin of a scalar form (kernels/vmath.h, kernels/convert.h, kernels/cpu/simd_c.h) with the
 * same operations in the same order, hence the same bits; so what is written in these words alone (here and in
 * *_simd.h) gives the same bits on each. Lanes that an operation does not name are the first n of 16, n <= 16;
 * memory behind them is never touched.
 *
 *     gw_v16                                16 floats
 *     gw_get16 gw_put16                     all lanes from and to f32
 *     gw_load16 gw_store16                  the first n lanes from and to f32 or bf16 (and from int8); lanes not loaded are 0
 *     gw_widen32                            32 bf16 to two registers: those of even index, those of odd index
 *     gw_unzip16                            pairs (even, odd) of f32, the first n of them, to two registers
 *     gw_zip16                              16 even, 16 odd to 16 pairs in two registers
 *     gw_set16 gw_first16                   one value in all lanes; the first n lanes of one, the rest of another
 *     gw_add16 _sub _mul _div _max          as +, -, *, /, and a > b ? a : b
 *     gw_fma16 gw_fms16 gw_negate16         a * b + c, a * b - c, -a
 *     gw_choose_less16                      a < b ? yes : no
 *     gw_larger_bits16                      the larger of two |x|, compared as integers: a NaN is above all
 *     gw_store_bytes16                      the lowest byte of each of the first n lanes
 *     gw_store_bytes32                      32 bytes: the lowest of even lane 0, of odd lane 0, of even lane 1, ...
 *     gw_power16                            2^n from n + GW_F32_ROUNDER (as in gw_expf)
 *     gw_fold_sum16 gw_fold_max16           lanes folded 8, 4, 2, 1
 *
 * Owner: registers. Thread: safe, FTZ and DAZ on. Units: lanes. Errors: none. Source: own design. */
#ifndef GW_KERNELS_CPU_SIMD_H
#define GW_KERNELS_CPU_SIMD_H

#ifdef __AVX512F__
#include "kernels/cpu/simd_avx512.h"
#else
#include "kernels/cpu/simd_avx2.h"
#endif

/* Lanes of the block that begins at `at` of `len` elements. */
static inline uint32_t gw_block_lanes(uint32_t len, uint32_t at)
{
    return len - at < 16 ? len - at : 16;
}

/* gw_expf */
GW_INLINE gw_v16 gw_expf16(gw_v16 x)
{
    gw_v16 t = gw_fma16(x, gw_set16(GW_EXPF_LOG2E), gw_set16(GW_F32_ROUNDER));
    gw_v16 n = gw_sub16(t, gw_set16(GW_F32_ROUNDER));
    gw_v16 r = gw_fma16(n, gw_set16(-GW_EXPF_LN2_HI), x);
    r = gw_fma16(n, gw_set16(-GW_EXPF_LN2_LO), r);
    gw_v16 p = gw_fma16(gw_set16(GW_EXPF_P0), r, gw_set16(GW_EXPF_P1));
    p = gw_fma16(p, r, gw_set16(GW_EXPF_P2));
    p = gw_fma16(p, r, gw_set16(GW_EXPF_P3));
    p = gw_fma16(p, r, gw_set16(GW_EXPF_P4));
    p = gw_fma16(p, r, gw_set16(GW_EXPF_P5));
    p = gw_add16(gw_fma16(p, gw_mul16(r, r), r), gw_set16(1.0f));
    gw_v16 y = gw_mul16(p, gw_power16(t));
    y = gw_choose_less16(x, gw_set16(GW_EXPF_MIN), gw_set16(0.0f), y);
    return gw_choose_less16(gw_set16(GW_EXPF_MAX), x, gw_set16(gw_f32_of_bits(0x7F800000u)), y);
}

/* gw_siluf */
GW_INLINE gw_v16 gw_siluf16(gw_v16 x)
{
    return gw_div16(x, gw_add16(gw_set16(1.0f), gw_expf16(gw_negate16(x))));
}

#endif
