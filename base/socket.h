/* Socket: a connected stream socket, plain or with TLS over it, read and written in one way.
 *
 * A plain one is read by recvmsg and written by sendmsg, with nothing in between. Neither kind ever blocks here, whatever the
 * socket's mode; both raise no SIGPIPE. Who waits polls fd, and before that asks gw_socket_has_more: bytes that a TLS session
 * has read already are not seen by poll.
 *
 * Owner: plain data, passed on by value; gw_socket_close closes what it holds. Thread: one at a time (shutdown(2) of fd: any).
 * Units: bytes. Errors: GW_ERR_IO (closed, broken), GW_ERR_PROTO (TLS), GW_ERR_MEMORY. Source: own design. */
#ifndef GW_BASE_SOCKET_H
#define GW_BASE_SOCKET_H

#include <stdint.h>
#include <sys/uio.h>

#include "base/tls.h"

struct gw_socket {
    int fd;                     /* -1: none */
    struct gw_tls_session *tls; /* NULL: plain */
};

static inline struct gw_socket gw_socket_plain(int fd)
{
    return (struct gw_socket){.fd = fd};
}

static inline struct gw_socket gw_socket_none(void)
{
    return gw_socket_plain(-1);
}

/* It is none then. */
void gw_socket_close(struct gw_socket *s);

/* Puts a TLS session over a plain one and goes on with its handshake, as gw_tls_shake. */
gw_err_t gw_socket_shake(struct gw_socket *s, const struct gw_tls *tls, bool dials, short *events,
                         const char **why) GW_MUST_USE;

/* The same, waiting until it is done, deadline_us of the monotonic clock at most (GW_ERR_LIMIT). */
gw_err_t gw_socket_shake_until(struct gw_socket *s, const struct gw_tls *tls, bool dials, int64_t deadline_us,
                               struct gw_err_ctx *ctx) GW_MUST_USE;

/* Reads what is there: *got bytes, 0: nothing yet. iov is not changed. GW_ERR_IO also at the end of the stream. */
gw_err_t gw_socket_readv(struct gw_socket *s, struct iovec *iov, uint32_t len, size_t *got,
                         struct gw_err_ctx *ctx) GW_MUST_USE;
gw_err_t gw_socket_read(struct gw_socket *s, void *to, size_t bytes, size_t *got,
                        struct gw_err_ctx *ctx) GW_MUST_USE;

/* Writes what the socket takes: *wrote bytes, possibly none; the next call begins with those that follow (gw_tls_writev). iov
 * is not changed. flags: 0, or MSG_MORE, which a plain socket heeds. */
gw_err_t gw_socket_writev(struct gw_socket *s, struct iovec *iov, uint32_t len, int flags, size_t *wrote,
                          struct gw_err_ctx *ctx) GW_MUST_USE;

struct evbuffer;
/* Writes from the front of the buffer until it is empty or the socket takes no more. *wrote: bytes in all. */
gw_err_t gw_socket_flush(struct gw_socket *s, struct evbuffer *from, size_t *wrote,
                         struct gw_err_ctx *ctx) GW_MUST_USE;

/* Are there bytes that poll does not see? */
static inline bool gw_socket_has_more(const struct gw_socket *s)
{
    return s->tls && gw_tls_has_more(s->tls);
}

/* Has the peer closed it, or is it broken? For one that nobody reads right now; bytes that wait are no sign. */
bool gw_socket_is_closed(const struct gw_socket *s);

#endif
