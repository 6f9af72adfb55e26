#include "worker/link.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/rng.h"
#include "base/thread.h"
#include "worker/link_queue.h"

#define SHAKE_TIMEOUT_S 5
#define REDIAL_MS       5    /* after a session: a successor may listen at the same socket */
#define BACKOFF_MIN_MS  50   /* a controller that restarts is found soon */
#define BACKOFF_MAX_MS  1000 /* one that is gone is not hammered */
#define FLUSH_MAX_MS    500  /* at the end: for the last HANDOFF and GOODBYE */
#define OUT_MAX         ((size_t)64 << 20)
#define KEY_MAX         4096

enum state { DIALING, SHAKING, UP, WAITING, ENDED };

struct gw_link {
    /* the I/O thread's own */
    struct gw_link_config config;
    uint8_t key[KEY_MAX];
    struct event_base *loop;
    struct event *wake, *timer, *beat;
    struct bufferevent *bev;
    enum state state;
    uint8_t nonce[GW_WIRE_NONCE_BYTES]; /* ours, of this handshake */
    uint64_t term, generation;          /* of the session */
    uint32_t pipeline;
    uint16_t proto;
    uint64_t max_term;
    const char *told; /* static text: why there is no session, as far as the log has it */
    int backoff_ms;
    int controller;   /* of config.controllers */
    int64_t heard_us; /* 0: on this connection nothing yet */
    int64_t controller_timeout_us;
    pthread_t thread;
    bool thread_started;
    int wake_fd;
    struct link_queue inbox;

    /* shared: lock guards the rest */
    pthread_mutex_t lock;
    uint64_t session; /* 0 = none is up */
    uint64_t sessions_begun;
    struct evbuffer *outbox;
    int fd; /* the session's socket, where the engine's thread may write to it; else -1 */
    bool
        behind; /* the I/O thread has bytes that are not written yet: what is written now would overtake them */
    struct gw_msg fence; /* head of outgoing messages; generation 0: the sender's own */
    struct gw_msg_heartbeat progress;
    struct gw_cell_rect holds;
    bool ending;
};

static void dial(struct gw_link *l);

/* ---- I/O thread: sending ---- */

/* Before the buffer of the I/O thread gets bytes; on_written() takes it back. */
static void fall_behind(struct gw_link *l)
{
    pthread_mutex_lock(&l->lock);
    l->behind = true;
    pthread_mutex_unlock(&l->lock);
}

static void write_msg(struct gw_link *l, struct gw_msg *msg)
{
    fall_behind(l);
    msg->term = l->term;
    if (l->proto == 1) {
        msg->pipeline = l->pipeline;
        msg->generation = l->generation;
    }
    if (gw_msg_put(msg, bufferevent_get_output(l->bev)) != GW_OK)
        gw_logf(l->config.log, GW_LOG_ERROR, "out of memory: a %s is lost, and the session with it",
                gw_msg_name(msg->type));
}

static void set_timer(struct gw_link *l, int64_t ms)
{
    struct timeval t = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
    event_add(l->timer, &t);
}

/* ---- I/O thread: the end of a connection ---- */

static void drop_connection(struct gw_link *l)
{
    pthread_mutex_lock(&l->lock);
    l->fd = -1;
    pthread_mutex_unlock(&l->lock);
    if (l->bev) bufferevent_free(l->bev);
    l->bev = NULL;
    event_del(l->beat);
    event_del(l->timer);
}

/* Hands an item over that must not be lost. */
static void hand_over(struct gw_link *l, const struct gw_link_item *item)
{
    link_queue_push_always(&l->inbox, item);
    if (l->config.arrived) l->config.arrived(l->config.arg);
}

static void end_session(struct gw_link *l, const char *why)
{
    struct gw_link_item item = {.type = GW_LINK_LOST};
    pthread_mutex_lock(&l->lock);
    item.session = l->session;
    l->session = 0;
    evbuffer_drain(l->outbox, evbuffer_get_length(l->outbox));
    pthread_mutex_unlock(&l->lock);
    gw_logf(l->config.log, GW_LOG_WARN, "the controller is lost: %s", why);
    if (l->config.released) l->config.released(l->config.arg, 0);
    hand_over(l, &item);
}

