/* Products of cpu-bf16amx-1 on AMX tiles, by TDPBF16PS: of 16 rows and 16 columns, 16 pairs of k. Each sum's even products are added up
 * by themselves, so are the odd ones, and both go to the sum so far: kernels/op.h says it, tests/unit/test_kernels_bf16amx.c proves it.
 *
 * Packed weights are tiles as they are: 16 steps of a quarter of the columns, 256 bytes apart. x is in tiles of its own
 * (kernels/cpu/matmul_tiled.h).
 *
 *     registers      0 1 2 3                        4 5             6 7
 *     squares        sums of 32 rows, 32 columns    x of 32 rows    w of 32 columns: one half of a tile, then the other
 *     bands          sums of 16 rows, 64 columns    x, w            w, one quarter after the other
 *
 * Squares load four tiles for four products, bands five. Bands are for w that comes from memory, whose order they keep (an eighth faster
 * at 32 rows), and for 16 rows.
 *
 * Floors: the bytes of w over the read bandwidth, and 16384 operations for every 16 cycles (3.1 TFLOP/s at 3 GHz, measured on data in
 * L1; squares from L2 and sums in L1 1.9). Measured on one core of a virtual Xeon with AMX, other programs beside it, by its CPU
 * time, weights from memory: to 16 rows 13-16 GB/s, 64 rows 0.5-0.6 TFLOP/s, 512 rows 0.8 (shares of 256 and 1024 k: the tree) to 1.0. */
#include "kernels/cpu/micro_avx512.h"

#include "kernels/cpu/amx.h"
#include "kernels/cpu/matmul_bf16amx.h"
#include "kernels/cpu/matmul_tiled.h"
#include "kernels/cpu/variants.h"
#include <string.h>

#define STEPS 16u /* pairs of k, of a tile */
#define ROWS  32u
/* Blocks of w and how many tiles of 64 columns an item has. To so many rows w is read from memory in order, best in long blocks of one
 * tile (a tenth at 64 rows); above, x is what comes by most often, and four tiles share what is read of it (a fifth at 512). */
#define K_LONG    1024u
#define K_WIDE    256u
#define ROWS_LONG 128u
/* Fewer are as fast by multiply-adds, so are some more where k is short: x need not be put into tiles. */
#define ROWS_FEW   2u
#define ROWS_SHORT 4u
#define K_SHORT    512u

/* A rectangle of sums in memory: of a whole tile's columns, or their halves. */
struct rectangle {
    uint8_t *at;
    size_t stride; /* bytes */
};

/* Where the sums of the tile rest, or at last go. Neither is read or written behind the rows and columns that are there: of the
 * thread's own scratch there are whole tiles. */
static struct rectangle sums_of(const struct gw_place *p, const struct gw_sums *sums)
{
    return (struct rectangle){(uint8_t *)gw_sums_at(sums, p), sums->stride * sizeof(float)};
}

/* Sums of 32 rows and 32 columns. */
GW_INLINE void begin_square(const struct gw_place *p, struct rectangle r)
{
    if (p->first) {
        gw_amx_zero_sums();
        return;
    }
    GW_AMX_LOAD(0, r.at, r.stride);
    GW_AMX_LOAD(1, r.at + 64, r.stride);
    GW_AMX_LOAD(2, r.at + 16 * r.stride, r.stride);
    GW_AMX_LOAD(3, r.at + 16 * r.stride + 64, r.stride);
}

GW_INLINE void put_square(struct rectangle r)
{
    GW_AMX_STORE(0, r.at, r.stride);
    GW_AMX_STORE(1, r.at + 64, r.stride);
    GW_AMX_STORE(2, r.at + 16 * r.stride, r.stride);
    GW_AMX_STORE(3, r.at + 16 * r.stride + 64, r.stride);
}

GW_INLINE void multiply_square(const uint8_t *x, size_t x_stride, const uint8_t *w)
{
    GW_AMX_LOAD(4, x, 64);
    GW_AMX_LOAD(6, w, GW_STEP_BYTES);
    GW_AMX_DOT_BF16(0, 4, 6);
    GW_AMX_LOAD(7, w + 64, GW_STEP_BYTES);
    GW_AMX_DOT_BF16(1, 4, 7);
    GW_AMX_LOAD(5, x + x_stride, 64);
    GW_AMX_DOT_BF16(2, 5, 6);
    GW_AMX_DOT_BF16(3, 5, 7);
}

/* Sums of 16 rows and 64 columns. */
GW_INLINE void begin_band(const struct gw_place *p, struct rectangle r)
{
    if (p->first)
        gw_amx_zero_sums();
    else
        gw_amx_load_sums(r.at, r.stride);
}

GW_INLINE void multiply_band(const uint8_t *x, const uint8_t *w)
{
    GW_AMX_ADD_PRODUCTS(GW_AMX_DOT_BF16, x, 64, w, GW_STEP_BYTES);
}

/* A part of what is asked for in 16 steps: `part` of `parts`. */
GW_INLINE void fetch_ahead(const struct gw_fetch *f, uint32_t block, uint32_t part, const uint32_t parts)
{
    const uint32_t bytes = STEPS * f->step / parts;
    const uint8_t *at = f->at + (size_t)block * STEPS * f->step + (size_t)part * bytes;
    for (uint32_t i = 0; i < bytes; i += 64) _mm_prefetch(at + i, _MM_HINT_T1);
}

