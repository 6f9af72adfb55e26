/* kernels/cuda/coll_nccl: lost peers, hangs, errors at every call and of the device. Whatever happens, every rank comes to an
 * end, none takes wrong sums for right ones, no communicator and no memory is left, and survivors can form anew.
 *
 * The library is tests/lib/fake_nccl.c's; ranks are threads, or processes that are really killed and frozen. */
#include "tests/lib/coll_device_fixture.h"

#include <poll.h>
#include <signal.h>
#include <sys/wait.h>

static struct device_group group_of(const struct gw_nccl *nccl, uint32_t ranks,
                                    gw_err_t (*run)(struct device_rank *r))
{
    static const struct device_stage stages[] = {{1, {0, 8}}, {2, {0, 4, 8}}, {3, {0, 3, 6, 8}}};
    return (struct device_group){.shares = 8,
                                 .stages = {stages[ranks - 1]},
                                 .deadline_us = LONG_US,
                                 .init_us = LONG_US,
                                 .end_us = LONG_US,
                                 .nccl = nccl,
                                 .run = run};
}

/* The survivors of a loss: as many as there were less the last one, by a new id. */
static void assert_forms_anew(const struct fake_nccl *fake, uint32_t ranks)
{
    struct device_rank again[COLL_RANKS];
    fake->set(&(struct fake_nccl_plan){.seed = 99});
    struct device_group g = group_of(&fake->api, ranks, device_run_steps);
    device_run(&g, again, NULL);
    device_assert_well(again, ranks);
}

static gw_err_t run_last_leaves(struct device_rank *r)
{
    TRY(device_step(r, 1));
    return r->self + 1 == device_ranks(r->group) ? gw_fail(&r->ctx, GW_ERR_INPUT, "leaves")
                                                 : device_step(r, 2);
}

/* It ends its communicator by force, as one does that has failed. */
static gw_err_t run_last_aborts(struct device_rank *r)
{
    gw_err_t err = run_last_leaves(r);
    if (err == GW_ERR_INPUT) gw_coll_device_abort(r->coll);
    return err;
}

static void test_peer_that_leaves_is_told_of_to_all_at_once(void **state)
{
    (void)state;
    struct fake_nccl fake;
    struct device_rank ranks[COLL_RANKS];
    fake_nccl_open(&fake, &(struct fake_nccl_plan){.seed = 1, .tells = true});
    struct device_group g = group_of(&fake.api, 3, run_last_aborts);
    device_run(&g, ranks, NULL);
    for (int i = 0; i < 2; i++) device_assert_text(&ranks[i], GW_ERR_IO, "remote process exited");
    device_assert_clean(ranks, 3);
    assert_forms_anew(&fake, 2);
    fake_nccl_end(&fake);
}

static void test_peer_that_leaves_untold_is_missed_by_the_deadline(void **state)
{
    (void)state;
    struct fake_nccl fake;
    struct device_rank ranks[COLL_RANKS];
    fake_nccl_open(&fake, &(struct fake_nccl_plan){.seed = 2});
    struct device_group g = group_of(&fake.api, 3, run_last_aborts);
    g.deadline_us = 2 * SHORT_US;
    device_run(&g, ranks, NULL);
    device_assert_clean(ranks, 3);
    for (int i = 0; i < 2; i++) device_assert_text(&ranks[i], GW_ERR_IO, "is slow");
    struct fake_nccl_counts counts;
    fake.get_counts(&counts);
    assert_int_equal(counts.calls[FAKE_ABORT], 3);
    assert_int_equal(counts.calls[FAKE_REVOKE], 3);
    assert_forms_anew(&fake, 2);
    fake_nccl_end(&fake);
}

/* ---- processes ----------------------------------------------------------------------------------------------- */

/* Rank 1 as a process with a plan of its own; rank 0 here. Returns rank 0 as it ended. */
static struct device_rank run_with_a_process(struct fake_nccl *fake, struct device_group *g,
                                             const struct fake_nccl_plan *child_plan)
{
    struct device_rank r;
    assert_int_equal(gw_nccl_make_id(g->nccl, &g->id, NULL), GW_OK);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct fake_nccl_plan plan = *child_plan;
        struct gw_nccl_id id = g->id;
        for (uint32_t i = 0; i < plan.rules_len; i++) plan.rules[i].rank = FAKE_NCCL_ANY_RANK;
        alarm(60);
        fake->set(&plan); /* closes the id's segment here; the parent's descriptor names it */
        g->id = id;
        device_place(&r, g, 1);
        (void)device_rank_main(&r);
        _exit(r.err == GW_OK ? 0 : 1);
    }
    device_place(&r, g, 0);
    (void)device_rank_main(&r);
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, NULL, 0), child);
    return r;
}

