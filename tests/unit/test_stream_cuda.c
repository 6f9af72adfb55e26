/* kernels/cuda/stream_cuda: the table calls CUDA's runtime as that wants it, and says what it answers. The runtime is
 * tests/lib/fake_cudart.c's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels/cuda/stream_cuda.h"

#define DEVICE 3 /* the one that the fake has */

static gw_err_t count_elems(const struct gw_row_sum *sum, struct gw_stream *stream, struct gw_err_ctx *ctx)
{
    return stream && sum->residual ? GW_OK : gw_fail(ctx, GW_ERR_CUDA, "no stream, or no residual");
}

static gw_err_t open_fake(struct gw_stream_cuda *s, int device, struct gw_err_ctx *ctx)
{
    char exe[256], path[300];
    ssize_t len = readlink("/proc/self/exe", exe, sizeof exe - 1);
    assert_true(len > 0);
    exe[len] = '\0';
    *strrchr(exe, '/') = '\0';
    snprintf(path, sizeof path, "%s/../lib/fake_cudart.so", exe);
    return gw_stream_cuda_open(path, device, count_elems, s, ctx);
}

static gw_err_t use_graph(struct gw_stream_cuda *s, struct gw_err_ctx *ctx)
{
    const struct gw_stream_ops *ops = &gw_stream_cuda_ops;
    struct gw_graph *graph = NULL;
    TRY(ops->capture_begin(s, s->stream, ctx));
    TRY(ops->capture_end(s, s->stream, NULL, ctx)); /* nobody wants it */
    TRY(ops->capture_begin(s, s->stream, ctx));
    TRY(ops->capture_end(s, s->stream, &graph, ctx));
    gw_err_t err = ops->graph_launch(s, graph, s->stream, ctx);
    ops->graph_destroy(s, graph);
    return err;
}

/* Everything that the table can do, once. */
static gw_err_t use_all(struct gw_stream_cuda *s, struct gw_err_ctx *ctx)
{
    const struct gw_stream_ops *ops = &gw_stream_cuda_ops;
    void *device = NULL, *pinned = NULL;
    struct gw_event *event = NULL;
    bool done = false;
    char text[] = "godwit", back[sizeof text];
    gw_err_t err;
    TRY_GOTO(ops->alloc(s, sizeof text, &device, ctx), out);
    TRY_GOTO(ops->alloc_pinned(s, sizeof text, &pinned, ctx), out);
    TRY_GOTO(ops->event_create(s, &event, ctx), out);
    memcpy(pinned, text, sizeof text);
    TRY_GOTO(ops->copy(s, device, pinned, sizeof text, s->stream, ctx), out);
    TRY_GOTO(ops->copy(s, back, device, sizeof text, s->stream, ctx), out);
    TRY_GOTO(ops->event_record(s, event, s->stream, ctx), out);
    TRY_GOTO(ops->event_query(s, event, &done, ctx), out);
    TRY_GOTO(ops->sum(s, &(struct gw_row_sum){.residual = (float *)device, .elems = 1}, s->stream, ctx), out);
    TRY_GOTO(ops->enter(s, ctx), out);
    TRY_GOTO(use_graph(s, ctx), out);
    TRY_GOTO(ops->fill(s, device, 'x', 1, s->stream, ctx), out);
    if (*(char *)device != 'x') err = gw_fail(ctx, GW_ERR_INTERNAL, "not filled");
    if (!done || memcmp(text, back, sizeof text) != 0) err = gw_fail(ctx, GW_ERR_INTERNAL, "not copied");
out:
    if (event) ops->event_destroy(s, event);
    if (device) ops->free(s, device);
    if (pinned) ops->free_pinned(s, pinned);
    return err;
}

static void test_table_with_a_runtime_that_answers_works(void **state)
{
    (void)state;
    struct gw_stream_cuda s;
    struct gw_err_ctx ctx = {0};
    if (open_fake(&s, DEVICE, &ctx) != GW_OK || gw_stream_cuda_enter(&s, &ctx) != GW_OK ||
        use_all(&s, &ctx) != GW_OK)
        fail_msg("%s", ctx.text);
    gw_stream_cuda_close(&s);
}

