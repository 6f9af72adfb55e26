/* worker/scheduler without a model: budgets, order, preemption, and that everything ends, under random load. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/seeded_rng.h"
#include "worker/scheduler.h"

#define JOBS_MAX 64

struct bed {
    struct gw_blocks *blocks;
    struct gw_block_namer namer;
    struct gw_scheduler *s;
    struct gw_job *jobs[JOBS_MAX];
    uint32_t jobs_len;
};

static void open_bed(struct bed *t, uint32_t slots, struct gw_scheduler_config config)
{
    static const uint8_t fingerprint[4] = {1};
    memset(t, 0, sizeof *t);
    assert_int_equal(gw_blocks_create(slots, NULL, &t->blocks), GW_OK);
    assert_int_equal(gw_block_namer_init(&t->namer, "0123456789abcdef", 16, fingerprint, 4, "p", "f32", NULL),
                     GW_OK);
    assert_int_equal(gw_scheduler_create(&config, t->blocks, &t->namer, &t->s), GW_OK);
}

static void close_bed(struct bed *t)
{
    for (uint32_t i = 0; i < t->jobs_len; i++) {
        for (uint32_t b = 0; b < t->jobs[i]->request.n; b++)
            gw_scheduler_finish(t->s, &t->jobs[i]->branches[b]);
        gw_job_destroy(t->jobs[i]);
    }
    assert_int_equal(gw_blocks_available(t->blocks), gw_blocks_total(t->blocks));
    gw_scheduler_destroy(t->s);
    gw_blocks_destroy(t->blocks);
}

/* A job of n branches whose prompt is first, first + 1, … */
static struct gw_job *add(struct bed *t, uint32_t n, uint32_t prompt_len, uint32_t max_tokens, uint32_t first)
{
    struct gw_branch_log logs[8] = {0};
    struct gw_msg_submit m = {.attempt = 1, .logs = logs};
    m.request = (struct gw_request){.id = t->jobs_len + 1, .n = n, .prompt_len = prompt_len};
    m.request.prompt = malloc(prompt_len * sizeof *m.request.prompt);
    for (uint32_t i = 0; i < prompt_len; i++) m.request.prompt[i] = first + i;
    m.request.sampling.max_tokens = max_tokens;
    assert_int_equal(gw_job_create(&m, t->jobs_len, &t->jobs[t->jobs_len]), GW_OK);
    gw_scheduler_add(t->s, t->jobs[t->jobs_len]);
    return t->jobs[t->jobs_len++];
}

/* What the engine does with a step, without a model: tokens are the position's number. */
static void carry_out(struct bed *t, const struct gw_step *step)
{
    for (uint32_t i = 0; i < step->items_len; i++) {
        const struct gw_step_item *item = &step->items[i];
        struct gw_branch *b = item->branch;
        gw_scheduler_computed(t->s, item);
        if (b->computed >= b->job->request.prompt_len) gw_scheduler_release(t->s, b->job);
        if (!item->sample) continue;
        b->output[b->output_len] = 1000 * (uint32_t)b->order + b->output_len;
        if (++b->output_len == b->job->request.sampling.max_tokens) gw_scheduler_finish(t->s, b);
    }
}

static const struct gw_step_item *item_of(const struct gw_step *step, const struct gw_job *job)
{
    for (uint32_t i = 0; i < step->items_len; i++)
        if (step->items[i].branch->job == job) return &step->items[i];
    return NULL;
}

static void test_plan_decodes_first_and_chunks_prefill_by_the_budget(void **state)
{
    (void)state;
    struct bed t;
    open_bed(&t, 100, (struct gw_scheduler_config){.max_batch_tokens = 10, .max_sequences = 8});
    struct gw_job *a = add(&t, 1, 3, 50, 0), *b = add(&t, 1, 25, 5, 100);
    const struct gw_step *step = gw_scheduler_plan(t.s);
    assert_int_equal(item_of(step, a)->rows, 3);
    assert_true(item_of(step, a)->sample);
    assert_int_equal(item_of(step, b)->rows, 7);
    assert_false(item_of(step, b)->sample);
    assert_int_equal(step->rows, 10);
    carry_out(&t, step);
    step = gw_scheduler_plan(t.s);
    assert_int_equal(item_of(step, a)->rows, 1);
    assert_int_equal(item_of(step, b)->rows, 9);
    carry_out(&t, step);
    step = gw_scheduler_plan(t.s);
    assert_int_equal(item_of(step, b)->rows, 9);
    assert_true(item_of(step, b)->sample);
    close_bed(&t);
}

