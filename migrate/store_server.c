#include "migrate/store_internal.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/rng.h"

#define READS_PER_TURN 16                /* 1 MiB; then the others' turn */
#define OUT_AHEAD      ((size_t)4 << 20) /* encoded and not yet taken by the kernel: more only leaves the cache */
#define FLUSH_BYTES    ((size_t)1 << 20) /* the server begins while the next page is being sealed */

/* ---- coming and going ---- */

static void close_socket(struct store_server *v)
{
    if (v->readable) event_free(v->readable);
    if (v->writable) event_free(v->writable);
    if (v->out) evbuffer_free(v->out);
    gw_socket_close(&v->socket);
    v->readable = v->writable = NULL;
    v->out = NULL;
}

void store_server_free(struct store_server *v)
{
    close_socket(v);
    v->protocol->destroy(v->protocol_state);
    free(v);
}

/* Half to one and a half times, so that workers do not come back all at once. */
static int64_t next_backoff(struct store_server *v)
{
    uint64_t random;
    gw_random_bytes(&random, sizeof random);
    int64_t us = v->backoff_us / 2 + (int64_t)(random % (uint64_t)v->backoff_us);
    v->backoff_us = v->backoff_us * 2 < STORE_BACKOFF_MAX_US ? v->backoff_us * 2 : STORE_BACKOFF_MAX_US;
    return us;
}

static void lose_ops(struct store_server *v)
{
    struct store_op *op;
    while (v->slots_len > 0) {
        op = v->slots[v->first_slot].op;
        if (op) store_op_over(op, GW_STORE_LOST);
        v->first_slot = (v->first_slot + 1) % STORE_WINDOW_OPS;
        v->slots_len--;
    }
    while ((op = TAILQ_FIRST(&v->urgent)) || (op = TAILQ_FIRST(&v->background)))
        store_op_over(op, GW_STORE_LOST);
    v->window_bytes = 0;
}

void store_server_leave(struct store_server *v, const char *why)
{
    bool was_up = v->state == SERVER_UP, news = was_up || !v->tried;
    if (why)
        gw_logf(v->store->log, news ? GW_LOG_WARN : GW_LOG_DEBUG, "store %s is away: %s", v->address, why);
    close_socket(v);
    v->state = SERVER_AWAY;
    v->tried = true;
    v->due_us = v->addr_len ? gw_clock_mono_us() + next_backoff(v) : 0;
    if (was_up) {
        store_count(v->store, &v->store->stats.disconnects, 1);
        pthread_mutex_lock(&v->store->lock);
        v->store->stats.servers_up--;
        pthread_mutex_unlock(&v->store->lock);
    }
    lose_ops(v);
    if (v->due_us) store_timer_wants(v->store, v->due_us);
    if (why && v->left) v->left(v->left_arg);
}

/* ---- bytes ---- */

static void flush(struct store_server *v)
{
    struct gw_err_ctx ctx = {0};
    size_t wrote;
    if (gw_socket_flush(&v->socket, v->out, &wrote, &ctx) != GW_OK)
        store_server_leave(v, ctx.text);
    else if (evbuffer_get_length(v->out) > 0)
        event_add(v->writable, NULL);
}

/* One read and what follows from it; false when there is no more for now. */
static bool read_some(struct store_server *v)
{
    struct gw_err_ctx ctx = {0};
    size_t n;
    gw_err_t err = gw_socket_read(&v->socket, v->store->chunk, STORE_CHUNK_BYTES, &n, &ctx);
    if (err == GW_OK && n > 0) err = v->protocol->feed(v->protocol_state, v->store->chunk, n, &ctx);
    if (err != GW_OK) store_server_leave(v, ctx.text);
    return err == GW_OK && n == STORE_CHUNK_BYTES;
}

/* What a TLS session holds, the loop does not see. */
static void read_on(struct store_server *v)
{
    if (gw_socket_has_more(&v->socket)) event_active(v->readable, EV_READ, 0);
}

