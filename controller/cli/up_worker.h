/* A worker of `godwit up`: how it is started, and what its end says.
 *
 * Owner: caller memory; strings are borrowed during the call. Thread: main thread. Units: in the names of the flags.
 * Errors: GW_ERR_IO. Source: own design. */
#ifndef GW_CONTROLLER_CLI_UP_WORKER_H
#define GW_CONTROLLER_CLI_UP_WORKER_H

#include "controller/cli/fleet.h"
#include "controller/cli/up_options.h"

#define UP_WORKER_NO_DEVICE                                                                                  \
    20 /* exit status (godwit-worker --help): --device cannot be used here, with another try neither */

/* What all of them have in common. */
struct up_workers {
    const struct up_options *o;
    const char *bin_dir; /* where our sibling programs are */
    const char *dir;     /* up's own: cluster key */
    const char *log_dir;
    const char *store; /* what they are told */
    int port;          /* the controller's, for workers */
};

/* Of several, by their index, each gets a memory node by turns. w: its id; its pid and starts are set. */
gw_err_t up_worker_start(const struct up_workers *all, size_t index, struct fleet_worker *w,
                         struct gw_err_ctx *ctx) GW_MUST_USE;

#endif
