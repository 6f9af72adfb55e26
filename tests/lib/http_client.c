#include "tests/lib/http_client.h"

#include <assert.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include "base/clock.h"

#define WAIT_US      (10 * GW_US_PER_S)
#define TEXT_CHECKED 4000 /* shown when a wait fails */

struct http_client {
    struct event_base *loop;
    struct bufferevent *bev;
    bool closed, was_reset;
    char *head, *body; /* of the last response */
    struct event *nap; /* makes the loop return */
};

static void on_event(struct bufferevent *bev, short what, void *arg)
{
    (void)bev;
    struct http_client *c = arg;
    if (what & (BEV_EVENT_EOF | BEV_EVENT_ERROR)) c->closed = true;
    if (what & BEV_EVENT_ERROR) c->was_reset = true;
}

static void on_nap(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what, (void)arg;
}

struct http_client *http_client_create(struct event_base *loop, uint16_t port)
{
    struct http_client *c = calloc(1, sizeof *c);
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(port)};
    int on = 1;
    assert(c);
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    evutil_socket_t fd = socket(AF_INET, SOCK_STREAM, 0);
    assert(fd >= 0 && connect(fd, (struct sockaddr *)&addr, sizeof addr) == 0);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    evutil_make_socket_nonblocking(fd);
    c->loop = loop;
    c->bev = bufferevent_socket_new(loop, fd, BEV_OPT_CLOSE_ON_FREE);
    c->nap = evtimer_new(loop, on_nap, NULL);
    assert(c->bev && c->nap);
    bufferevent_setcb(c->bev, NULL, NULL, on_event, c);
    bufferevent_enable(c->bev, EV_READ | EV_WRITE);
    return c;
}

void http_client_destroy(struct http_client *c)
{
    if (c->bev) bufferevent_free(c->bev);
    event_free(c->nap);
    free(c->head);
    free(c->body);
    free(c);
}

void http_client_send_bytes(struct http_client *c, const void *bytes, size_t len)
{
    ssize_t now = 0;
    if (evbuffer_get_length(bufferevent_get_output(c->bev)) == 0)
        now = send(bufferevent_getfd(c->bev), bytes, len, MSG_NOSIGNAL);
    size_t sent = now > 0 ? (size_t)now : 0;
    bufferevent_write(c->bev, (const char *)bytes + sent, len - sent);
}

void http_client_send(struct http_client *c, const char *text)
{
    http_client_send_bytes(c, text, strlen(text));
}

void http_client_post(struct http_client *c, const char *path, const char *headers, const char *body)
{
    char head[2048];
    int n =
        snprintf(head, sizeof head, "POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\n%sContent-Length: %zu\r\n\r\n",
                 path, headers, strlen(body));
    assert(n > 0 && n < (int)sizeof head);
    http_client_send(c, head);
    http_client_send(c, body);
}

void http_client_get(struct http_client *c, const char *path)
{
    char head[2048];
    int n = snprintf(head, sizeof head, "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", path);
    assert(n > 0 && n < (int)sizeof head);
    http_client_send(c, head);
}

static struct evbuffer *input(const struct http_client *c)
{
    return bufferevent_get_input(c->bev);
}

/* One turn of the loop; false after the deadline. */
static bool turn(struct http_client *c, int64_t deadline_us)
{
    struct timeval nap = {.tv_usec = 20000};
    event_add(c->nap, &nap);
    event_base_loop(c->loop, EVLOOP_ONCE);
    return gw_clock_mono_us() < deadline_us;
}

static void give_up(struct http_client *c, const char *wanted)
{
    fprintf(stderr, "http client: no %s; so far: %.*s\n", wanted, TEXT_CHECKED, http_client_text(c));
    abort();
}

const char *http_client_text(struct http_client *c)
{
    size_t len = evbuffer_get_length(input(c));
    free(c->body);
    c->body = malloc(len + 1);
    assert(c->body);
    evbuffer_copyout(input(c), c->body, len);
    c->body[len] = '\0';
    return c->body;
}

void http_client_wait_for(struct http_client *c, const char *text)
{
    int64_t deadline = gw_clock_mono_us() + WAIT_US;
    while (evbuffer_search(input(c), text, strlen(text), NULL).pos < 0)
        if (!turn(c, deadline)) give_up(c, text);
}

void http_client_wait_closed(struct http_client *c)
{
    int64_t deadline = gw_clock_mono_us() + WAIT_US;
    while (!c->closed)
        if (!turn(c, deadline)) give_up(c, "end of the connection");
}

