/* Step descriptor: what the leader tells the other ranks of a pipeline to compute.
 *
 * Ranks keep the block table of each lane (a running branch's number, < the pipeline's max_sequences), so that a
 * descriptor carries only what is new of it. Slots mean the same at every rank. Steps are executed in the order of
 * their numbers everywhere, so a slot or lane may be used anew as soon as its old owner is in no later step.
 *
 *     byte   size  field
 *        0      4  rows       of the batch, 1 .. max_rows
 *        4      4  seqs       1 .. max_sequences
 *        8      4  samples    rows whose logits are wanted, <= seqs
 *       12      4  copies
 *       16    8*c  copies     (u32 from, u32 to) slots, to be copied before anything is computed
 *            4*r  ids        of the rows
 *                  per sequence: u32 lane, u32 rows, u32 position, u32 at, u32 count, u32 slots[count]:
 *                  entries [at, at + count) of the lane's table are these and the last; those before stay
 *                  per sample: u32 row, and a wish (worker/wish.h); rows ascend
 *          4+20*b  sealed     u32 count >= 1, (u32 slot, 16 bytes of name): blocks that earlier steps have completed, to be
 *                             summed before anything is copied; left out when there are none. Never sent to
 *                             ranks of protocol 2
 *
 * A descriptor of 0 rows says only what has been sealed: no sequences, samples or copies, and nobody answers it.
 *
 * Owner: the describer's arrays are its own; a reader owns its tables. Thread: one. Units: rows, tokens, slots. Errors:
 * GW_ERR_PROTO for anything that would read or write outside the tables, the pool or the batch; nothing is changed
 * then but tables. Source: own design; DESIGN part 3. */
#ifndef GW_WORKER_STEP_DESC_H
#define GW_WORKER_STEP_DESC_H

#include "base/buf.h"
#include "kernels/op.h"
#include "migrate/block_name.h"
#include "worker/wish.h"

#define GW_STEP_DESC_COPIES_MAX 65536
#define GW_STEP_DESC_SEALED_MAX 65536

/* One sequence of a step, with its lane's table. */
struct gw_step_seq {
    uint32_t rows, position;
    uint32_t lane;
    const uint32_t *blocks;        /* covers position + rows */
    uint32_t blocks_at, blocks_to; /* entries [at, to) are not known to the other ranks yet */
};

/* A row whose next token is drawn. */
struct gw_step_sample {
    uint32_t row;
    struct gw_wish wish;
};

struct gw_slot_copy {
    uint32_t from, to;
};

struct gw_slot_name {
    uint32_t slot;
    struct gw_block_name name;
};

struct gw_step_desc {
    uint32_t rows, seqs_len, samples_len, copies_len, sealed_len;
    const uint32_t *ids;            /* [rows] */
    const struct gw_step_seq *seqs; /* row after row */
    const struct gw_step_sample *samples;
    const struct gw_slot_copy *copies;
    const struct gw_slot_name *sealed;
};

/* Appends the bytes (sticky error in b). */
void gw_step_desc_put(const struct gw_step_desc *desc, struct gw_buf *b);

/* What a descriptor may say here. */
struct gw_step_limits {
    uint32_t rows, sequences, positions, slots, vocab;
};

struct gw_step_reader;

gw_err_t gw_step_reader_create(const struct gw_step_limits *limits, struct gw_step_reader **out) GW_MUST_USE;
void gw_step_reader_destroy(struct gw_step_reader *reader);

/* desc's arrays are the reader's, valid until the next call. */
gw_err_t gw_step_reader_get(struct gw_step_reader *reader, const void *bytes, size_t len,
                            struct gw_step_desc *desc, struct gw_err_ctx *ctx) GW_MUST_USE;

#endif
