/* Device graphs: a step's operations put on the device at once, where a step of the same shape has been before.
 *
 * A step of decoding is some hundred short operations: asking for them one by one can take longer than the device takes to do them.
 * A device that can records what is asked of it for one shape, without doing it, and from then on does all of it at one call. What
 * differs between steps of one shape (positions, block tables) is read by the operations from the device's memory, where begin puts
 * it; all else that they were given, addresses first, must be the same as when they were recorded. So graphs belong to
 * whoever owns activations and weights, and go with him.
 *
 *     begin says       the caller
 *     ──────────────   ──────────────────────────────────────────────────────────────────────────────────────────────────
 *     GRAPH_PLAIN      asks for the operations, of step.rows rows; no end follows
 *     GRAPH_RECORDS    asks for the operations, of *rows rows, then end; if that says false, it asks for them anew, of step.rows
 *     GRAPH_REPLAYED   nothing: they are under way
 *
 * A graph is of a number of rows that is a power of two: *rows >= step.rows. Rows behind step.rows are computed, too, and nobody's:
 * they belong to no sequence, so they touch no page. Every other row has the bits that it has without a graph, where a row
 * depends on its own sequence alone.
 *
 * Not recorded: a step with a sequence of more than one row, more than GW_GRAPH_ROWS_MAX rows or than the activations have,
 * operations that need the host's answer (the device says so at end), and what failed GW_GRAPH_FAILS_MAX times: there is no graph from
 * then on. None of these is an error.
 *
 * Owner: gw_graphs_destroy frees. Thread: that of the operations; between begin and end nothing but operations may be asked of the
 * device by it. Units: rows, tokens. Errors: none; a device keeps its own. Source: own design, after CUDA's stream capture. */
#ifndef GW_KERNELS_DEVICE_GRAPH_H
#define GW_KERNELS_DEVICE_GRAPH_H

#include "kernels/op.h"

#define GW_GRAPH_ROWS_MAX  256 /* of a graph: steps that are larger take longer than asking for them does */
#define GW_GRAPHS_MAX      32  /* of one owner: nine sizes of a batch times three or four lengths */
#define GW_GRAPH_FAILS_MAX 3

struct gw_graphs;

enum gw_graph_way { GW_GRAPH_PLAIN, GW_GRAPH_RECORDS, GW_GRAPH_REPLAYED };

struct gw_graph_step {
    uint32_t rows;
    const struct gw_seq_rows *seqs;
    uint32_t seqs_len;
    const struct gw_kv_layer *kv; /* of any layer: heads and tokens of a block are those of all */
    uint32_t heads;               /* query heads */
};

struct gw_graph_counts {
    uint32_t plain, recorded, replayed, failed; /* steps; failed: recordings that came to nothing */
};

/* max_rows: of the owner's activations. NULL: the device has no graphs, or there is no memory for them. */
struct gw_graphs *gw_graphs_create(struct gw_device *dev, uint32_t max_rows);
/* Nothing of them is under way. */
void gw_graphs_destroy(struct gw_device *dev, struct gw_graphs *graphs);

/* graphs NULL: always plain. */
enum gw_graph_way gw_graph_begin(struct gw_device *dev, struct gw_graphs *graphs,
                                 const struct gw_graph_step *step, uint32_t *rows);
bool gw_graph_end(struct gw_device *dev, struct gw_graphs *graphs);

/* What has been done so far. */
struct gw_graph_counts gw_graphs_count(struct gw_device *dev, const struct gw_graphs *graphs);

#endif