static void connection_over(struct gw_link *l, const char *why)
{
    const bool was_up = l->state == UP;
    drop_connection(l);
    if (was_up)
        end_session(l, why);
    else
        gw_logf(l->config.log, GW_LOG_DEBUG, "no session: %s", why);
    l->state = WAITING;
    l->controller =
        (l->controller + 1) % l->config.controllers_len; /* a frozen one accepts, and says nothing */
    set_timer(l, was_up ? REDIAL_MS : l->backoff_ms);
    if (!was_up) l->backoff_ms = l->backoff_ms * 2 < BACKOFF_MAX_MS ? l->backoff_ms * 2 : BACKOFF_MAX_MS;
}

/* Both sides must be told the same: somebody has to do something about it. */
static void tell_once(struct gw_link *l, const char *why)
{
    if (l->told != why) gw_logf(l->config.log, GW_LOG_WARN, "the controller cannot be spoken to: %s", why);
    l->told = why;
    connection_over(l, why);
}

/* Nothing came in time, or before the end. A controller speaks first, but where it waits for TLS. */
static void on_silence(struct gw_link *l, const char *why)
{
    const struct sockaddr_storage *addr = &l->config.controllers[l->controller].addr;
    if (l->state == SHAKING && l->heard_us == 0 && !gw_tls_is_due(l->config.tls, addr))
        tell_once(
            l, "it says nothing, so it may speak TLS and this worker plaintext: --insecure-plaintext must be "
               "given to both or to none");
    else
        connection_over(l, why);
}

/* ---- I/O thread: handshake ---- */

static bool on_challenge(struct gw_link *l, const struct gw_msg *msg)
{
    struct gw_msg hello = {.type = GW_MSG_HELLO, .hello = l->config.hello};
    uint16_t low = msg->challenge.proto_min, high = msg->challenge.proto_max;
    if (low > GW_WIRE_PROTO || high < GW_WIRE_PROTO_MIN) {
        connection_over(l, "the controller speaks no protocol of ours");
        return false;
    }
    l->proto = hello.hello.proto = high < GW_WIRE_PROTO ? high : GW_WIRE_PROTO;
    if (l->proto > 1) hello.hello.kv_tokens = 0;
    pthread_mutex_lock(&l->lock);
    hello.hello.holds = l->holds;
    pthread_mutex_unlock(&l->lock);
    hello.hello.max_term = l->max_term;
    gw_random_bytes(l->nonce, sizeof l->nonce);
    memcpy(hello.hello.nonce, l->nonce, sizeof l->nonce);
    gw_hello_mac(l->key, l->config.key_len, msg->challenge.nonce, &hello.hello, hello.hello.mac);
    write_msg(l, &hello);
    return true;
}

static bool is_plain(const struct gw_link *l)
{
    return !gw_tls_is_due(l->config.tls, &l->config.controllers[l->controller].addr);
}

static void begin_session(struct gw_link *l, const struct gw_msg *msg)
{
    struct gw_link_item item = {.type = GW_LINK_UP, .proto = l->proto};
    struct timeval beat = {.tv_sec = msg->welcome.heartbeat_ms / 1000,
                           .tv_usec = msg->welcome.heartbeat_ms % 1000 * 1000};
    l->state = UP;
    l->term = l->max_term = msg->term;
    l->pipeline = msg->pipeline;
    l->generation = msg->generation;
    l->backoff_ms = BACKOFF_MIN_MS;
    l->told = NULL;
    l->controller_timeout_us = msg->welcome.controller_timeout_ms * GW_US_PER_MS;
    pthread_mutex_lock(&l->lock);
    item.session = l->session = ++l->sessions_begun;
    l->fd = is_plain(l) ? bufferevent_getfd(l->bev) : -1;
    l->fence = (struct gw_msg){.term = l->term};
    if (l->proto == 1) {
        l->fence.pipeline = l->pipeline;
        l->fence.generation = l->generation;
    }
    pthread_mutex_unlock(&l->lock);
    item.msg = (struct gw_msg){.term = l->term, .pipeline = l->pipeline, .generation = l->generation};
    hand_over(l, &item);
    event_del(l->timer);
    event_add(l->beat, &beat);
    gw_logf(l->config.log, GW_LOG_INFO, "registered: term=%llu protocol=%u", (unsigned long long)l->term,
            l->proto);
}

static bool on_welcome(struct gw_link *l, const struct gw_msg *msg)
{
    uint8_t mac[GW_WIRE_MAC_BYTES];
    gw_welcome_mac(l->key, l->config.key_len, l->nonce, mac);
    const char *why = NULL;
    if (!gw_bytes_equal_ct(mac, msg->welcome.mac, sizeof mac))
        why = "the controller does not hold the cluster key";
    else if (msg->term < l->max_term)
        why = "the controller's term is lower than one that was served";
    else if (msg->welcome.heartbeat_ms == 0 || msg->welcome.controller_timeout_ms == 0)
        why = "a WELCOME without times";
    if (why) {
        gw_logf(l->config.log, GW_LOG_WARN, "%s", why);
        connection_over(l, why);
        return false;
    }
    begin_session(l, msg);
    return true;
}

