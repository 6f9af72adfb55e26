#include "controller/worker_links.h"

#include <assert.h>
#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/listener.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/rng.h"
#include "base/sockaddr.h"

#define HELLO_TIMEOUT_S 5 /* a LAN round trip takes milliseconds; a slow-loris gets no more */
#define CLOSE_TIMEOUT_S 1 /* for a REFUSE to reach a peer that reads */
#define OUT_MAX         ((size_t)64 << 20) /* queued to one worker: thousands of SUBMITs with long prompts */
#define KEY_MAX         4096

enum link_state { LINK_HELLO, LINK_OPEN, LINK_FAILED, LINK_CLOSING };

struct link {
    struct gw_links *links;
    struct link *prev, *next;
    uint64_t id;
    enum link_state state;
    struct bufferevent *bev;
    struct event
        *failed; /* fires when HELLO is late, and from the loop when a send found the queue too long */
    uint8_t nonce[GW_WIRE_NONCE_BYTES];      /* ours */
    uint8_t peer_nonce[GW_WIRE_NONCE_BYTES]; /* the worker's: WELCOME proves our key over it */
    char name[GW_WIRE_NAME_MAX + 1];         /* for the log */
};

struct gw_links {
    struct event_base *loop;
    struct gw_links_config config;
    uint8_t key[KEY_MAX];
    struct evconnlistener *listener;
    struct link *first;
    uint64_t next_id, turned_away;
    uint32_t count;
};

static void link_free(struct link *l)
{
    struct gw_links *links = l->links;
    if (l->prev)
        l->prev->next = l->next;
    else
        links->first = l->next;
    if (l->next) l->next->prev = l->prev;
    links->count--;
    if (l->failed) event_free(l->failed);
    bufferevent_free(l->bev);
    free(l);
}

/* Links are few (workers, not clients): a list is enough. */
static struct link *link_find(struct gw_links *links, uint64_t id)
{
    for (struct link *l = links->first; l; l = l->next)
        if (l->id == id) return l;
    return NULL;
}

/* The link is over for a reason of its own: tell the core if it knows the link. */
static void link_down(struct link *l, const char *why)
{
    struct gw_links *links = l->links;
    bool known = l->state == LINK_OPEN || l->state == LINK_FAILED;
    struct gw_event event = {.type = GW_EV_LINK_DOWN, .link = {.link = l->id}};
    gw_logf(links->config.log, known ? GW_LOG_INFO : GW_LOG_WARN, "link=%llu worker=%s down: %s",
            (unsigned long long)l->id, l->name[0] ? l->name : "?", why);
    link_free(l);
    if (known) links->config.event(links->config.arg, &event);
}

/* It is none of ours, or has another --insecure-plaintext. */
static void turn_away(struct link *l, const char *why)
{
    l->links->turned_away++;
    link_down(l, why);
}

static bool hello_is_authentic(const struct link *l, const struct gw_msg_hello *hello)
{
    uint8_t mac[GW_WIRE_MAC_BYTES];
    gw_hello_mac(l->links->key, l->links->config.key_len, l->nonce, hello, mac);
    return gw_bytes_equal_ct(mac, hello->mac, sizeof mac);
}

static void refuse_auth(struct link *l)
{
    struct gw_msg msg = {.type = GW_MSG_REFUSE,
                         .refuse = {.code = GW_REFUSE_AUTH, .text = "wrong cluster key"}};
    gw_logf(l->links->config.log, GW_LOG_WARN, "link=%llu refused: wrong cluster key",
            (unsigned long long)l->id);
    l->links->turned_away++;
    gw_links_send(l->links, l->id, &msg);
    gw_links_close(l->links, l->id, "wrong cluster key");
}

/* Hands one decoded message on. Returns false if the link is no longer to be read. */
static bool on_message(struct link *l, const struct gw_msg *msg)
{
    struct gw_links *links = l->links;
    uint64_t id = l->id;
    struct gw_event event = {.type = GW_EV_MSG, .link = {.link = id, .msg = msg}};
    if (l->state == LINK_HELLO) {
        if (msg->type != GW_MSG_HELLO) {
            link_down(l, "spoke before HELLO");
            return false;
        }
        if (!hello_is_authentic(l, &msg->hello)) {
            refuse_auth(l);
            return false;
        }
        memcpy(l->peer_nonce, msg->hello.nonce, sizeof l->peer_nonce);
        memcpy(l->name, msg->hello.worker, sizeof l->name);
        l->state = LINK_OPEN;
        event_del(l->failed);
        event.type = GW_EV_HELLO;
    } else if (msg->type == GW_MSG_HELLO) {
        link_down(l, "a second HELLO");
        return false;
    }
    links->config.event(links->config.arg, &event);
    l = link_find(links, id); /* the core may have closed it */
    return l && l->state == LINK_OPEN;
}

