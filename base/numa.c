#include "base/numa.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINE_BYTES 4096
#define PATH_BYTES 512

/* The first line of a file that has `with` in it; "" if there is none. */
static void read_line(const char *path, const char *with, char out[LINE_BYTES])
{
    FILE *f = fopen(path, "re");
    bool found = false;
    while (f && !found && fgets(out, LINE_BYTES, f)) found = strstr(out, with) != NULL;
    if (!found) out[0] = '\0';
    if (f) fclose(f);
}

/* A list of the kernel's: "0-3,8,10-11". Numbers beyond CPU_SETSIZE are left out. */
static void read_list(const char *path, cpu_set_t *out)
{
    char line[LINE_BYTES];
    read_line(path, "", line);
    CPU_ZERO(out);
    for (char *at = line, *end; *at >= '0' && *at <= '9'; at = *end == ',' ? end + 1 : end) {
        unsigned long first = strtoul(at, &end, 10), last = *end == '-' ? strtoul(end + 1, &end, 10) : first;
        for (unsigned long i = first; i <= last && i < CPU_SETSIZE; i++) CPU_SET(i, out);
    }
}

uint32_t gw_numa_nodes(const char *sysfs, uint32_t out[GW_NUMA_NODES_MAX])
{
    char path[PATH_BYTES];
    cpu_set_t cores, memory;
    uint32_t len = 0;
    snprintf(path, sizeof path, "%s/has_cpu", sysfs);
    read_list(path, &cores);
    snprintf(path, sizeof path, "%s/has_memory", sysfs);
    read_list(path, &memory);
    for (uint32_t i = 0; i < CPU_SETSIZE && len < GW_NUMA_NODES_MAX; i++)
        if (CPU_ISSET(i, &cores) && CPU_ISSET(i, &memory)) out[len++] = i;
    return len;
}

static gw_err_t no_such_node(const char *sysfs, uint32_t node, struct gw_err_ctx *ctx)
{
    uint32_t nodes[GW_NUMA_NODES_MAX], len = gw_numa_nodes(sysfs, nodes);
    char list[LINE_BYTES] = "";
    size_t at = 0;
    for (uint32_t i = 0; i < len; i++)
        at += (size_t)snprintf(list + at, sizeof list - at, "%s%u", i ? ", " : "", nodes[i]);
    if (len == 0) return gw_fail(ctx, GW_ERR_INPUT, "this kernel names no NUMA nodes");
    return gw_fail(ctx, GW_ERR_INPUT, "there is no NUMA node %u with cores; there is %s", node, list);
}

gw_err_t gw_numa_bind(const char *sysfs, uint32_t node, struct gw_err_ctx *ctx)
{
    char path[PATH_BYTES];
    cpu_set_t of_node, allowed, both;
    snprintf(path, sizeof path, "%s/node%u/cpulist", sysfs, node);
    read_list(path, &of_node);
    if (CPU_COUNT(&of_node) == 0) return no_such_node(sysfs, node, ctx);
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0)
        return gw_fail(ctx, GW_ERR_IO, "read the affinity mask");
    CPU_AND(&both, &of_node, &allowed);
    if (CPU_COUNT(&both) == 0)
        return gw_fail(ctx, GW_ERR_INPUT, "this process may use none of the cores of NUMA node %u", node);
    if (sched_setaffinity(0, sizeof both, &both) != 0)
        return gw_fail(ctx, GW_ERR_IO, "stay on the cores of NUMA node %u", node);
    return GW_OK;
}

uint64_t gw_numa_memory_bytes(const char *sysfs, uint32_t node)
{
    char path[PATH_BYTES], line[LINE_BYTES];
    unsigned long long kib = 0;
    snprintf(path, sizeof path, "%s/node%u/meminfo", sysfs, node);
    read_line(path, "MemTotal:", line);
    const char *at = strstr(line, "MemTotal:");
    return at && sscanf(at, "MemTotal: %llu kB", &kib) == 1 ? (uint64_t)kib * 1024 : 0;
}
