/* controller/cli/sim_groups and sim_trace: what `godwit cloud` keeps of its instances, and how it reads traces. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "controller/cli/sim_groups.h"
#include "controller/cli/sim_trace.h"

#define S GW_US_PER_S

/* ---- traces ---- */

static gw_err_t read_text(const char *text, struct sim_trace *out, struct gw_err_ctx *ctx)
{
    char path[] = "/tmp/godwit-trace-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
    gw_err_t err = sim_trace_read(path, out, ctx);
    unlink(path);
    return err;
}

static void supplies(const char *text, const double *times, const uint32_t *want, size_t n)
{
    struct sim_trace t;
    struct gw_err_ctx ctx = {0};
    if (read_text(text, &t, &ctx) != GW_OK) fail_msg("%s", ctx.text);
    for (size_t i = 0; i < n; i++) assert_int_equal(sim_trace_supply(&t, times[i]), want[i]);
    sim_trace_fini(&t);
}

static void test_read_takes_each_form(void **state)
{
    (void)state;
    const double times[] = {0, 1, 1.5, 2, 99};
    supplies("1000,add,node1\n1500,add,node2\n2000,remove,node1\n", times, (const uint32_t[]){0, 1, 2, 1, 1},
             5);
    supplies("[0, \"add\", {\"nodes\": [\"a\", \"b\"]}]\n[1500, \"other\", {}]\n[2000, \"remove\", "
             "{\"nodes\": [\"a\"]}]\n",
             times, (const uint32_t[]){2, 2, 2, 1, 1}, 5);
    supplies("0,4\n1,5\r\n\n2,0\n", times, (const uint32_t[]){4, 5, 5, 0, 0}, 5);
}

static void test_read_refuses_with_file_and_line(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",       "x\n",          "1,\n",        "1,add\n", "2,1\n1,1\n", "-1,3\n",          "nan,3\n",
        "1,-3\n", "1,99999999\n", "[1, 2, 3]\n", "[1\n",    "[]\n",       "1,add,a,b\n1,add"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct sim_trace t;
        struct gw_err_ctx ctx = {0};
        gw_err_t err = read_text(bad[i], &t, &ctx);
        if (err != GW_ERR_INPUT) fail_msg("'%s': %d", bad[i], err);
        assert_null(t.steps);
        assert_non_null(strstr(ctx.text, "/tmp/godwit-trace-"));
    }
}

/* ---- groups ---- */

static struct sim_groups groups_of(uint32_t spot, uint32_t supply)
{
    return (struct sim_groups){.desired = {spot, 0},
                               .supply = supply,
                               .usd_h = {0.25, 1},
                               .zones = {"here"},
                               .zones_len = 1,
                               .boot_us = 2 * S,
                               .notice_us = 30 * S};
}

/* Starts all that are due; their processes are numbered from first on. */
static int start_due(struct sim_groups *g, int64_t now_us, pid_t first)
{
    struct sim_instance *i;
    int n = 0;
    sim_groups_follow(g, now_us);
    while ((i = sim_groups_due(g, now_us))) i->worker = first + n++;
    return n;
}

static void test_follow_boots_what_is_desired_as_far_as_supply_goes(void **state)
{
    (void)state;
    struct sim_groups g = groups_of(3, 2);
    g.desired[SIM_ON_DEMAND] = 1;
    assert_int_equal(start_due(&g, 1 * S, 100), 0);
    assert_int_equal(start_due(&g, 3 * S, 100), 3);
    g.supply = 3;
    assert_int_equal(start_due(&g, 4 * S, 200), 0);
    assert_int_equal(start_due(&g, 6 * S, 200), 1);
    assert_int_equal(start_due(&g, 99 * S, 300), 0);
}

