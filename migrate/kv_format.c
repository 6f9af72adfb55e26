#include "migrate/kv_format.h"

#include <string.h>

static const char *const names[] = {[GW_KV_FILE] = "file", [GW_KV_INT8] = "int8"};

const char *gw_kv_format_name(enum gw_kv_format format)
{
    return names[format];
}

gw_err_t gw_kv_format_parse(const char *name, enum gw_kv_format *out, struct gw_err_ctx *ctx)
{
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(names[i], name) != 0) continue;
        *out = (enum gw_kv_format)i;
        return GW_OK;
    }
    return gw_fail(ctx, GW_ERR_INPUT, "--kv %s: expected file or int8", name);
}
