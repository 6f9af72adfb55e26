#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

gw_err_t gw_fail(struct gw_err_ctx *ctx, gw_err_t code, const char *fmt, ...)
{
    if (!ctx || ctx->code != GW_OK) return code;
    ctx->code = code;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(ctx->text, sizeof ctx->text, fmt, ap);
    va_end(ap);
    return code;
}

gw_err_t gw_fail_prefix(struct gw_err_ctx *ctx, gw_err_t code, const char *fmt, ...)
{
    if (!ctx) return code;
    char prefix[GW_ERR_TEXT_MAX / 2];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(prefix, sizeof prefix, fmt, ap);
    va_end(ap);
    char old[GW_ERR_TEXT_MAX];
    memcpy(old, ctx->text, sizeof old);
    old[sizeof old - 1] = '\0';
    int used = snprintf(ctx->text, sizeof ctx->text, "%s: ", prefix);
    snprintf(ctx->text + used, sizeof ctx->text - (size_t)used, "%s", old);
    ctx->code = code;
    return code;
}

void gw_err_reset(struct gw_err_ctx *ctx)
{
    if (!ctx) return;
    ctx->code = GW_OK;
    ctx->text[0] = '\0';
}

const char *gw_err_name(gw_err_t code)
{
    static const char *const names[] = {"ok",    "io",   "protocol", "limit",     "memory",
                                        "cloud", "cuda", "input",    "not found", "internal"};
    size_t n = sizeof names / sizeof *names;
    return (size_t)code < n ? names[code] : "unknown";
}
