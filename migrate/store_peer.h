/* Peers as stores of pages: the memory of workers on other instances (buddies), over sockets that others authenticated.
 *
 * The default store: nothing to install, gone with the buddy. Pages go to store_peer_server.h at the other end. Sockets are
 * given, not dialed, so that there is one handshake in the house; a buddy without a socket takes nothing (LOST, at once).
 *
 * Owner: a socket that was attached is the store's. Thread: store.h; attach from any. Units: none of its own. Errors: GW_ERR_INPUT, GW_ERR_MEMORY.
 * Source: own design; bytes: store_peer_wire.h. */
#ifndef GW_MIGRATE_STORE_PEER_H
#define GW_MIGRATE_STORE_PEER_H

#include "base/socket.h"
#include "migrate/store.h"

struct gw_store_peer_config {
    struct gw_store_config common;
    const char *const *peers; /* [peers_len] names, stable and distinct: block names are shared out by them */
    uint32_t peers_len;
    /* Peer's socket broke, or the peer did (not: another socket was attached); on the store's thread: do not block. May be
     * NULL. */
    void (*left)(void *arg, uint32_t peer);
    void *arg;
};

gw_err_t gw_store_peer_create(const struct gw_store_peer_config *config, struct gw_store **out,
                              struct gw_err_ctx *ctx) GW_MUST_USE;

/* Gives the peer a connected socket whose other end is gw_store_peer_server_serve's; one that it had is closed. */
void gw_store_peer_attach(struct gw_store *store, uint32_t peer, struct gw_socket socket);

#endif
