#include "controller/cli/procs.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"

#define END_POLL_MS 10
#define LOG_MAX     (16u << 20)

/* In the child, between fork and exec: async-signal-safe calls only. Signals are blocked until the parent's handlers are
 * gone: the event loop's tells the parent, by a socket that both have, of a signal that was meant for the child. */
static void become(char *const *argv, int log_fd, pid_t parent)
{
    sigset_t none;
    for (int i = 1; i < NSIG; i++) signal(i, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(127);
    dup2(log_fd, STDOUT_FILENO);
    dup2(log_fd, STDERR_FILENO);
    execv(argv[0], argv);
    _exit(127);
}

gw_err_t gw_proc_start(char *const *argv, const char *log_path, pid_t *pid, struct gw_err_ctx *ctx)
{
    if (access(argv[0], X_OK) != 0)
        return gw_fail(ctx, GW_ERR_IO, "%s: %s (is it built and installed beside godwit?)", argv[0],
                       strerror(errno));
    int log_fd = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (log_fd < 0) return gw_fail(ctx, GW_ERR_IO, "%s: %s", log_path, strerror(errno));
    sigset_t all, before;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    pid_t parent = getpid();
    pid_t child = fork();
    int why = errno;
    if (child == 0) become(argv, log_fd, parent);
    sigprocmask(SIG_SETMASK, &before, NULL);
    close(log_fd);
    if (child < 0) return gw_fail(ctx, GW_ERR_IO, "fork: %s", strerror(why));
    *pid = child;
    return GW_OK;
}

bool gw_proc_reap(struct gw_proc_end *end)
{
    int status;
    pid_t done = waitpid(-1, &status, WNOHANG);
    if (done <= 0) return false;
    *end = (struct gw_proc_end){.pid = done, .status = WIFSIGNALED(status) ? -1 : WEXITSTATUS(status)};
    if (end->status < 0)
        snprintf(end->how, sizeof end->how, "killed by signal %d", WTERMSIG(status));
    else
        snprintf(end->how, sizeof end->how, "exit status %d", end->status);
    return true;
}

gw_err_t gw_proc_own_dir(char *out, struct gw_err_ctx *ctx)
{
    ssize_t n = readlink("/proc/self/exe", out, PATH_MAX - 1);
    if (n <= 0) return gw_fail(ctx, GW_ERR_IO, "/proc/self/exe: %s", strerror(errno));
    out[n] = '\0';
    *strrchr(out, '/') = '\0';
    return GW_OK;
}

void gw_proc_last_line(const char *log_path, char *out, size_t size)
{
    char *text = NULL;
    size_t len = 0;
    out[0] = '\0';
    if (gw_file_read(log_path, LOG_MAX, &text, &len, NULL) != GW_OK) return;
    while (len > 0 && text[len - 1] == '\n') text[--len] = '\0';
    const char *line = strrchr(text, '\n');
    snprintf(out, size, "%s", line ? line + 1 : text);
    free(text);
}

static void sleep_ms(int ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    nanosleep(&t, NULL);
}

/* Forgets the pids that have ended; returns how many live on. */
static size_t reap_listed(pid_t *pids, size_t len, int flags)
{
    size_t alive = 0;
    for (size_t i = 0; i < len; i++) {
        if (pids[i] > 0 && waitpid(pids[i], NULL, flags) != 0) pids[i] = 0;
        if (pids[i] > 0) alive++;
    }
    return alive;
}

void gw_procs_end(pid_t *pids, size_t len, int signal, int grace_ms)
{
    for (size_t i = 0; i < len; i++) {
        if (pids[i] <= 0) continue;
        kill(pids[i], signal);
        kill(pids[i], SIGCONT);
    }
    for (int waited = 0; reap_listed(pids, len, WNOHANG) > 0 && waited < grace_ms; waited += END_POLL_MS)
        sleep_ms(END_POLL_MS);
    for (size_t i = 0; i < len; i++)
        if (pids[i] > 0) kill(pids[i], SIGKILL);
    reap_listed(pids, len, 0);
}
