/* Errors as OpenAI's API words them: {"error": {"message", "type", "param", "code"}}.
 *
 * Owner: caller memory. Thread: any. Units: seconds. Errors: texts are cut.
 * Source: platform.openai.com/docs/guides/error-codes. */
#ifndef GW_CONTROLLER_OPENAI_ERROR_H
#define GW_CONTROLLER_OPENAI_ERROR_H

#include "base/buf.h"
#include "base/err.h"

#define GW_OPENAI_PARAM_MAX 64

struct gw_openai_error {
    int status;
    const char *code; /* a constant, or NULL */
    char param[GW_OPENAI_PARAM_MAX];
    char message[GW_ERR_TEXT_MAX];
    int retry_after_s; /* 0 = do not say */
};

/* Fills *error; code and param may be NULL. Returns GW_ERR_INPUT below 500, else GW_ERR_INTERNAL. */
gw_err_t gw_openai_error_set(struct gw_openai_error *error, int status, const char *code, const char *param,
                             const char *fmt, ...) __attribute__((format(printf, 5, 6)));

/* Out of memory, as an error that the client may retry; returns GW_ERR_MEMORY. */
gw_err_t gw_openai_error_memory(struct gw_openai_error *error);

/* Appends the JSON object. */
void gw_openai_error_put(struct gw_buf *b, const struct gw_openai_error *error);

#endif
