/* migrate/request: what ends a branch, what may be asked for, and copies that share nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "migrate/request.h"

#define VOCAB   100
#define CONTEXT 64

struct fixture {
    uint32_t prompt[4];
    uint32_t stop_ids[2];
    struct gw_logit_bias bias[1];
    struct gw_request q;
};

static void good(struct fixture *f)
{
    *f = (struct fixture){.prompt = {1, 2, 3, 99}, .stop_ids = {7, 9}, .bias = {{5, -1.5f}}};
    f->q = (struct gw_request){.id = 11, .n = 2, .prompt = f->prompt, .prompt_len = 4};
    f->q.sampling = (struct gw_sampling){.temperature = 0.5f,
                                         .top_p = 1,
                                         .repetition_penalty = 1,
                                         .max_tokens = 10,
                                         .min_tokens = 2,
                                         .logprobs = true,
                                         .top_logprobs = 3,
                                         .stop_ids = f->stop_ids,
                                         .stop_ids_len = 2,
                                         .bias = f->bias,
                                         .bias_len = 1};
}

static void test_finish_at_stop_id_ends_only_from_min_tokens_on(void **state)
{
    (void)state;
    struct fixture f;
    good(&f);
    assert_int_equal(gw_request_finish_at(&f.q.sampling, 1, 7), GW_FINISH_NONE);
    assert_int_equal(gw_request_finish_at(&f.q.sampling, 2, 7), GW_FINISH_STOP);
    assert_int_equal(gw_request_finish_at(&f.q.sampling, 2, 9), GW_FINISH_STOP);
    assert_int_equal(gw_request_finish_at(&f.q.sampling, 2, 8), GW_FINISH_NONE);
}

static void test_finish_at_last_position_is_length_unless_it_stops(void **state)
{
    (void)state;
    struct fixture f;
    good(&f);
    assert_int_equal(gw_request_finish_at(&f.q.sampling, 8, 1), GW_FINISH_NONE);
    assert_int_equal(gw_request_finish_at(&f.q.sampling, 9, 1), GW_FINISH_LENGTH);
    assert_int_equal(gw_request_finish_at(&f.q.sampling, 9, 7), GW_FINISH_STOP);
}

static void test_copy_shares_no_array(void **state)
{
    (void)state;
    struct fixture f;
    struct gw_request *copy = NULL;
    good(&f);
    assert_int_equal(gw_request_copy(&f.q, &copy), GW_OK);
    assert_memory_equal(copy->prompt, f.prompt, sizeof f.prompt);
    assert_memory_equal(copy->sampling.stop_ids, f.stop_ids, sizeof f.stop_ids);
    assert_memory_equal(copy->sampling.bias, f.bias, sizeof f.bias);
    assert_ptr_not_equal(copy->prompt, f.prompt);
    assert_ptr_not_equal(copy->sampling.stop_ids, f.stop_ids);
    assert_ptr_not_equal(copy->sampling.bias, f.bias);
    assert_int_equal(copy->id, 11);
    gw_request_destroy(copy);
}

static void test_copy_of_empty_arrays_holds_null(void **state)
{
    (void)state;
    struct fixture f;
    struct gw_request *copy = NULL;
    good(&f);
    f.q.sampling.stop_ids_len = f.q.sampling.bias_len = 0;
    assert_int_equal(gw_request_copy(&f.q, &copy), GW_OK);
    assert_null(copy->sampling.stop_ids);
    assert_null(copy->sampling.bias);
    gw_request_destroy(copy);
}

static gw_err_t check(struct fixture *f)
{
    return gw_request_check(&f->q, VOCAB, CONTEXT, NULL);
}

static void test_check_good_request_passes_up_to_the_whole_context(void **state)
{
    (void)state;
    struct fixture f;
    good(&f);
    assert_int_equal(check(&f), GW_OK);
    f.q.sampling.max_tokens = CONTEXT - 4;
    assert_int_equal(check(&f), GW_OK);
    f.q.sampling.max_tokens++;
    assert_int_equal(check(&f), GW_ERR_INPUT);
}

/* Each line breaks one rule of an otherwise good request. */
static void test_check_each_broken_rule_is_refused(void **state)
{
    (void)state;
    struct fixture f;
#define REFUSED(change)                                                                                      \
    do {                                                                                                     \
        good(&f);                                                                                            \
        change;                                                                                              \
        assert_int_equal(check(&f), GW_ERR_INPUT);                                                           \
    } while (0)
    REFUSED(f.q.n = 0);
    REFUSED(f.q.n = GW_REQUEST_BRANCHES_MAX + 1);
    REFUSED(f.q.prompt_len = 0);
    REFUSED(f.q.prompt_len = CONTEXT);
    REFUSED(f.q.prompt_len = UINT32_MAX);
    REFUSED(f.prompt[3] = VOCAB);
    REFUSED(f.stop_ids[1] = VOCAB);
    REFUSED(f.bias[0].id = VOCAB);
    REFUSED(f.bias[0].bias = 101);
    REFUSED(f.bias[0].bias = NAN);
    REFUSED(f.q.sampling.max_tokens = 0);
    REFUSED(f.q.sampling.max_tokens = UINT32_MAX);
    REFUSED(f.q.sampling.min_tokens = 11);
    REFUSED(f.q.sampling.temperature = -0.1f);
    REFUSED(f.q.sampling.temperature = NAN);
    REFUSED(f.q.sampling.temperature = INFINITY);
    REFUSED(f.q.sampling.top_p = 0);
    REFUSED(f.q.sampling.top_p = 1.1f);
    REFUSED(f.q.sampling.min_p = -0.1f);
    REFUSED(f.q.sampling.presence_penalty = 2.1f);
    REFUSED(f.q.sampling.frequency_penalty = -2.1f);
    REFUSED(f.q.sampling.repetition_penalty = 0);
    REFUSED(f.q.sampling.top_logprobs = GW_REQUEST_TOP_MAX + 1);
    REFUSED(f.q.sampling.logprobs = false);
    REFUSED(f.q.sampling.stop_ids_len = GW_REQUEST_STOP_IDS_MAX + 1);
    REFUSED(f.q.sampling.bias_len = GW_REQUEST_BIAS_MAX + 1);
#undef REFUSED
}

