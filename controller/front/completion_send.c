/* What a completion sends to its client. */
#include "controller/front/completion_internal.h"

#define EVENT_BYTES_MAX (GW_ANSWER_BYTES_MAX) /* one event holds one batch of records of one choice */

void gw_completion_note(struct gw_completion *c)
{
    if (!c->parts || !c->conn) return;
    unsigned long long id = c->parts[0].id;
    double first_ms = c->first_us ? (double)(c->first_us - c->received_us) / (double)GW_US_PER_MS : 0;
    gw_http_conn_note(c->conn, "core=%llu prompt=%llu tokens=%llu choices=%u ttft_ms=%.1f", id,
                      (unsigned long long)c->usage.prompt_tokens,
                      (unsigned long long)c->usage.completion_tokens, c->choices_len, first_ms);
}

void gw_completion_send_head(struct gw_completion *c)
{
    const struct gw_http_header headers[] = {
        {"Cache-Control", "no-cache"}, {"X-Accel-Buffering", "no"}, {"Godwit-Stream", c->envelope.id}};
    const struct gw_http_answer answer = {.status = 200,
                                          .content_type = "text/event-stream; charset=utf-8",
                                          .headers = headers,
                                          .headers_len = c->stream ? 3 : 2};
    if (c->head_sent || !c->conn) return;
    c->head_sent = true;
    gw_http_conn_stream_begin(c->conn, &answer, c->front->config.sse_ping_us);
}

/* Writes the event that b holds. Memory lacking, the stream cannot go on: a hole in it would be a lie. */
static void send_event(struct gw_completion *c, struct gw_buf *b)
{
    if (b->err == GW_OK && c->conn)
        gw_http_conn_stream_write(c->conn, b->data, b->len);
    else if (c->conn)
        gw_http_conn_abort(c->conn);
    gw_buf_fini(b);
}

static void put_role_once(struct gw_completion *c, uint32_t i, struct gw_buf *b)
{
    struct gw_completion_choice *choice = &c->choices[i];
    struct gw_position *sent = gw_completion_stream_sent(c, i);
    bool due = !choice->begun && c->endpoint == GW_OPENAI_CHAT;
    choice->begun = true;
    if (sent) sent->begun = true;
    if (!due) return;
    gw_completion_stream_put_id(c, b);
    gw_openai_put_role_event(b, &c->envelope, i);
}

/* Has the client of a stream what the choice shows now? */
static bool is_behind(struct gw_completion *c, uint32_t i)
{
    const struct gw_choice *text = &c->choices[i].text;
    const struct gw_position *sent = gw_completion_stream_sent(c, i);
    if (!sent) return false;
    return text->kept <= sent->records && sent->begun && (text->finish == GW_FINISH_NONE || sent->flushed);
}

static void drop_text(struct gw_choice *text)
{
    struct gw_buf b;
    gw_buf_init(&b, EVENT_BYTES_MAX);
    gw_logprobs_take(&text->logprobs, &b);
    gw_buf_fini(&b);
    gw_buf_reset(&text->text);
}

static void put_text(struct gw_completion *c, uint32_t i, struct gw_buf *b)
{
    struct gw_choice *text = &c->choices[i].text;
    struct gw_position *sent = gw_completion_stream_sent(c, i);
    if (text->text.len == 0 && gw_logprobs_bytes(&text->logprobs) == 0) return;
    if (sent) {
        sent->records = text->kept;
        sent->flushed = text->finish != GW_FINISH_NONE;
        gw_completion_stream_put_id(c, b);
    }
    gw_openai_put_text_event(b, &c->envelope, i, text->text.data, text->text.len, text);
}

void gw_completion_send_text(struct gw_completion *c, uint32_t i)
{
    struct gw_choice *text = &c->choices[i].text;
    struct gw_buf b;
    if (!c->conn || is_behind(c, i)) {
        drop_text(text);
        return;
    }
    gw_completion_send_head(c);
    gw_buf_init(&b, EVENT_BYTES_MAX);
    put_role_once(c, i, &b);
    put_text(c, i, &b);
    gw_buf_reset(&text->text);
    send_event(c, &b);
}

void gw_completion_send_finish(struct gw_completion *c, uint32_t i)
{
    struct gw_position *sent = gw_completion_stream_sent(c, i);
    struct gw_buf b;
    if (!c->conn || (sent && sent->finished)) return;
    gw_completion_send_head(c);
    gw_buf_init(&b, EVENT_BYTES_MAX);
    put_role_once(c, i, &b);
    if (sent) {
        sent->records = c->choices[i].text.kept;
        sent->flushed = sent->finished = true;
        gw_completion_stream_put_id(c, &b);
    }
    gw_openai_put_finish_event(&b, &c->envelope, i, c->choices[i].text.finish);
    send_event(c, &b);
}

static void end_stream(struct gw_completion *c)
{
    struct gw_buf b;
    gw_completion_send_head(c);
    gw_buf_init(&b, EVENT_BYTES_MAX);
    if (c->request->options.include_usage && gw_completion_stream_usage(c)) {
        gw_completion_stream_put_id(c, &b);
        gw_openai_put_usage_event(&b, &c->envelope, &c->usage);
    }
    gw_openai_put_done_event(&b);
    send_event(c, &b);
    gw_http_conn_stream_end(c->conn);
}

static void send_body(struct gw_completion *c)
{
    struct gw_buf b;
    gw_buf_init(&b, 2 * (size_t)GW_ANSWER_BYTES_MAX);
    gw_openai_put_body_begin(&b, &c->envelope);
    for (uint32_t i = 0; i < c->choices_len; i++)
        gw_openai_put_body_choice(&b, &c->envelope, i, &c->choices[i].text);
    gw_openai_put_body_end(&b, &c->usage);
    gw_front_respond_json(c->conn, 200, &b);
}

void gw_completion_send_end(struct gw_completion *c)
{
    if (!c->conn) return;
    gw_completion_note(c);
    if (c->request->options.stream)
        end_stream(c);
    else
        send_body(c);
    c->conn = NULL;
}

void gw_completion_send_error(struct gw_completion *c, const struct gw_openai_error *error)
{
    struct gw_buf b;
    if (!c->conn) return;
    gw_completion_note(c);
    if (!c->head_sent) {
        gw_front_respond_error(c->conn, error);
    } else {
        gw_buf_init(&b, EVENT_BYTES_MAX);
        gw_openai_put_error_event(&b, error);
        gw_http_conn_close_after(c->conn);
        send_event(c, &b);
        gw_http_conn_stream_end(c->conn);
    }
    c->conn = NULL;
}
