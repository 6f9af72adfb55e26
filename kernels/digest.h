/* Digest of a profile on this machine: SHA-256 over the output bits of every operation on directed vectors
 * (denormals, ties, cancellation, large and small, all tile edges) and of a miniature forward pass.
 *
 * Two machines may serve one request iff they have the same (profile, digest). The expected digests are
 * constants (migrate/profile.h); a worker whose digest differs is refused by the controller.
 *
 * Owner: nothing kept. Thread: the device's. Units: bytes. Errors: GW_ERR_MEMORY; the device's. Source: own design. */
#ifndef GW_KERNELS_DIGEST_H
#define GW_KERNELS_DIGEST_H

#include "kernels/op.h"

gw_err_t gw_ops_digest(const struct gw_ops *ops, struct gw_device *dev, uint8_t out[32]) GW_MUST_USE;

#endif
