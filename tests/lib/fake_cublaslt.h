/* A stand-in for libcublasLt.so with the calls of kernels/cuda/cublas_api.h, which multiplies by this machine's processor and fails as
 * it is told.
 *
 * It checks what it is given as far as the real one's results depend on it: types, forms, strides, alignments against those that were
 * promised when it was asked for an algorithm, the workspace against what that algorithm needs. What is wrong is
 * CUBLAS_STATUS_INVALID_VALUE, as there. Algorithms that it names, fastest first: one of 8 MiB of workspace, one of 1 MiB. */
#ifndef GW_TESTS_LIB_FAKE_CUBLASLT_H
#define GW_TESTS_LIB_FAKE_CUBLASLT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FAKE_CUBLASLT_LARGE_BYTES ((size_t)8 << 20)
#define FAKE_CUBLASLT_SMALL_BYTES ((size_t)1 << 20)

struct fake_cublaslt_plan {
    const char *fails; /* "cublasLtMatmul": returns `status`, from the nth call on (from 0) */
    int status;
    uint32_t nth;
    bool knows_nothing; /* it has no algorithm for anything */
    size_t version;     /* 0: 130000 */
    /* How work gets on a stream: NULL: at once. (Tests of graphs: gw_shim_do.) */
    void (*put)(void (*run)(const void *arg), const void *arg, size_t bytes);
};

struct fake_cublaslt_counts {
    uint32_t asked, multiplied, added; /* added: of those, the ones that add to what is there */
    uint32_t living;                   /* handles, descriptors, layouts, preferences */
    size_t workspace_bytes;            /* of the last algorithm that was used */
};

typedef void fake_cublaslt_set_fn(
    const struct fake_cublaslt_plan *plan); /* "fake_cublaslt_set": counts begin anew */
typedef void fake_cublaslt_count_fn(struct fake_cublaslt_counts *out); /* "fake_cublaslt_count" */

#endif
