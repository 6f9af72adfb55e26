/* kernels/cuda/coll_nccl: sums of every cut are those of one rank, bit for bit; what is sent arrives; ranks that are elsewhere
 * are found. The library is tests/lib/fake_nccl.c's, ranks are threads. */
#include "tests/lib/coll_device_fixture.h"

static struct device_group group_of(const struct fake_nccl *fake, uint32_t shares)
{
    return (struct device_group){.shares = shares,
                                 .deadline_us = LONG_US,
                                 .init_us = LONG_US,
                                 .nccl = &fake->api,
                                 .run = device_run_steps};
}

static void test_tree_add_of_any_cut_is_the_fixed_tree(void **state)
{
    static const struct {
        uint32_t shares;
        struct device_stage stage;
    } cuts[] = {
        {8, {1, {0, 8}}},    {8, {2, {0, 4, 8}}},       {8, {3, {0, 3, 6, 8}}},
        {8, {2, {0, 1, 8}}}, {8, {4, {0, 2, 4, 6, 8}}}, {5, {2, {0, 2, 5}}},
        {1, {1, {0, 1}}},    {13, {3, {0, 4, 8, 13}}},  {6, {5, {0, 1, 2, 3, 5, 6}}},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        struct fake_nccl fake;
        struct device_rank ranks[COLL_RANKS];
        fake_nccl_open(&fake, &(struct fake_nccl_plan){.seed = i});
        struct device_group g = group_of(&fake, cuts[i].shares);
        g.stages[0] = cuts[i].stage;
        device_run(&g, ranks, NULL);
        device_assert_well(ranks, g.stages[0].ranks);
        struct fake_nccl_counts counts = fake_nccl_end(&fake);
        assert_int_equal(counts.calls[FAKE_ABORT], 0);
        assert_int_equal(counts.calls[FAKE_DESTROY], g.stages[0].ranks);
    }
}

/* Activations from each rank of a stage to the one with its place in the next; step by step, with the sums of the stage. */
static gw_err_t run_stages(struct device_rank *r)
{
    uint32_t at = r->self - r->stage_first, width = r->stage->ranks;
    bool first = r->stage_first == 0, last = r->self + width >= device_ranks(r->group);
    for (uint64_t step = 1; step <= 3; step++) {
        gw_coll_device_begin(r->coll, step);
        if (first)
            device_row(r->data, step, at, DEVICE_ELEMS);
        else
            TRY(gw_coll_device_recv(r->coll, r->self - width, r->data, DEVICE_ELEMS * sizeof(float),
                                    &r->ctx));
        TRY(device_sum(r, step, 0, DEVICE_ELEMS));
        if (!last)
            TRY(gw_coll_device_send(r->coll, r->self + width, r->data, DEVICE_ELEMS * sizeof(float),
                                    &r->ctx));
        TRY(gw_coll_device_finish(r->coll, &r->ctx));
        float expected[DEVICE_ELEMS];
        device_row(expected, step, at, DEVICE_ELEMS);
        if (memcmp(expected, r->data, sizeof expected) != 0)
            return gw_fail(&r->ctx, GW_ERR_INTERNAL, "other activations");
        TRY(device_compare(r, step, 0, DEVICE_ELEMS));
    }
    return GW_OK;
}

static void test_stages_of_one_group_sum_apart_and_pass_on_activations(void **state)
{
    static const struct device_stage widths[] = {{1, {0, 8}}, {2, {0, 3, 8}}};
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct fake_nccl fake;
        struct device_rank ranks[COLL_RANKS];
        fake_nccl_open(&fake, &(struct fake_nccl_plan){.seed = 5});
        struct device_group g = group_of(&fake, 8);
        for (int k = 0; k < 3; k++) g.stages[k] = widths[i];
        g.run = run_stages;
        device_run(&g, ranks, NULL);
        device_assert_well(ranks, device_ranks(&g));
        fake_nccl_end(&fake);
    }
}

/* Two ranks of one stage, of which the second is special; both must fail, and one of them for this reason. */
static void assert_refused(const struct fake_nccl_plan *plan, struct device_group *g,
                           void (*prepare)(struct device_rank *r), gw_err_t err, const char *text)
{
    struct fake_nccl fake;
    struct device_rank ranks[COLL_RANKS];
    fake_nccl_open(&fake, plan);
    g->nccl = &fake.api;
    device_run(g, ranks, prepare);
    assert_true(ranks[0].err != GW_OK && ranks[1].err != GW_OK);
    bool said = false;
    for (int i = 0; i < 2; i++) {
        assert_true(ranks[i].rest);
        assert_int_equal(ranks[i].lost, 0);
        said = said || (ranks[i].err == err && strstr(ranks[i].ctx.text, text));
    }
    if (!said) fail_msg("%s; %s", ranks[0].ctx.text, ranks[1].ctx.text);
    struct fake_nccl_counts counts = fake_nccl_end(&fake);
    assert_int_equal(counts.calls[FAKE_ABORT], 2); /* each survivor ends its own */
}