/* The last steps, with zeros to a whole tile behind them. */
struct padded {
    _Alignas(64) uint8_t w[STEPS * GW_STEP_BYTES];
};

static void pad(struct padded *to, const uint8_t *w, uint32_t steps)
{
    memcpy(to->w, w, (size_t)steps * GW_STEP_BYTES);
    memset(to->w + (size_t)steps * GW_STEP_BYTES, 0, (size_t)(STEPS - steps) * GW_STEP_BYTES);
}

static void multiply_squares(const struct gw_micro_tile *t, uint32_t half, struct rectangle from,
                             struct rectangle to, const struct padded *rest)
{
    const uint8_t *x = t->x, *w = (const uint8_t *)t->w + 128 * half;
    const uint32_t whole = t->steps / STEPS;
    from.at += 128 * half;
    to.at += 128 * half;
    begin_square(&t->place, from);
    for (uint32_t i = 0; i < whole; i++, x += GW_XTILE_BYTES, w += STEPS * GW_STEP_BYTES) {
        if (t->fetch.at) fetch_ahead(&t->fetch, i, half, 2);
        multiply_square(x, t->x_stride, w);
    }
    if (t->steps % STEPS) multiply_square(x, t->x_stride, rest->w + 128 * half);
    put_square(to);
}

/* Of 16 rows from `row` on. */
static void multiply_bands(const struct gw_micro_tile *t, uint32_t row, struct rectangle from,
                           struct rectangle to, const struct padded *rest)
{
    const uint8_t *x = (const uint8_t *)t->x + row / GW_XTILE_ROWS * t->x_stride, *w = t->w;
    const uint32_t whole = t->steps / STEPS;
    from.at += row * from.stride;
    to.at += row * to.stride;
    begin_band(&t->place, from);
    for (uint32_t i = 0; i < whole; i++, x += GW_XTILE_BYTES, w += STEPS * GW_STEP_BYTES) {
        if (t->fetch.at) fetch_ahead(&t->fetch, i, 0, 1);
        multiply_band(x, w);
    }
    if (t->steps % STEPS) multiply_band(x, rest->w);
    gw_amx_store_sums(to.at, to.stride);
}

GW_INLINE void end_rows(const void *place, const uint32_t rows, const enum gw_ahead ahead)
{
    (void)ahead;
    const struct gw_place *p = place;
    struct gw_micro_acc acc;
    gw_micro_load(&acc, p, rows);
    gw_micro_end(&acc, p, rows);
}

/* The last thing done to sums that rest in memory, as many rows at a time as registers hold. */
static void end(const struct gw_place *place, uint32_t rows)
{
    struct gw_place p = *place;
    for (uint32_t r = 0; r < rows; r += GW_MICRO_ROWS, p.row += GW_MICRO_ROWS)
        gw_micro_dispatch_rows(end_rows, &p, rows - r < GW_MICRO_ROWS ? rows - r : GW_MICRO_ROWS,
                               GW_AHEAD_NEAR);
}

static void micro(const struct gw_micro_tile *t, uint32_t rows)
{
    const struct gw_place *p = &t->place;
    const bool straight =
        p->last && p->sink->adds_len == 0 && p->cols == GW_TILE_N && rows % GW_XTILE_ROWS == 0;
    const struct rectangle rest = sums_of(p, &p->sink->partial),
                           to = straight ? sums_of(p, &p->sink->to) : rest;
    struct padded padded;
    if (t->steps % STEPS)
        pad(&padded, (const uint8_t *)t->w + (size_t)(t->steps - t->steps % STEPS) * GW_STEP_BYTES,
            t->steps % STEPS);
    /* Halves of the columns, one after the other, are no order for memory. */
    const bool in_order = t->fetch.from == GW_FROM_MEMORY && !t->fetch.at;
    if (rows > GW_XTILE_ROWS && !in_order) {
        multiply_squares(t, 0, rest, to, &padded);
        multiply_squares(t, 1, rest, to, &padded);
    } else {
        for (uint32_t row = 0; row < rows; row += GW_XTILE_ROWS) multiply_bands(t, row, rest, to, &padded);
    }
    if (p->last && !straight) end(p, rows);
}

#define KERNEL(block, at_once)                                                                               \
    {                                                                                                        \
        .rows = ROWS, .k_block = (block), .tiles = (at_once), .micro = micro, .enter = gw_amx_enter,         \
        .leave = gw_amx_leave                                                                                \
    }
static const struct gw_tiled_kernel tiled_long = KERNEL(K_LONG, 1), tiled_wide = KERNEL(K_WIDE, 4);
static const struct gw_matmul_kernel long_blocks = {
    .act = GW_BF16, .k_per_step = 2, .fma_ns = 0.001, .tiled = &tiled_long};
static const struct gw_matmul_kernel wide_blocks = {
    .act = GW_BF16, .k_per_step = 2, .fma_ns = 0.001, .tiled = &tiled_wide};

static const struct gw_matmul_kernel *kernel_for(const struct gw_weight *w, uint32_t m)
{
    if (m <= (w->k <= K_SHORT ? ROWS_SHORT : ROWS_FEW)) return &gw_bf16amx_avx512;
    return m <= ROWS_LONG ? &long_blocks : &wide_blocks;
}

GW_MATMUL_OPERATIONS(bf16amx_amx, kernel_for(w, m))
