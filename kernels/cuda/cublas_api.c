#include "kernels/cuda/cublas_api.h"

#include <dlfcn.h>

#include "base/dl_calls.h"

static const char *const libraries[] = {"libcublasLt.so.13", "libcublasLt.so.12"};

static const struct gw_dl_call calls[] = {
    {"cublasLtGetVersion", offsetof(struct gw_cublas_api, get_version)},
    {"cublasLtGetStatusString", offsetof(struct gw_cublas_api, get_status_string)},
    {"cublasLtCreate", offsetof(struct gw_cublas_api, create)},
    {"cublasLtDestroy", offsetof(struct gw_cublas_api, destroy)},
    {"cublasLtMatmulDescCreate", offsetof(struct gw_cublas_api, desc_create)},
    {"cublasLtMatmulDescDestroy", offsetof(struct gw_cublas_api, desc_destroy)},
    {"cublasLtMatmulDescSetAttribute", offsetof(struct gw_cublas_api, desc_set)},
    {"cublasLtMatrixLayoutCreate", offsetof(struct gw_cublas_api, layout_create)},
    {"cublasLtMatrixLayoutDestroy", offsetof(struct gw_cublas_api, layout_destroy)},
    {"cublasLtMatmulPreferenceCreate", offsetof(struct gw_cublas_api, preference_create)},
    {"cublasLtMatmulPreferenceDestroy", offsetof(struct gw_cublas_api, preference_destroy)},
    {"cublasLtMatmulPreferenceSetAttribute", offsetof(struct gw_cublas_api, preference_set)},
    {"cublasLtMatmulAlgoGetHeuristic", offsetof(struct gw_cublas_api, get_heuristic)},
    {"cublasLtMatmul", offsetof(struct gw_cublas_api, matmul)},
};

static const struct gw_dl_library cublas = {
    .name = "cuBLASLt",
    .files = libraries,
    .files_len = sizeof libraries / sizeof *libraries,
    .calls = calls,
    .calls_len = sizeof calls / sizeof *calls,
    .from = " (libcublasLt.so.13 or libcublasLt.so.12, which CUDA's toolkit brings)",
    .need = "",
};

gw_err_t gw_cublas_open(const char *path, struct gw_cublas_api *out, struct gw_err_ctx *ctx)
{
    struct gw_cublas_api api = {0};
    gw_err_t err = gw_dl_open(&cublas, path, &api, &api.library, ctx);
    if (err != GW_OK) return err;
    api.version = api.get_version();
    if (api.version < GW_CUBLAS_VERSION_MIN)
        err = gw_fail(ctx, GW_ERR_INPUT, "cuBLASLt is of version %zu: %d or newer is needed", api.version,
                      GW_CUBLAS_VERSION_MIN);
    if (err == GW_OK)
        *out = api;
    else
        gw_cublas_close(&api);
    return err;
}

void gw_cublas_close(struct gw_cublas_api *api)
{
    if (api->library) dlclose(api->library);
    *api = (struct gw_cublas_api){0};
}

gw_err_t gw_cublas_check(const struct gw_cublas_api *api, int status, const char *what,
                         struct gw_err_ctx *ctx)
{
    if (status == GW_CUBLAS_SUCCESS) return GW_OK;
    const char *words = api->get_status_string(status);
    return gw_fail(ctx, status == GW_CUBLAS_ALLOC_FAILED ? GW_ERR_MEMORY : GW_ERR_CUDA, "%s: %s", what,
                   words ? words : "unknown error");
}
