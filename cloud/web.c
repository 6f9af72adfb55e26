#include "cloud/web.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/hash.h"
#include "cloud/times.h"

#define WHY_MAX           CURL_ERROR_SIZE
#define RETRY_AFTER_S_MAX 3600
/* libcurl reads up to 100 buffers of 16 KiB before it returns to the loop: 2 ms for a large answer. So a flight is paused
 * when it has got so much in one round of the loop, and goes on in the next: 0.1 ms. */
#define ROUND_BYTES (32u << 10)

struct gw_web_flight {
    struct gw_web_client *client;
    struct gw_web_flight *next, **link; /* in the client's list of flights */
    CURL *easy;
    struct curl_slist *headers;
    gw_web_done done;
    void *done_arg;
    struct gw_buf body;
    struct gw_web_reply reply;
    char why[WHY_MAX];
    bool cancelled, too_long;
    bool paused;
    uint64_t round; /* of the client, in which round_len bytes came */
    size_t round_len;
};

/* A socket of libcurl's in the loop. */
struct watched {
    struct event *event;
    curl_socket_t fd;
};

struct gw_web_client {
    struct event_base *loop;
    CURLM *multi;
    struct event *timer; /* libcurl's */
    struct event *ended; /* looks for flights that are over, outside of libcurl's callbacks */
    struct event *go_on; /* with flights that are paused */
    uint64_t round;      /* counts calls into libcurl */
    struct gw_web_flight *flights;
    int flights_len;
};

char *gw_web_take_body(const struct gw_web_reply *reply)
{
    char *body = reply->taken ? *reply->taken : NULL;
    if (body) {
        *reply->taken = NULL;
        return body;
    }
    body = malloc(reply->body_len + 1);
    if (body) memcpy(body, reply->body, reply->body_len + 1);
    return body;
}

/* ---- the end of a flight ------------------------------------------------------------------------------- */

static void unlink_flight(struct gw_web_flight *f)
{
    *f->link = f->next;
    if (f->next) f->next->link = f->link;
    f->client->flights_len--;
}

static void free_flight(struct gw_web_flight *f)
{
    if (f->easy) curl_easy_cleanup(f->easy);
    curl_slist_free_all(f->headers);
    gw_buf_fini(&f->body);
    free(f);
}

static gw_err_t category_of(const struct gw_web_flight *f, CURLcode code)
{
    if (f->cancelled) return GW_ERR_IO;
    if (f->too_long) return GW_ERR_LIMIT;
    if (f->body.err != GW_OK) return f->body.err;
    if (code == CURLE_OUT_OF_MEMORY) return GW_ERR_MEMORY;
    return code == CURLE_OK ? GW_OK : GW_ERR_IO;
}

static const char *why_of(const struct gw_web_flight *f, CURLcode code)
{
    if (f->cancelled) return "cancelled";
    if (f->too_long) return "the body is longer than can be right";
    return f->why[0] ? f->why : curl_easy_strerror(code);
}

static void finish(struct gw_web_flight *f, CURLcode code)
{
    struct gw_web_reply *r = &f->reply;
    long status = 0;
    curl_multi_remove_handle(f->client->multi, f->easy);
    curl_easy_getinfo(f->easy, CURLINFO_RESPONSE_CODE, &status);
    r->err = category_of(f, code);
    r->why = r->err == GW_OK ? "" : why_of(f, code);
    r->status = (int)status;
    r->cancelled = f->cancelled;
    const char *text = r->err == GW_OK || f->too_long ? gw_buf_cstr(&f->body) : NULL;
    r->body = text ? text : "";
    r->body_len = text ? f->body.len : 0;
    char *bytes = (char *)f->body.data;
    r->taken = text ? &bytes : NULL;
    unlink_flight(f);
    f->done(f->done_arg, r);
    if (!bytes) gw_buf_init(&f->body, 0); /* they were taken */
    free_flight(f);
}

static void finish_cancelled(struct gw_web_client *c)
{
    struct gw_web_flight *f = c->flights;
    while (f) {
        bool over = f->cancelled;
        struct gw_web_flight *next = f->next;
        if (over) finish(f, CURLE_ABORTED_BY_CALLBACK);
        f = over ? c->flights : next; /* a done may have started and ended others */
    }
}

