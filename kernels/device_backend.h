/* Device backend: what a device with memory of its own brings, behind kernels/device_memory.h and kernels/op.h.
 *
 * Every struct gw_device begins with a gw_device_base; the CPU's has no table.
 *
 * Owner: as in device_memory.h. Thread: as there. Units: bytes. Errors: as there. Source: own design. */
#ifndef GW_KERNELS_DEVICE_BACKEND_H
#define GW_KERNELS_DEVICE_BACKEND_H

#include "kernels/device_graph.h"
#include "kernels/device_memory.h"

#define GW_GPU_BYTES 16

struct gw_stream;
struct gw_stream_ops;

/* The stream that operations are put on, for collectives whose sums go there, too (kernels/cuda/coll_device.h). */
struct gw_device_lane {
    const struct gw_stream_ops *ops;
    void *self; /* ops' */
    struct gw_stream *stream;
    struct gw_stream *meet;    /* another one, for what may not wait for operations */
    uint8_t gpu[GW_GPU_BYTES]; /* which GPU it is, on any machine */
};

/* The streams on which ranges of memory come and go while operations go on (kernels/cuda/copy_ring.h). */
struct gw_copy_lane {
    const struct gw_stream_ops *ops;
    void *self; /* ops' */
    struct gw_stream *compute, *out, *in;
    int64_t deadline_us; /* of one copy */
};

/* What kernels/device_graph.h calls. */
struct gw_graph_backend {
    struct gw_graphs *(*create)(struct gw_device *dev, uint32_t max_rows);
    void (*destroy)(struct gw_device *dev, struct gw_graphs *graphs);
    enum gw_graph_way (*begin)(struct gw_device *dev, struct gw_graphs *graphs,
                               const struct gw_graph_step *step, uint32_t *rows);
    bool (*end)(struct gw_device *dev, struct gw_graphs *graphs);
    struct gw_graph_counts (*count)(const struct gw_graphs *graphs);
};

struct gw_device_backend {
    void (*destroy)(struct gw_device *dev);
    /* Device memory and, of PINNED, the host's side. */
    gw_err_t (*alloc)(struct gw_device *dev, struct gw_memory *m, struct gw_err_ctx *ctx);
    void (*free)(struct gw_device *dev, struct gw_memory *m);
    void (*put)(struct gw_device *dev, void *device, const void *host, size_t bytes);
    void (*put_now)(struct gw_device *dev, void *device, const void *host, size_t bytes);
    void (*get)(struct gw_device *dev, void *host, const void *device, size_t bytes);
    void (*move)(struct gw_device *dev, void *to, const void *from, size_t bytes);
    void (*fill)(struct gw_device *dev, void *device, uint8_t byte, size_t bytes);
    gw_err_t (*finish)(struct gw_device *dev, struct gw_err_ctx *ctx);
    void (*lane)(struct gw_device *dev, struct gw_device_lane *out);
    void (*copy_lane)(struct gw_device *dev, struct gw_copy_lane *out);
    /* A copy did not end by its deadline: what it names may still be used, and is never given back. Any thread. err: it may have
     * written what is somebody else's by then, the device must end; GW_OK: it only reads. */
    void (*leave)(struct gw_device *dev, gw_err_t err, const struct gw_err_ctx *ctx);
    const struct gw_graph_backend *graphs; /* NULL: there are none */
};

struct gw_device_base {
    const struct gw_device_backend *backend; /* NULL: the CPU */
    struct gw_device *host;                  /* of a device with a backend: the CPU's, borrowed */
};

/* NULL: the CPU. */
static inline const struct gw_device_backend *gw_device_backend(const struct gw_device *dev)
{
    return dev ? ((const struct gw_device_base *)(const void *)dev)->backend : NULL;
}

#endif
