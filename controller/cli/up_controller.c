#include "controller/cli/up_controller.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "controller/cli/procs.h"

#define PATH_BYTES (PATH_MAX + 64)
#define ARGS_MAX   64
#define SOON_US    (5 * GW_US_PER_S)
#define DEATHS_MAX 5 /* so often in a row it is killed soon after its start: that is no accident */

static void journal_path(const struct up_controller *c, char path[PATH_BYTES])
{
    snprintf(path, PATH_BYTES, "%s/journal", c->dir);
}

gw_err_t up_controller_start(struct up_controller *c, struct gw_err_ctx *ctx)
{
    char program[PATH_BYTES], key[PATH_BYTES], ready[PATH_BYTES], journal[PATH_BYTES];
    char port[24], admin[48], worker[48];
    snprintf(program, sizeof program, "%s/godwit-controller", c->bin_dir);
    snprintf(key, sizeof key, "%s/cluster-key", c->dir);
    snprintf(ready, sizeof ready, "%s/ready.json", c->dir);
    journal_path(c, journal);
    snprintf(port, sizeof port, "%lld", (long long)c->port);
    snprintf(admin, sizeof admin, "127.0.0.1:%lld", (long long)c->admin_port);
    snprintf(worker, sizeof worker, "127.0.0.1:%lld", (long long)c->worker_port);
    char *argv[ARGS_MAX] = {program,
                            "--model",
                            (char *)c->model,
                            "--weights",
                            (char *)c->weights,
                            "--kv",
                            (char *)c->kv,
                            "--host",
                            (char *)c->host,
                            "--port",
                            port,
                            "--admin-listen",
                            admin,
                            "--worker-listen",
                            worker,
                            "--cluster-key-file",
                            key,
                            "--ready-file",
                            ready,
                            "--journal",
                            journal,
                            "--layout",
                            (char *)c->layout,
                            "--stop-grace-s",
                            "0"};
    size_t len = 0;
    while (argv[len]) len++;
    if (c->api_keys) argv[len++] = "--api-keys";
    if (c->api_keys) argv[len++] = (char *)c->api_keys;
    for (const char *const *more = c->more; more && *more && len < ARGS_MAX - 1; more++)
        argv[len++] = (char *)*more;
    c->started_us = gw_clock_mono_us();
    return gw_proc_start(argv, c->log_path, &c->pid, ctx);
}

bool up_controller_on_exit(struct up_controller *c, bool killed)
{
    bool soon = gw_clock_mono_us() - c->started_us < SOON_US;
    c->pid = 0;
    c->deaths = soon ? c->deaths + 1 : 1;
    return killed && c->deaths < DEATHS_MAX;
}

void up_controller_clean(const struct up_controller *c)
{
    char path[PATH_BYTES], file[PATH_BYTES + NAME_MAX + 1];
    journal_path(c, path);
    DIR *dir = opendir(path);
    if (!dir) return;
    for (struct dirent *e; (e = readdir(dir));) {
        snprintf(file, sizeof file, "%s/%s", path, e->d_name);
        if (e->d_name[0] != '.') unlink(file);
    }
    closedir(dir);
    rmdir(path);
}
