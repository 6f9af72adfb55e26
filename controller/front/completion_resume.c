/* Coming back to a stream: GET /v1/streams/{id}, and what a journal kept of an earlier controller's streams. */
#include "controller/front/completion_internal.h"

#include <stdlib.h>
#include <string.h>

#include "controller/front/stream_codec.h"

/* ---- from the start again ------------------------------------------------------------------------------ */

/* The choices show their logs anew, from the first record on. */
static gw_err_t rewind_choices(struct gw_completion *c)
{
    const struct gw_openai_request *r = c->request;
    for (uint32_t i = 0; i < c->choices_len; i++) {
        struct gw_completion_choice *choice = &c->choices[i];
        const struct gw_openai_prompt *prompt = &r->prompts[i / r->options.n];
        c->held_bytes -= gw_choice_bytes(&choice->text);
        gw_choice_fini(&choice->text);
        TRY(gw_choice_init(&choice->text, c->front->model.tokenizer, &r->options, &r->sampling));
        if (prompt->text && !c->stream->sent[i].begun)
            gw_buf_put(&choice->text.text, prompt->text, prompt->text_len);
        TRY(choice->text.text.err);
        c->held_bytes += gw_choice_bytes(&choice->text);
        choice->begun = c->stream->sent[i].begun;
        choice->ended = false;
    }
    c->open = c->choices_len;
    c->usage.completion_tokens = 0;
    return GW_OK;
}

/* Sends what the client lacks; the rest follows as it comes. */
static void catch_up(struct gw_completion *c)
{
    struct gw_completion_stream *s = c->stream;
    bool failed = s->failed;
    struct gw_openai_error error = s->error;
    c->state = GW_COMPLETION_RUNNING;
    gw_completion_send_head(c);
    for (uint32_t i = 0; i < c->choices_len && c->state == GW_COMPLETION_RUNNING; i++)
        gw_completion_stream_advance(c, i);
    if (failed && c->state == GW_COMPLETION_RUNNING) gw_completion_fail(c, &error);
}

static void attach(struct gw_completion *c, struct gw_http_conn *conn)
{
    struct gw_openai_error error;
    if (c->conn) { /* its client has another one now */
        gw_http_conn_close_after(c->conn);
        gw_http_conn_stream_end(c->conn);
    }
    c->front->metrics.streams_resumed++;
    c->conn = conn;
    c->head_sent = false;
    gw_http_conn_hold(conn, gw_completion_on_gone, c);
    gw_completion_note(c);
    if (rewind_choices(c) == GW_OK) {
        catch_up(c);
        return;
    }
    (void)gw_openai_error_memory(&error);
    c->state = GW_COMPLETION_RUNNING;
    gw_completion_fail(c, &error);
}

/* ---- GET /v1/streams/{id} ------------------------------------------------------------------------------ */

static struct gw_completion *find(struct gw_front *f, const char *id, struct gw_http_conn *conn)
{
    uint8_t tenant[GW_REQUEST_TENANT_BYTES];
    struct gw_completion *c = LIST_FIRST(&f->completions);
    gw_front_tenant(f, conn, tenant);
    while (c) {
        bool readable = c->stream && c->stream->known && c->state != GW_COMPLETION_DONE;
        if (readable && strcmp(c->envelope.id, id) == 0) break;
        c = LIST_NEXT(c, all);
    }
    return c && memcmp(c->tenant, tenant, sizeof tenant) == 0 ? c : NULL;
}

/* *positions: what the client has, read from its Last-Event-ID; the caller frees. */
static gw_err_t read_positions(const struct gw_completion *c, struct gw_http_conn *conn,
                               struct gw_position **positions, bool *usage, struct gw_openai_error *error)
{
    const char *last = gw_http_request_header(gw_http_conn_request(conn), "last-event-id");
    struct gw_position *p = calloc(c->choices_len, sizeof *p);
    if (!p) return gw_openai_error_memory(error);
    *usage = false;
    if (last && *last && gw_position_parse(last, p, c->choices_len, usage) != GW_OK) {
        free(p);
        return gw_openai_error_set(error, 400, NULL, "Last-Event-ID",
                                   "Last-Event-ID is no id of an event of this stream");
    }
    *positions = p;
    return GW_OK;
}

static void answer_head(struct gw_http_conn *conn)
{
    const struct gw_http_answer answer = {.status = 200, .content_type = "text/event-stream; charset=utf-8"};
    gw_http_conn_respond(conn, &answer);
}

