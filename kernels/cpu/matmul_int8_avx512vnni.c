/* int8 products by VPDPBUSD: four products of a byte of x without sign and a byte of w with sign, added to 32 bits without
 * saturation: exact. */
#include "kernels/cpu/micro_avx512.h"

#include "kernels/cpu/matmul_int8.h"
#include "kernels/cpu/variants.h"

#define ROWS GW_MICRO_ROWS

struct sums {
    __m512i v[ROWS][4];
};

GW_INLINE void load(struct sums *acc, const struct gw_int8_tile *t, const uint32_t rows)
{
#pragma GCC unroll 6
    for (uint32_t r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (uint32_t j = 0; j < 4; j++)
            acc->v[r][j] = t->first ? _mm512_load_si512(t->head->shift + 16 * j)
                                    : _mm512_maskz_loadu_epi32(gw_quarter_mask(t->cols, j),
                                                               t->y + r * t->y_stride + 16 * j);
}

/* y of one quarter: the sums so far, or with the scales. */
GW_INLINE __m512 finish(const struct gw_int8_tile *t, __m512i sums, uint32_t r, uint32_t j)
{
    if (!t->last) return _mm512_castsi512_ps(sums);
    __m512 of_x = _mm512_mul_ps(_mm512_cvtepi32_ps(sums), _mm512_set1_ps(t->x_scale[r * t->x_scale_stride]));
    return _mm512_mul_ps(of_x, _mm512_load_ps(t->head->scale + 16 * j));
}

GW_INLINE void micro_rows(const struct gw_int8_tile *t, const uint32_t rows)
{
    struct sums acc;
    load(&acc, t, rows);
    const uint8_t *x = t->x, *w = t->w;
    for (uint32_t s = 0; s < t->steps; s++, x += GW_INT8_K_STEP, w += GW_STEP_BYTES) {
        __m512i ws[4];
#pragma GCC unroll 4
        for (uint32_t j = 0; j < 4; j++) ws[j] = _mm512_load_si512(w + 64 * j);
#pragma GCC unroll 6
        for (uint32_t r = 0; r < rows; r++) {
            int32_t word;
            memcpy(&word, x + r * t->x_stride, sizeof word);
            __m512i xr = _mm512_set1_epi32(word);
#pragma GCC unroll 4
            for (uint32_t j = 0; j < 4; j++) acc.v[r][j] = _mm512_dpbusd_epi32(acc.v[r][j], xr, ws[j]);
        }
    }
#pragma GCC unroll 6
    for (uint32_t r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (uint32_t j = 0; j < 4; j++)
            _mm512_mask_storeu_ps(t->y + r * t->y_stride + 16 * j, gw_quarter_mask(t->cols, j),
                                  finish(t, acc.v[r][j], r, j));
}

static void micro(const struct gw_int8_tile *t, uint32_t rows)
{
    switch (rows) {
    case 1: micro_rows(t, 1); return;
    case 2: micro_rows(t, 2); return;
    case 3: micro_rows(t, 3); return;
    case 4: micro_rows(t, 4); return;
    case 5: micro_rows(t, 5); return;
    default: micro_rows(t, 6);
    }
}

static const struct gw_int8_kernel int8 = {.rows = ROWS, .quantize = gw_quantize_avx512, .micro = micro};
static const struct gw_matmul_kernel kernel_bf16 = {.act = GW_BF16, .fma_ns = 0.004, .int8 = &int8};
static const struct gw_matmul_kernel kernel_f32 = {.act = GW_F32, .fma_ns = 0.004, .int8 = &int8};

GW_INT8_OPERATIONS(bf16, avx512vnni, &kernel_bf16)
GW_INT8_OPERATIONS(f32, avx512vnni, &kernel_f32)