static void test_table_with_a_runtime_that_fails_says_which_call(void **state)
{
    static const struct {
        const char *plan, *text;
        gw_err_t err;
    } cases[] = {
        {"cudaMalloc 2", "cudaMalloc: out of memory", GW_ERR_MEMORY},
        {"cudaHostAlloc 2", "cudaHostAlloc: out of memory", GW_ERR_MEMORY},
        {"cudaEventCreateWithFlags 46", "cudaEventCreate: planned fault", GW_ERR_CUDA},
        {"cudaMemcpyAsync 700", "cudaMemcpyAsync: planned fault", GW_ERR_CUDA},
        {"cudaMemsetAsync 700", "cudaMemsetAsync: planned fault", GW_ERR_CUDA},
        {"cudaEventRecord 700", "cudaEventRecord: planned fault", GW_ERR_CUDA},
        {"cudaEventQuery 700", "cudaEventQuery: planned fault", GW_ERR_CUDA},
        {"cudaStreamBeginCapture 900", "cudaStreamBeginCapture: planned fault", GW_ERR_CUDA},
        {"cudaStreamEndCapture 901", "cudaStreamEndCapture: planned fault", GW_ERR_CUDA},
        {"cudaGraphInstantiateWithFlags 2", "cudaGraphInstantiate: out of memory", GW_ERR_MEMORY},
        {"cudaGraphLaunch 700", "cudaGraphLaunch: planned fault", GW_ERR_CUDA},
        {"cudaEventQuery 600", "not copied", GW_ERR_INTERNAL}, /* not ready: no error, and not done */
    };
    (void)state;
    struct gw_stream_cuda s;
    assert_int_equal(open_fake(&s, DEVICE, NULL), GW_OK);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct gw_err_ctx ctx = {0};
        setenv("FAKE_CUDART_ERROR", cases[i].plan, 1);
        assert_int_equal(use_all(&s, &ctx), cases[i].err);
        assert_string_equal(ctx.text, cases[i].text);
    }
    unsetenv("FAKE_CUDART_ERROR");
    gw_stream_cuda_close(&s);
}

static void test_open_without_a_device_or_a_stream_is_an_error(void **state)
{
    (void)state;
    struct gw_stream_cuda s = {.device = 77};
    struct gw_err_ctx ctx = {0};
    assert_int_equal(open_fake(&s, DEVICE + 1, &ctx), GW_ERR_CUDA);
    assert_string_equal(ctx.text, "cudaSetDevice: planned fault");
    setenv("FAKE_CUDART_ERROR", "cudaStreamCreateWithFlags 2", 1);
    assert_int_equal(open_fake(&s, DEVICE, NULL), GW_ERR_MEMORY);
    unsetenv("FAKE_CUDART_ERROR");
    assert_int_equal(s.device, 77);
}

static void test_open_of_what_is_no_runtime_says_what_is_missing(void **state)
{
    (void)state;
    struct gw_stream_cuda s;
    struct gw_err_ctx ctx = {0};
    assert_int_equal(gw_stream_cuda_open("/nowhere/libcudart.so", 0, count_elems, &s, &ctx),
                     GW_ERR_NOT_FOUND);
    assert_non_null(strstr(ctx.text, "/nowhere/libcudart.so"));
    gw_err_reset(&ctx);
    assert_int_equal(gw_stream_cuda_open("libm.so.6", 0, count_elems, &s, &ctx), GW_ERR_NOT_FOUND);
    assert_string_equal(ctx.text, "libm.so.6 has no cudaGetErrorString");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table_with_a_runtime_that_answers_works),
        cmocka_unit_test(test_table_with_a_runtime_that_fails_says_which_call),
        cmocka_unit_test(test_open_without_a_device_or_a_stream_is_an_error),
        cmocka_unit_test(test_open_of_what_is_no_runtime_says_what_is_missing),
    };
    return cmocka_run_group_tests_name("stream_cuda", tests, NULL, NULL);
}
