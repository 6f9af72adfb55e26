/* int8 products on AMX tiles, by TDPBUSD: of 16 rows and 16 columns, 64 products of a byte of x without sign and a byte of w with
 * sign, added to 32 bits without saturation: exact, so the bits are VPDPBUSD's.
 *
 * Packed weights are tiles as they are: 16 steps of a quarter of the columns, 256 bytes apart. x is read where it was quantized.
 *
 *     registers       0 1 2 3         4           5 6 7
 *                     sums [16][64]   x [16][64]  w [16 steps][16 columns][4], one after the other
 *
 * All 16 rows are multiplied even where there are fewer (w takes as long to read): what is read behind the last row of x is what
 * earlier products left there, and its sums are dropped.
 *
 * Floors: the bytes of w over the read bandwidth, and 32768 operations for every 16 cycles (6.2 TOP/s at 3 GHz). 17 GB/s, what a
 * core reads there, and the peak meet at 180 rows: below, memory alone counts. w in L2 and x in L1, as here, a loop of tile loads and
 * TDPBUSD without anything else reaches 2.7-3.4 TOP/s: L2 gives a line in 1.5 to 2 cycles, and a line of w is there for 16 rows.
 * Measured on one core of a virtual Xeon with AMX, other programs beside it: 16 rows at 85-90% of the bandwidth, 64 rows
 * 50%, 512 rows 1.75 TOP/s (shares of 1024 k 1.4, of 256 k 1.15: scales and tree do not get faster). */
#include "kernels/cpu/micro_int8_avx512.h"

#include "kernels/cpu/amx.h"
#include "kernels/cpu/variants.h"

#define ROWS  16u
#define STEPS 16u /* of four k */
/* 32 KB of w stay in L1 beside x: 1.75 TOP/s; 1.4 to 1.6 with 1024 and 2048, or with two tiles. */
#define K_BLOCK 512u
/* Fewer are as fast by VPDPBUSD. So are up to ROWS_SHORT where k is short: between two blocks of w the tiles have nothing to do. */
#define ROWS_LEAST 6u
#define ROWS_SHORT 24u
#define K_SHORT    512u
/* Blocks so long are read from memory in order, best (by a tenth) when nothing else is asked for meanwhile. */
#define STEPS_LONG 128u

/* The sums so far; what the bias of x adds is taken off at the beginning, in all rows alike. */
static void begin(const struct gw_int8_tile *t)
{
    const struct gw_place *p = &t->place;
    const void *sums = p->first ? (const void *)t->head->shift : gw_sums_at(&p->sink->partial, p);
    const size_t stride = p->first ? 0 : p->sink->partial.stride * sizeof(float);
    gw_amx_load_sums(sums, stride);
}

static void put(const struct gw_place *p)
{
    gw_amx_store_sums(gw_sums_at(&p->sink->partial, p), p->sink->partial.stride * sizeof(float));
}

GW_INLINE void multiply_steps(const uint8_t *x, size_t x_stride, const uint8_t *w)
{
    GW_AMX_ADD_PRODUCTS(GW_AMX_DOT_INT8, x, x_stride, w, GW_STEP_BYTES);
}

/* Fewer than STEPS: zeros follow w. What follows in x, whose segments are whole, does not matter then. */
static void multiply_rest(const uint8_t *x, size_t x_stride, const uint8_t *w, uint32_t steps)
{
    _Alignas(64) uint8_t padded[STEPS * GW_STEP_BYTES];
    memcpy(padded, w, (size_t)steps * GW_STEP_BYTES);
    memset(padded + (size_t)steps * GW_STEP_BYTES, 0, (size_t)(STEPS - steps) * GW_STEP_BYTES);
    multiply_steps(x, x_stride, padded);
}

/* Rows [first, last) of what the sums end in come to L1 while they are multiplied. All at once they would keep x and w waiting. */
static void fetch_sums(const struct gw_place *p, uint32_t first, uint32_t last)
{
    const struct gw_sums *to = &p->sink->to;
    const float *y = gw_sums_at(to, p);
    for (uint32_t r = first; r < last; r++)
        for (uint32_t i = 0; i < p->cols; i += 16) __builtin_prefetch(y + r * to->stride + i, 1);
}

