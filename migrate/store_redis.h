/* Redis as a store of pages: one hash per block, a field per page.
 *
 *     key     "godwit:page:1:" ‖ block name in hex
 *     field   "<layer group>.<KV head>"
 *     value   the sealed page (page_seal.h)
 *
 *     put     MULTI · HSET key field value … · EXPIRE key ttl · EXEC     (a field without an expiry would never go)
 *     get     HMGET key field …
 *     has     HEXISTS key field · EXPIRE key ttl
 *
 * hiredis formats commands and reads replies; sockets, timers and windows are ours (its contexts would block, and know no
 * deadlines). Plain events and read(2) of 64 KiB rather than a bufferevent, which in libevent 2.1 reads 4 KiB at a time.
 *
 *     the server                                  what is done
 *     -----------------------------------------   ---------------------------------------------------------------
 *     OOM, MISCONF                                the put is refused, others for a second unsent; gets go on
 *     WRONGTYPE (foreign), NOPERM, other errors   that call is refused
 *     a page that is not as it was sealed         not got, counted as forged
 *     LOADING, READONLY, MASTERDOWN, MOVED, …     left, tried again: 25 ms to 3 s, doubling
 *     wrong password, SELECT refused, NOAUTH      the same
 *     gone, silent for stall_us, garbage          the same
 *
 * Off loopback and unix sockets it wants TLS, or insecure_plaintext: sealed pages are safe without, the password is not. Not
 * here: names that need a resolver, Sentinel, Cluster mode.
 *
 * Owner: store.h. Thread: store.h. Units: seconds where named so. Errors: GW_ERR_INPUT for a server that is no address or needs TLS, and what
 * gw_secret_read says of the password. Source: RESP2; DESIGN part 9. */
#ifndef GW_MIGRATE_STORE_REDIS_H
#define GW_MIGRATE_STORE_REDIS_H

#include "migrate/store.h"

#define GW_STORE_REDIS_TTL_S 3600 /* a conversation's pause; each find renews it */

struct gw_store_redis_config {
    struct gw_store_config common;
    const char *const *
        servers; /* [servers_len] "address:port", numeric, "rediss://address:port" or "/path" of a unix socket */
    uint32_t servers_len;
    const char *user;          /* NULL: the default one */
    const char *password_file; /* NULL: none is asked for */
    uint32_t database;
    uint32_t ttl_s;                 /* 0: GW_STORE_REDIS_TTL_S */
    bool insecure_plaintext;        /* "address:port" off loopback is fine */
    const char *ca_file, *tls_name; /* of rediss:// servers: base/tls_verify.h */
};

/* Connects in the background: that no server answers is no error here. */
gw_err_t gw_store_redis_create(const struct gw_store_redis_config *config, struct gw_store **out,
                               struct gw_err_ctx *ctx) GW_MUST_USE;

#endif
