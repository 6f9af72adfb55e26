/* Stream: the few calls of a device's runtime by which device memory is moved, as a table.
 *
 * Work is put on a stream in order and done later; an event that is recorded on it is done when all before it is. Nothing
 * here waits: who wants to know asks the event, again and again (kernels/cuda/coll_device.h has the one loop that does). So
 * a device, a library or a peer that hangs can be left.
 *
 * kernels/cuda/stream_cuda.h is CUDA's table; tests have one whose streams are threads (tests/lib/host_stream.h).
 *
 * Owner: memory and events are the caller's to give back, once no work that names them is under way. Thread: one at a
 * time. Units: bytes, elements (f32). Errors: GW_ERR_CUDA (the device said no; also what earlier work did), GW_ERR_MEMORY;
 * on error nothing was put on the stream and *out is unchanged. Source: own design. */
#ifndef GW_KERNELS_CUDA_STREAM_H
#define GW_KERNELS_CUDA_STREAM_H

#include "kernels/share_tree.h"

struct gw_stream; /* a cudaStream_t */
struct gw_event;  /* a cudaEvent_t */
struct gw_graph;  /* a cudaGraphExec_t */

/* A program of a share tree over rows in device memory: for each of adds in order, element by element,
 * rows[to] += rows[from]; then, if there is a residual, residual += rows[0]. f32, round to nearest; whether subnormal
 * numbers are kept is the profile's affair, the same in every addition. */
struct gw_row_sum {
    const struct gw_share_add *adds; /* [adds_len]; read before the call returns, as rows is */
    uint32_t adds_len;
    float *const *rows; /* [GW_SHARES_MAX] of [elems]; those that are not named may be NULL */
    float *residual;    /* [elems], or NULL */
    size_t elems;
};

struct gw_stream_ops {
    /* Makes the device the calling thread's; NULL: any thread may call. */
    gw_err_t (*enter)(void *self, struct gw_err_ctx *ctx);
    gw_err_t (*alloc)(void *self, size_t bytes, void **out, struct gw_err_ctx *ctx);
    void (*free)(void *self, void *memory);
    /* Page-locked memory of the host: copies from and to it do not hold up who asks for them. */
    gw_err_t (*alloc_pinned)(void *self, size_t bytes, void **out, struct gw_err_ctx *ctx);
    void (*free_pinned)(void *self, void *memory);

    gw_err_t (*event_create)(void *self, struct gw_event **out, struct gw_err_ctx *ctx);
    void (*event_destroy)(void *self, struct gw_event *event);
    gw_err_t (*event_record)(void *self, struct gw_event *event, struct gw_stream *stream,
                             struct gw_err_ctx *ctx);
    gw_err_t (*event_query)(void *self, struct gw_event *event, bool *done, struct gw_err_ctx *ctx);
    /* What is put on the stream from here on begins when all before the event's latest record is done. NULL: streams of these calls
     * do not wait for each other. */
    gw_err_t (*wait)(void *self, struct gw_stream *stream, struct gw_event *event, struct gw_err_ctx *ctx);

    /* Each of to and from in device or pinned memory. */
    gw_err_t (*copy)(void *self, void *to, const void *from, size_t bytes, struct gw_stream *stream,
                     struct gw_err_ctx *ctx);
    /* Of device memory. */
    gw_err_t (*fill)(void *self, void *to, uint8_t byte, size_t bytes, struct gw_stream *stream,
                     struct gw_err_ctx *ctx);
    gw_err_t (*sum)(void *self, const struct gw_row_sum *sum, struct gw_stream *stream,
                    struct gw_err_ctx *ctx);

    /* What the calling thread puts on the stream from here to the end is not done, but becomes a graph; all four are NULL where
     * there are none. A copy reads what lies at its source when the graph is done. out NULL: the graph is thrown away; there is none
     * after an error, and the stream is as before capture_begin. */
    gw_err_t (*capture_begin)(void *self, struct gw_stream *stream, struct gw_err_ctx *ctx);
    gw_err_t (*capture_end)(void *self, struct gw_stream *stream, struct gw_graph **out,
                            struct gw_err_ctx *ctx);
    gw_err_t (*graph_launch)(void *self, struct gw_graph *graph, struct gw_stream *stream,
                             struct gw_err_ctx *ctx);
    void (*graph_destroy)(void *self, struct gw_graph *graph);
};

#endif
