/* int8 products by VPDPBUSD: four products of a byte of x without sign and a byte of w with sign, added to 32 bits without
 * saturation: exact. */
#include "kernels/cpu/micro_int8_avx512.h"

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

GW_INLINE void micro_rows(const void *tile, const uint32_t rows, const enum gw_ahead ahead)
{
    const struct gw_int8_tile *t = tile;
    struct gw_micro_asked asked = gw_micro_ask(&t->fetch, t->w, t->steps, ahead);
    __m512i sums[GW_MICRO_ROWS][4];
    struct gw_micro_acc acc;
    begin(sums, t, rows);
    const uint8_t *x = t->x, *w = t->w;
    const size_t x_stride = t->x_stride;
    for (uint32_t s = 0; s < t->steps; s++, x += GW_INT8_K_STEP, w += GW_STEP_BYTES) {
        __m512i ws[4];
        gw_micro_fetch(&asked, ahead);
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
    if (t->place.last) gw_micro_int8_scale(&acc, t, rows);
    gw_micro_end(&acc, &t->place, rows);
}

void gw_micro_int8_avx512vnni(struct gw_int8_tile *t, uint32_t rows)
{
    if (t->fetch.from == GW_FROM_L1)
        gw_micro_dispatch_rows(micro_rows, t, rows, GW_AHEAD_HERE);
    else
        gw_micro_dispatch(micro_rows, t, rows, &t->fetch);
}

/* 512 rows by shares of 512 k take 3% longer with two than with four, by shares of 256 k as long as with eight. */
#define TILES_SHORT 8u
/* 64 rows by shares of 256 and 512 k take 4-7% longer tile by tile in each pass, of 1024 k, which are 64 KB, 2%. */
#define K_DOWN 1024u

static const struct gw_int8_kernel int8 = {.rows = GW_MICRO_ROWS,
                                           .k_block = GW_INT8_PANEL_K,
                                           .tiles = GW_ITEM_TILES,
                                           .tiles_short = TILES_SHORT,
                                           .k_down = K_DOWN,
                                           .quantize = gw_quantize_avx512,
                                           .micro = gw_micro_int8_avx512vnni};
const struct gw_matmul_kernel gw_int8_bf16_avx512vnni = {.act = GW_BF16, .fma_ns = 0.004, .int8 = &int8};
const struct gw_matmul_kernel gw_int8_f32_avx512vnni = {.act = GW_F32, .fma_ns = 0.004, .int8 = &int8};

GW_MATMUL_OPERATIONS(int8_bf16_avx512vnni, &gw_int8_bf16_avx512vnni)
GW_MATMUL_OPERATIONS(int8_f32_avx512vnni, &gw_int8_f32_avx512vnni)