static void test_plan_max_chunk_and_max_sequences_hold(void **state)
{
    (void)state;
    struct bed t;
    open_bed(&t, 100,
             (struct gw_scheduler_config){.max_batch_tokens = 64, .max_sequences = 3, .max_chunk = 4});
    for (uint32_t i = 0; i < 5; i++) add(&t, 1, 20, 3, 100 * i);
    const struct gw_step *step = gw_scheduler_plan(t.s);
    assert_int_equal(step->items_len, 3);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(step->items[i].rows, 4);
        assert_ptr_equal(step->items[i].branch->job, t.jobs[i]);
    }
    assert_int_equal(gw_scheduler_stats(t.s).running, 3);
    assert_int_equal(gw_scheduler_stats(t.s).waiting, 2);
    close_bed(&t);
}

static void test_plan_takes_in_as_many_rows_of_prompts_as_the_pace_allows(void **state)
{
    (void)state;
    struct bed t;
    const struct gw_step_pace pace = {.target_us = 100, .row_us = 1};
    open_bed(&t, 100,
             (struct gw_scheduler_config){.max_batch_tokens = 200, .max_sequences = 4, .pace = &pace});
    struct gw_job *a = add(&t, 1, 90, 50, 0), *b = add(&t, 1, 168, 5, 1000), *c = add(&t, 1, 30, 5, 2000);
    const struct gw_step *step = gw_scheduler_plan(t.s);
    assert_int_equal(item_of(step, a)->rows, 90);
    assert_int_equal(item_of(step, b)->rows, GW_STEP_PACE_ALONE - 90);
    assert_null(item_of(step, c));
    assert_true(step->prefills);
    carry_out(&t, step);
    step = gw_scheduler_plan(t.s);
    assert_int_equal(item_of(step, a)->rows, 1);
    assert_int_equal(item_of(step, b)->rows, 99);
    carry_out(&t, step);
    step = gw_scheduler_plan(t.s);
    assert_int_equal(item_of(step, b)->rows, 31);
    assert_int_equal(item_of(step, c)->rows, 30);
    carry_out(&t, step);
    step = gw_scheduler_plan(t.s);
    assert_int_equal(step->rows, 3);
    assert_false(step->prefills);
    close_bed(&t);
}

static void test_plan_out_of_blocks_preempts_the_youngest(void **state)
{
    (void)state;
    struct bed t;
    open_bed(&t, 5, (struct gw_scheduler_config){.max_batch_tokens = 64, .max_sequences = 8});
    struct gw_job *a = add(&t, 1, 16, 48, 0);
    carry_out(&t, gw_scheduler_plan(t.s));
    struct gw_job *b = add(&t, 1, 16, 20, 100);
    while (a->branches[0].state != GW_BRANCH_DONE) {
        const struct gw_step *step = gw_scheduler_plan(t.s);
        assert_non_null(item_of(step, a)); /* the oldest is in every step */
        carry_out(&t, step);
    }
    assert_true(gw_scheduler_stats(t.s).preemptions > 0);
    while (b->branches[0].state != GW_BRANCH_DONE) carry_out(&t, gw_scheduler_plan(t.s));
    close_bed(&t);
}

/* What gw_scheduler_config.fetch was asked for, and what it takes. */
struct fetching {
    bool takes;
    uint32_t asked;
    struct gw_job *taken;
};

static bool fetch(void *arg, struct gw_job *job)
{
    struct fetching *f = arg;
    f->asked++;
    if (!f->takes) return false;
    f->taken = job;
    job->refilling = true;
    return true;
}

/* Jobs a and b, of which b was preempted when a ran out of blocks; a has ended. */
static struct gw_job *preempt_one(struct bed *t, struct fetching *f)
{
    open_bed(
        t, 5,
        (struct gw_scheduler_config){.max_batch_tokens = 64, .max_sequences = 8, .fetch = fetch, .arg = f});
    struct gw_job *a = add(t, 1, 16, 48, 0);
    carry_out(t, gw_scheduler_plan(t->s));
    struct gw_job *b = add(t, 1, 24, 20, 100);
    while (a->branches[0].state != GW_BRANCH_DONE) carry_out(t, gw_scheduler_plan(t->s));
    assert_true(gw_scheduler_stats(t->s).preemptions > 0);
    return b;
}

static void test_plan_preempted_job_is_fetched_once_and_runs_when_it_is_added(void **state)
{
    (void)state;
    struct bed t;
    struct fetching f = {.takes = true};
    struct gw_job *b = preempt_one(&t, &f);
    assert_int_equal(f.asked, 0); /* there was no room for it */
    assert_int_equal(gw_scheduler_plan(t.s)->items_len, 0);
    assert_int_equal(f.asked, 1);
    assert_ptr_equal(f.taken, b);
    assert_int_equal(b->branches[0].state, GW_BRANCH_HELD);
    b->refilling = false;
    gw_scheduler_add(t.s, b);
    while (b->branches[0].state != GW_BRANCH_DONE) carry_out(&t, gw_scheduler_plan(t.s));
    assert_int_equal(f.asked, 1);
    close_bed(&t);
}

