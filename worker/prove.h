/* Proof: which instruction set gives a profile's bits on this very machine.
 *
 * A CPU may have an instruction that rounds unlike the one its profile was measured on. The digest shows it; then
 * the next instruction set serves, more slowly, and the worker is not refused by its controller.
 *
 * Owner: nothing kept. Thread: any one that computes nothing else; it has FTZ and DAZ on afterwards.
 * Units: bytes. Errors: GW_ERR_NOT_FOUND when no instruction set gives the bits, GW_ERR_MEMORY. Source: own design. */
#ifndef GW_WORKER_PROVE_H
#define GW_WORKER_PROVE_H

#include "base/log.h"
#include "kernels/op.h"
#include "migrate/wire.h"

/* The digest of profile as this machine computes it with isa. */
gw_err_t gw_prove_digest(const char *profile, enum gw_isa isa, uint8_t out[GW_DIGEST_BYTES],
                         struct gw_err_ctx *ctx) GW_MUST_USE;

/* wanted = GW_ISA_AUTO: the best instruction set whose digest is the profile's; each that is passed over is
 * logged. Any other: that one, unproven (the controller judges it). */
gw_err_t gw_prove_isa(const char *profile, enum gw_isa wanted, const struct gw_log *log, enum gw_isa *out,
                      struct gw_err_ctx *ctx) GW_MUST_USE;

#endif