static bool begins_tls(const struct link *l, struct evbuffer *in)
{
    uint8_t first[2];
    ev_ssize_t n = l->state == LINK_HELLO ? evbuffer_copyout(in, first, sizeof first) : 0;
    return n > 0 && gw_tls_is_record(first, (size_t)n);
}

/* Takes one frame off the input; false when there is none or the link is over. */
static bool read_one(struct link *l)
{
    struct evbuffer *in = bufferevent_get_input(l->bev);
    if (begins_tls(l, in)) {
        turn_away(l, GW_TLS_NOT_DUE);
        return false;
    }
    struct gw_err_ctx ctx = {0};
    struct gw_frame frame;
    struct gw_msg msg;
    bool ready;
    if (gw_frame_take(in, GW_FRAME_PAYLOAD_MAX, &frame, &ready, &ctx) != GW_OK) {
        link_down(l, ctx.text);
        return false;
    }
    if (!ready) return false;
    if (gw_msg_decode(&frame, &msg, &ctx) != GW_OK) {
        link_down(l, ctx.text);
        return false;
    }
    gw_frame_drop(in, &frame);
    bool go_on = on_message(l, &msg);
    gw_msg_fini(&msg);
    return go_on;
}

static void on_readable(struct bufferevent *bev, void *arg)
{
    (void)bev;
    struct link *l = arg;
    struct gw_links *links = l->links;
    uint64_t id = l->id;
    while (l && (l->state == LINK_HELLO || l->state == LINK_OPEN) && read_one(l)) l = link_find(links, id);
}

static void on_written(struct bufferevent *bev, void *arg)
{
    struct link *l = arg;
    if (l->state == LINK_CLOSING && evbuffer_get_length(bufferevent_get_output(bev)) == 0) link_free(l);
}

static void on_link_event(struct bufferevent *bev, short what, void *arg)
{
    struct link *l = arg;
    if (l->state == LINK_CLOSING) {
        link_free(l);
        return;
    }
    const char *tls_why = what & BEV_EVENT_ERROR ? gw_tls_bufferevent_why(bev) : NULL;
    if (tls_why && l->state == LINK_HELLO)
        turn_away(l, tls_why);
    else if (what & BEV_EVENT_EOF)
        link_down(l, "closed by the worker");
    else if (what & BEV_EVENT_ERROR)
        link_down(l, evutil_socket_error_to_string(EVUTIL_SOCKET_ERROR()));
}

static void on_failed(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct link *l = arg;
    const char *tls_why = gw_tls_bufferevent_why(l->bev);
    if (l->state != LINK_HELLO)
        link_down(l, "the worker does not read, or memory ran out");
    else if (tls_why)
        turn_away(l, tls_why);
    else
        link_down(l, "no HELLO in time");
}

static struct bufferevent *bufferevent_of(struct gw_links *links, evutil_socket_t fd)
{
    const int options = BEV_OPT_CLOSE_ON_FREE | BEV_OPT_DEFER_CALLBACKS;
    const struct gw_tls *tls = links->config.tls;
    if (gw_tls_is_due_at(tls, fd)) return gw_tls_bufferevent(tls, links->loop, fd, false, options);
    return bufferevent_socket_new(links->loop, fd, options);
}

static struct link *link_create(struct gw_links *links, evutil_socket_t fd)
{
    struct link *l = calloc(1, sizeof *l);
    if (!l) return NULL;
    l->links = links;
    l->id = ++links->next_id;
    l->bev = bufferevent_of(links, fd);
    l->failed = event_new(links->loop, -1, 0, on_failed, l);
    if (!l->bev || !l->failed) {
        if (l->failed) event_free(l->failed);
        if (l->bev)
            bufferevent_free(l->bev); /* closes fd */
        else
            evutil_closesocket(fd);
        free(l);
        return NULL;
    }
    l->next = links->first;
    if (l->next) l->next->prev = l;
    links->first = l;
    links->count++;
    return l;
}

