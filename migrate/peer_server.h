/* Peer server: gives KV pages of this rank, by name, and packed weights of this worker to others that ask for them, and takes
 * its leader's pulls.
 *
 * It listens on a TCP port, and, where the peer may be on the same host, on an abstract unix socket of the same name. Who
 * connects proves by the handshake of shake.h that it holds the cluster key; then a thread answers its requests, one after
 * the other (page_codec.h draws them). Pages are lent to the socket (peer_io.h), so that the only copy of a byte is the one
 * that the destination makes into its own pool; small ones are copied to the socket.
 *
 *     connection: accepted ─shake─► idle ─REQUEST─► answering ─DONE─► idle ─PULL─► pulling ─PULLED─► idle
 *                    │ shake_us      │ idle_us        │ lease_us per batch              │ its budget_ms
 *                    └───────────────┴────────────────┴─────────────────────────────────┴──► closed, whatever was pinned is free
 *
 *     lost or wrong                                what is done
 *     ──────────────────────────────────────────   ────────────────────────────────────────────────────────────
 *     no handshake, or a wrong one                 closed after shake_us at the latest; no thread is spent on it
 *     no TLS where it is due, TLS where it is not  the same; counted
 *     more than GW_PEER_PENDING_MAX handshakes     the oldest is closed: its dialer tries again
 *     more than GW_PEER_CONNS_MAX peers            the new one is closed: its dialer tries again, or another source
 *     half a frame, a byte a second                closed when message_us have passed since its first byte
 *     a frame that is wrong in itself              closed, counted
 *     of an older term, of a generation that is    DONE(stale), PULLED(stale)
 *     over
 *     of another model, profile, KV type           DONE(foreign), PULLED(foreign)
 *     a PULL where nobody takes it                 PULLED(refused)
 *     a CELL_ASK where no weights are given, of    CELL_END(refused, absent, busy)
 *     a part that is not here, of one peer more
 *     than GW_CELL_PEERS_MAX
 *     a handshake for a store where there is none  closed before the proof
 *     a block that was evicted meanwhile           ABSENT: each request looks it up and pins it anew
 *     a peer that takes no bytes                   closed when a batch has not gone within lease_us
 *     a peer that vanishes                         the same, or the socket breaks; its own retries are new requests
 *     a REQUEST that comes twice                   answered twice: answering changes nothing
 *     a PULL that comes twice                      done twice: pullers send none again (peer_pull.h)
 *
 * No sum is made here: a page's checksum is the one that was taken when its block was sealed. A pool may use the slot of a
 * pinned block for another one while pages are on their way. Sums are therefore read while the name is still at the slot
 * (asked again behind them, else the block is absent); bytes that are not that block's any more do not fit them then, and
 * the destination takes the page for absent. A pin keeps the memory mapped while the socket reads it: pins last until the
 * peer must have read what they are for. It has two requests under way at most, so until the second one after theirs, until
 * lease_us have passed without one, or until the connection ends.
 *
 * Pages go through TLS where that is due (base/tls.h): encrypted from where they lie, and not lent.
 *
 * Owner: gw_peer_server_destroy waits for all threads, so for a pull under way, too (whoever does it ends it first, or lets
 * its budget pass); the source's memory must outlive it. Thread: create and destroy from
 * one; the others from any. Units: microseconds, bytes. Errors: GW_ERR_IO, GW_ERR_INPUT, GW_ERR_MEMORY; what goes wrong with
 * a peer is counted and logged, never returned. Source: own design; DESIGN parts 5, 6 and 10. */
#ifndef GW_MIGRATE_PEER_SERVER_H
#define GW_MIGRATE_PEER_SERVER_H

#include "base/log.h"
#include "base/socket.h"
#include "migrate/page_codec.h"
#include "migrate/peer_pull.h"

#define GW_PEER_PENDING_MAX 64 /* handshakes at once */
#define GW_PEER_CONNS_MAX   64 /* peers at once: two streams of each of 32 ranks */
#define GW_PEER_SHAKE_S     5  /* two round trips and a peer that is short of cores */
#define GW_PEER_MESSAGE_S   5  /* for a REQUEST or PULL, 86 KiB at most, from its first byte on */
#define GW_PEER_LEASE_S     10 /* for a batch: 1-2 MiB, so 200 KB/s is the slowest peer that is served */
#define GW_PEER_IDLE_S                                                                                       \
    60 /* between two requests: pre-copy asks for what was sealed since, every second or so */
#define GW_CELL_PEERS_MAX                                                                                    \
    4 /* that get weights at once: more share what the others could have, who have other sources, or a disk */
#define GW_CELL_NICE         10 /* of the threads that give weights: what serves comes first */
#define GW_PEER_THREAD_STACK (256u << 10)
#define GW_PEER_LEND_MIN                                                                                     \
    (16u << 10) /* smaller pages are copied: a reference to each 4 KiB of them costs as much */