void gw_front_handle_stream(void *arg, struct gw_http_conn *conn, const char *rest)
{
    struct gw_front *f = arg;
    struct gw_openai_error error;
    struct gw_position *positions = NULL;
    bool usage;
    struct gw_completion *c = f->stopping ? NULL : find(f, rest, conn);
    if (!c) {
        /* The same for another tenant's: whether it exists is nobody's business. */
        int status = f->stopping ? 503 : 404;
        (void)gw_openai_error_set(&error, status, status == 404 ? "stream_not_found" : NULL, NULL,
                                  status == 404 ? "there is no such stream (any more)"
                                                : "the server is shutting down");
        error.retry_after_s = status == 503;
        gw_front_respond_error(conn, &error);
    } else if (gw_http_conn_request(conn)->method == GW_HTTP_HEAD) {
        answer_head(conn);
    } else if (read_positions(c, conn, &positions, &usage, &error) != GW_OK) {
        gw_front_respond_error(conn, &error);
    } else {
        free(c->stream->sent);
        c->stream->sent = positions;
        c->stream->usage_sent = usage;
        attach(c, conn);
    }
}

/* ---- after a restart ----------------------------------------------------------------------------------- */

/* Branch b of the core's request `id` is choice *i. */
static bool choice_index(const struct gw_completion *c, uint64_t id, uint32_t branch, uint32_t *i)
{
    uint32_t n = c->request->options.n;
    for (uint32_t part = 0; part < c->request->prompts_len; part++)
        if (c->parts[part].id == id && branch < n) {
            *i = part * n + branch;
            return true;
        }
    return false;
}

/* A piece that does not follow on is behind a hole: what it holds is generated again. */
static gw_err_t restore_tokens(struct gw_completion *c, const void *piece, size_t len)
{
    struct gw_stream_tokens t;
    uint32_t i;
    TRY(gw_stream_get_tokens(piece, len, &t));
    const struct gw_msg_tokens *m = &t.msg.tokens;
    gw_err_t err = choice_index(c, m->request, m->branch, &i) ? GW_OK : GW_ERR_PROTO;
    if (err == GW_OK && (uint64_t)m->tokens.first + m->tokens.count >
                            c->request->prompts[i / c->request->options.n].max_tokens)
        err = GW_ERR_PROTO;
    if (err == GW_OK && m->tokens.first <= c->stream->logs[i].len) {
        err = gw_stream_log_append(&c->stream->logs[i], &m->tokens);
        memcpy(c->stream->profile, t.profile, sizeof t.profile);
    }
    gw_msg_fini(&t.msg);
    return err;
}

/* The ends that follow from the records themselves. */
static void find_ends(struct gw_completion *c)
{
    for (uint32_t i = 0; i < c->choices_len; i++) {
        struct gw_stream_log *log = &c->stream->logs[i];
        struct gw_sampling sampling = c->request->sampling;
        sampling.max_tokens = c->request->prompts[i / c->request->options.n].max_tokens;
        for (uint32_t k = 0; k < log->len && log->finish == GW_FINISH_NONE; k++) {
            log->finish = gw_request_finish_at(&sampling, k, log->ids[k]);
            if (log->finish != GW_FINISH_NONE) log->len = k + 1;
        }
        c->stream->sendable[i] = log->len;
        c->held_bytes += gw_stream_log_bytes(log);
    }
}

static gw_err_t take_begin(struct gw_completion *c, struct gw_stream_begin *begin)
{
    c->request = begin->request;
    begin->request = NULL;
    c->endpoint = c->request->options.endpoint;
    memcpy(c->tenant, begin->tenant, sizeof c->tenant);
    c->envelope = (struct gw_openai_envelope){.endpoint = c->endpoint,
                                              .created = begin->created,
                                              .model = c->front->model.name,
                                              .usage_follows = c->request->options.include_usage};
    memcpy(c->envelope.id, begin->id, sizeof begin->id);
    c->stream = calloc(1, sizeof *c->stream);
    if (!c->stream) return GW_ERR_MEMORY;
    TRY(gw_completion_prepare(c, begin->ids));
    TRY(gw_completion_stream_alloc(c));
    c->stream->known = c->stream->journaled = true;
    return GW_OK;
}

