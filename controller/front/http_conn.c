#include "controller/front/http_conn_internal.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/rng.h"

#define READ_AHEAD_BYTES 65536                /* of input held while a request is being answered */
#define LINGER_US        (2 * GW_US_PER_S)    /* for the client to read the last answer */
#define GONE_POLL_US     (200 * GW_US_PER_MS) /* how often a half-closed socket is looked at */

void gw_conn_die(struct gw_http_conn *c)
{
    if (c->state == DEAD) return;
    c->state = DEAD;
    bufferevent_disable(c->bev, EV_READ | EV_WRITE);
    event_del(c->timer);
    c->env->dead(c->env->arg, c);
}

/* The request is over: its memory goes. */
static void forget_request(struct gw_http_conn *c)
{
    gw_http_parser_next(c->parser);
    (void)gw_http_budget_count(c->env->budget, &c->counted, 0);
}

/* ---- time ---------------------------------------------------------------------------------------------- */

static int64_t earlier(int64_t a, int64_t b)
{
    if (a == 0) return b;
    return b == 0 || a < b ? a : b;
}

static int64_t next_due(const struct gw_http_conn *c, int64_t now)
{
    int64_t due = c->stall_deadline_us;
    if (c->state == READING || c->state == LINGERING) due = earlier(due, c->read_deadline_us);
    if (c->streaming && c->ping_us) due = earlier(due, c->wrote_us + c->ping_us);
    if (c->state == ANSWERING && c->client_shut) due = earlier(due, now + GONE_POLL_US);
    return due;
}

/* The timer fires at the earliest deadline or before: deadlines mostly move away, so it is only ever set
 * earlier, and looks again when it fires. */
void gw_conn_schedule(struct gw_http_conn *c)
{
    if (c->state == DEAD) return;
    int64_t now = gw_conn_now_us(c), due = next_due(c, now);
    if (due == 0 || (c->timer_us && c->timer_us <= due)) return;
    int64_t wait = due > now ? due - now : 0;
    struct timeval tv = {.tv_sec = wait / GW_US_PER_S, .tv_usec = wait % GW_US_PER_S};
    if (event_add(c->timer, &tv) == 0) c->timer_us = due;
}

/* Has the loop come back to this connection soon. */
static void wake(struct gw_http_conn *c)
{
    if (c->state != DEAD) event_active(c->timer, EV_TIMEOUT, 0);
}

static void set_wait(struct gw_http_conn *c, enum wait wait)
{
    const struct gw_http_conn_config *k = c->env->config;
    int64_t span = wait == WAIT_HEAD   ? k->head_timeout_us
                   : wait == WAIT_BODY ? k->body_timeout_us
                                       : k->idle_timeout_us;
    c->wait = wait;
    c->read_deadline_us = gw_conn_now_us(c) + span;
}

/* Every byte must leave: a reader that takes one byte a minute is as dead as one that takes none. */
void gw_conn_watch_stall(struct gw_http_conn *c, int64_t now)
{
    size_t left = gw_conn_unsent(c);
    if (left == 0) {
        c->stall_deadline_us = 0;
    } else if (c->stall_deadline_us == 0 || c->queued_bytes - left >= c->stall_mark) {
        c->stall_mark = c->queued_bytes;
        c->stall_deadline_us = now + c->env->config->stall_timeout_us;
    } else if (now >= c->stall_deadline_us) {
        gw_conn_die(c);
    }
}

void gw_conn_next(struct gw_http_conn *c)
{
    forget_request(c);
    if (c->close_after || c->draining) {
        c->state = FLUSHING;
    } else {
        c->state = READING;
        set_wait(c, WAIT_IDLE);
    }
    wake(c);
}

/* ---- reading ------------------------------------------------------------------------------------------- */