/* At whichever call of its life: rank 0 is told, or finds out. */
static void test_process_that_is_killed_at_any_call_fails_the_other_rank(void **state)
{
    static const struct {
        enum fake_call call;
        uint32_t nth;
    } at[] = {{FAKE_INIT, 1},
              {FAKE_GET_ASYNC, 2},
              {FAKE_ALL_GATHER, 1},
              {FAKE_ALL_GATHER, 5},
              {FAKE_ALL_GATHER, 20}};
    (void)state;
    for (size_t i = 0; i < 2 * sizeof at / sizeof *at; i++) {
        bool tells = i % 2;
        struct fake_nccl fake;
        struct fake_nccl_plan child = {
            .seed = i,
            .rules_len = 1,
            .rules = {{.fault = FAKE_KILLED, .call = at[i / 2].call, .nth = at[i / 2].nth}}};
        fake_nccl_open(&fake, &(struct fake_nccl_plan){.seed = i, .tells = tells});
        struct device_group g = group_of(&fake.api, 2, device_run_steps);
        /* A process that dies before it has come cannot be told of. */
        g.init_us = tells && i / 2 > 0 ? LONG_US : SHORT_US;
        g.deadline_us = tells ? LONG_US : SHORT_US;
        struct device_rank r = run_with_a_process(&fake, &g, &child);
        device_assert_clean(&r, 1);
        assert_int_equal(r.err, GW_ERR_IO);
        assert_forms_anew(&fake, 1);
        fake_nccl_end(&fake);
    }
}

static gw_err_t run_second_freezes(struct device_rank *r)
{
    TRY(device_step(r, 1));
    if (r->self == 1) raise(SIGSTOP);
    return device_step(r, 2);
}

static void test_process_that_is_frozen_fails_the_other_rank_by_the_deadline(void **state)
{
    (void)state;
    struct fake_nccl fake;
    fake_nccl_open(&fake, &(struct fake_nccl_plan){.seed = 3, .tells = true});
    struct device_group g = group_of(&fake.api, 2, run_second_freezes);
    g.deadline_us = 2 * SHORT_US;
    struct device_rank r = run_with_a_process(&fake, &g, &(struct fake_nccl_plan){.seed = 4});
    device_assert_clean(&r, 1);
    device_assert_text(&r, GW_ERR_IO, "is slow");
    fake_nccl_end(&fake);
}

/* ---- faults by plan ------------------------------------------------------------------------------------------ */

/* Two ranks, one rule for rank 0. */
static void run_rule(struct fake_nccl *fake, struct fake_nccl_rule rule, struct device_group *g,
                     struct device_rank ranks[COLL_RANKS])
{
    struct fake_nccl_plan plan = {.seed = rule.nth, .tells = true, .rules_len = 1, .rules = {rule}};
    fake->set(&plan);
    device_run(g, ranks, NULL);
}

static void test_work_that_nccl_cuts_short_is_not_taken_for_done(void **state)
{
    (void)state;
    for (uint32_t nth = 1; nth <= 4; nth++) {
        struct fake_nccl fake;
        struct device_rank ranks[COLL_RANKS];
        fake_nccl_open(&fake, &(struct fake_nccl_plan){0});
        struct device_group g = group_of(&fake.api, 2, device_run_steps);
        run_rule(
            &fake,
            (struct fake_nccl_rule){
                .fault = FAKE_ASYNC, .call = FAKE_ALL_GATHER, .nth = nth, .result = GW_NCCL_SYSTEM_ERROR},
            &g, ranks);
        device_assert_clean(ranks, 2);
        device_assert_text(&ranks[0], GW_ERR_IO, "unhandled system error");
        device_assert_text(&ranks[1], GW_ERR_IO, "remote process exited");
        fake_nccl_end(&fake);
    }
}

static void test_ranks_that_come_late_are_waited_for(void **state)
{
    static const enum fake_call slow[] = {FAKE_INIT, FAKE_ALL_GATHER, FAKE_FINALIZE};
    (void)state;
    for (int i = 0; i < 3; i++) {
        struct fake_nccl fake;
        struct device_rank ranks[COLL_RANKS];
        fake_nccl_open(&fake, &(struct fake_nccl_plan){0});
        struct device_group g = group_of(&fake.api, 2, device_run_steps);
        run_rule(&fake,
                 (struct fake_nccl_rule){.fault = FAKE_SLOW, .call = slow[i], .nth = 1, .us = SHORT_US}, &g,
                 ranks);
        device_assert_well(ranks, 2);
        fake_nccl_end(&fake);
    }
}

