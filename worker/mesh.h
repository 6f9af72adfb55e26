/* Mesh: how the ranks of a pipeline find each other: one authenticated stream socket per pair.
 *
 * Each worker listens on its data port from its start on. The rank with the higher number dials:
 *
 *     dialer (rank from)                                  listener (rank to < from)
 *     ── HELLO(term, pipeline, generation, from, to, nonce) ──►
 *     ◄──────────────────────────────────── CHALLENGE(nonce') ──
 *     ── PROOF(HMAC(key, "godwit mesh dial" ‖ HELLO ‖ nonce')) ──►
 *     ◄──── PROOF(HMAC(key, "godwit mesh listen" ‖ HELLO ‖ nonce')) ──   once the listener gathers too
 *
 * Byte tables: migrate/shake.c. Behind the proofs the socket is a collective's (kernels/coll.h), to the byte. A gather is
 * also a meeting: it is complete when every rank has called it, so ranks that take minutes longer to load their weights
 * are waited for here (deadline_us), and no rank goes on alone.
 *
 *     lost or wrong                                 what is done
 *     ───────────────────────────────────────────   ─────────────────────────────────────────────────────────────
 *     nobody listens, or the connection breaks      the dialer tries again (20 ms .. 500 ms apart)
 *     … and none has got as far as CHALLENGE        the gather ends after reach_us: the two do not reach each other
 *     no HELLO, half a message, a wrong proof       closed after shake_us at the latest; nothing is kept, nobody is told
 *     more than GW_MESH_PENDING_MAX handshakes      the oldest is closed: it had its time, its dialer tries again
 *     no gather for a proven dialer (not yet; or    it waits for its listener's proof, wait_us at most; closed then, its
 *     of a term or generation still to come)        dialer tries again
 *     more than GW_MESH_PENDING_MAX such dialers    the oldest that no gather waits for is closed
 *     an older term, a cancelled generation         closed without our proof: its dialer is cancelled too, or gives up
 *     two connections of the same pair              the newer one counts (the dialer tried again)
 *     the listener's machine vanishes meanwhile     TCP's keep-alive tells the dialer after 15 s
 *     a peer leaves after the proofs                seen when all others are there: dialed again, or waited for again
 *
 * Who speaks here: ranks, holding the cluster key; over TLS where that is due (base/tls.h). A dialer that speaks it where the
 * listener does not, or the reverse, is a wrong one, told and counted.
 *
 * Owner: gw_mesh_destroy closes all that nobody gathered; gathered sockets are the caller's. Thread: create and destroy
 * from one thread (no gather is under way then); the others from any; an own thread shakes hands. Units: microseconds.
 * Errors: GW_ERR_IO with the rank and address that did not answer, GW_ERR_INPUT for an address that is none, GW_ERR_LIMIT
 * for too many gathers at once. Source: own design; DESIGN parts 6 and 10. */
#ifndef GW_WORKER_MESH_H
#define GW_WORKER_MESH_H

#include "base/log.h"
#include "base/socket.h"
#include "migrate/wire.h"

#define GW_MESH_PENDING_MAX 256 /* 63 dialers of each of four pipelines */
#define GW_MESH_WAIT_S      60  /* a dialer that still wants to be admitted dials again */
#define GW_MESH_SHAKE_S     5   /* two round trips and a peer that is short of cores */
/* Workers listen before they are planned with, and a dead one is found earlier by its missing heartbeats. */
#define GW_MESH_REACH_S 20

struct gw_mesh;

struct gw_mesh_config {
    const char *host; /* numeric address to listen on */
    uint16_t port;    /* 0: any free one */
    const void *key;  /* the cluster key; copied */
    size_t key_len;
    const struct gw_tls *tls; /* borrowed; NULL: plaintext everywhere */
    const struct gw_log *log;
    int64_t shake_us, wait_us, reach_us; /* 0: GW_MESH_SHAKE_S, GW_MESH_WAIT_S, GW_MESH_REACH_S */
};

gw_err_t gw_mesh_create(const struct gw_mesh_config *config, struct gw_mesh **out,
                        struct gw_err_ctx *ctx) GW_MUST_USE;
void gw_mesh_destroy(struct gw_mesh *mesh);

/* "address:port" or "[v6]:port": what it listens on (of 0.0.0.0 no peer can reach it: see gw_probe_local_address). */
const char *gw_mesh_address(const struct gw_mesh *mesh);

/* Meets all other ranks of the pipeline: dials those before it, waits for those behind it, until all gather.
 * sockets[ranks_len] are set (own: none), non-blocking, TCP_NODELAY, close-on-exec. On error none is open. Blocks until
 * then, deadline_us from now at most, or until gw_mesh_cancel says so for that generation. *unreached: the rank that this
 * one cannot reach, if that is what ended it; else GW_RANK_NONE. */
gw_err_t gw_mesh_gather(struct gw_mesh *mesh, uint64_t term, uint32_t pipeline, uint64_t generation,
                        const struct gw_msg_assign *assign, int64_t deadline_us, struct gw_socket *sockets,
                        uint32_t *unreached, struct gw_err_ctx *ctx) GW_MUST_USE;

/* How many connections were closed because one side alone spoke TLS, or the peer did not hold the cluster key. */
uint64_t gw_mesh_strangers(struct gw_mesh *mesh);

/* A gather for this generation or an older one of the current term, under way or to come, fails at once. */
void gw_mesh_cancel(struct gw_mesh *mesh, uint64_t generation);

/* The controller's term, when a session begins: what belongs to a lower one is over (gathers fail, connections are
 * closed), and generations, which each term counts from 1 anew, are no longer cancelled. A gather of a higher term does the
 * same, but comes too late for a cancel that overtakes it. */
void gw_mesh_set_term(struct gw_mesh *mesh, uint64_t term);

#endif
