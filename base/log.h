/* Log: one line per event, to a file descriptor.
 *
 *     2026-11-20T21:14:03.123Z info  core     request=r-17 gen=3 resubmitted to worker 2 at 41
 *
 * A logger is a value passed down, so that tests and the simulator catch what is said. Lines never hold
 * prompt text, generated text or secrets: ids, counts and states only. Each line about a request carries
 * its id; each line about a worker its id and generation.
 *
 * Owner: caller memory; nothing to free. Thread: safe (one write(2) per line). Errors: a line that cannot be
 * written is lost, on purpose. Units: wall clock in UTC, milliseconds. Source: own design. */
#ifndef GW_BASE_LOG_H
#define GW_BASE_LOG_H

enum gw_log_level { GW_LOG_DEBUG, GW_LOG_INFO, GW_LOG_WARN, GW_LOG_ERROR, GW_LOG_NONE };

struct gw_log {
    int fd;                  /* where lines go; -1 = nowhere */
    enum gw_log_level level; /* lines below it are dropped */
    const char *program;     /* "controller", "worker w3": shown in each line; must outlive the logger */
};

#define GW_LOG_LINE_MAX 1024

/* Writes one line if level >= log->level. log may be NULL (drops). Control bytes in the text become '?'. */
void gw_logf(const struct gw_log *log, enum gw_log_level level, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* "debug" | "info" | "warn" | "error" | "none" → level; returns -1 on anything else. */
int gw_log_level_parse(const char *name);

#endif
