#include "migrate/store_peer_server.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/thread.h"
#include "migrate/store_memory.h"
#include "migrate/store_peer_wire.h"

#define CHUNK_BYTES    (64u << 10) /* of one read(2): it stays in the cache until it has been looked at */
#define READS_PER_TURN 16          /* 1 MiB; then the others' turn */
#define OUT_BYTES_MAX  (2 * GW_STORE_PEER_OUT_MAX) /* a client's window is half of it: this one has none */
#define GIVEN_MAX      GW_STORE_PEER_CONNS_MAX

struct conn {
    struct gw_store_peer_server *server;
    struct gw_socket socket;
    struct event *readable, *writable;
    struct evbuffer *out;
    bool reading;
    struct peer_reader reader;
    struct gw_memory_page *pages[GW_STORE_PAGES_MAX]; /* of the put that comes in */
    uint32_t pages_len;
    uint64_t moved_bytes; /* since the last tick */
    uint32_t slow_ticks;
};

struct gw_store_peer_server {
    const struct gw_log *log;
    int64_t tick_us;
    struct event_base *loop;
    struct event *wake, *tick;
    int wake_fd;
    uint8_t *chunk;
    struct gw_store_memory *memory;
    struct conn *conns[GW_STORE_PEER_CONNS_MAX];
    pthread_t thread;
    bool thread_started;

    pthread_mutex_t lock;              /* guards the rest */
    struct gw_socket given[GIVEN_MAX]; /* wait for the thread */
    uint32_t given_len;
    bool ending;
    struct gw_store_peer_server_stats stats;
};

static void count(struct gw_store_peer_server *s, uint64_t *counter)
{
    pthread_mutex_lock(&s->lock);
    ++*counter;
    pthread_mutex_unlock(&s->lock);
}

static void publish_stats(struct gw_store_peer_server *s)
{
    struct gw_store_memory_stats m;
    gw_store_memory_stats(s->memory, &m);
    pthread_mutex_lock(&s->lock);
    s->stats.blocks = m.blocks;
    s->stats.bytes = m.bytes;
    s->stats.evicted = m.evicted;
    pthread_mutex_unlock(&s->lock);
}

/* ---- the end of a connection ---- */

static void drop_pages(struct conn *c)
{
    for (uint32_t i = 0; i < c->pages_len; i++)
        if (c->pages[i]) gw_memory_page_unref(c->pages[i]);
    c->pages_len = 0;
}

static void conn_free(struct conn *c)
{
    drop_pages(c);
    if (c->readable) event_free(c->readable);
    if (c->writable) event_free(c->writable);
    if (c->out) evbuffer_free(c->out);
    gw_socket_close(&c->socket);
    free(c);
}

static void conn_close(struct conn *c, const char *why)
{
    struct gw_store_peer_server *s = c->server;
    gw_logf(s->log, GW_LOG_DEBUG, "store: a peer's connection is over: %s", why);
    for (uint32_t i = 0; i < GW_STORE_PEER_CONNS_MAX; i++)
        if (s->conns[i] == c) s->conns[i] = NULL;
    pthread_mutex_lock(&s->lock);
    s->stats.connections--;
    pthread_mutex_unlock(&s->lock);
    conn_free(c);
}

/* ---- answers ---- */

static void release_page(const void *bytes, size_t len, void *page)
{
    (void)bytes;
    (void)len;
    gw_memory_page_unref(page);
}

static gw_err_t send_page(struct evbuffer *out, struct gw_memory_page *page)
{
    gw_memory_page_ref(page);
    if (evbuffer_add_reference(out, page->bytes, page->len, release_page, page) == 0) return GW_OK;
    gw_memory_page_unref(page);
    return GW_ERR_MEMORY;
}