static void test_init_that_never_ends_is_given_up(void **state)
{
    (void)state;
    struct fake_nccl fake;
    struct device_rank ranks[COLL_RANKS];
    fake_nccl_open(&fake, &(struct fake_nccl_plan){0});
    struct device_group g = group_of(&fake.api, 2, device_run_steps);
    g.init_us = SHORT_US;
    run_rule(
        &fake,
        (struct fake_nccl_rule){.fault = FAKE_HANGS, .call = FAKE_INIT, .rank = FAKE_NCCL_ANY_RANK, .nth = 1},
        &g, ranks);
    device_assert_clean(ranks, 2);
    for (int i = 0; i < 2; i++) assert_int_equal(ranks[i].err, GW_ERR_IO);
    fake_nccl_end(&fake);
}

/* Its peers finalize for ever; each ends by force instead, and cleanly. */
static void test_destroy_whose_finalize_hangs_ends_by_force(void **state)
{
    (void)state;
    struct fake_nccl fake;
    struct device_rank ranks[COLL_RANKS];
    fake_nccl_open(&fake, &(struct fake_nccl_plan){0});
    struct device_group g = group_of(&fake.api, 2, device_run_steps);
    g.end_us = 10 * SHORT_US; /* all but the finalize ends in it */
    run_rule(&fake, (struct fake_nccl_rule){.fault = FAKE_HANGS, .call = FAKE_FINALIZE, .nth = 1}, &g, ranks);
    for (int i = 0; i < 2; i++) assert_int_equal(ranks[i].err, GW_OK);
    device_assert_clean(ranks, 2);
    assert_true(fake_nccl_end(&fake).calls[FAKE_ABORT] >= 1);
}

static gw_err_t run_aborted(struct device_rank *r)
{
    gw_coll_device_abort(r->coll);
    return gw_coll_device_finish(r->coll, &r->ctx);
}

static void run_alone(const struct fake_nccl *fake, const struct fake_nccl_plan *plan, int64_t end_us,
                      bool with_revoke, struct device_rank *r)
{
    struct gw_nccl api = fake->api;
    struct device_group g = group_of(&api, 1, run_aborted);
    if (!with_revoke) api.comm_revoke = NULL;
    g.end_us = end_us;
    fake->set(plan);
    device_run(&g, r, NULL);
    device_assert_text(r, GW_ERR_IO, "aborted");
}

static void test_end_of_a_library_without_revoke_or_with_one_that_hangs_is_clean(void **state)
{
    (void)state;
    struct fake_nccl fake;
    struct device_rank r;
    struct fake_nccl_counts counts;
    fake_nccl_open(&fake, &(struct fake_nccl_plan){0});
    run_alone(&fake, &(struct fake_nccl_plan){0}, LONG_US, false, &r);
    device_assert_clean(&r, 1);
    fake.get_counts(&counts);
    assert_int_equal(counts.calls[FAKE_REVOKE], 0);
    assert_int_equal(counts.calls[FAKE_ABORT], 1);
    struct fake_nccl_plan hangs = {.rules_len = 1,
                                   .rules = {{.fault = FAKE_HANGS, .call = FAKE_REVOKE, .nth = 1}}};
    run_alone(&fake, &hangs, 10 * SHORT_US, true, &r); /* all but the revoke ends in it */
    device_assert_clean(&r, 1);
    fake_nccl_end(&fake);
}

static void test_abort_that_hangs_is_left_and_said(void **state)
{
    (void)state;
    struct fake_nccl fake;
    struct device_rank r;
    struct fake_nccl_counts counts;
    struct fake_nccl_plan hangs = {.rules_len = 1,
                                   .rules = {{.fault = FAKE_HANGS, .call = FAKE_ABORT, .nth = 1}}};
    fake_nccl_open(&fake, &hangs);
    run_alone(&fake, &hangs, SHORT_US, true, &r);
    assert_false(r.rest);
    assert_true(r.lost > 0); /* memory that NCCL may still use is not taken from it */
    fake.let_go();
    do { /* its thread ends then */
        poll(NULL, 0, 1);
        fake.get_counts(&counts);
    } while (counts.living > 0);
    fake_nccl_end(&fake);
}

