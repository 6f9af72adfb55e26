/* Products y = x · wᵀ: the walk over tiles that all variants share, and the micro-kernel that each brings.
 *
 * An item is a rectangle of y: some 64-column tiles of one weight × up to GW_ITEM_ROWS rows, all of k. Inside it:
 *
 *     for each block of GW_PANEL_K of k, ascending                   w of the item's tiles stays in L2
 *         for each 6 rows: a pass                                    and asks for a part of the block behind, to L2
 *             fill: x of these rows and this block → panel           12 KB, stays in L1
 *             for each tile: micro: sums (registers) += panel · w
 *
 * Of int8, a tile's block of 1024 k or fewer stays in L1, or near it: there all rows of the item are one pass, and go down a tile
 * before the next one's turn.
 *
 * So memory is read while all passes compute, not in the first alone: at 16 rows that saves a fifth of the time. Where all rows are
 * a single pass, blocks are of GW_PANEL_K_SINGLE, so that w is read in the order of memory.
 *
 * Between blocks of k the sums rest in the thread's scratch (exact: they are f32 there too), so the additions of one (m,
 * n) run over k in order whatever the blocking. Of products over shares the micro-kernel also does the additions of the tree,
 * while its sums are in registers (struct gw_sink).
 *
 * Weights of fp8 are widened block by block, when the first pass meets them, to what the micro-kernel of x's type multiplies; the
 * last block brings their scales.
 *
 * Floors: the bytes of w over the read bandwidth, and operations over the FMA (VNNI) peak. On one core of a Cascade Lake (AVX-512,
 * VNNI; other programs beside it): to 4 rows 90-98% of the bandwidth; at 16 rows int8 70-79% of it, bf16 (which widens w by
 * instructions of the same ports: 84% of the peak at most, 86% for 6 rows) 63-73% of the peak; at 512 rows f32 75-84%, bf16
 * 70-74%, int8 80%, of shares of 256 k 65%: there the scales and the tree are 96 instructions for each 1536 that multiply. By VNNI on
 * one core of a Xeon with AMX, 512 rows: 88% of the peak; the loop itself has all of it, some 5% are sums and x that are not in L2, 3%
 * what is asked for meanwhile, 2% quantization; shares of 256 k 78%. On both cores of that Xeon, idle, virtual, which read 37 GB/s
 * (asked for ahead; 30 by plain loads): 1 row of bf16 89-91% of that, 4 rows 84-87%, of shares of 1024 k 89% and 82%, of 256 k 82% and
 * 73%; int8 88-94% and 82-88%, 85% and 81%, 76% and 73%. What shares lack is that they lie apart (GW_RUN_BYTES).
 *
 * Owner: all memory is the caller's. Thread: any number of items at a time. Units: elements, ns. Errors:
 * none; alignment and equal n or k are asserted. Source: blocking after Goto & van de Geijn 2008, k never
 * split. */
#ifndef GW_KERNELS_CPU_MATMUL_H
#define GW_KERNELS_CPU_MATMUL_H

#include "kernels/cpu/device.h"
#include "kernels/cpu/pack.h"

#define GW_MICRO_ROWS 6u   /* 6 x 4 accumulators + 4 of w + x fill the 32 registers of AVX-512 */
#define GW_PANEL_K    512u /* 64-128 KB of w per tile, reloaded accumulators cost < 1% */
/* Of a single pass, of which nothing has to stay in L2: w is read in longer runs. On a Xeon with AMX bf16 is 9% (1 row) to 20% (6
 * rows) faster so than by GW_PANEL_K. */
#define GW_PANEL_K_SINGLE 2048u
/* Of an item. More rows: w comes from memory for fewer of them. More tiles: so does x, and a filled panel serves all of
 * them; but a block of w of all tiles has to leave half of L2 to others, and that of four tiles of f32 or int8 has not. (Beside 48
 * rows of four tiles, f32 and int8 gain 5-15% from 64 rows on; bf16 nothing.) */
#define GW_ITEM_ROWS         192u
#define GW_ITEM_TILES        2u
#define GW_ITEM_TILES_FILLED 4u
/* Of a block of w, in a rectangle of a single pass. Two threads of a Xeon read runs of 128 KB from here and there at 82% of the
 * bandwidth, of 256 KB at 96%, of 512 KB at all of it (by a program that only reads, which is not in the tree). */
#define GW_RUN_BYTES ((size_t)512 << 10)
/* What waits of a tree over shares, in rows of a tile: 384 KB, touched once for each share. */
#define GW_TREE_ROWS 1536u

