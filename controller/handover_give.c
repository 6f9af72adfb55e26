#include "controller/handover_give.h"

#include <errno.h>
#include <event2/bufferevent.h>
#include <event2/listener.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define ASK_TIMEOUT_S 2 /* a successor asks as soon as it is connected */
#define MAGIC_BYTES   (sizeof GW_HANDOVER_MAGIC - 1)

struct gw_giver {
    struct event_base *loop;
    struct gw_giver_config config;
    struct evconnlistener *listener; /* NULL once given */
    struct bufferevent *bev;         /* the successor */
    bool given;
};

/* ---- the successor ---- */

static void drop(struct gw_giver *g, const char *why)
{
    gw_logf(g->config.log, GW_LOG_WARN, "hand-over: the connection ends: %s", why);
    bufferevent_free(g->bev);
    g->bev = NULL;
    if (g->given) g->config.gone(g->config.arg);
}

static void put(struct gw_giver *g, const struct gw_handover_msg *m)
{
    if (g->bev && gw_handover_put(bufferevent_get_output(g->bev), m) != GW_OK) drop(g, "out of memory");
}

static void on_tokens(struct gw_giver *g, const struct gw_msg_tokens *t)
{
    const struct gw_action a = {
        .type = GW_ACT_TOKENS,
        .tokens = {.request = t->request, .branch = t->branch, .tokens = t->tokens, .profile = ""}};
    g->config.action(g->config.arg, &a);
}

static void on_message(struct gw_giver *g, const struct gw_handover_msg *m)
{
    struct gw_action a = {0};
    if (m->type == GW_HANDOVER_FINISH) {
        a.type = GW_ACT_FINISH;
        a.finish.request = m->request;
        a.finish.branch = m->branch;
        a.finish.reason = m->reason;
    } else if (m->type == GW_HANDOVER_DONE) {
        a.type = GW_ACT_DONE;
        a.done.request = m->request;
    } else if (m->type == GW_HANDOVER_WIRE && m->wire.type == GW_MSG_REJECT) {
        a.type = GW_ACT_FAILED;
        a.failed.request = m->wire.reject.request;
        a.failed.code = (gw_err_t)m->wire.reject.code;
        a.failed.text = m->wire.reject.text;
    } else if (m->type == GW_HANDOVER_WIRE && m->wire.type == GW_MSG_TOKENS) {
        on_tokens(g, &m->wire.tokens);
        return;
    } else {
        return;
    }
    g->config.action(g->config.arg, &a);
}

/* Sends the sockets with the greeting; the descriptors stay ours, too. */
static gw_err_t send_sockets(int fd, const int fds[GW_HANDOVER_FDS])
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(GW_HANDOVER_FDS * sizeof(int))];
    } control = {0};
    struct iovec io = {.iov_base = (char *)GW_HANDOVER_MAGIC, .iov_len = MAGIC_BYTES};
    struct msghdr m = {.msg_iov = &io,
                       .msg_iovlen = 1,
                       .msg_control = control.bytes,
                       .msg_controllen = sizeof control.bytes};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(GW_HANDOVER_FDS * sizeof(int));
    memcpy(CMSG_DATA(c), fds, GW_HANDOVER_FDS * sizeof(int));
    return sendmsg(fd, &m, MSG_NOSIGNAL) == (ssize_t)MAGIC_BYTES ? GW_OK : GW_ERR_IO;
}

static void give(struct gw_giver *g)
{
    int fds[GW_HANDOVER_FDS];
    const struct gw_handover_msg go = {.type = GW_HANDOVER_GO};
    g->config.give(g->config.arg, fds);
    if (send_sockets(bufferevent_getfd(g->bev), fds) != GW_OK) {
        drop(g, strerror(errno));
        return;
    }
    gw_logf(g->config.log, GW_LOG_INFO, "hand-over: a successor has the listening sockets");
    g->given = true;
    bufferevent_set_timeouts(g->bev, NULL, NULL);
    evconnlistener_free(g->listener);
    g->listener = NULL;
    g->config.given(g->config.arg);
    put(g, &go);
}

static void on_asked(struct gw_giver *g, struct evbuffer *in)
{
    char magic[MAGIC_BYTES];
    if (evbuffer_get_length(in) < MAGIC_BYTES) return;
    evbuffer_remove(in, magic, MAGIC_BYTES);
    if (memcmp(magic, GW_HANDOVER_MAGIC, MAGIC_BYTES) == 0)
        give(g);
    else
        drop(g, "it does not ask for what there is");
}

