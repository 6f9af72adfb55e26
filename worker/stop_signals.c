#include "worker/stop_signals.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct gw_stop_signals {
    _Atomic int level; /* enum gw_stop */
};

static void stop_set(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
}

static void *wait_for_signals(void *arg)
{
    struct gw_stop_signals *s = arg;
    sigset_t set;
    int signal_number;
    stop_set(&set);
    while (atomic_load(&s->level) != GW_STOP_NOW) {
        if (sigwait(&set, &signal_number) != 0) continue;
        bool first = signal_number == SIGTERM && atomic_load(&s->level) == GW_STOP_NONE;
        atomic_store(&s->level, first ? GW_STOP_GRACEFUL : GW_STOP_NOW);
    }
    usleep(GW_STOP_NOW_MS * 1000);
    _exit(GW_STOP_NOW_STATUS);
}

gw_err_t gw_stop_signals_start(const struct gw_stop_signals **out, struct gw_err_ctx *ctx)
{
    sigset_t set;
    pthread_t thread;
    struct gw_stop_signals *s = calloc(1, sizeof *s);
    if (!s) return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    stop_set(&set);
    int rc = pthread_sigmask(SIG_BLOCK, &set, NULL);
    if (rc == 0) rc = pthread_create(&thread, NULL, wait_for_signals, s);
    if (rc != 0) {
        free(s);
        return gw_fail(ctx, GW_ERR_IO, "signals: %s", strerror(rc));
    }
    pthread_detach(thread);
    *out = s;
    return GW_OK;
}

enum gw_stop gw_stop_level(const struct gw_stop_signals *s)
{
    return (enum gw_stop)atomic_load(&s->level);
}
