#include "migrate/peer_io.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#include "base/clock.h"

#define UNIX_PREFIX "godwit-pages/"

gw_err_t gw_peer_io_wait(const struct gw_socket *socket, short events, int64_t deadline_us,
                         struct gw_err_ctx *ctx)
{
    struct pollfd polled = {.fd = socket->fd, .events = events};
    if ((events & POLLIN) && gw_socket_has_more(socket)) return GW_OK;
    for (;;) {
        int64_t left_us = deadline_us - gw_clock_mono_us();
        if (left_us <= 0) return gw_fail(ctx, GW_ERR_LIMIT, "the peer is too slow");
        struct timespec left = {.tv_sec = left_us / GW_US_PER_S, .tv_nsec = left_us % GW_US_PER_S * 1000};
        int n = ppoll(&polled, 1, &left, NULL);
        if (n > 0) return GW_OK;
        if (n < 0 && errno != EINTR) return gw_fail(ctx, GW_ERR_IO, "poll: %s", strerrordesc_np(errno));
    }
}

/* Steps over bytes that are done; returns how many pieces are. */
static uint32_t step_over(struct iovec *iov, uint32_t len, size_t bytes)
{
    uint32_t done = 0;
    while (done < len && bytes >= iov[done].iov_len) bytes -= iov[done++].iov_len;
    if (done < len) {
        iov[done].iov_base = (uint8_t *)iov[done].iov_base + bytes;
        iov[done].iov_len -= bytes;
    }
    return done;
}

/* A peer that always takes or has a byte never makes us wait: time is looked at after each step, too. */
static gw_err_t check_time(int64_t deadline_us, struct gw_err_ctx *ctx)
{
    if (gw_clock_mono_us() < deadline_us) return GW_OK;
    return gw_fail(ctx, GW_ERR_LIMIT, "the peer is too slow");
}

enum how { READS, WRITES, WRITES_MORE };

static gw_err_t move_all(struct gw_socket *socket, enum how how, struct iovec *iov, uint32_t len,
                         int64_t deadline_us, struct gw_err_ctx *ctx)
{
    bool writes = how != READS;
    int flags = how == WRITES_MORE ? MSG_MORE : 0;
    for (uint32_t at = step_over(iov, len, 0); at < len;) {
        size_t n = 0;
        if (writes)
            TRY(gw_socket_writev(socket, iov + at, len - at, flags, &n, ctx));
        else
            TRY(gw_socket_readv(socket, iov + at, len - at, &n, ctx));
        at += step_over(iov + at, len - at, n);
        if (n == 0)
            TRY(gw_peer_io_wait(socket, writes ? POLLOUT : POLLIN, deadline_us, ctx));
        else if (at < len)
            TRY(check_time(deadline_us, ctx));
    }
    return GW_OK;
}

gw_err_t gw_peer_io_readv(struct gw_socket *socket, struct iovec *iov, uint32_t len, int64_t deadline_us,
                          struct gw_err_ctx *ctx)
{
    return move_all(socket, READS, iov, len, deadline_us, ctx);
}

gw_err_t gw_peer_io_read(struct gw_socket *socket, void *to, size_t bytes, int64_t deadline_us,
                         struct gw_err_ctx *ctx)
{
    struct iovec one = {to, bytes};
    return move_all(socket, READS, &one, 1, deadline_us, ctx);
}

gw_err_t gw_peer_io_writev(struct gw_socket *socket, struct iovec *iov, uint32_t len, int64_t deadline_us,
                           struct gw_err_ctx *ctx)
{
    return move_all(socket, WRITES, iov, len, deadline_us, ctx);
}

/* Moves what is in the pipe to the socket. */
static gw_err_t drain_pipe(const struct gw_socket *socket, int pipe_fd, size_t bytes, bool more,
                           int64_t deadline_us, struct gw_err_ctx *ctx)
{
    const unsigned flags = SPLICE_F_NONBLOCK | (more ? SPLICE_F_MORE : 0);
    while (bytes > 0) {
        ssize_t n = splice(pipe_fd, NULL, socket->fd, NULL, bytes, flags);
        if (n > 0) {
            bytes -= (size_t)n;
            if (bytes > 0) TRY(check_time(deadline_us, ctx));
        } else if (n < 0 && errno == EAGAIN) {
            TRY(gw_peer_io_wait(socket, POLLOUT, deadline_us, ctx));
        } else if (n == 0 || errno != EINTR) {
            return gw_fail(ctx, GW_ERR_IO, "%s", n == 0 ? "the pipe is empty" : strerrordesc_np(errno));
        }
    }
    return GW_OK;
}

gw_err_t gw_peer_io_lend(struct gw_socket *socket, const int pipe_fds[2], struct iovec *iov, uint32_t copied,
                         uint32_t len, int64_t deadline_us, struct gw_err_ctx *ctx)
{
    if (socket->tls) return move_all(socket, WRITES, iov, len, deadline_us, ctx);
    TRY(move_all(socket, WRITES_MORE, iov, copied, deadline_us, ctx));
    for (uint32_t at = copied + step_over(iov + copied, len - copied, 0); at < len;) {
        ssize_t n = vmsplice(pipe_fds[1], iov + at, len - at, SPLICE_F_NONBLOCK);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return move_all(socket, WRITES, iov + at, len - at, deadline_us, ctx);
        at += step_over(iov + at, len - at, (size_t)n);
        TRY(drain_pipe(socket, pipe_fds[0], (size_t)n, at < len, deadline_us, ctx));
    }
    return GW_OK;
}

bool gw_peer_io_idle_broken(const struct gw_socket *socket)
{
    uint8_t byte;
    if (gw_socket_has_more(socket)) return true;
    ssize_t n = recv(socket->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return n >= 0 || (errno != EAGAIN && errno != EINTR);
}

gw_err_t gw_peer_io_unix_address(const char *address, struct sockaddr_storage *out, socklen_t *len,
                                 struct gw_err_ctx *ctx)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    /* An abstract name begins with NUL, and ends where the length says. */
    int n = snprintf(un.sun_path + 1, sizeof un.sun_path - 1, UNIX_PREFIX "%s", address);
    if (n < 0 || (size_t)n >= sizeof un.sun_path - 1)
        return gw_fail(ctx, GW_ERR_INPUT, "'%.100s' is too long for an address", address);
    memcpy(out, &un, sizeof un);
    *len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);
    return GW_OK;
}
