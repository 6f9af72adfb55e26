/* A whole CUDA device on the host shim: kernels/cuda's table of operations, whose launches the shim runs and whose copies are made
 * at once.
 *
 * Device memory is the heap's, apart from the host's side, and full of NaN at first: what nobody has put there shows, and
 * AddressSanitizer sees who goes beyond it. Any call may fail, or the stream stand still. */
#ifndef GW_TESTS_LIB_SHIM_DEVICE_H
#define GW_TESTS_LIB_SHIM_DEVICE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/launchers.h"
#include "tests/lib/cuda_shim_graph.h"
#include "tests/lib/cuda_shim_report.h"
#include "tests/lib/host_stream.h"

#define SHIM_PIECES_MAX 1024

/* Its stream is known by its address, which is that of `entry`: what others put there (a stand-in for NCCL) is done at once, too. */
struct shim_runtime {
    struct host_stream_entry entry; /* first */
    _Atomic uint32_t calls;         /* of what may fail, so far; any thread's */
    uint32_t fail_at;               /* this one fails, counted from 1; 0: none */
    const char *fails;              /* all of this name do; NULL: none */
    bool still;                     /* events are never done */
    void *pieces[SHIM_PIECES_MAX];  /* of memory that are not given back */
    uint32_t pieces_len;
};

static inline gw_err_t shim_call(void *self, const char *what, struct gw_err_ctx *ctx)
{
    struct shim_runtime *r = self;
    bool named = r->fails && strcmp(r->fails, what) == 0;
    if (++r->calls != r->fail_at && !named) return GW_OK;
    return gw_fail(ctx, GW_ERR_CUDA, "%s: planned fault", what);
}

static inline gw_err_t shim_alloc(void *self, size_t bytes, void **out, struct gw_err_ctx *ctx)
{
    struct shim_runtime *r = self;
    TRY(shim_call(self, "alloc", ctx));
    void *memory = r->pieces_len < SHIM_PIECES_MAX ? aligned_alloc(64, (bytes + 63) / 64 * 64) : NULL;
    if (!memory) return gw_fail(ctx, GW_ERR_MEMORY, "alloc: out of memory");
    memset(memory, 0xFF, bytes);
    r->pieces[r->pieces_len++] = memory;
    *out = memory;
    return GW_OK;
}

static inline void shim_free(void *self, void *memory)
{
    struct shim_runtime *r = self;
    uint32_t at = 0;
    while (r->pieces[at] != memory) at++;
    r->pieces[at] = r->pieces[--r->pieces_len];
    free(memory);
}

static inline gw_err_t shim_event_create(void *self, struct gw_event **out, struct gw_err_ctx *ctx)
{
    TRY(shim_call(self, "event", ctx));
    *out = (struct gw_event *)self;
    return GW_OK;
}

static inline void shim_event_destroy(void *self, struct gw_event *event)
{
    (void)self, (void)event;
}

static inline gw_err_t shim_event_record(void *self, struct gw_event *event, struct gw_stream *stream,
                                         struct gw_err_ctx *ctx)
{
    (void)event, (void)stream;
    return shim_call(self, "record", ctx);
}

static inline gw_err_t shim_wait(void *self, struct gw_stream *stream, struct gw_event *event,
                                 struct gw_err_ctx *ctx)
{
    (void)stream, (void)event;
    return shim_call(self, "wait", ctx);
}

static inline gw_err_t shim_event_query(void *self, struct gw_event *event, bool *done,
                                        struct gw_err_ctx *ctx)
{
    (void)event, (void)ctx;
    *done = !((struct shim_runtime *)self)->still;
    return GW_OK;
}

struct shim_copying {
    void *to;
    const void *from;
    size_t bytes;
    uint8_t byte;
};

static inline void shim_do_copy(const void *arg)
{
    const struct shim_copying *c = arg;
    memcpy(c->to, c->from, c->bytes);
}

static inline void shim_do_fill(const void *arg)
{
    const struct shim_copying *c = arg;
    memset(c->to, c->byte, c->bytes);
}

static inline gw_err_t shim_copy(void *self, void *to, const void *from, size_t bytes,
                                 struct gw_stream *stream, struct gw_err_ctx *ctx)
{
    const struct shim_copying c = {.to = to, .from = from, .bytes = bytes};
    (void)stream;
    TRY(shim_call(self, "copy", ctx));
    gw_shim_do(shim_do_copy, &c, sizeof c);
    return GW_OK;
}

static inline gw_err_t shim_fill(void *self, void *to, uint8_t byte, size_t bytes, struct gw_stream *stream,
                                 struct gw_err_ctx *ctx)
{
    const struct shim_copying c = {.to = to, .bytes = bytes, .byte = byte};
    (void)stream;
    TRY(shim_call(self, "fill", ctx));
    gw_shim_do(shim_do_fill, &c, sizeof c);
    return GW_OK;
}

static inline gw_err_t shim_sum(void *self, const struct gw_row_sum *sum, struct gw_stream *stream,
                                struct gw_err_ctx *ctx)
{
    TRY(shim_call(self, "sum", ctx));
    return gw_cuda_row_sum(sum, stream, ctx);
}

static inline void shim_enqueue(struct gw_stream *stream, void (*run)(void *arg), void *arg)
{
    (void)stream;
    if (gw_shim_is_recording()) abort(); /* it frees what it gets: a graph would do it twice */
    run(arg);
}

