/* The table's pick of rows that lie on the device: what pick.cu is told, and what it has found.
 *
 * Rows are done in groups, of what fits in the rooms:
 *
 *     step's room    the rows, then the lists of their edits
 *     scratch        what is found, row after row, and comes to the host in one copy; then copies of rows that are edited, and
 *                    words between rounds
 *     picked         what was found, the host's
 *
 * A row that does not fit alone is not for the device: the caller copies it out. */
#include <string.h>

#include "kernels/cuda/cuda_device_internal.h"

/* Where the parts of what is found lie, from the row's first byte on. */
struct found {
    size_t best, best_raw, top, draws, weights, stats, bytes;
};

/* A row, what it takes, and where that lies. */
struct picking {
    const struct gw_pick_row *row;
    uint32_t first, columns, keep;
    struct found found;
    size_t list_bytes, copy_bytes, word_bytes[2][2]; /* words: of best and top, of two rounds */
};

struct sizes {
    size_t step, found, scratch;
};

static size_t take(size_t *used, size_t bytes)
{
    size_t at = *used;
    *used += gw_cuda_padded(bytes);
    return at;
}

static void lay_out(struct picking *p)
{
    const struct gw_pick_want *w = p->row->want;
    size_t sums = (p->row->share_last - p->row->share_first) * sizeof(struct gw_pick_sum), used = 0;
    p->found.best = take(&used, p->keep * sizeof(uint64_t));
    p->found.best_raw = take(&used, p->keep * sizeof(float));
    p->found.top = take(&used, w->top * sizeof(uint64_t));
    p->found.draws = take(&used, w->keep ? 0 : GW_CUDA_DRAW_BLOCKS * sizeof(struct gw_cuda_draw));
    p->found.weights = take(&used, w->weights ? sums : 0);
    p->found.stats = take(&used, w->stats ? sums : 0);
    p->found.bytes = used;
}

static struct picking picking_of(const struct gw_pick_row *row)
{
    const struct gw_pick_edits *e = &row->want->edits;
    struct picking p = {.row = row, .first = gw_pick_share_at(row->vocab, row->shares, row->share_first)};
    p.columns = gw_pick_share_at(row->vocab, row->shares, row->share_last) - p.first;
    p.keep = row->want->keep ? row->want->keep : 1;
    if (p.keep > p.columns) p.keep = p.columns;
    p.list_bytes = gw_cuda_padded((e->added_len + (size_t)e->taken_len) * sizeof(struct gw_pick_change)) +
                   gw_cuda_padded((e->repeated_len + (size_t)e->masked_len) * sizeof(uint32_t));
    if (gw_pick_edits_len(e) > 0) p.copy_bytes = gw_cuda_padded(p.columns * sizeof(float));
    for (uint32_t i = 0; i < 2; i++) {
        p.word_bytes[0][i] = gw_cuda_pick_between(p.columns, p.keep, i) * sizeof(uint64_t);
        p.word_bytes[1][i] =
            row->want->top ? gw_cuda_pick_between(p.columns, row->want->top, i) * sizeof(uint64_t) : 0;
    }
    lay_out(&p);
    return p;
}

static void add_sizes(struct sizes *s, const struct picking *p)
{
    s->step += gw_cuda_padded(sizeof(struct gw_cuda_pick_row)) + p->list_bytes;
    s->found += p->found.bytes;
    s->scratch += p->found.bytes + p->copy_bytes;
    for (int i = 0; i < 4; i++) s->scratch += gw_cuda_padded(p->word_bytes[i / 2][i % 2]);
}

static bool fit(const struct gw_cuda_device *d, const struct sizes *s)
{
    return s->step <= d->config.step_bytes && s->found <= GW_CUDA_PICKED_BYTES &&
           s->scratch <= d->config.scratch_bytes;
}

/* ---- what the device is told ---- */

/* A group's places as they are handed out. */
struct places {
    struct gw_cuda_piece told; /* rows, then lists */
    size_t told_used;
    uint8_t *found, *scratch;
};

static void *take_scratch(struct places *to, size_t bytes)
{
    void *at = to->scratch;
    to->scratch += gw_cuda_padded(bytes);
    return at;
}

