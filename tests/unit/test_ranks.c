/* worker/rank, worker/forward, worker/engine over pipelines of several ranks: every layout gives the same records and
 * the same logit bits as one rank, over shared memory and over sockets, in both profiles. */
#include "tests/lib/mixed_requests.h"
#include "tests/lib/pipeline_fixture.h"

#define SEED 11
#ifdef __SANITIZE_ADDRESS__
/* Sanitized kernels are a tenth as fast; this test also runs on the release build. */
#define REQUESTS     5
#define SKIP_LAYOUTS 3 /* of those that nobody looks into, one in so many is run */
#else
#define REQUESTS     12
#define SKIP_LAYOUTS 1
#endif

static const char *const models[] = {"tests/data/tiny/gqa64", "tests/data/tiny/mha64",
                                     "tests/data/tiny/mqa128", "tests/models/tattler-3m"};

/* Of all models here: 8 shares, 2 or 3 layer groups. */
static const char *const layouts[] = {"4+4",     "3+3+2", "2+2+2+2", "1+1+1+1+1+1+1+1", "8/8",
                                      "4+4/4+4", "3+5/8", "8/1+7",   "1+2+5/6+2"};

static void submit_all(struct fixture *f)
{
    for (uint32_t i = 0; i < REQUESTS; i++) {
        struct gw_request q = mixed_request(SEED, i, f->model->config.vocab);
        fixture_submit(f, &q, 1, NULL, NULL);
    }
}

static void compare_all(const struct fixture *want, struct fixture *got)
{
    uint32_t vocab = want->model->config.vocab;
    for (uint32_t i = 0; i < REQUESTS; i++)
        fixture_expect_same(&want->runs[i].branches[0], &fixture_run_of(got, i + 1)->branches[0], 0,
                            mixed_top_n(SEED, i, vocab));
}

/* Runs the requests on a pipeline of that layout and compares with one rank. */
static void expect_same_on(const struct fixture *want, const char *layout, struct solo_config config,
                           bool try_shm)
{
    struct rank_threads a;
    struct fixture f;
    pipeline_open(&a, &f, want->model, layout, config, try_shm);
    submit_all(&f);
    fixture_drain(&f);
    compare_all(want, &f);
    pipeline_close(&a, &f);
}

static void with_reference(const char *model, const char *profile,
                           void (*run)(const struct fixture *, struct solo_config))
{
    struct fixture want;
    struct solo_config config = fixture_config();
    config.profile = profile;
    config.kv_tokens = 4096;
    fixture_open(&want, model, config);
    submit_all(&want);
    fixture_drain(&want);
    run(&want, config);
    fixture_close(&want);
}

/* Over sockets and over shared memory; sanitized kernels are slow: there the two take turns. */
static void run_every_layout(const struct fixture *want, struct solo_config config)
{
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++) {
#ifdef __SANITIZE_ADDRESS__
        expect_same_on(want, layouts[i], config, i % 2);
#else
        expect_same_on(want, layouts[i], config, false);
        expect_same_on(want, layouts[i], config, true);
#endif
    }
}

static void test_every_layout_gives_the_same_bits_bf16(void **state)
{
    (void)state;
    with_reference(models[0], "cpu-bf16dot-2", run_every_layout);
}

static void test_every_layout_gives_the_same_bits_f32(void **state)
{
    (void)state;
    with_reference(models[0], "cpu-f32-2", run_every_layout);
}

static void run_some_layouts(const struct fixture *want, struct solo_config config)
{
    expect_same_on(want, "3+3+2", config, true);
    expect_same_on(want, "1+7/5+3", config, false);
}

static void test_every_model_gives_the_same_bits(void **state)
{
    (void)state;
    for (size_t i = 1; i < sizeof models / sizeof *models; i++)
        with_reference(models[i], NULL, run_some_layouts);
}

static void compare_branch_records(const struct fixture_branch *x, const struct fixture_branch *y)
{
    assert_int_equal(x->len, y->len);
    for (uint32_t t = 0; t < x->len; t++) {
        assert_int_equal(x->records[t].id, y->records[t].id);
        assert_memory_equal(&x->records[t].logprob, &y->records[t].logprob, sizeof(float));
        assert_memory_equal(x->records[t].top, y->records[t].top, sizeof x->records[t].top);
    }
}

