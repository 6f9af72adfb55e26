/* kernels/cpu/device: every item is done once, on threads that flush denormals, however many threads there
 * are. */
#include "tests/lib/kernels_fixture.h"

#include <immintrin.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernels/cpu/device.h"

#define ITEMS_MAX  1000
#define WAKE_FULLY 1e6 /* ns per item: never done on the caller alone */

struct count_job {
    _Atomic int done[ITEMS_MAX];
    _Atomic int bad_scratch, kept_denormals;
    size_t items;
};

static void count_items(const void *arg, void *scratch, size_t first, size_t last)
{
    struct count_job *job = (struct count_job *)(uintptr_t)arg;
    volatile float denormal = 0x1p-127f, two = 2.0f;
    if (denormal * two != 0.0f) atomic_fetch_add(&job->kept_denormals, 1);
    if ((uintptr_t)scratch % 64 != 0) atomic_fetch_add(&job->bad_scratch, 1);
    memset(scratch, (int)first, GW_SCRATCH_BYTES / 64); /* ASan and TSan: it is ours alone */
    for (size_t i = first; i < last && i < job->items; i++) atomic_fetch_add(&job->done[i], 1);
}

static void test_parallel_does_every_item_once(void **state)
{
    (void)state;
    static const int threads[] = {1, 2, 3, 5, 8};
    static const size_t items[] = {0, 1, 2, 3, 7, 8, 31, 64, 999, ITEMS_MAX};
    for (size_t t = 0; t < sizeof threads / sizeof *threads; t++) {
        struct gw_device *dev = device_with(threads[t]);
        assert_int_equal(gw_device_threads(dev), threads[t]);
        for (size_t n = 0; n < sizeof items / sizeof *items; n++)
            for (int repeat = 0; repeat < 20; repeat++) {
                struct count_job job = {.items = items[n]};
                (repeat % 2 ? gw_device_parallel : gw_device_parallel_uneven)(dev, count_items, &job,
                                                                              items[n], WAKE_FULLY);
                for (size_t i = 0; i < ITEMS_MAX; i++) assert_int_equal(job.done[i], i < items[n] ? 1 : 0);
                assert_int_equal(job.bad_scratch + job.kept_denormals, 0);
            }
        gw_device_destroy(dev);
    }
}

struct range_job {
    _Atomic size_t longest;
};

static void note_range(const void *arg, void *scratch, size_t first, size_t last)
{
    (void)scratch;
    struct range_job *job = (struct range_job *)(uintptr_t)arg;
    size_t longest = atomic_load(&job->longest);
    while (last - first > longest && !atomic_compare_exchange_weak(&job->longest, &longest, last - first))
        continue;
}

/* Three quarters of a job are shared out evenly at first; of one with uneven items a quarter, so that many slow ones together are not
 * one thread's. */
static void test_first_ranges_are_the_longest_and_shorter_of_uneven_items(void **state)
{
    (void)state;
    struct gw_device *dev = device_with(4);
    struct range_job even = {0}, uneven = {0};
    gw_device_parallel(dev, note_range, &even, 1600, WAKE_FULLY);
    gw_device_parallel_uneven(dev, note_range, &uneven, 1600, WAKE_FULLY);
    assert_int_equal(even.longest, 300);
    assert_int_equal(uneven.longest, 100);
    gw_device_destroy(dev);
}

/* Thousands of jobs one after the other, small and large: helpers wake in time, late, or not at all. */
static void test_parallel_survives_a_storm_of_jobs(void **state)
{
    (void)state;
    struct gw_rng r = seeded_rng(__func__);
    struct gw_device *dev = device_with(4);
    static struct count_job job;
    for (int round = 0; round < 3000; round++) {
        job = (struct count_job){.items = 1 + gw_rng_below(&r, 40)};
        gw_device_parallel(dev, count_items, &job, job.items, WAKE_FULLY);
        for (size_t i = 0; i < job.items; i++) assert_int_equal(job.done[i], 1);
    }
    gw_device_destroy(dev);
}