static gw_err_t restore_begin(struct gw_completion *c, const void *piece, size_t len)
{
    struct gw_stream_begin begin;
    TRY(gw_stream_get_begin(piece, len, &begin));
    gw_err_t err = memcmp(begin.fingerprint, c->front->config.fingerprint, sizeof begin.fingerprint) == 0
                       ? take_begin(c, &begin)
                       : GW_ERR_INPUT;
    gw_stream_begin_fini(&begin);
    return err;
}

static gw_err_t restore_pieces(struct gw_completion *c, uint64_t entry, const void *pieces, size_t len)
{
    struct gw_reader r;
    const uint8_t *piece;
    gw_reader_init(&r, pieces, len);
    size_t piece_len = gw_read_bytes(&r, GW_STREAM_PIECE_MAX, &piece);
    if (r.err != GW_OK) return GW_ERR_PROTO;
    TRY(restore_begin(c, piece, piece_len));
    if (c->parts[0].id != entry) return GW_ERR_PROTO;
    while (r.pos < r.len) {
        piece_len = gw_read_bytes(&r, GW_STREAM_PIECE_MAX, &piece);
        if (r.err != GW_OK) return GW_ERR_PROTO;
        TRY(restore_tokens(c, piece, piece_len));
    }
    find_ends(c);
    return GW_OK;
}

/* What part still has to be generated. */
static gw_err_t post_restore(struct gw_completion *c, struct gw_part *part)
{
    struct gw_front *f = c->front;
    uint32_t n = c->request->options.n, open = 0;
    struct gw_core_restored *branches = calloc(n, sizeof *branches);
    struct gw_request *request = NULL;
    gw_err_t err = branches ? GW_OK : GW_ERR_MEMORY;
    for (uint32_t b = 0; err == GW_OK && b < n; b++) {
        const struct gw_completion_choice *choice = &c->choices[part->index * n + b];
        const struct gw_stream_log *log = &c->stream->logs[part->index * n + b];
        branches[b].tokens = gw_stream_log_view(log, 0, choice->ended ? choice->text.kept : log->len);
        branches[b].done = choice->ended;
        open += !choice->ended;
    }
    if (err == GW_OK && open > 0)
        err = gw_openai_request_core(c->request, part->index, part->id, c->tenant, &request);
    if (err == GW_OK && open > 0) {
        const struct gw_event event = {
            .type = GW_EV_RESTORE,
            .restore = {.request = request, .branches = branches, .profile = c->stream->profile}};
        part->live = true;
        f->port.post(f->port.arg, &event);
    }
    free(branches);
    return err;
}

/* Shows the logs to nobody: so ends by stop strings are found. */
static void resume_work(struct gw_completion *c)
{
    struct gw_openai_error error;
    c->state = GW_COMPLETION_RUNNING;
    c->stream->deadline_us = gw_front_now_us(c->front) + c->front->config.resume_grace_us;
    for (uint32_t i = 0; i < c->choices_len && c->state == GW_COMPLETION_RUNNING; i++) {
        c->choices[i].counted = true; /* by the controller that generated them, where they have ended */
        gw_completion_stream_advance(c, i);
        c->choices[i].counted = c->choices[i].ended;
        c->choices[i].text.stopped = false; /* the core is told by RESTORE */
    }
    for (uint32_t i = 0; i < c->request->prompts_len && c->state == GW_COMPLETION_RUNNING; i++) {
        if (post_restore(c, &c->parts[i]) == GW_OK) continue;
        (void)gw_openai_error_memory(&error);
        gw_completion_fail(c, &error);
    }
}

gw_err_t gw_front_restore(struct gw_front *f, uint64_t entry, const void *pieces, size_t len)
{
    struct gw_completion *c = gw_completion_create(f, GW_OPENAI_CHAT);
    if (!c) return GW_ERR_MEMORY;
    gw_err_t err = restore_pieces(c, entry, pieces, len);
    if (err == GW_OK) {
        gw_logf(f->log, GW_LOG_INFO, "stream=%s core=%llu goes on after a restart", c->envelope.id,
                (unsigned long long)entry);
        f->metrics.streams_restored++;
        resume_work(c);
        return GW_OK;
    }
    gw_completion_destroy(c);
    if (err == GW_ERR_MEMORY || err == GW_ERR_LIMIT) return err;
    gw_logf(f->log, GW_LOG_WARN, "a stream of the journal is dropped: %s",
            err == GW_ERR_INPUT ? "it is of another model" : "it cannot be read");
    f->config.journal.end(f->config.journal.arg, entry);
    return GW_OK;
}
