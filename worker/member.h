/* Member: this worker in one pipeline, from ASSIGN to its end.
 *
 *     state       event                                       next        what is done
 *     ─────────   ─────────────────────────────────────────   ─────────   ──────────────────────────────────────────
 *     -           create                                      PREPARING   own thread: missing cells are loaded, from
 *                                                                         the disk or from peers (cell_load.h), the
 *                                                                         other ranks found, collectives made, room
 *                                                                         agreed on
 *     PREPARING   all of that is done                         PREPARED    READY can be told
 *     PREPARING   no memory beside what serves                PREPARED    the cells are loaded by start (after_start)
 *     PREPARED    arm, and there is memory for pages          PREPARED    its engine fetches pages of requests that will
 *                 beside what serves                                      come (WARM), its pool takes them
 *     PREPARING   something failed, abort                     FAILED      gw_member_error says why
 *     PREPARED    start                                       SERVING     pages and activations; an engine at the
 *                                                                         leader, GO from the others
 *     SERVING     a step failed                               FAILED      -
 *     any         destroy                                     -           cells stay in the store, sealed pages on the
 *                                                                         shelf for the lease
 *
 * A member that is alone in its pipeline goes on with the pages that this worker served from before, if there are such on the
 * shelf (gw_shelf_revive): whoever lost its controller for a moment has lost no KV.
 *
 * A START that was lost is lost with its link: the worker then leaves all pipelines (serve.h), the sockets close, and
 * the other ranks' steps fail.
 *
 * Owner: gw_member_destroy frees. Thread: the engine's; abort and wake: any, while the member lives. Units: bytes,
 * microseconds. Errors: those of the parts; the member is then FAILED. Source: own design; DESIGN part 6. */
#ifndef GW_WORKER_MEMBER_H
#define GW_WORKER_MEMBER_H

#include "base/clock.h"
#include "worker/engine.h"
#include "worker/host.h"

#define GW_MEMBER_LEASE_US                                                                                   \
    (15 * GW_US_PER_S) /* a controller that restarts has its workers and a plan again by then */

struct gw_member;

enum gw_member_state { GW_MEMBER_PREPARING, GW_MEMBER_PREPARED, GW_MEMBER_SERVING, GW_MEMBER_FAILED };

struct gw_member_config {
    const struct gw_host *host;
    uint64_t term, generation;
    uint32_t pipeline;
    const struct gw_msg_assign *assign; /* copied */
    bool beside;                        /* another one serves while this one is prepared */
    void (*prepared)(void *arg); /* called once from the preparing thread, when its state has changed */
    void *arg;
};

gw_err_t gw_member_create(const struct gw_member_config *config, struct gw_member **out,
                          struct gw_err_ctx *ctx) GW_MUST_USE;
/* Its sealed pages can be had for lease_us more. */
void gw_member_destroy(struct gw_member *m, int64_t lease_us);

/* Makes whatever the member waits for fail. */
void gw_member_abort(struct gw_member *m);
/* Makes a gw_member_step that waits return. */
void gw_member_wake(struct gw_member *m);

enum gw_member_state gw_member_state(struct gw_member *m);
/* Waits until it is not PREPARING. */
enum gw_member_state gw_member_wait(struct gw_member *m);
const struct gw_err_ctx *gw_member_error(const struct gw_member *m); /* of a FAILED one */
/* The rank that a FAILED one could not reach (mesh.h); GW_RANK_NONE: that was not why. */
uint32_t gw_member_unreached(const struct gw_member *m);

uint32_t gw_member_pipeline(const struct gw_member *m);
uint64_t gw_member_generation(const struct gw_member *m);
bool gw_member_leads(const struct gw_member *m);
bool gw_member_is_alone(const struct gw_member *m);
struct gw_cell_rect gw_member_cells(const struct gw_member *m);
/* Of a PREPARED one. */
void gw_member_ready(const struct gw_member *m, struct gw_msg_ready *out);

/* Of a PREPARED one: it may fetch pages from now on, if there is room for them beside those of what serves. sink: of the
 * leader's engine, here or at start. */
gw_err_t gw_member_arm(struct gw_member *m, const struct gw_engine_sink *sink,
                       struct gw_err_ctx *ctx) GW_MUST_USE;
/* Has it room for pages beside those of what serves? Else what served should leave no pages behind (lease 0). */
bool gw_member_is_armed(const struct gw_member *m);

/* PREPARED → SERVING; what served before has been destroyed. */
gw_err_t gw_member_start(struct gw_member *m, const struct gw_engine_sink *sink,
                         struct gw_err_ctx *ctx) GW_MUST_USE;

/* The leader's, once it is armed or serves; NULL at other ranks. */
struct gw_engine *gw_member_engine(struct gw_member *m);
/* The leader: false until all other ranks have started. */
bool gw_member_may_step(const struct gw_member *m);
/* Computes a step if there is one. Ranks that do not lead wait up to wait_us for it. */
gw_err_t gw_member_step(struct gw_member *m, int64_t wait_us, bool *did, struct gw_err_ctx *ctx) GW_MUST_USE;
uint64_t gw_member_steps(const struct gw_member *m);

#endif
