/* Traffic: how many bytes this worker exchanges with others, by what they are for and whether they cross zones, which clouds charge.
 *
 * The controller tells in which zones workers are (ZONES), by the addresses at which they are dialed. Whoever moves bytes asks once
 * for the counter of an address, and adds to it. Counted is at one end of each exchange, where the other is known by its address:
 *
 *     steps     sums and activations that this rank sent to others by sockets (not by shared memory)
 *     pages     KV pages that it fetched from ranks
 *     stores    KV pages that it put into buddies' memory, and got from there (of a Redis no zone is known: not counted)
 *     weights   packed weights that it got from peers
 *
 * An address of which nothing was told counts as near: so does everything under a controller of protocol 4.
 *
 * Owner: gw_traffic_destroy frees; counters live as long. Thread: any. Units: bytes on the wire's payload, without heads. Errors:
 * GW_ERR_MEMORY at creation; what there is no memory for stays near. Source: own design; DESIGN parts 7 and 9. */
#ifndef GW_WORKER_TRAFFIC_H
#define GW_WORKER_TRAFFIC_H

#include <stdatomic.h>

#include "migrate/wire.h"

#define GW_TRAFFIC_FAR_MAX                                                                                   \
    16384 /* addresses: two of each worker of the largest fleet, and of those before them */

typedef atomic_uint_least64_t gw_traffic_counter_t;

struct gw_traffic;

/* zone: of this worker; copied. */
gw_err_t gw_traffic_create(const char *zone, struct gw_traffic **out) GW_MUST_USE;
void gw_traffic_destroy(struct gw_traffic *traffic);

/* All below take NULL: nothing is learnt, near, zeros. */
void gw_traffic_learn(struct gw_traffic *traffic, const struct gw_msg_zones *zones);
bool gw_traffic_is_far(struct gw_traffic *traffic, const char *address);

/* Where bytes of that kind to or from that address are to be added. NULL for no traffic: nobody counts. */
gw_traffic_counter_t *gw_traffic_counter(struct gw_traffic *traffic, enum gw_traffic_kind kind,
                                         const char *address);

static inline void gw_traffic_add(gw_traffic_counter_t *counter, uint64_t bytes)
{
    if (counter) atomic_fetch_add_explicit(counter, bytes, memory_order_relaxed);
}

void gw_traffic_read(const struct gw_traffic *traffic, struct gw_traffic_bytes *out);

#endif
