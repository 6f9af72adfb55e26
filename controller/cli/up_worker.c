#include "controller/cli/up_worker.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/numa.h"
#include "controller/cli/procs.h"

#define PATH_BYTES (PATH_MAX + 64)
#define ARGS_MAX   44

/* Several workers share this machine's memory nodes evenly. */
static int numa_node_of(const struct up_options *o, size_t index)
{
    uint32_t nodes[GW_NUMA_NODES_MAX], len = gw_numa_nodes(GW_NUMA_SYSFS, nodes);
    if (len < 2 || o->workers < 2 || strcmp(o->device, "cpu") != 0) return -1;
    return (int)nodes[index % len];
}

/* What is passed on only where it was asked for. */
static void add_flag(char *argv[ARGS_MAX], const char *name, const char *value)
{
    size_t len = 0;
    if (!value) return;
    while (argv[len]) len++;
    argv[len++] = (char *)name;
    argv[len] = (char *)value;
}

gw_err_t up_worker_start(const struct up_workers *all, size_t index, struct fleet_worker *w,
                         struct gw_err_ctx *ctx)
{
    const struct up_options *o = all->o;
    char program[PATH_BYTES], key[PATH_BYTES], log[PATH_BYTES];
    char endpoint[96], instance[FLEET_ID_MAX + 16], threads[16], grace[32], kv_tokens[24], memory[24];
    char numa[16];
    snprintf(program, sizeof program, "%s/godwit-worker", all->bin_dir);
    snprintf(key, sizeof key, "%s/cluster-key", all->dir);
    snprintf(log, sizeof log, "%s/%s.log", all->log_dir, w->id);
    snprintf(endpoint, sizeof endpoint, "127.0.0.1:%d", all->port);
    snprintf(instance, sizeof instance, "i-%s-%d", w->id, ++w->starts);
    snprintf(threads, sizeof threads, "%lld", (long long)o->threads);
    snprintf(numa, sizeof numa, "%d", numa_node_of(o, index));
    snprintf(grace, sizeof grace, "%g", o->term_grace_s);
    snprintf(kv_tokens, sizeof kv_tokens, "%lld", (long long)o->kv_tokens);
    snprintf(memory, sizeof memory, "%lld", (long long)o->memory_limit);
    char *argv[ARGS_MAX] = {program,
                            "--model",
                            (char *)o->model,
                            "--controller",
                            o->worker_connect ? (char *)o->worker_connect : endpoint,
                            "--worker-id",
                            w->id,
                            "--instance-id",
                            instance,
                            "--cluster-key-file",
                            key,
                            "--threads",
                            threads,
                            "--numa-node",
                            numa,
                            "--store",
                            (char *)all->store,
                            "--term-grace-s",
                            grace,
                            "--device",
                            (char *)o->device,
                            "--isa",
                            (char *)o->isa,
                            "--kv-tokens",
                            kv_tokens,
                            "--memory-limit",
                            memory,
                            "--kv-restore",
                            (char *)o->kv_restore,
                            "--weights",
                            (char *)o->weights,
                            "--kv",
                            (char *)o->kv,
                            "--weights-from",
                            (char *)o->weights_from,
                            NULL};
    add_flag(argv, "--profile", o->profile);
    add_flag(argv, "--cuda-graphs", o->cuda_graphs);
    return gw_proc_start(argv, log, &w->pid, ctx);
}
