/* Peer fetch: gets KV pages by name from the ranks that have them, straight into this rank's pool.
 *
 * The destination pulls. Which source is asked for which page is a plan (geometry.h); a page that one cannot give is asked
 * of the next one that holds it. A block's slot is claimed when its first page is asked for, and nobody else reads it until
 * it is committed: whole, each page with the checksum that its source said. Everything that a frame says of itself (fence,
 * model, request, name, page, length) is checked before one byte goes to the slot; a page whose bytes then turn out wrong is
 * as good as absent.
 *
 *     page:   missing ─ask─► asked ─entry─► coming ─checksum─► there          (its block's last one: commit)
 *                ▲             │ ABSENT, DONE  │ wrong
 *                │             ▼               ▼
 *                ├──── the next source that holds it; none left: lost         (its block: abandoned)
 *                └──── the same one again, when the connection breaks
 *     source: fine ─GW_FETCH_FAILS_MAX in a row, or DONE(stale | foreign)─► dead for this run
 *                  ─one, of connecting or by silence, with fast_fail─►
 *
 *     lost or wrong                                what is done
 *     ──────────────────────────────────────────   ───────────────────────────────────────────────────────────────
 *     a connection breaks, or cannot be made       what it had not delivered is asked again on a new one, or, after
 *                                                  GW_FETCH_FAILS_MAX failures without a page in between, elsewhere
 *     a REQUEST is lost                            with its connection
 *     no whole frame within stall_us (silence, a   the connection is closed, as if it had broken
 *     byte a second, a rate that is too low)
 *     a head with a wrong checksum, half a frame   the same: nobody knows where the next frame begins
 *     PAGES or ABSENT that were not asked for      skipped, counted; nothing is written
 *     (repeated, replayed, of another request)
 *     a stale term, generation; another model      the frame is skipped, counted; its pages are asked elsewhere at DONE
 *     a wrong checksum of a page                   counted; asked elsewhere
 *     DONE, and pages of the request are missing   counted as absent there; asked elsewhere
 *     PAGES is lost, DONE is not                   the same (TCP does not do that; a proxy might)
 *     DONE is lost                                 stall_us
 *     the pool is full                             the block is given up, counted
 *     the deadline, a cancel                       what is committed stays, the rest is abandoned
 *
 * A fetch may run again and again, for what was sealed since; its connections stay open. Memory: the plan, nine bytes for
 * each page of a run, 200 KiB for each stream.
 *
 * Owner: gw_peer_fetch_destroy closes what is open. Thread: one for all but cancel; a run has a thread for each stream.
 * Units: bytes, microseconds. Errors: GW_ERR_INPUT, GW_ERR_LIMIT, GW_ERR_MEMORY before anything is asked; GW_ERR_IO when the
 * deadline or a cancel ended a run. Source: own design; DESIGN parts 5 and 6. */
#ifndef GW_MIGRATE_PEER_FETCH_H
#define GW_MIGRATE_PEER_FETCH_H

#include <stdatomic.h>

#include "base/log.h"
#include "migrate/page_codec.h"

#define GW_FETCH_SOURCES_MAX 63         /* a page remembers in six bits how many could not give it */
#define GW_FETCH_STREAMS_MAX 128        /* threads of a run */
#define GW_FETCH_PAGES_MAX   (1u << 22) /* of one run */
#define GW_FETCH_FAILS_MAX   4 /* 20, 40, 80 ms apart: a process that restarts its listener is waited for */
#define GW_FETCH_BACKOFF_US  (20 * GW_US_PER_MS)
#define GW_FETCH_ASK_BYTES                                                                                   \
    (4u << 20) /* one request; two are under way per stream, so that a source never waits */
#define GW_FETCH_ASKS_MAX 2
#define GW_FETCH_STALL_S                                                                                     \
    5 /* for a frame of 2 MiB at most: 400 KB/s is the slowest source that is waited for */
