/* The library's one symbol: a GPU, its streams, and the device over them. It is linked with CUDA's runtime; the driver is the
 * machine's. */
#include "kernels/cuda/cuda_library.h"

#if __has_include(<cublasLt.h>)
#include <cublasLt.h>
#define HAS_CUBLASLT_H 1
#endif
#include <cuda_runtime_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/stream_cuda.h"
#include "kernels/device_backend.h"

#define CAPABILITY_MIN 80                  /* bf16 tensor cores, cp.async */
#define HIDDEN_MAX     16384               /* rmsnorm.cu: a row in shared memory */
#define HEAD_DIM_MAX   256                 /* attention_tiles.cuh, rope_append.cu */
#define BYTES_MIN      ((size_t)512 << 20) /* the device's own rooms are 290 MiB, CUDA's own 200 or so */

/* What cublas_api.h says in the library's stead. */
#ifdef HAS_CUBLASLT_H
_Static_assert(sizeof(cublasLtMatmulAlgo_t) == sizeof(struct gw_cublas_algo) &&
                   sizeof(cublasLtMatmulHeuristicResult_t) == sizeof(struct gw_cublas_choice) &&
                   offsetof(cublasLtMatmulHeuristicResult_t, workspaceSize) ==
                       offsetof(struct gw_cublas_choice, workspace_bytes) &&
                   offsetof(cublasLtMatmulHeuristicResult_t, state) ==
                       offsetof(struct gw_cublas_choice, status),
               "the form of a choice");
_Static_assert((int)CUBLAS_STATUS_ALLOC_FAILED == GW_CUBLAS_ALLOC_FAILED &&
                   (int)CUBLAS_STATUS_NOT_SUPPORTED == GW_CUBLAS_NOT_SUPPORTED,
               "statuses");
_Static_assert((int)CUDA_R_32F == GW_CUBLAS_F32 && (int)CUDA_R_16BF == GW_CUBLAS_BF16 &&
                   (int)CUBLAS_COMPUTE_32F == GW_CUBLAS_COMPUTE_F32 &&
                   (int)CUBLAS_OP_T == GW_CUBLAS_TRANSPOSED,
               "types");
_Static_assert((int)CUBLASLT_MATMUL_DESC_TRANSA == GW_CUBLAS_DESC_TRANS_A &&
                   (int)CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES == GW_CUBLAS_PREFER_WORKSPACE &&
                   (int)CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES == GW_CUBLAS_PREFER_ALIGN_A &&
                   (int)CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES == GW_CUBLAS_PREFER_ALIGN_A + 3,
               "attributes");
#endif

struct inside {
    struct gw_stream_cuda compute, transfer, meet, pages_out, pages_in;
    struct gw_cublas_api cublas; /* of the fast profile */
    struct gw_device *device;
};

/* CUDA's enumerations and handles as the table names them. */
static const char *error_string(int error)
{
    return cudaGetErrorString((cudaError_t)error);
}

static int set_device(int device)
{
    return (int)cudaSetDevice(device);
}

static int malloc_device(void **out, size_t bytes)
{
    return (int)cudaMalloc(out, bytes);
}

static int free_device(void *memory)
{
    return (int)cudaFree(memory);
}

static int host_alloc(void **out, size_t bytes, unsigned flags)
{
    return (int)cudaHostAlloc(out, bytes, flags);
}

static int free_host(void *memory)
{
    return (int)cudaFreeHost(memory);
}

static int stream_create(struct gw_stream **out, unsigned flags)
{
    return (int)cudaStreamCreateWithFlags((cudaStream_t *)(void *)out, flags);
}

static int stream_destroy(struct gw_stream *stream)
{
    return (int)cudaStreamDestroy((cudaStream_t)(void *)stream);
}

static int event_create(struct gw_event **out, unsigned flags)
{
    return (int)cudaEventCreateWithFlags((cudaEvent_t *)(void *)out, flags);
}

static int event_destroy(struct gw_event *event)
{
    return (int)cudaEventDestroy((cudaEvent_t)(void *)event);
}

static int event_record(struct gw_event *event, struct gw_stream *stream)
{
    return (int)cudaEventRecord((cudaEvent_t)(void *)event, (cudaStream_t)(void *)stream);
}

static int event_query(struct gw_event *event)
{
    return (int)cudaEventQuery((cudaEvent_t)(void *)event);
}

static int stream_wait(struct gw_stream *stream, struct gw_event *event, unsigned flags)
{
    return (int)cudaStreamWaitEvent((cudaStream_t)(void *)stream, (cudaEvent_t)(void *)event, flags);
}

static int memcpy_async(void *to, const void *from, size_t bytes, int kind, struct gw_stream *stream)
{
    return (int)cudaMemcpyAsync(to, from, bytes, (enum cudaMemcpyKind)kind, (cudaStream_t)(void *)stream);
}