static void test_plan_preempted_job_that_is_not_fetched_is_computed(void **state)
{
    (void)state;
    struct bed t;
    struct fetching f = {0};
    struct gw_job *b = preempt_one(&t, &f);
    while (b->branches[0].state != GW_BRANCH_DONE) carry_out(&t, gw_scheduler_plan(t.s));
    assert_int_equal(f.asked, 1);
    close_bed(&t);
}

static void test_finish_of_a_job_that_is_fetched_leaves_nothing(void **state)
{
    (void)state;
    struct bed t;
    struct fetching f = {.takes = true};
    struct gw_job *b = preempt_one(&t, &f);
    gw_scheduler_plan(t.s);
    gw_scheduler_finish(t.s, &b->branches[0]);
    assert_int_equal(gw_scheduler_stats(t.s).waiting, 0);
    assert_int_equal(b->live, 0);
    close_bed(&t);
}

static void test_plan_second_job_finds_the_prefix_of_the_first(void **state)
{
    (void)state;
    struct bed t;
    open_bed(&t, 100, (struct gw_scheduler_config){.max_batch_tokens = 64, .max_sequences = 8});
    add(&t, 1, 48, 1, 0);
    carry_out(&t, gw_scheduler_plan(t.s));
    struct gw_job *same = add(&t, 1, 48, 1, 0), *longer = add(&t, 1, 60, 1, 0), *other = add(&t, 1, 48, 1, 1);
    const struct gw_step *step = gw_scheduler_plan(t.s);
    assert_int_equal(item_of(step, same)->rows, 16); /* one token at least is computed: its block */
    assert_int_equal(item_of(step, longer)->rows, 12);
    assert_int_equal(item_of(step, other)->rows, 36); /* what is left of 64 */
    assert_int_equal(same->branches[0].blocks[0], longer->branches[0].blocks[0]);
    assert_int_equal(gw_scheduler_stats(t.s).prefix_hit_tokens, 32 + 48);
    close_bed(&t);
}

static void test_finish_of_the_leader_sends_the_next_branch_ahead(void **state)
{
    (void)state;
    struct bed t;
    open_bed(&t, 100, (struct gw_scheduler_config){.max_batch_tokens = 8, .max_sequences = 8});
    struct gw_job *a = add(&t, 3, 30, 4, 0);
    carry_out(&t, gw_scheduler_plan(t.s));
    assert_int_equal(a->branches[0].state, GW_BRANCH_RUNNING);
    assert_int_equal(a->branches[1].state, GW_BRANCH_HELD);
    gw_scheduler_finish(t.s, &a->branches[0]);
    assert_int_equal(a->branches[1].state, GW_BRANCH_WAITING);
    assert_int_equal(a->branches[2].state, GW_BRANCH_HELD);
    gw_scheduler_finish(t.s, &a->branches[0]); /* twice is once */
    assert_int_equal(a->live, 2);
    while (a->live) carry_out(&t, gw_scheduler_plan(t.s));
    assert_int_equal(gw_scheduler_stats(t.s).waiting, 0);
    close_bed(&t);
}

static uint64_t oldest_running(const struct bed *t)
{
    uint64_t oldest = UINT64_MAX;
    for (uint32_t i = 0; i < t->jobs_len; i++) {
        for (uint32_t b = 0; b < t->jobs[i]->request.n; b++) {
            const struct gw_branch *branch = &t->jobs[i]->branches[b];
            if (branch->state == GW_BRANCH_RUNNING && branch->order < oldest) oldest = branch->order;
        }
    }
    return oldest;
}

/* Whatever comes: limits hold in each step, no block is in two hands unsealed, what was the oldest advances. */
static void check_step(const struct bed *t, const struct gw_step *step, struct gw_scheduler_config c,
                       uint64_t oldest)
{
    uint32_t rows = 0;
    assert_true(step->items_len <= c.max_sequences);
    for (uint32_t i = 0; i < step->items_len; i++) {
        const struct gw_step_item *item = &step->items[i];
        const struct gw_branch *b = item->branch;
        assert_int_equal(b->state, GW_BRANCH_RUNNING);
        assert_true(item->rows > 0 && b->computed + item->rows <= gw_branch_len(b));
        assert_true(b->blocks_len * GW_BLOCK_TOKENS >= b->computed + item->rows);
        for (uint32_t k = b->sealed; k < b->blocks_len; k++)
            assert_int_equal(gw_blocks_refs(t->blocks, b->blocks[k]), 1);
        rows += item->rows;
    }
    assert_int_equal(rows, step->rows);
    assert_true(rows <= c.max_batch_tokens);
    if (oldest != UINT64_MAX) assert_int_equal(step->items[0].branch->order, oldest);
}

