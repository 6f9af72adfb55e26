/* NUMA nodes of this machine, as Linux describes them, and keeping a process on one of them.
 *
 * The kernel gives memory of the node on which a thread first touches it. So a process whose threads all run on one node
 * has its weights and pages there, and reads them without crossing the link between the nodes; several such processes are
 * the ranks of a pipeline.
 *
 * Owner: nothing is kept. Thread: start-up, before other threads are made (they inherit). Units: bytes. Errors: GW_ERR_INPUT
 * with a text that says what there is, GW_ERR_IO. Source: Documentation/ABI/stable/sysfs-devices-node of Linux. */
#ifndef GW_BASE_NUMA_H
#define GW_BASE_NUMA_H

#include <stdint.h>

#include "base/err.h"

#define GW_NUMA_SYSFS     "/sys/devices/system/node"
#define GW_NUMA_NODES_MAX 64

/* The nodes that have both cores and memory, ascending; returns how many, 0 where the kernel does not say. */
uint32_t gw_numa_nodes(const char *sysfs, uint32_t out[GW_NUMA_NODES_MAX]);

/* This thread, and those that it makes, run on the node's cores from now on, as far as they could before. */
gw_err_t gw_numa_bind(const char *sysfs, uint32_t node, struct gw_err_ctx *ctx) GW_MUST_USE;

/* The node's memory; 0: unknown. */
uint64_t gw_numa_memory_bytes(const char *sysfs, uint32_t node);

#endif
