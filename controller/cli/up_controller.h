/* The controller of `godwit up`: how it is started, and that it is started again when it was killed.
 *
 * Its journal lies in up's private directory, so that streams that opted in go on; it comes back on the ports that it had.
 * One that ends by itself (wrong flags, a port in use) is not started again: up gives up with its last line.
 *
 * Owner: caller memory; strings are borrowed for its life. Thread: main thread. Units: microseconds.
 * Errors: GW_ERR_IO. Source: own design. */
#ifndef GW_CONTROLLER_CLI_UP_CONTROLLER_H
#define GW_CONTROLLER_CLI_UP_CONTROLLER_H

#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

struct up_controller {
    const char *bin_dir; /* where our sibling programs are */
    const char *dir;     /* up's own: cluster key, ready file, journal */
    const char *log_path;
    const char *model, *weights, *kv, *host, *layout, *api_keys; /* api_keys: NULL = none */
    const char *const *more;                                     /* flags, NULL ends; NULL: none */
    int64_t port, admin_port, worker_port; /* 0 = any free one; the caller fills in what they have become */
    pid_t pid;                             /* 0: it does not run */
    int deaths;                            /* in a row, soon after a start */
    int64_t started_us;
};

gw_err_t up_controller_start(struct up_controller *c, struct gw_err_ctx *ctx) GW_MUST_USE;

/* It has ended. killed: by a signal. True: it is to be started again. */
bool up_controller_on_exit(struct up_controller *c, bool killed);

/* Removes its journal. */
void up_controller_clean(const struct up_controller *c);

#endif