struct thread_job {
    pthread_t caller;
    _Atomic int elsewhere;
};

static void note_thread(const void *arg, void *scratch, size_t first, size_t last)
{
    (void)scratch, (void)first, (void)last;
    struct thread_job *job = (struct thread_job *)(uintptr_t)arg;
    if (!pthread_equal(pthread_self(), job->caller)) atomic_fetch_add(&job->elsewhere, 1);
    sched_yield();
}

static void test_parallel_uses_its_helpers(void **state)
{
    (void)state;
    struct gw_device *dev = device_with(3);
    struct thread_job job = {.caller = pthread_self()};
    for (int round = 0; round < 20000 && job.elsewhere == 0; round++)
        gw_device_parallel(dev, note_thread, &job, 100, WAKE_FULLY);
    assert_true(job.elsewhere > 0);
    gw_device_destroy(dev);
}

/* New threads inherit the float modes of their creator: here one that has none. */
static void test_helpers_flush_denormals_whoever_created_them(void **state)
{
    (void)state;
    unsigned modes = _mm_getcsr();
    _mm_setcsr(0x1F80); /* the processor's default */
    struct gw_device *dev = NULL;
    assert_int_equal(gw_device_cpu_create(4, false, &dev, NULL), GW_OK);
    gw_device_enter_thread();
    static struct count_job job;
    for (int round = 0; round < 300; round++) {
        job = (struct count_job){.items = 64};
        gw_device_parallel(dev, count_items, &job, 64, WAKE_FULLY);
        sched_yield();
        assert_int_equal(job.kept_denormals, 0);
    }
    gw_device_destroy(dev);
    _mm_setcsr(modes);
}

static void test_parallel_does_small_jobs_on_the_caller(void **state)
{
    (void)state;
    struct gw_device *dev = device_with(3);
    struct thread_job job = {.caller = pthread_self()};
    for (int round = 0; round < 1000; round++) gw_device_parallel(dev, note_thread, &job, 100, 1.0);
    assert_int_equal(job.elsewhere, 0);
    gw_device_destroy(dev);
}

static void test_create_refuses_impossible_numbers_of_threads(void **state)
{
    (void)state;
    struct gw_device *dev = NULL;
    struct gw_err_ctx ctx = {0};
    assert_int_equal(gw_device_cpu_create(-1, false, &dev, &ctx), GW_ERR_INPUT);
    assert_non_null(strstr(ctx.text, "-1 compute threads"));
    assert_int_equal(gw_device_cpu_create(100000, false, &dev, NULL), GW_ERR_INPUT);
    assert_null(dev);
    gw_device_destroy(NULL);
}

static int cores_of_this_thread(void)
{
    cpu_set_t mask;
    assert_int_equal(sched_getaffinity(0, sizeof mask, &mask), 0);
    return CPU_COUNT(&mask);
}

static void test_create_zero_threads_takes_all_cores(void **state)
{
    (void)state;
    struct gw_device *dev = device_with(0);
    assert_int_equal(gw_device_threads(dev), cores_of_this_thread());
    gw_device_destroy(dev);
}

static void test_create_pins_whole_masks_only_and_destroy_unpins(void **state)
{
    (void)state;
    int cores = cores_of_this_thread();
    struct gw_device *dev = NULL;
    assert_int_equal(gw_device_cpu_create(cores, true, &dev, NULL), GW_OK);
    assert_int_equal(cores_of_this_thread(), 1);
    gw_device_destroy(dev);
    assert_int_equal(cores_of_this_thread(), cores);
    assert_int_equal(gw_device_cpu_create(cores + 1, true, &dev, NULL), GW_OK);
    assert_int_equal(cores_of_this_thread(), cores);
    gw_device_destroy(dev);
}