static bool on_refuse(struct gw_link *l, const struct gw_msg *msg)
{
    struct gw_link_item item = {.type = GW_LINK_REFUSED, .msg = *msg};
    bool hopeless = msg->refuse.code == GW_REFUSE_AUTH || msg->refuse.code == GW_REFUSE_PROTO ||
                    msg->refuse.code == GW_REFUSE_MODEL || msg->refuse.code == GW_REFUSE_DIGEST;
    gw_logf(l->config.log, GW_LOG_WARN, "refused: %s", msg->refuse.text);
    if (!hopeless) {
        connection_over(l, "refused");
        return false;
    }
    drop_connection(l);
    l->state = ENDED;
    hand_over(l, &item);
    return false;
}

/* Before the session: returns false when the connection is over. */
static bool on_shaking(struct gw_link *l, const struct gw_msg *msg)
{
    switch (msg->type) {
    case GW_MSG_CHALLENGE: return on_challenge(l, msg);
    case GW_MSG_WELCOME: return on_welcome(l, msg);
    case GW_MSG_REFUSE: return on_refuse(l, msg);
    default: connection_over(l, "the controller spoke out of turn"); return false;
    }
}

/* ---- I/O thread: the session ---- */

/* Hands a message to the engine, who owns it from here. Returns false when the connection is over. */
static bool on_session_msg(struct gw_link *l, struct gw_msg *msg)
{
    struct gw_link_item item = {.type = GW_LINK_MSG, .session = l->session, .msg = *msg};
    bool other = msg->pipeline != l->pipeline || msg->generation != l->generation;
    bool stale = msg->term != l->term || (l->proto == 1 && other);
    if (stale || msg->type == GW_MSG_PING) {
        gw_msg_fini(msg);
        return true;
    }
    if (msg->type == GW_MSG_RELEASE && l->config.released) l->config.released(l->config.arg, msg->generation);
    if (link_queue_push(&l->inbox, &item)) {
        if (l->config.arrived) l->config.arrived(l->config.arg);
        return true;
    }
    gw_msg_fini(msg);
    connection_over(l, "the engine does not keep up with the controller");
    return false;
}

static bool read_one(struct gw_link *l)
{
    struct evbuffer *in = bufferevent_get_input(l->bev);
    struct gw_err_ctx ctx = {0};
    struct gw_frame frame;
    struct gw_msg msg;
    bool ready;
    gw_err_t err = gw_frame_take(in, GW_FRAME_PAYLOAD_MAX, &frame, &ready, &ctx);
    if (err == GW_OK && !ready) return false;
    if (err == GW_OK) err = gw_msg_decode(&frame, &msg, &ctx);
    if (err != GW_OK) {
        connection_over(l, ctx.text);
        return false;
    }
    gw_frame_drop(in, &frame);
    if (l->state == UP) return on_session_msg(l, &msg);
    bool go_on = on_shaking(l, &msg);
    gw_msg_fini(&msg);
    return go_on;
}

/* All that this thread had is in the socket. */
static void on_written(struct bufferevent *bev, void *arg)
{
    struct gw_link *l = arg;
    pthread_mutex_lock(&l->lock);
    l->behind = evbuffer_get_length(bufferevent_get_output(bev)) > 0;
    pthread_mutex_unlock(&l->lock);
}

static void on_readable(struct bufferevent *bev, void *arg)
{
    struct gw_link *l = arg;
    l->heard_us = gw_clock_mono_us();
    while (l->bev == bev && read_one(l)) continue;
}

