/* Collectives: how the ranks of one pipeline add up partial sums and pass activations on.
 *
 * Ranks of a stage hold consecutive shares of every layer. A row-parallel product gives one partial sum per share, and
 * the S of them are added in one fixed binary tree: pairs (0,1)(2,3)…, then pairs of those; an odd one moves up
 * unchanged. A rank adds the subtrees whose leaves it has all, sends those sums, and finishes the tree with what the
 * others send: the same additions in the same order for every cut, so every layout gives the same bits.
 *
 *     8 shares over 3 ranks (3+3+2)      rank 0        rank 1        rank 2
 *     owned whole                        01   2        3   45        67
 *     finished by all                    ((01 + (2 + 3)) + (45 + 67))
 *
 * Two kinds of frames travel between two ranks, each in order: GW_COLL_DATA (sums, activations, logits: both sides know
 * length and step beforehand) and GW_COLL_CONTROL (the leader's step descriptors, whose length comes with them).
 * Every frame carries (term, pipeline, generation, step, kind, length); byte table: kernels/cpu/coll_frame.h.
 *
 *     what happens                                   what the caller sees
 *     ────────────────────────────────────────────   ──────────────────────────────────────────────────────────
 *     peer's socket closes                           GW_ERR_IO at once, wherever this rank waits for that peer
 *     no byte moves for deadline_us while waiting    GW_ERR_IO, "… is slow"
 *     frame of another term, pipeline, generation,
 *     step or length than expected                   GW_ERR_PROTO: never used, never skipped
 *     more frames wait than GW_COLL_QUEUE_MAX        GW_ERR_LIMIT
 *     gw_coll_abort from any thread                  GW_ERR_IO, "aborted"
 *
 * After the first error every further call fails with it at once: the pipeline is dead, its next generation makes new
 * collectives. While any call waits, all sockets progress in both directions (received frames queue, bounded by
 * GW_COLL_QUEUE_MAX per peer), so two ranks that send to each other never block one another. Sockets may have TLS over them
 * (base/socket.h): the same frames, and the same bits.
 *
 * Waits spin shortly and then sleep: cores may be oversubscribed. Shared memory (one anonymous segment per stage and
 * generation, passed on by its creator, never reused) carries the sums when try_shm is set and every rank of the stage
 * could map it; else sockets do.
 *
 * Owner: gw_coll_destroy frees; the sockets are the collectives' own from creation on, also when that fails. Thread:
 * one at a time; gw_coll_abort and gw_coll_wake: any. Units: elements, bytes, microseconds. Errors: as above, the text
 * names the rank. Source: own design; DESIGN parts 4 and 6. */
#ifndef GW_KERNELS_COLL_H
#define GW_KERNELS_COLL_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/socket.h"
#include "kernels/op.h"

#define GW_COLL_RANKS_MAX   64
#define GW_COLL_CONTROL_MAX ((size_t)16 << 20)  /* bytes of one control frame */
#define GW_COLL_DATA_MAX    ((size_t)192 << 20) /* of one data frame */
#define GW_COLL_QUEUE_MAX   ((size_t)256 << 20) /* bytes waiting from one peer; more is an error */

struct gw_coll;

struct gw_coll_config {
    uint64_t term, generation;
    uint32_t pipeline;
    uint32_t self, ranks;
    const struct gw_socket *sockets;   /* [ranks] connected, authenticated; none: no traffic with that rank */
    uint32_t stage_first, stage_ranks; /* this rank's stage: ranks [stage_first, stage_first + stage_ranks) */
    uint32_t shares;                   /* S */
    const uint16_t *share_at; /* [stage_ranks + 1] first share of each rank of the stage; the last is S */
    size_t max_elems;         /* of one tree_add: rows of a batch × hidden */
    size_t
        split_elems; /* larger sums are cut into a slice per rank (0: as measured); the same at each rank */
    bool try_shm;    /* all ranks of the stage are on one machine; the same value at each of them */
    int64_t deadline_us;
    /* [ranks] where bytes are added that a rank's socket has taken; NULL, as a whole or for a rank: nobody counts */
    atomic_uint_least64_t *const *sent;
};

enum gw_coll_kind { GW_COLL_DATA = 1, GW_COLL_CONTROL };

/* Exchanges the shared segment with the other ranks of the stage, all of which must be creating theirs (deadline_us).
 * On error *out is unchanged. */
gw_err_t gw_coll_create(const struct gw_coll_config *config, struct gw_coll **out,
                        struct gw_err_ctx *ctx) GW_MUST_USE;
/* Closes the sockets at once: what gw_coll_send has queued and no socket has taken is lost. */
void gw_coll_destroy(struct gw_coll *coll);

/* "shm" or "tcp": how sums travel. */
const char *gw_coll_transport(const struct gw_coll *coll);

/* Frames from here on belong to this step. */
void gw_coll_begin(struct gw_coll *coll, uint64_t step);

/* Where this rank puts the partial sums of its own shares: [own shares][elems] f32, share after share; elems <=
 * max_elems. Valid until the next tree_add returns; uninitialised. */
float *gw_coll_partials(struct gw_coll *coll, size_t elems);

/* residual[elems] += the tree over all S shares. The work is spread over dev's threads. After an error residual is
 * undefined. */
gw_err_t gw_coll_tree_add(struct gw_coll *coll, struct gw_device *dev, float *residual, size_t elems,
                          struct gw_err_ctx *ctx) GW_MUST_USE;

/* Sends a frame of this step; returns when the bytes are written or queued (data may be reused). */
gw_err_t gw_coll_send(struct gw_coll *coll, uint32_t rank, enum gw_coll_kind kind, const void *data,
                      size_t bytes, struct gw_err_ctx *ctx) GW_MUST_USE;

/* Waits until the sockets have taken all that was sent; deadline_us for each byte that moves. */
gw_err_t gw_coll_flush(struct gw_coll *coll, struct gw_err_ctx *ctx) GW_MUST_USE;

/* Receives the next DATA frame from rank, which must be of this step and of exactly so many bytes (> 0). */
gw_err_t gw_coll_recv(struct gw_coll *coll, uint32_t rank, void *data, size_t bytes,
                      struct gw_err_ctx *ctx) GW_MUST_USE;

/* Waits up to wait_us (0: looks only) until the next frame of that kind from rank is complete: *bytes and *step are
 * its length and step; *there = false: time is up or gw_coll_wake was called. No deadline of its own applies, but a
 * peer that closes is an error here too. */
gw_err_t gw_coll_wait(struct gw_coll *coll, uint32_t rank, enum gw_coll_kind kind, int64_t wait_us,
                      bool *there, uint64_t *step, size_t *bytes, struct gw_err_ctx *ctx) GW_MUST_USE;

/* Takes the CONTROL frame that gw_coll_wait saw; data holds its bytes. */
gw_err_t gw_coll_take(struct gw_coll *coll, uint32_t rank, void *data, size_t bytes,
                      struct gw_err_ctx *ctx) GW_MUST_USE;

/* Makes a gw_coll_wait that is under way, or else the next one, return. */
void gw_coll_wake(struct gw_coll *coll);

/* Makes every call that is under way or follows fail. */
void gw_coll_abort(struct gw_coll *coll);

#endif
