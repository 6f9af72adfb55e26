/* The cluster as a picture: what it does, its pipelines as grids of cells, its workers.
 *
 *     pipeline 7 · serving · 12 requests
 *     groups ┌───────────┬───────────┬───────┐     one box per rank: its worker, and a mark per cell,
 *            │ w0        │ w1        │ w2    │     ■ loaded, □ being loaded; shares across, layer
 *          0 │ ■   ■   ■ │ ■   ■   ■ │ ■   ■ │     groups down (stages of deep models are drawn as one
 *          1 │ ■   ■   ■ │ ■   ■   ■ │ ■   ■ │     row of cells)
 *            └───────────┴───────────┴───────┘
 *
 * Pictures stand side by side as far as the canvas is wide.
 *
 * Owner: borrows the view, draws on the caller's canvas. Thread: main. Units: columns, rows. Errors: the canvas' own.
 * Source: own design. */
#ifndef GW_CONTROLLER_CLI_CLUSTER_PICTURE_H
#define GW_CONTROLLER_CLI_CLUSTER_PICTURE_H

#include "controller/cli/canvas.h"
#include "controller/cli/cluster_view.h"

/* What is measured between two looks; the controller's averages where there was only one. */
struct cluster_rates {
    double tokens_s, requests_s;
    bool measured;
};

/* Each draws from row y on, at most `rows` rows (0: all of it), and returns the first row behind. */
uint32_t cluster_picture_head(struct canvas *c, uint32_t y, const struct cluster_view *view,
                              const struct cluster_rates *rates);
uint32_t cluster_picture_pipelines(struct canvas *c, uint32_t y, uint32_t rows,
                                   const struct cluster_view *view);
uint32_t cluster_picture_workers(struct canvas *c, uint32_t y, uint32_t rows,
                                 const struct cluster_view *view);

#endif