static void on_ended(evutil_socket_t fd, short what, void *arg)
{
    struct gw_web_client *c = arg;
    CURLMsg *msg;
    int left;
    (void)fd;
    (void)what;
    while ((msg = curl_multi_info_read(c->multi, &left))) {
        struct gw_web_flight *f = NULL;
        CURLcode code = msg->data.result;
        if (msg->msg != CURLMSG_DONE) continue;
        curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, (char **)&f);
        finish(f, code);
    }
    finish_cancelled(c);
}

/* ---- libcurl's sockets and its timer on the loop ------------------------------------------------------- */

static void socket_action(struct gw_web_client *c, curl_socket_t fd, int flags)
{
    int running;
    c->round++;
    curl_multi_socket_action(c->multi, fd, flags, &running);
    event_active(c->ended, EV_TIMEOUT, 0);
}

/* Behind whatever else is due: an event made active would run in this round still. */
static void next_round(struct gw_web_client *c)
{
    const struct timeval now = {0};
    event_add(c->go_on, &now);
}

/* One flight per round; the others' turns come. */
static void on_go_on(evutil_socket_t fd, short what, void *arg)
{
    struct gw_web_client *c = arg;
    struct gw_web_flight *f = c->flights;
    (void)fd;
    (void)what;
    while (f && !f->paused) f = f->next;
    if (!f) return;
    f->paused = false;
    c->round++;
    curl_easy_pause(f->easy, CURLPAUSE_CONT); /* what is wrong with it, its end tells */
    event_active(c->ended, EV_TIMEOUT, 0);
    next_round(c);
}

static void on_socket(evutil_socket_t fd, short what, void *arg)
{
    int flags = (what & EV_READ ? CURL_CSELECT_IN : 0) | (what & EV_WRITE ? CURL_CSELECT_OUT : 0);
    socket_action(arg, fd, flags);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    socket_action(arg, CURL_SOCKET_TIMEOUT, 0);
}

static int unwatch(struct gw_web_client *c, curl_socket_t fd, struct watched *w)
{
    if (!w) return 0;
    event_free(w->event);
    free(w);
    curl_multi_assign(c->multi, fd, NULL);
    return 0;
}

static struct watched *watched_new(struct gw_web_client *c, curl_socket_t fd)
{
    struct watched *w = calloc(1, sizeof *w);
    if (!w) return NULL;
    w->fd = fd;
    w->event = event_new(c->loop, fd, 0, on_socket, c);
    if (w->event) return w;
    free(w);
    return NULL;
}

/* -1 makes libcurl fail the transfers of this socket. */
static int on_watch(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket_arg)
{
    struct gw_web_client *c = arg;
    struct watched *w = socket_arg;
    (void)easy;
    if (what == CURL_POLL_REMOVE) return unwatch(c, fd, w);
    if (!w) w = watched_new(c, fd);
    if (!w) return -1;
    short events = EV_PERSIST;
    if (what & CURL_POLL_IN) events |= EV_READ;
    if (what & CURL_POLL_OUT) events |= EV_WRITE;
    event_del(w->event);
    if (event_assign(w->event, c->loop, fd, events, on_socket, c) != 0 || event_add(w->event, NULL) != 0) {
        unwatch(c, fd, w);
        return -1;
    }
    curl_multi_assign(c->multi, fd, w);
    return 0;
}

static int on_timer_change(CURLM *multi, long timeout_ms, void *arg)
{
    struct gw_web_client *c = arg;
    (void)multi;
    if (timeout_ms < 0) return event_del(c->timer);
    struct timeval tv = {.tv_sec = timeout_ms / 1000, .tv_usec = timeout_ms % 1000 * 1000};
    return event_add(c->timer, &tv);
}

/* ---- what arrives -------------------------------------------------------------------------------------- */

