/* See cuda_shim_graph.h. */
#include "tests/lib/cuda_shim.h"
#include "tests/lib/cuda_shim_graph.h"

#include <cassert>
#include <cstdlib>

namespace
{

struct node {
    node *next;
    void (*run)(const void *arg); /* or a launch: */
    const void *kernel;
    dim3 blocks, threads;
    size_t shared_bytes;
    void (*call)(void *arg);
    void *arg;
};

} // namespace

struct gw_shim_graph {
    node *first, **last;
    uint32_t len;
};

static thread_local gw_shim_graph *recording;

static void *copy_of(const void *arg, size_t bytes)
{
    void *copy = malloc(bytes ? bytes : 1);
    assert(copy);
    memcpy(copy, arg, bytes);
    return copy;
}

static void keep(const node &n)
{
    node *kept = static_cast<node *>(copy_of(&n, sizeof n));
    *recording->last = kept;
    recording->last = &kept->next;
    recording->len++;
}

bool gw_shim_keeps(const void *kernel, dim3 blocks, dim3 threads, size_t shared_bytes,
                   void (*call)(void *arg), const void *arg, size_t arg_bytes)
{
    if (!recording) return false;
    keep(node{NULL, NULL, kernel, blocks, threads, shared_bytes, call, copy_of(arg, arg_bytes)});
    return true;
}

extern "C" bool gw_shim_is_recording(void)
{
    return recording != NULL;
}

extern "C" void gw_shim_record_begin(void)
{
    assert(!recording);
    recording = static_cast<gw_shim_graph *>(calloc(1, sizeof *recording));
    assert(recording);
    recording->last = &recording->first;
}

extern "C" struct gw_shim_graph *gw_shim_record_end(void)
{
    gw_shim_graph *made = recording;
    assert(made);
    recording = NULL;
    return made;
}

extern "C" void gw_shim_do(void (*run)(const void *arg), const void *arg, size_t bytes)
{
    if (recording)
        keep(node{NULL, run, NULL, dim3(), dim3(), 0, NULL, copy_of(arg, bytes)});
    else
        run(arg);
}

extern "C" bool gw_shim_replay(const struct gw_shim_graph *graph)
{
    assert(!recording);
    for (const node *n = graph->first; n; n = n->next) {
        if (n->run)
            n->run(n->arg);
        else
            gw_shim_run(n->kernel, n->blocks, n->threads, n->shared_bytes, n->call, n->arg, 0);
        if (cudaGetLastError() != cudaSuccess) return false;
    }
    return true;
}

extern "C" void gw_shim_graph_free(struct gw_shim_graph *graph)
{
    for (node *n = graph->first; n;) {
        node *next = n->next;
        free(n->arg);
        free(n);
        n = next;
    }
    free(graph);
}

extern "C" uint32_t gw_shim_graph_len(const struct gw_shim_graph *graph)
{
    return graph->len;
}
