/* Peer line: a connection to another worker's page port, which one thread uses and any other may cut.
 *
 * It is dialed through the abstract unix socket of the address first, where that may be on this host, then over TCP, with TLS
 * where that is due, and proven by the handshake of shake.h. The socket is opened and closed under the owner's lock: who cuts it shuts down no
 * number that is another socket's by now.
 *
 * Owner: caller memory; peer_line_close before it goes. Thread: one for open and close. Units: absolute microseconds.
 * Errors: GW_ERR_IO (nobody there, no proof, cut), GW_ERR_LIMIT (late), GW_ERR_INPUT (an address that is none); then it is
 * closed. Source: own design. */
#ifndef GW_MIGRATE_PEER_LINE_H
#define GW_MIGRATE_PEER_LINE_H

#include <pthread.h>

#include "migrate/shake.h"

struct peer_line {
    struct gw_socket socket; /* none: closed */
    pthread_mutex_t *lock;
    const bool *cut; /* guarded by it: never again open */
};

/* Whom to dial, and as whom. */
struct peer_line_to {
    const char *address; /* gw_peer_server_address */
    bool try_unix;
    const struct gw_shake_key *key;
    struct gw_shake_pair pair;
    bool for_store; /* else for pages */
};

gw_err_t peer_line_open(struct peer_line *line, const struct peer_line_to *to, int64_t deadline_us,
                        struct gw_err_ctx *ctx) GW_MUST_USE;
void peer_line_close(struct peer_line *line);

/* Under the lock, with *cut set: whoever waits on the socket goes on at once. */
void peer_line_shut(struct peer_line *line);

#endif
