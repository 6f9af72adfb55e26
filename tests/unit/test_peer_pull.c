/* migrate/peer_pull: what a leader asks a rank to fetch arrives whole, is done once, and what became of it comes back. */
#include <sched.h>

#include "tests/lib/pull_fixture.h"

/* ---- whole pulls ---- */

static void check_heard(const struct pull_fixture *f)
{
    const struct gw_pull_table *heard = &f->rank.last;
    assert_true(gw_page_fence_equal(&heard->pull.fence, &f->pull.fence));
    assert_int_equal(heard->pull.names_len, f->pull.names_len);
    assert_int_equal(heard->pull.holders_len, f->pull.holders_len);
    assert_int_equal(heard->pull.budget_ms, f->pull.budget_ms);
    assert_int_equal(heard->pull.background, f->pull.background);
    assert_int_equal(heard->pull.after_step, f->pull.after_step);
    assert_memory_equal(heard->names, f->names, f->pull.names_len * sizeof *f->names);
    assert_memory_equal(heard->slots, f->slots, f->pull.names_len * sizeof *f->slots);
    for (uint32_t i = 0; i < f->pull.holders_len; i++) {
        assert_string_equal(heard->holders[i].address, f->holders[i].address);
        assert_int_equal(heard->holders[i].rank, f->holders[i].rank);
        assert_memory_equal(&heard->holders[i].pages, &f->holders[i].pages, sizeof f->holders[i].pages);
    }
}

static void test_run_rank_hears_all_and_each_block_has_its_answer(void **state)
{
    struct pull_fixture *f = *state;
    expect_pulled(f);
    check_heard(f);
    assert_int_equal(gw_peer_server_stats(f->server).pulls, 1);
}

static void test_run_largest_pull_comes_whole(void **state)
{
    struct pull_fixture *f = *state;
    fill_pull(f, GW_PULL_NAMES_MAX - 1, GW_FETCH_SOURCES_MAX); /* expect_pulled looks behind the last one */
    f->names[GW_PULL_NAMES_MAX - 1] = page_name(GW_PULL_NAMES_MAX - 1);
    f->slots[GW_PULL_NAMES_MAX - 1] = UINT32_MAX;
    f->pull.budget_ms = GW_PULL_BUDGET_MAX;
    f->pull.background = true;
    expect_pulled(f);
    check_heard(f);
    f->pull.names_len = GW_PULL_NAMES_MAX;
    assert_int_equal(run_pull(f), GW_OK);
    check_heard(f);
    assert_int_equal(f->from[GW_PULL_NAMES_MAX - 1], pull_answer(GW_PULL_NAMES_MAX - 1));
}

static void test_run_no_holders_and_no_budget_are_a_pull(void **state)
{
    struct pull_fixture *f = *state;
    fill_pull(f, 1, 0);
    f->pull.budget_ms = 0;
    expect_pulled(f);
    check_heard(f);
}

static void test_run_through_the_unix_socket(void **state)
{
    struct pull_fixture *f = *state;
    struct gw_peer_server_config server = rank_server(f);
    server.unix_socket = true;
    gw_peer_server_destroy(f->server);
    gw_puller_destroy(f->puller);
    f->server = server_open(&server);
    struct gw_puller_config config = puller_config(gw_peer_server_address(f->server));
    config.try_unix = true;
    f->puller = puller_open(&config);
    expect_pulled(f);
}

/* ---- connections ---- */

static void test_run_again_uses_the_same_connection(void **state)
{
    struct pull_fixture *f = *state;
    expect_pulled(f);
    pthread_t first = f->rank.thread;
    expect_pulled(f);
    assert_true(pthread_equal(first, f->rank.thread));
    assert_int_equal(rank_calls(&f->rank), 2);
}

static void test_run_after_the_rank_restarted_connects_anew(void **state)
{
    struct pull_fixture *f = *state;
    expect_pulled(f);
    struct gw_peer_server_config server = rank_server(f);
    server.port = (uint16_t)strtoul(strrchr(gw_peer_server_address(f->server), ':') + 1, NULL, 10);
    gw_peer_server_destroy(f->server);
    f->server = server_open(&server);
    expect_pulled(f);
    assert_int_equal(rank_calls(&f->rank), 2);
}