/* The client's own X-Request-Id is kept if it cannot harm a log line. */
static void choose_request_id(struct gw_http_conn *c)
{
    static const char harmless[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
    const char *given = NULL;
    enum gw_http_state state = gw_http_parser_state(c->parser);
    if (state == GW_HTTP_STATE_BODY || state == GW_HTTP_STATE_COMPLETE)
        given = gw_http_request_header(gw_http_parser_request(c->parser), "x-request-id");
    size_t len = given ? strlen(given) : 0;
    if (len > 0 && len <= GW_HTTP_REQUEST_ID_MAX && strspn(given, harmless) == len) {
        memcpy(c->request_id, given, len + 1);
        return;
    }
    uint64_t random;
    gw_random_bytes(&random, sizeof random);
    snprintf(c->request_id, sizeof c->request_id, "req-%016llx", (unsigned long long)random);
}

/* From here on there is an answer to give: nothing of the last one is left over. */
static void begin_answer(struct gw_http_conn *c)
{
    c->state = ANSWERING;
    c->read_deadline_us = 0;
    c->method = c->route = "-";
    c->note[0] = '\0';
    c->began_us = gw_conn_now_us(c);
    c->status = 0;
    c->probed = c->streaming = c->chunked = c->no_body = c->http10 = false;
    c->ping_us = 0;
    c->answer_bytes = 0;
    choose_request_id(c);
}

static void know_request(struct gw_http_conn *c)
{
    const struct gw_http_request *r = gw_http_parser_request(c->parser);
    c->method = gw_http_method_name(r->method);
    c->no_body = r->method == GW_HTTP_HEAD;
    c->http10 = r->minor == 0;
    if (!r->keep_alive) c->close_after = true;
}

static void refuse(struct gw_http_conn *c, int status, const char *why)
{
    begin_answer(c);
    c->close_after = true;
    c->env->refuse(c->env->arg, c, status, why);
}

static void on_head(struct gw_http_conn *c)
{
    set_wait(c, WAIT_BODY);
    begin_answer(c);
    know_request(c);
    bool close_after = c->close_after;
    c->close_after = true; /* an answer now leaves the body unread */
    c->env->head(c->env->arg, c);
    if (c->state != ANSWERING) return;
    c->close_after = close_after;
    c->state = READING;
    set_wait(c, WAIT_BODY);
    bool asked = gw_http_parser_request(c->parser)->expect_continue;
    if (asked && evbuffer_get_length(bufferevent_get_input(c->bev)) == 0)
        gw_conn_put(c, "HTTP/1.1 100 Continue\r\n\r\n", 25);
}

static void on_request(struct gw_http_conn *c)
{
    begin_answer(c);
    know_request(c);
    c->env->request(c->env->arg, c);
    if (c->state == ANSWERING && c->client_shut) gw_conn_probe(c);
}

static void refuse_malformed(struct gw_http_conn *c)
{
    const char *why;
    int status = gw_http_parser_failure(c->parser, &why);
    refuse(c, status, why);
}

static void on_parsed(struct gw_http_conn *c, enum gw_http_state state)
{
    switch (state) {
    case GW_HTTP_STATE_HEAD:
        if (c->wait == WAIT_IDLE && gw_http_parser_started(c->parser)) set_wait(c, WAIT_HEAD);
        return;
    case GW_HTTP_STATE_BODY:
        if (c->wait != WAIT_BODY) on_head(c);
        return;
    case GW_HTTP_STATE_COMPLETE: on_request(c); return;
    case GW_HTTP_STATE_FAILED: refuse_malformed(c); return;
    }
}

static bool is_request_coming(const struct gw_http_conn *c)
{
    int unread = 0;
    return gw_http_parser_started(c->parser) || c->owes_first ||
           (ioctl(bufferevent_getfd(c->bev), FIONREAD, &unread) == 0 && unread > 0);
}

static void read_input(struct gw_http_conn *c)
{
    struct evbuffer *in = bufferevent_get_input(c->bev);
    struct evbuffer_iovec v;
    while (c->state == READING && evbuffer_peek(in, -1, NULL, &v, 1) > 0 && v.iov_len > 0) {
        size_t used = 0;
        enum gw_http_state state = gw_http_parser_feed(c->parser, v.iov_base, v.iov_len, &used);
        evbuffer_drain(in, used);
        if (gw_http_budget_count(c->env->budget, &c->counted, gw_http_parser_request(c->parser)->body.cap))
            on_parsed(c, state);
        else
            refuse(c, 503, "too many large requests at once, try again");
    }
    if (c->state == LINGERING) evbuffer_drain(in, evbuffer_get_length(in));
    /* All that the client sent before it shut its side has been answered, or can never be whole. */
    if (c->state == READING && (c->client_shut || (c->draining && !is_request_coming(c))))
        c->state = FLUSHING;
}

/* ---- the connection's turn ----------------------------------------------------------------------------- */

static void check_read_deadline(struct gw_http_conn *c, int64_t now)
{
    if (c->read_deadline_us == 0 || now < c->read_deadline_us) return;
    if (c->state == READING && gw_http_parser_started(c->parser))
        refuse(c, 408, "the request did not arrive in time");
    else if (c->state == READING || c->state == LINGERING)
        gw_conn_die(c);
}

static bool was_reset(const struct gw_http_conn *c)
{
    struct pollfd p = {.fd = bufferevent_getfd(c->bev)};
    return poll(&p, 1, 0) > 0 && (p.revents & (POLLERR | POLLHUP)) != 0;
}

static void check_stream(struct gw_http_conn *c, int64_t now)
{
    static const char ping[] = ": ping\n\n";
    if (c->state != ANSWERING) return;
    if (c->client_shut && was_reset(c)) {
        gw_conn_die(c);
        return;
    }
    if (c->streaming && c->ping_us && now >= c->wrote_us + c->ping_us)
        gw_http_conn_stream_write(c, ping, sizeof ping - 1);
}

static void check_flushed(struct gw_http_conn *c)
{
    if (c->state != FLUSHING || gw_conn_unsent(c) > 0) return;
    if (c->client_shut) {
        gw_conn_die(c);
        return;
    }
    shutdown(bufferevent_getfd(c->bev), SHUT_WR);
    c->state = LINGERING;
    c->read_deadline_us = gw_conn_now_us(c) + LINGER_US;
}

/* The one place where everything that may be due is looked at. */
static void turn(struct gw_http_conn *c)
{
    if (c->state == DEAD) return;
    int64_t now = gw_conn_now_us(c);
    gw_conn_watch_stall(c, now);
    check_read_deadline(c, now);
    check_stream(c, now);
    read_input(c);
    check_flushed(c);
    gw_conn_schedule(c);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    struct gw_http_conn *c = arg;
    c->timer_us = 0;
    event_del(c->timer);
    turn(c);
}

static void on_io(struct bufferevent *bev, void *arg)
{
    (void)bev;
    turn(arg);
}

static void on_bev_event(struct bufferevent *bev, short what, void *arg)
{
    (void)bev;
    struct gw_http_conn *c = arg;
    bool eof = (what & BEV_EVENT_EOF) && !(what & BEV_EVENT_ERROR);
    if (!eof || c->state == LINGERING) {
        gw_conn_die(c);
        return;
    }
    c->client_shut = true;
    if (c->state == ANSWERING) gw_conn_probe(c);
    turn(c);
}

/* ---- life ---------------------------------------------------------------------------------------------- */

static void set_socket_options(evutil_socket_t fd)
{
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* tokens go out at once */
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on); /* finds clients whose machine is gone */
}

