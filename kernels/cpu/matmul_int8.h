/* Products of int8: x is quantized once per product (kernels/cpu/quantize.h), then the items of kernels/cpu/matmul.h are
 * multiplied as integers; the last block of k brings the scales.
 *
 *     the device's memory for x:   scales [rows][segments] f32 | bytes [rows][stride]
 *
 * A segment is what has a scale of its own: the row, or of a row-parallel product each share's part of it, which begins at
 * a multiple of 64 bytes. Products with more rows than there is room for are done in pieces.
 *
 * Between blocks of k, y holds the integer sums so far: they may pass 2^31 on the way and come back, as do the
 * instructions' (all of it is modulo 2^32).
 *
 * Owner: all memory is the caller's. Thread: any number of items at a time, one product per device. Units: elements, bytes
 * where named. Errors: none; a k over GW_INT8_K_MAX is asserted. Source: own design; Intel's optimization manual, 3.5 of
 * "deep learning" for the bias of 128. */
#ifndef GW_KERNELS_CPU_MATMUL_INT8_H
#define GW_KERNELS_CPU_MATMUL_INT8_H

#include "kernels/cpu/matmul.h"
#include "kernels/cpu/quantize.h"

#define GW_INT8_K_STEP  4u
#define GW_INT8_PANEL_K 2048u /* 128 KB of w per tile stay in L2 while all rows of an item pass */

/* What a micro-kernel multiplies. In `partial` are int32. */
struct gw_int8_tile {
    struct gw_place place;
    struct gw_fetch fetch;
    const uint8_t *x; /* of the block's first k */
    size_t x_stride;
    uint32_t x_rows;  /* that may be read from there on: behind the pass's own lies what does not matter */
    const uint8_t *w; /* of the block's first step */
    uint32_t steps;
    const struct gw_int8_head *head;
    const float *x_scale;
    size_t x_scale_stride;
};

struct gw_int8_kernel {
    uint32_t rows, k_block; /* at a time; k_block: where there are more rows than that */
    /* Of an item, at most. Where there are more rows than an item has, and shares are short: as many as have k_block of k, up to
     * tiles_short (0: none), so that x is read for all of them. */
    uint32_t tiles, tiles_short;
    /* Blocks of so many k or fewer stay in L1 or near it: all rows go down a tile before the next one's turn. 0: none do. */
    uint32_t k_down;
    gw_quantize_fn *quantize;
    /* May change the tile's rows meanwhile. */
    void (*micro)(struct gw_int8_tile *tile, uint32_t rows);
    /* Called by a thread before and behind its calls of micro for a job, which keeps something in it meanwhile. NULL: both. */
    void (*enter)(void), (*leave)(void);
};

/* VNNI's, which AMX's leaves few rows to. */
extern const struct gw_matmul_kernel gw_int8_bf16_avx512vnni, gw_int8_f32_avx512vnni;
void gw_micro_int8_avx512vnni(struct gw_int8_tile *tile, uint32_t rows);

/* Rows of x as they lie in the device's memory. */
struct gw_int8_x {
    uint8_t *bytes;
    float *scales;
    size_t stride;
    uint32_t rows, room, segments; /* room: rows that there is memory for */
};

/* Bytes of a segment of k elements. */
static inline size_t gw_int8_segment(uint32_t k)
{
    return ((size_t)k + 63) / 64 * 64;
}

/* Room for as many of `rows` rows as there is, each of the segments of w[segments]; out->rows says how many. */
void gw_int8_place(struct gw_device *dev, const struct gw_weight *w, uint32_t segments, uint32_t rows,
                   struct gw_int8_x *out);

/* Rows of x, x_stride elements apart, into it. */
void gw_int8_quantize(const struct gw_matmul_kernel *kernel, struct gw_device *dev, const void *x,
                      size_t x_stride, const struct gw_weight *w, const struct gw_int8_x *to);

/* The sums of a pass, into its sink; x_k: bytes. */
void gw_int8_multiply(const struct gw_int8_kernel *kernel, const struct gw_int8_x *x,
                      const struct gw_pass *p);

#endif