static void test_check_request_too_big_for_one_frame_is_refused(void **state)
{
    (void)state;
    struct fixture f;
    good(&f);
    f.q.n = 128;
    f.q.sampling.max_tokens = 31249;
    assert_int_equal(gw_request_check(&f.q, VOCAB, UINT32_MAX, NULL), GW_OK);
    f.q.sampling.max_tokens = 31250;
    assert_int_equal(gw_request_check(&f.q, VOCAB, UINT32_MAX, NULL), GW_ERR_INPUT);
}

static void test_check_error_names_the_field(void **state)
{
    (void)state;
    struct fixture f;
    struct gw_err_ctx ctx = {0};
    good(&f);
    f.q.sampling.min_p = 2;
    assert_int_equal(gw_request_check(&f.q, VOCAB, CONTEXT, &ctx), GW_ERR_INPUT);
    assert_non_null(strstr(ctx.text, "min_p"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_finish_at_stop_id_ends_only_from_min_tokens_on),
        cmocka_unit_test(test_finish_at_last_position_is_length_unless_it_stops),
        cmocka_unit_test(test_copy_shares_no_array),
        cmocka_unit_test(test_copy_of_empty_arrays_holds_null),
        cmocka_unit_test(test_check_good_request_passes_up_to_the_whole_context),
        cmocka_unit_test(test_check_each_broken_rule_is_refused),
        cmocka_unit_test(test_check_request_too_big_for_one_frame_is_refused),
        cmocka_unit_test(test_check_error_names_the_field),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
