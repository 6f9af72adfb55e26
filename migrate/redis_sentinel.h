/* Sentinels: which Redis is the master now?
 *
 *     redis+sentinel://HOST:PORT,HOST:PORT/NAME[/DATABASE]       rediss+sentinel://…: TLS to sentinels and master
 *
 *     event                                        what is done
 *     ------------------------------------------   ------------------------------------------------------------
 *     a connection is to be made (redis_call.h)     the sentinel that answered last is asked for NAME's address
 *     it cannot be reached, is late, or knows no    the next one; when none is left, the call fails and the next
 *      master of that name                          call asks again
 *     what it says is no address                    the same as not knowing one
 *     the master has become a replica (READONLY),   the connection is closed, so the next call asks (redis_call.h)
 *      or is gone
 *
 * Sentinels are told nothing and given no password; who can answer in a sentinel's place can lead writes elsewhere, where
 * TLS asks for a certificate of tls_name, and what is written is sealed. A write that the old master acknowledged and did
 * not replicate is lost with it: min-replicas-to-write says how much is risked.
 *
 * Owner: open/close. Thread: one at a time. Units: microseconds. Errors: GW_ERR_INPUT for what is no such list; GW_ERR_IO
 * when nobody knows; GW_ERR_MEMORY. Source: redis.io, "Guidelines for Redis clients with support for Redis Sentinel". */
#ifndef GW_MIGRATE_REDIS_SENTINEL_H
#define GW_MIGRATE_REDIS_SENTINEL_H

#include "migrate/redis_call.h"

#define GW_SENTINELS_MAX         8
#define GW_SENTINEL_NAME_BYTES   64
#define GW_SENTINEL_MASTER_BYTES 272 /* a host of 253 bytes, brackets, a port */
#define GW_SENTINEL_TIMEOUT_US   500000

struct gw_sentinels;

/* list: "HOST:PORT,HOST:PORT"; name: of the master, as sentinels call it; like: TLS and plaintext as for the master, of
 * which url and password are not looked at. */
gw_err_t gw_sentinels_open(const char *list, const char *name, bool tls, const struct gw_redis_config *like,
                           struct gw_sentinels **out, struct gw_err_ctx *ctx) GW_MUST_USE;
void gw_sentinels_close(struct gw_sentinels *s);

/* "HOST:PORT" or "[v6]:PORT" of the master; whether it is one is for the caller to parse. */
gw_err_t gw_sentinels_ask(struct gw_sentinels *s, char master[GW_SENTINEL_MASTER_BYTES],
                          struct gw_err_ctx *ctx) GW_MUST_USE;

#endif
