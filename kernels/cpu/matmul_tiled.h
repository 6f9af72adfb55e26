/* Products whose x is read as matrix tiles: it is put in order once per product, then the items of kernels/cpu/matmul.h are
 * multiplied.
 *
 *     the device's memory for x:   [16 rows][32 k]: tiles of 1 KB, of bf16
 *                                  tiles of 16 rows lie one behind the other, those of each segment of k from a new one on
 *
 * A tile is sixteen lines of the cache in a row; read from rows that lie a power of two apart, its lines would take each other's
 * places. The k behind a segment's last one are zeros; what is in rows behind the last one does not matter. Products with more rows
 * than there is room for are done in pieces.
 *
 * Owner: all memory is the caller's. Thread: any number of items at a time, one product per device. Units: elements, bytes
 * where named. Errors: none; a row that has no room is asserted. Source: own design. */
#ifndef GW_KERNELS_CPU_MATMUL_TILED_H
#define GW_KERNELS_CPU_MATMUL_TILED_H

#include "kernels/cpu/matmul.h"

#define GW_TILED_PANEL_K 8192u /* of a single pass: sums stay in registers; 1 MB of w per tile */
#define GW_XTILE_ROWS    16u
#define GW_XTILE_K       32u
#define GW_XTILE_BYTES   1024u

struct gw_tiled_kernel {
    uint32_t rows, k_block; /* at a time, whole tiles; k_block: where there are more rows than that */
    uint32_t tiles;         /* of an item, at most */
    /* x of a tile: its first tile of 16 rows; x_stride: bytes to the next 16 rows. */
    void (*micro)(const struct gw_micro_tile *tile, uint32_t rows);
    /* Called by a thread before and behind its calls of micro for a job. */
    void (*enter)(void), (*leave)(void);
};

/* Rows of x as they lie in the device's memory. */
struct gw_tiled_x {
    uint8_t *bytes;
    size_t stride; /* from 16 rows to the next */
    uint32_t rows, k_tiles;
};

/* k that a segment of k elements takes. */
static inline uint32_t gw_tiled_segment(uint32_t k)
{
    return (k + GW_XTILE_K - 1) / GW_XTILE_K * GW_XTILE_K;
}

/* Room for as many of `rows` rows as there is, each of the segments of w[segments]; out->rows says how many. */
void gw_tiled_place(struct gw_device *dev, const struct gw_weight *w, uint32_t segments, uint32_t rows,
                    struct gw_tiled_x *out);

/* Rows of x, bf16, x_stride elements apart, into it. */
void gw_tiled_fill(struct gw_device *dev, const void *x, size_t x_stride, const struct gw_weight *w,
                   uint32_t segments, const struct gw_tiled_x *to);

/* The sums of a pass, into its sink. */
void gw_tiled_multiply(const struct gw_tiled_kernel *kernel, const struct gw_tiled_x *x,
                       const struct gw_pass *p);

#endif
