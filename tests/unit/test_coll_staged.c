/* kernels/cuda/coll_staged: sums through the host are those of one rank, bit for bit; what is sent arrives, whatever its length;
 * lost peers, devices that fail or stand still, and aborts end every wait. Ranks are threads or processes over TCP. */
#include "tests/lib/coll_device_fixture.h"

#include <poll.h>
#include <signal.h>
#include <sys/wait.h>

static struct device_group group_of(uint32_t ranks, gw_err_t (*run)(struct device_rank *r))
{
    static const struct device_stage stages[] = {{1, {0, 8}}, {2, {0, 4, 8}}, {3, {0, 3, 6, 8}}};
    return (struct device_group){
        .shares = 8, .stages = {stages[ranks - 1]}, .deadline_us = LONG_US, .end_us = LONG_US, .run = run};
}

static void test_tree_add_of_any_cut_is_the_fixed_tree(void **state)
{
    static const struct {
        uint32_t shares;
        struct device_stage stage;
    } cuts[] = {{8, {1, {0, 8}}}, {8, {2, {0, 4, 8}}},       {8, {3, {0, 3, 6, 8}}},  {8, {2, {0, 1, 8}}},
                {1, {1, {0, 1}}}, {8, {4, {0, 2, 4, 6, 8}}}, {13, {3, {0, 4, 8, 13}}}};
    (void)state;
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        struct device_rank ranks[COLL_RANKS];
        struct device_group g = group_of(1, device_run_steps);
        g.shares = cuts[i].shares;
        g.stages[0] = cuts[i].stage;
        device_run(&g, ranks, NULL);
        device_assert_well(ranks, g.stages[0].ranks);
    }
}

/* Lengths around a piece, and one that goes through both halves twice. */
static const size_t lengths[] = {4, GW_COLL_STAGED_PIECE - 4, GW_COLL_STAGED_PIECE, GW_COLL_STAGED_PIECE + 4,
                                 3 * GW_COLL_STAGED_PIECE + 400};

/* There and back, between sums: rank 1 returns what it got. */
static gw_err_t transfer(struct device_rank *r, uint64_t step, size_t bytes, float *out, float *in)
{
    gw_coll_device_begin(r->coll, step);
    if (r->self == 0)
        TRY(gw_coll_device_send(r->coll, 1, out, bytes, &r->ctx));
    else
        TRY(gw_coll_device_recv(r->coll, 0, in, bytes, &r->ctx));
    TRY(device_sum(r, step, 0, DEVICE_ELEMS));
    if (r->self == 0)
        TRY(gw_coll_device_recv(r->coll, 1, in, bytes, &r->ctx));
    else
        TRY(gw_coll_device_send(r->coll, 0, in, bytes, &r->ctx));
    TRY(gw_coll_device_finish(r->coll, &r->ctx));
    return device_compare(r, step, 0, DEVICE_ELEMS);
}

static gw_err_t run_transfers(struct device_rank *r)
{
    size_t elems = lengths[4] / sizeof(float);
    float *out = device_take(r, elems), *in = device_take(r, elems);
    for (uint64_t step = 1; step <= sizeof lengths / sizeof *lengths; step++) {
        size_t bytes = lengths[step - 1];
        device_row(out, step, 0, (uint32_t)elems);
        TRY(transfer(r, step, bytes, out, in));
        if (memcmp(in, out, bytes) != 0) return gw_fail(&r->ctx, GW_ERR_INTERNAL, "other bytes");
    }
    return GW_OK;
}

static void test_send_of_any_length_arrives(void **state)
{
    (void)state;
    struct device_rank ranks[COLL_RANKS];
    struct device_group g = group_of(2, run_transfers);
    device_run(&g, ranks, NULL);
    device_assert_well(ranks, 2);
}

static gw_err_t run_last_leaves(struct device_rank *r)
{
    TRY(device_step(r, 1));
    return r->self + 1 == device_ranks(r->group) ? GW_OK : device_step(r, 2);
}