/* Words (f32, or pairs of bf16) from one row of the panel to the next: room for 16 behind the last k; and blocks of GW_PANEL_K of
 * all rows fall into different cache sets. */
#define GW_PANEL_STRIDE (GW_PANEL_K_SINGLE + GW_PANEL_K + 16u)

/* k of fp8 that are widened at once: for more rows 128 to 256 KB of four tiles, which stay in L2; for those of one pass, which
 * read them once, 16 or 32 KB of a tile, so that much of it is still in L1. */
#define GW_FP8_PANEL_K     256u
#define GW_FP8_PANEL_K_FEW 128u

#define GW_MICRO_ADDS_MAX 9u /* a subtree for each bit of the number of shares, and the residual */

struct gw_int8_kernel;
struct gw_tiled_kernel;

/* Sums of a rectangle of y: those of its first row and column, and from row to row. */
struct gw_sums {
    float *y;
    size_t stride;
};

/* What becomes of a rectangle's sums: between blocks of k they rest in `partial`; at last
 * to = adds[adds_len - 1] + (... + (adds[0] + sums)). */
struct gw_sink {
    struct gw_sums partial, to, adds[GW_MICRO_ADDS_MAX];
    uint32_t adds_len;
};

/* What a micro-kernel computes: up to 64 columns of some rows, over a block of k. */
struct gw_place {
    const struct gw_sink *sink;
    uint32_t row, col, cols; /* where in the sink's rectangle */
    bool first, last;        /* block of k */
    const float *scale;      /* [cols] of fp8, that the last block's sums are multiplied by; NULL: none */
};

static inline float *gw_sums_at(const struct gw_sums *s, const struct gw_place *p)
{
    return s->y + p->row * s->stride + p->col;
}

static inline const struct gw_sums *gw_place_to(const struct gw_place *p)
{
    return p->last ? &p->sink->to : &p->sink->partial;
}

/* The last thing done to the sum in row r and column c of the place. */
static inline void gw_place_finish(const struct gw_place *p, uint32_t r, uint32_t c, float sum)
{
    const struct gw_sink *sink = p->sink;
    if (p->scale) sum *= p->scale[c];
    for (uint32_t i = 0; i < sink->adds_len; i++)
        sum = gw_sums_at(&sink->adds[i], p)[r * sink->adds[i].stride + c] + sum;
    gw_sums_at(&sink->to, p)[r * sink->to.stride + c] = sum;
}

/* Where a tile's weights are. */
enum gw_from {
    GW_FROM_MEMORY, /* or nearer: these are the item's first rows */
    GW_FROM_L2,
    GW_FROM_L1, /* the rows just before were multiplied by them */
};

/* Weights that are multiplied later, to come to L2 while a tile is multiplied: for each of its steps so many bytes from `at`
 * on, 128 at most. at = NULL: none. from: the tile's own are there.
 * Those are asked for some steps ahead, and behind the tile's last one, those of the tile that `then` points to. */
struct gw_fetch {
    const uint8_t *at;
    uint32_t step;
    enum gw_from from;
    const uint8_t *then;
};

struct gw_micro_tile {
    struct gw_place place;
    struct gw_fetch fetch;
    const void *x;   /* the panel; without one, x of the block's first k */
    size_t x_stride; /* words from row to row */
    const void *w;   /* of the block's first step */
    uint32_t steps;
};

/* Rows that a micro-kernel takes at a time, by all tiles of an item, over one block of k of one product. One of int8 may be of more
 * rows: they are taken in turn by each tile. */
struct gw_pass {
    const struct gw_weight *w;
    uint32_t segment; /* of a row of x: the share */
    size_t x_k;       /* where w's k begin in a row of x */
    uint32_t k, k_len;
    enum gw_from from;         /* where w is */
    uint32_t x_row, row, rows; /* in x; in the sink's rectangle; how many */
    uint32_t tile, tiles;
    const struct gw_sink *sink;
    const uint8_t *fetch; /* as in struct gw_fetch, of the first tile; NULL: nothing */
    uint32_t fetch_step;
    size_t fetch_tile;   /* from tile to tile */
    const uint8_t *then; /* what is multiplied behind the last tile; NULL: not known */
};

/* Both are written where they are read, field by field. Of one that was copied whole, the loads were wider than the stores before
 * them: they had to wait until those had left the store buffer, behind sums that miss the caches (5% of a product of 512 rows). So
 * neighbours in a pass are not neighbours in what is written: a compiler would copy two by one load. */
