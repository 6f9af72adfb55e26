#include "migrate/peer_server.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/sockaddr.h"
#include "base/thread.h"
#include "migrate/peer_io.h"
#include "migrate/peer_server_internal.h"

#define ACCEPTS_PER_TURN 16 /* handshakes under way go on in between */
#define TELL_PAUSE_US    (1 * GW_US_PER_S)
#define ACCEPT_PAUSE_US  (100 * GW_US_PER_MS) /* when descriptors have run out */

enum { AT_WAKE, AT_LISTENER, AT_UNIX, AT_ACCEPTED, POLLED = AT_ACCEPTED + GW_PEER_PENDING_MAX };

void peer_server_wake(struct gw_peer_server *s)
{
    uint64_t one = 1;
    /* It fails only when 2^64 - 1 rings are unheard: then the sleeper wakes anyway. */
    (void)!write(s->wake_fd, &one, sizeof one);
}

/* ---- connections; under the lock ---- */

static gw_err_t start_conn(struct gw_peer_server *s, struct gw_socket socket)
{
    for (int i = 0; !s->stopping && i < GW_PEER_CONNS_MAX; i++) {
        struct peer_conn *c = &s->conns[i];
        if (c->socket.fd >= 0) continue;
        *c = (struct peer_conn){.server = s, .socket = socket};
        if (gw_thread_start(&c->thread, GW_PEER_THREAD_STACK, peer_conn_main, c, NULL) == GW_OK) return GW_OK;
        c->socket = gw_socket_none();
        break;
    }
    s->stats.refused++;
    gw_socket_close(&socket);
    return GW_ERR_LIMIT;
}

gw_err_t gw_peer_server_adopt(struct gw_peer_server *s, struct gw_socket socket)
{
    pthread_mutex_lock(&s->lock);
    gw_err_t err = start_conn(s, socket);
    pthread_mutex_unlock(&s->lock);
    return err;
}

static void reap_conns(struct gw_peer_server *s)
{
    for (int i = 0; i < GW_PEER_CONNS_MAX; i++) {
        struct peer_conn *c = &s->conns[i];
        if (c->socket.fd < 0 || !c->over) continue;
        pthread_join(c->thread, NULL); /* it has nothing left to do, and holds no lock */
        gw_socket_close(&c->socket);
    }
}

/* ---- handshakes ---- */

/* A free slot, else that of the one that has been at it longest: so strangers cannot keep peers out by saying nothing. */
static struct gw_shake *accepted_slot(struct gw_peer_server *s)
{
    struct gw_shake *oldest = &s->accepted[0];
    for (int i = 0; i < GW_PEER_PENDING_MAX; i++) {
        struct gw_shake *shake = &s->accepted[i];
        if (shake->socket.fd < 0) return shake;
        if (shake->deadline_us < oldest->deadline_us) oldest = shake;
    }
    gw_shake_close(oldest);
    return oldest;
}

static void accept_all(struct gw_peer_server *s, int listen_fd, int64_t now_us)
{
    const int on = 1;
    for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
        int fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM))
            s->accept_again_us = now_us + ACCEPT_PAUSE_US;
        if (fd < 0) return;
        if (listen_fd == s->listen_fd) (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        gw_shake_accept(accepted_slot(s), fd, GW_SHAKE_PAGES, &s->key, now_us + s->config.shake_us);
    }
}

/* Strangers are counted and told of, but those who dial for ever do not fill the log. */
static void on_failed(struct gw_peer_server *s, const struct gw_shake *shake)
{
    int64_t now_us = gw_clock_mono_us();
    bool tells = shake->strange && now_us >= s->tell_again_us;
    if (tells) s->tell_again_us = now_us + TELL_PAUSE_US;
    gw_logf(s->config.log, tells ? GW_LOG_WARN : GW_LOG_DEBUG, "pages: a connection was closed: %s",
            shake->why);
    pthread_mutex_lock(&s->lock);
    s->stats.strangers += shake->strange;
    pthread_mutex_unlock(&s->lock);
}