static void send_challenge(struct link *l)
{
    struct gw_msg msg = {.type = GW_MSG_CHALLENGE,
                         .challenge = {.proto_min = GW_WIRE_PROTO_MIN, .proto_max = GW_WIRE_PROTO}};
    gw_random_bytes(l->nonce, sizeof l->nonce);
    memcpy(msg.challenge.nonce, l->nonce, sizeof l->nonce);
    gw_links_send(l->links, l->id, &msg);
}

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *addr, int len,
                      void *arg)
{
    (void)listener;
    (void)addr;
    (void)len;
    struct gw_links *links = arg;
    const struct timeval hello_timeout = {.tv_sec = HELLO_TIMEOUT_S};
    int one = 1;
    if (links->count >= links->config.max_links) {
        gw_logf(links->config.log, GW_LOG_WARN, "a worker was turned away: %u links are open", links->count);
        evutil_closesocket(fd);
        return;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct link *l = link_create(links, fd);
    if (!l) {
        gw_logf(links->config.log, GW_LOG_ERROR, "a worker was turned away: out of memory");
        return;
    }
    bufferevent_setcb(l->bev, on_readable, on_written, on_link_event, l);
    event_add(l->failed, &hello_timeout); /* for all of it, however often a byte comes */
    bufferevent_enable(l->bev, EV_READ | EV_WRITE);
    send_challenge(l);
}

gw_err_t gw_links_create(struct event_base *loop, const struct gw_links_config *config, struct gw_links **out,
                         struct gw_err_ctx *ctx)
{
    assert(config->event);
    struct sockaddr_storage addr;
    socklen_t addr_len;
    if (config->key_len == 0 || config->key_len > KEY_MAX)
        return gw_fail(ctx, GW_ERR_INPUT, "the cluster key must have 1 to %d bytes", KEY_MAX);
    TRY(gw_sockaddr_parse(config->host, config->port, &addr, &addr_len, ctx));
    struct gw_links *links = calloc(1, sizeof *links);
    if (!links) return gw_fail(ctx, GW_ERR_MEMORY, "worker links: out of memory");
    links->loop = loop;
    links->config = *config;
    memcpy(links->key, config->key, config->key_len);
    const unsigned flags = LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_REUSEABLE;
    links->listener = config->socket > 0
                          ? evconnlistener_new(loop, on_accept, links, flags, 0, config->socket)
                          : evconnlistener_new_bind(loop, on_accept, links, flags, -1,
                                                    (struct sockaddr *)&addr, (int)addr_len);
    if (!links->listener) {
        gw_err_t err = gw_fail(ctx, GW_ERR_IO, "cannot listen for workers on %s port %u: %s", config->host,
                               config->port, strerror(errno));
        free(links);
        return err;
    }
    *out = links;
    return GW_OK;
}

void gw_links_destroy(struct gw_links *links)
{
    if (!links) return;
    while (links->first) link_free(links->first);
    evconnlistener_free(links->listener);
    gw_bytes_wipe(links->key, sizeof links->key);
    free(links);
}

int gw_links_socket(const struct gw_links *links)
{
    return evconnlistener_get_fd(links->listener);
}

uint16_t gw_links_port(const struct gw_links *links)
{
    return gw_sockaddr_local_port(evconnlistener_get_fd(links->listener));
}

uint64_t gw_links_turned_away(const struct gw_links *links)
{
    return links->turned_away;
}

void gw_links_send(struct gw_links *links, uint64_t link, struct gw_msg *msg)
{
    struct link *l = link_find(links, link);
    if (!l || l->state == LINK_FAILED || l->state == LINK_CLOSING) return;
    if (msg->type == GW_MSG_WELCOME)
        gw_welcome_mac(links->key, links->config.key_len, l->peer_nonce, msg->welcome.mac);
    struct evbuffer *out = bufferevent_get_output(l->bev);
    if (evbuffer_get_length(out) <= OUT_MAX && gw_msg_put(msg, out) == GW_OK) return;
    l->state = LINK_FAILED;
    event_active(l->failed, EV_TIMEOUT, 0);
}

void gw_links_close(struct gw_links *links, uint64_t link, const char *reason)
{
    const struct timeval close_timeout = {.tv_sec = CLOSE_TIMEOUT_S};
    struct link *l = link_find(links, link);
    if (!l) return;
    gw_logf(links->config.log, GW_LOG_INFO, "link=%llu worker=%s closed: %s", (unsigned long long)link,
            l->name[0] ? l->name : "?", reason);
    l->state = LINK_CLOSING;
    event_del(l->failed);
    bufferevent_disable(l->bev, EV_READ);
    bufferevent_set_timeouts(l->bev, NULL, &close_timeout);
    if (evbuffer_get_length(bufferevent_get_output(l->bev)) == 0) link_free(l);
}
