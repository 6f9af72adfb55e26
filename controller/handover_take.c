#include "controller/handover_take.h"

#include <errno.h>
#include <event2/bufferevent.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/id_map.h"

#define TAKE_US     (30 * GW_US_PER_S) /* a journal that is flushed to a slow disk, a gigabyte of prompts */
#define MAGIC_BYTES (sizeof GW_HANDOVER_MAGIC - 1)
#define OUT_MAX     ((size_t)256 << 20) /* to a predecessor that does not read: as much as one answer may hold */

struct gw_taken {
    int fd; /* -1 once the bufferevent has it */
    int sockets[GW_HANDOVER_FDS];
    struct evbuffer *in; /* frames before and behind GO */
    struct bufferevent *bev;
    struct gw_taken_config config;
    struct gw_id_map ids; /* of requests that the predecessor's clients wait for → taken */
    char profile[GW_WIRE_NAME_MAX + 1];
    bool going; /* GO has been read */
};

/* ---- asking ---- */

static gw_err_t fail_io(struct gw_err_ctx *ctx, const char *what)
{
    return gw_fail(ctx, GW_ERR_IO, "hand-over: %s: %s", what, strerror(errno));
}

static gw_err_t wait_readable(int fd, int64_t deadline_us, struct gw_err_ctx *ctx)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    int64_t left_us = deadline_us - gw_clock_mono_us();
    int n = left_us > 0 ? poll(&p, 1, (int)(left_us / GW_US_PER_MS) + 1) : 0;
    if (n > 0 || (n < 0 && errno == EINTR)) return GW_OK;
    return gw_fail(ctx, GW_ERR_IO, "hand-over: the controller that runs does not give up its place");
}

static gw_err_t receive_sockets(struct gw_taken *t, struct gw_err_ctx *ctx)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(GW_HANDOVER_FDS * sizeof(int))];
    } control;
    char magic[MAGIC_BYTES];
    struct iovec io = {.iov_base = magic, .iov_len = sizeof magic};
    struct msghdr m = {.msg_iov = &io,
                       .msg_iovlen = 1,
                       .msg_control = control.bytes,
                       .msg_controllen = sizeof control.bytes};
    ssize_t n = recvmsg(t->fd, &m, MSG_CMSG_CLOEXEC);
    if (n < 0) return fail_io(ctx, "receive");
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    bool sockets = c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS &&
                   c->cmsg_len == CMSG_LEN(GW_HANDOVER_FDS * sizeof(int));
    if (sockets) memcpy(t->sockets, CMSG_DATA(c), GW_HANDOVER_FDS * sizeof(int));
    if (!sockets || n != (ssize_t)MAGIC_BYTES || memcmp(magic, GW_HANDOVER_MAGIC, MAGIC_BYTES) != 0)
        return gw_fail(ctx, GW_ERR_PROTO,
                       "hand-over: the controller that runs answers otherwise than one of ours");
    return GW_OK;
}

/* Is there a GO among the frames of `in`? They stay; its place is all that is of interest. */
static bool has_go(struct evbuffer *in)
{
    uint8_t head[GW_FRAME_HEAD_BYTES];
    struct evbuffer_ptr at;
    evbuffer_ptr_set(in, &at, 0, EVBUFFER_PTR_SET);
    while (evbuffer_copyout_from(in, &at, head, sizeof head) == (ev_ssize_t)sizeof head) {
        uint32_t type = (uint32_t)head[4] | (uint32_t)head[5] << 8;
        uint32_t len =
            (uint32_t)head[8] | (uint32_t)head[9] << 8 | (uint32_t)head[10] << 16 | (uint32_t)head[11] << 24;
        if (type == GW_HANDOVER_GO || len > GW_FRAME_PAYLOAD_MAX)
            return true; /* a wrong one is found when it is read */
        if (evbuffer_ptr_set(in, &at, GW_FRAME_HEAD_BYTES + len, EVBUFFER_PTR_ADD) != 0) return false;
    }
    return false;
}

