/* A segment: one file of the journal, as bytes. Reading and writing of them; no file is touched here.
 *
 *     byte  size   head
 *        0     8   magic "GWJRNL01"
 *        8     8   number        of the segment; a later one replaces those before it
 *       16     8   term          of the controller that wrote it
 *       24    16   writer        random, see migrate/record_seal.h
 *       40     8   checksum      of bytes 0..39 (migrate/checksum.h)
 *       48         frames, back to back
 *
 *     byte  size   frame = what one write(2) and one fdatasync(2) made durable together
 *        0     4   magic "GWJF"
 *        4     4   length n      of the sealed batch, 40 .. GW_SEGMENT_FRAME_MAX
 *        8     8   checksum      of the sealed batch and its length
 *       16     n   sealed batch  (migrate/record_seal.h: writer, sequence, AES-256-GCM; its place is the head and the
 *                                frame's offset, so that no frame can be taken out, moved or repeated)
 *
 * Sequences ascend; one whose write failed is left out, because a nonce is never used for two batches.
 *
 *     a batch, opened: changes, back to back
 *        0     1   kind          1 = append, 2 = end
 *        1     8   entry         != 0
 *        9     4   length m      0 with end
 *       13     m   piece         opaque here
 *
 * Integers little-endian. The checksum finds torn writes without a key; the seal finds everything else.
 *
 * Torn or damaged? A frame is written only after the one before it is durable. So a crash leaves at most one frame that
 * is not whole, the last: what follows the last good frame is a torn tail unless a whole frame comes behind it, which
 * shows that this one was durable once: then the file is damaged, and saying so is all that is right.
 *
 *     what is found                                      outcome
 *     ------------------------------------------------   ----------------------------------------------------------
 *     head shorter than 48 bytes, wrong magic or sum      GW_ERR_INPUT: no journal, or damaged
 *     the head's first frame does not open                GW_ERR_INPUT: another cluster key (or damaged)
 *     a frame whose checksum is wrong, or that is cut     torn tail: it and all behind it is dropped, *torn = bytes
 *      off, and no whole frame behind it
 *     the same, and a whole frame behind it               GW_ERR_INPUT: damaged at byte …
 *     a checksum that is right around a batch that does   GW_ERR_INPUT: damaged or forged at byte …
 *      not open, has another writer or a sequence that
 *      does not ascend, or holds changes that cannot be
 *
 * Owner: borrows. Thread: any; one sealer, one thread. Units: bytes. Errors: above; GW_ERR_MEMORY; or what `change`
 * returned. Source: own design; DESIGN part 6. */
#ifndef GW_CONTROLLER_JOURNAL_SEGMENT_H
#define GW_CONTROLLER_JOURNAL_SEGMENT_H

#include "base/buf.h"
#include "migrate/record_seal.h"

#define GW_SEGMENT_HEAD_BYTES  48
#define GW_SEGMENT_FRAME_BYTES 16 /* what a frame has before its sealed batch */
#define GW_SEGMENT_FRAME_MAX   (GW_RECORD_BYTES_MAX)

struct gw_segment_head {
    uint64_t number, term;
    struct gw_record_writer writer;
};

enum gw_change_kind { GW_CHANGE_APPEND = 1, GW_CHANGE_END = 2 };

struct gw_change {
    enum gw_change_kind kind;
    uint64_t entry;
    const uint8_t *piece; /* [len] */
    size_t len;
};

/* Appends a change to a batch (its sticky error tells). */
void gw_change_put(struct gw_buf *batch, const struct gw_change *change);
/* Takes the next change of a batch; GW_ERR_PROTO for bytes that no writer of ours makes. While r->pos < r->len there
 * is one. */
gw_err_t gw_change_get(struct gw_reader *r, struct gw_change *out) GW_MUST_USE;

/* Appends the head. */
void gw_segment_put_head(struct gw_buf *b, const struct gw_segment_head *head);
/* Appends one frame around a batch, which will lie at `offset` of the segment. */
gw_err_t gw_segment_put_frame(struct gw_buf *b, struct gw_record_sealer *sealer,
                              const struct gw_segment_head *head, uint64_t sequence, uint64_t offset,
                              const void *batch, size_t len) GW_MUST_USE;

struct gw_segment_reader {
    /* Each change in turn; pieces are valid during the call. */
    gw_err_t (*change)(void *arg, const struct gw_change *change);
    void *arg;
};

/* Reads a segment of len bytes that came from a file. */
gw_err_t gw_segment_read(const uint8_t *bytes, size_t len, struct gw_record_sealer *sealer,
                         const struct gw_segment_reader *reader, struct gw_segment_head *head, size_t *torn,
                         struct gw_err_ctx *ctx) GW_MUST_USE;

#endif