static inline void gw_pass_place(const struct gw_pass *p, uint32_t tile, struct gw_place *out)
{
    uint32_t left = p->w->n - (p->tile + tile) * GW_TILE_N;
    out->sink = p->sink;
    out->row = p->row;
    out->col = tile * GW_TILE_N;
    out->cols = left < GW_TILE_N ? left : GW_TILE_N;
    out->first = p->k == 0;
    out->last = p->k + p->k_len == p->w->k;
    out->scale = NULL;
}

/* The fetch of the pass's tile number `tile`, whose weights are at w, a tile's `len` bytes before the next one's. */
static inline void gw_pass_fetch(const struct gw_pass *p, uint32_t tile, const uint8_t *w, size_t len,
                                 struct gw_fetch *out)
{
    const uint8_t *then = tile + 1 < p->tiles ? w + len : p->then;
    out->at = p->fetch ? p->fetch + tile * p->fetch_tile : NULL;
    out->step = p->fetch_step;
    out->from = p->from;
    out->then = then ? then : w;
}

/* Steps of two k of a packed tile of fp8, as w of the micro-kernel. */
typedef void gw_widen_fn(void *to, const uint8_t *from, uint32_t steps);

struct gw_matmul_kernel {
    enum gw_dtype act;
    uint32_t k_per_step;
    double fma_ns; /* on one thread, data in cache */
    const struct gw_int8_kernel
        *int8; /* kernels/cpu/matmul_int8.h, in place of all that follows; NULL: none */
    const struct gw_tiled_kernel *tiled; /* kernels/cpu/matmul_tiled.h, likewise */

    /* panel[row] = x[row, k_first .. k_first + k_len) as micro reads it, zeros behind k_len up to a step. NULL: micro reads x
     * itself. */
    void (*fill)(void *panel, const void *x, size_t x_stride, uint32_t rows, uint32_t k_len);

    void (*micro)(const struct gw_micro_tile *tile, uint32_t rows);
    gw_widen_fn *widen; /* of fp8 weights; NULL: micro reads w as it is packed */
};

/* The fill of micro-kernels that read f32 as it is. */
void gw_fill_f32(void *panel, const void *x, size_t x_stride, uint32_t rows, uint32_t k_len);

void gw_matmul_run(const struct gw_matmul_kernel *kernel, struct gw_device *dev, float *y, size_t y_stride,
                   const void *x, size_t x_stride, const struct gw_weight *w, const uint32_t *y_at,
                   uint32_t count, uint32_t m);

void gw_matmul_shares_run(const struct gw_matmul_kernel *kernel, struct gw_device *dev, float *y,
                          const void *x, const struct gw_weight *w, uint32_t shares, uint32_t m);

/* Sums wait in the threads' own scratch; that of the caller is not needed. */
void gw_matmul_tree_add_run(const struct gw_matmul_kernel *kernel, struct gw_device *dev, float *residual,
                            const void *x, const struct gw_weight *w, uint32_t shares, uint32_t m,
                            float *scratch);

/* The three operations of one table: gw_cpu_matmul_<name> and so on. `kernel` may depend on their arguments w and m. */
#define GW_MATMUL_OPERATIONS(name, kernel)                                                                   \
    void gw_cpu_matmul_##name(struct gw_device *dev, float *y, size_t y_stride, const void *x,               \
                              size_t x_stride, const struct gw_weight *w, const uint32_t *y_at,              \
                              uint32_t count, uint32_t m)                                                    \
    {                                                                                                        \
        gw_matmul_run(kernel, dev, y, y_stride, x, x_stride, w, y_at, count, m);                             \
    }                                                                                                        \
    void gw_cpu_matmul_shares_##name(struct gw_device *dev, float *y, const void *x,                         \
                                     const struct gw_weight *w, uint32_t shares, uint32_t m)                 \
    {                                                                                                        \
        gw_matmul_shares_run(kernel, dev, y, x, w, shares, m);                                               \
    }                                                                                                        \
    void gw_cpu_matmul_tree_add_##name(struct gw_device *dev, float *residual, const void *x,                \
                                       const struct gw_weight *w, uint32_t shares, uint32_t m,               \
                                       float *scratch)                                                       \
    {                                                                                                        \
        gw_matmul_tree_add_run(kernel, dev, residual, x, w, shares, m, scratch);                             \
    }

#endif
