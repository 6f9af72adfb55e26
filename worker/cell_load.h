/* Cell load: brings the missing cells of a rectangle into the store, from the model's files and from workers that have them.
 *
 * Each part comes from where it is predicted to be sooner (cell_race.h): threads that read and pack, and connections to the
 * workers that the controller has named, GW_CELL_LOAD_STREAMS at most to a single one. Names are hints: who does not have a
 * part says so. What comes from a worker has the checksum that it says before it is seen by anybody here.
 *
 *     a source                                    what is done
 *     -----------------------------------------   ----------------------------------------------------------------
 *     does not have the part                      the next source that may have it, or the disk
 *     dies, breaks, says nothing for              logged; what came of the part stays, another source goes on with it,
 *      GW_CELL_STALL_US                           the disk begins it anew. A connection that has brought something is
 *                                                  tried once more
 *     lies: a wrong checksum, length, order       logged; it is not asked any more in this load
 *     is of another model, profile, packing; is   the same
 *      busy; does not know the question
 *     is silent, while others are idle            they begin its part anew at once; who is whole first counts
 *     all of them                                 the disk does the rest
 *
 * Owner: gw_cell_loader_destroy frees; the store outlives it. Thread: one load at a time; stats from any. Units: bytes,
 * microseconds. Errors: GW_ERR_MEMORY, GW_ERR_IO (stopped, no threads); the parts that came stay in the store, uncounted.
 * Source: own design; DESIGN part 6. */
#ifndef GW_WORKER_CELL_LOAD_H
#define GW_WORKER_CELL_LOAD_H

#include "base/log.h"
#include "migrate/page_codec.h"
#include "worker/cell_store.h"
#include "worker/traffic.h"

#define GW_CELL_LOAD_STREAMS 2  /* one is read while the other one's bytes are summed up */
#define GW_CELL_LOAD_THREADS 32 /* that pack; disks and memory are not faster for more */

struct gw_cell_loader;

struct gw_cell_loader_config {
    struct gw_cell_store *store;
    const void *key; /* the cluster key; the caller's */
    size_t key_len;
    const struct gw_tls *tls; /* borrowed; NULL: plaintext everywhere */
    struct gw_page_model model;
    struct gw_traffic *traffic; /* borrowed; NULL: nobody counts */
    const struct gw_log *log;
    int64_t stall_us; /* 0: GW_CELL_STALL_US */
};

struct gw_cell_wish {
    struct gw_cell_rect cells;
    struct gw_page_fence fence;           /* of the rank that wants them */
    const struct gw_cell_holder *sources; /* [sources_len <= GW_WIRE_SOURCES_MAX] */
    uint32_t sources_len;
    bool prefer_sources;     /* even where the disk is predicted to be sooner */
    uint32_t threads;        /* that pack, >= 1 */
    const atomic_bool *stop; /* NULL: never */
};

struct gw_cell_loaded {
    uint64_t disk_bytes, peer_bytes;
    int64_t took_us;
};

gw_err_t gw_cell_loader_create(const struct gw_cell_loader_config *config,
                               struct gw_cell_loader **out) GW_MUST_USE;
void gw_cell_loader_destroy(struct gw_cell_loader *loader);

/* *out is set on error, too. */
gw_err_t gw_cell_loader_run(struct gw_cell_loader *loader, const struct gw_cell_wish *wish,
                            struct gw_cell_loaded *out, struct gw_err_ctx *ctx) GW_MUST_USE;

/* Of all loads together. */
struct gw_cell_loaded gw_cell_loader_stats(struct gw_cell_loader *loader);

#endif
