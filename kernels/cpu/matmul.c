#include "kernels/cpu/matmul.h"

#include <assert.h>
#include <string.h>

#include "kernels/cpu/matmul_job.h"

/* Bytes that are asked for with each step: a micro-kernel asks for two lines, one more than that would be in vain. A line of every
 * fourth step (16 ns) keeps some 6 of the 16 buffers of L1's misses busy, one of every step all of them: then w itself waits. */
#define FETCH_STEP_LEAST 16u
#define FETCH_STEP_MOST  128u
/* Passes that go down a tile: each asks for a line of what is ahead with a step, at most. */
#define DOWN_LEAST 4u

struct rectangle {
    uint32_t product; /* as shares: the first of all */
    uint32_t row, rows;
    uint32_t tile, tiles;
};

struct item {
    struct rectangle r;
    bool first;                   /* of those that its thread was given */
    const struct rectangle *next; /* NULL: it is the last */
};

/* What an item multiplies at a time: its rows of x by so many k of one product, or share. */
struct block {
    uint32_t of;
    size_t x_k; /* where in a row of x the product's k begin */
    uint32_t k, k_len;
};

static const uint8_t *x_at(const struct gw_matmul_job *job, uint32_t row, size_t k)
{
    return (const uint8_t *)job->x + (row * job->x_stride + k) * (job->kernel->act == GW_F32 ? 4 : 2);
}

/* What a thread multiplies with: x of some rows, sums of an item (of a tree, a stack of them), widened weights. */
struct room {
    float panel[GW_MICRO_ROWS * GW_PANEL_STRIDE];
    _Alignas(64) float sums[GW_TREE_ROWS * GW_TILE_N];
    _Alignas(64) float wide[GW_ITEM_TILES_FILLED * GW_FP8_PANEL_K *
                            GW_TILE_N]; /* fp8 weights of a block, as micro reads them */
};
static_assert(sizeof(struct room) <= GW_SCRATCH_BYTES, "a thread's scratch holds it");

static size_t share_width(const struct gw_matmul_job *job, uint32_t share)
{
    if (job->kernel->int8) return gw_int8_segment(job->w[share].k);
    return job->kernel->tiled ? gw_tiled_segment(job->w[share].k) : job->w[share].k;
}

/* Of packed weights: what they have for each of the micro-kernel's steps, and for all of a tile. */
static uint32_t step_bytes(const struct gw_matmul_job *job)
{
    if (!job->kernel->widen) return GW_STEP_BYTES;
    return GW_FP8_STEP_BYTES / GW_FP8_K_STEP * job->kernel->k_per_step;
}

static size_t tile_bytes(const struct gw_matmul_job *job, const struct gw_weight *w)
{
    if (job->kernel->widen) return gw_fp8_tile_bytes(w->k);
    return job->kernel->int8 ? gw_int8_tile_bytes(w->k)
                             : (size_t)gw_steps(w->k, gw_job_k_per_step(job)) * GW_STEP_BYTES;
}

/* Of a tile, before its steps. */
static size_t head_bytes(const struct gw_matmul_job *job)
{
    if (job->kernel->widen) return sizeof(struct gw_fp8_head);
    return job->kernel->int8 ? sizeof(struct gw_int8_head) : 0;
}

/* The weights of block b of a tile, of the first its head, too. */
static const uint8_t *block_at(const struct gw_matmul_job *job, const struct block *b, uint32_t tile)
{
    const struct gw_weight *w = &job->w[b->of];
    size_t head = b->k > 0 ? head_bytes(job) : 0;
    return (const uint8_t *)w->data + tile * tile_bytes(job, w) + head +
           (size_t)(b->k / gw_job_k_per_step(job)) * step_bytes(job);
}

static struct block block_first(const struct gw_matmul_job *job, const struct rectangle *r)
{
    uint32_t of = job->shares ? 0 : r->product;
    return (struct block){.of = of, .k_len = gw_min_u32(gw_job_panel_k(job), job->w[of].k)};
}

static bool block_is_first(const struct gw_matmul_job *job, const struct block *b)
{
    return b->k == 0 && (b->of == 0 || !job->shares);
}