static size_t tell(struct places *to, size_t at, const void *from, size_t bytes)
{
    if (bytes > 0) memcpy(to->told.pinned + at, from, bytes);
    return at + bytes;
}

static struct gw_pick_edits tell_edits(struct places *to, const struct gw_pick_edits *e)
{
    struct gw_pick_edits there = *e;
    size_t added = to->told_used, taken, repeated, masked, end;
    taken = tell(to, added, e->added, e->added_len * sizeof *e->added);
    repeated = gw_cuda_padded(tell(to, taken, e->taken, e->taken_len * sizeof *e->taken));
    masked = tell(to, repeated, e->repeated, e->repeated_len * sizeof *e->repeated);
    end = tell(to, masked, e->masked, e->masked_len * sizeof *e->masked);
    to->told_used = gw_cuda_padded(end);
    there.added = (const struct gw_pick_change *)(const void *)(to->told.device + added);
    there.taken = (const struct gw_pick_change *)(const void *)(to->told.device + taken);
    there.repeated = (const uint32_t *)(const void *)(to->told.device + repeated);
    there.masked = (const uint32_t *)(const void *)(to->told.device + masked);
    return there;
}

static struct gw_cuda_best tell_best(struct places *to, const float *x, uint32_t keep, uint64_t *out,
                                     const size_t word_bytes[2])
{
    struct gw_cuda_best b = {.x = x, .keep = keep, .out = out};
    for (int i = 0; i < 2; i++) b.between[i] = take_scratch(to, word_bytes[i]);
    return b;
}

/* A row is copied before it is edited. */
static struct gw_cuda_pick_row tell_row(struct gw_cuda_device *d, struct places *to, const struct picking *p)
{
    const struct gw_pick_row *row = p->row;
    const struct gw_pick_want *w = row->want;
    uint8_t *found = to->found;
    float *x = row->x;
    to->found += p->found.bytes;
    if (p->copy_bytes > 0) {
        x = take_scratch(to, p->copy_bytes);
        gw_memory_move((struct gw_device *)(void *)d, x, row->x, p->columns * sizeof *x);
    }
    return (struct gw_cuda_pick_row){
        .raw = row->x,
        .x = x,
        .columns = p->columns,
        .first = p->first,
        .vocab = row->vocab,
        .shares = row->shares,
        .share_first = row->share_first,
        .share_last = row->share_last,
        .edits = tell_edits(to, &w->edits),
        .inverse = w->inverse,
        .stream = w->stream,
        .best = tell_best(to, x, p->keep, (void *)(found + p->found.best), p->word_bytes[0]),
        .top = tell_best(to, row->x, w->top, (void *)(found + p->found.top), p->word_bytes[1]),
        .best_raw = (void *)(found + p->found.best_raw),
        .draws = w->keep ? NULL : (void *)(found + p->found.draws),
        .weights = w->weights ? (void *)(found + p->found.weights) : NULL,
        .stats = w->stats ? (void *)(found + p->found.stats) : NULL};
}

