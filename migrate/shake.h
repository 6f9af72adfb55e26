/* Shake: the handshake by which two workers that hold the cluster key prove it to each other over a fresh socket.
 *
 * Where TLS is due (base/tls.h), that comes first, and all of this is said within it.
 *
 *     dialer                                              listener
 *     ── HELLO(purpose, term, pipeline, generation, from, to, nonce) ──►
 *     ◄──────────────────────────────────── CHALLENGE(nonce') ──
 *     ── PROOF(HMAC(key, "<purpose> dial" ‖ HELLO ‖ nonce')) ──►
 *     ◄──── PROOF(HMAC(key, "<purpose> listen" ‖ HELLO ‖ nonce')) ──   once the listener admits it
 *
 * The purpose says what the socket is for behind the proofs: a collective (worker/mesh.h), pages (migrate/peer_server.h) or a
 * store of pages (migrate/store_peer_server.h); a proof for one is none for the other. One port takes the latter two. Byte tables: shake.c. A shake steps whenever its socket
 * is ready for gw_shake_events; it never blocks, allocates nothing but a TLS session, when the peer's first bytes are there,
 * and takes not one byte behind the handshake.
 *
 * Owner: caller memory; the socket is the shake's until it is PROVEN (then the caller takes it) or gw_shake_close. Thread: one
 * at a time. Units: microseconds. Errors: GW_SHAKE_FAILED with why, the socket is to be closed. Source: own design; DESIGN part
 * 10. */
#ifndef GW_MIGRATE_SHAKE_H
#define GW_MIGRATE_SHAKE_H

#include <sys/socket.h>

#include "base/hash.h"
#include "base/socket.h"
#include "migrate/wire.h"

#define GW_SHAKE_HELLO_BYTES 48
#define GW_SHAKE_NONCE_BYTES 16

enum gw_shake_purpose { GW_SHAKE_MESH, GW_SHAKE_PAGES, GW_SHAKE_STORE };

/* Who asks whom: the dialer's term, pipeline and generation, its rank there, and the rank that it believes to reach: for a
 * mesh one of the same pipeline, to < from; for pages the source's rank, wherever that serves. */
struct gw_shake_pair {
    uint64_t term, generation;
    uint32_t pipeline, from, to;
};

/* What all workers of a cluster hold. */
struct gw_shake_key {
    const void *bytes;
    size_t len;
    const struct gw_tls *tls; /* made of the same; NULL: plaintext everywhere */
};

enum gw_shake_stage {
    GW_SHAKE_CONNECTING,
    GW_SHAKE_TLS,
    GW_SHAKE_WANTS_HELLO,
    GW_SHAKE_WANTS_CHALLENGE,
    GW_SHAKE_WANTS_PROOF
};
enum gw_shake_result { GW_SHAKE_MORE, GW_SHAKE_PROVEN, GW_SHAKE_FAILED };

struct gw_shake {
    struct gw_socket socket; /* fd -1: none */
    bool dials;
    bool tls_due;
    short tls_events; /* what its handshake waits for */
    enum gw_shake_purpose purpose;
    enum gw_shake_stage stage;
    struct gw_shake_pair pair;                                 /* the listener's: what HELLO says */
    uint8_t said[GW_SHAKE_HELLO_BYTES + GW_SHAKE_NONCE_BYTES]; /* HELLO ‖ nonce': what proofs cover */
    uint8_t proof[GW_SHA256_BYTES];                            /* the peer's */
    size_t got;                                                /* bytes of what this stage wants */
    int64_t deadline_us; /* 0: none, a dialer that waits to be admitted */
    const char *why;     /* after GW_SHAKE_FAILED; static text */
    bool strange;        /* … because one side alone spoke TLS, or the peer does not hold the key */
    int why_errno;       /* 0: none */
};

/* The listener's end of fd, whose peer speaks TLS where that is due; a HELLO of another purpose fails. A listener for pages takes one for a store, too: s->purpose is
 * what HELLO said once it is PROVEN. */
void gw_shake_accept(struct gw_shake *s, int fd, enum gw_shake_purpose purpose,
                     const struct gw_shake_key *key, int64_t deadline_us);

/* The dialer's end: opens a TCP or unix socket and begins to connect. False if that cannot work: why says so, fd is -1. */
bool gw_shake_dial(struct gw_shake *s, const struct sockaddr_storage *addr, socklen_t addr_len,
                   enum gw_shake_purpose purpose, const struct gw_shake_pair *pair,
                   const struct gw_shake_key *key, int64_t deadline_us);

/* What to poll fd for. */
short gw_shake_events(const struct gw_shake *s);

/* Goes on as far as it gets without waiting. GW_SHAKE_PROVEN: the peer holds the key, and a dialer is admitted. */
enum gw_shake_result gw_shake_step(struct gw_shake *s, const struct gw_shake_key *key);

/* The listener's last word to a proven dialer, when its own gather has begun: its proof. False: the connection broke. */
bool gw_shake_admit(struct gw_shake *s, const struct gw_shake_key *key);

/* Closes what it holds. */
void gw_shake_close(struct gw_shake *s);

#endif