static struct device_group pair_of_ranks(gw_err_t (*run)(struct device_rank *r))
{
    return (struct device_group){
        .shares = 8, .stages = {{2, {0, 4, 8}}}, .deadline_us = LONG_US, .init_us = LONG_US, .run = run};
}

static const struct fake_nccl_plan telling = {.seed = 11, .tells = true};

static void be_older(struct device_rank *r)
{
    if (r->self == 1) r->generation = 2;
}

static void test_create_with_a_rank_of_another_generation_is_refused(void **state)
{
    (void)state;
    struct device_group g = pair_of_ranks(device_run_steps);
    assert_refused(&telling, &g, be_older, GW_ERR_PROTO, "generation");
}

static void cut_otherwise(struct device_rank *r)
{
    static const struct device_stage other = {2, {0, 3, 8}};
    if (r->self == 1) r->stage = &other;
}

static void test_create_with_a_rank_that_cuts_otherwise_is_refused(void **state)
{
    (void)state;
    struct device_group g = pair_of_ranks(device_run_steps);
    assert_refused(&telling, &g, cut_otherwise, GW_ERR_PROTO, "another cut of the shares");
}

static gw_err_t run_other_step(struct device_rank *r)
{
    TRY(device_step(r, 1));
    return device_step(r, 2 + r->self);
}

static void test_finish_with_a_rank_at_another_step_is_refused(void **state)
{
    (void)state;
    struct device_group g = pair_of_ranks(run_other_step);
    assert_refused(&telling, &g, NULL, GW_ERR_PROTO, "step");
}

/* The same bytes in all, in sums of other lengths: they arrive mixed, and no transfer fails. */
static gw_err_t run_other_lengths(struct device_rank *r)
{
    gw_coll_device_begin(r->coll, 1);
    TRY(device_sum(r, 1, 0, 300 + 100 * r->self));
    TRY(device_sum(r, 2, 1, 400 - 100 * r->self));
    return gw_coll_device_finish(r->coll, &r->ctx);
}

static void test_finish_after_sums_of_other_lengths_is_refused(void **state)
{
    (void)state;
    struct device_group g = pair_of_ranks(run_other_lengths);
    assert_refused(&telling, &g, NULL, GW_ERR_PROTO, "sums of other lengths");
}

/* Nothing of it is missing: what the receiver takes for a tag is a part of the data. */
static gw_err_t run_longer_send(struct device_rank *r)
{
    gw_coll_device_begin(r->coll, 1);
    memset(r->data, 0, 1024);
    if (r->self == 0)
        TRY(gw_coll_device_send(r->coll, 1, r->data, 512, &r->ctx));
    else
        TRY(gw_coll_device_recv(r->coll, 0, r->data, 256, &r->ctx));
    TRY(gw_coll_device_finish(r->coll, &r->ctx));
    return device_step(r, 2); /* rank 0, to which nothing wrong was sent, hears of it */
}

static void test_recv_of_fewer_bytes_than_were_sent_is_refused(void **state)
{
    (void)state;
    struct device_group g = pair_of_ranks(run_longer_send);
    assert_refused(&telling, &g, NULL, GW_ERR_PROTO, "other bytes than were expected");
}

static gw_err_t run_many_sends(struct device_rank *r)
{
    gw_coll_device_begin(r->coll, 1);
    for (int i = 0; i <= GW_COLL_TAGS_MAX; i++)
        if (r->self == 0)
            TRY(gw_coll_device_send(r->coll, 1, r->data, 4, &r->ctx));
        else
            TRY(gw_coll_device_recv(r->coll, 0, r->data, 4, &r->ctx));
    return gw_coll_device_finish(r->coll, &r->ctx);
}

static void test_send_beyond_what_a_step_may_have_is_an_error(void **state)
{
    (void)state;
    struct device_group g = pair_of_ranks(run_many_sends);
    assert_refused(&telling, &g, NULL, GW_ERR_LIMIT, "more than 256 transfers in a step");
}

static void test_create_by_an_id_that_was_used_is_refused(void **state)
{
    (void)state;
    struct fake_nccl fake;
    struct device_rank ranks[COLL_RANKS], again;
    fake_nccl_open(&fake, &telling);
    struct device_group g = pair_of_ranks(device_run_steps);
    g.nccl = &fake.api;
    device_run(&g, ranks, NULL);
    device_assert_well(ranks, 2);
    device_place(&again, &g, 0);
    device_rank_main(&again);
    assert_int_equal(again.err, GW_ERR_INTERNAL);
    assert_non_null(strstr(again.ctx.text, "ncclCommInitRankConfig: invalid usage"));
    fake_nccl_end(&fake);
}

