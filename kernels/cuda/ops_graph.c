/* Graphs of decoding steps (kernels/device_graph.h), by capture of the compute stream.
 *
 * What differs between two steps of one graph lies on the device before it is launched: where sequences stand and which slots they have,
 * in d->graph_seqs, whose address does not change; their tables are in the step's room, wherever there is place, for each sequence
 * names its own. All else that launches were given is as it was when they were recorded:
 *
 *     rows             the graph's, a power of two; sequences behind the step's have no rows
 *     length           the grid is for a power of two of chunks; blocks behind a sequence's end do nothing
 *     lists of arenas  the device keeps them; d->arenas_changed counts when one made room for another: a graph from before the
 *                      last time is thrown away
 *     all others       the owner's: activations, weights, tables
 *
 *     shape    first time ──► plain ──again──► recorded ──again──► replayed ─┐
 *                               ▲                 │ fails          ▲    │    │
 *                               └─────────────────┴────────────────┼────┴────┤ lists have changed
 *                                                                  └─────────┘
 *
 * Recording is the second time, since the first one tells the device what it keeps (lists of arenas), which a graph may not. */
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/cuda_device_internal.h"

/* A shape of step. */
struct entry {
    uint32_t rows, chunks; /* of the graph */
    uint64_t used;         /* when, by the owner's count; 0: nothing is here */
    struct gw_graph *graph;
    uint32_t arenas_changed; /* the device's, when it was recorded */
};

struct gw_graphs {
    uint32_t max_rows;
    uint64_t uses;
    struct entry entries[GW_GRAPHS_MAX];
    struct entry *recorded; /* between begin and end */
    struct gw_graph_counts counts;
};

static struct gw_graphs *create(struct gw_device *dev, uint32_t max_rows)
{
    const struct gw_cuda_device *d = gw_cuda_of(dev);
    if (!d->config.graphs || !d->config.compute.ops->capture_begin) return NULL;
    struct gw_graphs *g = calloc(1, sizeof *g);
    if (g) g->max_rows = max_rows;
    return g;
}

static void drop(struct gw_cuda_device *d, struct entry *e)
{
    const struct gw_cuda_lane *l = &d->config.compute;
    if (e->graph && !atomic_load(&d->hangs)) l->ops->graph_destroy(l->self, e->graph);
    e->graph = NULL;
}

static void destroy(struct gw_device *dev, struct gw_graphs *g)
{
    struct gw_cuda_device *d = gw_cuda_of(dev);
    (void)gw_cuda_begin(d); /* the device becomes the thread's; one that has failed gives back what it can */
    for (uint32_t i = 0; i < GW_GRAPHS_MAX; i++) drop(d, &g->entries[i]);
    free(g);
}

/* ---- shapes ---- */

static uint32_t power_of_two(uint32_t at_least)
{
    uint32_t p = 1;
    while (p < at_least) p *= 2;
    return p;
}

/* One row of each sequence, which the decode kernel takes. */
static bool is_decoding(const struct gw_graphs *g, const struct gw_graph_step *s)
{
    bool fits = s->rows > 0 && s->rows == s->seqs_len && s->rows <= GW_GRAPH_ROWS_MAX &&
                s->rows <= g->max_rows && gw_cuda_group_of(s->kv, s->heads) <= GW_CUDA_TILE_QUERIES;
    for (uint32_t i = 0; fits && i < s->seqs_len; i++) fits = s->seqs[i].rows == 1;
    return fits;
}

static uint32_t chunks_of(const struct gw_graph_step *s)
{
    uint32_t last = 0;
    for (uint32_t i = 0; i < s->seqs_len; i++)
        if (s->seqs[i].position > last) last = s->seqs[i].position;
    return power_of_two(last / GW_ATTN_CHUNK + 1);
}

/* The step's entry, or the one that makes room for it. */
static struct entry *entry_of(struct gw_cuda_device *d, struct gw_graphs *g, const struct gw_graph_step *s)
{
    uint32_t rows = power_of_two(s->rows), chunks = chunks_of(s);
    if (rows > g->max_rows) rows = g->max_rows;
    struct entry *oldest = g->entries;
    for (uint32_t i = 0; i < GW_GRAPHS_MAX; i++) {
        struct entry *e = &g->entries[i];
        if (e->used > 0 && e->rows == rows && e->chunks == chunks) return e;
        if (e->used < oldest->used) oldest = e;
    }
    drop(d, oldest);
    *oldest = (struct entry){.rows = rows, .chunks = chunks};
    return oldest;
}

/* ---- what a graph reads ---- */

static uint32_t blocks_of(const struct gw_seq_rows *s, const struct gw_kv_layer *kv)
{
    return s->position / kv->block_tokens + 1;
}

