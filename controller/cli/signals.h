/* Signals as something to wait for beside keys: no handlers, no globals.
 *
 * Owner: signals_open/signals_close. Thread: main, before any other thread starts. Units: milliseconds.
 * Errors: GW_ERR_IO. Source: signalfd(2). */
#ifndef GW_CONTROLLER_CLI_SIGNALS_H
#define GW_CONTROLLER_CLI_SIGNALS_H

#include <stdint.h>

#include "base/err.h"

/* Takes SIGINT, SIGTERM, SIGHUP and SIGWINCH from now on; *fd for signals_wait. */
gw_err_t signals_open(int *fd, struct gw_err_ctx *ctx) GW_MUST_USE;
void signals_close(int fd);

/* Waits at most wait_ms for a signal (its number) or for input on key_fd (0; -1: none is looked at). -1: time is up. */
int signals_wait(int fd, int key_fd, int64_t wait_ms);

#endif
