/* Child processes of `godwit up`: start, watch, end.
 *
 * Each child gets its own standard error (a log file), dies with its parent (PR_SET_PDEATHSIG), and keeps its signals to itself:
 * it is a process group of its own, so that ^C reaches `up` alone. All stay in one session: Linux deals processors out by session
 * (autogroup), so that a nice thread of one worker would not give way to another worker.
 *
 * Owner: caller memory. Thread: the main thread only (PDEATHSIG is tied to it).
 * Units: milliseconds. Errors: GW_ERR_IO. Source: own design. */
#ifndef GW_CONTROLLER_CLI_PROCS_H
#define GW_CONTROLLER_CLI_PROCS_H

#include <sys/types.h>

#include "base/err.h"

/* Starts argv[0] (a path) with argv (NULL-terminated). Standard error and output go to log_path (appended).
 */
gw_err_t gw_proc_start(char *const *argv, const char *log_path, pid_t *pid,
                       struct gw_err_ctx *ctx) GW_MUST_USE;

struct gw_proc_end {
    pid_t pid;
    int status;   /* of its exit; -1: a signal killed it */
    char how[32]; /* "exit status 3", "killed by signal 9" */
};

/* Takes one ended child without waiting; false if none. */
bool gw_proc_reap(struct gw_proc_end *end);

/* The directory of this program: out[PATH_MAX]. */
gw_err_t gw_proc_own_dir(char *out, struct gw_err_ctx *ctx) GW_MUST_USE;

/* The last line of a child's log: why it ended, most likely. "" if there is none. */
void gw_proc_last_line(const char *log_path, char *out, size_t size);

/* Sends SIGCONT and `signal` to each live pid (0 entries are skipped), waits at most grace_ms, then SIGKILLs
 * and reaps what is left. */
void gw_procs_end(pid_t *pids, size_t len, int signal, int grace_ms);

#endif
