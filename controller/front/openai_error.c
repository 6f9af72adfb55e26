#include "controller/front/openai_error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"

#define RETRY_AFTER_S 1 /* memory comes back as requests end */

static const char *error_type(int status)
{
    if (status == 429) return "rate_limit_error";
    return status >= 500 ? "server_error" : "invalid_request_error";
}

gw_err_t gw_openai_error_set(struct gw_openai_error *error, int status, const char *code, const char *param,
                             const char *fmt, ...)
{
    va_list ap;
    *error = (struct gw_openai_error){.status = status, .code = code};
    if (param) snprintf(error->param, sizeof error->param, "%s", param);
    va_start(ap, fmt);
    vsnprintf(error->message, sizeof error->message, fmt, ap);
    va_end(ap);
    return status < 500 ? GW_ERR_INPUT : GW_ERR_INTERNAL;
}

gw_err_t gw_openai_error_memory(struct gw_openai_error *error)
{
    (void)gw_openai_error_set(error, 503, NULL, NULL, "out of memory, try again");
    error->retry_after_s = RETRY_AFTER_S;
    return GW_ERR_MEMORY;
}

static void put_or_null(struct gw_buf *b, const char *text)
{
    if (text && *text)
        gw_json_put_string(b, text, strlen(text));
    else
        gw_buf_puts(b, "null");
}

void gw_openai_error_put(struct gw_buf *b, const struct gw_openai_error *error)
{
    gw_buf_puts(b, "{\"error\":{\"message\":");
    gw_json_put_string(b, error->message, strlen(error->message));
    gw_buf_printf(b, ",\"type\":\"%s\",\"param\":", error_type(error->status));
    put_or_null(b, error->param);
    gw_buf_puts(b, ",\"code\":");
    put_or_null(b, error->code);
    gw_buf_puts(b, "}}");
}
