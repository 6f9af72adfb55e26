/* Products by cuBLASLt: bf16 · bf16 or f32 · f32, summed in f32, for the fast profile.
 *
 *     y[m, n] f32 = x[m, k] · w[n, k]ᵀ, or y += that, in the product's own epilogue (beta = 1, C = D = y)
 *
 * What is row after row here is column after column there: yᵀ [n, m] = (wᵀ)ᵀ · xᵀ with w as the library's A, transposed, x as B.
 *
 * Those of f32 are asked for as CUBLAS_COMPUTE_32F: with f32's ordinary multipliers, in an order of the library's; not with tensor
 * cores, which would round f32 to 10 bits (TF32).
 *
 * Which algorithm the library takes for a shape is asked once, and kept in a table of GW_CUBLAS_PLANS_MAX; where that is full the
 * one that was used longest ago makes room. An algorithm that needs more than the workspace is not taken. A shape for which none is left
 * is remembered as such: GW_ERR_NOT_FOUND, and the caller's own product does it.
 *
 * Bits depend on the shape, m included, and on the library's version: nothing is promised of them but that the same
 * library on the same kind of device gives the same ones for the same shape.
 *
 * Owner: gw_cublas_destroy frees; calls and workspace are the caller's until then. Thread: one at a time, whose device it is. Units:
 * elements, bytes. Errors: GW_ERR_NOT_FOUND (above: nothing was put on the stream), GW_ERR_CUDA, GW_ERR_MEMORY; on
 * error *out is unchanged. Source: own design. */
#ifndef GW_KERNELS_CUDA_CUBLAS_MATMUL_H
#define GW_KERNELS_CUDA_CUBLAS_MATMUL_H

#include "kernels/cuda/cublas_api.h"
#include "kernels/op.h"

#define GW_CUBLAS_WORKSPACE_BYTES                                                                            \
    ((size_t)32 << 20)           /* what NVIDIA's manual of cuBLAS advises for sm_90; others want 4 MiB */
#define GW_CUBLAS_PLANS_MAX 1024 /* shapes: five matrices of a model times 200 sizes of a batch */

struct gw_cublas;

struct gw_cublas_product {
    float *y;
    size_t y_stride;
    const void *x;
    size_t x_stride;
    const void *w; /* rows k apart */
    uint32_t m, n, k;
    bool add; /* y += */
};

/* type: of x and w, GW_BF16 or GW_F32. workspace: device memory. */
gw_err_t gw_cublas_create(const struct gw_cublas_api *api, enum gw_dtype type, void *workspace,
                          size_t workspace_bytes, struct gw_cublas **out, struct gw_err_ctx *ctx) GW_MUST_USE;
void gw_cublas_destroy(struct gw_cublas *c);

gw_err_t gw_cublas_multiply(struct gw_cublas *c, const struct gw_cublas_product *p, struct gw_stream *stream,
                            struct gw_err_ctx *ctx) GW_MUST_USE;

#endif