static void on_connection_event(struct bufferevent *bev, short what, void *arg)
{
    struct gw_link *l = arg;
    int one = 1;
    if (what & BEV_EVENT_CONNECTED) {
        setsockopt(bufferevent_getfd(l->bev), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        l->state = SHAKING;
        set_timer(l, SHAKE_TIMEOUT_S * 1000);
    } else if (what & BEV_EVENT_EOF) {
        on_silence(l, "closed by the controller");
    } else if (what & (BEV_EVENT_ERROR | BEV_EVENT_TIMEOUT)) {
        int error = EVUTIL_SOCKET_ERROR();
        const char *tls_why = l->state == DIALING ? gw_tls_bufferevent_why(bev) : NULL;
        if (tls_why)
            tell_once(l, tls_why);
        else
            connection_over(l, evutil_socket_error_to_string(error));
    }
}

static void on_beat(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct gw_link *l = arg;
    struct gw_msg msg = {.type = GW_MSG_HEARTBEAT};
    if (gw_clock_mono_us() - l->heard_us > l->controller_timeout_us) {
        connection_over(l, "it has been silent for too long");
        return;
    }
    pthread_mutex_lock(&l->lock);
    msg.heartbeat = l->progress;
    pthread_mutex_unlock(&l->lock);
    if (l->proto < 3) { /* its payload ends before the batch and the stores */
        msg.heartbeat.step_rows = 0;
        msg.heartbeat.kv_offered = 0;
    }
    if (l->proto < 4) { /* the same, before the weights */
        msg.heartbeat.weight_disk_bytes = 0;
        msg.heartbeat.weight_peer_bytes = 0;
    }
    if (l->proto < 5) msg.heartbeat.traffic = (struct gw_traffic_bytes){0};
    write_msg(l, &msg);
}

static void dial(struct gw_link *l)
{
    struct gw_link_endpoint *to = &l->config.controllers[l->controller];
    const struct gw_tls *tls = l->config.tls;
    l->state = DIALING;
    l->heard_us = 0;
    l->bev = gw_tls_is_due(tls, &to->addr) ? gw_tls_bufferevent(tls, l->loop, -1, true, BEV_OPT_CLOSE_ON_FREE)
                                           : bufferevent_socket_new(l->loop, -1, BEV_OPT_CLOSE_ON_FREE);
    set_timer(l, SHAKE_TIMEOUT_S * 1000);
    if (!l->bev) return; /* the timer tries again */
    bufferevent_setcb(l->bev, on_readable, on_written, on_connection_event, l);
    bufferevent_enable(l->bev, EV_READ | EV_WRITE);
    if (bufferevent_socket_connect(l->bev, (struct sockaddr *)&to->addr, (int)to->len) != 0)
        connection_over(l, strerror(errno));
}

/* One timer for whatever the state waits for. */
static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct gw_link *l = arg;
    if (l->state == WAITING)
        dial(l);
    else if (l->state == DIALING || l->state == SHAKING)
        on_silence(l, "no answer in time");
}

/* Moves the engine's messages to the socket. */
static void flush_outbox(struct gw_link *l)
{
    if (l->state != UP) return;
    struct evbuffer *out = bufferevent_get_output(l->bev);
    pthread_mutex_lock(&l->lock);
    l->behind |= evbuffer_get_length(l->outbox) > 0;
    evbuffer_add_buffer(out, l->outbox);
    pthread_mutex_unlock(&l->lock);
    if (evbuffer_get_length(out) > OUT_MAX) connection_over(l, "the controller does not read");
}

static bool all_is_written(struct gw_link *l)
{
    return l->state != UP || evbuffer_get_length(bufferevent_get_output(l->bev)) == 0;
}

static void on_wake(evutil_socket_t fd, short what, void *arg)
{
    (void)what;
    struct gw_link *l = arg;
    uint64_t count;
    ssize_t ignored = read(fd, &count, sizeof count);
    (void)ignored;
    flush_outbox(l);
}

static bool is_ending(struct gw_link *l)
{
    pthread_mutex_lock(&l->lock);
    bool ending = l->ending;
    pthread_mutex_unlock(&l->lock);
    return ending;
}

static void *io_thread(void *arg)
{
    struct gw_link *l = arg;
    gw_thread_name("gw-link");
    gw_thread_be_quick();
    dial(l);
    while (!is_ending(l)) event_base_loop(l->loop, EVLOOP_ONCE | EVLOOP_NO_EXIT_ON_EMPTY);
    flush_outbox(l);
    for (int waited = 0; !all_is_written(l) && waited < FLUSH_MAX_MS; waited++) {
        event_base_loop(l->loop, EVLOOP_NONBLOCK);
        usleep(1000);
    }
    drop_connection(l);
    return NULL;
}

/* ---- the engine's thread ---- */

static void wake_io(struct gw_link *l)
{
    uint64_t one = 1;
    ssize_t ignored = write(l->wake_fd, &one, sizeof one);
    (void)ignored;
}