static gw_err_t receive_all(struct gw_taken *t, int64_t deadline_us, struct gw_err_ctx *ctx)
{
    TRY(wait_readable(t->fd, deadline_us, ctx));
    TRY(receive_sockets(t, ctx));
    while (!has_go(t->in)) {
        TRY(wait_readable(t->fd, deadline_us, ctx));
        int n = evbuffer_read(t->in, t->fd, -1);
        if (n == 0)
            return gw_fail(ctx, GW_ERR_IO, "hand-over: the controller that ran ended in the middle of it");
        if (n < 0 && errno != EINTR && errno != EAGAIN) return fail_io(ctx, "receive");
    }
    return GW_OK;
}

static gw_err_t ask(struct gw_taken *t, struct gw_err_ctx *ctx)
{
    if (send(t->fd, GW_HANDOVER_MAGIC, MAGIC_BYTES, MSG_NOSIGNAL) != (ssize_t)MAGIC_BYTES)
        return fail_io(ctx, "send");
    return receive_all(t, gw_clock_mono_us() + TAKE_US, ctx);
}

/* *fd = -1: nobody listens there. */
static gw_err_t dial(const char *path, int *fd, struct gw_err_ctx *ctx)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof addr.sun_path)
        return gw_fail(ctx, GW_ERR_INPUT, "hand-over: %s: the path is too long", path);
    memcpy(addr.sun_path, path, strlen(path));
    *fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (*fd < 0) return fail_io(ctx, "socket");
    if (connect(*fd, (struct sockaddr *)&addr, sizeof addr) == 0) return GW_OK;
    bool nobody = errno == ENOENT || errno == ECONNREFUSED;
    gw_err_t err = nobody ? GW_OK : fail_io(ctx, path);
    close(*fd);
    *fd = -1;
    return err;
}

gw_err_t gw_handover_take(const char *path, struct gw_taken **out, struct gw_err_ctx *ctx)
{
    int fd = -1;
    *out = NULL;
    TRY(dial(path, &fd, ctx));
    if (fd < 0) return GW_OK;
    struct gw_taken *t = calloc(1, sizeof *t);
    if (!t) {
        close(fd);
        return gw_fail(ctx, GW_ERR_MEMORY, "hand-over: out of memory");
    }
    t->fd = fd;
    for (int i = 0; i < GW_HANDOVER_FDS; i++) t->sockets[i] = -1;
    t->in = evbuffer_new();
    gw_err_t err = t->in ? ask(t, ctx) : gw_fail(ctx, GW_ERR_MEMORY, "hand-over: out of memory");
    if (err == GW_OK)
        *out = t;
    else
        gw_taken_destroy(t);
    return err;
}

void gw_taken_destroy(struct gw_taken *t)
{
    if (!t) return;
    if (t->bev) bufferevent_free(t->bev);
    if (t->in) evbuffer_free(t->in);
    if (t->fd >= 0) close(t->fd);
    for (int i = 0; i < GW_HANDOVER_FDS; i++)
        if (t->sockets[i] >= 0) close(t->sockets[i]);
    gw_id_map_fini(&t->ids);
    free(t);
}

int gw_taken_socket(struct gw_taken *t, int which)
{
    int fd = t->sockets[which];
    t->sockets[which] = -1;
    return fd;
}

/* ---- the predecessor's requests ---- */

/* Records of which the ids are known: what else they have was sent by the predecessor. */
static gw_err_t fill_branch(struct gw_core_restored *b, const struct gw_branch_log *log, uint32_t top_n)
{
    b->done = log->done;
    b->tokens = (struct gw_tokens){.count = log->len, .top_n = top_n, .ids = log->ids};
    b->tokens.logprobs = calloc(log->len + 1, sizeof *b->tokens.logprobs);
    if (top_n > 0) b->tokens.top = calloc((size_t)log->len * top_n + 1, sizeof *b->tokens.top);
    return b->tokens.logprobs && (top_n == 0 || b->tokens.top) ? GW_OK : GW_ERR_MEMORY;
}

