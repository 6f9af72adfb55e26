/* base/thread: what a thread says of its share of the processors reaches the kernel, and those that it starts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/thread.h"

#define NICE 3

/* What the kernel has of the calling thread. */
struct share {
    uint64_t slice_ns;
    int32_t nice;
};

static struct share share_of_caller(void)
{
    uint64_t attr[6] = {0}; /* struct sched_attr: size and policy, flags, nice and priority, runtime, … */
    assert_int_equal(syscall(SYS_sched_getattr, 0, attr, sizeof attr, 0), 0);
    return (struct share){attr[3], (int32_t)attr[2]};
}

static void *look(void *arg)
{
    *(struct share *)arg = share_of_caller();
    return NULL;
}

static void test_quick_thread_has_short_turns_and_so_have_those_it_starts(void **state)
{
    (void)state;
    struct utsname u;
    struct share started;
    pthread_t thread;
    int major = 0, minor = 0;
    assert_int_equal(uname(&u), 0);
    assert_int_equal(sscanf(u.release, "%d.%d", &major, &minor), 2);
    uint64_t before_ns = share_of_caller().slice_ns;
    gw_thread_be_nice(NICE);
    gw_thread_be_quick();
    assert_int_equal(share_of_caller().nice, NICE); /* which one does not change by the other */
    if (major * 100 + minor < 612) skip();
    assert_true(share_of_caller().slice_ns < before_ns);
    assert_int_equal(gw_thread_start(&thread, 0, look, &started, NULL), GW_OK);
    pthread_join(thread, NULL);
    assert_int_equal(started.slice_ns, share_of_caller().slice_ns);
    assert_int_equal(started.nice, NICE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quick_thread_has_short_turns_and_so_have_those_it_starts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