static void test_taken_are_noticed_then_over_and_not_replaced_before_they_are_gone(void **state)
{
    (void)state;
    struct sim_groups g = groups_of(2, 2);
    (void)start_due(&g, 0, 0);
    assert_int_equal(start_due(&g, 2 * S, 100), 2);
    assert_null(sim_groups_taken(&g, 3 * S));
    g.supply = 1;
    struct sim_instance *i = sim_groups_taken(&g, 3 * S);
    assert_non_null(i);
    assert_null(sim_groups_taken(&g, 3 * S));
    assert_null(sim_groups_over(&g, 32 * S));
    g.supply = 2;
    assert_int_equal(start_due(&g, 32 * S, 200), 0);
    assert_ptr_equal(sim_groups_over(&g, 33 * S), i);
    assert_ptr_equal(sim_groups_exited(&g, i->worker, 33 * S), i);
    (void)start_due(&g, 34 * S, 200);
    assert_int_equal(start_due(&g, 36 * S, 200), 1);
}

static void test_delete_shrinks_the_group_and_only_once(void **state)
{
    (void)state;
    struct sim_groups g = groups_of(2, 9);
    char id[SIM_ID_MAX];
    (void)start_due(&g, 0, 0);
    (void)start_due(&g, 2 * S, 100);
    memcpy(id, g.instances[1].id, sizeof id);
    assert_null(sim_groups_find(&g, "i-s-77"));
    sim_groups_delete(&g, sim_groups_find(&g, id), 3 * S);
    assert_null(sim_groups_find(&g, id));
    assert_int_equal(g.desired[SIM_SPOT], 1);
    assert_null(sim_groups_exited(&g, 555, 3 * S));
    assert_non_null(sim_groups_exited(&g, 101, 3 * S));
    assert_int_equal(start_due(&g, 99 * S, 200), 0);
}

static void test_delete_kills_what_does_not_shut_down_once(void **state)
{
    (void)state;
    struct sim_groups g = groups_of(1, 9);
    (void)start_due(&g, 0, 0);
    (void)start_due(&g, 2 * S, 100);
    struct sim_instance *i = &g.instances[0];
    sim_groups_delete(&g, i, 3 * S);
    assert_null(sim_groups_over(&g, 3 * S + SIM_SHUTDOWN_US - 1));
    assert_ptr_equal(sim_groups_over(&g, 3 * S + SIM_SHUTDOWN_US), i);
    assert_null(sim_groups_over(&g, 999 * S));
}

static void test_kill_keeps_the_size_so_that_another_comes(void **state)
{
    (void)state;
    struct sim_groups g = groups_of(1, 9);
    (void)start_due(&g, 0, 0);
    (void)start_due(&g, 2 * S, 100);
    struct sim_instance *i = &g.instances[0];
    i->watch = 150;
    sim_groups_kill(i, 3 * S);
    assert_int_equal(i->state, SIM_ENDING);
    assert_ptr_equal(sim_groups_exited(&g, 100, 3 * S), i);
    assert_int_equal(i->state, SIM_ENDING);
    assert_ptr_equal(sim_groups_exited(&g, 150, 3 * S), i);
    assert_int_equal(i->state, SIM_GONE);
    (void)start_due(&g, 4 * S, 200);
    assert_int_equal(start_due(&g, 6 * S, 200), 1);
}

static void test_exited_watch_leaves_the_instance_and_worker_ends_it(void **state)
{
    (void)state;
    struct sim_groups g = groups_of(1, 9);
    (void)start_due(&g, 0, 0);
    (void)start_due(&g, 2 * S, 100);
    struct sim_instance *i = &g.instances[0];
    i->watch = 150;
    assert_true(sim_groups_needs(&g, 100));
    assert_false(sim_groups_needs(&g, 150));
    (void)sim_groups_exited(&g, 150, 3 * S);
    assert_int_equal(i->state, SIM_RUNNING);
    i->watch = 151;
    (void)sim_groups_exited(&g, 100, 4 * S);
    assert_int_equal(i->state, SIM_ENDING);
    assert_int_equal(i->watch, 151);
}

static void test_spare_takes_a_reclaim_back(void **state)
{
    (void)state;
    struct sim_groups g = groups_of(1, 9);
    struct gw_buf b;
    (void)start_due(&g, 0, 0);
    (void)start_due(&g, 2 * S, 100);
    struct sim_instance *i = &g.instances[0];
    sim_groups_reclaim(i, 3 * S, 13 * S);
    assert_false(sim_groups_needs(&g, 100));
    sim_groups_spare(i);
    assert_true(sim_groups_needs(&g, 100));
    assert_null(sim_groups_over(&g, 99 * S));
    gw_buf_init(&b, 4096);
    sim_notices_put(&i->notices, 0, 4 * S, &b);
    assert_string_equal(gw_buf_cstr(&b),
                        "{\"sequence\":2,\"notices\":[{\"kind\":\"preempt\",\"deadline_in_s\":9.000},"
                        "{\"kind\":\"preempt\",\"cancel\":true}]}");
    gw_buf_fini(&b);
}

