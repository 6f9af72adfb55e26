/* Socket addresses: numeric text to struct sockaddr and back; nothing is resolved.
 *
 * Owner: caller memory. Thread: safe. Errors: GW_ERR_INPUT. Source: own design. */
#ifndef GW_BASE_SOCKADDR_H
#define GW_BASE_SOCKADDR_H

#include <stdint.h>
#include <sys/socket.h>

#include "base/err.h"

/* host: "127.0.0.1", "::1", "0.0.0.0", or "localhost" (= 127.0.0.1). */
gw_err_t gw_sockaddr_parse(const char *host, uint16_t port, struct sockaddr_storage *out, socklen_t *len,
                           struct gw_err_ctx *ctx) GW_MUST_USE;

/* "HOST:PORT" or "[v6]:PORT" cut in two; host gets at most host_size bytes with its NUL. */
gw_err_t gw_sockaddr_split(const char *text, char *host, size_t host_size, uint16_t *port,
                           struct gw_err_ctx *ctx) GW_MUST_USE;

/* Is it 127.0.0.0/8, also as ::ffff:127.0.0.0/104, or ::1? */
bool gw_sockaddr_is_loopback(const struct sockaddr_storage *addr);

/* Are both ends of this TCP connection on this machine, as far as their addresses tell? */
bool gw_sockaddr_stays_here(int fd);

/* The port a bound socket has; 0 if it has none. */
uint16_t gw_sockaddr_local_port(int fd);

#endif