static size_t on_body(char *bytes, size_t size, size_t n, void *arg)
{
    struct gw_web_flight *f = arg;
    size_t len = size * n, room = f->body.max - f->body.len;
    if (f->round != f->client->round) f->round_len = 0;
    f->round = f->client->round;
    if (f->round_len >= ROUND_BYTES) {
        f->paused = true;
        next_round(f->client);
        return CURL_WRITEFUNC_PAUSE;
    }
    f->round_len += len;
    f->too_long = len > room;
    gw_buf_put(&f->body, bytes, f->too_long ? room : len);
    return f->body.err == GW_OK && !f->too_long ? len : 0; /* 0: libcurl ends the transfer */
}

/* "Name: value\r\n" → value as a C string, if the line's name is that one and the value fits. */
static bool header_value(const char *line, size_t len, const char *name, char *out, size_t out_size)
{
    size_t at = strlen(name);
    if (len <= at || strncasecmp(line, name, at) != 0 || line[at] != ':') return false;
    for (at++; at < len && (line[at] == ' ' || line[at] == '\t'); at++) {
    }
    while (len > at && (line[len - 1] == '\r' || line[len - 1] == '\n' || line[len - 1] == ' ')) len--;
    if (len - at >= out_size || memchr(line + at, '\0', len - at)) return false;
    memcpy(out, line + at, len - at);
    out[len - at] = '\0';
    return true;
}

/* Seconds; a date there, or nonsense, is none. */
static int retry_after_of(const char *value)
{
    long s = strtol(value, NULL, 10);
    return s < 0 ? 0 : s > RETRY_AFTER_S_MAX ? RETRY_AFTER_S_MAX : (int)s;
}

static size_t on_header(char *line, size_t size, size_t n, void *arg)
{
    struct gw_web_reply *r = &((struct gw_web_flight *)arg)->reply;
    char value[GW_WEB_ETAG_MAX];
    size_t len = size * n;
    if (header_value(line, len, "etag", value, sizeof value))
        snprintf(r->etag, sizeof r->etag, "%s", value);
    else if (header_value(line, len, "date", value, sizeof value))
        (void)!gw_time_parse_http(value, &r->date_unix_ms);
    else if (header_value(line, len, "retry-after", value, sizeof value))
        r->retry_after_s = retry_after_of(value);
    else if (header_value(line, len, "metadata-flavor", value, sizeof value))
        r->google = strcmp(value, "Google") == 0;
    return len;
}

/* ---- start --------------------------------------------------------------------------------------------- */

static bool set_headers(struct gw_web_flight *f, const struct gw_web_request *q)
{
    for (size_t i = 0; i < GW_WEB_HEADERS_MAX && q->headers[i]; i++) {
        struct curl_slist *longer = curl_slist_append(f->headers, q->headers[i]);
        if (!longer) return false;
        f->headers = longer;
    }
    return curl_easy_setopt(f->easy, CURLOPT_HTTPHEADER, f->headers) == CURLE_OK;
}

static bool set_method(CURL *e, const struct gw_web_request *q)
{
    bool ok = true;
    if (q->body) { /* libcurl's signing covers bodies given this way, and no others */
        ok = curl_easy_setopt(e, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)q->body_len) == CURLE_OK &&
             curl_easy_setopt(e, CURLOPT_COPYPOSTFIELDS, q->body) == CURLE_OK;
    }
    return ok && curl_easy_setopt(e, CURLOPT_CUSTOMREQUEST, q->method) == CURLE_OK;
}

static bool set_signature(CURL *e, const struct gw_web_request *q)
{
    return !q->sigv4 || (curl_easy_setopt(e, CURLOPT_AWS_SIGV4, q->sigv4) == CURLE_OK &&
                         curl_easy_setopt(e, CURLOPT_USERNAME, q->access_key) == CURLE_OK &&
                         curl_easy_setopt(e, CURLOPT_PASSWORD, q->secret_key) == CURLE_OK);
}

static bool set_limits(CURL *e, const struct gw_web_request *q)
{
    long timeout_ms = (long)((q->timeout_us + GW_US_PER_MS - 1) / GW_US_PER_MS);
    return curl_easy_setopt(e, CURLOPT_TIMEOUT_MS, timeout_ms) == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, timeout_ms) == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L) == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 0L) == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https") == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1) == CURLE_OK &&
           (!q->direct || curl_easy_setopt(e, CURLOPT_PROXY, "") == CURLE_OK);
}

