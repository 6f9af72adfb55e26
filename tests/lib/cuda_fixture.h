/* What the tests of CUDA operations share: both backends on the same memory, which the host shim allows. */
#ifndef GW_TESTS_LIB_CUDA_FIXTURE_H
#define GW_TESTS_LIB_CUDA_FIXTURE_H

#include "tests/lib/kernels_fixture.h"

#include "kernels/cuda/launchers.h"
#include "kernels/device_memory.h"
#include "tests/lib/cuda_shim_report.h"

static inline void assert_launched(gw_err_t err, const struct gw_err_ctx *ctx)
{
    if (err != GW_OK) fail_msg("%s: %s", gw_err_name(err), ctx->text);
}

/* Runs a launcher; its last argument, the context, is the macro's. */
#define LAUNCH(launcher, ...)                                                                                \
    do {                                                                                                     \
        struct gw_err_ctx launch_ctx_ = {0};                                                                 \
        gw_err_t launch_err_ = launcher(NULL, __VA_ARGS__, &launch_ctx_);                                    \
        assert_launched(launch_err_, &launch_ctx_);                                                          \
    } while (0)

/* The launcher must refuse these shapes, and say so. */
#define ASSERT_REFUSED(launcher, ...)                                                                        \
    do {                                                                                                     \
        struct gw_err_ctx refused_ctx_ = {0};                                                                \
        assert_int_equal(launcher(NULL, __VA_ARGS__, &refused_ctx_), GW_ERR_INPUT);                          \
        assert_int_not_equal(refused_ctx_.text[0], '\0');                                                    \
    } while (0)

static inline const char *profile_of(enum gw_dtype act)
{
    return act == GW_BF16 ? "cpu-bf16dot-2" : "cpu-f32-2";
}

static inline void *copy_of(const void *from, size_t bytes)
{
    void *to = take(bytes);
    if (bytes > 0) memcpy(to, from, bytes);
    return to;
}

/* The same by way of the device, for it to read. */
static inline void *copy_through(struct gw_device *dev, const void *from, size_t bytes)
{
    void *to = take(bytes);
    gw_memory_put(dev, to, from, bytes);
    return to;
}

/* count different numbers below `below`, in random order. */
static inline uint32_t *distinct(struct gw_rng *r, uint32_t count, uint32_t below)
{
    uint32_t *all = take(below * sizeof *all);
    for (uint32_t i = 0; i < below; i++) {
        uint32_t j = (uint32_t)gw_rng_below(r, i + 1);
        all[i] = all[j];
        all[j] = i;
    }
    uint32_t *some = copy_of(all, count * sizeof *all);
    free(all);
    return some;
}

#endif