struct aborting {
    struct device_rank *rank;
    pthread_t thread;
};

static void *abort_main(void *arg)
{
    struct aborting *a = arg;
    poll(NULL, 0, 30); /* by then the rank waits; the test holds whether or not it does */
    gw_coll_device_abort(a->rank->coll);
    return NULL;
}

static gw_err_t run_aborted_in_a_wait(struct device_rank *r)
{
    TRY(device_step(r, 1));
    if (r->self == 1) return device_step(r, 2);
    struct aborting a = {.rank = r};
    if (pthread_create(&a.thread, NULL, abort_main, &a) != 0) abort();
    gw_coll_device_begin(r->coll, 2);
    gw_err_t err = gw_coll_device_recv(r->coll, 1, r->data, 4, &r->ctx); /* which is never sent */
    if (err == GW_OK) err = gw_coll_device_finish(r->coll, &r->ctx);
    pthread_join(a.thread, NULL);
    return err;
}

static void test_abort_from_another_thread_ends_a_wait(void **state)
{
    (void)state;
    struct fake_nccl fake;
    struct device_rank ranks[COLL_RANKS];
    fake_nccl_open(&fake, &(struct fake_nccl_plan){.seed = 8, .tells = true});
    struct device_group g = group_of(&fake.api, 2, run_aborted_in_a_wait);
    device_run(&g, ranks, NULL);
    device_assert_text(&ranks[0], GW_ERR_IO, "aborted");
    assert_int_not_equal(ranks[1].err, GW_OK);
    device_assert_clean(ranks, 2);
    fake_nccl_end(&fake);
}

/* ---- sweeps -------------------------------------------------------------------------------------------------- */

/* A step of everything: sums, and a transfer each way. */
static gw_err_t run_everything(struct device_rank *r)
{
    TRY(device_step(r, 1));
    gw_coll_device_begin(r->coll, 2);
    device_row(r->data, 77, r->self, 100);
    for (uint32_t from = 0; from < 2; from++)
        if (r->self == from)
            TRY(gw_coll_device_send(r->coll, 1 - from, r->data, 400, &r->ctx));
        else
            TRY(gw_coll_device_recv(r->coll, from, r->data + 100 * (1 + from), 400, &r->ctx));
    TRY(gw_coll_device_finish(r->coll, &r->ctx));
    float expected[100];
    device_row(expected, 77, 1 - r->self, 100);
    if (memcmp(expected, r->data + 100 * (2 - r->self), sizeof expected) != 0)
        return gw_fail(&r->ctx, GW_ERR_INTERNAL, "other bits");
    return GW_OK;
}

static void test_error_at_any_call_ends_both_ranks_cleanly(void **state)
{
    (void)state;
    for (int call = FAKE_INIT; call < FAKE_CALLS; call++)
        for (uint32_t nth = 1; nth <= 2; nth++) {
            struct fake_nccl fake;
            struct device_rank ranks[COLL_RANKS];
            fake_nccl_open(&fake, &(struct fake_nccl_plan){0});
            struct device_group g = group_of(&fake.api, 2, run_everything);
            g.init_us = SHORT_US; /* of the other, if this one does not come */
            g.end_us = 5 * SHORT_US;
            run_rule(&fake,
                     (struct fake_nccl_rule){.fault = FAKE_FAILS,
                                             .call = (enum fake_call)call,
                                             .rank = call == FAKE_GROUP_START ? FAKE_NCCL_ANY_RANK : 0,
                                             .nth = nth,
                                             .result = GW_NCCL_INTERNAL_ERROR},
                     &g, ranks);
            for (int i = 0; i < 2; i++) assert_int_equal(ranks[i].lost != 0, !ranks[i].rest);
            bool hit = call == FAKE_GET_ASYNC || (nth == 1 && (call == FAKE_INIT || call >= FAKE_ALL_GATHER));
            if (hit && ranks[0].err == GW_OK && ranks[1].err == GW_OK)
                fail_msg("call %d, %u: nobody has failed", call, nth);
            for (int i = 0; i < 2; i++)
                if (strstr(ranks[i].ctx.text, "other bits"))
                    fail_msg("call %d, %u: %s", call, nth, ranks[i].ctx.text);
            fake_nccl_end(&fake);
        }
}

static void be_faulty(struct device_rank *r)
{
    if (r->self == 0) r->device.fail_at = r->group->fail_at;
}

