#include "kernels/cuda/stream_cuda.h"

#include <dlfcn.h>
#include <string.h>

/* Of driver_types.h. */
#define CUDA_SUCCESS              0
#define CUDA_MEMORY_ALLOCATION    2
#define CUDA_NOT_READY            600
#define CUDA_MEMCPY_DEFAULT       4
#define CUDA_STREAM_NON_BLOCKING  1u
#define CUDA_EVENT_DISABLE_TIMING 2u

static const char *const libraries[] = {"libcudart.so.13", "libcudart.so.12"};

static const struct call {
    const char *name;
    size_t at;
} calls[] = {
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
    {"cudaMemcpyAsync", offsetof(struct gw_cuda_runtime, memcpy_async)},
};

static gw_err_t check(const struct gw_stream_cuda *s, int error, const char *what, struct gw_err_ctx *ctx)
{
    if (error == CUDA_SUCCESS) return GW_OK;
    const char *words = s->cuda.error_string(error);
    return gw_fail(ctx, error == CUDA_MEMORY_ALLOCATION ? GW_ERR_MEMORY : GW_ERR_CUDA, "%s: %s", what,
                   words ? words : "unknown error");
}

static gw_err_t load(struct gw_stream_cuda *s, const char *path, struct gw_err_ctx *ctx)
{
    const char *why = NULL;
    s->library = dlopen(path ? path : libraries[0], RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    for (size_t i = 1; !path && !s->library && i < sizeof libraries / sizeof *libraries; i++)
        s->library = dlopen(libraries[i], RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!s->library) why = dlerror();
    if (!s->library)
        return gw_fail(ctx, GW_ERR_NOT_FOUND, "CUDA's runtime cannot be loaded: %s", why ? why : "unknown");
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        void *address = dlsym(s->library, calls[i].name);
        if (!address)
            return gw_fail(ctx, GW_ERR_NOT_FOUND, "%s has no %s", path ? path : "CUDA's runtime",
                           calls[i].name);
        memcpy((char *)&s->cuda + calls[i].at, &address, sizeof address);
    }
    return GW_OK;
}

gw_err_t gw_stream_cuda_enter(struct gw_stream_cuda *s, struct gw_err_ctx *ctx)
{
    return check(s, s->cuda.set_device(s->device), "cudaSetDevice", ctx);
}

gw_err_t gw_stream_cuda_open(const char *path, int device, gw_row_sum_fn *sum, struct gw_stream_cuda *out,
                             struct gw_err_ctx *ctx)
{
    struct gw_stream_cuda s = {.device = device, .sum = sum};
    gw_err_t err = load(&s, path, ctx);
    if (err == GW_OK) err = gw_stream_cuda_enter(&s, ctx);
    if (err == GW_OK)
        err = check(&s, s.cuda.stream_create(&s.stream, CUDA_STREAM_NON_BLOCKING), "cudaStreamCreate", ctx);
    if (err == GW_OK)
        *out = s;
    else if (s.library)
        dlclose(s.library);
    return err;
}

void gw_stream_cuda_close(struct gw_stream_cuda *s)
{
    if (s->stream) (void)s->cuda.stream_destroy(s->stream);
    if (s->library) dlclose(s->library);
    *s = (struct gw_stream_cuda){0};
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

static gw_err_t copy(void *self, void *to, const void *from, size_t bytes, struct gw_stream *stream,
                     struct gw_err_ctx *ctx)
{
    struct gw_stream_cuda *s = self;
    return check(s, s->cuda.memcpy_async(to, from, bytes, CUDA_MEMCPY_DEFAULT, stream), "cudaMemcpyAsync",
                 ctx);
}

static gw_err_t sum(void *self, const struct gw_row_sum *job, struct gw_stream *stream,
                    struct gw_err_ctx *ctx)
{
    return ((struct gw_stream_cuda *)self)->sum(job, stream, ctx);
}

const struct gw_stream_ops gw_stream_cuda_ops = {
    .alloc = alloc_device,
    .free = free_device,
    .alloc_pinned = alloc_pinned,
    .free_pinned = free_pinned,
    .event_create = event_create,
    .event_destroy = event_destroy,
    .event_record = event_record,
    .event_query = event_query,
    .copy = copy,
    .sum = sum,
};
