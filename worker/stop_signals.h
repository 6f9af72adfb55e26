/* Stop signals: SIGTERM and SIGINT, heard by a thread of their own, for a loop that looks once per turn.
 *
 *     first SIGTERM              → GW_STOP_GRACEFUL: announce it, move the work away, end
 *     second SIGTERM, or SIGINT  → GW_STOP_NOW; and should the process not have ended GW_STOP_NOW_MS later (a
 * step of a large model takes that long), it is ended from here
 *
 * Owner: lives until the process ends. Thread: start before any other thread is created, so that all of them
 * inherit the mask; level may be asked anywhere. Units: milliseconds. Errors: GW_ERR_IO, GW_ERR_MEMORY.
 * Source: own design. */
#ifndef GW_WORKER_STOP_SIGNALS_H
#define GW_WORKER_STOP_SIGNALS_H

#include "base/err.h"

#define GW_STOP_NOW_MS     2000
#define GW_STOP_NOW_STATUS 130 /* as a shell reports SIGINT */

enum gw_stop { GW_STOP_NONE, GW_STOP_GRACEFUL, GW_STOP_NOW };

struct gw_stop_signals;

gw_err_t gw_stop_signals_start(const struct gw_stop_signals **out, struct gw_err_ctx *ctx) GW_MUST_USE;

/* Only grows. */
enum gw_stop gw_stop_level(const struct gw_stop_signals *s);

#endif
