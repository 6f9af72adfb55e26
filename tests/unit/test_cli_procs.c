/* Child processes of the `godwit` tool. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "controller/cli/procs.h"

#define CHILDREN 100

static int told[2]; /* what an event loop's signal handler writes to */

static void on_signal(int signal)
{
    ssize_t n = write(told[1], &signal, 1);
    (void)n;
}

static void test_proc_start_signal_before_exec_is_the_childs_alone(void **state)
{
    (void)state;
    char *const argv[] = {"/bin/sleep", "600", NULL};
    struct gw_err_ctx ctx = {0};
    struct sigaction action = {.sa_handler = on_signal}, before;
    char byte;
    assert_int_equal(pipe2(told, O_NONBLOCK | O_CLOEXEC), 0);
    assert_int_equal(sigaction(SIGTERM, &action, &before), 0);
    for (int i = 0; i < CHILDREN; i++) {
        pid_t pid;
        int status;
        assert_int_equal(gw_proc_start(argv, "/dev/null", &pid, &ctx), GW_OK);
        assert_int_equal(kill(pid, SIGTERM), 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
    }
    assert_int_equal(read(told[0], &byte, 1), -1); /* nobody told the parent */
    assert_int_equal(raise(SIGTERM), 0);
    assert_int_equal(read(told[0], &byte, 1), 1); /* whose own signals arrive as before */
    assert_int_equal(sigaction(SIGTERM, &before, NULL), 0);
    close(told[0]);
    close(told[1]);
}

static void test_proc_start_of_nothing_says_what_is_missing(void **state)
{
    (void)state;
    char *const argv[] = {"/nowhere/godwit-worker", NULL};
    struct gw_err_ctx ctx = {0};
    pid_t pid = 7;
    assert_int_equal(gw_proc_start(argv, "/dev/null", &pid, &ctx), GW_ERR_IO);
    assert_int_equal(pid, 7);
    assert_non_null(strstr(ctx.text, "is it built"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_proc_start_signal_before_exec_is_the_childs_alone),
        cmocka_unit_test(test_proc_start_of_nothing_says_what_is_missing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
