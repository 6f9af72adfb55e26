#include "controller/cli/local_redis.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "controller/cli/procs.h"

#define UNIX_PATH_MAX_BYTES 107 /* of sockaddr_un, less its NUL */

static gw_err_t find_program(struct local_redis *r, struct gw_err_ctx *ctx)
{
    const char *at = getenv("PATH");
    while (at && *at) {
        size_t len = strcspn(at, ":");
        snprintf(r->program, sizeof r->program, "%.*s/redis-server", (int)len, at);
        if (len > 0 && access(r->program, X_OK) == 0) return GW_OK;
        at += len + (at[len] == ':');
    }
    return gw_fail(ctx, GW_ERR_NOT_FOUND,
                   "--redis: no redis-server is in $PATH (Debian, Ubuntu: apt install redis-server)");
}

static gw_err_t start(struct local_redis *r, struct gw_err_ctx *ctx)
{
    const char *const argv[] = {r->program,
                                "--port",
                                "0",
                                "--unixsocket",
                                r->socket,
                                "--unixsocketperm",
                                "700",
                                "--save",
                                "",
                                "--appendonly",
                                "no",
                                "--maxmemory",
                                LOCAL_REDIS_MEMORY,
                                "--maxmemory-policy",
                                "volatile-lru",
                                "--daemonize",
                                "no",
                                NULL};
    unlink(r->socket);
    r->start_us = 0;
    return gw_proc_start((char *const *)(uintptr_t)argv, r->log, &r->pid, ctx);
}

gw_err_t local_redis_start(struct local_redis *r, const char *dir, const char *log_dir,
                           struct gw_err_ctx *ctx)
{
    *r = (struct local_redis){0};
    int len = snprintf(r->socket, sizeof r->socket, "%s/%s", dir, LOCAL_REDIS_SOCKET);
    if (len > UNIX_PATH_MAX_BYTES)
        return gw_fail(ctx, GW_ERR_INPUT, "--redis: %s is too long for a socket: choose another $TMPDIR",
                       dir);
    snprintf(r->url, sizeof r->url, "redis+unix:%s", r->socket);
    snprintf(r->log, sizeof r->log, "%s/%s", log_dir, LOCAL_REDIS_LOG);
    TRY(find_program(r, ctx));
    return start(r, ctx);
}

bool local_redis_on_exit(struct local_redis *r, pid_t pid, int64_t now_us, int64_t wait_us)
{
    if (r->pid == 0 || pid != r->pid) return false;
    r->pid = 0;
    r->start_us = now_us + wait_us;
    return true;
}

gw_err_t local_redis_tend(struct local_redis *r, int64_t now_us, struct gw_err_ctx *ctx)
{
    return r->start_us > 0 && now_us >= r->start_us ? start(r, ctx) : GW_OK;
}
