#include "kernels/cuda/stream_cuda.h"

#include <dlfcn.h>

#include "base/dl_calls.h"

/* Of driver_types.h. */
#define CUDA_SUCCESS              0
#define CUDA_MEMORY_ALLOCATION    2
#define CUDA_NOT_READY            600
#define CUDA_MEMCPY_DEFAULT       4
#define CUDA_STREAM_NON_BLOCKING  1u
#define CUDA_EVENT_DISABLE_TIMING 2u
#define CUDA_CAPTURE_THREAD_LOCAL 1

static const char *const libraries[] = {"libcudart.so.13", "libcudart.so.12"};

static const struct gw_dl_call calls[] = {
    {"cudaGetErrorString", offsetof(struct gw_cuda_runtime, error_string)},
    {"cudaSetDevice", offsetof(struct gw_cuda_runtime, set_device)},
    {"cudaMalloc", offsetof(struct gw_cuda_runtime, malloc_device)},
    {"cudaFree", offsetof(struct gw_cuda_runtime, free_device)},
    {"cudaHostAlloc", offsetof(struct gw_cuda_runtime, host_alloc)},
    {"cudaFreeHost", offsetof(struct gw_cuda_runtime, free_host)},
    {"cudaStreamCreateWithFlags", offsetof(struct gw_cuda_runtime, stream_create)},
    {"cudaStreamDestroy", offsetof(struct gw_cuda_runtime, stream_destroy)},
    {"cudaEventCreateWithFlags", offsetof(struct gw_cuda_runtime, event_create)},
    {"cudaEventDestroy", offsetof(struct gw_cuda_runtime, event_destroy)},
    {"cudaEventRecord", offsetof(struct gw_cuda_runtime, event_record)},
    {"cudaEventQuery", offsetof(struct gw_cuda_runtime, event_query)},
    {"cudaStreamWaitEvent", offsetof(struct gw_cuda_runtime, stream_wait)},
    {"cudaMemcpyAsync", offsetof(struct gw_cuda_runtime, memcpy_async)},
    {"cudaMemsetAsync", offsetof(struct gw_cuda_runtime, memset_async)},
    {"cudaGetLastError", offsetof(struct gw_cuda_runtime, get_last_error)},
    {"cudaStreamBeginCapture", offsetof(struct gw_cuda_runtime, begin_capture)},
    {"cudaStreamEndCapture", offsetof(struct gw_cuda_runtime, end_capture)},
    {"cudaGraphInstantiateWithFlags", offsetof(struct gw_cuda_runtime, graph_instantiate)},
    {"cudaGraphDestroy", offsetof(struct gw_cuda_runtime, graph_destroy)},
    {"cudaGraphLaunch", offsetof(struct gw_cuda_runtime, graph_launch)},
    {"cudaGraphExecDestroy", offsetof(struct gw_cuda_runtime, graph_exec_destroy)},
};

static const struct gw_dl_library runtime = {
    .name = "CUDA's runtime",
    .files = libraries,
    .files_len = sizeof libraries / sizeof *libraries,
    .calls = calls,
    .calls_len = sizeof calls / sizeof *calls,
    .from = "",
    .need = "",
};

static gw_err_t check(const struct gw_stream_cuda *s, int error, const char *what, struct gw_err_ctx *ctx)
{
    if (error == CUDA_SUCCESS) return GW_OK;
    const char *words = s->cuda.error_string(error);
    return gw_fail(ctx, error == CUDA_MEMORY_ALLOCATION ? GW_ERR_MEMORY : GW_ERR_CUDA, "%s: %s", what,
                   words ? words : "unknown error");
}

gw_err_t gw_stream_cuda_enter(struct gw_stream_cuda *s, struct gw_err_ctx *ctx)
{
    return check(s, s->cuda.set_device(s->device), "cudaSetDevice", ctx);
}

static gw_err_t create_stream(struct gw_stream_cuda *s, struct gw_err_ctx *ctx)
{
    TRY(gw_stream_cuda_enter(s, ctx));
    return check(s, s->cuda.stream_create(&s->stream, CUDA_STREAM_NON_BLOCKING), "cudaStreamCreate", ctx);
}

gw_err_t gw_stream_cuda_use(const struct gw_cuda_runtime *cuda, int device, gw_row_sum_fn *sum,
                            struct gw_stream_cuda *out, struct gw_err_ctx *ctx)
{
    struct gw_stream_cuda s = {.cuda = *cuda, .device = device, .sum = sum};
    TRY(create_stream(&s, ctx));
    *out = s;
    return GW_OK;
}

gw_err_t gw_stream_cuda_open(const char *path, int device, gw_row_sum_fn *sum, struct gw_stream_cuda *out,
                             struct gw_err_ctx *ctx)
{
    struct gw_stream_cuda s = {.device = device, .sum = sum};
    TRY(gw_dl_open(&runtime, path, &s.cuda, &s.library, ctx));
    gw_err_t err = create_stream(&s, ctx);
    if (err == GW_OK)
        *out = s;
    else
        dlclose(s.library);
    return err;
}

void gw_stream_cuda_close(struct gw_stream_cuda *s)
{
    if (s->stream) (void)s->cuda.stream_destroy(s->stream);
    if (s->library) dlclose(s->library);
    *s = (struct gw_stream_cuda){0};
}

static gw_err_t enter(void *self, struct gw_err_ctx *ctx)
{
    return gw_stream_cuda_enter(self, ctx);
}

static gw_err_t alloc_device(void *self, size_t bytes, void **out, struct gw_err_ctx *ctx)
{
    struct gw_stream_cuda *s = self;
    void *memory = NULL;
    TRY(check(s, s->cuda.malloc_device(&memory, bytes), "cudaMalloc", ctx));
    *out = memory;
    return GW_OK;
}