/* What a GET or HAS asks for; of a GET, at most what one frame holds: pages beyond that are absent. */
static gw_err_t answer_table(struct conn *c, const struct peer_frame *f)
{
    struct gw_store_peer_server *s = c->server;
    struct peer_item items[GW_STORE_PAGES_MAX];
    struct gw_memory_page *pages[GW_STORE_PAGES_MAX];
    struct peer_frame answer = {
        .type = PEER_ANSWER, .name = f->name, .items = items, .items_len = f->items_len};
    bool get = f->type == PEER_GET;
    size_t bytes = 0;
    if (evbuffer_get_length(c->out) > OUT_BYTES_MAX) return GW_ERR_LIMIT;
    for (uint32_t i = 0; i < f->items_len; i++) {
        pages[i] = gw_store_memory_get(s->memory, &f->name, f->items[i].id);
        if (get && pages[i] && bytes + pages[i]->len > PEER_BYTES_MAX) pages[i] = NULL;
        items[i] = (struct peer_item){f->items[i].id, pages[i] ? pages[i]->len : 0};
        bytes += items[i].len;
    }
    if (get) answer.bytes = (uint32_t)bytes;
    count(s, get ? &s->stats.gets : &s->stats.has);
    TRY(peer_put_head(c->out, &answer));
    for (uint32_t i = 0; get && i < f->items_len; i++) {
        if (!pages[i]) continue;
        TRY(send_page(c->out, pages[i]));
        count(s, &s->stats.pages_sent);
    }
    return GW_OK;
}

static gw_err_t keep_pages(struct conn *c, const struct peer_frame *f)
{
    struct gw_store_peer_server *s = c->server;
    struct peer_frame answer = {
        .type = PEER_ANSWER, .name = f->name, .items = f->items, .items_len = f->items_len};
    answer.refused = gw_store_memory_put(s->memory, &f->name, c->pages, c->pages_len) != GW_OK;
    if (answer.refused)
        drop_pages(c);
    else
        c->pages_len = 0;
    publish_stats(s);
    count(s, answer.refused ? &s->stats.refused : &s->stats.puts);
    return peer_put_head(c->out, &answer);
}

/* ---- what comes in ---- */

static gw_err_t on_frame(void *arg, const struct peer_frame *f)
{
    struct conn *c = arg;
    c->pages_len = 0;
    return f->type == PEER_ANSWER ? GW_ERR_PROTO : GW_OK;
}

static uint8_t *on_page(void *arg, uint32_t i)
{
    struct conn *c = arg;
    const struct peer_item *item = &c->reader.items[i];
    c->pages[i] = gw_memory_page_create(item->id, item->len);
    if (!c->pages[i]) return NULL;
    c->pages_len = i + 1;
    return c->pages[i]->bytes;
}

static void on_page_over(void *arg, uint32_t i)
{
    (void)arg;
    (void)i;
}

static gw_err_t on_frame_over(void *arg)
{
    struct conn *c = arg;
    const struct peer_frame *f = &c->reader.frame;
    return f->type == PEER_PUT ? keep_pages(c, f) : answer_table(c, f);
}

/* ---- bytes ---- */

/* An end that does not read its answers is not read from. */
static void set_reading(struct conn *c)
{
    bool want = evbuffer_get_length(c->out) < GW_STORE_PEER_OUT_MAX;
    if (want && !c->reading) event_add(c->readable, NULL);
    if (!want && c->reading) event_del(c->readable);
    c->reading = want;
    /* What a TLS session holds, the loop does not see. */
    if (want && gw_socket_has_more(&c->socket)) event_active(c->readable, EV_READ, 0);
}

static void conn_flush(struct conn *c)
{
    struct gw_err_ctx ctx = {0};
    size_t wrote;
    gw_err_t err = gw_socket_flush(&c->socket, c->out, &wrote, &ctx);
    if (err != GW_OK) {
        conn_close(c, ctx.text);
        return;
    }
    c->moved_bytes += wrote;
    if (evbuffer_get_length(c->out) > 0) event_add(c->writable, NULL);
    set_reading(c);
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    conn_flush(arg);
}

