#include "kernels/cuda/nccl_api.h"

#include <dlfcn.h>
#include <stdint.h>

#include "base/dl_calls.h"

static const char *const libraries[] = {GW_NCCL_LIBRARY};

static const struct gw_dl_call calls[] = {
    {"ncclGetVersion", offsetof(struct gw_nccl, get_version)},
    {"ncclGetUniqueId", offsetof(struct gw_nccl, get_unique_id)},
    {"ncclGetErrorString", offsetof(struct gw_nccl, get_error_string)},
    {"ncclGetLastError", offsetof(struct gw_nccl, get_last_error), true},
    {"ncclCommInitRankConfig", offsetof(struct gw_nccl, comm_init_rank_config)},
    {"ncclCommGetAsyncError", offsetof(struct gw_nccl, comm_get_async_error)},
    {"ncclCommFinalize", offsetof(struct gw_nccl, comm_finalize)},
    {"ncclCommDestroy", offsetof(struct gw_nccl, comm_destroy)},
    {"ncclCommAbort", offsetof(struct gw_nccl, comm_abort)},
    {"ncclCommRevoke", offsetof(struct gw_nccl, comm_revoke), true},
    {"ncclAllGather", offsetof(struct gw_nccl, all_gather)},
    {"ncclSend", offsetof(struct gw_nccl, send)},
    {"ncclRecv", offsetof(struct gw_nccl, recv)},
    {"ncclGroupStart", offsetof(struct gw_nccl, group_start)},
    {"ncclGroupEnd", offsetof(struct gw_nccl, group_end)},
};

static const struct gw_dl_library library = {
    .name = "NCCL",
    .files = libraries,
    .files_len = sizeof libraries / sizeof *libraries,
    .calls = calls,
    .calls_len = sizeof calls / sizeof *calls,
    .from = "",
    .need = ": NCCL 2.14 or newer is needed",
};

static gw_err_t check_version(struct gw_nccl *nccl, const char *path, struct gw_err_ctx *ctx)
{
    enum gw_nccl_result result = nccl->get_version(&nccl->version);
    if (result != GW_NCCL_SUCCESS) return gw_nccl_fail(nccl, NULL, result, "ncclGetVersion", ctx);
    if (nccl->version < GW_NCCL_VERSION_MIN)
        return gw_fail(ctx, GW_ERR_INPUT, "%s is of version %d: %d or newer is needed", path, nccl->version,
                       GW_NCCL_VERSION_MIN);
    return GW_OK;
}

gw_err_t gw_nccl_open(const char *path, struct gw_nccl *out, struct gw_err_ctx *ctx)
{
    struct gw_nccl nccl = {0};
    gw_err_t err = gw_dl_open(&library, path, &nccl, &nccl.library, ctx);
    if (err == GW_OK) err = check_version(&nccl, path ? path : GW_NCCL_LIBRARY, ctx);
    if (err == GW_OK)
        *out = nccl;
    else
        gw_nccl_close(&nccl);
    return err;
}

void gw_nccl_close(struct gw_nccl *nccl)
{
    if (nccl->library) dlclose(nccl->library);
    nccl->library = NULL;
}

gw_err_t gw_nccl_make_id(const struct gw_nccl *nccl, struct gw_nccl_id *id, struct gw_err_ctx *ctx)
{
    struct gw_nccl_id made;
    enum gw_nccl_result result = nccl->get_unique_id(&made);
    if (result != GW_NCCL_SUCCESS) return gw_nccl_fail(nccl, NULL, result, "ncclGetUniqueId", ctx);
    *id = made;
    return GW_OK;
}

static gw_err_t category(enum gw_nccl_result result)
{
    switch (result) {
    case GW_NCCL_REMOTE_ERROR:
    case GW_NCCL_SYSTEM_ERROR: return GW_ERR_IO;
    case GW_NCCL_INVALID_ARGUMENT:
    case GW_NCCL_INVALID_USAGE: return GW_ERR_INTERNAL;
    default: return GW_ERR_CUDA;
    }
}

gw_err_t gw_nccl_fail(const struct gw_nccl *nccl, struct gw_nccl_comm *comm, enum gw_nccl_result result,
                      const char *what, struct gw_err_ctx *ctx)
{
    const char *last = nccl->get_last_error ? nccl->get_last_error(comm) : NULL;
    const char *words = nccl->get_error_string(result);
    return gw_fail(ctx, category(result), "%s: %s%s%s", what, words ? words : "unknown error",
                   last && *last ? ": " : "", last ? last : "");
}
