/* Device memory: where operations find what they read and write, and how it gets there and back.
 *
 *     a device          memory         put, get        move, fill        finish
 *     ───────────────   ────────────   ─────────────   ───────────────   ─────────────────────────────────────────────
 *     CPU               the host's     nothing         memmove, memset   nothing
 *     with its own      two places     copies          on its stream     waits for the stream; the first error since
 *                                                                        the device was made
 *
 * What an operation is given lies on the device, but for what kernels/op.h calls the host's. The host looks at its own side
 * only. On the CPU both sides are one: the same address, so that nothing is copied.
 *
 *     kind       the host's side                                             of
 *     DEVICE     none                                                        activations
 *     MIRRORED   as large; memory is there as far as it was written          weights, KV pages: what other machines get
 *     PINNED     as large, page-locked: copies go straight there             logits, what ranks send each other
 *
 * An operation has no result that could say that the device failed. The device keeps its first error; after it operations and
 * copies do nothing, but that get fills the host's memory with zeros, so that nobody follows indices that nobody wrote.
 *
 * Owner: gw_memory_free frees; the device must outlive its memory. Thread: alloc, free, put_now: any; the rest the thread of the
 * operations, and in their order. put_now is done when it returns, in no order with operations: nobody else uses that memory.
 * Units: bytes. Errors: GW_ERR_MEMORY with how much was asked for, GW_ERR_CUDA; on error *out is unchanged. A device of NULL is
 * the CPU. Source: own design. */
#ifndef GW_KERNELS_DEVICE_MEMORY_H
#define GW_KERNELS_DEVICE_MEMORY_H

#include "kernels/op.h"

enum gw_memory_kind { GW_MEMORY_DEVICE, GW_MEMORY_MIRRORED, GW_MEMORY_PINNED };

struct gw_memory {
    struct gw_device *owner;
    enum gw_memory_kind kind;
    void *device,
        *host; /* host: NULL where there is no such side; zeros at first, which the device's side need not be */
    size_t bytes; /* 0: nothing is here */
};

gw_err_t gw_memory_alloc(struct gw_device *dev, size_t bytes, enum gw_memory_kind kind, struct gw_memory *out,
                         struct gw_err_ctx *ctx) GW_MUST_USE;
void gw_memory_free(struct gw_memory *m);

/* The other side of an address. */
static inline void *gw_memory_host(const struct gw_memory *m, const void *device)
{
    return (uint8_t *)m->host + ((const uint8_t *)device - (uint8_t *)m->device);
}
static inline void *gw_memory_device(const struct gw_memory *m, const void *host)
{
    return (uint8_t *)m->device + ((const uint8_t *)host - (uint8_t *)m->host);
}

/* From the host; it may be changed at once. */
void gw_memory_put(struct gw_device *dev, void *device, const void *host, size_t bytes);
void gw_memory_put_now(struct gw_device *dev, void *device, const void *host, size_t bytes);
/* To the host; waits until it is there. */
void gw_memory_get(struct gw_device *dev, void *host, const void *device, size_t bytes);
/* On the device; move: not overlapping. */
void gw_memory_move(struct gw_device *dev, void *to, const void *from, size_t bytes);
void gw_memory_fill(struct gw_device *dev, void *device, uint8_t byte, size_t bytes);

/* Is its memory the host's? */
bool gw_device_is_host(const struct gw_device *dev);
/* This machine's processors, for what the host computes itself: collectives; of a CPU itself. */
struct gw_device *gw_device_host(struct gw_device *dev);

/* Ends a step: all operations so far are done, or one has failed. What operations were told of sequences (gw_seq_rows) may
 * change only after it. */
gw_err_t gw_device_finish(struct gw_device *dev, struct gw_err_ctx *ctx) GW_MUST_USE;

#endif