/* False behind the item's last one. */
static bool block_next(const struct gw_matmul_job *job, struct block *b)
{
    b->k += b->k_len;
    if (b->k == job->w[b->of].k) {
        if (!job->shares || b->of + 1 == job->count) return false;
        b->x_k += share_width(job, b->of++);
        b->k = 0;
    }
    b->k_len = gw_min_u32(gw_job_panel_k(job), job->w[b->of].k - b->k);
    return true;
}

/* The pass's block of k of a tile of fp8 as the micro-kernel reads it: the item's first rows widen it, the others find it. */
static const void *widened(const struct gw_matmul_job *job, const struct gw_pass *p, uint32_t tile,
                           const uint8_t *packed, struct room *room)
{
    float *wide = room->wide + (size_t)tile * GW_FP8_PANEL_K * GW_TILE_N;
    const uint8_t *codes =
        packed + sizeof(struct gw_fp8_head) + (size_t)(p->k / GW_FP8_K_STEP) * GW_FP8_STEP_BYTES;
    if (p->from == GW_FROM_MEMORY) job->kernel->widen(wide, codes, gw_steps(p->k_len, GW_FP8_K_STEP));
    return wide;
}

/* Of tile number `tile`, what differs from tile to tile. */
static void micro_tile(const struct gw_matmul_job *job, const struct gw_pass *p, uint32_t tile,
                       struct room *room, struct gw_micro_tile *out)
{
    const size_t len = tile_bytes(job, p->w);
    const uint8_t *packed = (const uint8_t *)p->w->data + (p->tile + tile) * len;
    const uint8_t *w = packed + (size_t)(p->k / job->kernel->k_per_step) * GW_STEP_BYTES;
    gw_pass_place(p, tile, &out->place);
    gw_pass_fetch(p, tile, w, len, &out->fetch);
    out->w = w;
    if (!job->kernel->widen) return;
    out->place.scale = ((const struct gw_fp8_head *)(const void *)packed)->scale;
    out->w = widened(job, p, tile, packed, room);
    out->fetch.from = GW_FROM_L2;
}

/* x · wᵀ in f32, of what is in the pass. */
static void multiply_f32(const struct gw_matmul_job *job, const struct gw_pass *p, struct room *room)
{
    const struct gw_matmul_kernel *kernel = job->kernel;
    const void *x = x_at(job, p->x_row, p->x_k + p->k);
    struct gw_micro_tile t;
    t.x = kernel->fill ? room->panel : x;
    t.x_stride = kernel->fill ? GW_PANEL_STRIDE : job->x_stride;
    t.steps = gw_steps(p->k_len, kernel->k_per_step);
    if (kernel->fill) kernel->fill(room->panel, x, job->x_stride, p->rows, p->k_len);
    for (uint32_t tile = 0; tile < p->tiles; tile++) {
        micro_tile(job, p, tile, room, &t);
        kernel->micro(&t, p->rows);
    }
}

static void multiply_pass(const struct gw_matmul_job *job, const struct gw_pass *p, struct room *room)
{
    if (job->kernel->int8)
        gw_int8_multiply(job->kernel->int8, &job->quantized, p);
    else if (job->kernel->tiled)
        gw_tiled_multiply(job->kernel->tiled, &job->tiled, p);
    else
        multiply_f32(job, p, room);
}

/* The rectangle in a whole y. */
static struct gw_sums sums_at(const struct gw_matmul_job *job, float *y, const struct rectangle *r)
{
    return (struct gw_sums){y + r->row * job->y_stride + (size_t)r->tile * GW_TILE_N, job->y_stride};
}

/* Level `level` of the stack. */
static struct gw_sums level_at(const struct gw_matmul_job *job, struct room *room, uint32_t level)
{
    size_t stride = (size_t)job->items_at_once * job->tiles_per_item * GW_TILE_N;
    return (struct gw_sums){room->sums + level * stride * job->rows_per_item, stride};
}

/* Into y. Between blocks of k the sums rest in the scratch: rows of y may be so far apart that they share a cache set. */
static struct gw_sink sink_at(const struct gw_matmul_job *job, float *y, const struct rectangle *r,
                              struct room *room)
{
    return (struct gw_sink){.partial = level_at(job, room, 0), .to = sums_at(job, y, r)};
}

