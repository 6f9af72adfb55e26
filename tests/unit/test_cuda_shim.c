/* The host shim for CUDA: what it must find in kernels that are wrong, and that it finds nothing in their right twins. */
#include "tests/lib/kernels_fixture.h"

#include <math.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/lib/cuda_shim_faults.h"
#include "tests/lib/cuda_shim_report.h"

#define THREADS 64
#define ORDERS  20 /* seeds: that all of them hide a missing barrier has a chance of 2^-20 at most */

typedef int fault(float *out, bool wrong);

static int run(fault *f, bool wrong, float out[THREADS])
{
    gw_shim_forget();
    for (int i = 0; i < THREADS; i++) out[i] = -1;
    return f(out, wrong);
}

/* Right: no error in any order. Wrong: the launch fails, and its text has `word`. */
static void assert_failure_found(fault *f, const char *word)
{
    float out[THREADS];
    for (uint64_t seed = 0; seed < ORDERS; seed++) {
        gw_shim_seed(seed);
        assert_int_equal(run(f, false, out), 0);
        assert_int_not_equal(run(f, true, out), 0);
        if (!strstr(gw_shim_error(), word)) fail_msg("\"%s\" does not say \"%s\"", gw_shim_error(), word);
    }
}

/* How many of the orders give something else than the right results. */
static int wrong_results(fault *f, bool wrong, const float want[THREADS])
{
    int different = 0;
    for (uint64_t seed = 0; seed < ORDERS; seed++) {
        float out[THREADS];
        gw_shim_seed(seed);
        assert_int_equal(run(f, wrong, out), 0);
        different += memcmp(out, want, sizeof out) != 0;
    }
    return different;
}

static void assert_results_found(fault *f, const float want[THREADS])
{
    assert_int_equal(wrong_results(f, false, want), 0);
    assert_int_not_equal(wrong_results(f, true, want), 0);
}

static void test_barrier_missing_gives_wrong_results_in_some_order(void **state)
{
    (void)state;
    float want[THREADS], want_warp[THREADS];
    for (int i = 0; i < THREADS; i++) {
        want[i] = (float)(THREADS - 1 - i);
        want_warp[i] = (float)(i ^ 31);
    }
    assert_results_found(gw_fault_reverse, want);
    assert_results_found(gw_fault_reverse_warp, want_warp);
}

static void test_barrier_not_reached_by_all_fails_the_launch(void **state)
{
    (void)state;
    assert_failure_found(gw_fault_barrier_missed, "__syncwarp");
    assert_failure_found(gw_fault_barrier_branches, "__syncthreads");
}

static void test_warp_operation_with_a_wrong_mask_fails_the_launch(void **state)
{
    (void)state;
    assert_failure_found(gw_fault_shuffle_ended, "has ended");
    assert_failure_found(gw_fault_shuffle_outside, "not in it");
    assert_failure_found(gw_fault_shuffle_from_outside, "wants the value of lane");
    assert_failure_found(gw_fault_shuffle_disagree, "mask 0000ffff");
}

static void test_shared_memory_unwritten_is_nan(void **state)
{
    (void)state;
    float out[THREADS];
    assert_int_equal(run(gw_fault_unwritten, false, out), 0);
    for (int i = 0; i < THREADS; i++) assert_true(out[i] == 1.0f);
    assert_int_equal(run(gw_fault_unwritten, true, out), 0);
    assert_true(isnan(out[THREADS - 1]));
}

static void test_copy_used_before_its_wait_is_nan(void **state)
{
    (void)state;
    float in[4 * THREADS] __attribute__((aligned(16))), out[THREADS];
    for (int i = 0; i < 4 * THREADS; i++) in[i] = (float)i;
    for (int wrong = 0; wrong < 2; wrong++) {
        assert_int_equal(gw_fault_copy(out, in, wrong), 0);
        for (int i = 0; i < THREADS; i++) assert_true(wrong ? isnan(out[i]) : out[i] == (float)(4 * i + 3));
        assert_int_equal(gw_fault_copy_group(out, in, wrong), 0);
        for (int i = 0; i < THREADS; i++) assert_true(wrong ? isnan(out[i]) : out[i] == (float)(4 * i + 3));
    }
}

static void test_shared_memory_above_the_default_must_be_allowed(void **state)
{
    (void)state;
    float out[THREADS];
    assert_int_not_equal(run(gw_fault_much_shared, true, out), 0);
    assert_int_equal(run(gw_fault_much_shared, false, out), 0);
}

static void test_votes_and_shuffles_give_what_cuda_gives(void **state)
{
    (void)state;
    float out[THREADS];
    for (uint64_t seed = 0; seed < ORDERS; seed++) {
        gw_shim_seed(seed);
        assert_int_equal(gw_fault_votes(out), 0);
        for (int i = 0; i < THREADS; i++) {
            float sum = i < 32 ? 496 : 1520; /* 0 + … + 31, 32 + … + 63 */
            assert_true(out[i] == sum + (float)(i % 32 == 31 ? i : i + 1));
        }
    }
}

/* Runs f in a process of its own, which ASan ends; returns whether it did. */
static bool asan_finds(fault *f, bool wrong)
{
    int fds[2], status = 0;
    char text[4096];
    assert_int_equal(pipe(fds), 0);
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        dup2(fds[1], 2);
        float *out = take(THREADS * sizeof *out);
        f(out, wrong);
        _exit(0);
    }
    close(fds[1]);
    size_t len = 0;
    for (ssize_t n; (n = read(fds[0], text + len, sizeof text - 1 - len)) > 0;)
        len = (size_t)n + len < sizeof text - 1 ? len + (size_t)n : 0;
    text[len] = '\0';
    close(fds[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return !WIFEXITED(status) || WEXITSTATUS(status) != 0;
}

static void test_access_out_of_bounds_is_found(void **state)
{
    (void)state;
#if !defined(__SANITIZE_ADDRESS__)
    skip();
#endif
    static fault *const faults[] = {gw_fault_behind_shared, gw_fault_behind_dynamic, gw_fault_behind_global};
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        assert_false(asan_finds(faults[i], false));
        assert_true(asan_finds(faults[i], true));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_barrier_missing_gives_wrong_results_in_some_order),
        cmocka_unit_test(test_barrier_not_reached_by_all_fails_the_launch),
        cmocka_unit_test(test_warp_operation_with_a_wrong_mask_fails_the_launch),
        cmocka_unit_test(test_shared_memory_unwritten_is_nan),
        cmocka_unit_test(test_copy_used_before_its_wait_is_nan),
        cmocka_unit_test(test_shared_memory_above_the_default_must_be_allowed),
        cmocka_unit_test(test_votes_and_shuffles_give_what_cuda_gives),
        cmocka_unit_test(test_access_out_of_bounds_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
