/* Answers: what a connection sends, and what handlers may say about it. */
#include "controller/front/http_conn_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include "controller/front/http_head.h"

#define VERSION_LEN (sizeof GW_HTTP_VERSION_BYTES - 1)

/* Called after bytes were added to the output. */
static void queued(struct gw_http_conn *c, size_t len)
{
    c->queued_bytes += len;
    c->answer_bytes += len;
    c->wrote_us = gw_conn_now_us(c);
    gw_conn_watch_stall(c, c->wrote_us);
}

void gw_conn_put(struct gw_http_conn *c, const void *bytes, size_t len)
{
    if (c->state == DEAD || len == 0) return;
    if (evbuffer_add(bufferevent_get_output(c->bev), bytes, len) != 0)
        gw_conn_die(c);
    else
        queued(c, len);
}

/* A reader too slow for what is already queued is dropped before more is. */
static bool room_left(struct gw_http_conn *c)
{
    if (c->state != ANSWERING) return false;
    if (gw_conn_unsent(c) <= c->env->config->queued_bytes_max) return true;
    gw_conn_die(c);
    return false;
}

static const char *connection_header(const struct gw_http_conn *c)
{
    if (c->close_after || c->draining) return "close";
    return c->http10 ? "keep-alive" : NULL;
}

static void put_head(struct gw_http_conn *c, const struct gw_http_answer *a, enum gw_http_framing framing)
{
    struct gw_http_head head = {.status = a->status,
                                .content_type = a->content_type,
                                .request_id = c->request_id,
                                .framing = framing,
                                .length = a->body_len,
                                .connection = connection_header(c),
                                .date = (time_t)gw_clock_unix_s(),
                                .headers = a->headers,
                                .headers_len = a->headers_len};
    struct evbuffer *text = evbuffer_new();
    if (!text || gw_http_head_put(text, &head) != GW_OK) {
        if (text) evbuffer_free(text);
        gw_conn_die(c);
        return;
    }
    if (c->probed) evbuffer_drain(text, VERSION_LEN);
    size_t len = evbuffer_get_length(text);
    c->status = a->status;
    if (evbuffer_add_buffer(bufferevent_get_output(c->bev), text) != 0)
        gw_conn_die(c);
    else
        queued(c, len);
    evbuffer_free(text);
}

void gw_conn_report(struct gw_http_conn *c, bool whole)
{
    struct gw_http_access access = {.request_id = c->request_id,
                                    .method = c->method,
                                    .route = c->route,
                                    .note = c->note,
                                    .status = c->status,
                                    .whole = whole,
                                    .bytes = c->answer_bytes,
                                    .us = gw_conn_now_us(c) - c->began_us};
    c->env->access(c->env->arg, &access);
}

/* The handler has said all it had to say: `gone` must not fire any more, even if the connection is dead. */
static void answer_ended(struct gw_http_conn *c)
{
    if (c->state == ANSWERING || c->gone) gw_conn_report(c, c->state == ANSWERING);
    c->gone = NULL;
    if (c->state != ANSWERING) return;
    c->streaming = false;
    gw_conn_next(c);
}

void gw_http_conn_respond(struct gw_http_conn *c, const struct gw_http_answer *a)
{
    if (room_left(c)) {
        put_head(c, a, GW_HTTP_LENGTH);
        if (!c->no_body) gw_conn_put(c, a->body, a->body_len);
    }
    answer_ended(c);
}

void gw_http_conn_stream_begin(struct gw_http_conn *c, const struct gw_http_answer *a, int64_t ping_us)
{
    if (!room_left(c)) return;
    c->chunked = !c->http10;
    if (c->http10) c->close_after = true;
    put_head(c, a, c->chunked ? GW_HTTP_CHUNKED : GW_HTTP_CLOSE);
    c->streaming = true;
    c->ping_us = ping_us;
    gw_conn_schedule(c);
}

void gw_http_conn_stream_write(struct gw_http_conn *c, const void *bytes, size_t len)
{
    char size[24];
    if (!c->streaming || c->no_body || len == 0 || !room_left(c)) return;
    if (c->chunked) gw_conn_put(c, size, (size_t)snprintf(size, sizeof size, "%zx\r\n", len));
    gw_conn_put(c, bytes, len);
    if (c->chunked) gw_conn_put(c, "\r\n", 2);
    gw_conn_schedule(c);
}

void gw_http_conn_stream_end(struct gw_http_conn *c)
{
    if (c->streaming && c->chunked && !c->no_body) gw_conn_put(c, "0\r\n\r\n", 5);
    answer_ended(c);
}

void gw_conn_probe(struct gw_http_conn *c)
{
    if (c->status != 0 || c->probed) return;
    gw_conn_put(c, GW_HTTP_VERSION_BYTES, VERSION_LEN);
    c->probed = true;
}

struct gw_http_request *gw_http_conn_request(struct gw_http_conn *c)
{
    return gw_http_parser_request(c->parser);
}

struct gw_http_body gw_http_conn_take_body(struct gw_http_conn *c)
{
    return gw_http_body_take(&gw_http_parser_request(c->parser)->body, &c->counted, c->env->budget);
}

void gw_http_conn_set_route(struct gw_http_conn *c, const char *route)
{
    c->route = route;
}

void gw_http_conn_note(struct gw_http_conn *c, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(c->note, sizeof c->note, fmt, ap);
    va_end(ap);
}

void gw_http_conn_hold(struct gw_http_conn *c, void (*gone)(void *arg), void *arg)
{
    c->gone = gone;
    c->gone_arg = arg;
}

void gw_http_conn_close_after(struct gw_http_conn *c)
{
    c->close_after = true;
}

void gw_http_conn_abort(struct gw_http_conn *c)
{
    gw_conn_die(c);
}