static gw_err_t restore(struct gw_taken *t, const struct gw_msg_submit *m)
{
    const struct gw_request *q = &m->request;
    struct gw_request *request = NULL;
    struct gw_core_restored *branches = calloc(q->n, sizeof *branches);
    uint32_t records = 0, open = 0;
    gw_err_t err = branches ? GW_OK : GW_ERR_MEMORY;
    for (uint32_t i = 0; err == GW_OK && i < q->n; i++) {
        err = fill_branch(&branches[i], &m->logs[i], q->sampling.top_logprobs);
        records += m->logs[i].len;
        open += !m->logs[i].done;
    }
    if (err == GW_OK && (q->id == 0 || open == 0 || gw_id_map_get(&t->ids, q->id))) err = GW_ERR_PROTO;
    if (err == GW_OK) err = gw_request_copy(q, &request);
    if (err == GW_OK && (err = gw_id_map_put(&t->ids, q->id, t)) != GW_OK) gw_request_destroy(request);
    if (err == GW_OK) {
        const struct gw_event e = {
            .type = GW_EV_RESTORE,
            .restore = {.request = request, .branches = branches, .profile = records ? t->profile : ""}};
        t->config.post(t->config.arg, &e);
    }
    for (uint32_t i = 0; branches && i < q->n; i++) {
        free(branches[i].tokens.logprobs);
        free(branches[i].tokens.top);
    }
    free(branches);
    return err;
}

static void cancel(struct gw_taken *t, uint64_t request)
{
    const struct gw_event e = {.type = GW_EV_CANCEL, .cancel.request = request};
    if (!gw_id_map_get(&t->ids, request)) return;
    gw_id_map_remove(&t->ids, request);
    t->config.post(t->config.arg, &e);
}

static void stop(struct gw_taken *t, const struct gw_handover_msg *m)
{
    const struct gw_event e = {.type = GW_EV_STOP,
                               .stop = {.request = m->request, .branch = m->branch, .keep = m->keep}};
    if (gw_id_map_get(&t->ids, m->request)) t->config.post(t->config.arg, &e);
}

static gw_err_t on_message(struct gw_taken *t, const struct gw_handover_msg *m)
{
    if (m->type == GW_HANDOVER_GO)
        t->going = true;
    else if (m->type == GW_HANDOVER_PROFILE)
        memcpy(t->profile, m->profile, sizeof t->profile);
    else if (m->type == GW_HANDOVER_STOP)
        stop(t, m);
    else if (m->type == GW_HANDOVER_WIRE && m->wire.type == GW_MSG_CANCEL)
        cancel(t, m->wire.cancel.request);
    else if (m->type == GW_HANDOVER_WIRE && m->wire.type == GW_MSG_SUBMIT)
        return restore(t, &m->wire.submit);
    else
        return GW_ERR_PROTO;
    return GW_OK;
}

static void over(struct gw_taken *t, const char *why)
{
    gw_logf(t->config.log, GW_LOG_INFO, "hand-over: the predecessor is gone, %zu of its requests with it: %s",
            t->ids.len, why);
    bufferevent_free(t->bev);
    t->bev = NULL;
    for (size_t i = 0; i < t->ids.cap;) {
        uint64_t id = t->ids.slots[i].id;
        if (id == 0)
            i++;
        else
            cancel(t, id); /* what moves into the slot comes next */
    }
    t->config.ended(t->config.arg);
}

bool gw_taken_is_over(const struct gw_taken *t)
{
    return !t->bev;
}

static gw_err_t read_messages(struct gw_taken *t, struct evbuffer *in, struct gw_err_ctx *ctx)
{
    struct gw_handover_msg m;
    bool ready = true;
    for (;;) {
        TRY(gw_handover_get(in, &m, &ready, ctx));
        if (!ready) return GW_OK;
        gw_err_t err = on_message(t, &m);
        gw_handover_msg_fini(&m);
        if (err != GW_OK)
            return gw_fail(ctx, err, "hand-over: a request that cannot be, or no memory for it");
    }
}

static void on_readable(struct bufferevent *bev, void *arg)
{
    struct gw_taken *t = arg;
    struct gw_err_ctx ctx = {0};
    if (read_messages(t, bufferevent_get_input(bev), &ctx) != GW_OK) over(t, ctx.text);
}