static void free_device(void *self, void *memory)
{
    (void)((struct gw_stream_cuda *)self)->cuda.free_device(memory);
}

static gw_err_t alloc_pinned(void *self, size_t bytes, void **out, struct gw_err_ctx *ctx)
{
    struct gw_stream_cuda *s = self;
    void *memory = NULL;
    TRY(check(s, s->cuda.host_alloc(&memory, bytes, 0), "cudaHostAlloc", ctx));
    *out = memory;
    return GW_OK;
}

static void free_pinned(void *self, void *memory)
{
    (void)((struct gw_stream_cuda *)self)->cuda.free_host(memory);
}

static gw_err_t event_create(void *self, struct gw_event **out, struct gw_err_ctx *ctx)
{
    struct gw_stream_cuda *s = self;
    struct gw_event *event = NULL;
    TRY(check(s, s->cuda.event_create(&event, CUDA_EVENT_DISABLE_TIMING), "cudaEventCreate", ctx));
    *out = event;
    return GW_OK;
}

static void event_destroy(void *self, struct gw_event *event)
{
    (void)((struct gw_stream_cuda *)self)->cuda.event_destroy(event);
}

static gw_err_t event_record(void *self, struct gw_event *event, struct gw_stream *stream,
                             struct gw_err_ctx *ctx)
{
    struct gw_stream_cuda *s = self;
    return check(s, s->cuda.event_record(event, stream), "cudaEventRecord", ctx);
}

static gw_err_t event_query(void *self, struct gw_event *event, bool *done, struct gw_err_ctx *ctx)
{
    struct gw_stream_cuda *s = self;
    int error = s->cuda.event_query(event);
    if (error != CUDA_NOT_READY) TRY(check(s, error, "cudaEventQuery", ctx));
    *done = error == CUDA_SUCCESS;
    return GW_OK;
}

static gw_err_t wait_for(void *self, struct gw_stream *stream, struct gw_event *event, struct gw_err_ctx *ctx)
{
    struct gw_stream_cuda *s = self;
    return check(s, s->cuda.stream_wait(stream, event, 0), "cudaStreamWaitEvent", ctx);
}

static gw_err_t copy(void *self, void *to, const void *from, size_t bytes, struct gw_stream *stream,
                     struct gw_err_ctx *ctx)
{
    struct gw_stream_cuda *s = self;
    return check(s, s->cuda.memcpy_async(to, from, bytes, CUDA_MEMCPY_DEFAULT, stream), "cudaMemcpyAsync",
                 ctx);
}

static gw_err_t fill(void *self, void *to, uint8_t byte, size_t bytes, struct gw_stream *stream,
                     struct gw_err_ctx *ctx)
{
    struct gw_stream_cuda *s = self;
    return check(s, s->cuda.memset_async(to, byte, bytes, stream), "cudaMemsetAsync", ctx);
}

static gw_err_t sum(void *self, const struct gw_row_sum *job, struct gw_stream *stream,
                    struct gw_err_ctx *ctx)
{
    return ((struct gw_stream_cuda *)self)->sum(job, stream, ctx);
}

/* A call of graphs that may fail without harm: its error must not be found by the launch behind it. */
static gw_err_t check_graph(struct gw_stream_cuda *s, int error, const char *what, struct gw_err_ctx *ctx)
{
    if (error != CUDA_SUCCESS) (void)s->cuda.get_last_error();
    return check(s, error, what, ctx);
}

static gw_err_t capture_begin(void *self, struct gw_stream *stream, struct gw_err_ctx *ctx)
{
    struct gw_stream_cuda *s = self;
    return check_graph(s, s->cuda.begin_capture(stream, CUDA_CAPTURE_THREAD_LOCAL), "cudaStreamBeginCapture",
                       ctx);
}

static gw_err_t capture_end(void *self, struct gw_stream *stream, struct gw_graph **out,
                            struct gw_err_ctx *ctx)
{
    struct gw_stream_cuda *s = self;
    struct gw_graph *made = NULL;
    void *graph = NULL;
    TRY(check_graph(s, s->cuda.end_capture(stream, &graph), "cudaStreamEndCapture", ctx));
    int error = out ? s->cuda.graph_instantiate(&made, graph, 0) : CUDA_SUCCESS;
    (void)s->cuda.graph_destroy(graph);
    TRY(check_graph(s, error, "cudaGraphInstantiate", ctx));
    if (out) *out = made;
    return GW_OK;
}

static gw_err_t graph_launch(void *self, struct gw_graph *graph, struct gw_stream *stream,
                             struct gw_err_ctx *ctx)
{
    struct gw_stream_cuda *s = self;
    return check_graph(s, s->cuda.graph_launch(graph, stream), "cudaGraphLaunch", ctx);
}

static void graph_destroy(void *self, struct gw_graph *graph)
{
    (void)((struct gw_stream_cuda *)self)->cuda.graph_exec_destroy(graph);
}

const struct gw_stream_ops gw_stream_cuda_ops = {
    .enter = enter,
    .alloc = alloc_device,
    .free = free_device,
    .alloc_pinned = alloc_pinned,
    .free_pinned = free_pinned,
    .event_create = event_create,
    .event_destroy = event_destroy,
    .event_record = event_record,
    .event_query = event_query,
    .wait = wait_for,
    .copy = copy,
    .fill = fill,
    .sum = sum,
    .capture_begin = capture_begin,
    .capture_end = capture_end,
    .graph_launch = graph_launch,
    .graph_destroy = graph_destroy,
};
