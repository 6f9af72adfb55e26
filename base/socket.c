#include "base/socket.h"

#include <errno.h>
#include <event2/buffer.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

#define FLUSH_PIECES 64 /* of a buffer at once */

void gw_socket_close(struct gw_socket *s)
{
    gw_tls_session_destroy(s->tls);
    if (s->fd >= 0) close(s->fd);
    *s = gw_socket_none();
}

gw_err_t gw_socket_shake(struct gw_socket *s, const struct gw_tls *tls, bool dials, short *events,
                         const char **why)
{
    gw_err_t err = s->tls ? GW_OK : gw_tls_session_create(tls, s->fd, dials, &s->tls);
    if (err != GW_OK) {
        *why = err == GW_ERR_MEMORY ? "TLS: out of memory" : "TLS: the socket is not connected";
        return err;
    }
    return gw_tls_shake(s->tls, events, why);
}

static gw_err_t wait_for(int fd, short events, int64_t deadline_us, struct gw_err_ctx *ctx)
{
    struct pollfd polled = {.fd = fd, .events = events};
    for (;;) {
        int64_t left_us = deadline_us - gw_clock_mono_us();
        if (left_us <= 0)
            return gw_fail(ctx, GW_ERR_LIMIT, "TLS: the other side did not end the handshake in time");
        struct timespec left = {.tv_sec = left_us / GW_US_PER_S, .tv_nsec = left_us % GW_US_PER_S * 1000};
        int n = ppoll(&polled, 1, &left, NULL);
        if (n > 0) return GW_OK;
        if (n < 0 && errno != EINTR) return gw_fail(ctx, GW_ERR_IO, "poll: %s", strerrordesc_np(errno));
    }
}

gw_err_t gw_socket_shake_until(struct gw_socket *s, const struct gw_tls *tls, bool dials, int64_t deadline_us,
                               struct gw_err_ctx *ctx)
{
    for (;;) {
        const char *why = "";
        short events = 0;
        gw_err_t err = gw_socket_shake(s, tls, dials, &events, &why);
        if (err != GW_OK) return gw_fail(ctx, err, "%s", why);
        if (events == 0) return GW_OK;
        TRY(wait_for(s->fd, events, deadline_us, ctx));
    }
}

static bool would_block(int error)
{
    return error == EAGAIN || error == EWOULDBLOCK || error == EINTR;
}

gw_err_t gw_socket_readv(struct gw_socket *s, struct iovec *iov, uint32_t len, size_t *got,
                         struct gw_err_ctx *ctx)
{
    if (s->tls) return gw_tls_readv(s->tls, iov, len, got, ctx);
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = len};
    ssize_t n = recvmsg(s->fd, &msg, MSG_DONTWAIT);
    *got = n > 0 ? (size_t)n : 0;
    if (n > 0 || (n < 0 && would_block(errno))) return GW_OK;
    return gw_fail(ctx, GW_ERR_IO, "%s", n == 0 ? "the peer closed the connection" : strerrordesc_np(errno));
}

gw_err_t gw_socket_read(struct gw_socket *s, void *to, size_t bytes, size_t *got, struct gw_err_ctx *ctx)
{
    struct iovec one = {to, bytes};
    return gw_socket_readv(s, &one, 1, got, ctx);
}

gw_err_t gw_socket_writev(struct gw_socket *s, struct iovec *iov, uint32_t len, int flags, size_t *wrote,
                          struct gw_err_ctx *ctx)
{
    if (s->tls) return gw_tls_writev(s->tls, iov, len, wrote, ctx);
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = len};
    ssize_t n = sendmsg(s->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL | flags);
    *wrote = n > 0 ? (size_t)n : 0;
    if (n >= 0 || would_block(errno)) return GW_OK;
    return gw_fail(ctx, GW_ERR_IO, "%s", strerrordesc_np(errno));
}

gw_err_t gw_socket_flush(struct gw_socket *s, struct evbuffer *from, size_t *wrote, struct gw_err_ctx *ctx)
{
    *wrote = 0;
    for (size_t n = 1; n > 0 && evbuffer_get_length(from) > 0; *wrote += n) {
        struct evbuffer_iovec pieces[FLUSH_PIECES];
        struct iovec iov[FLUSH_PIECES];
        int len = evbuffer_peek(from, -1, NULL, pieces, FLUSH_PIECES);
        if (len > FLUSH_PIECES) len = FLUSH_PIECES;
        for (int i = 0; i < len; i++) iov[i] = (struct iovec){pieces[i].iov_base, pieces[i].iov_len};
        TRY(gw_socket_writev(s, iov, (uint32_t)len, 0, &n, ctx));
        evbuffer_drain(from, n);
    }
    return GW_OK;
}

bool gw_socket_is_closed(const struct gw_socket *s)
{
    uint8_t byte;
    if (gw_socket_has_more(s)) return false;
    ssize_t n = recv(s->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return n == 0 || (n < 0 && !would_block(errno));
}
