/* What goes to one rank: one frame straight from the caller's memory, behind a backlog of copied bytes.
 *
 * gw_coll_out_begin names a frame's payload in pieces; gw_coll_out_write hands the socket as much as it takes, without
 * waiting. What it does not take is written by later calls, or copied to the backlog so that the caller's memory is free.
 *
 * Owner: gw_coll_out_fini frees the backlog; the pieces are the caller's, unchanged until they are written or copied.
 * Thread: one. Units: bytes. Errors: GW_ERR_IO (the socket), GW_ERR_LIMIT, GW_ERR_MEMORY. Source: own design. */
#ifndef GW_KERNELS_CPU_COLL_OUT_H
#define GW_KERNELS_CPU_COLL_OUT_H

#include <sys/uio.h>

#include "kernels/cpu/coll_frame.h"
#include "kernels/share_tree.h"

#define GW_COLL_PIECES_MAX GW_SHARE_ROOTS_MAX
/* Copied and not yet written to one rank; a sender that would have more waits for its reader. Two micro-batches of 512 rows
 * of 8192 f32. */
#define GW_COLL_BACKLOG_MAX ((size_t)32 << 20)

struct gw_coll_out {
    uint8_t *backlog;
    size_t at, len, cap; /* backlog[at, len) is to be written first */
    uint8_t head[GW_COLL_HEAD_BYTES];
    struct iovec
        pieces[1 + GW_COLL_PIECES_MAX]; /* head and payload of the frame; written ones are stepped over */
    uint32_t piece, pieces_len;         /* equal: none is there */
};

void gw_coll_out_fini(struct gw_coll_out *out);

/* The frame before must be written or copied. head->bytes = the sum of the pieces. */
void gw_coll_out_begin(struct gw_coll_out *out, const struct gw_coll_fence *fence,
                       const struct gw_coll_head *head, const struct iovec *pieces, uint32_t pieces_len);

/* Bytes of the caller's memory, or any bytes, that are to be written. */
bool gw_coll_out_refers(const struct gw_coll_out *out);
bool gw_coll_out_pending(const struct gw_coll_out *out);

/* Writes what the socket takes at once: *wrote bytes, 0 if it takes none. */
gw_err_t gw_coll_out_write(struct gw_coll_out *out, struct gw_socket *socket, size_t *wrote,
                           struct gw_err_ctx *ctx) GW_MUST_USE;

/* Copies what is left of the frame to the backlog. GW_ERR_LIMIT: there is no room, nothing has changed. */
gw_err_t gw_coll_out_copy(struct gw_coll_out *out) GW_MUST_USE;

#endif
