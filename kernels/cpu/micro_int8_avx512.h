/* What ends an int8 product's sums on AVX-512: scales, then the micro-kernel's end.
 *
 * Owner: registers. Thread: safe. Units: elements. Errors: none. Source: kernels/cpu/matmul_int8.h. */
#ifndef GW_KERNELS_CPU_MICRO_INT8_AVX512_H
#define GW_KERNELS_CPU_MICRO_INT8_AVX512_H

#include "kernels/cpu/matmul_int8.h"
#include "kernels/cpu/micro_avx512.h"

/* acc: int32 before, f32 after. */
GW_INLINE void gw_micro_int8_scale(struct gw_micro_acc *acc, const struct gw_int8_tile *t,
                                   const uint32_t rows)
{
    __m512 of_w[4];
#pragma GCC unroll 4
    for (uint32_t j = 0; j < 4; j++) of_w[j] = _mm512_load_ps(t->head->scale + 16 * j);
#pragma GCC unroll 6
    for (uint32_t r = 0; r < rows; r++) {
        __m512 of_x = _mm512_set1_ps(t->x_scale[r * t->x_scale_stride]);
#pragma GCC unroll 4
        for (uint32_t j = 0; j < 4; j++)
            acc->v[r][j] = _mm512_mul_ps(
                _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_castps_si512(acc->v[r][j])), of_x), of_w[j]);
    }
}

#endif