void http_client_wait_count(struct http_client *c, const int *value, int wanted)
{
    int64_t deadline = gw_clock_mono_us() + WAIT_US;
    while (*value < wanted)
        if (!turn(c, deadline)) give_up(c, "such count");
}

void http_client_run(struct http_client *c, int ms)
{
    int64_t deadline = gw_clock_mono_us() + ms * GW_US_PER_MS;
    while (turn(c, deadline)) continue;
}

bool http_client_closed(const struct http_client *c)
{
    return c->closed;
}

void http_client_forget(struct http_client *c)
{
    evbuffer_drain(input(c), evbuffer_get_length(input(c)));
}

bool http_client_was_reset(const struct http_client *c)
{
    return c->was_reset;
}

/* ---- responses ----------------------------------------------------------------------------------------- */

static const char *find_header(const char *head, const char *name)
{
    size_t len = strlen(name);
    for (const char *line = strstr(head, "\r\n"); line; line = strstr(line + 2, "\r\n"))
        if (strncasecmp(line + 2, name, len) == 0 && line[2 + len] == ':') return line + 2 + len + 2;
    return NULL;
}

static void take_head(struct http_client *c)
{
    http_client_wait_for(c, "\r\n\r\n");
    size_t len = (size_t)evbuffer_search(input(c), "\r\n\r\n", 4, NULL).pos + 4;
    free(c->head);
    c->head = calloc(1, len + 1);
    assert(c->head);
    evbuffer_remove(input(c), c->head, len);
}

static void wait_bytes(struct http_client *c, size_t len)
{
    int64_t deadline = gw_clock_mono_us() + WAIT_US;
    while (evbuffer_get_length(input(c)) < len)
        if (c->closed || !turn(c, deadline)) give_up(c, "whole body");
}

static size_t take_chunk_size(struct http_client *c)
{
    char line[32] = {0};
    http_client_wait_for(c, "\r\n");
    size_t len = (size_t)evbuffer_search(input(c), "\r\n", 2, NULL).pos + 2;
    assert(len < sizeof line);
    evbuffer_remove(input(c), line, len);
    return strtoul(line, NULL, 16);
}

static size_t take_chunks(struct http_client *c)
{
    size_t len = 0, size;
    do {
        size = take_chunk_size(c);
        wait_bytes(c, size + 2);
        c->body = realloc(c->body, len + size + 1);
        assert(c->body);
        evbuffer_remove(input(c), c->body + len, size);
        evbuffer_drain(input(c), 2);
        len += size;
    } while (size > 0);
    return len;
}

static size_t take_bytes(struct http_client *c, size_t len)
{
    wait_bytes(c, len);
    c->body = realloc(c->body, len + 1);
    assert(c->body);
    evbuffer_remove(input(c), c->body, len);
    return len;
}

struct http_response http_client_response(struct http_client *c)
{
    struct http_response r = {0};
    do {
        take_head(c);
        r.status = (int)strtol(c->head + 9, NULL, 10);
    } while (r.status < 200);
    const char *length = find_header(c->head, "content-length");
    if (find_header(c->head, "transfer-encoding")) {
        r.body_len = take_chunks(c);
    } else if (length) {
        r.body_len = take_bytes(c, strtoul(length, NULL, 10));
    } else {
        http_client_wait_closed(c);
        r.body_len = take_bytes(c, evbuffer_get_length(input(c)));
    }
    c->body[r.body_len] = '\0';
    r.head = c->head;
    r.body = c->body;
    return r;
}

/* ---- leaving ------------------------------------------------------------------------------------------- */

void http_client_shut_write(struct http_client *c)
{
    int64_t deadline = gw_clock_mono_us() + WAIT_US;
    while (evbuffer_get_length(bufferevent_get_output(c->bev)) > 0)
        if (!turn(c, deadline)) give_up(c, "room to send");
    shutdown(bufferevent_getfd(c->bev), SHUT_WR);
}

void http_client_stop_reading(struct http_client *c)
{
    bufferevent_disable(c->bev, EV_READ);
}

void http_client_close(struct http_client *c)
{
    bufferevent_free(c->bev);
    c->bev = NULL;
}

void http_client_reset(struct http_client *c)
{
    struct linger now = {.l_onoff = 1};
    setsockopt(bufferevent_getfd(c->bev), SOL_SOCKET, SO_LINGER, &now, sizeof now);
    http_client_close(c);
}