static uint32_t max_u32(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

static void add_bounds(struct gw_cuda_pick_bounds *b, const struct picking *p)
{
    const struct gw_pick_want *w = p->row->want;
    b->columns = max_u32(b->columns, p->columns);
    b->keep = max_u32(b->keep, max_u32(p->keep, w->top));
    if (w->weights || w->stats) b->shares = max_u32(b->shares, p->row->share_last - p->row->share_first);
    b->edits = max_u32(b->edits, gw_pick_edits_len(&w->edits));
    if (!w->keep) b->draws = GW_CUDA_DRAW_BLOCKS;
}

/* ---- what it has found ---- */

static uint32_t read_words(const uint64_t *words, uint32_t len, struct gw_pick_entry *out)
{
    uint32_t n = 0;
    for (; n < len && words[n] != UINT64_MAX; n++) {
        float logit = gw_pick_word_logit(words[n]);
        out[n] = (struct gw_pick_entry){.id = (uint32_t)words[n], .logit = logit, .raw = logit};
    }
    return n;
}

static void read_draws(const struct gw_cuda_draw *draws, struct gw_pick_entry *out)
{
    const struct gw_cuda_draw *best = draws;
    for (uint32_t i = 1; i < GW_CUDA_DRAW_BLOCKS; i++)
        if (draws[i].score > best->score || (draws[i].score == best->score && draws[i].id < best->id))
            best = &draws[i];
    *out = (struct gw_pick_entry){.id = best->id, .logit = best->logit, .raw = best->raw};
}

static void read_sums(const uint8_t *from, bool wanted, uint32_t shares, struct gw_pick_sum *out)
{
    if (wanted) memcpy(out, from, shares * sizeof *out);
}

static void read_part(const uint8_t *from, const struct picking *p)
{
    const struct gw_pick_want *w = p->row->want;
    struct gw_pick_part *part = p->row->part;
    const float *raw = (const float *)(const void *)(from + p->found.best_raw);
    part->shares = p->row->share_last - p->row->share_first;
    part->entries_len = read_words((const void *)(from + p->found.best), p->keep, part->entries);
    for (uint32_t i = 0; i < part->entries_len; i++) part->entries[i].raw = raw[i];
    part->all = !w->keep || part->entries_len < p->keep || p->keep == p->columns;
    if (!w->keep && part->entries_len > 0)
        read_draws((const void *)(from + p->found.draws), &part->entries[0]);
    part->top_len = read_words((const void *)(from + p->found.top), w->top, part->top);
    read_sums(from + p->found.weights, w->weights, part->shares, part->weights);
    read_sums(from + p->found.stats, w->stats, part->shares, part->stats);
}

/* ---- groups ---- */

static gw_err_t launch_group(struct gw_cuda_device *d, const struct picking *group, uint32_t count,
                             const struct sizes *sizes, struct gw_err_ctx *ctx)
{
    struct gw_cuda_pick_bounds max = {0};
    if (!gw_cuda_begin(d) || !gw_cuda_reserve(d, sizes->step)) return GW_OK; /* noted */
    size_t row_bytes = sizeof(struct gw_cuda_pick_row), rows_bytes = gw_cuda_padded(count * row_bytes);
    struct places to = {.told = gw_cuda_take(d, sizes->step), .told_used = rows_bytes, .found = d->scratch};
    to.scratch = d->scratch + sizes->found;
    for (uint32_t i = 0; i < count; i++) {
        struct gw_cuda_pick_row row = tell_row(d, &to, &group[i]);
        memcpy(to.told.pinned + i * row_bytes, &row, row_bytes);
        add_bounds(&max, &group[i]);
    }
    if (!gw_cuda_send(d, to.told)) return GW_OK;
    return gw_cuda_pick(gw_cuda_compute(d), (const struct gw_cuda_pick_row *)(void *)to.told.device, count,
                        &max, ctx);
}

static void pick_group(struct gw_cuda_device *d, const struct picking *group, uint32_t count,
                       const struct sizes *sizes)
{
    struct gw_err_ctx ctx = {0};
    const uint8_t *from = d->picked;
    gw_cuda_note(d, launch_group(d, group, count, sizes, &ctx), &ctx);
    gw_memory_get((struct gw_device *)(void *)d, d->picked, d->scratch, sizes->found);
    for (uint32_t i = 0; i < count; i++) {
        read_part(from, &group[i]);
        from += group[i].found.bytes;
    }
}

bool gw_cuda_op_pick_there(struct gw_device *dev, const struct gw_pick_row *rows, uint32_t count)
{
    struct gw_cuda_device *d = gw_cuda_of(dev);
    struct picking group[GW_CUDA_PICK_ROWS];
    struct sizes sizes = {0};
    uint32_t len = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct picking p = picking_of(&rows[i]);
        struct sizes more = sizes, alone = {0};
        add_sizes(&alone, &p);
        if (!fit(d, &alone)) return false;
        add_sizes(&more, &p);
        if (len == GW_CUDA_PICK_ROWS || !fit(d, &more)) {
            pick_group(d, group, len, &sizes);
            more = alone;
            len = 0;
        }
        group[len++] = p;
        sizes = more;
    }
    if (len > 0) pick_group(d, group, len, &sizes);
    return true;
}