static int memset_async(void *to, int byte, size_t bytes, struct gw_stream *stream)
{
    return (int)cudaMemsetAsync(to, byte, bytes, (cudaStream_t)(void *)stream);
}

static int get_last_error(void)
{
    return (int)cudaGetLastError();
}

static int begin_capture(struct gw_stream *stream, int mode)
{
    return (int)cudaStreamBeginCapture((cudaStream_t)(void *)stream, (enum cudaStreamCaptureMode)mode);
}

static int end_capture(struct gw_stream *stream, void **graph)
{
    return (int)cudaStreamEndCapture((cudaStream_t)(void *)stream, (cudaGraph_t *)(void *)graph);
}

static int graph_instantiate(struct gw_graph **out, void *graph, unsigned long long flags)
{
    return (int)cudaGraphInstantiateWithFlags((cudaGraphExec_t *)(void *)out, (cudaGraph_t)graph, flags);
}

static int graph_destroy(void *graph)
{
    return (int)cudaGraphDestroy((cudaGraph_t)graph);
}

static int graph_launch(struct gw_graph *graph, struct gw_stream *stream)
{
    return (int)cudaGraphLaunch((cudaGraphExec_t)(void *)graph, (cudaStream_t)(void *)stream);
}

static int graph_exec_destroy(struct gw_graph *graph)
{
    return (int)cudaGraphExecDestroy((cudaGraphExec_t)(void *)graph);
}

static const struct gw_cuda_runtime runtime = {.error_string = error_string,
                                               .set_device = set_device,
                                               .malloc_device = malloc_device,
                                               .free_device = free_device,
                                               .host_alloc = host_alloc,
                                               .free_host = free_host,
                                               .stream_create = stream_create,
                                               .stream_destroy = stream_destroy,
                                               .event_create = event_create,
                                               .event_destroy = event_destroy,
                                               .event_record = event_record,
                                               .event_query = event_query,
                                               .stream_wait = stream_wait,
                                               .memcpy_async = memcpy_async,
                                               .memset_async = memset_async,
                                               .get_last_error = get_last_error,
                                               .begin_capture = begin_capture,
                                               .end_capture = end_capture,
                                               .graph_instantiate = graph_instantiate,
                                               .graph_destroy = graph_destroy,
                                               .graph_launch = graph_launch,
                                               .graph_exec_destroy = graph_exec_destroy};

/* Is there a driver that this runtime can use, and such a GPU? */
static gw_err_t find(int ordinal, struct gw_err_ctx *ctx)
{
    int driver = 0, needed = 0, count = 0;
    (void)cudaRuntimeGetVersion(&needed);
    cudaError_t error = cudaDriverGetVersion(&driver);
    if (error != cudaSuccess || driver == 0)
        return gw_fail(ctx, GW_ERR_NOT_FOUND,
                       "a driver of NVIDIA for CUDA %d.%d is needed, and there is none (libcuda.so.1)",
                       needed / 1000, needed % 1000 / 10);
    error = cudaGetDeviceCount(&count);
    if (error == cudaErrorInsufficientDriver)
        return gw_fail(ctx, GW_ERR_NOT_FOUND,
                       "a driver of NVIDIA for CUDA %d.%d is needed, the one here is for %d.%d",
                       needed / 1000, needed % 1000 / 10, driver / 1000, driver % 1000 / 10);
    if (error != cudaSuccess && error != cudaErrorNoDevice)
        return gw_fail(ctx, GW_ERR_CUDA, "cudaGetDeviceCount: %s", cudaGetErrorString(error));
    if (ordinal < count) return GW_OK;
    return gw_fail(ctx, GW_ERR_NOT_FOUND, "there is no GPU %d: this machine has %d", ordinal, count);
}

static gw_err_t ask(cudaError_t error, const char *what, struct gw_err_ctx *ctx)
{
    if (error == cudaSuccess) return GW_OK;
    return gw_fail(ctx, GW_ERR_CUDA, "%s: %s", what, cudaGetErrorString(error));
}

/* What it is, and whether kernels can run there. */
static gw_err_t look_at(int ordinal, int *capability, char model[GW_CUDA_MODEL_MAX],
                        uint8_t gpu[GW_GPU_BYTES], struct gw_err_ctx *ctx)
{
    struct cudaDeviceProp p;
    size_t free_bytes = 0, all_bytes = 0;
    TRY(ask(cudaGetDeviceProperties(&p, ordinal), "cudaGetDeviceProperties", ctx));
    TRY(ask(cudaSetDevice(ordinal), "cudaSetDevice", ctx));
    *capability = p.major * 10 + p.minor;
    snprintf(model, GW_CUDA_MODEL_MAX, "%s", p.name);
    memcpy(gpu, p.uuid.bytes, GW_GPU_BYTES);
    if (*capability < CAPABILITY_MIN)
        return gw_fail(ctx, GW_ERR_NOT_FOUND, "%s has compute capability %d.%d: 8.0 is needed", model,
                       p.major, p.minor);
    TRY(ask(cudaMemGetInfo(&free_bytes, &all_bytes), "cudaMemGetInfo", ctx));
    if (free_bytes >= BYTES_MIN) return GW_OK;
    return gw_fail(ctx, GW_ERR_MEMORY,
                   "%s has %zu MiB of memory left of %zu: %zu are needed before any weight", model,
                   free_bytes >> 20, all_bytes >> 20, BYTES_MIN >> 20);
}

