/* Products of cpu-bf16amx-1 with AVX2 and FMA: TDPBF16PS as two fused multiply-adds for each pair (kernels/cpu/matmul_avx2.c says
 * how pairs are widened), of the even elements and of the odd ones into sums of their own. Those of a part's columns are
 * done some registers at a time, 32 k of each; what they are folded into rests in memory. */
#include "kernels/cpu/micro_avx2.h"

#include "kernels/cpu/matmul_bf16amx.h"
#include "kernels/cpu/matmul_fill.h"
#include "kernels/cpu/pairs_avx2.h"
#include "kernels/cpu/variants.h"

#define SUMS_MAX 6u /* registers of even sums, and of odd ones; 4 are left for x and w */

/* Steps of `width` registers of columns from 8 * `from` on, 16 steps at most; folded into acc. */
GW_INLINE void add_block(struct gw_micro_acc *acc, const uint32_t rows, const uint32_t from,
                         const uint32_t width, const float *x, const float *w, uint32_t steps)
{
    const __m256 zero = _mm256_setzero_ps();
    struct gw_micro_acc even, odd;
    gw_micro_zero(&even, rows, width);
    gw_micro_zero(&odd, rows, width);
    for (uint32_t s = 0; s < steps; s++, x += 2, w += GW_TILE_N) {
        const struct gw_pairs *c = &gw_pairs_avx2;
        /* Nothing, but the compiler cannot know: else it keeps the constants in registers, and sums in memory. */
        __asm__("" : "+r"(c));
        gw_micro_fma(&odd, x + 1, w + 8 * from, gw_take_odd, c, rows, width);
        gw_micro_fma(&even, x, w + 8 * from, gw_take_even, c, rows, width);
    }
    const bool rest = steps < GW_FOLD_STEPS;
#pragma GCC unroll 6
    for (uint32_t r = 0; r < rows; r++)
#pragma GCC unroll 8
        for (uint32_t j = 0; j < width; j++) {
            __m256 of_even = even.v[r][j], of_odd = odd.v[r][j];
            if (rest) of_even = _mm256_add_ps(of_even, zero), of_odd = _mm256_add_ps(of_odd, zero);
            acc->v[r][from + j] = _mm256_add_ps(acc->v[r][from + j], _mm256_add_ps(of_even, of_odd));
        }
}

GW_INLINE void steps_pairs(struct gw_micro_acc *acc, const uint32_t rows, const uint32_t width,
                           const float *x, const float *w, uint32_t steps, struct gw_micro_ahead ahead)
{
    const uint32_t at_once = rows > 3 ? 1 : rows > 1 ? 2 : 4;
    _Static_assert(GW_MICRO_ROWS * 1 <= SUMS_MAX && 3 * 2 <= SUMS_MAX, "sums are in registers");
    for (uint32_t done = 0; done < steps; done += GW_FOLD_STEPS) {
        const uint32_t len = steps - done < GW_FOLD_STEPS ? steps - done : GW_FOLD_STEPS;
        for (uint32_t s = 0; s < len; s++) gw_micro_prefetch(&ahead, width);
#pragma GCC unroll 8
        for (uint32_t from = 0; from < width; from += at_once) add_block(acc, rows, from, at_once, x, w, len);
        x += 2 * GW_FOLD_STEPS;
        w += (size_t)GW_FOLD_STEPS * GW_TILE_N;
    }
}

static void micro(const struct gw_micro_tile *tile, uint32_t rows)
{
    gw_micro_dispatch(steps_pairs, 2, tile, rows);
}

static const struct gw_matmul_kernel kernel = {
    .act = GW_BF16, .k_per_step = 2, .fma_ns = 0.035, .fill = gw_fill_bf16_16, .micro = micro};

GW_MATMUL_OPERATIONS(bf16amx_avx2, &kernel)
