#include "controller/front/completion_internal.h"

#include <stdlib.h>

#include "base/rng.h"

#define RETRY_AFTER_S 5 /* instances come back in minutes, queues drain in seconds */

/* ---- life ---------------------------------------------------------------------------------------------- */

void gw_completion_mark_dirty(struct gw_completion *c)
{
    if (c->is_dirty) return;
    c->is_dirty = true;
    STAILQ_INSERT_TAIL(&c->front->dirty, c, dirty);
    if (!c->front->destroying) event_active(c->front->flush, EV_TIMEOUT, 0);
}

void gw_completion_forget_parts(struct gw_completion *c)
{
    for (uint32_t i = 0; c->parts && i < c->request->prompts_len; i++)
        gw_id_map_remove(&c->front->parts, c->parts[i].id);
}

void gw_completion_destroy(struct gw_completion *c)
{
    gw_completion_forget_parts(c);
    gw_completion_stream_destroy(c);
    for (uint32_t i = 0; c->choices && i < c->choices_len; i++) gw_choice_fini(&c->choices[i].text);
    free(c->choices);
    free(c->parts);
    gw_openai_request_destroy(c->request);
    gw_http_body_fini(&c->body);
    LIST_REMOVE(c, all);
    c->front->completions_len--;
    free(c);
}

void gw_completion_enter_done(struct gw_completion *c)
{
    gw_completion_forget_parts(c);
    gw_completion_stream_over(c);
    c->state = GW_COMPLETION_DONE;
    gw_completion_mark_dirty(c);
}

void gw_completion_cancel_parts(struct gw_completion *c)
{
    for (uint32_t i = 0; c->parts && i < c->request->prompts_len; i++) {
        c->parts[i].cancel = c->parts[i].live;
        c->parts[i].live = false;
    }
}

void gw_completion_fail(struct gw_completion *c, const struct gw_openai_error *error)
{
    struct gw_metrics *m = &c->front->metrics;
    if (c->state == GW_COMPLETION_DONE || c->state == GW_COMPLETION_HELD) return;
    if (error->status >= 500)
        m->failed_5xx++;
    else
        m->failed_4xx++;
    gw_completion_cancel_parts(c);
    gw_completion_send_error(c, error);
    if (!gw_completion_stream_hold(c, error)) gw_completion_enter_done(c);
}

static void fail_memory(struct gw_completion *c)
{
    struct gw_openai_error error;
    (void)gw_openai_error_memory(&error);
    gw_completion_fail(c, &error);
}

