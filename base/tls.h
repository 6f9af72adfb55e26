/* TLS: TLS 1.3 between the programs of a cluster, keyed by the cluster key alone.
 *
 * There are no certificates: both ends hold the cluster key, and prove it by an external pre-shared key (RFC 8446, 4.2.11).
 *
 *     key of TLS   HKDF-SHA-256 of the cluster key under a salt of its own: what proves hellos (migrate/shake.h, wire.h) and
 *                  seals pages are other keys
 *     exchange     psk_dhe_ke alone, X25519 or P-256: a cluster key that leaks opens nothing that was recorded before
 *     suites       AES-128-GCM, ChaCha20-Poly1305. A pre-shared key has one hash, SHA-256; AES-256 goes with another
 *     never        older versions, tickets, early data, renegotiation, compression
 *
 * Who speaks it: connections whose listening end has an address that is neither loopback's nor a unix socket's. The dialer
 * judges by the address that it dials, the listener by its own end of what it accepted: the same one, unless somebody
 * forwards ports. Both sides decide alike, and nothing is negotiated: plaintext where TLS is due fails, and the reverse.
 *
 *     session: created ─shake…─► open ─read, write…─► broken, or destroyed
 *
 * A session never blocks, whatever the socket's mode, and raises no SIGPIPE. It says no goodbye (close_notify) when it ends:
 * what is whole, frames inside tell, and a socket on which nothing is awaited may be peeked at. After some GB each sender
 * takes a fresh key (RFC 8446, 5.5), which asks nothing of the reader.
 *
 * Owner: create/destroy; the context must outlive its sessions and bufferevents; a session's socket stays the caller's.
 * Thread: the context any, also at once; a session one at a time. Units: bytes. Errors: GW_ERR_IO (closed, broken),
 * GW_ERR_PROTO (no TLS of ours), GW_ERR_MEMORY. Source: RFC 8446, RFC 5869; OpenSSL 3.0; DESIGN part 10. */
#ifndef GW_BASE_TLS_H
#define GW_BASE_TLS_H

#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "base/err.h"

/* What all connections of a process share. Where one is taken, NULL means plaintext everywhere. */
struct gw_tls;
struct gw_tls_session; /* of one connection */

struct gw_tls_config {
    const void *key; /* the cluster key */
    size_t key_len;
    bool everywhere;      /* on loopback and unix sockets, too */
    uint64_t rekey_bytes; /* a session's sender takes a fresh key after so many; 0: 64 GiB */
};

gw_err_t gw_tls_create(const struct gw_tls_config *config, struct gw_tls **out,
                       struct gw_err_ctx *ctx) GW_MUST_USE;
void gw_tls_destroy(struct gw_tls *tls);

/* Is TLS due on a connection to that address? */
bool gw_tls_is_due(const struct gw_tls *tls, const struct sockaddr_storage *addr);
/* The same for a socket that was accepted. */
bool gw_tls_is_due_at(const struct gw_tls *tls, int fd);

/* Do these first bytes of a peer begin a TLS record? For the end that wanted none. */
bool gw_tls_is_record(const uint8_t *bytes, size_t len);
/* What that end says of it. */
#define GW_TLS_NOT_DUE                                                                                       \
    "the other side speaks TLS and this one plaintext: --insecure-plaintext must be given to both or to "    \
    "none"

/* fd: connected, or about to be. */
gw_err_t gw_tls_session_create(const struct gw_tls *tls, int fd, bool dials,
                               struct gw_tls_session **out) GW_MUST_USE;
void gw_tls_session_destroy(struct gw_tls_session *session);

/* Goes on with the handshake as far as it gets without waiting. *events: what to poll the socket for; 0: the session is open.
 * On error *why says it, in static text. */
gw_err_t gw_tls_shake(struct gw_tls_session *session, short *events, const char **why) GW_MUST_USE;

/* Reads what is there, at most what iov holds; *got 0: nothing yet. At the end of the stream GW_ERR_IO, after all bytes. */
gw_err_t gw_tls_readv(struct gw_tls_session *session, const struct iovec *iov, uint32_t len, size_t *got,
                      struct gw_err_ctx *ctx) GW_MUST_USE;

/* Writes what the socket takes at once: *wrote bytes, possibly none. The next call must begin with the bytes that follow
 * them, with at least as many as were left (they may lie elsewhere): some of them may be on their way. */
gw_err_t gw_tls_writev(struct gw_tls_session *session, const struct iovec *iov, uint32_t len, size_t *wrote,
                       struct gw_err_ctx *ctx) GW_MUST_USE;

/* Did the last read leave bytes in the session? Then poll need not see any, and reading goes on without it. */
bool gw_tls_has_more(const struct gw_tls_session *session);

struct event_base;
struct bufferevent;

/* A bufferevent with a session in it, which shakes hands first; what is written before is sent behind that. dials: fd -1,
 * bufferevent_socket_connect follows, and BEV_EVENT_CONNECTED comes when hands are shaken. options must hold
 * BEV_OPT_CLOSE_ON_FREE. NULL: out of memory, fd is the caller's. */
struct bufferevent *gw_tls_bufferevent(const struct gw_tls *tls, struct event_base *loop, int fd, bool dials,
                                       int options);

/* After BEV_EVENT_ERROR or BEV_EVENT_TIMEOUT: what is wrong with its TLS, in static text. NULL: nothing, or there is none. */
const char *gw_tls_bufferevent_why(struct bufferevent *bev);

#endif
