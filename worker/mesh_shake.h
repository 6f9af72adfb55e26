/* Shake: one end of the handshake by which a socket becomes the one of a pair of ranks (mesh.h draws it).
 *
 * A shake steps whenever its socket is ready for shake_events; it never blocks, allocates nothing, and reads not one byte
 * behind the handshake: those are the collective's.
 *
 * Owner: caller memory; fd is the shake's until it is PROVEN (then the caller takes it) or shake_close. Thread: one at a
 * time. Units: microseconds. Errors: SHAKE_FAILED with why, the socket is to be closed. Source: own design. */
#ifndef GW_WORKER_MESH_SHAKE_H
#define GW_WORKER_MESH_SHAKE_H

#include <sys/socket.h>

#include "base/hash.h"
#include "migrate/wire.h"

#define SHAKE_HELLO_BYTES 48
#define SHAKE_NONCE_BYTES 16

/* Which socket of which pipeline it is: rank `from` dialed rank `to` < from. */
struct shake_pair {
    uint64_t term, generation;
    uint32_t pipeline, from, to;
};

struct shake_key {
    const void *bytes;
    size_t len;
};

enum shake_stage { SHAKE_CONNECTING, SHAKE_WANTS_HELLO, SHAKE_WANTS_CHALLENGE, SHAKE_WANTS_PROOF };
enum shake_result { SHAKE_MORE, SHAKE_PROVEN, SHAKE_FAILED };

struct shake {
    int fd; /* -1: none */
    bool dials;
    enum shake_stage stage;
    struct shake_pair pair;                              /* the listener's: what HELLO says */
    uint8_t said[SHAKE_HELLO_BYTES + SHAKE_NONCE_BYTES]; /* HELLO ‖ nonce': what proofs cover */
    uint8_t proof[GW_SHA256_BYTES];                      /* the peer's */
    size_t got;                                          /* bytes of what this stage wants */
    int64_t deadline_us;                                 /* 0: none, a dialer that waits to be admitted */
    const char *why;                                     /* after SHAKE_FAILED; static text */
    int why_errno;                                       /* 0: none */
};

/* The listener's end of fd. */
void shake_accept(struct shake *s, int fd, int64_t deadline_us);

/* The dialer's end: opens a socket and begins to connect. False if that cannot work: why says so, fd is -1. */
bool shake_dial(struct shake *s, const struct sockaddr_storage *addr, socklen_t addr_len,
                const struct shake_pair *pair, int64_t deadline_us);

/* What to poll fd for. */
short shake_events(const struct shake *s);

/* Goes on as far as it gets without waiting. SHAKE_PROVEN: the peer holds the key, and a dialer is admitted. */
enum shake_result shake_step(struct shake *s, const struct shake_key *key);

/* The listener's last word to a proven dialer, when its own gather has begun: its proof. False: the connection broke. */
bool shake_admit(struct shake *s, const struct shake_key *key);

/* Closes what it holds. */
void shake_close(struct shake *s);

#endif
