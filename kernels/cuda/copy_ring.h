/* Copy ring: ranges of device memory come to the host, and go there, through pinned buffers while operations go on.
 *
 *     out    compute stream  … step │ mark │ next step …
 *                                      └──► out stream: waits for the mark, copies into a buffer of the ring
 *            look: is it there? then the caller reads the buffer, and releases it
 *     in     the caller's bytes ──► a buffer ──► in stream; returns when they are on the device: operations that are asked for
 *            from then on may read them
 *
 *     state      of a buffer                              next
 *     ────────   ──────────────────────────────────────   ──────────────────────────────────────────────────────
 *     FREE       nobody's                                 out, in: BUSY; none is free: out says so, in waits
 *     BUSY       a copy is under way                      done or failed: the caller's; not by the deadline: the ring is left
 *     left       the device may still use any of them     all that is asked for fails; nothing is ever given back
 *
 * A mark stands for the operations asked for before it. There are GW_COPY_MARKS of them, used in turn: a copy behind a mark that has been
 * used again waits for more than it needs to, never for less. A copy out that fails harms nobody: its bytes are not there. One that
 * goes in and may still be under way could overwrite what is put there next, so the device must end (gw_device_backend.leave).
 *
 * Owner: gw_copy_ring_destroy frees, after waiting for what is under way; the device outlives it. Thread: mark that of the operations,
 * out, look and release one other, in any. Units: bytes, microseconds. Errors: GW_ERR_LIMIT (no buffer is free), GW_ERR_CUDA,
 * GW_ERR_MEMORY. Source: own design; DESIGN part 6. */
#ifndef GW_KERNELS_CUDA_COPY_RING_H
#define GW_KERNELS_CUDA_COPY_RING_H

#include "kernels/cuda/stream.h"
#include "kernels/device_backend.h"

#define GW_COPY_BUFFERS 4  /* each way: one is copied, one is read, and two for whoever is late */
#define GW_COPY_MARKS   16 /* steps that seal before the first of their pages is under way */

struct gw_copy_ring;

enum gw_copy_state { GW_COPY_BUSY, GW_COPY_DONE, GW_COPY_FAILED };

struct gw_copy_ring_config {
    struct gw_copy_lane lane;
    struct gw_device *device; /* who is told when the ring is left; NULL: nobody */
    size_t bytes;             /* the most of one copy */
};

gw_err_t gw_copy_ring_create(const struct gw_copy_ring_config *config, struct gw_copy_ring **out,
                             struct gw_err_ctx *ctx) GW_MUST_USE;
/* Of a device with memory of its own; a CPU's *out is NULL. */
gw_err_t gw_copy_ring_open(struct gw_device *dev, size_t bytes, struct gw_copy_ring **out,
                           struct gw_err_ctx *ctx) GW_MUST_USE;
void gw_copy_ring_destroy(struct gw_copy_ring *ring);

gw_err_t gw_copy_ring_mark(struct gw_copy_ring *ring, uint32_t *mark, struct gw_err_ctx *ctx) GW_MUST_USE;

/* Begins a copy of [bytes] at `device` into *buffer, behind a mark. */
gw_err_t gw_copy_ring_out(struct gw_copy_ring *ring, uint32_t mark, const void *device, size_t bytes,
                          uint32_t *buffer, struct gw_err_ctx *ctx) GW_MUST_USE;
enum gw_copy_state gw_copy_ring_look(struct gw_copy_ring *ring, uint32_t buffer);
/* Of a copy that is done, until it is released. */
const uint8_t *gw_copy_ring_bytes(const struct gw_copy_ring *ring, uint32_t buffer);
/* Of one that is done or failed. */
void gw_copy_ring_release(struct gw_copy_ring *ring, uint32_t buffer);

/* Copies [bytes] at `host` to `device`, which no operation under way uses. On error the device has not got them. */
gw_err_t gw_copy_ring_in(struct gw_copy_ring *ring, void *device, const void *host, size_t bytes,
                         struct gw_err_ctx *ctx) GW_MUST_USE;

#endif
