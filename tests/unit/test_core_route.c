/* controller/core: which worker a request goes to. */
#include "tests/unit/core_fixture.h"

static void open_two(struct fixture *f)
{
    fixture_open(f);
    fixture_start(f);
    join(f, "w1", "i-1");
    join(f, "w2", "i-2");
}

/* The link that got the request which was submitted last, 0 if none did. */
static uint64_t got(const struct fixture *f)
{
    for (uint64_t link = 1; link <= f->links; link++)
        if (sent(f, link, GW_MSG_SUBMIT, 0)) return link;
    return 0;
}

/* A prompt of len tokens whose ids are `salt` + position. */
static struct gw_request *prompt_request(uint64_t id, uint32_t len, uint32_t salt)
{
    struct gw_request *q = make_request(id, 1, len, 10);
    for (uint32_t i = 0; i < len; i++) q->prompt[i] = (salt + i) % VOCAB;
    return q;
}

static void test_route_least_loaded_first_and_oldest_of_equals(void **state)
{
    (void)state;
    struct fixture f;
    open_two(&f);
    submit(&f, 1, 1, 10);
    assert_int_equal(got(&f), 1);
    submit(&f, 2, 1, 10);
    assert_int_equal(got(&f), 2);
    submit(&f, 3, 3, 10);
    assert_int_equal(got(&f), 1);
    submit(&f, 4, 1, 10);
    assert_int_equal(got(&f), 2);
    submit(&f, 5, 1, 10);
    assert_int_equal(got(&f), 2);
    fixture_close(&f);
}

static void test_route_counts_prompts_that_wait_for_prefill(void **state)
{
    (void)state;
    struct fixture f;
    open_two(&f);
    submit_request(&f, make_request(1, 1, 2000, 10));
    assert_int_equal(got(&f), 1);
    for (uint64_t id = 2; id < 10; id++) {
        submit(&f, id, 1, 10);
        assert_int_equal(got(&f), 2);
    }
    begin(&f, 1, 1, 1); /* the long prompt is being worked on */
    submit(&f, 10, 1, 10);
    assert_int_equal(got(&f), 1);
    fixture_close(&f);
}

static void test_route_forgets_the_load_of_what_left(void **state)
{
    (void)state;
    struct fixture f;
    open_two(&f);
    submit_request(&f, make_request(1, 5, 2000, 10));
    assert_int_equal(got(&f), 1);
    cancel(&f, 1);
    submit(&f, 2, 1, 10);
    assert_int_equal(got(&f), 1);
    fixture_close(&f);
}

static void test_route_prefers_the_worker_that_has_the_prefix(void **state)
{
    (void)state;
    struct fixture f;
    open_two(&f);
    submit(&f, 1, 1, 10); /* w1 is a little busier */
    submit_request(&f, prompt_request(2, 100, 0));
    assert_int_equal(got(&f), 2);
    begin(&f, 2, 2, 1);
    submit_request(&f, prompt_request(3, 70, 0)); /* shares its first 64 tokens: 4 blocks */
    assert_int_equal(got(&f), 2);
    begin(&f, 2, 3, 1);
    submit_request(&f, prompt_request(4, 70, 50)); /* another prompt */
    assert_int_equal(got(&f), 1);
    fixture_close(&f);
}

static void test_route_prefix_of_another_tenant_is_another_prefix(void **state)
{
    (void)state;
    struct fixture f;
    open_two(&f);
    submit(&f, 1, 1, 10);
    submit_request(&f, prompt_request(2, 100, 0));
    assert_int_equal(got(&f), 2);
    begin(&f, 2, 2, 1);
    struct gw_request *q = prompt_request(3, 100, 0);
    q->tenant[0] = 1;
    submit_request(&f, q);
    assert_int_equal(got(&f), 1);
    fixture_close(&f);
}

static void test_route_prefix_does_not_overload_one_worker(void **state)
{
    (void)state;
    struct fixture f;
    open_two(&f);
    uint32_t on[3] = {0};
    for (uint64_t id = 1; id <= 40; id++) {
        submit_request(&f, prompt_request(id, 100, 0));
        uint64_t link = got(&f);
        on[link]++;
        begin(&f, link, id, 1);
    }
    assert_int_equal(on[1] + on[2], 40);
    assert_in_range(on[2], 10, 20);
    fixture_close(&f);
}

