#include "controller/cli/signals.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

static sigset_t taken(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGWINCH);
    return set;
}

gw_err_t signals_open(int *fd, struct gw_err_ctx *ctx)
{
    sigset_t set = taken();
    if (sigprocmask(SIG_BLOCK, &set, NULL) != 0 || (*fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK)) < 0)
        return gw_fail(ctx, GW_ERR_IO, "signals cannot be taken: %s", strerror(errno));
    return GW_OK;
}

void signals_close(int fd)
{
    sigset_t set = taken();
    if (fd >= 0) close(fd);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
}

int signals_wait(int fd, int key_fd, int64_t wait_ms)
{
    struct pollfd polled[] = {{.fd = fd, .events = POLLIN}, {.fd = key_fd, .events = POLLIN}};
    struct signalfd_siginfo info;
    if (wait_ms < 0) wait_ms = 0;
    if (poll(polled, 2, (int)wait_ms) <= 0) return -1;
    if (read(fd, &info, sizeof info) == (ssize_t)sizeof info) return (int)info.ssi_signo;
    return polled[1].revents ? 0 : -1;
}