static gw_err_t try_config(void (*spoil)(struct gw_coll_nccl_config *c), const struct gw_nccl *nccl)
{
    static const struct device_group g = {
        .shares = 8, .stages = {{2, {0, 4, 8}}}, .deadline_us = LONG_US, .init_us = LONG_US};
    struct device_rank r;
    struct gw_coll_device *coll = NULL;
    device_place(&r, &g, 0);
    host_device_open(&r.device);
    struct gw_coll_nccl_config c = {.group = device_config(&r), .nccl = nccl, .init_us = LONG_US};
    spoil(&c);
    gw_err_t err = gw_coll_nccl_create(&c, &coll, NULL);
    assert_null(coll);
    assert_int_equal(host_device_close(&r.device), 0);
    return err;
}

static void no_shares(struct gw_coll_nccl_config *c)
{
    c->group.shares = 0;
}

static void outside(struct gw_coll_nccl_config *c)
{
    c->group.stage_first = 1;
}

static void no_deadline(struct gw_coll_nccl_config *c)
{
    c->group.deadline_us = 0;
}

static void no_init_time(struct gw_coll_nccl_config *c)
{
    c->init_us = 0;
}

static void too_large(struct gw_coll_nccl_config *c)
{
    c->group.max_elems = GW_COLL_DATA_MAX;
}

static void test_create_by_a_wrong_config_is_refused(void **state)
{
    (void)state;
    struct fake_nccl fake;
    fake_nccl_open(&fake, &telling);
    assert_int_equal(try_config(no_shares, &fake.api), GW_ERR_INPUT);
    assert_int_equal(try_config(outside, &fake.api), GW_ERR_INPUT);
    assert_int_equal(try_config(no_deadline, &fake.api), GW_ERR_INPUT);
    assert_int_equal(try_config(no_init_time, &fake.api), GW_ERR_INPUT);
    assert_int_equal(try_config(too_large, &fake.api), GW_ERR_LIMIT);
    fake_nccl_end(&fake);
}

static void test_open_of_what_is_not_nccl_says_what_is_missing(void **state)
{
    (void)state;
    struct gw_nccl nccl = {.version = 1};
    struct gw_err_ctx ctx = {0};
    assert_int_equal(gw_nccl_open("/nowhere/libnccl.so.2", &nccl, &ctx), GW_ERR_NOT_FOUND);
    assert_non_null(strstr(ctx.text, "/nowhere/libnccl.so.2"));
    gw_err_reset(&ctx);
    assert_int_equal(gw_nccl_open("libm.so.6", &nccl, &ctx), GW_ERR_NOT_FOUND);
    assert_string_equal(ctx.text, "libm.so.6 has no ncclGetVersion: NCCL 2.14 or newer is needed");
    assert_int_equal(nccl.version, 1);
}

static void test_open_of_an_older_nccl_is_refused(void **state)
{
    (void)state;
    struct fake_nccl fake;
    struct gw_nccl nccl;
    char path[300];
    fake_nccl_path(path, sizeof path);
    fake_nccl_open(&fake, &(struct fake_nccl_plan){0});
    fake.set(&(struct fake_nccl_plan){.version = 21304});
    assert_int_equal(gw_nccl_open(path, &nccl, NULL), GW_ERR_INPUT);
    fake_nccl_end(&fake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tree_add_of_any_cut_is_the_fixed_tree),
        cmocka_unit_test(test_stages_of_one_group_sum_apart_and_pass_on_activations),
        cmocka_unit_test(test_create_with_a_rank_of_another_generation_is_refused),
        cmocka_unit_test(test_create_with_a_rank_that_cuts_otherwise_is_refused),
        cmocka_unit_test(test_finish_with_a_rank_at_another_step_is_refused),
        cmocka_unit_test(test_finish_after_sums_of_other_lengths_is_refused),
        cmocka_unit_test(test_recv_of_fewer_bytes_than_were_sent_is_refused),
        cmocka_unit_test(test_send_beyond_what_a_step_may_have_is_an_error),
        cmocka_unit_test(test_create_by_an_id_that_was_used_is_refused),
        cmocka_unit_test(test_create_by_a_wrong_config_is_refused),
        cmocka_unit_test(test_open_of_what_is_not_nccl_says_what_is_missing),
        cmocka_unit_test(test_open_of_an_older_nccl_is_refused),
    };
    alarm(300); /* a hang ends here */
    return cmocka_run_group_tests_name("coll_nccl", tests, NULL, NULL);
}
