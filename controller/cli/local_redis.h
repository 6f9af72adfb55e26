/* Local Redis: the redis-server that `godwit up --redis` runs as the cluster's store of KV pages, and runs again when it ends.
 *
 * It listens on a unix socket in the caller's private directory alone, keeps everything in memory, and drops what was not
 * used for longest when it is full: pages are a cache. A new one begins empty.
 *
 * Owner: caller memory; the process is ended by gw_procs_end(&r->pid, 1, …). Thread: one. Units: microseconds.
 * Errors: GW_ERR_NOT_FOUND where no redis-server is installed; GW_ERR_INPUT for a directory whose name is too long for a
 * socket's; those of gw_proc_start. Source: own design; redis.conf of Redis 7. */
#ifndef GW_CONTROLLER_CLI_LOCAL_REDIS_H
#define GW_CONTROLLER_CLI_LOCAL_REDIS_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

#define LOCAL_REDIS_MEMORY "2gb"
#define LOCAL_REDIS_SOCKET "redis.sock"
#define LOCAL_REDIS_LOG    "redis.log"

struct local_redis {
    char program[PATH_MAX], socket[128], url[160], log[PATH_MAX + 64]; /* url: as workers want it */
    pid_t pid;                                                         /* 0: none */
    int64_t start_us;
};

/* Finds it in $PATH, and starts it. */
gw_err_t local_redis_start(struct local_redis *r, const char *dir, const char *log_dir,
                           struct gw_err_ctx *ctx) GW_MUST_USE;
/* A child has ended: was it this one? It is due again after wait_us. */
bool local_redis_on_exit(struct local_redis *r, pid_t pid, int64_t now_us, int64_t wait_us);
/* Starts it again when that is due. */
gw_err_t local_redis_tend(struct local_redis *r, int64_t now_us, struct gw_err_ctx *ctx) GW_MUST_USE;

#endif
