#include "kernels/cpu/matmul_tiled.h"

#include <assert.h>
#include <string.h>

#define PIECE_TILES 16u  /* of k, that a thread copies at a time: 1 KB of each row */
#define TILE_NS     60.0 /* to copy one, on one thread */

struct fill_job {
    const uint16_t *x;
    size_t x_stride;
    const struct gw_weight *w;
    uint32_t segments, pieces; /* pieces: of a row */
    const struct gw_tiled_x *to;
};

/* Where in a row one is. */
struct walk {
    uint32_t segment, tile; /* tile: of k, in the segment */
    size_t k;               /* of x, where the segment begins */
};

void gw_tiled_place(struct gw_device *dev, const struct gw_weight *w, uint32_t segments, uint32_t rows,
                    struct gw_tiled_x *out)
{
    size_t k = 0;
    for (uint32_t i = 0; i < segments; i++) k += gw_tiled_segment(w[i].k);
    assert(k > 0);
    const size_t stride = k / GW_XTILE_K * GW_XTILE_BYTES, fit = GW_QUANT_BYTES / stride * GW_XTILE_ROWS;
    assert(fit > 0);
    *out = (struct gw_tiled_x){.bytes = gw_device_quant(dev),
                               .stride = stride,
                               .rows = fit < rows ? (uint32_t)fit : rows,
                               .k_tiles = (uint32_t)(k / GW_XTILE_K)};
}

static struct walk walk_to(const struct gw_weight *w, uint32_t tile)
{
    struct walk at = {.tile = tile};
    while (at.tile >= gw_tiled_segment(w[at.segment].k) / GW_XTILE_K) {
        at.tile -= gw_tiled_segment(w[at.segment].k) / GW_XTILE_K;
        at.k += w[at.segment++].k;
    }
    return at;
}

/* Tiles [first, last) of k, of some rows; to: of the first one. */
static void copy_tiles(const struct fill_job *j, uint32_t row, uint32_t rows, uint32_t first, uint32_t last,
                       uint8_t *to)
{
    struct walk at = walk_to(j->w, first);
    for (uint32_t tile = first; tile < last; tile++, to += GW_XTILE_BYTES) {
        const uint32_t k = at.tile * GW_XTILE_K, left = j->w[at.segment].k - k;
        const uint16_t *x = j->x + row * j->x_stride + at.k + k;
        if (left < GW_XTILE_K) memset(to, 0, GW_XTILE_BYTES);
        for (uint32_t r = 0; r < rows; r++, x += j->x_stride) {
            uint8_t *line = to + (size_t)r * GW_XTILE_K * sizeof *x;
            if (left < GW_XTILE_K)
                memcpy(line, x, left * sizeof *x);
            else
                memcpy(line, x, GW_XTILE_K * sizeof *x);
        }
        at.tile++;
        if (left <= GW_XTILE_K) at = (struct walk){.segment = at.segment + 1, .k = at.k + j->w[at.segment].k};
    }
}

static void fill_pieces(const void *arg, void *scratch, size_t first, size_t last)
{
    (void)scratch;
    const struct fill_job *j = arg;
    for (size_t i = first; i < last; i++) {
        const uint32_t block = (uint32_t)(i / j->pieces), tile = (uint32_t)(i % j->pieces) * PIECE_TILES;
        const uint32_t row = block * GW_XTILE_ROWS, rows = j->to->rows - row;
        const uint32_t end = tile + PIECE_TILES < j->to->k_tiles ? tile + PIECE_TILES : j->to->k_tiles;
        copy_tiles(j, row, rows < GW_XTILE_ROWS ? rows : GW_XTILE_ROWS, tile, end,
                   j->to->bytes + block * j->to->stride + (size_t)tile * GW_XTILE_BYTES);
    }
}

void gw_tiled_fill(struct gw_device *dev, const void *x, size_t x_stride, const struct gw_weight *w,
                   uint32_t segments, const struct gw_tiled_x *to)
{
    const struct fill_job job = {.x = x,
                                 .x_stride = x_stride,
                                 .w = w,
                                 .segments = segments,
                                 .pieces = (to->k_tiles + PIECE_TILES - 1) / PIECE_TILES,
                                 .to = to};
    const size_t blocks = (to->rows + GW_XTILE_ROWS - 1) / GW_XTILE_ROWS;
    gw_device_parallel(dev, fill_pieces, &job, blocks * job.pieces, TILE_NS * PIECE_TILES);
}

void gw_tiled_multiply(const struct gw_tiled_kernel *kernel, const struct gw_tiled_x *x,
                       const struct gw_pass *p)
{
    const size_t tile_bytes = (size_t)gw_steps(p->w->k, 2) * GW_STEP_BYTES;
    const uint8_t *w =
        (const uint8_t *)p->w->data + p->tile * tile_bytes + (size_t)(p->k / 2) * GW_STEP_BYTES;
    struct gw_micro_tile t;
    t.x = x->bytes + p->x_row / GW_XTILE_ROWS * x->stride + (p->x_k + p->k) / GW_XTILE_K * GW_XTILE_BYTES;
    t.x_stride = x->stride;
    t.steps = gw_steps(p->k_len, 2);
    for (uint32_t tile = 0; tile < p->tiles; tile++, w += tile_bytes) {
        t.w = w;
        gw_pass_place(p, tile, &t.place);
        gw_pass_fetch(p, tile, w, tile_bytes, &t.fetch);
        kernel->micro(&t, p->rows);
    }
}
