/* Streams that clients may come back to: their logs, the journal, and how long they live without a client. */
#include "controller/front/completion_internal.h"

#include <stdlib.h>
#include <string.h>

#include "controller/front/stream_codec.h"
#include "migrate/profile.h"

#define HELD_MAX      1024 /* ended streams kept for their grace; beyond it the one that has waited longest goes */
#define RETRY_AFTER_S 5 /* a full disk is not emptied at once, a busy one is */

/* One write that sending waits for. */
struct write {
    struct gw_completion *owner;
    uint32_t choice, end; /* records below end are durable then */
};

static const struct gw_front_journal *journal_of(const struct gw_completion *c)
{
    const struct gw_front_journal *j = &c->front->config.journal;
    return j->append ? j : NULL;
}

static void end_entry(struct gw_completion *c)
{
    const struct gw_front_journal *j = journal_of(c);
    if (c->stream->journaled) j->end(j->arg, c->parts[0].id);
    c->stream->journaled = false;
}

/* ---- opting in ----------------------------------------------------------------------------------------- */

gw_err_t gw_completion_stream_opt_in(struct gw_completion *c, struct gw_http_conn *conn,
                                     struct gw_openai_error *error)
{
    const char *resume = gw_http_request_header(gw_http_conn_request(conn), "godwit-resume");
    if (!resume || strcmp(resume, "0") == 0) return GW_OK;
    if (strcmp(resume, "1") != 0)
        return gw_openai_error_set(error, 400, NULL, "Godwit-Resume", "the header Godwit-Resume is 1 or 0");
    c->stream = calloc(1, sizeof *c->stream);
    return c->stream ? GW_OK : gw_openai_error_memory(error);
}

gw_err_t gw_completion_stream_alloc(struct gw_completion *c)
{
    struct gw_completion_stream *s = c->stream;
    s->logs = calloc(c->choices_len, sizeof *s->logs);
    s->sendable = calloc(c->choices_len, sizeof *s->sendable);
    s->sent = calloc(c->choices_len, sizeof *s->sent);
    if (!s->logs || !s->sendable || !s->sent) return GW_ERR_MEMORY;
    for (uint32_t i = 0; i < c->choices_len; i++) s->logs[i].top_n = c->request->sampling.top_logprobs;
    return GW_OK;
}

/* ---- the journal's entry begins ------------------------------------------------------------------------ */

static void fail_durability(struct gw_completion *c)
{
    struct gw_openai_error error;
    (void)gw_openai_error_set(
        &error, 503, "not_durable", NULL,
        "the stream cannot be made durable now (the journal cannot be written); try again, or "
        "without the header Godwit-Resume");
    error.retry_after_s = RETRY_AFTER_S;
    gw_completion_fail(c, &error);
}

/* The head goes out at once: a client that has no id yet could not come back. */
static void start(struct gw_completion *c)
{
    c->stream->known = true;
    gw_completion_send_head(c);
    gw_completion_submit(c);
}

static void on_begun(void *arg, gw_err_t err)
{
    struct gw_completion *c = arg;
    c->stream->writes--;
    c->stream->journaled = err == GW_OK;
    if (c->state == GW_COMPLETION_DONE) {
        end_entry(c); /* the client left meanwhile */
        gw_completion_mark_dirty(c);
    } else if (err != GW_OK || c->front->stopping) {
        fail_durability(c); /* the journal may be another's before the entry could end */
    } else {
        start(c);
    }
}

static gw_err_t put_begin(struct gw_completion *c, struct gw_buf *b)
{
    struct gw_stream_begin begin = {.created = c->envelope.created, .request = c->request};
    begin.ids = calloc(c->request->prompts_len, sizeof *begin.ids);
    if (!begin.ids) return GW_ERR_MEMORY;
    for (uint32_t i = 0; i < c->request->prompts_len; i++) begin.ids[i] = c->parts[i].id;
    memcpy(begin.id, c->envelope.id, sizeof begin.id);
    memcpy(begin.fingerprint, c->front->config.fingerprint, sizeof begin.fingerprint);
    memcpy(begin.tenant, c->tenant, sizeof begin.tenant);
    gw_err_t err = gw_stream_put_begin(b, &begin);
    free(begin.ids);
    return err;
}

static gw_err_t journal_begin(struct gw_completion *c)
{
    const struct gw_front_journal *j = journal_of(c);
    struct gw_buf b;
    gw_buf_init(&b, GW_STREAM_PIECE_MAX);
    gw_err_t err = put_begin(c, &b);
    if (err == GW_OK) err = j->append(j->arg, c->parts[0].id, b.data, b.len, on_begun, c);
    gw_buf_fini(&b);
    if (err != GW_OK) return err;
    c->stream->writes++;
    c->state = GW_COMPLETION_JOURNALING;
    return GW_OK;
}