static void test_peer_that_leaves_fails_the_others_at_once(void **state)
{
    (void)state;
    struct device_rank ranks[COLL_RANKS];
    struct device_group g = group_of(3, run_last_leaves);
    device_run(&g, ranks, NULL);
    device_assert_clean(ranks, 3);
    assert_int_equal(ranks[2].err, GW_OK);
    for (int i = 0; i < 2; i++) device_assert_text(&ranks[i], GW_ERR_IO, "");
}

static gw_err_t run_other_step(struct device_rank *r)
{
    TRY(device_step(r, 1));
    return device_step(r, 2 + r->self);
}

static void be_older(struct device_rank *r)
{
    if (r->self == 1) r->generation = 2;
}

static void test_rank_at_another_step_or_of_another_generation_is_refused(void **state)
{
    (void)state;
    for (int older = 0; older < 2; older++) {
        struct device_rank ranks[COLL_RANKS];
        struct device_group g = group_of(2, older ? device_run_steps : run_other_step);
        device_run(&g, ranks, older ? be_older : NULL);
        device_assert_clean(ranks, 2);
        /* One may see the other's end before its frame. */
        assert_true(ranks[0].err != GW_OK && ranks[1].err != GW_OK);
        assert_true(ranks[0].err == GW_ERR_PROTO || ranks[1].err == GW_ERR_PROTO);
    }
}

/* Rank 1 as a process; rank 0 here. Returns rank 0 as it ended. */
static struct device_rank run_with_a_process(struct device_group *g)
{
    struct device_rank r;
    assert_int_equal(coll_mesh_open(&g->mesh, 2, true), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        alarm(60);
        coll_mesh_keep(&g->mesh, 1);
        device_place(&r, g, 1);
        (void)device_rank_main(&r);
        _exit(0);
    }
    coll_mesh_keep(&g->mesh, 0);
    device_place(&r, g, 0);
    (void)device_rank_main(&r);
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, NULL, 0), child);
    return r;
}

static gw_err_t run_second_is_killed(struct device_rank *r)
{
    TRY(device_step(r, 1));
    if (r->self == 1) raise(SIGKILL);
    return device_step(r, 2);
}

static gw_err_t run_second_freezes(struct device_rank *r)
{
    TRY(device_step(r, 1));
    if (r->self == 1) raise(SIGSTOP);
    return device_step(r, 2);
}

static void test_process_that_is_killed_or_frozen_fails_the_other_rank(void **state)
{
    (void)state;
    struct device_group g = group_of(2, run_second_is_killed);
    struct device_rank r = run_with_a_process(&g);
    device_assert_clean(&r, 1);
    device_assert_text(&r, GW_ERR_IO, "rank 1");
    g = group_of(2, run_second_freezes);
    g.deadline_us = 2 * SHORT_US;
    r = run_with_a_process(&g);
    device_assert_clean(&r, 1);
    device_assert_text(&r, GW_ERR_IO, "rank 1 is slow");
}

static gw_err_t run_first_stands_still(struct device_rank *r)
{
    TRY(device_step(r, 1));
    if (r->self == 0) atomic_store(&r->device.still, true);
    return device_step(r, 2);
}

static void test_device_that_stands_still_fails_both_ranks_and_keeps_its_memory(void **state)
{
    (void)state;
    struct device_rank ranks[COLL_RANKS];
    struct device_group g = group_of(2, run_first_stands_still);
    g.deadline_us = 2 * SHORT_US;
    g.end_us = SHORT_US;
    device_run(&g, ranks, NULL);
    assert_int_equal(ranks[0].err, GW_ERR_IO);
    assert_int_equal(ranks[1].err, GW_ERR_IO);
    assert_non_null(strstr(ranks[0].ctx.text, "is slow"));
    assert_false(ranks[0].rest);
    assert_true(ranks[0].lost > 0);
}

