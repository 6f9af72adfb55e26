/* worker/probe: rates that a planner can compare, machines that know each other, addresses that others can dial. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/sockaddr.h"
#include "kernels/op.h"
#include "worker/probe.h"

#define OTHER_USER 65534

/* ---- rates ---- */

static struct gw_probe_rates rates_of(const char *profile, enum gw_isa isa)
{
    const struct gw_ops *ops = NULL;
    struct gw_device *device = NULL;
    struct gw_probe_rates rates = {0};
    struct gw_err_ctx ctx = {0};
    gw_device_enter_thread();
    assert_int_equal(gw_ops_cpu(profile, isa, &ops, NULL), GW_OK);
    assert_int_equal(gw_device_cpu_create(1, false, &device, NULL), GW_OK);
    if (gw_probe_rates(ops, device, &rates, &ctx) != GW_OK) fail_msg("%s", ctx.text);
    gw_device_destroy(device);
    printf("# %s: %.1f GB/s, %.1f GFLOP/s\n", ops->name, (double)rates.bytes_s * 1e-9,
           (double)rates.flop_s * 1e-9);
    return rates;
}

static bool is_rounded(uint64_t rate)
{
    while (rate % 10 == 0 && rate > 100) rate /= 10;
    return rate == 10 || rate == 15 || rate == 20 || rate == 30 || rate == 50 || rate == 70 || rate == 100;
}

static void test_rates_are_rounded_and_possible(void **state)
{
    (void)state;
    static const char *const profiles[] = {"cpu-bf16dot-2", "cpu-f32-2", "cpu-bf16-int8-1"};
    for (int i = 0; i < 3; i++) {
        struct gw_probe_rates r = rates_of(profiles[i], GW_ISA_AUTO);
        assert_true(is_rounded(r.bytes_s) && is_rounded(r.flop_s));
        assert_in_range(r.bytes_s, 10000000, 1000000000000); /* 10 MB/s (sanitized) .. 1 TB/s on one core */
        assert_in_range(r.flop_s, 10000000, 10000000000000); /* 10 MFLOP/s .. 10 TFLOP/s */
    }
}

/* The reference in plain C is many times slower than vectors: a probe that measures sees it. */
static void test_rates_of_a_slower_device_are_lower(void **state)
{
    (void)state;
    const struct gw_ops *best = NULL;
    assert_int_equal(gw_ops_cpu("cpu-f32-2", GW_ISA_AUTO, &best, NULL), GW_OK);
    if (strcmp(best->name, "cpu-c") == 0) skip();
    struct gw_probe_rates fast = rates_of("cpu-f32-2", GW_ISA_AUTO), slow = rates_of("cpu-f32-2", GW_ISA_C);
    assert_true(fast.flop_s > slow.flop_s);
}

/* ---- machine ---- */

/* What a child process with that effective user says (-1: the same user). */
static void machine_of_child(int user, uint8_t out[GW_MACHINE_BYTES])
{
    int ends[2], status;
    assert_int_equal(pipe(ends), 0);
    pid_t pid = fork();
    if (pid == 0) {
        uint8_t id[GW_MACHINE_BYTES];
        if (user >= 0 && seteuid((uid_t)user) != 0) _exit(1);
        gw_probe_machine(id);
        _exit(write(ends[1], id, sizeof id) == sizeof id ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(read(ends[0], out, GW_MACHINE_BYTES), GW_MACHINE_BYTES);
    close(ends[0]);
    close(ends[1]);
}

static void test_machine_of_another_process_is_equal(void **state)
{
    (void)state;
    uint8_t own[GW_MACHINE_BYTES], child[GW_MACHINE_BYTES];
    static const uint8_t zeros[GW_MACHINE_BYTES];
    gw_probe_machine(own);
    machine_of_child(-1, child);
    assert_memory_equal(own, child, sizeof own);
    assert_memory_not_equal(own, zeros, sizeof own);
}

static void test_machine_of_another_user_is_unequal(void **state)
{
    (void)state;
    uint8_t own[GW_MACHINE_BYTES], child[GW_MACHINE_BYTES];
    if (geteuid() != 0) skip(); /* only root becomes someone else */
    gw_probe_machine(own);
    machine_of_child(OTHER_USER, child);
    assert_memory_not_equal(own, child, sizeof own);
}

/* ---- address ---- */

static gw_err_t local_address(const char *peer, char *out, size_t out_bytes)
{
    struct sockaddr_storage addr;
    socklen_t len;
    assert_int_equal(gw_sockaddr_parse(peer, 9, &addr, &len, NULL), GW_OK);
    return gw_probe_local_address(&addr, len, out, out_bytes, NULL);
}

static void test_local_address_towards_loopback_is_loopback(void **state)
{
    (void)state;
    char text[64];
    assert_int_equal(local_address("127.0.0.1", text, sizeof text), GW_OK);
    assert_string_equal(text, "127.0.0.1");
    if (local_address("::1", text, sizeof text) == GW_OK) /* a machine may have no IPv6 */
        assert_string_equal(text, "::1");
}

static void test_local_address_that_does_not_fit_is_refused(void **state)
{
    (void)state;
    char text[10] = "unchanged";
    assert_int_equal(local_address("127.0.0.1", text, 9), GW_ERR_LIMIT);
    assert_string_equal(text, "unchanged");
    assert_int_equal(local_address("127.0.0.1", text, sizeof text), GW_OK);
}

static void test_local_address_towards_nowhere_is_an_error(void **state)
{
    (void)state;
    char text[64];
    assert_int_equal(local_address("255.255.255.255", text, sizeof text), GW_ERR_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rates_are_rounded_and_possible),
        cmocka_unit_test(test_rates_of_a_slower_device_are_lower),
        cmocka_unit_test(test_machine_of_another_process_is_equal),
        cmocka_unit_test(test_machine_of_another_user_is_unequal),
        cmocka_unit_test(test_local_address_towards_loopback_is_loopback),
        cmocka_unit_test(test_local_address_that_does_not_fit_is_refused),
        cmocka_unit_test(test_local_address_towards_nowhere_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