static void greet(struct store_server *v)
{
    const int on = 1;
    setsockopt(v->socket.fd, IPPROTO_TCP, TCP_NODELAY, &on,
               sizeof on); /* a unix socket refuses, and needs none */
    v->state = SERVER_GREETING;
    if (v->protocol->greet(v->protocol_state, v->out) != GW_OK || event_add(v->readable, NULL) != 0) {
        store_server_leave(v, "out of memory");
        return;
    }
    read_on(v);
    flush(v);
}

/* Goes on with TLS, then greets. */
static void secure(struct store_server *v)
{
    const char *why = "";
    short events = 0;
    if (gw_socket_shake(&v->socket, v->tls, true, &events, &why) != GW_OK)
        store_server_leave(v, why);
    else if (events == 0)
        greet(v);
    else
        event_add(events & POLLOUT ? v->writable : v->readable, NULL);
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct store_server *v = arg;
    if (v->state == SERVER_DIALING) {
        secure(v);
        return;
    }
    for (int i = 0; i < READS_PER_TURN && read_some(v); i++) continue;
    read_on(v);
    store_server_pump(v);
}

static void connected(struct store_server *v)
{
    int error = 0;
    socklen_t len = sizeof error;
    if (getsockopt(v->socket.fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0) error = errno;
    if (error)
        store_server_leave(v, strerror(error));
    else if (v->tls)
        secure(v);
    else
        greet(v);
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct store_server *v = arg;
    if (v->state == SERVER_DIALING && v->socket.tls)
        secure(v);
    else if (v->state == SERVER_DIALING)
        connected(v);
    else if (v->state == SERVER_GREETING)
        flush(v);
    else
        store_server_pump(v);
}

static bool open_socket(struct store_server *v, struct gw_socket socket)
{
    v->socket = socket;
    v->due_us = gw_clock_mono_us() + v->store->connect_us;
    v->out = evbuffer_new();
    v->readable = event_new(v->store->loop, socket.fd, EV_READ | EV_PERSIST, on_readable, v);
    v->writable = event_new(v->store->loop, socket.fd, EV_WRITE, on_writable, v);
    return v->out && v->readable && v->writable;
}

static void dial(struct store_server *v)
{
    int fd = socket(v->addr.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    v->state = SERVER_DIALING;
    if (fd < 0 || !open_socket(v, gw_socket_plain(fd))) {
        store_server_leave(v, fd < 0 ? strerror(errno) : "out of memory");
        return;
    }
    if (connect(fd, (const struct sockaddr *)&v->addr, v->addr_len) == 0)
        connected(v);
    else if (errno != EINPROGRESS)
        store_server_leave(v, strerror(errno));
    else
        event_add(v->writable, NULL);
}

void store_server_attach(struct store_server *v, struct gw_socket socket)
{
    if (v->state != SERVER_AWAY) store_server_leave(v, NULL); /* this one takes its place */
    if (!open_socket(v, socket)) {
        store_server_leave(v, "out of memory");
        return;
    }
    greet(v);
    store_timer_wants(v->store, v->due_us);
}

int64_t store_server_tend(struct store_server *v, int64_t now_us)
{
    bool due = v->due_us != 0 && now_us >= v->due_us;
    if (v->state == SERVER_UP) {
        if (v->slots_len == 0) return INT64_MAX;
        if (now_us < v->answered_us + v->store->stall_us) return v->answered_us + v->store->stall_us;
        store_server_leave(v, "it owes answers for too long");
    } else if (due && v->state == SERVER_AWAY) {
        dial(v);
    } else if (due) {
        store_server_leave(v, v->state == SERVER_DIALING && v->socket.tls ? "no TLS handshake in time"
                                                                          : "no greeting in time");
    }
    return v->due_us ? v->due_us : INT64_MAX;
}

/* ---- commands ---- */

static bool has_room(const struct store_server *v)
{
    return v->slots_len < STORE_WINDOW_OPS && v->window_bytes < STORE_WINDOW_BYTES;
}

static void send_op(struct store_server *v, struct store_op *op)
{
    if (v->protocol->encode(v->protocol_state, op, v->out) != GW_OK) {
        store_op_over(op, GW_STORE_REFUSED);
        return;
    }
    TAILQ_REMOVE(op->call->verb == STORE_PUT ? &v->background : &v->urgent, op, queued);
    struct store_slot *slot = &v->slots[(v->first_slot + v->slots_len) % STORE_WINDOW_OPS];
    *slot = (struct store_slot){
        .op = op, .verb = op->call->verb, .pages_len = op->call->pages_len, .bytes = op->call->bytes};
    op->state = OP_SENT;
    op->slot = slot;
    if (v->slots_len++ == 0) {
        v->answered_us = gw_clock_mono_us();
        store_timer_wants(v->store, v->answered_us + v->store->stall_us);
    }
    v->window_bytes += slot->bytes;
}

static struct store_op *next_op(const struct store_server *v)
{
    if (!has_room(v)) return NULL;
    struct store_op *op = TAILQ_FIRST(&v->urgent);
    return op ? op : TAILQ_FIRST(&v->background);
}

void store_server_pump(struct store_server *v)
{
    struct store_op *op;
    if (v->state != SERVER_UP) return;
    flush(v);
    while (v->state == SERVER_UP && evbuffer_get_length(v->out) < OUT_AHEAD && (op = next_op(v))) {
        send_op(v, op);
        if (evbuffer_get_length(v->out) >= FLUSH_BYTES) flush(v);
    }
    if (v->state == SERVER_UP) flush(v);
}

/* ---- for protocols ---- */

size_t store_sealed_bytes(const struct gw_store *s, size_t len)
{
    return s->sealer ? len + GW_PAGE_SEAL_BYTES : len;
}

gw_err_t store_seal(const struct store_op *op, uint32_t i, uint8_t *out)
{
    const struct gw_store_page *page = &op->call->pages[i];
    struct gw_page_sealer *sealer = op->call->store->sealer;
    if (sealer) return gw_page_seal(sealer, &op->name, page->id, page->bytes, page->len, out);
    memcpy(out, page->bytes, page->len);
    return GW_OK;
}

void store_ready(struct store_server *v)
{
    v->state = SERVER_UP;
    v->tried = true;
    v->due_us = 0;
    v->full_until_us = 0;
    gw_logf(v->store->log, GW_LOG_INFO, "store %s is up", v->address);
    pthread_mutex_lock(&v->store->lock);
    v->store->stats.connects++;
    v->store->stats.servers_up++;
    pthread_mutex_unlock(&v->store->lock);
}

const struct store_slot *store_oldest(const struct store_server *v)
{
    return v->slots_len ? &v->slots[v->first_slot] : NULL;
}

static bool open_page(struct gw_store *s, const struct store_op *op, const struct gw_store_page *page,
                      const void *bytes, size_t len)
{
    if (s->sealer)
        return gw_page_open(s->sealer, &op->name, page->id, bytes, len, page->bytes, page->len) == GW_OK;
    if (len != page->len) return false;
    memcpy(page->bytes, bytes, len);
    return true;
}

void store_page(struct store_server *v, uint32_t i, const void *bytes, size_t len)
{
    struct gw_store *s = v->store;
    const struct store_op *op = v->slots[v->first_slot].op;
    if (!op) return;
    bool ok = open_page(s, op, &op->call->pages[i], bytes, len);
    op->call->got[i] = ok;
    store_count(s, ok ? &s->stats.pages_got : &s->stats.pages_forged, 1);
}

void store_page_missing(struct store_server *v)
{
    store_count(v->store, &v->store->stats.pages_missing, 1);
}

void store_answer(struct store_server *v, enum gw_store_outcome outcome, bool found)
{
    struct store_slot *slot = &v->slots[v->first_slot];
    struct store_op *op = slot->op;
    v->first_slot = (v->first_slot + 1) % STORE_WINDOW_OPS;
    v->slots_len--;
    v->window_bytes -= slot->bytes;
    int64_t now_us = gw_clock_mono_us();
    store_count(v->store, &v->store->stats.busy_us, (uint64_t)(now_us - v->answered_us));
    v->answered_us = now_us;
    if (outcome == GW_STORE_OK) v->backoff_us = STORE_BACKOFF_MIN_US;
    if (!op) return;
    if (slot->verb == STORE_HAS) op->call->got[op->index] = found;
    store_op_over(op, outcome);
}

void store_full(struct store_server *v)
{
    v->full_until_us = gw_clock_mono_us() + STORE_FULL_PAUSE_US;
}