/* Copies the sequences to where the graph reads them, with empty ones behind. False after an error. */
static bool tell(struct gw_cuda_device *d, const struct gw_graph_step *s, const struct entry *e)
{
    size_t len = s->seqs_len, seq = sizeof *s->seqs, tables_bytes = 0, at = 0;
    for (size_t i = 0; i < len; i++) tables_bytes += blocks_of(&s->seqs[i], s->kv) * sizeof(uint32_t);
    if (!gw_cuda_reserve(d, gw_cuda_padded(len * seq) + gw_cuda_padded(e->rows * seq) +
                                gw_cuda_padded(tables_bytes)))
        return false;
    struct gw_cuda_piece copy = gw_cuda_take(d, len * seq), seqs = gw_cuda_take(d, e->rows * seq),
                         tables = gw_cuda_take(d, tables_bytes);
    seqs.device = d->graph_seqs;
    memcpy(copy.pinned, s->seqs, len * seq);
    memset(seqs.pinned, 0, e->rows * seq);
    for (size_t i = 0; i < len; i++) {
        struct gw_seq_rows there = s->seqs[i];
        size_t bytes = blocks_of(&there, s->kv) * sizeof(uint32_t);
        memcpy(tables.pinned + at, there.blocks, bytes);
        there.blocks = (const uint32_t *)(void *)(tables.device + at);
        memcpy(seqs.pinned + i * seq, &there, seq);
        at += bytes;
    }
    const struct gw_cuda_batch batch = {.seqs = (const struct gw_seq_rows *)(void *)seqs.device,
                                        .seqs_len = e->rows,
                                        .rows_max = 1,
                                        .length_max = e->chunks * GW_ATTN_CHUNK};
    d->told = (struct gw_cuda_told){.seqs = s->seqs,
                                    .copy = (const struct gw_seq_rows *)(void *)copy.pinned,
                                    .seqs_len = s->seqs_len,
                                    .group = gw_cuda_group_of(s->kv, s->heads),
                                    .all = batch,
                                    .few = batch};
    return gw_cuda_send(d, seqs) && gw_cuda_send(d, tables);
}

/* ---- steps ---- */

static enum gw_graph_way plain(struct gw_cuda_device *d, struct gw_graphs *g)
{
    d->told = (struct gw_cuda_told){0};
    g->counts.plain++;
    return GW_GRAPH_PLAIN;
}

static enum gw_graph_way fail(struct gw_cuda_device *d, struct gw_graphs *g, struct entry *e)
{
    drop(d, e);
    g->counts.failed++;
    return plain(d, g);
}

static gw_err_t launch(struct gw_cuda_device *d, struct gw_graph *graph)
{
    const struct gw_cuda_lane *l = &d->config.compute;
    return l->ops->graph_launch(l->self, graph, l->stream, NULL);
}

static enum gw_graph_way record(struct gw_cuda_device *d, struct gw_graphs *g, struct entry *e,
                                uint32_t *rows)
{
    const struct gw_cuda_lane *l = &d->config.compute;
    if (l->ops->capture_begin(l->self, l->stream, NULL) != GW_OK) return fail(d, g, e);
    gw_cuda_record(d);
    g->recorded = e;
    *rows = e->rows;
    return GW_GRAPH_RECORDS;
}

static enum gw_graph_way begin(struct gw_device *dev, struct gw_graphs *g, const struct gw_graph_step *step,
                               uint32_t *rows)
{
    struct gw_cuda_device *d = gw_cuda_of(dev);
    bool may = g->counts.failed < GW_GRAPH_FAILS_MAX && is_decoding(g, step) && gw_cuda_begin(d);
    struct entry *e = may ? entry_of(d, g, step) : NULL;
    if (!e) return plain(d, g);
    bool first = e->used == 0;
    e->used = ++g->uses;
    if (e->graph && e->arenas_changed != d->arenas_changed) {
        drop(d, e);
        first = true; /* its own list may have to be told anew */
    }
    if (first || !tell(d, step, e)) return plain(d, g);
    if (!e->graph) return record(d, g, e, rows);
    if (launch(d, e->graph) != GW_OK) return fail(d, g, e);
    g->counts.replayed++;
    return GW_GRAPH_REPLAYED;
}

static bool end(struct gw_device *dev, struct gw_graphs *g)
{
    struct gw_cuda_device *d = gw_cuda_of(dev);
    const struct gw_cuda_lane *l = &d->config.compute;
    struct entry *e = g->recorded;
    struct gw_graph *graph = NULL;
    bool whole = gw_cuda_recorded(d);
    gw_err_t err = l->ops->capture_end(l->self, l->stream, whole ? &graph : NULL, NULL);
    e->graph = err == GW_OK ? graph : NULL;
    e->arenas_changed = d->arenas_changed;
    if (!e->graph || launch(d, e->graph) != GW_OK) {
        (void)fail(d, g, e);
        return false;
    }
    g->counts.recorded++;
    return true;
}

static struct gw_graph_counts count(const struct gw_graphs *g)
{
    return g->counts;
}

const struct gw_graph_backend gw_cuda_graphs = {
    .create = create, .destroy = destroy, .begin = begin, .end = end, .count = count};
