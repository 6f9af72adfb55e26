/* A redis-server of the test's own: on a unix socket in a temporary directory, gone with it; and ports for those that want one.
 *
 * It dies with the test (PDEATHSIG), however that ends. Tests skip where no redis-server is installed. */
#ifndef GW_TESTS_REDIS_SERVER_H
#define GW_TESTS_REDIS_SERVER_H

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/sockaddr.h"

#define REDIS_START_US   (20 * GW_US_PER_S)
#define REDIS_ARGS_MAX   24
#define REDIS_EXTRAS_MAX 8

struct redis_server {
    char dir[64], socket[96];
    pid_t pid; /* 0: not running */
};

static inline bool redis_is_installed(void)
{
    return access("/usr/bin/redis-server", X_OK) == 0;
}

static inline int redis_bind_anywhere(uint16_t *port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), yes = 1;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) != 0 ||
        bind(fd, (struct sockaddr *)&at, sizeof at) != 0)
        abort();
    *port = gw_sockaddr_local_port(fd);
    return fd;
}

/* Listens on a port of loopback that the kernel chooses. */
static inline int redis_listen_anywhere(uint16_t *port)
{
    int fd = redis_bind_anywhere(port);
    if (listen(fd, 8) != 0) abort();
    return fd;
}

/* For a server that does not take one on a socket. The kernel gives it to nobody else until this program ends: it stays bound
 * here, beside which a server with SO_REUSEADDR, as redis-server is, may listen. */
static inline uint16_t redis_free_port(void)
{
    uint16_t port;
    (void)redis_bind_anywhere(&port);
    return port;
}

/* A socket whose command has been written, -1 if nobody listens. */
static inline int redis_dial(const struct redis_server *r)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    snprintf(addr.sun_path, sizeof addr.sun_path, "%s", r->socket);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, (struct sockaddr *)&addr, sizeof addr) == 0) return fd;
    close(fd);
    return -1;
}

/* Says one inline command; the first bytes of the answer go to out, as a string. */
static inline bool redis_say(const struct redis_server *r, const char *command, char *out, size_t out_size)
{
    char line[512];
    int fd = redis_dial(r);
    if (fd < 0) return false;
    snprintf(line, sizeof line, "%s\r\n", command);
    ssize_t n = write(fd, line, strlen(line)) > 0 ? read(fd, out, out_size - 1) : -1;
    close(fd);
    out[n > 0 ? n : 0] = '\0';
    return n > 0;
}

/* extras: NULL-ended, e.g. {"--maxmemory", "50mb", NULL}. Waits until it answers. */
static inline void redis_start(struct redis_server *r, const char *const *extras)
{
    const char *argv[REDIS_ARGS_MAX] = {
        "redis-server", "--port",  "0",     "--save", "",           "--appendonly", "no",
        "--unixsocket", r->socket, "--dir", r->dir,   "--loglevel", "warning"};
    int argc = 13;
    char answer[64];
    for (int i = 0; extras && extras[i] && i < REDIS_EXTRAS_MAX; i++) argv[argc++] = extras[i];
    unlink(r->socket);
    r->pid = fork();
    if (r->pid == 0) {
        int quiet = open("/dev/null", O_WRONLY);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(quiet, 1);
        execv("/usr/bin/redis-server", (char *const *)argv);
        _exit(127);
    }
    int64_t deadline_us = gw_clock_mono_us() + REDIS_START_US;
    while (!redis_say(r, "PING", answer, sizeof answer)) {
        if (gw_clock_mono_us() > deadline_us) {
            fprintf(stderr, "redis-server does not start\n");
            abort();
        }
        usleep(2000);
    }
}

static inline void redis_kill(struct redis_server *r)
{
    if (r->pid <= 0) return;
    kill(r->pid, SIGKILL);
    waitpid(r->pid, NULL, 0);
    r->pid = 0;
}

static inline void redis_open(struct redis_server *r, const char *const *extras)
{
    *r = (struct redis_server){.dir = "/tmp/godwit-redis-XXXXXX"};
    if (!mkdtemp(r->dir)) abort();
    snprintf(r->socket, sizeof r->socket, "%s/s", r->dir);
    redis_start(r, extras);
}

static inline void redis_close(struct redis_server *r)
{
    redis_kill(r);
    unlink(r->socket);
    rmdir(r->dir);
}

#endif