void gw_completion_stream_begin(struct gw_completion *c)
{
    struct gw_openai_error error;
    if (!c->request->options.stream) {
        (void)gw_openai_error_set(&error, 400, NULL, "Godwit-Resume", "Godwit-Resume needs 'stream': true");
        gw_completion_fail(c, &error);
    } else if (gw_completion_stream_alloc(c) != GW_OK) {
        (void)gw_openai_error_memory(&error);
        gw_completion_fail(c, &error);
    } else if (!journal_of(c) && !c->front->stopping) {
        start(c);
    } else if (c->front->stopping || journal_begin(c) != GW_OK) {
        fail_durability(c);
    }
}

/* ---- records ------------------------------------------------------------------------------------------- */

/* Records up to the client's position are shown apart from those behind it, so that just these are sent. */
static uint32_t feed_end(const struct gw_completion_stream *s, uint32_t i, uint32_t kept)
{
    uint32_t end = s->sendable[i];
    return kept < s->sent[i].records && s->sent[i].records < end ? s->sent[i].records : end;
}

static bool goes_on(const struct gw_completion *c, uint32_t i)
{
    return c->state <= GW_COMPLETION_RUNNING && !c->choices[i].ended;
}

void gw_completion_stream_advance(struct gw_completion *c, uint32_t i)
{
    const struct gw_completion_stream *s = c->stream;
    struct gw_choice *text = &c->choices[i].text;
    const struct gw_stream_log *log = &s->logs[i];
    while (goes_on(c, i) && text->kept < s->sendable[i]) {
        const struct gw_tokens t = gw_stream_log_view(log, text->kept, feed_end(s, i, text->kept));
        size_t before = gw_choice_bytes(text);
        gw_err_t err = gw_choice_feed(text, &t);
        gw_completion_after_change(c, i, err, before);
    }
    if (!goes_on(c, i) || log->finish == GW_FINISH_NONE || text->kept < log->len) return;
    size_t before = gw_choice_bytes(text);
    gw_err_t err = gw_choice_end(text, log->finish);
    gw_completion_after_change(c, i, err, before);
}

static void on_written(void *arg, gw_err_t err)
{
    struct write *w = arg;
    struct gw_completion *c = w->owner;
    c->stream->writes--;
    if (c->state == GW_COMPLETION_DONE) {
        gw_completion_mark_dirty(c);
    } else if (err != GW_OK) {
        fail_durability(c); /* what could come out otherwise after a crash must not be shown */
    } else {
        c->stream->sendable[w->choice] = w->end;
        gw_completion_stream_advance(c, w->choice);
    }
    free(w);
}

/* Records that another run would not give again: they are sent once they are durable. */
static gw_err_t write_first(struct gw_completion *c, uint32_t i, const struct gw_buf *piece)
{
    const struct gw_front_journal *j = journal_of(c);
    struct write *w = malloc(sizeof *w);
    if (!w) return GW_ERR_MEMORY;
    *w = (struct write){c, i, c->stream->logs[i].len};
    gw_err_t err = j->append(j->arg, c->parts[0].id, piece->data, piece->len, on_written, w);
    if (err != GW_OK) {
        free(w);
        return err;
    }
    c->stream->writes++;
    return GW_OK;
}

/* Journals the records from `first` on; they may be sent now, or when they are durable. */
static gw_err_t write_records(struct gw_completion *c, uint32_t i, uint32_t first)
{
    struct gw_completion_stream *s = c->stream;
    const struct gw_front_journal *j = journal_of(c);
    const struct gw_tokens fresh = gw_stream_log_view(&s->logs[i], first, s->logs[i].len);
    uint32_t n = c->request->options.n;
    bool exact = gw_profile_exact(s->profile);
    struct gw_buf piece;
    if (exact || !s->journaled) s->sendable[i] = s->logs[i].len;
    if (!s->journaled) return GW_OK;
    gw_buf_init(&piece, GW_STREAM_PIECE_MAX);
    gw_stream_put_tokens(&piece, c->parts[i / n].id, i % n, s->profile, &fresh);
    gw_err_t err = piece.err;
    if (err == GW_OK && !exact) err = write_first(c, i, &piece);
    /* Lost, it is a hole: what is behind it is generated again. */
    if (err == GW_OK && exact) (void)!j->append(j->arg, c->parts[0].id, piece.data, piece.len, NULL, NULL);
    gw_buf_fini(&piece);
    return exact ? GW_OK : err;
}

