/* bf16 products by VDPBF16PS, for CPUs that have AVX512-BF16 (Zen 4 and later, Cooper Lake, Sapphire Rapids).
 *
 * On Zen 5 the instruction was found equal to the two fused multiply-adds of matmul_avx512.c; other CPUs may
 * round between the two products differently. Nothing here finds out: gw_ops_digest does, and a worker whose
 * digest is not the profile's is refused. The tests run this file only where the CPU has the flag, and are
 * skipped elsewhere. */
#include "kernels/cpu/micro_avx512.h"

#include "kernels/cpu/variants.h"
#include "kernels/cpu/widen_fp8.h"
#include <string.h>

/* Pairs as they lie in memory; an odd last element is paired with zero. */
static void fill(void *panel, const void *x, size_t x_stride, uint32_t rows, uint32_t k_len)
{
    for (uint32_t r = 0; r < rows; r++) {
        uint8_t *to = (uint8_t *)panel + (size_t)r * GW_PANEL_STRIDE * 4;
        memcpy(to, (const uint16_t *)x + r * x_stride, (size_t)k_len * 2);
        if (k_len % 2) memset(to + (size_t)k_len * 2, 0, 2);
    }
}

GW_INLINE void micro_rows(const void *tile, const uint32_t rows, const enum gw_ahead ahead)
{
    const struct gw_micro_tile *t = tile;
    struct gw_micro_asked asked = gw_micro_ask(&t->fetch, t->w, t->steps, ahead);
    struct gw_micro_acc acc;
    gw_micro_begin(&acc, &t->place, rows);
    const int32_t *x = t->x;
    const uint32_t *ws = t->w;
    for (uint32_t s = 0; s < t->steps; s++, x++, ws += GW_TILE_N) {
        __m512i wv[4];
        gw_micro_fetch(&asked, ahead);
#pragma GCC unroll 4
        for (uint32_t j = 0; j < 4; j++) wv[j] = _mm512_load_si512(ws + 16 * j);
#pragma GCC unroll 6
        for (uint32_t r = 0; r < rows; r++) {
            __m512bh xr = (__m512bh)_mm512_set1_epi32(x[r * GW_PANEL_STRIDE]);
#pragma GCC unroll 4
            for (uint32_t j = 0; j < 4; j++) acc.v[r][j] = _mm512_dpbf16_ps(acc.v[r][j], xr, (__m512bh)wv[j]);
        }
    }
    gw_micro_end(&acc, &t->place, rows);
}

static void micro(const struct gw_micro_tile *tile, uint32_t rows)
{
    gw_micro_dispatch(micro_rows, tile, rows, &tile->fetch);
}

static const struct gw_matmul_kernel kernel = {
    .act = GW_BF16, .k_per_step = 2, .fma_ns = 0.008, .fill = fill, .micro = micro};

GW_MATMUL_OPERATIONS(bf16_avx512bf16, &kernel)

/* ---- fp8 weights ---- */

static void widen_bf16(void *to, const uint8_t *from, uint32_t steps)
{
    gw_widen_fp8_bf16(to, from, steps);
}

static const struct gw_matmul_kernel kernel_fp8_bf16 = {
    .act = GW_BF16, .k_per_step = 2, .fma_ns = 0.008, .fill = fill, .micro = micro, .widen = widen_bf16};

GW_MATMUL_OPERATIONS(fp8_bf16_avx512bf16, &kernel_fp8_bf16)