static inline gw_err_t shim_capture_begin(void *self, struct gw_stream *stream, struct gw_err_ctx *ctx)
{
    (void)stream;
    TRY(shim_call(self, "capture_begin", ctx));
    gw_shim_record_begin();
    return GW_OK;
}

static inline gw_err_t shim_capture_end(void *self, struct gw_stream *stream, struct gw_graph **out,
                                        struct gw_err_ctx *ctx)
{
    struct gw_shim_graph *graph = gw_shim_record_end();
    gw_err_t err = shim_call(self, "capture_end", ctx);
    (void)stream;
    if (err == GW_OK && out)
        *out = (struct gw_graph *)graph;
    else
        gw_shim_graph_free(graph);
    return err;
}

static inline gw_err_t shim_graph_launch(void *self, struct gw_graph *graph, struct gw_stream *stream,
                                         struct gw_err_ctx *ctx)
{
    (void)stream;
    TRY(shim_call(self, "graph_launch", ctx));
    if (gw_shim_replay((const struct gw_shim_graph *)graph)) return GW_OK;
    return gw_fail(ctx, GW_ERR_CUDA, "graph: %s", gw_shim_error());
}

static inline void shim_graph_destroy(void *self, struct gw_graph *graph)
{
    (void)self;
    gw_shim_graph_free((struct gw_shim_graph *)graph);
}

static const struct gw_stream_ops shim_stream_ops = {.alloc = shim_alloc,
                                                     .free = shim_free,
                                                     .alloc_pinned = shim_alloc,
                                                     .free_pinned = shim_free,
                                                     .event_create = shim_event_create,
                                                     .event_destroy = shim_event_destroy,
                                                     .event_record = shim_event_record,
                                                     .event_query = shim_event_query,
                                                     .wait = shim_wait,
                                                     .copy = shim_copy,
                                                     .fill = shim_fill,
                                                     .sum = shim_sum,
                                                     .capture_begin = shim_capture_begin,
                                                     .capture_end = shim_capture_end,
                                                     .graph_launch = shim_graph_launch,
                                                     .graph_destroy = shim_graph_destroy};

/* What a test's device stands on; the first four: before it is opened. */
struct shim_device {
    bool no_graphs;
    const struct gw_cublas_api *cublas; /* a stand-in: the profile is fast */
    size_t cublas_bytes;
    uint32_t fast_rows;
    struct shim_runtime runtime; /* each has an address of its own */
    struct shim_runtime pages;   /* what pages come and go by, from another thread */
    struct gw_device *cpu, *device;
    const struct gw_ops *ops;
};

/* Small rooms, so that they fill up: 0 takes what a real device has. weight, kv: GW_I8, or as act. */
static inline gw_err_t shim_device_open_as(struct shim_device *s, size_t step_bytes, size_t scratch_bytes,
                                           enum gw_dtype act, enum gw_dtype weight, enum gw_dtype kv,
                                           struct gw_err_ctx *ctx)
{
    struct gw_stream *stream = (struct gw_stream *)(void *)&s->runtime;
    struct gw_cuda_device_config config = {.name = "cuda-shim",
                                           .act = act,
                                           .weight = weight,
                                           .kv = kv,
                                           .compute = {&shim_stream_ops, &s->runtime, stream},
                                           .transfer = {&shim_stream_ops, &s->runtime, stream},
                                           .meet = stream,
                                           .pages_out = {&shim_stream_ops, &s->pages, stream},
                                           .pages_in = stream,
                                           .step_bytes = step_bytes,
                                           .scratch_bytes = scratch_bytes,
                                           .deadline_us = 20000,
                                           .cublas = s->cublas,
                                           .cublas_bytes = s->cublas_bytes,
                                           .fast_rows = s->fast_rows,
                                           .graphs = !s->no_graphs};
    s->runtime.entry.enqueue = shim_enqueue;
    memcpy(config.gpu, &s, sizeof s); /* each is one of its own */
    TRY(gw_device_cpu_create(1, false, &s->cpu, ctx));
    gw_device_enter_thread();
    TRY(gw_ops_cpu("cpu-bf16dot-2", GW_ISA_AUTO, &config.host_ops, ctx));
    config.host = s->cpu;
    return gw_cuda_device_create(&config, &s->device, &s->ops, ctx);
}

static inline gw_err_t shim_device_open(struct shim_device *s, size_t step_bytes, size_t scratch_bytes,
                                        struct gw_err_ctx *ctx)
{
    return shim_device_open_as(s, step_bytes, scratch_bytes, GW_BF16, GW_BF16, GW_BF16, ctx);
}

static inline uint32_t shim_runtime_close(struct shim_runtime *r)
{
    uint32_t left = r->pieces_len;
    for (uint32_t i = 0; i < left; i++) free(r->pieces[i]);
    r->pieces_len = 0;
    return left;
}

/* Returns how many pieces of memory had not been given back; they are gone, too. */
static inline uint32_t shim_device_close(struct shim_device *s)
{
    gw_device_destroy(s->device);
    gw_device_destroy(s->cpu);
    return shim_runtime_close(&s->runtime) + shim_runtime_close(&s->pages);
}

/* The same of a device that has to be well and to hold no memory of its users any more. */
static inline void shim_device_end(struct shim_device *s)
{
    struct gw_err_ctx ctx = {0};
    if (gw_device_finish(s->device, &ctx) != GW_OK) fail_msg("%s", ctx.text);
    assert_int_equal(shim_device_close(s), 0);
}

#endif
