/* Store peer server: keeps others' sealed pages in this worker's memory, for as long as there is room.
 *
 * One thread serves sockets that somebody else accepted and authenticated. Blocks are kept in store_memory.h's bounds; the
 * least recently used go first; a put that is larger than all of it is refused. Beyond max_bytes each connection costs one
 * frame that is coming in (17 MiB) and what is being sent (twice GW_STORE_PEER_OUT_MAX and one frame) at most.
 *
 *     the other end                                what is done
 *     ------------------------------------------   ------------------------------------------
 *     more than GW_STORE_PEER_CONNS_MAX of them    the newcomer is closed
 *     breaks the protocol                          closed; whole puts stay
 *     asks, and does not read the answers          no more of it is read until it does
 *     asks ahead for more than twice that          closed
 *     is amid a frame, or owed bytes, and moves    closed after GW_STORE_PEER_SLOW_S
 *     less than GW_STORE_PEER_MIN_BYTES_S
 *     closes, dies                                 its pages stay: that is what they are for
 *
 * Owner: sockets that were given are the server's. Thread: any for serve and stats; create and destroy from one.
 * Units: bytes. Errors: GW_ERR_MEMORY, GW_ERR_IO (thread). Source: own design; bytes: store_peer_wire.h. */
#ifndef GW_MIGRATE_STORE_PEER_SERVER_H
#define GW_MIGRATE_STORE_PEER_SERVER_H

#include <stdint.h>

#include "base/log.h"
#include "base/socket.h"

#define GW_STORE_PEER_CONNS_MAX   32 /* ranks that have this buddy */
#define GW_STORE_PEER_OUT_MAX     ((size_t)32 << 20)
#define GW_STORE_PEER_SLOW_S      5
#define GW_STORE_PEER_MIN_BYTES_S (64u << 10) /* a link that does less is of no use to anybody */

struct gw_store_peer_server;

struct gw_store_peer_server_config {
    size_t max_bytes; /* of pages, with store_memory.h's costs */
    const struct gw_log *log;
    int64_t tick_us; /* the second of the …_S above; 0: one (tests make it shorter) */
};

struct gw_store_peer_server_stats {
    uint64_t connections;         /* now */
    uint64_t blocks, bytes;       /* now */
    uint64_t puts, refused;       /* frames */
    uint64_t gets, has;           /* frames */
    uint64_t pages_sent, evicted; /* evicted: blocks */
    uint64_t closed_slow, closed_wrong;
};

gw_err_t gw_store_peer_server_create(const struct gw_store_peer_server_config *config,
                                     struct gw_store_peer_server **out, struct gw_err_ctx *ctx) GW_MUST_USE;
void gw_store_peer_server_destroy(struct gw_store_peer_server *server);

/* Serves a connected socket from now on. */
void gw_store_peer_server_serve(struct gw_store_peer_server *server, struct gw_socket socket);

void gw_store_peer_server_stats(struct gw_store_peer_server *server, struct gw_store_peer_server_stats *out);

#endif
