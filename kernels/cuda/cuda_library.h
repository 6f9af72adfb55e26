/* What a worker loads to compute on a GPU: libgodwit-cuda.so, made by `make cuda` of the kernels and CUDA's runtime, which a
 * worker without a GPU does without. One symbol, GW_CUDA_LIBRARY_SYMBOL, is a struct gw_cuda_library.
 *
 * Worker and library share these structs by memory, so both are of one build: the worker refuses another version.
 *
 *     open finds                                          what it says
 *     ─────────────────────────────────────────────────   ─────────────────────────────────────────────────────────
 *     no driver, or one that is older than the runtime    GW_ERR_NOT_FOUND: the driver that is needed, and the one there is
 *     no GPU, or not so many                              GW_ERR_NOT_FOUND: how many there are
 *     a GPU below compute capability 8.0                  GW_ERR_NOT_FOUND: tensor cores of bf16 are needed
 *     less free memory than its own rooms take            GW_ERR_MEMORY: how much there is
 *     fast, and no cuBLASLt                               GW_ERR_NOT_FOUND: which library is needed, and why it is not loaded
 *
 * Owner: close frees what open made; the library stays. Thread: start-up. Units: bytes, microseconds. Errors: as above,
 * GW_ERR_CUDA; on error *out is unchanged. Source: own design. */
#ifndef GW_KERNELS_CUDA_CUDA_LIBRARY_H
#define GW_KERNELS_CUDA_CUDA_LIBRARY_H

#include "kernels/op.h"

#define GW_CUDA_LIBRARY_FILE   "libgodwit-cuda.so"
#define GW_CUDA_LIBRARY_SYMBOL "gw_cuda_library"
#define GW_CUDA_MODEL_MAX      64 /* bytes of what a GPU calls itself, with NUL */

struct gw_cuda_open_config {
    int ordinal;                   /* as CUDA counts */
    struct gw_device *host;        /* this machine's processors, borrowed */
    const struct gw_ops *host_ops; /* theirs, of bf16 */
    enum gw_dtype act;             /* GW_BF16 or GW_F32 */
    enum gw_dtype weight, kv;      /* as act, or GW_I8; weight, or GW_F8 */
    int64_t deadline_us;           /* of a step */
    bool
        fast; /* products by cuBLASLt: profile cuda-sm<capability>-fast; of int8 weights: exact all the same */
    uint32_t fast_rows; /* of a product that cuBLASLt computes, at least; 0: GW_CUDA_FAST_ROWS */
    bool graphs;        /* decoding steps become CUDA graphs */
};

struct gw_cuda_opened {
    struct gw_device *device;
    const struct gw_ops *ops; /* profile: cuda-sm<capability>-exact[-f32][-int8][-kv8]-1, -fast[-f32][-kv8] */
    uint64_t free_bytes;      /* of its memory, behind its own rooms */
    char model[GW_CUDA_MODEL_MAX];     /* "NVIDIA H100 80GB HBM3" */
    uint32_t hidden_max, head_dim_max; /* of models that it can compute; head_dim in eights */
    void *inside;
};

struct gw_cuda_library {
    const char *version; /* GW_VERSION */
    gw_err_t (*open)(const struct gw_cuda_open_config *config, struct gw_cuda_opened *out,
                     struct gw_err_ctx *ctx);
    void (*close)(struct gw_cuda_opened *opened);
};

#endif
