/* Stores: where KV pages outlive the machine that computed them, behind one interface.
 *
 * A store is asked to put, get and find pages of sealed blocks. It is a cache of a cache: whatever it does not take, cannot
 * find or is late with is recomputed. So no call here waits, and a store that is slow, full, restarting, foreign or gone
 * costs coverage, never a request. Makers: store_redis.h (Redis servers), store_peer.h (memory of another worker).
 *
 *     outcome    put                              get, has
 *     OK         all pages are there              got[] says which
 *     REFUSED    full, read-only, not ours        the same
 *     LATE       no answer by the deadline: it may be there or not
 *     LOST       no server can be reached, or the connection broke: it may be there or not
 *     ENDED      the store was destroyed
 *
 * Several servers share the names by rendezvous hashing: each name belongs to the server that scores highest for it among
 * those that are up. While one is gone, its names alone move to the others; they return with it.
 *
 * Puts are sent in the order of the calls, so a caller who puts a chain's blocks in prefix order leaves no holes but
 * those of refused and lost ones. Gets and finds overtake puts that wait.
 *
 * Owner: gw_store_destroy frees. Names and lists are copied; page bytes are the caller's and stay where they are until done
 * (a sealed slot of the pool, held by a reference). Thread: any thread calls put, get, has, stats; done comes on the
 * store's own thread: it must not block, it may call put, get and has. Units: bytes, microseconds on the monotonic clock.
 * Errors: GW_ERR_LIMIT when the queue is full or the store ends (counted as dropped), GW_ERR_INPUT for what no store takes, GW_ERR_MEMORY;
 * then done is not called. Else it is called exactly once, by the deadline and a few milliseconds. Source: own design;
 * rendezvous hashing: Thaler and Ravishankar 1998; DESIGN parts 5 and 9. */
#ifndef GW_MIGRATE_STORE_H
#define GW_MIGRATE_STORE_H

#include "base/log.h"
#include "migrate/page_seal.h"

#define GW_STORE_PAGES_MAX 1024 /* of one call: 32 layer groups × 32 KV heads */
#define GW_STORE_NAMES_MAX 1024 /* of one has: 16 k tokens */
#define GW_STORE_CALL_BYTES_MAX                                                                              \
    (16u << 20)                       /* page bytes of one call; a block of more is put and got in parts */
#define GW_STORE_QUEUE_OPS       4096 /* calls (names of a has) under way at most */
#define GW_STORE_QUEUE_BYTES     (256ul << 20) /* page bytes of calls under way at most */
#define GW_STORE_DEADLINE_MAX_US (600l * 1000 * 1000)

struct gw_store;

struct gw_store_page {
    struct gw_page_id id;
    uint32_t len;
    void *bytes; /* [len]; put only reads it. get: undefined unless got */
};

enum gw_store_outcome {
    GW_STORE_OK = 0,
    GW_STORE_REFUSED,
    GW_STORE_LATE,
    GW_STORE_LOST,
    GW_STORE_ENDED,
    GW_STORE_OUTCOMES
};

/* What comes of a call, and whom to tell. */
struct gw_store_then {
    int64_t deadline_us; /* absolute; at most GW_STORE_DEADLINE_MAX_US away */
    /* got[got_len], valid during the call: per page of a get, per name of a has; NULL for a put. What it says is so,
     * whatever the outcome; only with OK is the rest known to be absent. */
    void (*done)(void *arg, enum gw_store_outcome outcome, const bool *got, uint32_t got_len);
    void *arg;
};

/* Stores pages of a block, all or none of them. Pages of the same block that are there stay. */
gw_err_t gw_store_put(struct gw_store *store, const struct gw_block_name *name,
                      const struct gw_store_page *pages, uint32_t pages_len,
                      const struct gw_store_then *then) GW_MUST_USE;

/* Fetches pages of a block. A page that is forged, damaged or of another length is not got, and counted. */
gw_err_t gw_store_get(struct gw_store *store, const struct gw_block_name *name,
                      const struct gw_store_page *pages, uint32_t pages_len,
                      const struct gw_store_then *then) GW_MUST_USE;

/* Which blocks' page `id` is there? (A put is all or none, so one page speaks for all that were put with it.) What is there
 * is kept as if it had been put now. */
gw_err_t gw_store_has(struct gw_store *store, const struct gw_block_name *names, uint32_t names_len,
                      struct gw_page_id id, const struct gw_store_then *then) GW_MUST_USE;

struct gw_store_verb_stats {
    uint64_t calls;                       /* accepted */
    uint64_t dropped;                     /* not accepted: the queue was full */
    uint64_t outcomes[GW_STORE_OUTCOMES]; /* of those that are done */
    uint64_t bytes;                       /* of pages, in calls that were OK */
    uint64_t us_sum, us_max;              /* from call to done, of those that were OK */
};

/* Counters since the store was made; the covered fraction is put.outcomes[GW_STORE_OK] / (put.calls + put.dropped). */
struct gw_store_stats {
    struct gw_store_verb_stats put, get, has;
    uint64_t pages_got, pages_missing, pages_forged;
    uint64_t connects, disconnects; /* of servers, after their greeting */
    uint64_t busy_us; /* servers owed answers, and gave them: bytes over it is the rate to expect */
    uint32_t servers, servers_up;
    uint64_t waiting_ops, waiting_bytes; /* under way now */
    uint64_t cpu_us;                     /* of the store's thread: it seals, opens and moves bytes */
};

void gw_store_stats(struct gw_store *store, struct gw_store_stats *out);

/* What is under way ends with ENDED, before this returns. Not from a done. NULL is fine. */
void gw_store_destroy(struct gw_store *store);

/* Common to all makers. */
struct gw_store_config {
    const struct gw_page_seal_config *seal; /* NULL: pages lie in the store as they are. Benchmarks only */
    uint64_t queue_ops, queue_bytes;        /* 0: GW_STORE_QUEUE_OPS, GW_STORE_QUEUE_BYTES */
    int64_t connect_us;                     /* to connect and greet; 0: 2 s */
    int64_t stall_us;                       /* a server that owes answers for so long is left; 0: 5 s */
    const struct gw_log *log;
};

#endif
