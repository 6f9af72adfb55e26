#include "controller/text/chat_template.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/utf8.h"
#include "controller/text/jinja_eval.h"
#include "controller/text/jinja_parser.h"

#define TREE_BYTES_MAX   ((size_t)64 << 20)
#define CONFIG_BYTES_MAX ((size_t)16 << 20)

struct gw_chat_template {
    char *source; /* tokens and nodes point into it */
    struct gw_arena arena;
    struct gw_jinja_node *first;
};

static gw_err_t compile(struct gw_chat_template *t, size_t len, struct gw_err_ctx *ctx)
{
    struct gw_jinja_tokens tokens;
    TRY(gw_jinja_lex(t->source, gw_jinja_normalize(t->source, len), &tokens, ctx));
    gw_err_t err = gw_jinja_parse(&tokens, &t->arena, &t->first, ctx);
    gw_jinja_tokens_fini(&tokens);
    return err;
}

gw_err_t gw_chat_template_create(const char *source, size_t len, struct gw_chat_template **out,
                                 struct gw_err_ctx *ctx)
{
    if (len > GW_JINJA_SOURCE_MAX)
        return gw_fail(ctx, GW_ERR_LIMIT, "chat template of %zu bytes, at most %zu are read", len,
                       GW_JINJA_SOURCE_MAX);
    if (!gw_utf8_valid(source, len)) return gw_fail(ctx, GW_ERR_INPUT, "chat template: not valid UTF-8");
    gw_err_t err = GW_OK;
    struct gw_chat_template *t = calloc(1, sizeof *t);
    char *copy = malloc(len + 1);
    if (!t || !copy) {
        free(t);
        free(copy);
        return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    }
    memcpy(copy, source, len);
    t->source = copy;
    gw_arena_init(&t->arena, TREE_BYTES_MAX);
    TRY_GOTO(compile(t, len, ctx), out);
    *out = t;
    t = NULL;
out:
    if (err != GW_OK) gw_fail_prefix(ctx, err, "chat template");
    gw_chat_template_destroy(t);
    return err;
}

void gw_chat_template_destroy(struct gw_chat_template *t)
{
    if (!t) return;
    gw_arena_fini(&t->arena);
    free(t->source);
    free(t);
}

/* ---- from a model directory ---- */

/* "chat_template": a text, or [{"name": "default", "template": text}, ...]. NULL if there is none. */
static const char *template_in(const cJSON *config)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(config, "chat_template"), *item;
    if (cJSON_IsString(v)) return v->valuestring;
    cJSON_ArrayForEach(item, v)
    {
        const char *name = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(item, "name"));
        if (name && strcmp(name, "default") == 0)
            return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(item, "template"));
    }
    return NULL;
}

/* GW_ERR_NOT_FOUND if the file or its template is not there; then ctx is untouched. */
static gw_err_t open_config(const char *path, struct gw_chat_template **out, struct gw_err_ctx *ctx)
{
    struct gw_err_ctx own = {0};
    cJSON *config = NULL;
    gw_err_t err = gw_json_parse_file(path, CONFIG_BYTES_MAX, &config, &own);
    if (err == GW_ERR_NOT_FOUND) return err;
    if (err != GW_OK) return gw_fail(ctx, err, "%s", own.text);
    const char *source = template_in(config);
    err = source ? gw_chat_template_create(source, strlen(source), out, ctx) : GW_ERR_NOT_FOUND;
    if (source && err != GW_OK) gw_fail_prefix(ctx, err, "%s", path);
    cJSON_Delete(config);
    return err;
}

static gw_err_t open_file(const char *path, struct gw_chat_template **out, struct gw_err_ctx *ctx)
{
    struct gw_err_ctx own = {0};
    char *source = NULL;
    size_t len = 0;
    gw_err_t err = gw_file_read(path, GW_JINJA_SOURCE_MAX, &source, &len, &own);
    if (err == GW_ERR_NOT_FOUND) return gw_fail(ctx, err, "the model has no chat template (%s)", own.text);
    if (err != GW_OK) return gw_fail(ctx, err, "%s", own.text);
    err = gw_chat_template_create(source, len, out, ctx);
    if (err != GW_OK) gw_fail_prefix(ctx, err, "%s", path);
    free(source);
    return err;
}

gw_err_t gw_chat_template_open(const char *dir, struct gw_chat_template **out, struct gw_err_ctx *ctx)
{
    char config[PATH_MAX], file[PATH_MAX];
    if (snprintf(config, sizeof config, "%s/tokenizer_config.json", dir) >= (int)sizeof config ||
        snprintf(file, sizeof file, "%s/chat_template.jinja", dir) >= (int)sizeof file)
        return gw_fail(ctx, GW_ERR_LIMIT, "%s: path too long", dir);
    gw_err_t err = open_config(config, out, ctx);
    return err == GW_ERR_NOT_FOUND ? open_file(file, out, ctx) : err;
}

/* ---- rendering ---- */

static gw_err_t define(struct gw_jinja_run *run, const char *name, struct gw_jinja_value value)
{
    return gw_jinja_assign(run, (struct gw_jinja_string){name, strlen(name)}, value);
}

static gw_err_t define_text(struct gw_jinja_run *run, const char *name, const char *text)
{
    return text ? define(run, name, gw_jinja_text(text, strlen(text))) : GW_OK;
}

static gw_err_t define_extra(struct gw_jinja_run *run, const cJSON *extra)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, extra)
    {
        struct gw_jinja_value v;
        TRY(gw_jinja_from_json(run, item, &v));
        TRY(define(run, item->string, v));
    }
    return GW_OK;
}

/* The extra variables first, so that they cannot shadow what the server says. */
static gw_err_t define_all(struct gw_jinja_run *run, const struct gw_chat_vars *vars)
{
    struct gw_jinja_value messages;
    TRY(define_extra(run, vars->extra));
    TRY(gw_jinja_from_json(run, vars->messages, &messages));
    TRY(define(run, "messages", messages));
    TRY(define(run, "add_generation_prompt", gw_jinja_bool(vars->add_generation_prompt)));
    TRY(define_text(run, "bos_token", vars->bos_token));
    TRY(define_text(run, "eos_token", vars->eos_token));
    return define_text(run, "date_string", vars->date_string);
}

gw_err_t gw_chat_template_render(const struct gw_chat_template *t, const struct gw_chat_vars *vars,
                                 char **text, size_t *len, struct gw_err_ctx *ctx)
{
    gw_err_t err = GW_OK;
    struct gw_buf out;
    struct gw_jinja_scope globals = {0};
    struct gw_jinja_run run = {
        .out = &out, .scope = &globals, .today = vars->today ? vars->today : vars->date_string, .ctx = ctx};
    gw_buf_init(&out, GW_JINJA_OUTPUT_MAX);
    gw_arena_init(&run.arena, GW_JINJA_MEMORY_MAX);
    TRY_GOTO(define_all(&run, vars), out);
    TRY_GOTO(gw_jinja_exec(&run, t->first), out);
    if (!gw_buf_cstr(&out)) {
        err = gw_fail(ctx, out.err, "out of memory");
        goto out;
    }
    *text = (char *)out.data; /* now the caller's */
    *len = out.len;
    out = (struct gw_buf){0};
out:
    if (err != GW_OK) gw_fail_prefix(ctx, err, "chat template");
    gw_arena_fini(&run.arena);
    gw_buf_fini(&out);
    return err;
}
