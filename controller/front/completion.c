#include "controller/front/completion_internal.h"

#include <stdlib.h>

#include "base/rng.h"

#define RETRY_AFTER_S 5 /* instances come back in minutes, queues drain in seconds */

/* ---- life ---------------------------------------------------------------------------------------------- */

static void mark_dirty(struct gw_completion *c)
{
    if (c->is_dirty) return;
    c->is_dirty = true;
    STAILQ_INSERT_TAIL(&c->front->dirty, c, dirty);
    if (!c->front->destroying) event_active(c->front->flush, EV_TIMEOUT, 0);
}

static void forget_parts(struct gw_completion *c)
{
    for (uint32_t i = 0; c->parts && i < c->request->prompts_len; i++)
        gw_id_map_remove(&c->front->parts, c->parts[i].id);
}

static void destroy(struct gw_completion *c)
{
    forget_parts(c);
    for (uint32_t i = 0; c->choices && i < c->choices_len; i++) gw_choice_fini(&c->choices[i].text);
    free(c->choices);
    free(c->parts);
    gw_openai_request_destroy(c->request);
    gw_http_body_fini(&c->body);
    LIST_REMOVE(c, all);
    c->front->completions_len--;
    free(c);
}

/* From here on nothing is heard or said; the loop frees it. */
static void enter_done(struct gw_completion *c)
{
    forget_parts(c);
    c->state = GW_COMPLETION_DONE;
    mark_dirty(c);
}

static void cancel_parts(struct gw_completion *c)
{
    for (uint32_t i = 0; c->parts && i < c->request->prompts_len; i++) {
        c->parts[i].cancel = c->parts[i].live;
        c->parts[i].live = false;
    }
}

static void fail(struct gw_completion *c, const struct gw_openai_error *error)
{
    struct gw_metrics *m = &c->front->metrics;
    if (c->state == GW_COMPLETION_DONE) return;
    if (error->status >= 500)
        m->failed_5xx++;
    else
        m->failed_4xx++;
    cancel_parts(c);
    gw_completion_send_error(c, error);
    enter_done(c);
}

static void fail_memory(struct gw_completion *c)
{
    struct gw_openai_error error;
    (void)gw_openai_error_memory(&error);
    fail(c, &error);
}

static void on_gone(void *arg)
{
    struct gw_completion *c = arg;
    c->conn = NULL;
    c->front->metrics.aborted++;
    cancel_parts(c);
    enter_done(c);
}

/* ---- submitting ---------------------------------------------------------------------------------------- */

static gw_err_t prepare_choices(struct gw_completion *c)
{
    const struct gw_openai_request *r = c->request;
    uint32_t n = r->options.n, len = r->prompts_len * n;
    c->choices = calloc(len, sizeof *c->choices);
    if (!c->choices) return GW_ERR_MEMORY;
    for (uint32_t i = 0; i < len; i++) {
        struct gw_choice *text = &c->choices[i].text;
        const struct gw_openai_prompt *prompt = &r->prompts[i / n];
        c->choices_len++;
        TRY(gw_choice_init(text, c->front->model.tokenizer, &r->options, &r->sampling));
        if (prompt->text) gw_buf_put(&text->text, prompt->text, prompt->text_len);
        TRY(text->text.err);
        c->held_bytes += gw_choice_bytes(text);
    }
    c->open = len;
    return GW_OK;
}

/* Unpredictable, so that ids of different controllers do not meet in workers and logs. */
static uint64_t fresh_id(const struct gw_front *f)
{
    uint64_t id;
    do gw_random_bytes(&id, sizeof id);
    while (id == 0 || gw_id_map_get(&f->parts, id));
    return id;
}

static gw_err_t prepare_parts(struct gw_completion *c)
{
    uint32_t len = c->request->prompts_len;
    c->parts = calloc(len, sizeof *c->parts);
    if (!c->parts) return GW_ERR_MEMORY;
    for (uint32_t i = 0; i < len; i++) {
        c->parts[i] = (struct gw_part){.owner = c, .id = fresh_id(c->front), .index = i};
        TRY(gw_id_map_put(&c->front->parts, c->parts[i].id, &c->parts[i]));
        c->usage.prompt_tokens += c->request->prompts[i].len;
    }
    return GW_OK;
}

