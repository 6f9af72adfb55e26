/* Thread: starts one to which no signal is delivered (signals belong to the program's main thread), names one, and says how it
 * shares processors with others.
 *
 * Owner: the caller joins it. Thread: any. Units: bytes. Errors: GW_ERR_LIMIT when the system has no thread. Source: own
 * design. */
#ifndef GW_BASE_THREAD_H
#define GW_BASE_THREAD_H

#include <pthread.h>

#include "base/err.h"

/* stack_bytes 0: the system's default. */
gw_err_t gw_thread_start(pthread_t *thread, size_t stack_bytes, void *(*body)(void *arg), void *arg,
                         struct gw_err_ctx *ctx) GW_MUST_USE;

/* What `top -H` and /proc call the calling thread: at most 15 characters, "gw-" first. */
void gw_thread_name(const char *name);

/* The calling thread gives way to those that are less nice. There is no way back without privileges. */
void gw_thread_be_nice(int nice);

/* The calling thread, and those that it starts, have short turns and get them soon: for what passes messages on between those who
 * compute. On two cores with four workers and 96 streams a controller waited 5 to 100 ms for a turn (/proc/PID/schedstat), and less than one so. Linux 6.12 and newer (EEVDF's
 * slices, sched_setattr(2)); nothing elsewhere. */
void gw_thread_be_quick(void);

#endif