static void step_accepted(struct gw_peer_server *s, struct gw_shake *shake)
{
    enum gw_shake_result result = gw_shake_step(shake, &s->key);
    if (result == GW_SHAKE_MORE) return;
    bool store = shake->purpose == GW_SHAKE_STORE;
    if (result == GW_SHAKE_PROVEN && (!store || s->config.store) && gw_shake_admit(shake, &s->key)) {
        if (store)
            s->config.store(s->config.store_arg, shake->socket);
        else
            (void)!gw_peer_server_adopt(s, shake->socket); /* counted */
        shake->socket = gw_socket_none();
        return;
    }
    if (result == GW_SHAKE_FAILED) on_failed(s, shake);
    gw_shake_close(shake);
}

/* Closes what is late; returns how long poll may take in milliseconds, -1: for ever. */
static int tend(struct gw_peer_server *s, int64_t now_us)
{
    int64_t due_us = INT64_MAX;
    if (now_us >= s->accept_again_us) s->accept_again_us = 0;
    if (s->accept_again_us) due_us = s->accept_again_us;
    for (int i = 0; i < GW_PEER_PENDING_MAX; i++) {
        struct gw_shake *shake = &s->accepted[i];
        if (shake->socket.fd < 0) continue;
        if (now_us >= shake->deadline_us)
            gw_shake_close(shake);
        else if (shake->deadline_us < due_us)
            due_us = shake->deadline_us;
    }
    return due_us == INT64_MAX ? -1 : (int)((due_us - now_us + GW_US_PER_MS - 1) / GW_US_PER_MS);
}

/* ---- the listening thread ---- */

static void fill_polled(const struct gw_peer_server *s, struct pollfd polled[POLLED])
{
    bool accepts = !s->accept_again_us;
    polled[AT_WAKE] = (struct pollfd){s->wake_fd, POLLIN, 0};
    polled[AT_LISTENER] = (struct pollfd){accepts ? s->listen_fd : -1, POLLIN, 0};
    polled[AT_UNIX] = (struct pollfd){accepts ? s->unix_fd : -1, POLLIN, 0};
    for (int i = 0; i < GW_PEER_PENDING_MAX; i++)
        polled[AT_ACCEPTED + i] =
            (struct pollfd){s->accepted[i].socket.fd, gw_shake_events(&s->accepted[i]), 0};
}

static void handle_polled(struct gw_peer_server *s, const struct pollfd polled[POLLED])
{
    uint64_t wakes;
    int64_t now_us = gw_clock_mono_us();
    if (polled[AT_WAKE].revents) (void)!read(s->wake_fd, &wakes, sizeof wakes);
    for (int i = 0; i < GW_PEER_PENDING_MAX; i++)
        if (polled[AT_ACCEPTED + i].revents) step_accepted(s, &s->accepted[i]);
    if (polled[AT_LISTENER].revents) accept_all(s, s->listen_fd, now_us);
    if (polled[AT_UNIX].revents) accept_all(s, s->unix_fd, now_us);
}

/* Joins the connections' threads that have ended; false: the server is to stop. */
static bool look_around(struct gw_peer_server *s)
{
    pthread_mutex_lock(&s->lock);
    reap_conns(s);
    bool goes_on = !s->stopping;
    pthread_mutex_unlock(&s->lock);
    return goes_on;
}

static void *listen_main(void *arg)
{
    struct gw_peer_server *s = arg;
    struct pollfd polled[POLLED];
    gw_thread_name("gw-peer-listen");
    while (look_around(s)) {
        int timeout_ms = tend(s, gw_clock_mono_us());
        fill_polled(s, polled);
        if (poll(polled, POLLED, timeout_ms) > 0) handle_polled(s, polled);
    }
    return NULL;
}

/* ---- life ---- */

