#include "kernels/device_graph.h"

#include "kernels/device_backend.h"

static const struct gw_graph_backend *backend_of(const struct gw_device *dev)
{
    const struct gw_device_backend *b = gw_device_backend(dev);
    return b ? b->graphs : NULL;
}

struct gw_graphs *gw_graphs_create(struct gw_device *dev, uint32_t max_rows)
{
    const struct gw_graph_backend *b = backend_of(dev);
    return b ? b->create(dev, max_rows) : NULL;
}

void gw_graphs_destroy(struct gw_device *dev, struct gw_graphs *graphs)
{
    if (graphs) backend_of(dev)->destroy(dev, graphs);
}

enum gw_graph_way gw_graph_begin(struct gw_device *dev, struct gw_graphs *graphs,
                                 const struct gw_graph_step *step, uint32_t *rows)
{
    *rows = step->rows;
    return graphs ? backend_of(dev)->begin(dev, graphs, step, rows) : GW_GRAPH_PLAIN;
}

bool gw_graph_end(struct gw_device *dev, struct gw_graphs *graphs)
{
    return backend_of(dev)->end(dev, graphs);
}

struct gw_graph_counts gw_graphs_count(struct gw_device *dev, const struct gw_graphs *graphs)
{
    return graphs ? backend_of(dev)->count(graphs) : (struct gw_graph_counts){0};
}
