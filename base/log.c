#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *const level_names[] = {"debug", "info", "warn", "error", "none"};

static int format_head(char *line, size_t size, const struct gw_log *log, enum gw_log_level level)
{
    struct timespec now;
    struct tm utc;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    return snprintf(line, size, "%04d-%02d-%02dT%02d:%02d:%02d.%03ldZ %-5s %-12s ", utc.tm_year + 1900,
                    utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec, now.tv_nsec / 1000000,
                    level_names[level], log->program ? log->program : "-");
}

void gw_logf(const struct gw_log *log, enum gw_log_level level, const char *fmt, ...)
{
    if (!log || log->fd < 0 || level < log->level || level >= GW_LOG_NONE) return;
    char line[GW_LOG_LINE_MAX];
    int head = format_head(line, sizeof line, log, level);
    if (head < 0 || head >= (int)sizeof line - 2) return;
    va_list ap;
    va_start(ap, fmt);
    int body = vsnprintf(line + head, sizeof line - 1 - (size_t)head, fmt, ap);
    va_end(ap);
    if (body < 0) return;
    size_t len = strlen(line);
    for (size_t i = (size_t)head; i < len; i++)
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f) line[i] = '?';
    line[len++] = '\n';
    ssize_t ignored = write(log->fd, line, len);
    (void)ignored;
}

int gw_log_level_parse(const char *name)
{
    for (int i = 0; i <= GW_LOG_NONE; i++)
        if (strcmp(name, level_names[i]) == 0) return i;
    return -1;
}
