/* A stand-in for libcudart.so with the calls that kernels/cuda/stream_cuda.c makes: memory is the host's, work is done at once.
 * Each checks the flags that it is given. FAKE_CUDART_ERROR "name code" has that call return that code. Built as a shared
 * object, build/<variant>/tests/lib/fake_cudart.so. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INVALID 1
/* Prototypes of what is exported: only dlsym knows them. */
#define EXPORT(type, name, ...)                                                                              \
    __attribute__((visibility("default"))) type name(__VA_ARGS__);                                           \
    type name(__VA_ARGS__)

static int result(const char *name, bool well)
{
    char planned[64];
    int code = 0;
    const char *plan = getenv("FAKE_CUDART_ERROR");
    if (plan && sscanf(plan, "%63s %d", planned, &code) == 2 && strcmp(planned, name) == 0) return code;
    return well ? 0 : INVALID;
}

EXPORT(const char *, cudaGetErrorString, int error)
{
    return error == 2 ? "out of memory" : "planned fault";
}

EXPORT(int, cudaSetDevice, int device)
{
    return result("cudaSetDevice", device == 3);
}

static int take(const char *name, bool well, void **out, size_t bytes)
{
    int error = result(name, well);
    if (error == 0) *out = malloc(bytes);
    return error;
}

EXPORT(int, cudaMalloc, void **out, size_t bytes)
{
    return take("cudaMalloc", true, out, bytes);
}

EXPORT(int, cudaHostAlloc, void **out, size_t bytes, unsigned flags)
{
    return take("cudaHostAlloc", flags == 0, out, bytes);
}

EXPORT(int, cudaStreamCreateWithFlags, void **out, unsigned flags)
{
    return take("cudaStreamCreateWithFlags", flags == 1, out, 1);
}

EXPORT(int, cudaEventCreateWithFlags, void **out, unsigned flags)
{
    return take("cudaEventCreateWithFlags", flags == 2, out, 1);
}

EXPORT(int, cudaFree, void *memory)
{
    free(memory);
    return 0;
}

EXPORT(int, cudaFreeHost, void *memory)
{
    free(memory);
    return 0;
}

EXPORT(int, cudaStreamDestroy, void *stream)
{
    free(stream);
    return 0;
}

EXPORT(int, cudaEventDestroy, void *event)
{
    free(event);
    return 0;
}

EXPORT(int, cudaEventRecord, void *event, void *stream)
{
    return result("cudaEventRecord", event && stream);
}

EXPORT(int, cudaEventQuery, void *event)
{
    return result("cudaEventQuery", event);
}

EXPORT(int, cudaStreamWaitEvent, void *stream, void *event, unsigned flags)
{
    return result("cudaStreamWaitEvent", stream && event && flags == 0);
}

EXPORT(int, cudaMemcpyAsync, void *to, const void *from, size_t bytes, int kind, void *stream)
{
    int error = result("cudaMemcpyAsync", kind == 4 && stream);
    if (error == 0) memcpy(to, from, bytes);
    return error;
}

EXPORT(int, cudaMemsetAsync, void *to, int byte, size_t bytes, void *stream)
{
    int error = result("cudaMemsetAsync", stream);
    if (error == 0) memset(to, byte, bytes);
    return error;
}

EXPORT(int, cudaGetLastError, void)
{
    return 0;
}

EXPORT(int, cudaStreamBeginCapture, void *stream, int mode)
{
    return result("cudaStreamBeginCapture", stream && mode == 1);
}

EXPORT(int, cudaStreamEndCapture, void *stream, void **graph)
{
    return take("cudaStreamEndCapture", stream, graph, 1);
}

EXPORT(int, cudaGraphInstantiateWithFlags, void **out, void *graph, unsigned long long flags)
{
    return take("cudaGraphInstantiateWithFlags", graph && flags == 0, out, 1);
}

EXPORT(int, cudaGraphDestroy, void *graph)
{
    free(graph);
    return 0;
}

EXPORT(int, cudaGraphLaunch, void *graph, void *stream)
{
    return result("cudaGraphLaunch", graph && stream);
}

EXPORT(int, cudaGraphExecDestroy, void *graph)
{
    free(graph);
    return 0;
}