void gw_completion_stream_tokens(struct gw_completion *c, uint32_t i, const struct gw_tokens *tokens,
                                 const char *profile)
{
    struct gw_completion_stream *s = c->stream;
    struct gw_stream_log *log = &s->logs[i];
    struct gw_openai_error error;
    uint32_t first = log->len;
    size_t before = gw_stream_log_bytes(log);
    snprintf(s->profile, sizeof s->profile, "%s", profile ? profile : "");
    gw_err_t err = gw_stream_log_append(log, tokens);
    c->held_bytes += gw_stream_log_bytes(log) - before;
    if (err != GW_OK) {
        (void)gw_openai_error_set(&error, 500, NULL, NULL, "internal error");
        gw_completion_fail(c, &error);
    } else if (log->len > first && write_records(c, i, first) != GW_OK) {
        fail_durability(c);
    } else {
        gw_completion_stream_advance(c, i);
    }
}

void gw_completion_stream_finish(struct gw_completion *c, uint32_t i, enum gw_finish reason)
{
    c->stream->logs[i].finish = reason;
    gw_completion_stream_advance(c, i);
}

/* ---- without a client ---------------------------------------------------------------------------------- */

static void begin_grace(struct gw_completion *c)
{
    c->stream->deadline_us = gw_front_now_us(c->front) + c->front->config.resume_grace_us;
}

bool gw_completion_stream_detach(struct gw_completion *c)
{
    if (!c->stream || !c->stream->known) return false;
    begin_grace(c);
    if (c->front->stopping) (void)gw_completion_stream_suspend(c);
    return true;
}

static void drop_longest_held(struct gw_front *f)
{
    struct gw_completion *oldest = NULL;
    for (struct gw_completion *c = LIST_FIRST(&f->completions); c; c = LIST_NEXT(c, all)) {
        if (c->state != GW_COMPLETION_HELD || c->conn) continue;
        if (!oldest || c->stream->deadline_us < oldest->stream->deadline_us) oldest = c;
    }
    if (oldest) gw_completion_enter_done(oldest);
}

bool gw_completion_stream_hold(struct gw_completion *c, const struct gw_openai_error *error)
{
    struct gw_completion_stream *s = c->stream;
    if (!s || !s->known) return false;
    begin_grace(c);
    gw_completion_forget_parts(c);
    gw_completion_mark_dirty(c);
    c->state = GW_COMPLETION_HELD;
    if (error) {
        s->failed = true;
        s->error = *error;
        end_entry(c);
    }
    if (c->front->stopping) return gw_completion_stream_suspend(c);
    if (!s->held && ++c->front->held_len > HELD_MAX) drop_longest_held(c->front);
    s->held = true;
    return true;
}

void gw_completion_stream_tick(struct gw_completion *c, int64_t now_us)
{
    const struct gw_completion_stream *s = c->stream;
    if (c->conn || s->deadline_us == 0 || now_us < s->deadline_us || c->state < GW_COMPLETION_WAITING) return;
    if (c->state == GW_COMPLETION_DONE) return;
    if (c->state != GW_COMPLETION_HELD) c->front->metrics.aborted++;
    gw_completion_cancel_parts(c);
    gw_completion_enter_done(c);
}

bool gw_completion_stream_suspend(struct gw_completion *c)
{
    struct gw_completion_stream *s = c->stream;
    bool can = s && (s->journaled || !c->conn) && c->state >= GW_COMPLETION_WAITING;
    if (!can || c->state == GW_COMPLETION_DONE) return false;
    if (c->conn) {
        gw_http_conn_close_after(c->conn);
        gw_http_conn_stream_end(c->conn); /* without [DONE]: it has not ended */
        c->conn = NULL;
    }
    s->journaled = false; /* the entry is the next controller's */
    gw_completion_cancel_parts(c);
    gw_completion_enter_done(c);
    return true;
}

/* ---- ends ---------------------------------------------------------------------------------------------- */

bool gw_completion_stream_is_busy(const struct gw_completion *c)
{
    return c->stream && c->stream->writes > 0;
}

void gw_completion_stream_over(struct gw_completion *c)
{
    struct gw_completion_stream *s = c->stream;
    if (!s) return;
    end_entry(c);
    if (s->held) c->front->held_len--;
    s->held = false;
}

void gw_completion_stream_destroy(struct gw_completion *c)
{
    struct gw_completion_stream *s = c->stream;
    if (!s) return;
    for (uint32_t i = 0; s->logs && i < c->choices_len; i++) gw_stream_log_fini(&s->logs[i]);
    free(s->logs);
    free(s->sendable);
    free(s->sent);
    free(s);
    c->stream = NULL;
}

/* ---- events -------------------------------------------------------------------------------------------- */

void gw_completion_stream_put_id(struct gw_completion *c, struct gw_buf *b)
{
    const struct gw_completion_stream *s = c->stream;
    if (!s) return;
    gw_buf_puts(b, "id: ");
    gw_position_put(b, s->sent, c->choices_len, s->usage_sent);
    gw_buf_puts(b, "\n");
}

bool gw_completion_stream_usage(struct gw_completion *c)
{
    if (!c->stream) return true;
    bool due = !c->stream->usage_sent;
    c->stream->usage_sent = true;
    return due;
}