#define GW_FETCH_THREAD_STACK  (256u << 10)
#define GW_FETCH_ADDRESS_BYTES 72 /* "[v6]:port" and a NUL */

/* How a fetch reaches the pool. Called by one thread at a time, but for page. */
struct gw_page_sink {
    void *arg;
    /* Room for a block; GW_ERR_LIMIT: there is none. */
    gw_err_t (*claim)(void *arg, const struct gw_block_name *name, uint32_t *slot);
    /* Where a page of a claimed slot goes, of so many bytes; NULL: this rank has no such page. Called from any thread. */
    uint8_t *(*page)(void *arg, uint32_t slot, struct gw_page_id id, uint32_t *bytes);
    /* All wanted pages of the slot are there: the block can be found by its name from now on. sums: their checksums, by
     * gw_page_rect_index of the wanted rectangle; valid during the call. */
    void (*commit)(void *arg, uint32_t slot, const struct gw_block_name *name, const uint64_t *sums);
    void (*abandon)(void *arg, uint32_t slot);
};

struct gw_fetch_source {
    char address[GW_FETCH_ADDRESS_BYTES]; /* gw_peer_server_address */
    uint32_t rank;                        /* its rank in its pipeline */
    struct gw_page_rect pages;            /* that it holds */
};

struct gw_peer_fetch_config {
    const void *key; /* the cluster key; copied */
    size_t key_len;
    const struct gw_tls *tls;   /* borrowed; NULL: plaintext everywhere */
    struct gw_page_fence fence; /* of this rank */
    uint32_t rank;
    struct gw_page_model model;
    struct gw_page_sink sink;
    struct gw_page_rect want;              /* pages of each block */
    const struct gw_fetch_source *sources; /* copied */
    uint32_t sources_len;
    /* [sources_len], copied: where bytes are added that came from a source, if right; NULL: nobody counts */
    atomic_uint_least64_t *const *came;
    const uint8_t *from; /* gw_geometry_plan over these sources (copied), NULL: made here */
    uint32_t streams;    /* per source, 0: 1 */
    bool try_unix;       /* the source may be on this host */
    /* A source that cannot be connected to, or falls silent, is dead at once: its process is gone or frozen, and who waits
     * can recompute. */
    bool fast_fail;
    double rate_bytes_s; /* 0: no limit */
    int64_t stall_us;    /* 0: GW_FETCH_STALL_S */
    const struct gw_log *log;
};

struct gw_fetch_result {
    uint64_t blocks, pages, bytes; /* that are there now */
    uint64_t absent;               /* blocks that no source gave whole */
    uint64_t no_room;              /* blocks for which the pool had no slot */
    uint64_t refused;              /* pages that a source was asked for and did not give */
    uint64_t corrupt;              /* pages with a wrong checksum */
    uint64_t unasked;              /* entries that nobody had asked for, or of a wrong length */
    uint64_t stale, foreign,
        bad;         /* frames: of another fence or request; of another model; wrong in themselves */
    uint64_t broken; /* connections that failed or broke */
};

struct gw_peer_fetch;

gw_err_t gw_peer_fetch_create(const struct gw_peer_fetch_config *config, struct gw_peer_fetch **out,
                              struct gw_err_ctx *ctx) GW_MUST_USE;
void gw_peer_fetch_destroy(struct gw_peer_fetch *fetch);

/* Fetches the wanted pages of names[len], in this order; blocks until each is there or lost, or until deadline_us (absolute).
 * there[i]: block i was committed, also on error. Each name once; len > 0. */
gw_err_t gw_peer_fetch_run(struct gw_peer_fetch *fetch, const struct gw_block_name *names, uint32_t len,
                           int64_t deadline_us, bool *there, struct gw_fetch_result *result,
                           struct gw_err_ctx *ctx) GW_MUST_USE;

/* Ends the run that is under way, and all later ones. */
void gw_peer_fetch_cancel(struct gw_peer_fetch *fetch);

#endif