static void fetch_ahead(const struct gw_fetch *f, uint32_t first)
{
    const uint8_t *at = f->at + (size_t)first * f->step;
    for (uint32_t i = 0; i < STEPS * f->step; i += 64) _mm_prefetch(at + i, _MM_HINT_T1);
}

static void multiply(const struct gw_int8_tile *t, uint32_t rows)
{
    const uint8_t *x = t->x, *w = t->w;
    const uint32_t whole = t->steps / STEPS;
    const bool ahead = t->fetch.at && t->steps < STEPS_LONG;
    for (uint32_t i = 0; i < whole; i++, x += STEPS * GW_INT8_K_STEP, w += STEPS * GW_STEP_BYTES) {
        if (ahead) fetch_ahead(&t->fetch, i * STEPS);
        if (t->place.last) fetch_sums(&t->place, rows * i / whole, rows * (i + 1) / whole);
        multiply_steps(x, t->x_stride, w);
    }
    if (t->steps % STEPS) multiply_rest(x, t->x_stride, w, t->steps % STEPS);
}

GW_INLINE void end_rows(const void *tile, const uint32_t rows, const enum gw_ahead ahead)
{
    (void)ahead;
    const struct gw_int8_tile *t = tile;
    struct gw_micro_acc acc;
    gw_micro_load(&acc, &t->place, rows);
    gw_micro_int8_scale(&acc, t, rows);
    gw_micro_end(&acc, &t->place, rows);
}

static void end(struct gw_int8_tile *t, uint32_t rows)
{
    gw_micro_dispatch_rows(end_rows, t, rows, GW_AHEAD_NEAR);
}

/* Calls fn for rows of the tile, as many at a time as registers hold. It goes down the tile itself, and back (gw_pass_place says why it
 * is not a copy of it: 3-5% of 512 rows). */
static void in_registers(void (*fn)(struct gw_int8_tile *t, uint32_t rows), struct gw_int8_tile *t,
                         uint32_t rows)
{
    uint32_t r = 0;
    for (; r < rows; r += GW_MICRO_ROWS) {
        fn(t, rows - r < GW_MICRO_ROWS ? rows - r : GW_MICRO_ROWS);
        t->place.row += GW_MICRO_ROWS;
        t->x += GW_MICRO_ROWS * t->x_stride;
        t->x_scale += GW_MICRO_ROWS * t->x_scale_stride;
    }
    t->place.row -= r;
    t->x -= r * t->x_stride;
    t->x_scale -= r * t->x_scale_stride;
}

static void micro(struct gw_int8_tile *t, uint32_t rows)
{
    if (rows < ROWS_LEAST || t->x_rows < ROWS) {
        in_registers(gw_micro_int8_avx512vnni, t, rows);
        return;
    }
    begin(t);
    multiply(t, rows);
    put(&t->place);
    if (t->place.last) in_registers(end, t, rows);
}

static const struct gw_int8_kernel int8 = {.rows = ROWS,
                                           .k_block = K_BLOCK,
                                           .tiles = 1,
                                           .quantize = gw_quantize_avx512,
                                           .micro = micro,
                                           .enter = gw_amx_enter,
                                           .leave = gw_amx_leave};
static const struct gw_matmul_kernel kernel_bf16 = {.act = GW_BF16, .fma_ns = 0.0006, .int8 = &int8};
static const struct gw_matmul_kernel kernel_f32 = {.act = GW_F32, .fma_ns = 0.0006, .int8 = &int8};

static bool few(uint32_t m, const struct gw_weight *w)
{
    return m < (w->k <= K_SHORT ? ROWS_SHORT : ROWS_LEAST);
}

GW_MATMUL_OPERATIONS(int8_bf16_amx, few(m, w) ? &gw_int8_bf16_avx512vnni : &kernel_bf16)
GW_MATMUL_OPERATIONS(int8_f32_amx, few(m, w) ? &gw_int8_f32_avx512vnni : &kernel_f32)
