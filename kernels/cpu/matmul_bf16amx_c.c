/* Reference of cpu-bf16amx-1's products: one fmaf at a time (kernels/cpu/matmul_c.c says why that is right). */
#include "kernels/cpu/matmul_bf16amx.h"

#include "kernels/convert.h"
#include "kernels/cpu/micro_c.h"
#include "kernels/cpu/variants.h"
#include <math.h>

/* `steps` steps, 16 at most, as TDPBF16PS adds them. */
static float sum_block(const float *x, const uint16_t *w, uint32_t steps)
{
    float even = 0.0f, odd = 0.0f;
    for (uint32_t s = 0; s < steps; s++, w += 2 * GW_TILE_N) {
        even = fmaf(x[2 * s], gw_f32_of_bf16(w[0]), even);
        odd = fmaf(x[2 * s + 1], gw_f32_of_bf16(w[1]), odd);
    }
    if (steps < GW_FOLD_STEPS) {
        even = fmaf(0.0f, 0.0f, even);
        odd = fmaf(0.0f, 0.0f, odd);
    }
    return even + odd;
}

static float sum(const struct gw_micro_tile *t, uint32_t row, uint32_t col, float acc)
{
    const float *x = (const float *)t->x + (size_t)row * GW_PANEL_STRIDE;
    const uint16_t *w = (const uint16_t *)t->w + 2 * col;
    for (uint32_t done = 0; done < t->steps; done += GW_FOLD_STEPS) {
        const uint32_t left = t->steps - done;
        acc += sum_block(x + 2 * done, w + 2 * GW_TILE_N * (size_t)done,
                         left < GW_FOLD_STEPS ? left : GW_FOLD_STEPS);
    }
    return acc;
}

static void micro(const struct gw_micro_tile *tile, uint32_t rows)
{
    gw_micro_c(tile, rows, sum);
}

static const struct gw_matmul_kernel kernel = {
    .act = GW_BF16, .k_per_step = 2, .fma_ns = 3, .fill = gw_micro_c_fill_bf16, .micro = micro};

GW_MATMUL_OPERATIONS(bf16amx_c, &kernel)