static void test_run_nobody_listens_fails_at_once(void **state)
{
    struct pull_fixture *f = *state;
    gw_peer_server_destroy(f->server);
    f->server = NULL;
    f->pull.budget_ms = 60000;
    expect_lost(f, GW_ERR_IO, "no connection");
    assert_true(f->took_us < GW_US_PER_S);
}

static void test_run_other_key_is_not_heard(void **state)
{
    struct pull_fixture *f = *state;
    struct gw_puller_config config = puller_config(gw_peer_server_address(f->server));
    config.key = "sixteen other bytes";
    config.key_len = strlen(config.key);
    gw_puller_destroy(f->puller);
    f->puller = puller_open(&config);
    assert_int_equal(run_pull(f), GW_ERR_IO);
    assert_int_equal(rank_calls(&f->rank), 0);
    assert_int_equal(gw_peer_server_stats(f->server).pulls, 0);
}

/* ---- fences, models, refusals ---- */

/* The rank lived on in a generation that is over, or its leader did: neither is heard, and the connection stays good. */
static void test_run_stale_term_or_generation_is_answered_as_such(void **state)
{
    struct pull_fixture *f = *state;
    gw_peer_server_set_term(f->server, PAGE_FENCE.term);
    gw_peer_server_cancel(f->server, PAGE_FENCE.generation);
    expect_lost(f, GW_ERR_INPUT, "generation");
    f->pull.fence.generation++;
    expect_pulled(f);
    gw_peer_server_set_term(f->server, PAGE_FENCE.term + 1);
    expect_lost(f, GW_ERR_INPUT, "generation");
    f->pull.fence.term++;
    expect_pulled(f);
    assert_int_equal(rank_calls(&f->rank), 2);
    assert_int_equal(gw_peer_server_stats(f->server).stale, 2);
}

static void test_run_other_model_is_answered_as_such(void **state)
{
    struct pull_fixture *f = *state;
    struct gw_puller_config config = puller_config(gw_peer_server_address(f->server));
    config.model.numerics++;
    gw_puller_destroy(f->puller);
    f->puller = puller_open(&config);
    expect_lost(f, GW_ERR_INPUT, "model");
    assert_int_equal(rank_calls(&f->rank), 0);
    assert_int_equal(gw_peer_server_stats(f->server).foreign, 1);
}

static void test_run_rank_without_a_sink_refuses(void **state)
{
    struct pull_fixture *f = *state;
    struct gw_peer_server_config server = server_config(&f->pool);
    gw_peer_server_destroy(f->server);
    gw_puller_destroy(f->puller);
    f->server = server_open(&server);
    struct gw_puller_config config = puller_config(gw_peer_server_address(f->server));
    f->puller = puller_open(&config);
    expect_lost(f, GW_ERR_INPUT, "takes no pulls");
}

/* ---- time ---- */

static void *cancel_when_heard(void *arg)
{
    struct pull_fixture *f = arg;
    while (rank_calls(&f->rank) == 0) sched_yield();
    gw_puller_cancel(f->puller);
    return NULL;
}

static void test_cancel_from_another_thread_ends_this_run_and_all_later_ones(void **state)
{
    struct pull_fixture *f = *state;
    pthread_t thread;
    rank_hold(&f->rank, true);
    f->pull.budget_ms = 60000;
    pthread_create(&thread, NULL, cancel_when_heard, f);
    expect_lost(f, GW_ERR_IO, "");
    pthread_join(thread, NULL);
    assert_true(f->took_us < PAGE_LATE_US);
    expect_lost(f, GW_ERR_IO, "cancelled");
    assert_int_equal(rank_calls(&f->rank), 1);
    rank_hold(&f->rank, false);
}

static void test_run_rank_that_overruns_its_budget_is_not_waited_for(void **state)
{
    struct pull_fixture *f = *state;
    rank_hold(&f->rank, true);
    f->pull.budget_ms = 1;
    expect_lost(f, GW_ERR_LIMIT, "slow");
    assert_true(f->took_us >= GW_PULL_GRACE_MS * GW_US_PER_MS);
    rank_hold(&f->rank, false);
    expect_pulled(f); /* by a new connection: the late answer of the first is nobody's */
}

static void *end_server(void *arg)
{
    struct pull_fixture *f = arg;
    while (rank_calls(&f->rank) == 0) sched_yield();
    gw_peer_server_destroy(f->server); /* waits for the pull */
    f->server = NULL;
    return NULL;
}