/* One read and what follows from it; false when there is no more for now. NULL in *c: it was closed. */
static bool read_some(struct conn **at)
{
    struct conn *c = *at;
    struct gw_store_peer_server *s = c->server;
    struct gw_err_ctx ctx = {0};
    size_t n = 0;
    gw_err_t err = gw_socket_read(&c->socket, s->chunk, CHUNK_BYTES, &n, &ctx);
    c->moved_bytes += n;
    if (err == GW_OK && n > 0) err = peer_reader_feed(&c->reader, s->chunk, n, &ctx);
    if (err == GW_OK) return n == CHUNK_BYTES && evbuffer_get_length(c->out) < GW_STORE_PEER_OUT_MAX;
    if (err == GW_ERR_PROTO) count(s, &s->stats.closed_wrong);
    conn_close(c, ctx.text[0] ? ctx.text : "out of turn");
    *at = NULL;
    return false;
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct conn *c = arg;
    for (int i = 0; i < READS_PER_TURN && read_some(&c); i++) continue;
    if (c) conn_flush(c);
}

/* ---- coming ---- */

static struct conn *conn_create(struct gw_store_peer_server *s, struct gw_socket socket)
{
    struct conn *c = calloc(1, sizeof *c);
    if (!c) return NULL;
    const struct peer_listener listener = {c, on_frame, on_page, on_page_over, on_frame_over};
    c->server = s;
    c->socket = gw_socket_none(); /* the caller's until all is well */
    c->out = evbuffer_new();
    c->readable = event_new(s->loop, socket.fd, EV_READ | EV_PERSIST, on_readable, c);
    c->writable = event_new(s->loop, socket.fd, EV_WRITE, on_writable, c);
    peer_reader_init(&c->reader, &listener);
    if (c->out && c->readable && c->writable && event_add(c->readable, NULL) == 0) {
        c->socket = socket;
        c->reading = true;
        set_reading(c);
        return c;
    }
    conn_free(c);
    return NULL;
}

static void welcome(struct gw_store_peer_server *s, struct gw_socket socket)
{
    uint32_t i = 0;
    while (i < GW_STORE_PEER_CONNS_MAX && s->conns[i]) i++;
    if (i < GW_STORE_PEER_CONNS_MAX) s->conns[i] = conn_create(s, socket);
    if (i == GW_STORE_PEER_CONNS_MAX || !s->conns[i]) {
        gw_logf(s->log, GW_LOG_WARN, "store: no room for another peer");
        gw_socket_close(&socket);
        return;
    }
    pthread_mutex_lock(&s->lock);
    s->stats.connections++;
    pthread_mutex_unlock(&s->lock);
}

static struct gw_socket take_given(struct gw_store_peer_server *s)
{
    pthread_mutex_lock(&s->lock);
    struct gw_socket socket = s->given_len > 0 ? s->given[--s->given_len] : gw_socket_none();
    pthread_mutex_unlock(&s->lock);
    return socket;
}

static void on_wake(evutil_socket_t wake_fd, short what, void *arg)
{
    (void)what;
    struct gw_store_peer_server *s = arg;
    uint64_t wakes;
    ssize_t ignored = read(wake_fd, &wakes, sizeof wakes);
    (void)ignored;
    for (struct gw_socket given; (given = take_given(s)).fd >= 0;) welcome(s, given);
}

/* ---- time ---- */

static void tick_conn(struct conn *c)
{
    struct gw_store_peer_server *s = c->server;
    bool busy = peer_reader_is_amid(&c->reader) || evbuffer_get_length(c->out) > 0;
    bool slow = busy && c->moved_bytes < GW_STORE_PEER_MIN_BYTES_S;
    c->moved_bytes = 0;
    c->slow_ticks = slow ? c->slow_ticks + 1 : 0;
    if (c->slow_ticks < GW_STORE_PEER_SLOW_S) return;
    count(s, &s->stats.closed_slow);
    conn_close(c, "too slow");
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct gw_store_peer_server *s = arg;
    for (uint32_t i = 0; i < GW_STORE_PEER_CONNS_MAX; i++)
        if (s->conns[i]) tick_conn(s->conns[i]);
}

/* ---- the thread ---- */

static bool is_ending(struct gw_store_peer_server *s)
{
    pthread_mutex_lock(&s->lock);
    bool ending = s->ending;
    pthread_mutex_unlock(&s->lock);
    return ending;
}

