/* Collectives over device memory through the host: between instances, and for ranks that share a GPU.
 *
 *     device ── copy ──► pinned memory ── DATA frames of kernels/coll.h ──► pinned memory ── copy ──► device
 *
 * A sum sends the roots of this rank's shares to each rank of its stage and receives theirs; the additions are the device's,
 * as with every carrier (coll_device.h). Other bytes travel in pieces of GW_COLL_STAGED_PIECE, the next being copied while
 * one is sent. The frames bring fence, step and length, so every error of coll.h is found where coll.h finds it: by the call
 * itself, not by finish. Calls return when the bytes have been handed over; residual and received data are there when the
 * stream has come so far.
 *
 *     what happens                                what this rank does
 *     ─────────────────────────────────────────   ──────────────────────────────────────────────────────────────────
 *     a peer closes, is slow, is elsewhere        coll.h's error, from the call that waits for it
 *     the stream does not end a copy for          GW_ERR_IO "the device is slow"; copies under way keep the pinned
 *     deadline_us                                 memory: destroy waits for them, and leaves it if they do not end
 *     the device fails                            GW_ERR_CUDA
 *     gw_coll_device_abort                        GW_ERR_IO "aborted", in a wait for the device as in one for a peer
 *
 * In every case the collectives under it are aborted, too: their sockets tell the others when their owner closes them. If
 * nothing has failed, destroy first waits until the sockets have taken what was sent (gw_coll_flush).
 *
 * Owner: as coll_device.h's; coll is borrowed until destroy, and the caller's again for GW_COLL_CONTROL frames at any time.
 * Thread: as coll.h's and coll_device.h's, the same for both. Units: bytes. Errors: as above. Source: own design. */
#ifndef GW_KERNELS_CUDA_COLL_STAGED_H
#define GW_KERNELS_CUDA_COLL_STAGED_H

#include "kernels/cuda/coll_device.h"

/* 40 us of a PCIe 4.0 x16 link: what the first copy of a transfer cannot hide. */
#define GW_COLL_STAGED_PIECE ((size_t)1 << 20)

struct gw_coll_staged_config {
    struct gw_coll_device_config group; /* of the same ranks as coll */
    struct gw_coll *coll;
};

/* On error *out is unchanged. */
gw_err_t gw_coll_staged_create(const struct gw_coll_staged_config *config, struct gw_coll_device **out,
                               struct gw_err_ctx *ctx) GW_MUST_USE;

#endif
