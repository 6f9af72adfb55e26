#include "base/dl_calls.h"

#include <dlfcn.h>
#include <string.h>

static gw_err_t look_up(const struct gw_dl_library *l, void *library, const char *path, void *table,
                        struct gw_err_ctx *ctx)
{
    for (size_t i = 0; i < l->calls_len; i++) {
        void *address = dlsym(library, l->calls[i].name);
        if (!address && !l->calls[i].optional)
            return gw_fail(ctx, GW_ERR_NOT_FOUND, "%s has no %s%s", path ? path : l->name, l->calls[i].name,
                           l->need);
        memcpy((char *)table + l->calls[i].at, &address, sizeof address);
    }
    return GW_OK;
}

gw_err_t gw_dl_open(const struct gw_dl_library *l, const char *path, void *table, void **handle,
                    struct gw_err_ctx *ctx)
{
    void *library = NULL;
    for (size_t i = 0; !library && i < (path ? 1 : l->files_len); i++)
        library = dlopen(path ? path : l->files[i], RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!library) {
        const char *why = dlerror();
        return gw_fail(ctx, GW_ERR_NOT_FOUND, "%s%s cannot be loaded: %s", l->name, l->from,
                       why ? why : "unknown");
    }
    gw_err_t err = look_up(l, library, path, table, ctx);
    if (err == GW_OK)
        *handle = library;
    else
        dlclose(library);
    return err;
}
