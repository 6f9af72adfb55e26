/* Stores: the places outside this machine where this worker's KV pages are kept, behind one face: Redis servers, or, as
 * long as there are none, memory of workers on other instances (buddies).
 *
 *     Redis         one migrate/store.h store, which shares the names out among its servers
 *     peer memory   a store per buddy that the controller has named; this worker's own pages go to another instance
 *
 * Rendezvous, in peer memory: instances are ordered by hash(instance, block), the highest first, and the workers of an
 * instance likewise. A block goes to the first instance, or, from that instance itself, to the second. So whoever looks for
 * a page looks at the first and the second (gw_stores_get's turn), and all that know the same list find it. When an
 * instance comes or goes, one in n blocks changes places; those are found at the second turn, or computed again.
 *
 *     a server                                   what is done
 *     ----------------------------------------   ---------------------------------------------------------------
 *     late with an answer (GW_STORE_LATE)        not asked for GW_STORES_REST_MS, twice as long each time
 *     not to be reached, broken                  dialed again, GW_STORES_DIAL_MS and twice as long each time
 *     no longer on the controller's list         closed
 *
 * Zones: capacity is taken away by zones, so a buddy in another one is worth more, and the hash alone decides. Only bytes between
 * zones cost: when far_bytes_s is spent, a block goes to the better of those two instances that is near, for readers look at
 * both; if neither is, it is not put (GW_ERR_LIMIT), and will be computed should it be lost.
 *
 * Calls are store.h's; GW_ERR_NOT_FOUND besides: there is nobody to ask (at this turn). gw_stores_has waits, the others do
 * not.
 *
 * Owner: gw_stores_destroy frees, and ends what is under way. Thread: any; done: store.h. Units: milliseconds, bytes.
 * Errors: as said. Source: own design; Thaler and Ravishankar 1998; DESIGN parts 5 and 9. */
#ifndef GW_WORKER_STORES_H
#define GW_WORKER_STORES_H

#include "migrate/store.h"
#include "migrate/wire.h"
#include "worker/traffic.h"

#define GW_STORES_REDIS_MAX     16  /* servers on the command line: store.h shares names among so many */
#define GW_STORES_ADDRESS_BYTES 112 /* a unix socket's path and a bit */
#define GW_STORES_TURNS         2
#define GW_STORES_REST_MS       500 /* a pause of a server that swaps or forks */
#define GW_STORES_REST_MAX_MS   30000
#define GW_STORES_DIAL_MS       100
#define GW_STORES_DIAL_MAX_MS   10000
#define GW_STORES_DIAL_LIMIT_MS 500 /* to connect and shake hands: others wait meanwhile */

struct gw_stores;

struct gw_stores_config {
    const struct gw_page_seal_config *seal; /* copied */
    const char *instance;                   /* of this worker; copied */
    const char *const *redis;               /* [redis_len] as in store_redis.h; none: peer memory */
    uint32_t redis_len;
    const char *redis_password_file;            /* NULL: none is asked for */
    const char *redis_ca_file, *redis_tls_name; /* base/tls_verify.h */
    bool insecure_plaintext;                    /* Redis off loopback without TLS */
    struct gw_traffic *traffic;                 /* borrowed; NULL: nobody counts, all are near */
    double far_bytes_s;       /* that puts may take to buddies in other zones; 0: no limit */
    const struct gw_tls *tls; /* for buddies; borrowed; NULL: plaintext everywhere */
    const struct gw_log *log;
};

struct gw_stores_stats {
    uint32_t servers, servers_up;
    uint64_t pages_got, pages_missing, pages_forged;
    uint64_t put_bytes, get_bytes;
    uint64_t cpu_us; /* of the threads that seal, open and send */
};

gw_err_t gw_stores_create(const struct gw_stores_config *config, struct gw_stores **out,
                          struct gw_err_ctx *ctx) GW_MUST_USE;
void gw_stores_destroy(struct gw_stores *s);

/* The buddies there are, in any order, this worker's own memory among them or not. Not used with Redis. */
void gw_stores_set_peers(struct gw_stores *s, const struct gw_msg_stores *peers);

/* Could a page be had, or put, now? */
bool gw_stores_ready(struct gw_stores *s);

gw_err_t gw_stores_put(struct gw_stores *s, const struct gw_block_name *name,
                       const struct gw_store_page *pages, uint32_t pages_len,
                       const struct gw_store_then *then) GW_MUST_USE;

/* turn < GW_STORES_TURNS: what the first one did not have is asked of the second. */
gw_err_t gw_stores_get(struct gw_stores *s, uint32_t turn, const struct gw_block_name *name,
                       const struct gw_store_page *pages, uint32_t pages_len,
                       const struct gw_store_then *then) GW_MUST_USE;

/* Sets got[i] where page `id` of block names[i] is where a put from here would bring it (GW_STORES_OF_PUT), or where it is
 * asked for at that turn; leaves it alone elsewhere. Waits until deadline_us at most. */
#define GW_STORES_OF_PUT GW_STORES_TURNS
void gw_stores_has(struct gw_stores *s, uint32_t turn, const struct gw_block_name *names, uint32_t names_len,
                   struct gw_page_id id, int64_t deadline_us, bool *got);

/* How many of these pages, from the first on, go into one call (store.h's limits); >= 1. */
uint32_t gw_stores_part(const struct gw_store_page *pages, uint32_t pages_len);

void gw_stores_stats(struct gw_stores *s, struct gw_stores_stats *out);

#endif