static void test_run_rank_that_ends_in_the_middle_fails(void **state)
{
    struct pull_fixture *f = *state;
    pthread_t thread;
    rank_hold(&f->rank, true);
    f->pull.budget_ms = 60000;
    pthread_create(&thread, NULL, end_server, f);
    expect_lost(f, GW_ERR_IO, "closed");
    rank_hold(&f->rank, false);
    pthread_join(thread, NULL);
}

/* ---- limits ---- */

static void expect_unsent(struct pull_fixture *f)
{
    assert_int_equal(gw_puller_run(f->puller, &f->pull, f->from, NULL), GW_ERR_INPUT);
    fill_pull(f, PULL_BLOCKS, 3);
}

static void test_run_pull_over_the_limits_is_not_sent(void **state)
{
    struct pull_fixture *f = *state;
    f->pull.names_len = 0;
    expect_unsent(f);
    f->pull.names_len = GW_PULL_NAMES_MAX + 1;
    expect_unsent(f);
    f->pull.holders_len = GW_FETCH_SOURCES_MAX + 1;
    expect_unsent(f);
    f->pull.budget_ms = GW_PULL_BUDGET_MAX + 1;
    expect_unsent(f);
    f->names[4] = f->names[1];
    expect_unsent(f);
    f->slots[0] = f->slots[4];
    expect_unsent(f);
    f->holders[1].pages.g1 = 0;
    expect_unsent(f);
    f->holders[2].rank = GW_WIRE_RANKS_MAX;
    expect_unsent(f);
    f->holders[2].address[0] = '\0';
    expect_unsent(f);
    memset(f->holders[0].address, '1', sizeof f->holders[0].address);
    expect_unsent(f);
    assert_int_equal(rank_calls(&f->rank), 0);
    expect_pulled(f);
}

static void test_create_bad_configuration_is_refused(void **state)
{
    (void)state;
    struct gw_puller *puller = NULL;
    char address[GW_FETCH_ADDRESS_BYTES + 1];
    memset(address, '1', sizeof address);
    address[sizeof address - 1] = '\0';
    struct gw_puller_config config = puller_config(address);
    assert_int_equal(gw_puller_create(&config, &puller, NULL), GW_ERR_INPUT);
    config.address = "127.0.0.1:1";
    config.key_len = 0;
    assert_int_equal(gw_puller_create(&config, &puller, NULL), GW_ERR_INPUT);
    config.key_len = GW_CLUSTER_KEY_MAX + 1;
    assert_int_equal(gw_puller_create(&config, &puller, NULL), GW_ERR_INPUT);
    assert_null(puller);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        PULL_TEST(test_run_rank_hears_all_and_each_block_has_its_answer),
        PULL_TEST(test_run_largest_pull_comes_whole),
        PULL_TEST(test_run_no_holders_and_no_budget_are_a_pull),
        PULL_TEST(test_run_through_the_unix_socket),
        PULL_TEST(test_run_again_uses_the_same_connection),
        PULL_TEST(test_run_after_the_rank_restarted_connects_anew),
        PULL_TEST(test_run_nobody_listens_fails_at_once),
        PULL_TEST(test_run_other_key_is_not_heard),
        PULL_TEST(test_run_stale_term_or_generation_is_answered_as_such),
        PULL_TEST(test_run_other_model_is_answered_as_such),
        PULL_TEST(test_run_rank_without_a_sink_refuses),
        PULL_TEST(test_cancel_from_another_thread_ends_this_run_and_all_later_ones),
        PULL_TEST(test_run_rank_that_overruns_its_budget_is_not_waited_for),
        PULL_TEST(test_run_rank_that_ends_in_the_middle_fails),
        PULL_TEST(test_run_pull_over_the_limits_is_not_sent),
        cmocka_unit_test(test_create_bad_configuration_is_refused),
        PULL_TEST_TLS(test_run_rank_hears_all_and_each_block_has_its_answer),
        PULL_TEST_TLS(test_run_largest_pull_comes_whole),
        PULL_TEST_TLS(test_run_through_the_unix_socket),
        PULL_TEST_TLS(test_run_again_uses_the_same_connection),
        PULL_TEST_TLS(test_run_after_the_rank_restarted_connects_anew),
        PULL_TEST_TLS(test_cancel_from_another_thread_ends_this_run_and_all_later_ones),
        PULL_TEST_TLS(test_run_rank_that_ends_in_the_middle_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
