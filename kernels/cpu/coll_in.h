/* What arrives from one rank: a byte stream, cut into frames that are delivered in order or queued.
 *
 * Bytes go where gw_coll_in_room says: into the payload that is being read, then into a small stage for what follows,
 * so that large payloads are not copied and small frames take one read. gw_coll_in_got then cuts the stage into frames.
 * A DATA frame goes straight to memory that gw_coll_in_want has named for it, if it has; all others wait in the queue
 * of their kind, together at most GW_COLL_QUEUE_MAX bytes.
 *
 * Owner: gw_coll_in_fini frees; the memory of a want is the caller's until it is no longer wanted. Thread: one. Units:
 * bytes. Errors: GW_ERR_PROTO (fence, step, length), GW_ERR_LIMIT (queue), GW_ERR_MEMORY; no use after one.
 * Source: own design. */
#ifndef GW_KERNELS_CPU_COLL_IN_H
#define GW_KERNELS_CPU_COLL_IN_H

#include <sys/uio.h>

#include "kernels/cpu/coll_frame.h"

/* Copying so much costs a tenth of what its way through a socket does; larger payloads are read in place. */
#define GW_COLL_STAGE_BYTES ((size_t)32 << 10)

struct gw_coll_frame; /* a whole frame in a queue */

struct gw_coll_in {
    const struct gw_coll_fence *fence;
    uint8_t *stage; /* [GW_COLL_STAGE_BYTES] */
    size_t staged;  /* bytes in it: less than a head, between two calls */
    bool reading;   /* the head is known, bytes of its payload are missing */
    struct gw_coll_head head;
    struct gw_coll_frame *frame; /* that is being read; NULL: into the want */
    uint8_t *payload;
    size_t got;
    struct gw_coll_queue {
        struct gw_coll_frame *first, *last;
    } queues[GW_COLL_KINDS];
    size_t queued; /* bytes, with some for each frame itself */
    struct gw_coll_want {
        void *to; /* NULL: nothing is wanted */
        size_t bytes;
        uint64_t step;
    } want;
};

/* fence must outlive it. */
gw_err_t gw_coll_in_init(struct gw_coll_in *in, const struct gw_coll_fence *fence) GW_MUST_USE;
void gw_coll_in_fini(struct gw_coll_in *in);

/* Where the next bytes go: iov[0..return). */
int gw_coll_in_room(struct gw_coll_in *in, struct iovec iov[2]);

/* bytes > 0 have been put there. */
gw_err_t gw_coll_in_got(struct gw_coll_in *in, size_t bytes, struct gw_err_ctx *ctx) GW_MUST_USE;

/* The next DATA frame, which must be of this step and length, is to go there; one want at a time. Done when
 * in->want.to is NULL again, which may be at once. bytes > 0. */
gw_err_t gw_coll_in_want(struct gw_coll_in *in, void *to, size_t bytes, uint64_t step,
                         struct gw_err_ctx *ctx) GW_MUST_USE;

/* Is there a whole frame of that kind? Its head then. */
bool gw_coll_in_first(const struct gw_coll_in *in, uint8_t kind, struct gw_coll_head *head);

/* Copies its payload, if it is there, and drops it. */
void gw_coll_in_take(struct gw_coll_in *in, uint8_t kind, void *to);

#endif