static void *serve_all(void *arg)
{
    struct gw_store_peer_server *s = arg;
    gw_thread_name("gw-store-serve");
    while (!is_ending(s)) event_base_loop(s->loop, EVLOOP_ONCE | EVLOOP_NO_EXIT_ON_EMPTY);
    for (uint32_t i = 0; i < GW_STORE_PEER_CONNS_MAX; i++)
        if (s->conns[i]) conn_close(s->conns[i], "the end");
    return NULL;
}

static void wake(struct gw_store_peer_server *s)
{
    uint64_t one = 1;
    ssize_t ignored = write(s->wake_fd, &one, sizeof one);
    (void)ignored;
}

/* ---- callers' side ---- */

static gw_err_t set_up(struct gw_store_peer_server *s, size_t max_bytes, struct gw_err_ctx *ctx)
{
    const struct timeval tick = {.tv_sec = s->tick_us / GW_US_PER_S, .tv_usec = s->tick_us % GW_US_PER_S};
    s->loop = event_base_new();
    s->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    s->chunk = malloc(CHUNK_BYTES);
    if (!s->loop || s->wake_fd < 0 || !s->chunk || gw_store_memory_create(max_bytes, &s->memory) != GW_OK)
        return gw_fail(ctx, GW_ERR_MEMORY, "store: out of memory");
    s->wake = event_new(s->loop, s->wake_fd, EV_READ | EV_PERSIST, on_wake, s);
    s->tick = event_new(s->loop, -1, EV_PERSIST, on_tick, s);
    if (!s->wake || !s->tick || event_add(s->wake, NULL) != 0 || event_add(s->tick, &tick) != 0)
        return gw_fail(ctx, GW_ERR_MEMORY, "store: out of memory");
    return GW_OK;
}

static gw_err_t start(struct gw_store_peer_server *s, struct gw_err_ctx *ctx)
{
    TRY(gw_thread_start(&s->thread, 0, serve_all, s, ctx));
    s->thread_started = true;
    return GW_OK;
}

gw_err_t gw_store_peer_server_create(const struct gw_store_peer_server_config *config,
                                     struct gw_store_peer_server **out, struct gw_err_ctx *ctx)
{
    struct gw_store_peer_server *s = calloc(1, sizeof *s);
    if (!s) return gw_fail(ctx, GW_ERR_MEMORY, "store: out of memory");
    s->log = config->log;
    s->tick_us = config->tick_us ? config->tick_us : GW_US_PER_S;
    s->wake_fd = -1;
    pthread_mutex_init(&s->lock, NULL);
    gw_err_t err = set_up(s, config->max_bytes, ctx);
    if (err == GW_OK) err = start(s, ctx);
    if (err == GW_OK)
        *out = s;
    else
        gw_store_peer_server_destroy(s);
    return err;
}

void gw_store_peer_server_destroy(struct gw_store_peer_server *s)
{
    if (!s) return;
    if (s->thread_started) {
        pthread_mutex_lock(&s->lock);
        s->ending = true;
        pthread_mutex_unlock(&s->lock);
        wake(s);
        pthread_join(s->thread, NULL);
    }
    for (struct gw_socket given; (given = take_given(s)).fd >= 0;) gw_socket_close(&given);
    gw_store_memory_destroy(s->memory);
    if (s->wake) event_free(s->wake);
    if (s->tick) event_free(s->tick);
    if (s->loop) event_base_free(s->loop);
    if (s->wake_fd >= 0) close(s->wake_fd);
    pthread_mutex_destroy(&s->lock);
    free(s->chunk);
    free(s);
}

void gw_store_peer_server_serve(struct gw_store_peer_server *s, struct gw_socket socket)
{
    pthread_mutex_lock(&s->lock);
    bool room = s->given_len < GIVEN_MAX;
    if (room) s->given[s->given_len++] = socket;
    pthread_mutex_unlock(&s->lock);
    if (room)
        wake(s);
    else
        gw_socket_close(&socket);
}

void gw_store_peer_server_stats(struct gw_store_peer_server *s, struct gw_store_peer_server_stats *out)
{
    pthread_mutex_lock(&s->lock);
    *out = s->stats;
    pthread_mutex_unlock(&s->lock);
}
