#include "base/thread.h"

#include <assert.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define QUICK_SLICE_NS 300000 /* Linux gives 3 ms and more, and takes 0.1 to 100 */

/* The kernel's struct sched_attr, version 0, which glibc 2.36 has not. */
struct attr {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime_ns, deadline_ns, period_ns;
};

gw_err_t gw_thread_start(pthread_t *thread, size_t stack_bytes, void *(*body)(void *arg), void *arg,
                         struct gw_err_ctx *ctx)
{
    sigset_t all, old;
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    if (stack_bytes > 0) pthread_attr_setstacksize(&attr, stack_bytes);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int rc = pthread_create(thread, &attr, body, arg);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
    return rc == 0 ? GW_OK : gw_fail(ctx, GW_ERR_LIMIT, "no thread: %s", strerrordesc_np(rc));
}

void gw_thread_name(const char *name)
{
    int rc = pthread_setname_np(pthread_self(), name);
    assert(rc == 0);
    (void)rc;
}

void gw_thread_be_nice(int nice)
{
    (void)setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), nice);
}

void gw_thread_be_quick(void)
{
    struct attr attr = {0};
    if (syscall(SYS_sched_getattr, 0, &attr, sizeof attr, 0) != 0) return;
    attr.runtime_ns = QUICK_SLICE_NS;
    (void)syscall(SYS_sched_setattr, 0, &attr, 0);
}
