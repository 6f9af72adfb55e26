/* /tokenize and /detokenize, in vLLM's form; the work is done on the pool.
 *
 *     {"prompt"} or {"messages"}  →  {"count", "max_model_len", "tokens"}
 *     {"tokens"}                  →  {"prompt"} */
#include "controller/front/front_internal.h"

#include <stdlib.h>
#include <string.h>

#include "controller/front/openai_fields.h"
#include "controller/front/openai_prompt.h"
#include "controller/text/detok.h"

#define ANSWER_BYTES_MAX (256u << 20) /* the body's own limit keeps answers far below */
#define RETRY_AFTER_S    1

typedef gw_err_t (*text_fn)(const struct gw_openai_model *model, const cJSON *body, struct gw_buf *out,
                            struct gw_openai_error *error);

struct text_job {
    const struct gw_openai_model *model;
    struct gw_http_conn *conn; /* NULL once gone */
    text_fn fn;
    struct gw_http_body body;
    struct gw_buf out;
    struct gw_openai_error error;
    gw_err_t err;
};

static gw_err_t tokenize(const struct gw_openai_model *model, const cJSON *body, struct gw_buf *out,
                         struct gw_openai_error *error)
{
    struct gw_openai_prompt p = {0};
    const char *text = NULL;
    TRY(gw_field_string(body, "prompt", &text, error));
    if (text)
        TRY(gw_openai_prompt_text(model, body, text, GW_REQUEST_PROMPT_MAX, &p, error));
    else
        TRY(gw_openai_prompt_chat(model, body, GW_REQUEST_PROMPT_MAX, &p, error));
    gw_buf_printf(out, "{\"count\":%u,\"max_model_len\":%u,\"tokens\":[", p.len, model->context);
    for (uint32_t i = 0; i < p.len; i++) gw_buf_printf(out, "%s%u", i ? "," : "", p.ids[i]);
    gw_buf_puts(out, "]}");
    gw_openai_prompt_fini(&p);
    return GW_OK;
}

static gw_err_t detokenize(const struct gw_openai_model *model, const cJSON *body, struct gw_buf *out,
                           struct gw_openai_error *error)
{
    struct gw_openai_prompt p = {0};
    struct gw_detok detok;
    struct gw_buf text;
    const cJSON *list = gw_field(body, "tokens");
    if (!cJSON_IsArray(list))
        return gw_openai_error_set(error, 400, NULL, "tokens", "'tokens' must be a list of token ids");
    TRY(gw_openai_prompt_ids(list, "tokens", model->vocab, GW_REQUEST_PROMPT_MAX, &p, error));
    gw_buf_init(&text, ANSWER_BYTES_MAX);
    gw_detok_init(&detok, model->tokenizer, false);
    for (uint32_t i = 0; i < p.len; i++) gw_detok_push(&detok, p.ids[i], &text);
    gw_detok_finish(&detok, &text);
    gw_buf_puts(out, "{\"prompt\":");
    gw_json_put_string(out, (const char *)text.data, text.len);
    gw_buf_puts(out, "}");
    if (text.err != GW_OK) out->err = text.err;
    gw_buf_fini(&text);
    gw_openai_prompt_fini(&p);
    return GW_OK;
}

static void job_work(void *arg)
{
    struct text_job *j = arg;
    cJSON *tree = NULL;
    j->err = gw_openai_body_parse(j->model, j->body.data, j->body.len, &tree, &j->error);
    if (j->err == GW_OK) j->err = j->fn(j->model, tree, &j->out, &j->error);
    cJSON_Delete(tree);
}

static void job_done(void *arg, bool skipped)
{
    struct text_job *j = arg;
    if (skipped) j->err = gw_openai_error_set(&j->error, 503, NULL, NULL, "the server is shutting down");
    if (j->conn && j->err == GW_OK)
        gw_front_respond_json(j->conn, 200, &j->out);
    else if (j->conn)
        gw_front_respond_error(j->conn, &j->error);
    gw_http_body_fini(&j->body);
    gw_buf_fini(&j->out);
    free(j);
}

/* The job still runs; it frees itself. */
static void on_gone(void *arg)
{
    struct text_job *j = arg;
    j->conn = NULL;
}

static void handle(const struct gw_front *f, struct gw_http_conn *conn, text_fn fn)
{
    struct gw_openai_error error;
    struct text_job *j = calloc(1, sizeof *j);
    bool queued = false;
    if (j) {
        *j = (struct text_job){
            .model = &f->model, .conn = conn, .fn = fn, .body = gw_http_conn_take_body(conn)};
        gw_buf_init(&j->out, ANSWER_BYTES_MAX);
        const struct gw_job job = {.work = job_work, .done = job_done, .arg = j};
        queued = gw_pool_submit(f->pool, job) == GW_OK;
    }
    if (queued) {
        gw_http_conn_hold(conn, on_gone, j);
        return;
    }
    if (j) gw_http_body_fini(&j->body);
    free(j);
    (void)gw_openai_error_set(&error, 429, NULL, NULL, "too many requests wait to be tokenized, try again");
    error.retry_after_s = RETRY_AFTER_S;
    gw_front_respond_error(conn, &error);
}

void gw_front_handle_tokenize(void *arg, struct gw_http_conn *conn, const char *rest)
{
    (void)rest;
    handle(arg, conn, tokenize);
}

void gw_front_handle_detokenize(void *arg, struct gw_http_conn *conn, const char *rest)
{
    (void)rest;
    handle(arg, conn, detokenize);
}