/* What becomes of a share's sums. The tree is walked as a binary counter counts: the sum of 2^i shares waits on the stack
 * until its neighbour is as large, then both are added; behind the last share all that waits is added from the smallest up
 * (an odd one is thus unchanged), and then the residual. As many wait as the share's number has bits. */
static struct gw_sink tree_sink(const struct gw_matmul_job *job, const struct rectangle *r, struct room *room,
                                uint32_t share)
{
    bool last = share + 1 == job->count;
    uint32_t depth = (uint32_t)__builtin_popcount(share);
    struct gw_sink sink = {.partial = level_at(job, room, depth)};
    for (uint32_t len = share + 1; depth > 0 && (last || len % 2 == 0); len /= 2)
        sink.adds[sink.adds_len++] = level_at(job, room, --depth);
    if (last) sink.adds[sink.adds_len++] = sums_at(job, job->residual, r);
    sink.to = last ? sums_at(job, job->residual, r) : level_at(job, room, depth);
    return sink;
}

static struct gw_sink sink_of(const struct gw_matmul_job *job, const struct rectangle *r, struct room *room,
                              uint32_t of)
{
    if (job->residual) return tree_sink(job, r, room, of);
    return sink_at(job, job->y + (job->shares ? of * job->y_share : job->y_at[of]), r, room);
}

/* Where the weights lie that are multiplied when all rows of the item have passed block b: NULL where that is not known. */
static const uint8_t *ahead_of(const struct gw_matmul_job *job, const struct item *item,
                               const struct block *b, size_t *tile_len)
{
    struct block ahead = *b;
    const struct rectangle *r = &item->r;
    if (!block_next(job, &ahead)) {
        r = item->next;
        if (!r) return NULL;
        ahead = block_first(job, r);
    }
    *tile_len = tile_bytes(job, &job->w[ahead.of]);
    return block_at(job, &ahead, r->tile);
}

/* Of what is ahead, the bytes that each of so many passes asks for with a step of its own. */
static uint32_t fetch_step(const struct gw_matmul_job *job, uint32_t passes)
{
    return gw_clamp_u32(gw_blocks_of(step_bytes(job), passes), FETCH_STEP_LEAST, FETCH_STEP_MOST);
}

/* Has pass number `pass` ask for a part of what is ahead. The passes share it evenly, so that memory is never idle while they
 * compute; but a single one has to wait for its own, unless what it multiplies was widened, and so has the first one where it is
 * `cold`. */
static void fetch_part(const struct gw_matmul_job *job, struct gw_pass *p, const uint8_t *ahead,
                       uint32_t pass, uint32_t passes, bool cold)
{
    const uint32_t steps = gw_steps(p->k_len, gw_job_k_per_step(job)), step_len = step_bytes(job);
    p->fetch = NULL;
    if (!ahead || (passes == 1 && !job->kernel->widen) || (cold && pass == 0)) return;
    pass -= cold;
    p->fetch_step = fetch_step(job, passes - cold);
    if (pass * p->fetch_step < step_len) p->fetch = ahead + (size_t)pass * steps * p->fetch_step;
}

/* The first that a thread multiplies of a job: nobody has asked for its weights. */
static bool is_cold(const struct gw_matmul_job *job, const struct item *item, const struct block *b)
{
    return item->first && block_is_first(job, b);
}

/* Whether all rows are one pass, and the kernel takes them by one tile after the other. Not of what is cold: reading its weights, as
 * the first rows do there, leaves no time to ask for others. */
static bool goes_down(const struct gw_matmul_job *job, const struct item *item, const struct block *b)
{
    const struct gw_int8_kernel *int8 = job->kernel->int8;
    return int8 && b->k_len <= int8->k_down && item->r.rows >= DOWN_LEAST * int8->rows &&
           !is_cold(job, item, b);
}

static void multiply_down(const struct gw_matmul_job *job, const struct rectangle *r, const uint8_t *ahead,
                          struct gw_pass *p, struct room *room)
{
    p->x_row = r->row;
    p->rows = r->rows;
    p->from = GW_FROM_MEMORY;
    p->fetch = ahead;
    p->fetch_step = fetch_step(job, gw_blocks_of(r->rows, gw_job_micro_rows(job)));
    multiply_pass(job, p, room);
}