static gw_err_t set_up(struct gw_link *l, struct gw_err_ctx *ctx)
{
    l->loop = event_base_new();
    l->outbox = evbuffer_new();
    l->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (!l->loop || !l->outbox || l->wake_fd < 0 || link_queue_init(&l->inbox) != GW_OK)
        return gw_fail(ctx, GW_ERR_MEMORY, "link: out of memory");
    l->wake = event_new(l->loop, l->wake_fd, EV_READ | EV_PERSIST, on_wake, l);
    l->timer = evtimer_new(l->loop, on_timer, l);
    l->beat = event_new(l->loop, -1, EV_PERSIST, on_beat, l);
    if (!l->wake || !l->timer || !l->beat || event_add(l->wake, NULL) != 0)
        return gw_fail(ctx, GW_ERR_MEMORY, "link: out of memory");
    return GW_OK;
}

static gw_err_t start_thread(struct gw_link *l, struct gw_err_ctx *ctx)
{
    TRY(gw_thread_start(&l->thread, 0, io_thread, l, ctx));
    l->thread_started = true;
    return GW_OK;
}

gw_err_t gw_link_create(const struct gw_link_config *config, struct gw_link **out, struct gw_err_ctx *ctx)
{
    if (config->key_len == 0 || config->key_len > KEY_MAX)
        return gw_fail(ctx, GW_ERR_INPUT, "the cluster key must have 1 to %d bytes", KEY_MAX);
    struct gw_link *l = calloc(1, sizeof *l);
    if (!l) return gw_fail(ctx, GW_ERR_MEMORY, "link: out of memory");
    l->config = *config;
    l->config.key = NULL;
    l->holds = config->hello.holds;
    memcpy(l->key, config->key, config->key_len);
    l->backoff_ms = BACKOFF_MIN_MS;
    l->wake_fd = l->fd = -1;
    pthread_mutex_init(&l->lock, NULL);
    gw_err_t err = set_up(l, ctx);
    if (err == GW_OK) err = start_thread(l, ctx);
    if (err != GW_OK) {
        gw_link_destroy(l);
        return err;
    }
    *out = l;
    return GW_OK;
}

void gw_link_destroy(struct gw_link *l)
{
    if (!l) return;
    if (l->thread_started) {
        pthread_mutex_lock(&l->lock);
        l->ending = true;
        pthread_mutex_unlock(&l->lock);
        wake_io(l);
        pthread_join(l->thread, NULL);
    }
    if (l->wake) event_free(l->wake);
    if (l->timer) event_free(l->timer);
    if (l->beat) event_free(l->beat);
    if (l->outbox) evbuffer_free(l->outbox);
    if (l->loop) event_base_free(l->loop);
    if (l->wake_fd >= 0) close(l->wake_fd);
    link_queue_fini(&l->inbox);
    pthread_mutex_destroy(&l->lock);
    gw_bytes_wipe(l->key, sizeof l->key);
    free(l);
}

bool gw_link_receive(struct gw_link *l, int64_t wait_us, struct gw_link_item *out)
{
    gw_link_flush(l);
    return link_queue_pop(&l->inbox, wait_us, out);
}

void gw_link_send(struct gw_link *l, uint64_t session, struct gw_msg *msg)
{
    pthread_mutex_lock(&l->lock);
    bool current = session != 0 && session == l->session;
    if (current) {
        msg->term = l->fence.term;
        if (l->fence.generation != 0) {
            msg->pipeline = l->fence.pipeline;
            msg->generation = l->fence.generation;
        }
        if (gw_msg_put(msg, l->outbox) != GW_OK)
            gw_logf(l->config.log, GW_LOG_ERROR, "out of memory: a %s is lost", gw_msg_name(msg->type));
    }
    pthread_mutex_unlock(&l->lock);
}

/* To wake the I/O thread takes as long as all else from here to the client. An error of the socket is its affair. */
void gw_link_flush(struct gw_link *l)
{
    pthread_mutex_lock(&l->lock);
    if (evbuffer_get_length(l->outbox) > 0 && l->fd >= 0 && !l->behind)
        (void)evbuffer_write(l->outbox, l->fd);
    bool left = evbuffer_get_length(l->outbox) > 0;
    pthread_mutex_unlock(&l->lock);
    if (left) wake_io(l);
}

void gw_link_set_holds(struct gw_link *l, struct gw_cell_rect holds)
{
    pthread_mutex_lock(&l->lock);
    l->holds = holds;
    pthread_mutex_unlock(&l->lock);
}

void gw_link_set_progress(struct gw_link *l, const struct gw_msg_heartbeat *progress)
{
    pthread_mutex_lock(&l->lock);
    l->progress = *progress;
    pthread_mutex_unlock(&l->lock);
}

void gw_link_wake(struct gw_link *l)
{
    link_queue_wake(&l->inbox);
}