static gw_err_t name_address(struct gw_peer_server *s, struct gw_err_ctx *ctx)
{
    struct sockaddr_storage addr;
    socklen_t len = sizeof addr;
    char host[INET6_ADDRSTRLEN], port[8];
    if (getsockname(s->listen_fd, (struct sockaddr *)&addr, &len) != 0 ||
        getnameinfo((struct sockaddr *)&addr, len, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        return gw_fail(ctx, GW_ERR_IO, "the pages port has no address");
    snprintf(s->address, sizeof s->address, addr.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
    return GW_OK;
}

static gw_err_t open_listener(const struct sockaddr_storage *addr, socklen_t len, const char *what, int *out,
                              struct gw_err_ctx *ctx)
{
    const int on = 1;
    int fd = socket(addr->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
        bind(fd, (const struct sockaddr *)addr, len) == 0 && listen(fd, GW_PEER_PENDING_MAX) == 0) {
        *out = fd;
        return GW_OK;
    }
    int error = errno;
    if (fd >= 0) close(fd);
    return gw_fail(ctx, GW_ERR_IO, "cannot listen for peers on %s: %s", what, strerrordesc_np(error));
}

static gw_err_t open_listeners(struct gw_peer_server *s, struct gw_err_ctx *ctx)
{
    struct sockaddr_storage addr;
    socklen_t len;
    TRY(gw_sockaddr_parse(s->config.host, s->config.port, &addr, &len, ctx));
    TRY(open_listener(&addr, len, s->config.host, &s->listen_fd, ctx));
    TRY(name_address(s, ctx));
    if (s->config.unix_socket) {
        TRY(gw_peer_io_unix_address(s->address, &addr, &len, ctx));
        TRY(open_listener(&addr, len, "a unix socket", &s->unix_fd, ctx));
    }
    s->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return s->wake_fd >= 0 ? GW_OK : gw_fail(ctx, GW_ERR_IO, "eventfd: %s", strerrordesc_np(errno));
}

static int64_t or_default(int64_t us, int64_t default_s)
{
    return us ? us : default_s * GW_US_PER_S;
}

static struct gw_peer_server *alloc_server(const struct gw_peer_server_config *config)
{
    struct gw_peer_server *s = calloc(1, sizeof *s);
    uint8_t *key = malloc(config->key_len);
    if (!s || !key) {
        free(s);
        free(key);
        return NULL;
    }
    memcpy(key, config->key, config->key_len);
    s->config = *config;
    s->config.key = key;
    s->key = (struct gw_shake_key){key, config->key_len, config->tls};
    s->config.shake_us = or_default(config->shake_us, GW_PEER_SHAKE_S);
    s->config.message_us = or_default(config->message_us, GW_PEER_MESSAGE_S);
    s->config.lease_us = or_default(config->lease_us, GW_PEER_LEASE_S);
    s->config.idle_us = or_default(config->idle_us, GW_PEER_IDLE_S);
    s->rate.bytes_s = config->rate_bytes_s;
    s->listen_fd = s->unix_fd = s->wake_fd = -1;
    for (int i = 0; i < GW_PEER_PENDING_MAX; i++) s->accepted[i].socket = gw_socket_none();
    for (int i = 0; i < GW_PEER_CONNS_MAX; i++) s->conns[i].socket = gw_socket_none();
    pthread_condattr_t attr;
    pthread_mutex_init(&s->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&s->stopped, &attr);
    pthread_condattr_destroy(&attr);
    return s;
}

gw_err_t gw_peer_server_create(const struct gw_peer_server_config *config, struct gw_peer_server **out,
                               struct gw_err_ctx *ctx)
{
    gw_err_t err;
    if (config->key_len == 0 || config->key_len > GW_CLUSTER_KEY_MAX)
        return gw_fail(ctx, GW_ERR_INPUT, "the cluster key must have 1 to %d bytes", GW_CLUSTER_KEY_MAX);
    struct gw_peer_server *s = alloc_server(config);
    if (!s) return gw_fail(ctx, GW_ERR_MEMORY, "pages: out of memory");
    TRY_GOTO(open_listeners(s, ctx), out);
    TRY_GOTO(gw_thread_start(&s->thread, 0, listen_main, s, ctx), out);
    s->thread_started = true;
    *out = s;
    return GW_OK;
out:
    gw_peer_server_destroy(s);
    return gw_fail(ctx, err, "pages: no thread");
}

static void stop_threads(struct gw_peer_server *s)
{
    pthread_mutex_lock(&s->lock);
    s->stopping = true;
    pthread_cond_broadcast(&s->stopped);
    for (int i = 0; i < GW_PEER_CONNS_MAX; i++)
        if (s->conns[i].socket.fd >= 0) shutdown(s->conns[i].socket.fd, SHUT_RDWR);
    pthread_mutex_unlock(&s->lock);
    peer_server_wake(s);
    pthread_join(s->thread, NULL);
    for (int i = 0; i < GW_PEER_CONNS_MAX; i++) { /* nobody starts or reaps any more */
        if (s->conns[i].socket.fd < 0) continue;
        pthread_join(s->conns[i].thread, NULL);
        gw_socket_close(&s->conns[i].socket);
    }
}

void gw_peer_server_destroy(struct gw_peer_server *s)
{
    if (!s) return;
    if (s->thread_started) stop_threads(s);
    for (int i = 0; i < GW_PEER_PENDING_MAX; i++) gw_shake_close(&s->accepted[i]);
    if (s->listen_fd >= 0) close(s->listen_fd);
    if (s->unix_fd >= 0) close(s->unix_fd);
    if (s->wake_fd >= 0) close(s->wake_fd);
    uint8_t *key = (uint8_t *)(uintptr_t)s->key.bytes; /* our own copy */
    gw_bytes_wipe(key, s->key.len);
    free(key);
    pthread_cond_destroy(&s->stopped);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

const char *gw_peer_server_address(const struct gw_peer_server *s)
{
    return s->address;
}

void gw_peer_server_set_term(struct gw_peer_server *s, uint64_t term)
{
    pthread_mutex_lock(&s->lock);
    if (term > s->term) {
        if (s->term != 0) s->cancelled = 0;
        s->term = term;
    }
    pthread_mutex_unlock(&s->lock);
}

void gw_peer_server_cancel(struct gw_peer_server *s, uint64_t generation)
{
    pthread_mutex_lock(&s->lock);
    if (generation > s->cancelled) s->cancelled = generation;
    pthread_mutex_unlock(&s->lock);
}

enum gw_page_status peer_server_judge(struct gw_peer_server *s, const struct gw_page_head *asked)
{
    enum gw_page_status status = GW_PAGE_SERVED;
    const struct gw_page_fence *f = &asked->fence;
    pthread_mutex_lock(&s->lock);
    if (asked->kind == GW_PAGE_PULL)
        s->stats.pulls++;
    else if (asked->kind == GW_PAGE_CELL_ASK)
        s->stats.cell_asks++;
    else
        s->stats.requests++;
    if (f->term < s->term || (f->term == s->term && f->generation <= s->cancelled)) {
        status = GW_PAGE_STALE;
        s->stats.stale++;
    } else if (!gw_page_model_equal(&asked->model, &s->config.model)) {
        status = GW_PAGE_FOREIGN;
        s->stats.foreign++;
    }
    pthread_mutex_unlock(&s->lock);
    return status;
}

bool peer_server_wait_rate(struct gw_peer_server *s, const struct gw_rate *rate)
{
    pthread_mutex_lock(&s->lock);
    while (!s->stopping && rate->due_us > gw_clock_mono_us()) {
        int64_t due_us = rate->due_us;
        struct timespec until = {.tv_sec = due_us / GW_US_PER_S, .tv_nsec = due_us % GW_US_PER_S * 1000};
        pthread_cond_timedwait(&s->stopped, &s->lock, &until);
    }
    bool goes_on = !s->stopping;
    pthread_mutex_unlock(&s->lock);
    return goes_on;
}

struct gw_peer_server_stats gw_peer_server_stats(struct gw_peer_server *s)
{
    pthread_mutex_lock(&s->lock);
    struct gw_peer_server_stats stats = s->stats;
    pthread_mutex_unlock(&s->lock);
    return stats;
}
