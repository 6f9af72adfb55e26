/* What the tests of the fast profile share: the stand-in for cuBLASLt, loaded as a worker's library loads the real one. */
#ifndef GW_TESTS_LIB_CUBLAS_FIXTURE_H
#define GW_TESTS_LIB_CUBLAS_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "kernels/cuda/cublas_api.h"
#include "tests/lib/fake_cublaslt.h"

static inline void fake_cublas_path(char *out, size_t bytes)
{
    char exe[256];
    ssize_t len = readlink("/proc/self/exe", exe, sizeof exe - 1);
    assert_true(len > 0);
    exe[len] = '\0';
    *strrchr(exe, '/') = '\0';
    snprintf(out, bytes, "%s/../lib/fake_cublaslt.so", exe);
}

struct fake_cublas {
    struct gw_cublas_api api;
    fake_cublaslt_set_fn *set;
    fake_cublaslt_count_fn *count;
};

static inline void fake_cublas_open(struct fake_cublas *f, const struct fake_cublaslt_plan *plan)
{
    struct gw_err_ctx ctx = {0};
    char path[300];
    fake_cublas_path(path, sizeof path);
    if (gw_cublas_open(path, &f->api, &ctx) != GW_OK) fail_msg("%s", ctx.text);
    void *set = dlsym(f->api.library, "fake_cublaslt_set"),
         *count = dlsym(f->api.library, "fake_cublaslt_count");
    assert_true(set && count);
    memcpy(&f->set, &set, sizeof set);
    memcpy(&f->count, &count, sizeof count);
    f->set(plan);
}

/* Nothing that was made is left. */
static inline void fake_cublas_close(struct fake_cublas *f)
{
    struct fake_cublaslt_counts counts;
    f->count(&counts);
    assert_int_equal(counts.living, 0);
    f->set(&(struct fake_cublaslt_plan){0});
    gw_cublas_close(&f->api);
}

static inline struct fake_cublaslt_counts fake_cublas_counts(const struct fake_cublas *f)
{
    struct fake_cublaslt_counts counts;
    f->count(&counts);
    return counts;
}

#endif
