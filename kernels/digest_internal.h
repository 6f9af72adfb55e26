/* Inside the digest: its state, its memory and its values; used by the two files that feed it.
 *
 * Values come from a generator with a fixed seed and a list of special ones; they are exact in every
 * activation type. Memory is one arena, emptied between sections. */
#ifndef GW_KERNELS_DIGEST_INTERNAL_H
#define GW_KERNELS_DIGEST_INTERNAL_H

#include "base/hash.h"
#include "base/rng.h"
#include "kernels/device_memory.h"

struct gw_digest {
    const struct gw_ops *ops;
    struct gw_device *dev;
    struct gw_sha256 *sha;
    struct gw_rng rng;
    struct gw_memory arena;
    size_t used;
};

/* 64-byte aligned, the device's, valid until gw_digest_reset. The arena is large enough for every section (asserted). */
void *gw_digest_take(struct gw_digest *d, size_t bytes);
void gw_digest_reset(struct gw_digest *d);
/* The host's side of what was taken; what the host wrote there goes to the device, what the device wrote comes from it. */
void *gw_digest_host(const struct gw_digest *d, const void *taken);
void gw_digest_put(struct gw_digest *d, void *taken, size_t bytes);
const void *gw_digest_get(struct gw_digest *d, const void *taken, size_t bytes);

/* Takes len values; directed: with denormals, ties, zeros, large and small ones among them. As `type` (f32 or
 * bf16). */
void *gw_digest_values(struct gw_digest *d, enum gw_dtype type, size_t len, bool directed);

/* Takes and packs a weight [n, k] of such values. */
struct gw_weight gw_digest_weight(struct gw_digest *d, uint32_t n, uint32_t k, bool directed);

/* Of what was taken, as operations left it; of the host's memory. */
void gw_digest_absorb(struct gw_digest *d, const void *taken, size_t len);
void gw_digest_absorb_host(struct gw_digest *d, const void *bytes, size_t len);

/* A decoder of two layers, prefilled in chunks across the attention chunk of 256, then decoded. */
void gw_digest_forward_pass(struct gw_digest *d);

#endif
