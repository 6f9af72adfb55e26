/* Peer I/O: sockets of page transfers, for threads that may wait, with a deadline for each whole message.
 *
 * A deadline holds for all bytes that a call moves, not for each of them: who sends or takes one byte a second does not
 * get past it. shutdown(2) from another thread ends a wait.
 *
 * Owner: sockets are the caller's. Thread: one reader and one writer per socket. Units: bytes; absolute microseconds of the
 * monotonic clock. Errors: GW_ERR_IO (broken, closed), GW_ERR_LIMIT (late). Source: own design. */
#ifndef GW_MIGRATE_PEER_IO_H
#define GW_MIGRATE_PEER_IO_H

#include <stdint.h>
#include <sys/socket.h>

#include "base/socket.h"

/* Waits until the socket is ready for events (POLLIN, POLLOUT) or broken. */
gw_err_t gw_peer_io_wait(const struct gw_socket *socket, short events, int64_t deadline_us,
                         struct gw_err_ctx *ctx) GW_MUST_USE;

/* Fills all of iov[len], which it uses up; not one byte more is read. len <= IOV_MAX. */
gw_err_t gw_peer_io_readv(struct gw_socket *socket, struct iovec *iov, uint32_t len, int64_t deadline_us,
                          struct gw_err_ctx *ctx) GW_MUST_USE;
gw_err_t gw_peer_io_read(struct gw_socket *socket, void *to, size_t bytes, int64_t deadline_us,
                         struct gw_err_ctx *ctx) GW_MUST_USE;

/* Writes all of iov[len], which it uses up; then the memory is free. */
gw_err_t gw_peer_io_writev(struct gw_socket *socket, struct iovec *iov, uint32_t len, int64_t deadline_us,
                           struct gw_err_ctx *ctx) GW_MUST_USE;

/* The same, but only iov[0, copied) are copied to the socket. The pages behind the others are lent to it through pipe_fds
 * (an empty pipe, read end first): they may not change until the peer has read them, which the socket does not tell; if they
 * do, the peer gets the change. Memory that cannot be lent is copied; what goes through TLS, encrypted from where it lies. After an error the pipe is not to be used again.
 * Measured (256 MiB, processor time per byte at both ends, lent against copied): unix sockets 0.27 ns; loopback TCP 0.33 against 0.43 (Cascade
 * Lake), 0.28 or, in most runs, 0.6-0.7 against 0.35-0.45 (a newer Xeon, where the receiver then sends, too: each ACK makes it). */
gw_err_t gw_peer_io_lend(struct gw_socket *socket, const int pipe_fds[2], struct iovec *iov, uint32_t copied,
                         uint32_t len, int64_t deadline_us, struct gw_err_ctx *ctx) GW_MUST_USE;

/* Has the peer closed a socket on which nothing is awaited? Bytes that nobody asked for count as broken, too. */
bool gw_peer_io_idle_broken(const struct gw_socket *socket);

/* The abstract unix socket that a server of this "address:port" also listens on: peers in its network namespace may use it.
 * GW_ERR_INPUT: the text is too long. */
gw_err_t gw_peer_io_unix_address(const char *address, struct sockaddr_storage *out, socklen_t *len,
                                 struct gw_err_ctx *ctx) GW_MUST_USE;

#endif
