/* Stores, inside: what stores.c (places, puts, gets) and stores_has.c (questions about many names) share.
 *
 * Owner, thread, units, errors: stores.h. Source: own design. */
#ifndef GW_WORKER_STORES_INTERNAL_H
#define GW_WORKER_STORES_INTERNAL_H

#include <pthread.h>

#include "migrate/peer_line.h"
#include "migrate/rate.h"
#include "worker/stores.h"

/* One store: of all Redis servers, or of one buddy. */
struct place {
    struct gw_stores *stores;
    struct gw_store *store;
    char address[GW_WIRE_NAME_MAX + 1], instance[GW_WIRE_NAME_MAX + 1]; /* of a buddy */
    uint64_t seed, instance_seed;
    bool wanted;    /* while the list is changed */
    bool connected; /* buddy */
    int64_t dial_us, dial_wait_us;
    int64_t rest_until_us, rest_us;
};

struct gw_stores {
    struct gw_page_seal_config seal;
    char instance[GW_WIRE_NAME_MAX + 1];
    bool redis;
    const struct gw_log *log;
    struct gw_traffic *traffic;
    struct gw_shake_key key; /* our copy: the seal's */
    char *profile, *kv_type;
    uint8_t *fingerprint;
    pthread_t dialer;
    bool dialer_started;
    struct peer_line line; /* what the dialer is at; under the lock */

    pthread_mutex_t lock; /* guards the rest, and of each place all but the store */
    pthread_cond_t changed;
    struct gw_rate far;                       /* of puts to other zones */
    struct place *places[GW_WIRE_STORES_MAX]; /* [places_len] */
    uint32_t places_len;
    struct gw_stores_stats past; /* of places that were closed */
    bool ending;
};

/* A call under way: its place learns from its outcome. */
struct call {
    struct place *place;
    struct gw_store_then then;
    gw_traffic_counter_t *moved;
    bool put;
    uint64_t bytes; /* of all its pages */
    uint32_t pages_len;
};

/* Where a put from here goes (GW_STORES_OF_PUT), or where readers look at that turn; NULL: nowhere. The lock is held. */
struct place *stores_place_for(const struct gw_stores *s, const struct gw_block_name *name, uint32_t turn);
bool stores_is_up(const struct gw_stores *s, const struct place *p, int64_t now_us);
/* *ours is what the place's store is told; NULL: no memory. */
struct call *stores_call_new(struct place *p, const struct gw_store_then *then, struct gw_store_then *ours);

#endif