static gw_err_t post_submit(struct gw_completion *c, struct gw_part *part)
{
    struct gw_request *request = NULL;
    TRY(gw_openai_request_core(c->request, part->index, part->id, c->tenant, &request));
    const struct gw_event event = {.type = GW_EV_SUBMIT, .submit.request = request};
    part->live = true;
    c->front->port.post(c->front->port.arg, &event);
    return GW_OK;
}

/* The core may answer from inside post: a failed part ends the loop. */
static void submit(struct gw_completion *c)
{
    gw_openai_envelope_init(&c->envelope, c->endpoint, c->front->model.name, gw_clock_unix_s());
    c->envelope.usage_follows = c->request->options.include_usage;
    if (prepare_choices(c) != GW_OK || prepare_parts(c) != GW_OK) {
        fail_memory(c);
        return;
    }
    c->state = GW_COMPLETION_WAITING;
    gw_completion_note(c);
    c->front->metrics.prompt_tokens += c->usage.prompt_tokens;
    for (uint32_t i = 0; i < c->request->prompts_len && c->state != GW_COMPLETION_DONE; i++)
        if (post_submit(c, &c->parts[i]) != GW_OK) fail_memory(c);
}

/* ---- parsing, on a pool thread ------------------------------------------------------------------------- */

/* Nothing but body, request and error is touched: the loop owns the rest. */
static void job_work(void *arg)
{
    struct gw_completion *c = arg;
    if (gw_openai_request_parse(&c->front->model, c->endpoint, c->body.data, c->body.len, &c->request,
                                &c->error) != GW_OK)
        c->request = NULL;
}

static void job_done(void *arg, bool skipped)
{
    struct gw_completion *c = arg;
    c->in_job = false;
    gw_http_body_fini(&c->body);
    if (c->state == GW_COMPLETION_DONE) {
        mark_dirty(c); /* the client left meanwhile */
    } else if (skipped) {
        (void)gw_openai_error_set(&c->error, 503, NULL, NULL, "the server is shutting down");
        fail(c, &c->error);
    } else if (!c->request) {
        fail(c, &c->error);
    } else {
        submit(c);
    }
}

static void refuse(struct gw_http_conn *conn, int status, const char *message)
{
    struct gw_openai_error error;
    (void)gw_openai_error_set(&error, status, NULL, NULL, "%s", message);
    error.retry_after_s = RETRY_AFTER_S;
    gw_front_respond_error(conn, &error);
}

static struct gw_completion *create(struct gw_front *f, struct gw_http_conn *conn,
                                    enum gw_openai_endpoint endpoint)
{
    struct gw_completion *c = calloc(1, sizeof *c);
    if (!c) return NULL;
    c->front = f;
    c->conn = conn;
    c->state = GW_COMPLETION_TOKENIZING;
    c->endpoint = endpoint;
    c->received_us = gw_front_now_us(f);
    gw_front_tenant(f, conn, c->tenant);
    c->body = gw_http_conn_take_body(conn);
    LIST_INSERT_HEAD(&f->completions, c, all);
    f->completions_len++;
    return c;
}

static void handle(struct gw_front *f, struct gw_http_conn *conn, enum gw_openai_endpoint endpoint)
{
    if (f->stopping) {
        refuse(conn, 503, "the server is shutting down");
        return;
    }
    struct gw_completion *c = create(f, conn, endpoint);
    if (!c) {
        refuse(conn, 503, "out of memory, try again");
        return;
    }
    const struct gw_job job = {.work = job_work, .done = job_done, .arg = c};
    if (gw_pool_submit(f->pool, job) != GW_OK) {
        destroy(c);
        refuse(conn, 429, "too many requests wait to be tokenized, try again");
        return;
    }
    c->in_job = true;
    gw_http_conn_hold(conn, on_gone, c);
}

void gw_front_handle_chat(void *arg, struct gw_http_conn *conn, const char *rest)
{
    (void)rest;
    handle(arg, conn, GW_OPENAI_CHAT);
}

void gw_front_handle_completions(void *arg, struct gw_http_conn *conn, const char *rest)
{
    (void)rest;
    handle(arg, conn, GW_OPENAI_COMPLETIONS);
}

/* ---- actions of the core ------------------------------------------------------------------------------- */