static void compare_records(const struct fixture *want, struct fixture *got, uint32_t requests)
{
    for (uint32_t i = 0; i < requests; i++) {
        const struct fixture_run *x = &want->runs[i], *y = fixture_run_of(got, x->request);
        for (uint32_t b = 0; b < FIXTURE_BRANCHES_MAX; b++)
            compare_branch_records(&x->branches[b], &y->branches[b]);
    }
}

/* Without anybody who looks at logit rows, ranks tell no more than what decides: the same records. */
static void run_blind(const struct fixture *want, struct solo_config config)
{
    static const char *const more[] = {"8", "5+3", "1+7/5+3", "8/8", "2+6/4+4"};
    size_t some = sizeof layouts / sizeof *layouts, all = some + sizeof more / sizeof *more;
    for (size_t k = SKIP_LAYOUTS - 1; k < all; k += SKIP_LAYOUTS) {
        struct rank_threads a;
        struct fixture f;
        pipeline_open_blind(&a, &f, want->model, k < some ? layouts[k] : more[k - some], config, k % 2);
        submit_all(&f);
        fixture_drain(&f);
        compare_records(want, &f, REQUESTS);
        pipeline_close(&a, &f);
    }
}

static void test_parts_of_rows_give_the_same_records(void **state)
{
    (void)state;
    with_reference(models[0], "cpu-f32-2", run_blind);
}

/* Distributions of which top-p leaves more than parts hold (the model has 2048 tokens, a part at most 256). */
#define FLAT_REQUESTS 6
static void submit_flat(struct fixture *f)
{
    for (uint32_t i = 0; i < FLAT_REQUESTS; i++) {
        uint32_t prompt[3] = {i, 2 * i, 1000};
        struct gw_request q = fixture_request(i + 1, prompt, 3, 20 + i);
        q.n = i == 4 ? 3 : 1;
        q.sampling.temperature = i % 2 ? 4 : 1;
        q.sampling.top_p = 0.99f;
        q.sampling.top_k = i == 3 ? 700 : 0;
        q.sampling.logprobs = i % 3 == 0;
        q.sampling.top_logprobs = i;
        q.sampling.seed = i;
        if (!q.sampling.logprobs) q.sampling.top_logprobs = 0;
        fixture_submit(f, &q, 1, NULL, NULL);
    }
}

static uint64_t rows_of(const struct fixture *f)
{
    struct gw_engine_stats stats;
    gw_engine_stats(f->engine, &stats);
    return stats.rows;
}

static void test_draws_that_parts_cannot_decide_are_drawn_from_whole_rows(void **state)
{
    (void)state;
    static const char *const some[] = {"4+4", "8/8", "2+2+2+2", "3+5/8"};
    struct solo_config config = fixture_config();
    struct fixture want;
    fixture_open(&want, "tests/models/tattler-3m", config);
    submit_flat(&want);
    fixture_drain(&want);
    for (size_t k = 0; k < sizeof some / sizeof *some; k++) {
        struct rank_threads a;
        struct fixture f;
        pipeline_open_blind(&a, &f, want.model, some[k], config, k % 2);
        submit_flat(&f);
        fixture_drain(&f);
        compare_records(&want, &f, FLAT_REQUESTS);
        assert_true(rows_of(&f) > rows_of(&want)); /* some were computed again */
        pipeline_close(&a, &f);
    }
    fixture_close(&want);
}

static void run_three_stages(const struct fixture *want, struct solo_config config)
{
    expect_same_on(want, "8/8/8", config, false);
    expect_same_on(want, "2+6:1/8:1/4+4:1", config, true);
    config.max_sequences = 3; /* fewer than stages want: some find nothing to do */
    expect_same_on(want, "8/8/8", config, false);
}

static void test_three_stages_give_the_same_bits(void **state)
{
    (void)state;
    with_reference("tests/models/tattler-3m", NULL, run_three_stages);
}

