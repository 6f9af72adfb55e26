#include "kernels/cuda/cublas_api.h"

#include <dlfcn.h>
#include <string.h>

static const char *const libraries[] = {"libcublasLt.so.13", "libcublasLt.so.12"};

/* Where in struct gw_cublas_api a call goes. Pointers to functions are of one size and form, whatever they take. */
static const struct call {
    const char *name;
    size_t at;
} calls[] = {
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

static gw_err_t find_calls(struct gw_cublas_api *api, const char *path, struct gw_err_ctx *ctx)
{
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        void *address = dlsym(api->library, calls[i].name);
        if (!address)
            return gw_fail(ctx, GW_ERR_NOT_FOUND, "%s has no %s", path ? path : "cuBLASLt", calls[i].name);
        memcpy((char *)api + calls[i].at, &address, sizeof address);
    }
    api->version = api->get_version();
    if (api->version >= GW_CUBLAS_VERSION_MIN) return GW_OK;
    return gw_fail(ctx, GW_ERR_INPUT, "cuBLASLt is of version %zu: %d or newer is needed", api->version,
                   GW_CUBLAS_VERSION_MIN);
}

gw_err_t gw_cublas_open(const char *path, struct gw_cublas_api *out, struct gw_err_ctx *ctx)
{
    struct gw_cublas_api api = {
        .library = dlopen(path ? path : libraries[0], RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE)};
    for (size_t i = 1; !path && !api.library && i < sizeof libraries / sizeof *libraries; i++)
        api.library = dlopen(libraries[i], RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!api.library) {
        const char *why = dlerror();
        return gw_fail(ctx, GW_ERR_NOT_FOUND,
                       "cuBLASLt (%s or %s, which CUDA's toolkit brings) cannot be loaded: %s", libraries[0],
                       libraries[1], why ? why : "unknown");
    }
    gw_err_t err = find_calls(&api, path, ctx);
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
