/* int8 products by VPDPBUSD: four products of a byte of x without sign and a byte of w with sign, added to 32 bits without
 * saturation: exact. */
#include "kernels/cpu/micro_avx512.h"

#include "kernels/cpu/matmul_int8.h"
#include "kernels/cpu/variants.h"

/* The integer sums so far; what VPDPBUSD's bias adds is taken off at the beginning. */
GW_INLINE void begin(__m512i sums[GW_MICRO_ROWS][4], const struct gw_int8_tile *t, const uint32_t rows)
{
    struct gw_micro_acc acc;
    if (!t->place.first) gw_micro_load(&acc, &t->place, rows);
#pragma GCC unroll 6
    for (uint32_t r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (uint32_t j = 0; j < 4; j++)
            sums[r][j] = t->place.first ? _mm512_load_si512(t->head->shift + 16 * j)
                                        : _mm512_castps_si512(acc.v[r][j]);
}

GW_INLINE void scale(struct gw_micro_acc *acc, const struct gw_int8_tile *t, const uint32_t rows)
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

GW_INLINE void micro_rows(const void *tile, const uint32_t rows, const bool far)
{
    const struct gw_int8_tile *t = tile;
    struct gw_fetch fetch = t->fetch;
    __m512i sums[GW_MICRO_ROWS][4];
    struct gw_micro_acc acc;
    begin(sums, t, rows);
    const uint8_t *x = t->x, *w = t->w;
    const size_t x_stride = t->x_stride;
    for (uint32_t s = 0; s < t->steps; s++, x += GW_INT8_K_STEP, w += GW_STEP_BYTES) {
        __m512i ws[4];
        gw_micro_fetch(&fetch, w, far);
#pragma GCC unroll 4
        for (uint32_t j = 0; j < 4; j++) ws[j] = _mm512_load_si512(w + 64 * j);
#pragma GCC unroll 6
        for (uint32_t r = 0; r < rows; r++) {
            int32_t word;
            memcpy(&word, x + r * x_stride, sizeof word);
            __m512i xr = _mm512_set1_epi32(word);
#pragma GCC unroll 4
            for (uint32_t j = 0; j < 4; j++) sums[r][j] = _mm512_dpbusd_epi32(sums[r][j], xr, ws[j]);
        }
    }
#pragma GCC unroll 6
    for (uint32_t r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (uint32_t j = 0; j < 4; j++) acc.v[r][j] = _mm512_castsi512_ps(sums[r][j]);
    if (t->place.last) scale(&acc, t, rows);
    gw_micro_end(&acc, &t->place, rows);
}

static void micro(const struct gw_int8_tile *t, uint32_t rows)
{
    gw_micro_dispatch(micro_rows, t, rows, t->fetch.at != NULL);
}

static const struct gw_int8_kernel int8 = {
    .rows = GW_MICRO_ROWS, .quantize = gw_quantize_avx512, .micro = micro};
static const struct gw_matmul_kernel kernel_bf16 = {.act = GW_BF16, .fma_ns = 0.004, .int8 = &int8};
static const struct gw_matmul_kernel kernel_f32 = {.act = GW_F32, .fma_ns = 0.004, .int8 = &int8};

GW_INT8_OPERATIONS(bf16, avx512vnni, &kernel_bf16)
GW_INT8_OPERATIONS(f32, avx512vnni, &kernel_f32)