static void on_readable(struct bufferevent *bev, void *arg)
{
    struct gw_giver *g = arg;
    struct evbuffer *in = bufferevent_get_input(bev);
    struct gw_handover_msg m;
    struct gw_err_ctx ctx = {0};
    bool ready = true;
    if (!g->given) on_asked(g, in);
    while (g->given && g->bev && ready) {
        if (gw_handover_get(in, &m, &ready, &ctx) != GW_OK) {
            drop(g, ctx.text);
            return;
        }
        if (!ready) return;
        on_message(g, &m);
        gw_handover_msg_fini(&m);
    }
}

static void on_connection_event(struct bufferevent *bev, short what, void *arg)
{
    (void)bev;
    if (what & (BEV_EVENT_EOF | BEV_EVENT_ERROR)) drop(arg, "the other side is gone");
    if (what & BEV_EVENT_TIMEOUT) drop(arg, "it does not ask");
}

/* ---- listening ---- */

static bool is_ours(int fd)
{
    struct ucred peer;
    socklen_t len = sizeof peer;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 && peer.uid == geteuid();
}

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *addr, int len,
                      void *arg)
{
    (void)listener, (void)addr, (void)len;
    struct gw_giver *g = arg;
    const struct timeval ask = {.tv_sec = ASK_TIMEOUT_S};
    struct bufferevent *bev = NULL;
    if (!g->bev && is_ours(fd)) bev = bufferevent_socket_new(g->loop, fd, BEV_OPT_CLOSE_ON_FREE);
    if (!bev) {
        evutil_closesocket(fd);
        return;
    }
    g->bev = bev;
    bufferevent_setcb(bev, on_readable, NULL, on_connection_event, g);
    bufferevent_set_timeouts(bev, &ask, NULL);
    bufferevent_enable(bev, EV_READ | EV_WRITE);
}

gw_err_t gw_giver_create(struct event_base *loop, const struct gw_giver_config *config, struct gw_giver **out,
                         struct gw_err_ctx *ctx)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    if (strlen(config->path) >= sizeof addr.sun_path)
        return gw_fail(ctx, GW_ERR_INPUT, "hand-over: %s: the path is too long", config->path);
    memcpy(addr.sun_path, config->path, strlen(config->path));
    struct gw_giver *g = calloc(1, sizeof *g);
    if (!g) return gw_fail(ctx, GW_ERR_MEMORY, "hand-over: out of memory");
    g->loop = loop;
    g->config = *config;
    unlink(config->path); /* of a predecessor: it listens there no more */
    mode_t before = umask(0177);
    g->listener = evconnlistener_new_bind(loop, on_accept, g, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC,
                                          1, (struct sockaddr *)&addr, sizeof addr);
    umask(before);
    if (!g->listener) {
        free(g);
        return gw_fail(ctx, GW_ERR_IO, "hand-over: cannot listen at %s: %s", config->path, strerror(errno));
    }
    *out = g;
    return GW_OK;
}

void gw_giver_destroy(struct gw_giver *g)
{
    if (!g) return;
    if (g->listener) evconnlistener_free(g->listener);
    if (g->bev) bufferevent_free(g->bev);
    free(g);
}

/* ---- what the successor computes ---- */

void gw_giver_put_request(struct gw_giver *g, const struct gw_request *request,
                          const struct gw_core_restored *branches, const char *profile)
{
    if (g->bev &&
        gw_handover_put_request(bufferevent_get_output(g->bev), request, branches, profile) != GW_OK)
        drop(g, "out of memory");
}

void gw_giver_post(struct gw_giver *g, const struct gw_event *e)
{
    struct gw_handover_msg m = {0};
    if (e->type == GW_EV_SUBMIT) {
        gw_giver_put_request(g, e->submit.request, NULL, "");
        gw_request_destroy(e->submit.request);
    } else if (e->type == GW_EV_RESTORE) {
        gw_giver_put_request(g, e->restore.request, e->restore.branches, e->restore.profile);
        gw_request_destroy(e->restore.request);
    } else if (e->type == GW_EV_CANCEL) {
        m.type = GW_HANDOVER_WIRE;
        m.wire =
            (struct gw_msg){.type = GW_MSG_CANCEL,
                            .cancel = {.request = e->cancel.request, .attempt = 1, .branch = GW_BRANCH_ALL}};
        put(g, &m);
    } else if (e->type == GW_EV_STOP) {
        m = (struct gw_handover_msg){.type = GW_HANDOVER_STOP,
                                     .request = e->stop.request,
                                     .branch = e->stop.branch,
                                     .keep = e->stop.keep};
        put(g, &m);
    }
}
