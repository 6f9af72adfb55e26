/* The table of kernels/cuda/stream.h over the CUDA runtime, and a stream of it. The runtime is loaded when the program runs, or
 * the one that the caller was linked with.
 *
 * Nothing of CUDA is needed to build this; where no runtime or device is, gw_stream_cuda_open says so in one line. The sum is
 * a kernel of the caller's, since kernels are built by nvcc alone.
 *
 *     table                        CUDA runtime
 *     ──────────────────────────   ──────────────────────────────────────────────────────────────
 *     alloc, free                  cudaMalloc, cudaFree
 *     alloc_pinned, free_pinned    cudaHostAlloc, cudaFreeHost
 *     event_create …               cudaEventCreateWithFlags(cudaEventDisableTiming) …
 *     event_query                  cudaEventQuery; cudaErrorNotReady is "not done"
 *     copy                         cudaMemcpyAsync(cudaMemcpyDefault): addresses say what they are
 *     fill                         cudaMemsetAsync
 *     the stream                   cudaStreamCreateWithFlags(cudaStreamNonBlocking)
 *     capture_begin                cudaStreamBeginCapture(cudaStreamCaptureModeThreadLocal): other threads allocate and copy meanwhile
 *     capture_end                  cudaStreamEndCapture, cudaGraphInstantiateWithFlags
 *     graph_launch …               cudaGraphLaunch, cudaGraphExecDestroy
 *
 * Owner: gw_stream_cuda_close ends the stream, at rest by then; the library stays mapped. Thread: gw_stream_cuda_enter first,
 * in each that uses it but the one that opened it; one at a time. Units: bytes. Errors: GW_ERR_NOT_FOUND (no library, or one
 * without a call), GW_ERR_MEMORY, GW_ERR_CUDA with CUDA's words. Not run on a GPU yet. Source: the declarations of
 * cuda_runtime_api.h, CUDA 13.0; the same since 11.4. */
#ifndef GW_KERNELS_CUDA_STREAM_CUDA_H
#define GW_KERNELS_CUDA_STREAM_CUDA_H

#include "kernels/cuda/stream.h"

typedef gw_err_t gw_row_sum_fn(const struct gw_row_sum *sum, struct gw_stream *stream,
                               struct gw_err_ctx *ctx);

/* What is called; the integers are CUDA's enumerations and flags. */
struct gw_cuda_runtime {
    const char *(*error_string)(int error);
    int (*set_device)(int device);
    int (*malloc_device)(void **out, size_t bytes);
    int (*free_device)(void *memory);
    int (*host_alloc)(void **out, size_t bytes, unsigned flags);
    int (*free_host)(void *memory);
    int (*stream_create)(struct gw_stream **out, unsigned flags);
    int (*stream_destroy)(struct gw_stream *stream);
    int (*event_create)(struct gw_event **out, unsigned flags);
    int (*event_destroy)(struct gw_event *event);
    int (*event_record)(struct gw_event *event, struct gw_stream *stream);
    int (*event_query)(struct gw_event *event);
    int (*stream_wait)(struct gw_stream *stream, struct gw_event *event, unsigned flags);
    int (*memcpy_async)(void *to, const void *from, size_t bytes, int kind, struct gw_stream *stream);
    int (*memset_async)(void *to, int byte, size_t bytes, struct gw_stream *stream);
    int (*get_last_error)(void); /* and forgets it */
    int (*begin_capture)(struct gw_stream *stream, int mode);
    int (*end_capture)(struct gw_stream *stream, void **graph);
    int (*graph_instantiate)(struct gw_graph **out, void *graph, unsigned long long flags);
    int (*graph_destroy)(void *graph);
    int (*graph_launch)(struct gw_graph *graph, struct gw_stream *stream);
    int (*graph_exec_destroy)(struct gw_graph *graph);
};

/* self of gw_stream_cuda_ops */
struct gw_stream_cuda {
    void *library; /* NULL: the caller's */
    struct gw_cuda_runtime cuda;
    int device;
    gw_row_sum_fn *sum;
    struct gw_stream *stream;
};

extern const struct gw_stream_ops gw_stream_cuda_ops;

/* path NULL: libcudart.so.13, then .12, where the system looks for libraries. On error *out is unchanged. */
gw_err_t gw_stream_cuda_open(const char *path, int device, gw_row_sum_fn *sum, struct gw_stream_cuda *out,
                             struct gw_err_ctx *ctx) GW_MUST_USE;
/* The same over calls that the caller has. */
gw_err_t gw_stream_cuda_use(const struct gw_cuda_runtime *cuda, int device, gw_row_sum_fn *sum,
                            struct gw_stream_cuda *out, struct gw_err_ctx *ctx) GW_MUST_USE;
void gw_stream_cuda_close(struct gw_stream_cuda *s);

/* Makes the device the calling thread's. */
gw_err_t gw_stream_cuda_enter(struct gw_stream_cuda *s, struct gw_err_ctx *ctx) GW_MUST_USE;

#endif