/* 200 tokens through a window of 40: never more blocks than that and a chunk take, and a prefix is found by those that
 * its end sees, though those before them are gone. */
static void test_computed_behind_the_horizon_gives_blocks_back(void **state)
{
    (void)state;
    const struct gw_scheduler_config c = {
        .max_batch_tokens = 16, .max_sequences = 4, .max_chunk = 16, .horizon = 40};
    struct bed t;
    open_bed(&t, 16, c);
    struct gw_job *job = add(&t, 1, 190, 10, 1), *other;
    uint32_t most = 0;
    for (uint32_t tokens = 0; job->live > 0; tokens++) {
        const struct gw_step *step = gw_scheduler_plan(t.s);
        uint32_t used = gw_blocks_total(t.blocks) - gw_blocks_available(t.blocks);
        if (used > most) most = used;
        carry_out(&t, step);
        if (job->live > 0)
            assert_int_equal(job->branches[0].dead, gw_blocks_behind(40, job->branches[0].computed));
        assert_true(tokens < 100);
    }
    assert_int_equal(most, 4);                 /* a chunk, and 39 positions behind it */
    add(&t, 1, 12 * GW_BLOCK_TOKENS, 1, 5000); /* takes the oldest of those that are cached */
    while (t.jobs[1]->live > 0) carry_out(&t, gw_scheduler_plan(t.s));
    other = add(&t, 1, 190, 1, 1);
    const struct gw_step_item *item = item_of(gw_scheduler_plan(t.s), other);
    assert_int_equal(item->rows, 190 - 176);
    close_bed(&t);
}

static void test_plan_random_load_keeps_its_promises_and_ends(void **state)
{
    (void)state;
    struct gw_rng r = seeded_rng(__func__);
    for (int round = 0; round < 60; round++) {
        struct bed t;
        const struct gw_step_pace pace = {.target_us = gw_rng_below(&r, 60), .row_us = 1};
        struct gw_scheduler_config c = {.max_batch_tokens = 1 + (uint32_t)gw_rng_below(&r, 80),
                                        .max_chunk = (uint32_t)gw_rng_below(&r, 20),
                                        .pace = round % 3 ? &pace : NULL,
                                        .horizon = round % 2 ? 1 + (uint32_t)gw_rng_below(&r, 60) : 0};
        c.max_sequences = 1 + (uint32_t)gw_rng_below(&r, c.max_batch_tokens < 12 ? c.max_batch_tokens : 12);
        open_bed(&t, 8 + (uint32_t)gw_rng_below(&r, 20), c);
        uint32_t total = 1 + (uint32_t)gw_rng_below(&r, 40), idle = 0;
        while (t.jobs_len < total || idle == 0) {
            if (t.jobs_len < total && gw_rng_below(&r, 3) == 0)
                add(&t, 1 + (uint32_t)gw_rng_below(&r, 4), 1 + (uint32_t)gw_rng_below(&r, 70),
                    1 + (uint32_t)gw_rng_below(&r, 50), (uint32_t)gw_rng_below(&r, 3));
            if (t.jobs_len && gw_rng_below(&r, 50) == 0)
                gw_scheduler_finish(t.s, &t.jobs[gw_rng_below(&r, t.jobs_len)]->branches[0]);
            uint64_t oldest = oldest_running(&t);
            const struct gw_step *step = gw_scheduler_plan(t.s);
            check_step(&t, step, c, oldest);
            idle = step->items_len == 0;
            carry_out(&t, step);
        }
        for (uint32_t i = 0; i < t.jobs_len; i++) assert_int_equal(t.jobs[i]->live, 0);
        close_bed(&t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plan_decodes_first_and_chunks_prefill_by_the_budget),
        cmocka_unit_test(test_plan_max_chunk_and_max_sequences_hold),
        cmocka_unit_test(test_plan_takes_in_as_many_rows_of_prompts_as_the_pace_allows),
        cmocka_unit_test(test_plan_out_of_blocks_preempts_the_youngest),
        cmocka_unit_test(test_plan_preempted_job_is_fetched_once_and_runs_when_it_is_added),
        cmocka_unit_test(test_plan_preempted_job_that_is_not_fetched_is_computed),
        cmocka_unit_test(test_finish_of_a_job_that_is_fetched_leaves_nothing),
        cmocka_unit_test(test_plan_second_job_finds_the_prefix_of_the_first),
        cmocka_unit_test(test_finish_of_the_leader_sends_the_next_branch_ahead),
        cmocka_unit_test(test_computed_behind_the_horizon_gives_blocks_back),
        cmocka_unit_test(test_plan_random_load_keeps_its_promises_and_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
