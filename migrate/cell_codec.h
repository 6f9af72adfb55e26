/* Cell codec: the tables of the frames by which a worker gets packed weights from one that has them (page_codec.h has the
 * head, and draws the conversation).
 *
 *     CELL_ASK                                            CELL_PIECE, then so many bytes as the head says
 *     byte  size  field                                   byte  size  field
 *        0     8  packing   of the asking worker             0     8  where they begin in the part
 *        8     4  part      its number (worker/cell_store.h) 8     8  their checksum
 *       12     4  0                                       CELL_END
 *       16     8  bytes    of the part                       0     4  status
 *       24     8  from     a multiple of the piece, < bytes
 *
 * A part is cut into pieces of GW_CELL_PIECE_BYTES, the last one is shorter; an answer has the pieces from the asked byte on,
 * in order. Equal fingerprint, numerics (the head's) and packing mean equal bytes of a part; else it is FOREIGN.
 *
 *     status     what the asking worker does
 *     ────────   ──────────────────────────────────────────────────────────
 *     SERVED     all pieces were before it
 *     ABSENT     this part elsewhere
 *     STALE, FOREIGN, REFUSED (it gives none), BUSY (to GW_CELL_PEERS_MAX others)
 *                all parts elsewhere
 *
 * Owner: plain data. Thread: any. Units: bytes. Errors: GW_ERR_PROTO; *out is undefined then. Source: own design. */
#ifndef GW_MIGRATE_CELL_CODEC_H
#define GW_MIGRATE_CELL_CODEC_H

#include "migrate/page_codec.h"

#define GW_CELL_ASK_BYTES        32
#define GW_CELL_PIECE_HEAD_BYTES 16
#define GW_CELL_END_BYTES        4
#define GW_CELL_PIECE_BYTES      (1u << 20) /* as GW_PAGE_BATCH_BYTES; summed up while it is in L2 */

enum gw_cell_status {
    GW_CELL_SERVED,
    GW_CELL_ABSENT,
    GW_CELL_STALE,
    GW_CELL_FOREIGN,
    GW_CELL_REFUSED,
    GW_CELL_BUSY,
    GW_CELL_STATUSES
};

struct gw_cell_ask {
    uint64_t packing;
    uint32_t part;
    uint64_t bytes, from;
};

struct gw_cell_piece {
    uint64_t at, checksum;
};

/* The pieces of a part of so many bytes, and the bytes of the one that begins at `at`. */
static inline uint64_t gw_cell_pieces(uint64_t bytes)
{
    return (bytes + GW_CELL_PIECE_BYTES - 1) / GW_CELL_PIECE_BYTES;
}
static inline uint32_t gw_cell_piece_bytes(uint64_t bytes, uint64_t at)
{
    return bytes - at < GW_CELL_PIECE_BYTES ? (uint32_t)(bytes - at) : GW_CELL_PIECE_BYTES;
}

void gw_cell_ask_put(uint8_t out[GW_CELL_ASK_BYTES], const struct gw_cell_ask *ask);
gw_err_t gw_cell_ask_get(const uint8_t table[GW_CELL_ASK_BYTES], struct gw_cell_ask *out,
                         struct gw_err_ctx *ctx) GW_MUST_USE;

void gw_cell_piece_put(uint8_t out[GW_CELL_PIECE_HEAD_BYTES], const struct gw_cell_piece *piece);
struct gw_cell_piece gw_cell_piece_get(const uint8_t table[GW_CELL_PIECE_HEAD_BYTES]);

void gw_cell_end_put(uint8_t out[GW_CELL_END_BYTES], enum gw_cell_status status);
gw_err_t gw_cell_end_get(const uint8_t table[GW_CELL_END_BYTES], enum gw_cell_status *out,
                         struct gw_err_ctx *ctx) GW_MUST_USE;

#endif
