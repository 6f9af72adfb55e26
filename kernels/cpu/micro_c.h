/* The frame of a micro-kernel in plain C: one sum at a time.
 *
 * Owner: the caller's memory. Thread: safe. Units: elements. Errors: none. Source: kernels/cpu/matmul.h. */
#ifndef GW_KERNELS_CPU_MICRO_C_H
#define GW_KERNELS_CPU_MICRO_C_H

#include "kernels/convert.h"
#include "kernels/cpu/matmul.h"

/* bf16, widened. */
static inline void gw_micro_c_fill_bf16(void *panel, const void *x, size_t x_stride, uint32_t rows,
                                        uint32_t k_len)
{
    for (uint32_t r = 0; r < rows; r++) {
        float *to = (float *)panel + (size_t)r * GW_PANEL_STRIDE;
        for (uint32_t i = 0; i < k_len; i++) to[i] = gw_f32_at(x, GW_BF16, r * x_stride + i);
        to[k_len] = 0.0f; /* the odd one's partner */
    }
}

/* acc and what the tile adds to it. */
typedef float gw_micro_c_sum_fn(const struct gw_micro_tile *t, uint32_t row, uint32_t col, float acc);

static inline void gw_micro_c(const struct gw_micro_tile *t, uint32_t rows, gw_micro_c_sum_fn *sum)
{
    const struct gw_sink *sink = t->place.sink;
    for (uint32_t r = 0; r < rows; r++)
        for (uint32_t c = 0; c < t->place.cols; c++) {
            float *partial = gw_sums_at(&sink->partial, &t->place) + r * sink->partial.stride + c;
            float acc = sum(t, r, c, t->place.first ? 0.0f : *partial);
            if (t->place.last)
                gw_place_finish(&t->place, r, c, acc);
            else
                *partial = acc;
        }
}

#endif