void gw_completion_on_gone(void *arg)
{
    struct gw_completion *c = arg;
    c->conn = NULL;
    if (gw_completion_stream_detach(c)) return;
    c->front->metrics.aborted++;
    gw_completion_cancel_parts(c);
    gw_completion_enter_done(c);
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

static gw_err_t prepare_parts(struct gw_completion *c, const uint64_t *ids)
{
    uint32_t len = c->request->prompts_len;
    c->parts = calloc(len, sizeof *c->parts);
    if (!c->parts) return GW_ERR_MEMORY;
    for (uint32_t i = 0; i < len; i++) {
        c->parts[i] = (struct gw_part){.owner = c, .id = ids ? ids[i] : fresh_id(c->front), .index = i};
        if (gw_id_map_get(&c->front->parts, c->parts[i].id)) return GW_ERR_INPUT;
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

gw_err_t gw_completion_prepare(struct gw_completion *c, const uint64_t *ids)
{
    TRY(prepare_choices(c));
    return prepare_parts(c, ids);
}

/* The core may answer from inside post: a failed part ends the loop. */
void gw_completion_submit(struct gw_completion *c)
{
    c->state = GW_COMPLETION_WAITING;
    gw_completion_note(c);
    c->front->metrics.prompt_tokens += c->usage.prompt_tokens;
    for (uint32_t i = 0; i < c->request->prompts_len && c->state <= GW_COMPLETION_RUNNING; i++)
        if (post_submit(c, &c->parts[i]) != GW_OK) fail_memory(c);
}

/* The request is known and good. */
static void begin(struct gw_completion *c)
{
    gw_openai_envelope_init(&c->envelope, c->endpoint, c->front->model.name, gw_clock_unix_s());
    c->envelope.usage_follows = c->request->options.include_usage;
    if (gw_completion_prepare(c, NULL) != GW_OK)
        fail_memory(c);
    else if (c->stream)
        gw_completion_stream_begin(c);
    else
        gw_completion_submit(c);
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
        gw_completion_mark_dirty(c); /* the client left meanwhile */
    } else if (skipped) {
        (void)gw_openai_error_set(&c->error, 503, NULL, NULL, "the server is shutting down");
        gw_completion_fail(c, &c->error);
    } else if (!c->request) {
        gw_completion_fail(c, &c->error);
    } else {
        begin(c);
    }
}

static void refuse(struct gw_http_conn *conn, int status, const char *message)
{
    struct gw_openai_error error;
    (void)gw_openai_error_set(&error, status, NULL, NULL, "%s", message);
    error.retry_after_s = RETRY_AFTER_S;
    gw_front_respond_error(conn, &error);
}

struct gw_completion *gw_completion_create(struct gw_front *f, enum gw_openai_endpoint endpoint)
{
    struct gw_completion *c = calloc(1, sizeof *c);
    if (!c) return NULL;
    c->front = f;
    c->state = GW_COMPLETION_TOKENIZING;
    c->endpoint = endpoint;
    c->received_us = gw_front_now_us(f);
    LIST_INSERT_HEAD(&f->completions, c, all);
    f->completions_len++;
    return c;
}

static void start_job(struct gw_completion *c, struct gw_http_conn *conn)
{
    const struct gw_job job = {.work = job_work, .done = job_done, .arg = c};
    c->conn = conn;
    c->body = gw_http_conn_take_body(conn);
    gw_front_tenant(c->front, conn, c->tenant);
    if (gw_pool_submit(c->front->pool, job) != GW_OK) {
        gw_completion_destroy(c);
        refuse(conn, 429, "too many requests wait to be tokenized, try again");
        return;
    }
    c->in_job = true;
    gw_http_conn_hold(conn, gw_completion_on_gone, c);
}

static void handle(struct gw_front *f, struct gw_http_conn *conn, enum gw_openai_endpoint endpoint)
{
    struct gw_openai_error error;
    if (f->stopping && !f->released) {
        refuse(conn, 503, "the server is shutting down");
        return;
    }
    struct gw_completion *c = gw_completion_create(f, endpoint);
    if (!c) {
        refuse(conn, 503, "out of memory, try again");
    } else if (gw_completion_stream_opt_in(c, conn, &error) != GW_OK) {
        gw_completion_destroy(c);
        gw_front_respond_error(conn, &error);
    } else {
        start_job(c, conn);
    }
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
    if (!c->stream || !c->stream->held) /* read for the first time */
        gw_histogram_add(&c->front->metrics.request_s, (double)us / (double)GW_US_PER_S);
    gw_completion_send_end(c);
    if (!gw_completion_stream_hold(c, NULL)) gw_completion_enter_done(c);
}

static void end_choice(struct gw_completion *c, uint32_t i)
{
    struct gw_completion_choice *choice = &c->choices[i];
    struct gw_metrics *m = &c->front->metrics;
    choice->ended = true;
    c->usage.completion_tokens += choice->text.kept;
    if (!choice->counted) {
        m->generation_tokens += choice->text.kept;
        m->finished_length += choice->text.finish == GW_FINISH_LENGTH;
        m->finished_stop += choice->text.finish != GW_FINISH_LENGTH;
    }
    choice->counted = true;
    if (c->request->options.stream) gw_completion_send_finish(c, i);
    if (choice->text.stopped) gw_completion_mark_dirty(c);
    if (--c->open == 0) end_answer(c);
}

void gw_completion_after_change(struct gw_completion *c, uint32_t i, gw_err_t err, size_t before)
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
        gw_completion_fail(c, &error);
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

static void on_tokens(struct gw_part *part, uint32_t branch, const struct gw_tokens *tokens,
                      const char *profile)
{
    struct gw_completion *c = part->owner;
    uint32_t i;
    struct gw_completion_choice *choice = choice_of(part, branch, &i);
    if (!choice || tokens->count == 0) return;
    size_t before = gw_choice_bytes(&choice->text);
    c->state = GW_COMPLETION_RUNNING;
    observe_tokens(c, choice);
    if (c->stream) {
        gw_completion_stream_tokens(c, i, tokens, profile);
        return;
    }
    gw_err_t err = gw_choice_feed(&choice->text, tokens);
    gw_completion_after_change(c, i, err, before);
}

static void on_finish(struct gw_part *part, uint32_t branch, enum gw_finish reason)
{
    uint32_t i;
    struct gw_completion_choice *choice = choice_of(part, branch, &i);
    if (!choice) return;
    if (part->owner->stream) {
        gw_completion_stream_finish(part->owner, i, reason);
        return;
    }
    size_t before = gw_choice_bytes(&choice->text);
    gw_err_t err = gw_choice_end(&choice->text, reason);
    gw_completion_after_change(part->owner, i, err, before);
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
        if (!choice_of(part, branch, &i) || (c->stream && c->stream->logs[i].finish != GW_FINISH_NONE))
            continue;
        (void)gw_openai_error_set(&error, 500, NULL, NULL, "internal error: a choice ended without a reason");
        gw_completion_fail(c, &error);
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
    gw_completion_fail(part->owner, &error);
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
    case GW_ACT_TOKENS: on_tokens(part, a->tokens.branch, &a->tokens.tokens, a->tokens.profile); return;
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
        if (c->state == GW_COMPLETION_DONE && !c->in_job && !c->is_dirty && !gw_completion_stream_is_busy(c))
            gw_completion_destroy(c);
    }
}

void gw_completions_tick(struct gw_front *f, int64_t now_us)
{
    for (struct gw_completion *c = LIST_FIRST(&f->completions); c; c = LIST_NEXT(c, all)) {
        bool stream = c->state == GW_COMPLETION_WAITING && c->request->options.stream;
        if (stream && now_us - c->received_us >= f->config.sse_ping_us) gw_completion_send_head(c);
        if (c->stream) gw_completion_stream_tick(c, now_us);
    }
}

void gw_completions_fail(struct gw_front *f)
{
    struct gw_openai_error error;
    (void)gw_openai_error_set(&error, 503, NULL, NULL, "the server is shutting down");
    error.retry_after_s = RETRY_AFTER_S;
    for (struct gw_completion *c = LIST_FIRST(&f->completions); c; c = LIST_NEXT(c, all))
        if (!gw_completion_stream_suspend(c)) gw_completion_fail(c, &error);
}

void gw_completions_release(struct gw_front *f)
{
    for (struct gw_completion *c = LIST_FIRST(&f->completions); c; c = LIST_NEXT(c, all))
        if (!c->in_job) (void)gw_completion_stream_suspend(c);
}

void gw_completions_drain(struct gw_front *f)
{
    for (struct gw_completion *c = LIST_FIRST(&f->completions); c; c = LIST_NEXT(c, all))
        if (!c->conn && !c->in_job) (void)gw_completion_stream_suspend(c);
}

void gw_completions_destroy(struct gw_front *f)
{
    while (!LIST_EMPTY(&f->completions)) gw_completion_destroy(LIST_FIRST(&f->completions));
}