static bool set_up(struct gw_web_flight *f, const struct gw_web_request *q)
{
    CURL *e = f->easy;
    return curl_easy_setopt(e, CURLOPT_URL, q->url) == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_PRIVATE, f) == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_ERRORBUFFER, f->why) == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_body) == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_WRITEDATA, f) == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, on_header) == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_HEADERDATA, f) == CURLE_OK && set_limits(e, q) && set_method(e, q) &&
           set_headers(f, q) && set_signature(e, q);
}

static gw_err_t client_start(void *arg, const struct gw_web_request *q, gw_web_done done, void *done_arg,
                             struct gw_web_flight **out)
{
    struct gw_web_client *c = arg;
    if (c->flights_len >= GW_WEB_FLIGHTS_MAX) return GW_ERR_LIMIT;
    struct gw_web_flight *f = calloc(1, sizeof *f);
    if (!f) return GW_ERR_MEMORY;
    f->client = c;
    f->done = done;
    f->done_arg = done_arg;
    gw_buf_init(&f->body, q->body_max);
    f->easy = curl_easy_init();
    if (!f->easy || !set_up(f, q) || curl_multi_add_handle(c->multi, f->easy) != CURLM_OK) {
        free_flight(f);
        return GW_ERR_MEMORY;
    }
    f->next = c->flights;
    f->link = &c->flights;
    if (f->next) f->next->link = &f->next;
    c->flights = f;
    c->flights_len++;
    *out = f;
    return GW_OK;
}

static void client_cancel(void *arg, struct gw_web_flight *fetch)
{
    struct gw_web_client *c = arg;
    fetch->cancelled = true;
    event_active(c->ended, EV_TIMEOUT, 0);
}

struct gw_web gw_web_client_table(struct gw_web_client *client)
{
    return (struct gw_web){.start = client_start, .cancel = client_cancel, .arg = client};
}

/* The libraries' own first use takes a millisecond: here, not in a loop that serves. */
static gw_err_t warm_up(void)
{
    uint8_t mac[GW_SHA256_BYTES];
    gw_hmac_sha256("key", 3, "text", 4, mac);
    return curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK ? GW_OK : GW_ERR_MEMORY;
}

static gw_err_t open_client(struct gw_web_client *c)
{
    TRY(warm_up());
    c->multi = curl_multi_init();
    c->timer = evtimer_new(c->loop, on_timer, c);
    c->ended = event_new(c->loop, -1, 0, on_ended, c);
    c->go_on = evtimer_new(c->loop, on_go_on, c);
    if (!c->multi || !c->timer || !c->ended || !c->go_on) return GW_ERR_MEMORY;
    bool ok = curl_multi_setopt(c->multi, CURLMOPT_SOCKETFUNCTION, on_watch) == CURLM_OK &&
              curl_multi_setopt(c->multi, CURLMOPT_SOCKETDATA, c) == CURLM_OK &&
              curl_multi_setopt(c->multi, CURLMOPT_TIMERFUNCTION, on_timer_change) == CURLM_OK &&
              curl_multi_setopt(c->multi, CURLMOPT_TIMERDATA, c) == CURLM_OK;
    return ok ? GW_OK : GW_ERR_MEMORY;
}

gw_err_t gw_web_client_create(struct event_base *loop, struct gw_web_client **out, struct gw_err_ctx *ctx)
{
    struct gw_web_client *c = calloc(1, sizeof *c);
    if (!c) return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    c->loop = loop;
    if (open_client(c) != GW_OK) {
        gw_web_client_destroy(c);
        return gw_fail(ctx, GW_ERR_MEMORY, "cannot make an HTTP client");
    }
    *out = c;
    return GW_OK;
}

void gw_web_client_destroy(struct gw_web_client *c)
{
    if (!c) return;
    while (c->flights) {
        c->flights->cancelled = true;
        finish(c->flights, CURLE_ABORTED_BY_CALLBACK);
    }
    if (c->multi) curl_multi_cleanup(c->multi);
    if (c->timer) event_free(c->timer);
    if (c->ended) event_free(c->ended);
    if (c->go_on) event_free(c->go_on);
    free(c);
}