static void test_ops_cpu_says_what_is_missing(void **state)
{
    (void)state;
    const struct gw_ops *ops = NULL;
    struct gw_err_ctx ctx = {0};
    assert_int_equal(gw_ops_cpu("cpu-f33-1", GW_ISA_AUTO, &ops, &ctx), GW_ERR_NOT_FOUND);
    assert_non_null(strstr(ctx.text, "cpu-f33-1"));
    gw_err_reset(&ctx);
    assert_int_equal(gw_ops_cpu("cpu-f32-2", GW_ISA_AVX512BF16, &ops, &ctx), GW_ERR_NOT_FOUND);
    assert_non_null(strstr(ctx.text, "no such form"));
    assert_null(ops);
    static const struct {
        enum gw_isa isa;
        const char *flag;
    } isas[] = {
        {GW_ISA_AVX512BF16, "avx512"}, {GW_ISA_AVX512, "avx512"}, {GW_ISA_AVX2, "avx2"}, {GW_ISA_C, "fma"}};
    for (size_t i = 0; i < sizeof isas / sizeof *isas; i++) {
        gw_err_reset(&ctx);
        gw_err_t err = gw_ops_cpu("cpu-bf16dot-2", isas[i].isa, &ops, &ctx);
        if (err == GW_OK) continue;
        assert_int_equal(err, GW_ERR_NOT_FOUND);
        assert_non_null(strstr(ctx.text, isas[i].flag));
    }
}

static void test_ops_cpu_auto_passes_over_a_slow_isa(void **state)
{
    (void)state;
    const struct gw_ops *ops = NULL;
    if (!gw_isa_slow(GW_ISA_AVX512BF16)) skip();
    if (gw_ops_cpu("cpu-bf16dot-2", GW_ISA_AVX512BF16, &ops, NULL) != GW_OK) skip();
    assert_ptr_not_equal(ops_best("cpu-bf16dot-2"), ops);
    assert_string_equal(ops_best("cpu-bf16dot-2")->name, "cpu-avx512");
}

/* In a process of its own, whose signal stack is too small for a frame with tiles in it: Linux grants none then. 0: as it should. */
static int choose_without_tiles(void)
{
    static uint8_t small[8192];
    const stack_t stack = {.ss_sp = small, .ss_size = sizeof small};
    const struct gw_ops *ops = NULL, *named = NULL;
    struct gw_err_ctx ctx = {0};
    if (sigaltstack(&stack, NULL) != 0) return 1;
    if (gw_ops_cpu("cpu-bf16-int8-1", GW_ISA_AUTO, &ops, NULL) != GW_OK) return 2;
    if (strcmp(ops->name, "cpu-avx512vnni") != 0) return 3;
    if (gw_ops_cpu("cpu-bf16-int8-1", GW_ISA_AMX, &named, &ctx) != GW_ERR_NOT_FOUND) return 4;
    return strstr(ctx.text, "amx_tile") ? 0 : 5;
}

/* First of all: who has asked once has them for good, and so have its children. */
static void test_ops_cpu_without_leave_to_use_tiles_takes_vnni__skipped_if_cpu_lacks_amx(void **state)
{
    (void)state;
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("amx-int8") || !__builtin_cpu_supports("avx512vnni")) skip();
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) _exit(choose_without_tiles());
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ops_cpu_without_leave_to_use_tiles_takes_vnni__skipped_if_cpu_lacks_amx),
        cmocka_unit_test(test_parallel_does_every_item_once),
        cmocka_unit_test(test_first_ranges_are_the_longest_and_shorter_of_uneven_items),
        cmocka_unit_test(test_parallel_survives_a_storm_of_jobs),
        cmocka_unit_test(test_parallel_uses_its_helpers),
        cmocka_unit_test(test_helpers_flush_denormals_whoever_created_them),
        cmocka_unit_test(test_parallel_does_small_jobs_on_the_caller),
        cmocka_unit_test(test_create_refuses_impossible_numbers_of_threads),
        cmocka_unit_test(test_create_zero_threads_takes_all_cores),
        cmocka_unit_test(test_create_pins_whole_masks_only_and_destroy_unpins),
        cmocka_unit_test(test_ops_cpu_says_what_is_missing),
        cmocka_unit_test(test_ops_cpu_auto_passes_over_a_slow_isa),
    };
    return cmocka_run_group_tests_name("kernels_device", tests, NULL, NULL);
}