gw_err_t gw_http_conn_create(const struct gw_http_conn_env *env, evutil_socket_t fd,
                             struct gw_http_conn **out)
{
    struct gw_http_conn *c = calloc(1, sizeof *c);
    if (!c) {
        evutil_closesocket(fd);
        return GW_ERR_MEMORY;
    }
    c->env = env;
    c->bev = bufferevent_socket_new(env->loop, fd, BEV_OPT_CLOSE_ON_FREE);
    if (!c->bev) evutil_closesocket(fd);
    c->timer = evtimer_new(env->loop, on_timer, c);
    gw_err_t err = gw_http_parser_create(&env->config->limits, &c->parser);
    if (!c->bev || !c->timer || err != GW_OK) {
        gw_http_conn_destroy(c);
        return GW_ERR_MEMORY;
    }
    set_socket_options(fd);
    bufferevent_setcb(c->bev, on_io, on_io, on_bev_event, c);
    bufferevent_setwatermark(c->bev, EV_READ, 0, READ_AHEAD_BYTES);
    bufferevent_enable(c->bev, EV_READ | EV_WRITE);
    set_wait(c, WAIT_HEAD);
    gw_conn_schedule(c);
    *out = c;
    return GW_OK;
}

void gw_http_conn_destroy(struct gw_http_conn *c)
{
    if (!c) return;
    void (*gone)(void *) = c->gone;
    c->gone = NULL;
    c->state = DEAD;
    if (gone) {
        gw_conn_report(c, false);
        gone(c->gone_arg);
    }
    if (c->timer) event_free(c->timer);
    if (c->bev) bufferevent_free(c->bev);
    if (c->parser) forget_request(c);
    gw_http_parser_destroy(c->parser);
    free(c);
}

void gw_http_conn_drain(struct gw_http_conn *c, int64_t first_us)
{
    c->draining = true;
    if (c->state == READING && c->wait == WAIT_HEAD && first_us > 0) {
        c->owes_first = true;
        c->read_deadline_us = earlier(c->read_deadline_us, gw_conn_now_us(c) + first_us);
    }
    wake(c);
}

void gw_http_conn_set_user(struct gw_http_conn *c, void *user)
{
    c->user = user;
}

void *gw_http_conn_user(const struct gw_http_conn *c)
{
    return c->user;
}
