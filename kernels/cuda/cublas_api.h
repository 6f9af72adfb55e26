/* cuBLASLt, loaded when the program runs: what of it the products of the fast profile call, and nothing else.
 *
 * The types are those of cublasLt.h (CUDA 13.0; the same since 11), so that this builds where no header of CUDA is, and a worker
 * of the exact profile needs no such library. Its integers are the library's enumerations.
 *
 * Owner: gw_cublas_close gives the handle back; the library stays mapped, since it does not end well before its process. Thread:
 * any; a handle one at a time. Units: bytes. Errors: GW_ERR_NOT_FOUND (no library, or one without a call that is wanted),
 * GW_ERR_INPUT (too old); gw_cublas_check's. Not run on a GPU yet. Source: cublasLt.h of CUDA 13.0 (declarations only). */
#ifndef GW_KERNELS_CUDA_CUBLAS_API_H
#define GW_KERNELS_CUDA_CUBLAS_API_H

#include <stdint.h>

#include "base/err.h"

#define GW_CUBLAS_VERSION_MIN 120000 /* 12.0: the first that knows sm_90 */

/* cublasStatus_t; others are errors without a meaning of their own here. */
#define GW_CUBLAS_SUCCESS       0
#define GW_CUBLAS_ALLOC_FAILED  3
#define GW_CUBLAS_INVALID_VALUE 7
#define GW_CUBLAS_NOT_SUPPORTED 15

/* cudaDataType, cublasComputeType_t, cublasOperation_t */
#define GW_CUBLAS_F32         0
#define GW_CUBLAS_BF16        14
#define GW_CUBLAS_COMPUTE_F32 68
#define GW_CUBLAS_TRANSPOSED  1

/* cublasLtMatmulDescAttributes_t, cublasLtMatmulPreferenceAttributes_t */
#define GW_CUBLAS_DESC_TRANS_A     3
#define GW_CUBLAS_PREFER_WORKSPACE 1
#define GW_CUBLAS_PREFER_ALIGN_A   5 /* of B, C and D: those behind it */

struct gw_stream;
struct gw_cublas_handle;     /* *cublasLtHandle_t */
struct gw_cublas_desc;       /* *cublasLtMatmulDesc_t */
struct gw_cublas_layout;     /* *cublasLtMatrixLayout_t */
struct gw_cublas_preference; /* *cublasLtMatmulPreference_t */

/* cublasLtMatmulAlgo_t */
struct gw_cublas_algo {
    uint64_t words[8];
};

/* cublasLtMatmulHeuristicResult_t */
struct gw_cublas_choice {
    struct gw_cublas_algo algo;
    size_t workspace_bytes;
    int status;
    float waves;
    int reserved[4];
};

struct gw_cublas_api {
    void *library;
    size_t version; /* 130000 = 13.0 */
    size_t (*get_version)(void);
    const char *(*get_status_string)(int status);
    int (*create)(struct gw_cublas_handle **out);
    int (*destroy)(struct gw_cublas_handle *handle);
    int (*desc_create)(struct gw_cublas_desc **out, int compute_type, int scale_type);
    int (*desc_destroy)(struct gw_cublas_desc *desc);
    int (*desc_set)(struct gw_cublas_desc *desc, int attribute, const void *value, size_t bytes);
    int (*layout_create)(struct gw_cublas_layout **out, int type, uint64_t rows, uint64_t columns,
                         int64_t column_stride);
    int (*layout_destroy)(struct gw_cublas_layout *layout);
    int (*preference_create)(struct gw_cublas_preference **out);
    int (*preference_destroy)(struct gw_cublas_preference *preference);
    int (*preference_set)(struct gw_cublas_preference *preference, int attribute, const void *value,
                          size_t bytes);
    int (*get_heuristic)(struct gw_cublas_handle *handle, struct gw_cublas_desc *desc,
                         struct gw_cublas_layout *a, struct gw_cublas_layout *b, struct gw_cublas_layout *c,
                         struct gw_cublas_layout *d, struct gw_cublas_preference *preference, int wanted,
                         struct gw_cublas_choice *out, int *out_len);
    /* d = alpha · op(a) · b + beta · c; alpha, beta: the host's, f32. */
    int (*matmul)(struct gw_cublas_handle *handle, struct gw_cublas_desc *desc, const void *alpha,
                  const void *a, struct gw_cublas_layout *a_layout, const void *b,
                  struct gw_cublas_layout *b_layout, const void *beta, const void *c,
                  struct gw_cublas_layout *c_layout, void *d, struct gw_cublas_layout *d_layout,
                  const struct gw_cublas_algo *algo, void *workspace, size_t workspace_bytes,
                  struct gw_stream *stream);
};

/* path NULL: libcublasLt.so.13, then .12, where the system looks for libraries. On error *out is unchanged. */
gw_err_t gw_cublas_open(const char *path, struct gw_cublas_api *out, struct gw_err_ctx *ctx) GW_MUST_USE;
void gw_cublas_close(struct gw_cublas_api *api);

/* What a call returned: GW_OK, or GW_ERR_CUDA (GW_ERR_MEMORY where there was none): "what: the library's words". */
gw_err_t gw_cublas_check(const struct gw_cublas_api *api, int status, const char *what,
                         struct gw_err_ctx *ctx) GW_MUST_USE;

#endif