/* How the server reaches the pool. Called from several threads at once. */
struct gw_page_source {
    void *arg;
    /* *slot: where the block of that name lies now. Until unpin its memory stays mapped, no more: the pool may give the slot
     * to another block meanwhile, and pages may be overwritten while they are sent; but the name is gone from the slot before
     * the first byte or sum of another block comes. False: it is not here. */
    bool (*pin)(void *arg, const struct gw_block_name *name, uint32_t *slot);
    void (*unpin)(void *arg, uint32_t slot);
    /* The bytes of a page in a pinned slot, and the gw_checksum that was taken when the block there was sealed, or came with
     * it (gw_page_sink). NULL: this rank holds no such page. */
    const uint8_t *(*page)(void *arg, uint32_t slot, struct gw_page_id id, uint32_t *bytes,
                           uint64_t *checksum);
};

/* Who fetches for the leader of this rank's pipeline. */
struct gw_pull_sink {
    void *arg;
    /* Fetches the pull's blocks into its slots, and says in from[names_len], GW_PULL_LOST in all of it before, what became of
     * each (enum gw_pull_from). The pull is within its limits and of no term or generation that the server knows to be over;
     * whether the slots are the pipeline's to give is for the callee to see. Called on the connection's thread; may block for
     * budget_ms, and from several connections at once. */
    void (*pull)(void *arg, const struct gw_pull *pull, uint8_t *from);
};

/* Which weights this worker gives away. Called from several threads at once; what has no pin function has none to give. */
struct gw_cell_source {
    void *arg;
    uint64_t packing; /* how parts are packed here (cell_codec.h) */
    /* The bytes of a part, which stay as they are until unpin; NULL: it is not here, or of another length. */
    const uint8_t *(*pin)(void *arg, uint32_t part, uint64_t bytes);
    void (*unpin)(void *arg, uint32_t part);
    /* gw_checksum of a pinned part's piece that begins at `at`; once it is known nobody reads the piece for it again. */
    uint64_t (*sum)(void *arg, uint32_t part, uint64_t at);
    /* Bytes per second that may go now, to all peers together; 0: no limit. */
    double (*rate)(void *arg);
};

struct gw_peer_server_config {
    const char *host; /* numeric address to listen on */
    uint16_t port;    /* 0: any free one */
    bool unix_socket; /* listen on that too */
    const void *key;  /* the cluster key; copied */
    size_t key_len;
    const struct gw_tls *tls; /* borrowed; NULL: plaintext everywhere */
    struct gw_page_model model;
    struct gw_page_source source;
    struct gw_pull_sink pull; /* no function: pulls are refused */
    struct gw_cell_source cells;
    /* Takes a socket over whose peer has proven itself, and wants a store of pages (store_peer_server.h); NULL: there is none,
     * it is closed. On the listening thread. */
    void (*store)(void *store_arg, struct gw_socket socket);
    void *store_arg;
    double rate_bytes_s; /* of all peers together; 0: no limit */
    /* Pages of a batch that are as large on average are lent. 0: GW_PEER_LEND_MIN; by TCP within a machine none, for lending moves
     * the one copy to the end that sums up, too. */
    uint32_t lend_min_bytes;
    const struct gw_log *log;
    int64_t shake_us, message_us, lease_us, idle_us; /* 0: as above */
};

struct gw_peer_server_stats {
    uint64_t requests, pages, bytes, absent; /* pages */
    uint64_t pulls;
    uint64_t cell_asks, cell_bytes;
    uint64_t stale, foreign;     /* requests, pulls, asks */
    uint64_t bad, slow, refused; /* connections: protocol broken, deadline passed, over the maximum */
    uint64_t strangers;          /* the same: no cluster key, or one side alone spoke TLS */
};

struct gw_peer_server;

gw_err_t gw_peer_server_create(const struct gw_peer_server_config *config, struct gw_peer_server **out,
                               struct gw_err_ctx *ctx) GW_MUST_USE;
void gw_peer_server_destroy(struct gw_peer_server *server);

/* "address:port" or "[v6]:port": what it listens on, and by which peers with try_unix find its unix socket: host must be the
 * address that they are told (of 0.0.0.0 no peer can reach it). */
const char *gw_peer_server_address(const struct gw_peer_server *server);

/* Serves a socket whose peer has proven itself already, to another listener. It is the server's from now on, also on error
 * (GW_ERR_LIMIT: too many peers). */
gw_err_t gw_peer_server_adopt(struct gw_peer_server *server, struct gw_socket socket) GW_MUST_USE;

/* Requests of a lower term, and those of this term with a generation that was cancelled, are stale from now on; a higher
 * term counts its generations anew. As gw_mesh_set_term and gw_mesh_cancel. */
void gw_peer_server_set_term(struct gw_peer_server *server, uint64_t term);
void gw_peer_server_cancel(struct gw_peer_server *server, uint64_t generation);

struct gw_peer_server_stats gw_peer_server_stats(struct gw_peer_server *server);

#endif
