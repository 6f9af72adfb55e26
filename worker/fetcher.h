/* Fetcher: gets the blocks that the leader of a pipeline asks for into this rank's pool: from other pools of this worker,
 * from ranks that hold them, from the store, in this order.
 *
 *     block     event                                           what is done
 *     ───────   ─────────────────────────────────────────────   ──────────────────────────────────────────────
 *     lost      another pool of this worker has it whole        copied: HAD
 *     lost      the holders gave all its pages, checksums fit   PEER
 *     lost      a holder is silent for a third of the time,     the stores are asked meanwhile
 *               and there are stores
 *     lost      the store gave all its pages, seals fit         STORE
 *     lost      the time is up, the pipeline is over            stays lost: the leader has it computed again
 *
 * What came is offered to the stores: they may have it in this machine's own memory alone, which is no copy any more.
 *
 * A pull in the background, that nobody waits for, runs in a nice thread and asks peers for 256 MB/s at most.
 *
 * A block that is not lost can be found by its name in this pool when the answer goes out. Nothing is written into a slot
 * before the steps that were led when it was claimed are over here (gw_pull.after_step), nor after the answer.
 *
 * Owner: gw_fetcher_destroy ends what is under way; the shelf must outlive it. Thread: any; a pull blocks its caller. Units:
 * blocks, microseconds. Errors: none: what cannot be had is lost. Source: own design; DESIGN part 6. */
#ifndef GW_WORKER_FETCHER_H
#define GW_WORKER_FETCHER_H

#include "migrate/peer_fetch.h"
#include "migrate/peer_pull.h"
#include "worker/checkpoint.h"
#include "worker/shelf.h"

#define GW_FETCHER_PULLS_MAX 64 /* at once: connections of leaders */

struct gw_fetcher;

struct gw_fetcher_config {
    struct gw_shelf *shelf;
    const void *key; /* the cluster key; copied */
    size_t key_len;
    const struct gw_tls *tls; /* borrowed; NULL: plaintext everywhere */
    struct gw_page_model model;
    uint32_t streams;                 /* per holder, 0: 1 */
    double rate_bytes_s;              /* from peers; 0: no limit */
    struct gw_stores *stores;         /* NULL: there are none */
    struct gw_checkpoint *checkpoint; /* NULL: what came is offered to nobody */
    struct gw_traffic *traffic;       /* borrowed; NULL: nobody counts */
    const struct gw_log *log;
};

struct gw_fetcher_stats {
    uint64_t blocks_had, blocks_peer, blocks_store, blocks_lost;
    uint64_t peer_bytes, corrupt_pages;
    uint64_t background; /* pulls that gave way to those who compute */
};

gw_err_t gw_fetcher_create(const struct gw_fetcher_config *config, struct gw_fetcher **out) GW_MUST_USE;
void gw_fetcher_destroy(struct gw_fetcher *f);

/* from[pull->names_len], all GW_PULL_LOST. */
void gw_fetcher_pull(struct gw_fetcher *f, const struct gw_pull *pull, uint8_t *from);
/* For a peer server. */
struct gw_pull_sink gw_fetcher_sink(struct gw_fetcher *f);

/* Pulls for this pipeline end soon. */
void gw_fetcher_cancel(struct gw_fetcher *f, struct gw_shelf_key key);

struct gw_fetcher_stats gw_fetcher_stats(struct gw_fetcher *f);

#endif
