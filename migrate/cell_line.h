/* Cell line: gets packed weights, a part after another, from one worker that has them.
 *
 * A part's pieces come in order, straight to where they belong; each is looked at before it counts. So *whole is at any time
 * the length of the part's beginning that is as the source has it, and the rest can come from elsewhere, or later. The
 * connection stays open between two parts.
 *
 *     lost or wrong                               what is done
 *     -----------------------------------------   -------------------------------------------------------------
 *     nobody there, no proof of the key           GW_ERR_IO
 *     the source dies, closes, is cut (also:      GW_ERR_IO; the pieces before stay
 *      it does not know CELL_ASK)
 *     no whole piece within stall_us (silence,    GW_ERR_LIMIT
 *      a byte a second)
 *     a wrong checksum, length, place, model,     GW_ERR_PROTO: not one byte more is taken from it
 *      an answer to another question
 *     CELL_END(absent)                            GW_ERR_NOT_FOUND: the line is as good as before
 *     CELL_END(stale, foreign, refused, busy)     GW_ERR_INPUT: nothing can be had here
 *     goes_on says no                             GW_ERR_LIMIT; the connection is closed, the next part opens another
 *
 * Owner: gw_cell_line_destroy closes. Thread: one; gw_cell_line_cut: any. Units: bytes, microseconds. Errors: as above.
 * Source: own design; frames: cell_codec.h. */
#ifndef GW_MIGRATE_CELL_LINE_H
#define GW_MIGRATE_CELL_LINE_H

#include "base/clock.h"
#include "migrate/cell_codec.h"

#define GW_CELL_CONNECT_US (2 * GW_US_PER_S) /* TCP repeats a lost SYN after 1 s */
#define GW_CELL_STALL_US   (5 * GW_US_PER_S) /* for a piece: who does less than 200 KB/s is no source */

struct gw_cell_line;

struct gw_cell_line_config {
    const char *address; /* of the source's pages; copied */
    bool try_unix;       /* it may be on this host */
    const void *key;     /* the cluster key; copied */
    size_t key_len;
    const struct gw_tls *tls;   /* borrowed; NULL: plaintext everywhere */
    struct gw_page_fence fence; /* of the asking rank */
    struct gw_page_model model;
    uint64_t packing;
    int64_t stall_us; /* 0: GW_CELL_STALL_US */
};

struct gw_cell_want {
    uint32_t part;
    uint64_t bytes; /* of the part, as reckoned here */
    uint8_t *to;    /* [bytes] */
    uint64_t *sums; /* [gw_cell_pieces(bytes)]: set for the pieces that came */
    /* Asked after each piece; false ends it. */
    bool (*goes_on)(void *arg, uint32_t piece_bytes);
    void *arg;
};

gw_err_t gw_cell_line_create(const struct gw_cell_line_config *config, struct gw_cell_line **out,
                             struct gw_err_ctx *ctx) GW_MUST_USE;
void gw_cell_line_destroy(struct gw_cell_line *line);

/* *whole: in: bytes of the part that are there (whole pieces), < want->bytes; out: the same, also on error. */
gw_err_t gw_cell_line_get(struct gw_cell_line *line, const struct gw_cell_want *want, uint64_t *whole,
                          struct gw_err_ctx *ctx) GW_MUST_USE;

/* Ends what is under way, and all that would follow. */
void gw_cell_line_cut(struct gw_cell_line *line);

#endif