static void *abort_main(void *arg)
{
    struct device_rank *r = arg;
    poll(NULL, 0, 30); /* by then the rank waits; the test holds whether or not it does */
    gw_coll_device_abort(r->coll);
    return NULL;
}

/* Waits for a rank that is there and sends nothing, or for its own device. */
static gw_err_t run_aborted(struct device_rank *r)
{
    pthread_t thread;
    if (r->self == 1) return gw_coll_device_recv(r->coll, 0, r->data, 4, &r->ctx);
    if (pthread_create(&thread, NULL, abort_main, r) != 0) abort();
    gw_err_t err = gw_coll_device_recv(r->coll, 1, r->data, 4, &r->ctx);
    pthread_join(thread, NULL);
    return err;
}

static gw_err_t run_aborted_at_the_device(struct device_rank *r)
{
    pthread_t thread;
    if (r->self == 1) return gw_coll_device_recv(r->coll, 0, r->data, 4, &r->ctx);
    atomic_store(&r->device.still, true);
    if (pthread_create(&thread, NULL, abort_main, r) != 0) abort();
    gw_err_t err = gw_coll_device_finish(r->coll, &r->ctx);
    pthread_join(thread, NULL);
    atomic_store(&r->device.still, false);
    return err;
}

static void test_abort_from_another_thread_ends_a_wait(void **state)
{
    (void)state;
    for (int device = 0; device < 2; device++) {
        struct device_rank ranks[COLL_RANKS];
        struct device_group g = group_of(2, device ? run_aborted_at_the_device : run_aborted);
        device_run(&g, ranks, NULL);
        device_assert_clean(ranks, 2);
        device_assert_text(&ranks[0], GW_ERR_IO, "aborted");
        device_assert_text(&ranks[1], GW_ERR_IO, "rank 0");
        assert_string_equal(ranks[0].ctx.text, "aborted");
    }
}

static gw_err_t run_everything(struct device_rank *r)
{
    TRY(device_step(r, 1));
    gw_coll_device_begin(r->coll, 2);
    TRY(gw_coll_device_send(r->coll, 1 - r->self, r->data, 400, &r->ctx));
    TRY(gw_coll_device_recv(r->coll, 1 - r->self, r->data, 400, &r->ctx));
    return gw_coll_device_finish(r->coll, &r->ctx);
}

static void be_faulty(struct device_rank *r)
{
    if (r->self == 0) r->device.fail_at = r->group->fail_at;
}

#define DEVICE_CALLS 50 /* that there are at least: device and pinned memory, events, copies, sums */

static void test_device_error_at_any_call_ends_both_ranks_cleanly(void **state)
{
    (void)state;
    for (uint32_t at = 1; at <= DEVICE_CALLS; at += at < 16 ? 1 : 5) {
        struct device_rank ranks[COLL_RANKS];
        struct device_group g = group_of(2, run_everything);
        g.fail_at = at;
        device_run(&g, ranks, be_faulty);
        device_assert_text(&ranks[0], GW_ERR_CUDA, "planned fault");
        device_assert_text(&ranks[1], GW_ERR_IO, "rank 0");
        device_assert_clean(ranks, 2);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tree_add_of_any_cut_is_the_fixed_tree),
        cmocka_unit_test(test_send_of_any_length_arrives),
        cmocka_unit_test(test_peer_that_leaves_fails_the_others_at_once),
        cmocka_unit_test(test_rank_at_another_step_or_of_another_generation_is_refused),
        cmocka_unit_test(test_process_that_is_killed_or_frozen_fails_the_other_rank),
        cmocka_unit_test(test_device_that_stands_still_fails_both_ranks_and_keeps_its_memory),
        cmocka_unit_test(test_abort_from_another_thread_ends_a_wait),
        cmocka_unit_test(test_device_error_at_any_call_ends_both_ranks_cleanly),
    };
    alarm(300); /* a hang ends here */
    return cmocka_run_group_tests_name("coll_staged", tests, NULL, NULL);
}