/* All rows of the item by block b. */
static void multiply_block(const struct gw_matmul_job *job, const struct item *item, const struct block *b,
                           struct room *room)
{
    const struct rectangle *r = &item->r;
    const struct gw_sink sink = sink_of(job, r, room, b->of);
    struct gw_pass p = {.w = &job->w[b->of],
                        .segment = job->shares ? b->of : 0,
                        .x_k = b->x_k,
                        .k = b->k,
                        .k_len = b->k_len,
                        .tile = r->tile,
                        .tiles = r->tiles,
                        .sink = &sink};
    const uint8_t *ahead = ahead_of(job, item, b, &p.fetch_tile);
    p.then = ahead;
    if (goes_down(job, item, b)) {
        multiply_down(job, r, ahead, &p, room);
        return;
    }
    uint32_t at_once = gw_job_micro_rows(job), passes = gw_blocks_of(r->rows, at_once);
    const bool cold = passes > 1 && is_cold(job, item, b);
    for (uint32_t pass = 0; pass < passes; pass++) {
        p.row = pass * at_once;
        p.x_row = r->row + p.row;
        p.rows = gw_min_u32(at_once, r->rows - p.row);
        fetch_part(job, &p, ahead, pass, passes, cold);
        p.from = pass == 0 ? GW_FROM_MEMORY : GW_FROM_L2;
        multiply_pass(job, &p, room);
    }
}

static void multiply_item(const struct gw_matmul_job *job, const struct item *item, struct room *room)
{
    struct block b = block_first(job, &item->r);
    do multiply_block(job, item, &b, room);
    while (block_next(job, &b));
}

/* Where one is in the items of all products. */
struct cursor {
    size_t item, product_first, product_len;
    uint32_t product;
};

/* The rectangle that begins at the cursor's item, of items before `last`; the cursor goes behind it. */
static struct rectangle rectangle_next(const struct gw_matmul_job *job, struct cursor *c, size_t last)
{
    while (c->item - c->product_first >= c->product_len) {
        c->product_first += c->product_len;
        c->product_len = gw_job_product_items(job, ++c->product);
    }
    size_t item = c->item - c->product_first, end = c->product_first + c->product_len;
    size_t items = (end < last ? end : last) - c->item;
    if (items > job->items_at_once) items = job->items_at_once;
    struct rectangle r = {.product = c->product,
                          .row = (uint32_t)(item % job->row_blocks) * job->rows_per_item,
                          .tile = (uint32_t)(item / job->row_blocks) * job->tiles_per_item};
    r.rows = gw_min_u32(job->rows_per_item, job->m - r.row);
    r.tiles = gw_min_u32((uint32_t)items * job->tiles_per_item, gw_tiles(job->w[c->product].n) - r.tile);
    c->item += items;
    return r;
}

static void multiply_items(const struct gw_matmul_job *job, struct room *room, size_t first, size_t last)
{
    struct cursor c = {.item = first, .product_len = gw_job_product_items(job, 0)};
    struct rectangle next = rectangle_next(job, &c, last);
    for (bool begun = false, more = true; more; begun = true) {
        struct item item = {.r = next, .first = !begun};
        more = c.item < last;
        if (more) {
            next = rectangle_next(job, &c, last);
            item.next = &next;
        }
        multiply_item(job, &item, room);
    }
}

static void matmul_items(const void *arg, void *scratch, size_t first, size_t last)
{
    const struct gw_matmul_job *job = arg;
    const struct gw_int8_kernel *int8 = job->kernel->int8;
    const struct gw_tiled_kernel *tiled = job->kernel->tiled;
    if (int8 && int8->enter) int8->enter();
    if (tiled) tiled->enter();
    multiply_items(job, scratch, first, last);
    if (tiled) tiled->leave();
    if (int8 && int8->enter) int8->leave();
}

/* Weights of all products. */
static double count_weights(const struct gw_matmul_job *job)
{
    double weights = 0;
    for (uint32_t i = 0; i < job->count; i++) {
        const struct gw_weight *w = &job->w[i];
        assert(w->n > 0 && w->k > 0 && (uintptr_t)w->data % 64 == 0);
        assert(job->shares ? w->n == job->w[0].n : w->k == job->w[0].k);
        weights += (double)gw_tiles(w->n) * GW_TILE_N * w->k;
    }
    return weights;
}

