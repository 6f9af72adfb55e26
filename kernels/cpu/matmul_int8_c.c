/* Reference: one product at a time, sums modulo 2^32. */
#include "kernels/cpu/matmul_int8.h"

#include "kernels/cpu/variants.h"

#define ROWS 6u

static uint32_t sum_of(const struct gw_int8_tile *t, uint32_t row, uint32_t col, uint32_t sum)
{
    const uint8_t *x = t->x + row * t->x_stride;
    for (uint32_t s = 0; s < t->steps; s++) {
        const int8_t *w = (const int8_t *)t->w + (size_t)s * GW_STEP_BYTES + (size_t)col * GW_INT8_K_STEP;
        for (uint32_t i = 0; i < GW_INT8_K_STEP; i++) sum += (uint32_t)(x[s * GW_INT8_K_STEP + i] * w[i]);
    }
    return sum;
}

static float scaled(const struct gw_int8_tile *t, uint32_t row, uint32_t col, uint32_t sum)
{
    return (float)(int32_t)sum * t->x_scale[row * t->x_scale_stride] * t->head->scale[col];
}

static void micro(struct gw_int8_tile *t, uint32_t rows)
{
    const struct gw_sink *sink = t->place.sink;
    for (uint32_t r = 0; r < rows; r++)
        for (uint32_t c = 0; c < t->place.cols; c++) {
            float *partial = gw_sums_at(&sink->partial, &t->place) + r * sink->partial.stride + c;
            uint32_t sum =
                sum_of(t, r, c, t->place.first ? (uint32_t)t->head->shift[c] : gw_f32_bits(*partial));
            if (t->place.last)
                gw_place_finish(&t->place, r, c, scaled(t, r, c, sum));
            else
                *partial = gw_f32_of_bits(sum);
        }
}

static const struct gw_int8_kernel int8 = {.rows = ROWS,
                                           .k_block = GW_INT8_PANEL_K,
                                           .tiles = GW_ITEM_TILES,
                                           .quantize = gw_quantize_c,
                                           .micro = micro};
static const struct gw_matmul_kernel kernel_bf16 = {.act = GW_BF16, .fma_ns = 1, .int8 = &int8};
static const struct gw_matmul_kernel kernel_f32 = {.act = GW_F32, .fma_ns = 1, .int8 = &int8};

GW_MATMUL_OPERATIONS(int8_bf16_c, &kernel_bf16)
GW_MATMUL_OPERATIONS(int8_f32_c, &kernel_f32)