static void test_notices_after_the_last_are_none_and_old_ones_are_forgotten(void **state)
{
    (void)state;
    struct sim_notices n = {0};
    const struct sim_notice rebalance = {.kind = SIM_REBALANCE, .deadline_us = 1};
    struct gw_buf b;
    for (int i = 0; i < SIM_NOTICES_MAX + 3; i++) sim_notices_add(&n, &rebalance);
    gw_buf_init(&b, 4096);
    sim_notices_put(&n, SIM_NOTICES_MAX + 3, 5, &b);
    assert_string_equal(gw_buf_cstr(&b), "{\"sequence\":11,\"notices\":[]}");
    gw_buf_reset(&b);
    sim_notices_put(&n, 0, 5, &b);
    size_t told = 0;
    for (const char *at = gw_buf_cstr(&b); (at = strstr(at, "rebalance")); at++) told++;
    assert_int_equal(told, SIM_NOTICES_MAX);
    gw_buf_fini(&b);
}

static void test_zones_take_turns_and_show(void **state)
{
    (void)state;
    struct sim_groups g = groups_of(2, 9);
    struct gw_buf b;
    snprintf(g.zones[1], sizeof g.zones[1], "there");
    g.zones_len = 2;
    (void)start_due(&g, 0, 0);
    (void)start_due(&g, 2 * S, 100);
    gw_buf_init(&b, 4096);
    sim_groups_put_all(&g, 2 * S, &b);
    assert_string_equal(
        gw_buf_cstr(&b),
        "{\"supply\":9,\"instances\":[{\"id\":\"i-s-1\",\"group\":\"spot\",\"zone\":\"here\",\"state\":"
        "\"running\","
        "\"usd_h\":0.250000,\"worker_pid\":100,\"watch_pid\":0},{\"id\":\"i-s-2\",\"group\":\"spot\","
        "\"zone\":"
        "\"there\",\"state\":\"running\",\"usd_h\":0.250000,\"worker_pid\":101,\"watch_pid\":0}]}");
    gw_buf_fini(&b);
}

static void test_put_is_what_the_provider_reads(void **state)
{
    (void)state;
    struct sim_groups g = groups_of(1, 9);
    struct gw_buf b;
    (void)start_due(&g, 0, 0);
    gw_buf_init(&b, 4096);
    sim_groups_put(&g, SIM_SPOT, &b);
    assert_string_equal(gw_buf_cstr(&b),
                        "{\"min\":0,\"max\":32,\"desired\":1,\"instances\":[{\"id\":\"i-s-1\",\"type\":"
                        "\"sim.spot\",\"zone\":\"here\",\"state\":\"pending\",\"spot\":true}]}");
    gw_buf_fini(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read_takes_each_form),
        cmocka_unit_test(test_read_refuses_with_file_and_line),
        cmocka_unit_test(test_follow_boots_what_is_desired_as_far_as_supply_goes),
        cmocka_unit_test(test_taken_are_noticed_then_over_and_not_replaced_before_they_are_gone),
        cmocka_unit_test(test_delete_shrinks_the_group_and_only_once),
        cmocka_unit_test(test_delete_kills_what_does_not_shut_down_once),
        cmocka_unit_test(test_kill_keeps_the_size_so_that_another_comes),
        cmocka_unit_test(test_exited_watch_leaves_the_instance_and_worker_ends_it),
        cmocka_unit_test(test_spare_takes_a_reclaim_back),
        cmocka_unit_test(test_notices_after_the_last_are_none_and_old_ones_are_forgotten),
        cmocka_unit_test(test_zones_take_turns_and_show),
        cmocka_unit_test(test_put_is_what_the_provider_reads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