static void observe_tokens(struct gw_completion *c, struct gw_completion_choice *choice)
{
    struct gw_metrics *m = &c->front->metrics;
    int64_t now = gw_front_now_us(c->front);
    if (c->first_us == 0) {
        c->first_us = now;
        gw_histogram_add(&m->first_token_s, (double)(now - c->received_us) / (double)GW_US_PER_S);
    }
    if (choice->last_us)
        gw_histogram_add(&m->inter_token_s, (double)(now - choice->last_us) / (double)GW_US_PER_S);
    choice->last_us = now;
}

static void end_answer(struct gw_completion *c)
{
    int64_t us = gw_front_now_us(c->front) - c->received_us;
    gw_histogram_add(&c->front->metrics.request_s, (double)us / (double)GW_US_PER_S);
    gw_completion_send_end(c);
    enter_done(c);
}

static void end_choice(struct gw_completion *c, uint32_t i)
{
    struct gw_completion_choice *choice = &c->choices[i];
    struct gw_metrics *m = &c->front->metrics;
    choice->ended = true;
    c->usage.completion_tokens += choice->text.kept;
    m->generation_tokens += choice->text.kept;
    if (choice->text.finish == GW_FINISH_LENGTH)
        m->finished_length++;
    else
        m->finished_stop++;
    if (c->request->options.stream) gw_completion_send_finish(c, i);
    if (choice->text.stopped) mark_dirty(c);
    if (--c->open == 0) end_answer(c);
}

/* The choice's text has changed, in one way or another. `before`: the bytes that it held. */
static void after_change(struct gw_completion *c, uint32_t i, gw_err_t err, size_t before)
{
    struct gw_openai_error error;
    struct gw_choice *text = &c->choices[i].text;
    if (c->request->options.stream && err == GW_OK) gw_completion_send_text(c, i);
    c->held_bytes += gw_choice_bytes(text) - before;
    if (err != GW_OK || c->held_bytes > GW_ANSWER_BYTES_MAX) {
        bool large = err == GW_ERR_LIMIT || err == GW_OK;
        (void)gw_openai_error_set(&error, 500, NULL, NULL, "%s",
                                  large ? "the answer is too large to be held; ask for a stream"
                                        : "internal error");
        fail(c, &error);
    } else if (text->finish != GW_FINISH_NONE) {
        end_choice(c, i);
    }
}

static struct gw_completion_choice *choice_of(const struct gw_part *part, uint32_t branch, uint32_t *i)
{
    struct gw_completion *c = part->owner;
    if (branch >= c->request->options.n) return NULL;
    *i = part->index * c->request->options.n + branch;
    return c->choices[*i].ended ? NULL : &c->choices[*i];
}

static void on_tokens(struct gw_part *part, uint32_t branch, const struct gw_tokens *tokens)
{
    struct gw_completion *c = part->owner;
    uint32_t i;
    struct gw_completion_choice *choice = choice_of(part, branch, &i);
    if (!choice || tokens->count == 0) return;
    size_t before = gw_choice_bytes(&choice->text);
    c->state = GW_COMPLETION_RUNNING;
    observe_tokens(c, choice);
    gw_err_t err = gw_choice_feed(&choice->text, tokens);
    after_change(c, i, err, before);
}

static void on_finish(struct gw_part *part, uint32_t branch, enum gw_finish reason)
{
    uint32_t i;
    struct gw_completion_choice *choice = choice_of(part, branch, &i);
    if (!choice) return;
    size_t before = gw_choice_bytes(&choice->text);
    gw_err_t err = gw_choice_end(&choice->text, reason);
    after_change(part->owner, i, err, before);
}

/* A branch that never got its FINISH would leave the client waiting for ever. */
static void on_done(struct gw_part *part)
{
    struct gw_completion *c = part->owner;
    struct gw_openai_error error;
    uint32_t i;
    part->live = false;
    gw_id_map_remove(&c->front->parts, part->id);
    for (uint32_t branch = 0; branch < c->request->options.n; branch++) {
        if (!choice_of(part, branch, &i)) continue;
        (void)gw_openai_error_set(&error, 500, NULL, NULL, "internal error: a choice ended without a reason");
        fail(c, &error);
        return;
    }
}