static void close_inside(struct inside *in)
{
    if (in->device) gw_device_backend(in->device)->destroy(in->device);
    if (in->compute.stream) gw_stream_cuda_close(&in->compute);
    if (in->transfer.stream) gw_stream_cuda_close(&in->transfer);
    if (in->meet.stream) gw_stream_cuda_close(&in->meet);
    if (in->pages_out.stream) gw_stream_cuda_close(&in->pages_out);
    if (in->pages_in.stream) gw_stream_cuda_close(&in->pages_in);
    gw_cublas_close(&in->cublas);
    free(in);
}

static struct gw_cuda_lane lane_of(struct gw_stream_cuda *s)
{
    return (struct gw_cuda_lane){.ops = &gw_stream_cuda_ops, .self = s, .stream = s->stream};
}

static gw_err_t make(struct inside *in, const struct gw_cuda_open_config *c, int capability,
                     const uint8_t gpu[GW_GPU_BYTES], const struct gw_ops **ops, struct gw_err_ctx *ctx)
{
    char name[GW_CUDA_NAME_MAX];
    snprintf(name, sizeof name, "cuda-sm%d", capability);
    bool fast = c->fast && gw_cuda_can_be_fast(c->act, c->weight);
    if (fast) {
        gw_err_t err = gw_cublas_open(NULL, &in->cublas, ctx);
        if (err != GW_OK) return gw_fail_prefix(ctx, err, "the fast profile");
    }
    TRY(gw_stream_cuda_use(&runtime, c->ordinal, gw_cuda_row_sum, &in->compute, ctx));
    TRY(gw_stream_cuda_use(&runtime, c->ordinal, NULL, &in->transfer, ctx));
    TRY(gw_stream_cuda_use(&runtime, c->ordinal, NULL, &in->meet, ctx));
    TRY(gw_stream_cuda_use(&runtime, c->ordinal, NULL, &in->pages_out, ctx));
    TRY(gw_stream_cuda_use(&runtime, c->ordinal, NULL, &in->pages_in, ctx));
    struct gw_cuda_device_config config = {.name = name,
                                           .act = c->act,
                                           .weight = c->weight,
                                           .kv = c->kv,
                                           .compute = lane_of(&in->compute),
                                           .transfer = lane_of(&in->transfer),
                                           .meet = in->meet.stream,
                                           .pages_out = lane_of(&in->pages_out),
                                           .pages_in = in->pages_in.stream,
                                           .host = c->host,
                                           .host_ops = c->host_ops,
                                           .deadline_us = c->deadline_us,
                                           .cublas = fast ? &in->cublas : NULL,
                                           .fast_rows = c->fast_rows,
                                           .graphs = c->graphs};
    memcpy(config.gpu, gpu, sizeof config.gpu);
    return gw_cuda_device_create(&config, &in->device, ops, ctx);
}

static gw_err_t open_gpu(const struct gw_cuda_open_config *config, struct gw_cuda_opened *out,
                         struct gw_err_ctx *ctx)
{
    struct gw_cuda_opened o = {0};
    int capability = 0;
    uint8_t gpu[GW_GPU_BYTES];
    size_t free_bytes = 0, all_bytes = 0;
    TRY(find(config->ordinal, ctx));
    TRY(look_at(config->ordinal, &capability, o.model, gpu, ctx));
    struct inside *in = calloc(1, sizeof *in);
    if (!in) return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    gw_err_t err = make(in, config, capability, gpu, &o.ops, ctx);
    if (err == GW_OK) err = ask(cudaMemGetInfo(&free_bytes, &all_bytes), "cudaMemGetInfo", ctx);
    if (err != GW_OK) {
        close_inside(in);
        return err;
    }
    o.device = in->device;
    o.hidden_max = HIDDEN_MAX;
    o.head_dim_max = HEAD_DIM_MAX;
    o.free_bytes = free_bytes;
    o.inside = in;
    *out = o;
    return GW_OK;
}

static void close_gpu(struct gw_cuda_opened *opened)
{
    close_inside(opened->inside);
    *opened = (struct gw_cuda_opened){0};
}

extern const struct gw_cuda_library gw_cuda_library;
__attribute__((visibility("default")))
const struct gw_cuda_library gw_cuda_library = {.version = GW_VERSION, .open = open_gpu, .close = close_gpu};
