#include "migrate/weight_format.h"

#include <string.h>

static const char *const names[] = {
    [GW_WEIGHT_FILE] = "file", [GW_WEIGHT_INT8] = "int8", [GW_WEIGHT_FP8] = "fp8"};

const char *gw_weight_format_name(enum gw_weight_format format)
{
    return names[format];
}

gw_err_t gw_weight_format_parse(const char *name, enum gw_weight_format *out, struct gw_err_ctx *ctx)
{
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(names[i], name) != 0) continue;
        *out = (enum gw_weight_format)i;
        return GW_OK;
    }
    return gw_fail(ctx, GW_ERR_INPUT,
                   "--weights %s: expected file, int8 or fp8 (where they are loaded from: --weights-from)",
                   name);
}
