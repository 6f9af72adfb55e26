/* worker/best: what a rank keeps of its logits decides the same draw as all of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "kernels/op.h"
#include "worker/best.h"
#include "worker/sampler.h"

#define VOCAB 1000
#define FIRST 300
#define OWN   500

static void fill(struct gw_rng *r, float *row, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        row[i] = (float)(int)gw_rng_below(r, 400) / 16 - 12; /* many are equal */
}

/* The row as the leader has it: columns before and behind are its own. */
static void through_wire(float *row, uint32_t keep)
{
    float wire[OWN];
    memset(wire, 0xFF, sizeof wire);
    assert_int_equal(gw_best_put(row + FIRST, OWN, FIRST, keep, wire), gw_best_words(keep, OWN));
    for (uint32_t i = 0; i < OWN; i++) row[FIRST + i] = NAN;
    assert_true(gw_best_get(wire, OWN, FIRST, keep, row));
}

static void test_put_get_all_returns_the_row(void **state)
{
    (void)state;
    struct gw_rng r;
    float row[VOCAB], copy[VOCAB];
    gw_rng_init(&r, 1);
    fill(&r, row, VOCAB);
    memcpy(copy, row, sizeof row);
    through_wire(row, 0);
    assert_memory_equal(row, copy, sizeof row);
    through_wire(row, OWN); /* so many are not fewer */
    assert_memory_equal(row, copy, sizeof row);
}

static void test_put_get_of_the_best_draws_the_same_id(void **state)
{
    (void)state;
    struct gw_rng r;
    struct gw_sampler *sampler;
    float row[VOCAB], cut[VOCAB];
    gw_device_enter_thread();
    gw_rng_init(&r, 2);
    assert_int_equal(gw_sampler_create(VOCAB, &sampler), GW_OK);
    for (uint32_t round = 0; round < 2000; round++) {
        struct gw_sampling p = {.top_p = 1, .repetition_penalty = 1, .seed = round};
        struct gw_sample_out want, got;
        if (round % 3) {
            p.temperature = 0.2f + (float)gw_rng_unit(&r) * 2;
            p.top_k = 1 + (uint32_t)gw_rng_below(&r, round % 2 ? 8 : 249);
            if (round % 5 == 0) p.top_p = 0.3f + (float)gw_rng_unit(&r) * 0.7f;
            if (round % 7 == 0) p.min_p = (float)gw_rng_unit(&r) * 0.2f;
        }
        fill(&r, row, VOCAB);
        memcpy(cut, row, sizeof row);
        uint32_t keep = gw_sampler_keep(&p, 5);
        assert_int_equal(keep, round % 3 ? p.top_k : 1);
        through_wire(cut, keep);
        struct gw_sample_in in = {.logits = row, .params = &p, .output_len = 0};
        gw_sampler_draw(sampler, &in, &want);
        in.logits = cut;
        gw_sampler_draw(sampler, &in, &got);
        assert_int_equal(want.id, got.id);
    }
    gw_sampler_destroy(sampler);
}

static void test_keep_is_all_where_more_than_the_best_decide(void **state)
{
    (void)state;
    const struct gw_sampling plain = {.top_p = 1, .repetition_penalty = 1};
    struct gw_sampling p = plain;
    uint32_t stop = 3;
    p.logprobs = true;
    assert_int_equal(gw_sampler_keep(&p, 0), 0);
    p = plain;
    p.presence_penalty = 1;
    assert_int_equal(gw_sampler_keep(&p, 0), 0);
    p = plain;
    p.temperature = 1;
    assert_int_equal(gw_sampler_keep(&p, 0), 0);
    p.top_k = GW_SAMPLER_KEEP_MAX + 1;
    assert_int_equal(gw_sampler_keep(&p, 0), 0);
    p = plain;
    p.min_tokens = 2;
    p.stop_ids = &stop;
    p.stop_ids_len = 1;
    assert_int_equal(gw_sampler_keep(&p, 1), 0);
    assert_int_equal(gw_sampler_keep(&p, 2), 1);
}

static void test_put_of_nothing_but_nan_keeps_nothing(void **state)
{
    (void)state;
    float row[VOCAB];
    for (uint32_t i = 0; i < VOCAB; i++) row[i] = NAN;
    through_wire(row, 4);
    for (uint32_t i = 0; i < OWN; i++) assert_true(isinf(row[FIRST + i]) && row[FIRST + i] < 0);
}

static void test_get_of_a_foreign_id_is_refused(void **state)
{
    (void)state;
    float row[VOCAB], wire[OWN];
    uint32_t id = FIRST + OWN;
    memset(row, 0, sizeof row);
    gw_best_put(row + FIRST, OWN, FIRST, 2, wire);
    memcpy(wire, &id, sizeof id);
    assert_false(gw_best_get(wire, OWN, FIRST, 2, row));
    id = FIRST - 1;
    memcpy(wire, &id, sizeof id);
    assert_false(gw_best_get(wire, OWN, FIRST, 2, row));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_put_get_all_returns_the_row),
        cmocka_unit_test(test_put_get_of_the_best_draws_the_same_id),
        cmocka_unit_test(test_keep_is_all_where_more_than_the_best_decide),
        cmocka_unit_test(test_put_of_nothing_but_nan_keeps_nothing),
        cmocka_unit_test(test_get_of_a_foreign_id_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