static void run_rows(struct gw_matmul_job *job, struct gw_device *dev)
{
    double weights = count_weights(job);
    gw_job_cut(job, (uint32_t)gw_device_threads(dev));
    size_t items = gw_job_items(job);
    /* per weight: 0.1 ns to read it, and one fma for each row */
    double item_weights = weights * job->row_blocks / (double)items;
    double rows = gw_min_u32(job->m, job->rows_per_item);
    gw_device_parallel(dev, matmul_items, job, items, item_weights * (0.1 + rows * job->kernel->fma_ns));
}

/* Brings rows of x to where the kernel reads them: all of the job's, or as many as have room. Returns how many. */
static uint32_t bring_x(struct gw_matmul_job *job, struct gw_device *dev, uint32_t rows)
{
    uint32_t segments = job->shares ? job->count : 1;
    const void *x = x_at(job, 0, 0);
    if (job->kernel->tiled) {
        gw_tiled_place(dev, job->w, segments, rows, &job->tiled);
        gw_tiled_fill(dev, x, job->x_stride, job->w, segments, &job->tiled);
        return job->tiled.rows;
    }
    gw_int8_place(dev, job->w, segments, rows, &job->quantized);
    gw_int8_quantize(job->kernel, dev, x, job->x_stride, job->w, &job->quantized);
    return job->quantized.rows;
}

/* As many rows at a time as there is room for. */
static void run_pieces(struct gw_matmul_job job, struct gw_device *dev)
{
    uint32_t m = job.m;
    for (uint32_t done = 0; done < m; done += job.m) {
        job.m = bring_x(&job, dev, m - done);
        run_rows(&job, dev);
        job.x = x_at(&job, job.m, 0);
        job.y += job.m * job.y_stride;
        if (job.residual) job.residual += (size_t)job.m * job.w[0].n;
    }
}

static void run(struct gw_matmul_job *job, struct gw_device *dev)
{
    if (job->count == 0 || job->m == 0) return;
    if (job->kernel->int8 || job->kernel->tiled)
        run_pieces(*job, dev);
    else
        run_rows(job, dev);
}

void gw_fill_f32(void *panel, const void *x, size_t x_stride, uint32_t rows, uint32_t k_len)
{
    for (uint32_t r = 0; r < rows; r++)
        memcpy((float *)panel + (size_t)r * GW_PANEL_STRIDE, (const float *)x + r * x_stride,
               k_len * sizeof(float));
}

void gw_matmul_run(const struct gw_matmul_kernel *kernel, struct gw_device *dev, float *y, size_t y_stride,
                   const void *x, size_t x_stride, const struct gw_weight *w, const uint32_t *y_at,
                   uint32_t count, uint32_t m)
{
    struct gw_matmul_job job = {.kernel = kernel,
                                .w = w,
                                .count = count,
                                .m = m,
                                .x = x,
                                .x_stride = x_stride,
                                .y = y,
                                .y_stride = y_stride,
                                .y_at = y_at};
    run(&job, dev);
}

static void run_shares(const struct gw_matmul_kernel *kernel, struct gw_device *dev, float *residual,
                       float *y, const void *x, const struct gw_weight *w, uint32_t shares, uint32_t m)
{
    struct gw_matmul_job job = {.kernel = kernel,
                                .w = w,
                                .count = shares,
                                .m = m,
                                .shares = true,
                                .x = x,
                                .y = y,
                                .y_stride = w[0].n,
                                .y_share = (size_t)m * w[0].n,
                                .residual = residual};
    for (uint32_t i = 0; i < shares; i++) job.x_stride += w[i].k;
    run(&job, dev);
}

void gw_matmul_shares_run(const struct gw_matmul_kernel *kernel, struct gw_device *dev, float *y,
                          const void *x, const struct gw_weight *w, uint32_t shares, uint32_t m)
{
    run_shares(kernel, dev, NULL, y, x, w, shares, m);
}

void gw_matmul_tree_add_run(const struct gw_matmul_kernel *kernel, struct gw_device *dev, float *residual,
                            const void *x, const struct gw_weight *w, uint32_t shares, uint32_t m,
                            float *scratch)
{
    run_shares(kernel, dev, residual, scratch, x, w, shares, m);
}
