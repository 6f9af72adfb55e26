/* Chat templates: the Jinja constructs that released chat templates use, compiled once, rendered per request.
 *
 *     source ─ jinja_lex ─► tokens ─ jinja_parse ─► tree ─ jinja_exec, jinja_eval (a jinja_run) ─► text
 *
 * Sandbox: a template sees messages, add_generation_prompt, bos_token, eos_token, date_string and what it
 * sets itself; it calls no code; steps, output bytes and nesting are bounded. trim_blocks and lstrip_blocks
 * are on, as in transformers.
 *
 * Owner: create/destroy; the rendered text is the caller's (free). Thread: immutable after create: any
 * thread. Units: bytes. Errors: GW_ERR_INPUT with line number for a template that is not understood or that
 * raises; GW_ERR_LIMIT; on error *out is unchanged. Source: Jinja 3 documentation; own implementation. */
#ifndef GW_CONTROLLER_CHAT_TEMPLATE_H
#define GW_CONTROLLER_CHAT_TEMPLATE_H

#include <cjson/cJSON.h>

#include "base/err.h"

struct gw_chat_template;

gw_err_t gw_chat_template_create(const char *source, size_t len, struct gw_chat_template **out,
                                 struct gw_err_ctx *ctx) GW_MUST_USE;
/* From DIR/tokenizer_config.json's chat_template (string, or list with one named "default"), else
 * DIR/chat_template.jinja. GW_ERR_NOT_FOUND if the model has none. */
gw_err_t gw_chat_template_open(const char *dir, struct gw_chat_template **out,
                               struct gw_err_ctx *ctx) GW_MUST_USE;
void gw_chat_template_destroy(struct gw_chat_template *t);

struct gw_chat_vars {
    const cJSON *messages; /* array of objects with role and content */
    bool add_generation_prompt;
    const char *bos_token, *eos_token;
    const char *date_string; /* the variable of that name; NULL = not defined */
    /* The day that strftime_now(format) writes in its format, like "20 Nov 2026" (any other text is given as it
     * is); NULL: date_string. Where both are NULL strftime_now is not defined: some templates have a fallback
     * for that, others fail. Inference servers commonly define strftime_now and not date_string. */
    const char *today;
    const cJSON *extra; /* object of more variables (chat_template_kwargs), or NULL; the ones above win */
};

gw_err_t gw_chat_template_render(const struct gw_chat_template *t, const struct gw_chat_vars *vars,
                                 char **text, size_t *len, struct gw_err_ctx *ctx) GW_MUST_USE;

#endif
