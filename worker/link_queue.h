/* Link queue: items from the link's I/O thread to the engine's thread, bounded, first in first out.
 *
 * Owner: caller memory; items still queued at fini are freed. Thread: one producer, one consumer, any waker.
 * Units: items; microseconds. Errors: push says false when full. Source: own design. */
#ifndef GW_WORKER_LINK_QUEUE_H
#define GW_WORKER_LINK_QUEUE_H

#include <pthread.h>

#include "worker/link.h"

#define LINK_QUEUE_MAX                                                                                       \
    16384 /* items: every request of a large cluster at once, and room for their cancels                     \
           */

struct link_queue {
    pthread_mutex_t lock;
    pthread_cond_t wake; /* on the monotonic clock */
    struct gw_link_item *items;
    size_t head, len;
    bool woken; /* gw_link_wake was called since the last receive */
};

gw_err_t link_queue_init(struct link_queue *q) GW_MUST_USE;
void link_queue_fini(struct link_queue *q);

/* Takes over item->msg; false (and the message stays the caller's) when full. */
bool link_queue_push(struct link_queue *q, const struct gw_link_item *item);

/* For LOST and UP, which must get through: empties the queue first if it is full (all of it belongs to a
 * session that is over). */
void link_queue_push_always(struct link_queue *q, const struct gw_link_item *item);

bool link_queue_pop(struct link_queue *q, int64_t wait_us, struct gw_link_item *out);
void link_queue_wake(struct link_queue *q);

#endif