#define DEVICE_CALLS_BEFORE 7  /* of create, until the rank has come */
#define DEVICE_CALLS        34 /* that there are at least, before the other rank has all from this one */

static void test_device_error_at_any_call_ends_both_ranks_cleanly(void **state)
{
    (void)state;
    for (uint32_t at = 1; at <= DEVICE_CALLS; at += at < 12 ? 1 : 3) {
        struct fake_nccl fake;
        struct device_rank ranks[COLL_RANKS];
        fake_nccl_open(&fake, &(struct fake_nccl_plan){.seed = at, .tells = true});
        struct device_group g = group_of(&fake.api, 2, run_everything);
        g.fail_at = at;
        if (at <= DEVICE_CALLS_BEFORE) g.init_us = SHORT_US; /* nobody can tell that it will not come */
        device_run(&g, ranks, be_faulty);
        device_assert_text(&ranks[0], GW_ERR_CUDA, "planned fault");
        device_assert_text(&ranks[1], GW_ERR_IO, "");
        device_assert_clean(ranks, 2);
        fake_nccl_end(&fake);
    }
}

/* One rule by the seed, which gives the same plan again, though not the same moments. */
static void run_seed(uint64_t seed)
{
    static const enum gw_nccl_result results[] = {GW_NCCL_REMOTE_ERROR, GW_NCCL_SYSTEM_ERROR,
                                                  GW_NCCL_UNHANDLED_CUDA_ERROR};
    struct fake_nccl_plan plan = {.seed = seed, .rules_len = 1};
    struct device_rank ranks[COLL_RANKS];
    struct fake_nccl fake;
    struct gw_rng r;
    gw_rng_init(&r, seed);
    plan.tells = gw_rng_below(&r, 2);
    plan.rules[0] = (struct fake_nccl_rule){.fault = (enum fake_fault)(1 + gw_rng_below(&r, FAKE_SLOW)),
                                            .call = (enum fake_call)(1 + gw_rng_below(&r, FAKE_CALLS - 1)),
                                            .rank = (int)gw_rng_below(&r, 3),
                                            .nth = 1 + (uint32_t)gw_rng_below(&r, 12),
                                            .result = (int)results[gw_rng_below(&r, 3)],
                                            .us = (int64_t)gw_rng_below(&r, 20000)};
    fake_nccl_open(&fake, &plan);
    struct device_group g = group_of(&fake.api, 3, device_run_steps);
    g.deadline_us = g.init_us = g.end_us = SHORT_US;
    device_run(&g, ranks, NULL);
    fake.let_go();
    for (int i = 0; i < 3; i++)
        if (strstr(ranks[i].ctx.text, "other bits")) fail_msg("seed %d: %s", (int)seed, ranks[i].ctx.text);
    for (struct fake_nccl_counts c = {.living = 1}; c.living > 0; fake.get_counts(&c)) poll(NULL, 0, 1);
    assert_forms_anew(&fake, 2);
    fake_nccl_end(&fake);
}

static void test_any_fault_by_seed_leaves_no_wrong_sum_and_no_hang(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 10; seed++) run_seed(seed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_peer_that_leaves_is_told_of_to_all_at_once),
        cmocka_unit_test(test_peer_that_leaves_untold_is_missed_by_the_deadline),
        cmocka_unit_test(test_process_that_is_killed_at_any_call_fails_the_other_rank),
        cmocka_unit_test(test_process_that_is_frozen_fails_the_other_rank_by_the_deadline),
        cmocka_unit_test(test_work_that_nccl_cuts_short_is_not_taken_for_done),
        cmocka_unit_test(test_ranks_that_come_late_are_waited_for),
        cmocka_unit_test(test_init_that_never_ends_is_given_up),
        cmocka_unit_test(test_destroy_whose_finalize_hangs_ends_by_force),
        cmocka_unit_test(test_end_of_a_library_without_revoke_or_with_one_that_hangs_is_clean),
        cmocka_unit_test(test_abort_that_hangs_is_left_and_said),
        cmocka_unit_test(test_abort_from_another_thread_ends_a_wait),
        cmocka_unit_test(test_error_at_any_call_ends_both_ranks_cleanly),
        cmocka_unit_test(test_device_error_at_any_call_ends_both_ranks_cleanly),
        cmocka_unit_test(test_any_fault_by_seed_leaves_no_wrong_sum_and_no_hang),
    };
    alarm(300); /* a hang ends here */
    return cmocka_run_group_tests_name("coll_nccl_failures", tests, NULL, NULL);
}