/* Chunks, small batches and too small a pool: steps without samples, preemption, copied tables. */
static void run_hard_shapes(const struct fixture *want, struct solo_config config)
{
    config.max_chunk = 7;
    expect_same_on(want, "4+4/8", config, true);
    config.max_chunk = 0;
    config.max_batch_tokens = 13;
    config.max_sequences = 5;
    expect_same_on(want, "8/3+5", config, false);
    config.max_batch_tokens = 512;
    config.max_sequences = 64;
    config.kv_tokens = MIXED_PROMPT_MAX + MIXED_NEW_MAX;
    expect_same_on(want, "8/8", config, false);
    expect_same_on(want, "5+3", config, true);
}

static void test_hard_shapes_give_the_same_bits(void **state)
{
    (void)state;
    with_reference(models[0], "cpu-bf16dot-2", run_hard_shapes);
}

/* ---- branches and cancels ---- */

static void run_branches(const struct fixture *want, struct solo_config config)
{
    (void)want;
    uint32_t prompt[40];
    struct fixture solo;
    for (uint32_t i = 0; i < 40; i++) prompt[i] = i * 5 % 384;
    struct gw_request one = fixture_request(1, prompt, 40, 24), two = fixture_request(1, prompt, 40, 24);
    one.n = two.n = 4;
    one.sampling.temperature = two.sampling.temperature = 1;
    fixture_open(&solo, models[0], config);
    fixture_submit(&solo, &one, 1, NULL, NULL);
    fixture_drain(&solo);

    struct rank_threads a;
    struct fixture f;
    pipeline_open(&a, &f, solo.model, "3+5/8", config, true);
    fixture_submit(&f, &two, 1, NULL, NULL);
    fixture_drain(&f);
    for (uint32_t b = 0; b < 4; b++)
        fixture_expect_same(&solo.runs[0].branches[b], &f.runs[0].branches[b], 0, 0);
    pipeline_close(&a, &f);
    fixture_close(&solo);
}

static void test_branches_that_share_a_partial_block_give_the_same_bits(void **state)
{
    (void)state;
    with_reference(models[0], "cpu-f32-2", run_branches);
}

/* Cancelled while their step is under way: the others are untouched, blocks and lanes are used again. */
static void run_cancels(const struct fixture *want, struct solo_config config)
{
    struct rank_threads a;
    struct fixture f;
    config.max_sequences = 6;
    config.kv_tokens = 1024;
    pipeline_open(&a, &f, want->model, "8/8", config, false);
    submit_all(&f);
    for (uint32_t i = 0; i < 8; i++) {
        fixture_step(&f);
        if (i % 2) gw_engine_cancel(f.engine, 2 + i / 2 * 3, 1, GW_BRANCH_ALL);
    }
    fixture_drain(&f);
    for (uint32_t i = 0; i < REQUESTS; i++)
        if (i % 3 != 1) /* ids 2, 5, 8, 11 may have been cut short */
            fixture_expect_same(&want->runs[i].branches[0], &fixture_run_of(&f, i + 1)->branches[0], 0,
                                mixed_top_n(SEED, i, want->model->config.vocab));
    struct gw_engine_stats stats;
    gw_engine_stats(f.engine, &stats);
    assert_int_equal(stats.progress.kv_used_tokens, 0);
    pipeline_close(&a, &f);
}

static void test_cancel_of_a_request_in_flight_leaves_the_others_alone(void **state)
{
    (void)state;
    with_reference(models[0], "cpu-bf16dot-2", run_cancels);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_layout_gives_the_same_bits_bf16),
        cmocka_unit_test(test_every_layout_gives_the_same_bits_f32),
        cmocka_unit_test(test_every_model_gives_the_same_bits),
        cmocka_unit_test(test_parts_of_rows_give_the_same_records),
        cmocka_unit_test(test_draws_that_parts_cannot_decide_are_drawn_from_whole_rows),
        cmocka_unit_test(test_three_stages_give_the_same_bits),
        cmocka_unit_test(test_hard_shapes_give_the_same_bits),
        cmocka_unit_test(test_branches_that_share_a_partial_block_give_the_same_bits),
        cmocka_unit_test(test_cancel_of_a_request_in_flight_leaves_the_others_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
