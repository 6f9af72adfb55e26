/* Probe: what this machine is, as far as a planner wants to know.
 *
 * Owner: plain values. Thread: any; rates from the one that runs the device's operations, while nothing else runs on it
 * (the engine does not serve yet). Units: bytes per second, FLOP per second. Errors: GW_ERR_IO, GW_ERR_MEMORY,
 * GW_ERR_LIMIT; on error *out is unchanged. Source: own design. */
#ifndef GW_WORKER_PROBE_H
#define GW_WORKER_PROBE_H

#include <sys/socket.h>

#include "kernels/op.h"
#include "migrate/wire.h"

struct gw_probe_rates {
    uint64_t bytes_s; /* weights read by a product of one row */
    uint64_t flop_s;  /* of a product of 256 rows */
};

/* Runs products on the device for about 100 ms in all, with 70 MB of memory that it frees again; rounded to one
 * significant digit and a half (1, 1.5, 2, 3, 5, 7) so that equal machines say equal numbers. */
gw_err_t gw_probe_rates(const struct gw_ops *ops, struct gw_device *device, struct gw_probe_rates *out,
                        struct gw_err_ctx *ctx) GW_MUST_USE;

/* Equal for processes that can share memory: same boot of the same kernel, same user, same /dev/shm, pid and user
 * namespace. What cannot be read makes it unequal to any other's, and to its own next one: ask once. */
void gw_probe_machine(uint8_t out[GW_MACHINE_BYTES]);

/* The numeric address of this machine's end of a connection to peer (no packet is sent): what other machines find this
 * one under, where the controller's network is the workers' too. */
gw_err_t gw_probe_local_address(const struct sockaddr_storage *peer, socklen_t peer_len, char *out,
                                size_t out_bytes, struct gw_err_ctx *ctx) GW_MUST_USE;

#endif