static void test_route_prefix_of_a_worker_that_is_gone_is_forgotten(void **state)
{
    (void)state;
    struct fixture f;
    open_two(&f);
    submit_request(&f, prompt_request(1, 100, 0));
    assert_int_equal(got(&f), 1);
    tokens(&f, 1, 1, 1, 0, 10);
    link_down(&f, 1);
    join(&f, "w3", "i-3"); /* takes the free pipeline number */
    submit(&f, 2, 1, 10);
    assert_int_equal(got(&f), 2);
    submit(&f, 3, 3, 10);
    assert_int_equal(got(&f), 3);
    submit_request(&f, prompt_request(4, 100, 0));
    assert_int_equal(got(&f), 2);
    fixture_close(&f);
}

static void test_route_full_workers_leave_requests_in_the_queue(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    f.config.worker_branches_target = 4;
    fixture_start(&f);
    join(&f, "w1", "i-1");
    submit(&f, 1, 3, 10);
    submit(&f, 2, 2, 10);
    assert_int_equal(got(&f), 0);
    tokens_of(&f, 1, 1, 1, 0, 0, 10); /* one branch ends */
    assert_int_equal(got(&f), 1);
    submit(&f, 3, 100, 10); /* more than fits at all: gets an empty worker */
    assert_int_equal(got(&f), 0);
    cancel(&f, 1);
    cancel(&f, 2);
    assert_int_equal(got(&f), 1);
    fixture_close(&f);
}

static void test_route_prefers_a_worker_whose_pages_can_hold_it(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    fixture_start(&f);
    struct gw_msg small = hello_msg("w1", "i-1"), big = hello_msg("w2", "i-2");
    small.hello.kv_tokens = 512;
    big.hello.kv_tokens = 4096;
    hello(&f, &small);
    hello(&f, &big);
    submit_request(&f, make_request(1, 1, 1000, 10));
    assert_int_equal(got(&f), 2);
    submit(&f, 2, 1, 10);
    assert_int_equal(got(&f), 1);
    fixture_close(&f);
}

/* w1 of profile test-1 generated; only a worker of another profile is left. */
static void lose_profile(struct fixture *f)
{
    join(f, "w1", "i-1");
    submit(f, 7, 1, 10);
    tokens(f, 1, 7, 1, 0, 2);
    struct gw_msg other = hello_msg("w2", "i-2");
    snprintf(other.hello.profile, sizeof other.hello.profile, "test-2");
    hello(f, &other);
    link_down(f, 1);
}

static void test_route_waits_for_a_worker_of_the_same_profile(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    fixture_start(&f);
    lose_profile(&f);
    assert_int_equal(got(&f), 0);
    submit(&f, 8, 1, 10); /* one that has no records yet is not held up by it */
    assert_int_equal(got(&f), 2);
    join(&f, "w3", "i-3");
    assert_int_equal(got(&f), 3);
    fixture_close(&f);
}

static void test_route_goes_on_with_another_profile_if_told_to(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    f.config.profile_loss_continue = true;
    fixture_start(&f);
    lose_profile(&f);
    assert_int_equal(got(&f), 2);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_route_least_loaded_first_and_oldest_of_equals),
        cmocka_unit_test(test_route_counts_prompts_that_wait_for_prefill),
        cmocka_unit_test(test_route_forgets_the_load_of_what_left),
        cmocka_unit_test(test_route_prefers_the_worker_that_has_the_prefix),
        cmocka_unit_test(test_route_prefix_of_another_tenant_is_another_prefix),
        cmocka_unit_test(test_route_prefix_does_not_overload_one_worker),
        cmocka_unit_test(test_route_prefix_of_a_worker_that_is_gone_is_forgotten),
        cmocka_unit_test(test_route_full_workers_leave_requests_in_the_queue),
        cmocka_unit_test(test_route_prefers_a_worker_whose_pages_can_hold_it),
        cmocka_unit_test(test_route_waits_for_a_worker_of_the_same_profile),
        cmocka_unit_test(test_route_goes_on_with_another_profile_if_told_to),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