/* LIMIT before ACCEPTED: the queue is full. After it: no worker came in time. */
static void on_failed(struct gw_part *part, gw_err_t code, const char *text)
{
    struct gw_openai_error error;
    int status = code == GW_ERR_INPUT    ? 400
                 : code == GW_ERR_LIMIT  ? (part->accepted ? 503 : 429)
                 : code == GW_ERR_MEMORY ? 503
                                         : 500;
    (void)gw_openai_error_set(&error, status, NULL, NULL, "%s", text && *text ? text : "the request failed");
    if (status == 429 || status == 503) error.retry_after_s = RETRY_AFTER_S;
    part->live = false;
    fail(part->owner, &error);
}

static uint64_t request_of(const struct gw_action *a)
{
    switch (a->type) {
    case GW_ACT_ACCEPTED: return a->accepted.request;
    case GW_ACT_TOKENS: return a->tokens.request;
    case GW_ACT_FINISH: return a->finish.request;
    case GW_ACT_DONE: return a->done.request;
    case GW_ACT_FAILED: return a->failed.request;
    default: return 0;
    }
}

void gw_completion_on_action(struct gw_front *f, const struct gw_action *a)
{
    struct gw_part *part = gw_id_map_get(&f->parts, request_of(a));
    if (!part) return;
    switch (a->type) {
    case GW_ACT_ACCEPTED: part->accepted = true; return;
    case GW_ACT_TOKENS: on_tokens(part, a->tokens.branch, &a->tokens.tokens); return;
    case GW_ACT_FINISH: on_finish(part, a->finish.branch, a->finish.reason); return;
    case GW_ACT_DONE: on_done(part); return;
    case GW_ACT_FAILED: on_failed(part, a->failed.code, a->failed.text); return;
    default: return;
    }
}

/* ---- from the loop ------------------------------------------------------------------------------------- */

static void post_stops(struct gw_completion *c)
{
    const struct gw_front *f = c->front;
    for (uint32_t i = 0; i < c->choices_len; i++) {
        struct gw_choice *text = &c->choices[i].text;
        const struct gw_part *part = &c->parts[i / c->request->options.n];
        if (!text->stopped) continue;
        text->stopped = false;
        if (!part->live) continue;
        const struct gw_event event = {
            .type = GW_EV_STOP,
            .stop = {.request = part->id, .branch = i % c->request->options.n, .keep = text->kept}};
        f->port.post(f->port.arg, &event);
    }
}

static void post_cancels(struct gw_completion *c)
{
    const struct gw_front *f = c->front;
    for (uint32_t i = 0; c->parts && i < c->request->prompts_len; i++) {
        if (!c->parts[i].cancel) continue;
        c->parts[i].cancel = false;
        const struct gw_event event = {.type = GW_EV_CANCEL, .cancel.request = c->parts[i].id};
        f->port.post(f->port.arg, &event);
    }
}

void gw_completions_flush(struct gw_front *f)
{
    while (!STAILQ_EMPTY(&f->dirty)) {
        struct gw_completion *c = STAILQ_FIRST(&f->dirty);
        STAILQ_REMOVE_HEAD(&f->dirty, dirty);
        c->is_dirty = false;
        if (c->parts) post_stops(c);
        post_cancels(c);
        if (c->state == GW_COMPLETION_DONE && !c->in_job && !c->is_dirty) destroy(c);
    }
}

void gw_completions_tick(struct gw_front *f, int64_t now_us)
{
    for (struct gw_completion *c = LIST_FIRST(&f->completions); c; c = LIST_NEXT(c, all)) {
        bool stream = c->state == GW_COMPLETION_WAITING && c->request->options.stream;
        if (stream && now_us - c->received_us >= f->config.sse_ping_us) gw_completion_send_head(c);
    }
}

void gw_completions_fail(struct gw_front *f)
{
    struct gw_openai_error error;
    (void)gw_openai_error_set(&error, 503, NULL, NULL, "the server is shutting down");
    error.retry_after_s = RETRY_AFTER_S;
    for (struct gw_completion *c = LIST_FIRST(&f->completions); c; c = LIST_NEXT(c, all)) fail(c, &error);
}

void gw_completions_destroy(struct gw_front *f)
{
    while (!LIST_EMPTY(&f->completions)) destroy(LIST_FIRST(&f->completions));
}
