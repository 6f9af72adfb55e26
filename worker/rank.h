/* Rank: what one worker is in one pipeline: its cells' weights and pages, and the steps it computes with them.
 *
 *     leader                                        other ranks
 *     gw_rank_lead: descriptor to all, own part     gw_rank_follow: waits for a descriptor, computes its part,
 *     gw_rank_answers: of the oldest step led       sends what others need; after a step without samples the last
 *                                                   stage's first rank sends a byte, so that the leader does
 *                                                   not run ahead
 *
 * As many steps as there are stages may be under way, so that every stage has work (micro-batches). A pipeline begins
 * when each of the others has said GO, which it does when its own START has come: until then gw_rank_may_lead is
 * false.
 *
 *     control frames   from → to        step     payload
 *     OFFER            rank → leader    0        u32 slots, u32 max_rows, u32 max_sequences, u32 positions, u32 early_slots:
 *                                                what it has room for; the leader takes the least of each. Ranks of
 *                                                protocol 2, and those that know of one, say no early_slots: 0
 *     GO               rank → leader    0        empty
 *     descriptor       leader → rank    >= 1     worker/step_desc.h
 *
 * Lost messages: a socket loses a suffix by closing, which ends the pipeline (kernels/coll.h).
 *
 * Owner: gw_rank_destroy frees; weights, pages and collectives are the caller's and must outlive the rank. Thread: the device's; what wakes or aborts goes to the collectives. Units: rows, slots, microseconds. Errors: those of
 * kernels/coll.h, after which the rank is good for destroy only. Source: own design; DESIGN part 3. */
#ifndef GW_WORKER_RANK_H
#define GW_WORKER_RANK_H

#include "worker/forward.h"
#include "worker/checkpoint.h"
#include "worker/step_desc.h"

struct gw_rank;

/* What a rank has room for. */
struct gw_rank_room {
    uint32_t slots, max_rows, max_sequences, positions;
    uint32_t
        early_slots; /* of slots: beside pages of earlier pipelines; 0: none, pages come when those are gone */
};

struct gw_rank_config {
    const struct gw_model *model;
    const struct gw_ops *ops;
    struct gw_device *device;
    const struct gw_weights *weights;
    struct gw_coll *coll;                 /* NULL: alone */
    struct gw_coll_device *sums, *passes; /* forward.h; NULL: coll's */
    struct gw_place place;
    struct gw_rank_room room; /* the leader: of all ranks (gw_rank_agree) */
    bool poison;              /* unused page bytes are NaN */
    struct gw_shelf_pool
        *pages; /* of room.slots; NULL: a pool of its own, where nobody finds anything by name */
    struct gw_checkpoint *checkpoint; /* what is sealed is offered to it; NULL: to nobody */
    bool mute;                        /* the others do not know of names: they speak protocol 2 */
};

/* Tells the leader this rank's room; the leader makes *room the least of all. Once, before creation, on any one
 * thread; waits deadline_us at most. mute: as in gw_rank_config. */
gw_err_t gw_rank_agree(struct gw_coll *coll, const struct gw_place *place, struct gw_rank_room *room,
                       bool mute, int64_t deadline_us, struct gw_err_ctx *ctx) GW_MUST_USE;

gw_err_t gw_rank_create(const struct gw_rank_config *config, struct gw_rank **out,
                        struct gw_err_ctx *ctx) GW_MUST_USE;
void gw_rank_destroy(struct gw_rank *rank);

const struct gw_place *gw_rank_place(const struct gw_rank *rank);
struct gw_device *gw_rank_device(const struct gw_rank *rank);
/* What its pages hold sealed: at creation what an earlier pipeline left there (gw_shelf_revive). NULL: nobody is told. */
struct gw_page_dir *gw_rank_dir(const struct gw_rank *rank);

/* ---- the leader ---- */

/* Have all other ranks said GO? */
gw_err_t gw_rank_may_lead(struct gw_rank *rank, bool *may, struct gw_err_ctx *ctx) GW_MUST_USE;

/* Begins a step: the others learn of it, this rank's part is computed. At most place.stages steps may be under way.
 * What its samples' wishes point to stays until it is over. */
gw_err_t gw_rank_lead(struct gw_rank *rank, const struct gw_step_desc *step,
                      struct gw_err_ctx *ctx) GW_MUST_USE;

/* Answers [count] of samples [first, first + count) of the oldest step under way, count <= GW_ANSWERS_ROWS; ranges ascend
 * without gaps. Waits for them. Valid until the next call. */
gw_err_t gw_rank_answers(struct gw_rank *rank, uint32_t first, uint32_t count, struct gw_answer *out,
                         struct gw_err_ctx *ctx) GW_MUST_USE;
/* The whole row of answer i of the last call, *row [vocab], if this rank alone has it; else NULL. */
gw_err_t gw_rank_row(struct gw_rank *rank, uint32_t i, const float **row, struct gw_err_ctx *ctx) GW_MUST_USE;
/* The oldest step is over; waits for that where it had no samples. */
gw_err_t gw_rank_step_over(struct gw_rank *rank, struct gw_err_ctx *ctx) GW_MUST_USE;

/* Copies a slot's pages here, and at the others before the next step. */
void gw_rank_copy_slot(struct gw_rank *rank, uint32_t from, uint32_t to);
/* A slot's content is dead (page_pool.h). */
void gw_rank_forget_slot(struct gw_rank *rank, uint32_t slot);
/* A slot holds a whole block: it can be found by name here, and at the others when they have been told. */
void gw_rank_seal_slot(struct gw_rank *rank, uint32_t slot, const struct gw_block_name *name);
/* Tells the others now what they have not been told; all have said GO. */
gw_err_t gw_rank_tell_sealed(struct gw_rank *rank, struct gw_err_ctx *ctx) GW_MUST_USE;
/* Waits a little until what is sealed here can be found by others: they are about to be told that it is. */
void gw_rank_settle_pages(struct gw_rank *rank);
/* Number of the last descriptor. */
uint64_t gw_rank_steps(const struct gw_rank *rank);
/* How many of them were graphs (kernels/device_graph.h). */
struct gw_graph_counts gw_rank_graphs(const struct gw_rank *rank);

/* ---- the others ---- */

gw_err_t gw_rank_say_go(struct gw_rank *rank, struct gw_err_ctx *ctx) GW_MUST_USE;

/* Waits up to wait_us for a step and computes it. *did = false: there was none, or gw_coll_wake was called. */
gw_err_t gw_rank_follow(struct gw_rank *rank, int64_t wait_us, bool *did, struct gw_err_ctx *ctx) GW_MUST_USE;

/* Takes what the leader has said of sealed blocks and nobody has looked at; computes nothing. The rank is good for destroy
 * only. */
void gw_rank_hear_last(struct gw_rank *rank);

#endif
