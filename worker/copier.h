/* Copier: has every rank of a pipeline fetch the same blocks into the slots that its leader has claimed for them.
 *
 *     leader's engine ── begin(pull) ──► copier: own fetcher ┐
 *                                                 a puller per other rank ──► its page server, its fetcher
 *                     ◄── take(from) ── when all have answered: a block is here if no rank has lost it
 *
 *     lost or wrong                           what is done
 *     ─────────────────────────────────────   ────────────────────────────────────────────────────────────────
 *     a rank cannot be reached                every block is lost
 *     a rank does not answer in time, or its  every block is lost, and in doubt: that rank may still be writing, so the
 *      connection breaks                       slots must not be used again in this pipeline
 *     a rank's pipeline is over, the pull is  answered, all lost
 *      stale there
 *
 * Owner: gw_copier_destroy ends what is under way. Thread: the engine's; `done` is called on one of the copier's own. Units:
 * milliseconds. Errors: GW_ERR_MEMORY, GW_ERR_IO at creation. Source: own design; DESIGN part 6. */
#ifndef GW_WORKER_COPIER_H
#define GW_WORKER_COPIER_H

#include "worker/fetcher.h"

struct gw_copier;

struct gw_copier_config {
    struct gw_fetcher *fetcher; /* of this worker */
    const struct gw_assign_rank *ranks;
    uint32_t ranks_len; /* rank 0 is this one */
    struct gw_page_fence fence;
    struct gw_page_model model;
    const void *key; /* the cluster key; copied */
    size_t key_len;
    const struct gw_tls *tls; /* borrowed; NULL: plaintext everywhere */
    const struct gw_log *log;
    void (*done)(void *arg); /* there is something to take */
    void *arg;
};

gw_err_t gw_copier_create(const struct gw_copier_config *config, struct gw_copier **out,
                          struct gw_err_ctx *ctx) GW_MUST_USE;
void gw_copier_destroy(struct gw_copier *c);

/* May the next one begin? What was begun has been taken. */
bool gw_copier_is_idle(const struct gw_copier *c);
/* Copies pull (its fence is filled in); the copier is idle. */
void gw_copier_begin(struct gw_copier *c, const struct gw_pull *pull);

/* True once all ranks have answered: from[names_len] says where the block came from, the worst of all ranks (enum
 * gw_pull_from); valid until the next begin. */
bool gw_copier_take(struct gw_copier *c, const uint8_t **from, bool *in_doubt);

#endif