static void on_connection_event(struct bufferevent *bev, short what, void *arg)
{
    (void)bev;
    if (what & (BEV_EVENT_EOF | BEV_EVENT_ERROR)) over(arg, "its connection ended");
}

gw_err_t gw_taken_begin(struct gw_taken *t, struct event_base *loop, const struct gw_taken_config *config,
                        struct gw_err_ctx *ctx)
{
    t->config = *config;
    evutil_make_socket_nonblocking(t->fd);
    t->bev = bufferevent_socket_new(loop, t->fd, BEV_OPT_CLOSE_ON_FREE);
    if (!t->bev) return gw_fail(ctx, GW_ERR_MEMORY, "hand-over: out of memory");
    t->fd = -1;
    bufferevent_setcb(t->bev, on_readable, NULL, on_connection_event, t);
    TRY(read_messages(t, t->in, ctx));
    if (!t->going)
        return gw_fail(ctx, GW_ERR_PROTO, "hand-over: what the controller that ran sent is no hand-over");
    /* What is left is the beginning of a message. */
    if (evbuffer_prepend_buffer(bufferevent_get_input(t->bev), t->in) != 0)
        return gw_fail(ctx, GW_ERR_MEMORY, "hand-over: out of memory");
    bufferevent_enable(t->bev, EV_READ | EV_WRITE);
    gw_logf(config->log, GW_LOG_INFO, "hand-over: taken, with %zu requests", t->ids.len);
    return GW_OK;
}

/* ---- what the core says of them ---- */

static void fill_failed(struct gw_handover_msg *m, const struct gw_action *a)
{
    m->type = GW_HANDOVER_WIRE;
    m->wire = (struct gw_msg){
        .type = GW_MSG_REJECT,
        .reject = {.request = a->failed.request, .attempt = 1, .code = (uint16_t)a->failed.code}};
    snprintf(m->wire.reject.text, sizeof m->wire.reject.text, "%s", a->failed.text ? a->failed.text : "");
}

/* False: nothing of it is to be said. */
static bool fill(struct gw_handover_msg *m, const struct gw_action *a, uint64_t *request)
{
    switch (a->type) {
    case GW_ACT_ACCEPTED: *request = a->accepted.request; return false;
    case GW_ACT_TOKENS:
        *request = a->tokens.request;
        m->type = GW_HANDOVER_WIRE;
        m->wire = (struct gw_msg){.type = GW_MSG_TOKENS,
                                  .tokens = {.request = a->tokens.request,
                                             .attempt = 1,
                                             .branch = a->tokens.branch,
                                             .tokens = a->tokens.tokens}};
        return true;
    case GW_ACT_FINISH:
        *request = a->finish.request;
        *m = (struct gw_handover_msg){.type = GW_HANDOVER_FINISH,
                                      .request = a->finish.request,
                                      .branch = a->finish.branch,
                                      .reason = a->finish.reason};
        return true;
    case GW_ACT_DONE:
        *request = a->done.request;
        *m = (struct gw_handover_msg){.type = GW_HANDOVER_DONE, .request = a->done.request};
        return true;
    case GW_ACT_FAILED:
        *request = a->failed.request;
        fill_failed(m, a);
        return true;
    default: *request = 0; return false;
    }
}

bool gw_taken_on_action(struct gw_taken *t, const struct gw_action *a)
{
    struct gw_handover_msg m = {0};
    uint64_t request;
    bool say = fill(&m, a, &request);
    if (request == 0 || !gw_id_map_get(&t->ids, request)) return false;
    if (a->type == GW_ACT_DONE || a->type == GW_ACT_FAILED) gw_id_map_remove(&t->ids, request);
    if (!say || !t->bev) return true;
    struct evbuffer *out = bufferevent_get_output(t->bev);
    /* It is frozen, or memory is short: its end, which cancels the rest, is heard by the loop. */
    if (evbuffer_get_length(out) > OUT_MAX || gw_handover_put(out, &m) != GW_OK)
        shutdown(bufferevent_getfd(t->bev), SHUT_RDWR);
    return true;
}
