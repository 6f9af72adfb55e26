/* migrate/peer_fetch: pages come whole, from whoever has them, and nothing is left behind. */
#include <poll.h>
#include <sched.h>

#include "tests/lib/peer_fixture.h"

/* ---- whole fetches ---- */

static void test_run_one_source_gives_every_block(void **state)
{
    struct fixture *f = *state;
    open_source(f, 0, ALL, 40);
    struct gw_peer_fetch_config config = open_sink(f, ALL, 1);
    config.streams = 2;
    open_fetch(&f->run, &config);
    run_fetch(&f->run, 0, 40);
    check_all_there(f, 0, 40);
    assert_int_equal(f->run.result.blocks, 40);
    assert_int_equal(f->run.result.pages, 40 * PAGE_GROUPS * PAGE_HEADS);
    assert_int_equal(f->run.result.broken, 0);
    struct gw_peer_server_stats stats = gw_peer_server_stats(f->servers[0]);
    assert_int_equal(stats.pages, f->run.result.pages);
    assert_int_equal(stats.bytes, f->run.result.bytes);
    assert_int_equal(stats.bad + stats.slow + stats.absent, 0);
}

static void test_run_pages_too_small_to_lend_are_copied(void **state)
{
    struct fixture *f = *state;
    open_source(f, 0, ALL, 40);
    gw_peer_server_destroy(f->servers[0]);
    struct gw_peer_server_config server = server_config(&f->from[0]);
    server.lend_min_bytes = UINT32_MAX;
    f->servers[0] = server_open(&server);
    f->sources[0] = fetch_source(gw_peer_server_address(f->servers[0]), ALL);
    struct gw_peer_fetch_config config = open_sink(f, ALL, 1);
    open_fetch(&f->run, &config);
    run_fetch(&f->run, 0, 40);
    check_all_there(f, 0, 40);
}

static void test_run_pins_end_with_the_lease(void **state)
{
    struct fixture *f = *state;
    open_source(f, 0, ALL, 4);
    gw_peer_server_destroy(f->servers[0]);
    struct gw_peer_server_config server = server_config(&f->from[0]);
    server.lease_us = 200 * GW_US_PER_MS;
    f->servers[0] = server_open(&server);
    f->sources[0] = fetch_source(gw_peer_server_address(f->servers[0]), ALL);
    struct gw_peer_fetch_config config = open_sink(f, ALL, 1);
    open_fetch(&f->run, &config);
    run_fetch(&f->run, 0, 2);
    check_all_there(f, 0, 2);
    int64_t until_us = gw_clock_mono_us() + PAGE_LATE_US;
    while (pool_pins(&f->from[0]) > 0 && gw_clock_mono_us() < until_us) sched_yield();
    assert_int_equal(pool_pins(&f->from[0]), 0);
    assert_int_equal(f->from[0].most_pins, 2); /* one for the socket, one for a second look */
    run_fetch(&f->run, 2, 2);                  /* the connection lives on */
    check_all_there(f, 2, 2);
    assert_int_equal(f->run.result.broken, 0);
}

static void test_run_unix_socket_is_taken_where_both_offer_it(void **state)
{
    struct fixture *f = *state;
    open_source(f, 0, ALL, 10);
    gw_peer_server_destroy(f->servers[0]);
    struct gw_peer_server_config server = server_config(&f->from[0]);
    server.unix_socket = true;
    f->servers[0] = server_open(&server);
    /* Nobody listens on that port of the address any more: the unix socket alone has its name. */
    f->sources[0] = fetch_source(gw_peer_server_address(f->servers[0]), ALL);
    struct gw_peer_fetch_config config = open_sink(f, ALL, 1);
    config.try_unix = true;
    open_fetch(&f->run, &config);
    run_fetch(&f->run, 0, 10);
    check_all_there(f, 0, 10);
    assert_int_equal(f->run.result.broken, 0);
}

static void test_run_unix_socket_that_is_none_falls_back_to_tcp(void **state)
{
    struct fixture *f = *state;
    open_source(f, 0, ALL, 10);
    struct gw_peer_fetch_config config = open_sink(f, ALL, 1);
    config.try_unix = true;
    open_fetch(&f->run, &config);
    run_fetch(&f->run, 0, 10);
    check_all_there(f, 0, 10);
}

/* TP 4 → one of TP 2 × PP 2. */
static void test_run_other_layout_gathers_from_several_sources(void **state)
{
    struct fixture *f = *state;
    for (uint32_t i = 0; i < 4; i++) open_source(f, (int)i, page_rect(0, 4, 2 * i, 2 * i + 2), 30);
    struct gw_peer_fetch_config config = open_sink(f, page_rect(2, 4, 0, 4), 4);
    open_fetch(&f->run, &config);
    run_fetch(&f->run, 0, 30);
    check_all_there(f, 0, 30);
    assert_int_equal(gw_peer_server_stats(f->servers[0]).pages, 30 * 4);
    assert_int_equal(gw_peer_server_stats(f->servers[1]).pages, 30 * 4);
    assert_int_equal(gw_peer_server_stats(f->servers[2]).requests, 0);
}

static void test_run_again_uses_the_same_connection(void **state)
{
    struct fixture *f = *state;
    open_source(f, 0, ALL, 40);
    struct gw_peer_fetch_config config = open_sink(f, ALL, 1);
    open_fetch(&f->run, &config);
    run_fetch(&f->run, 0, 20);
    check_all_there(f, 0, 20);
    gw_peer_server_destroy(
        f->servers[0]); /* a new one at another port: the fetch notices that the old one is gone */
    struct gw_peer_server_config server = server_config(&f->from[0]);
    char *colon = strrchr(f->sources[0].address, ':');
    server.port = (uint16_t)strtoul(colon + 1, NULL, 10);
    f->servers[0] = server_open(&server);
    run_fetch(&f->run, 20, 10);
    check_all_there(f, 20, 10);
    assert_int_equal(f->run.result.broken, 0);
    run_fetch(&f->run, 30, 10);
    check_all_there(f, 30, 10);
    assert_int_equal(f->run.result.broken, 0);
}

/* ---- what is not there ---- */

static void test_run_absent_blocks_are_reported_and_take_no_room(void **state)
{
    struct fixture *f = *state;
    open_source(f, 0, ALL, 10);
    struct gw_peer_fetch_config config = open_sink(f, ALL, 1);
    open_fetch(&f->run, &config);
    run_fetch(&f->run, 5, 10); /* 5 to 9 are there */
    assert_int_equal(f->run.err, GW_OK);
    for (uint32_t i = 0; i < 10; i++) assert_int_equal(f->run.there[i], i < 5);
    assert_int_equal(f->run.result.absent, 5);
    assert_int_equal(pool_count(&f->to, POOLED_SEALED), 5);
    assert_int_equal(f->to.claims, 10);
    assert_int_equal(f->to.abandons, 5);
}

static void test_run_block_that_one_source_lacks_comes_from_another(void **state)
{
    struct fixture *f = *state;
    open_source(f, 0, ALL, 5);
    open_source(f, 1, ALL, 20);
    struct gw_peer_fetch_config config = open_sink(f, ALL, 2);
    open_fetch(&f->run, &config);
    run_fetch(&f->run, 0, 20);
    check_all_there(f, 0, 20);
    assert_true(f->run.result.refused > 0);
}

static void test_run_one_page_lacks_everywhere_loses_its_blocks(void **state)
{
    struct fixture *f = *state;
    open_source(f, 0, ALL, 5);
    f->from[0].lacks = (struct gw_page_id){1, 3};
    struct gw_peer_fetch_config config = open_sink(f, ALL, 1);
    open_fetch(&f->run, &config);
    run_fetch(&f->run, 0, 5);
    assert_int_equal(f->run.err, GW_OK);
    assert_int_equal(count_there(&f->run), 0);
    assert_int_equal(f->run.result.absent, 5);
}

static void test_run_page_that_no_source_holds_is_absent_at_once(void **state)
{
    struct fixture *f = *state;
    open_source(f, 0, page_rect(0, 4, 0, 7), 5);
    struct gw_peer_fetch_config config = open_sink(f, ALL, 1);
    open_fetch(&f->run, &config);
    run_fetch(&f->run, 0, 5);
    assert_int_equal(f->run.err, GW_OK);
    assert_int_equal(f->run.result.absent, 5);
    assert_int_equal(f->to.claims, 0);
}

static void test_run_slot_that_is_overwritten_while_it_is_sent_is_absent(void **state)
{
    struct fixture *f = *state;
    open_source(f, 0, ALL, 5);
    f->from[0].when_asked = SLOT_IS_OVERWRITTEN;
    struct gw_peer_fetch_config config = open_sink(f, ALL, 1);
    open_fetch(&f->run, &config);
    run_fetch(&f->run, 0, 5);
    assert_int_equal(f->run.err, GW_OK);
    assert_int_equal(count_there(&f->run), 0);
    assert_int_equal(f->run.result.corrupt, 5 * PAGE_GROUPS * PAGE_HEADS);
}

/* Its new block's bytes fit its new block's sums: only the name tells. */
static void test_run_slot_that_is_given_away_is_absent(void **state)
{
    struct fixture *f = *state;
    open_source(f, 0, ALL, 5);
    open_source(f, 1, ALL, 3);
    f->from[0].when_asked = SLOT_IS_ANOTHERS;
    struct gw_peer_fetch_config config = open_sink(f, ALL, 2);
    open_fetch(&f->run, &config);
    run_fetch(&f->run, 0, 5);
    assert_int_equal(f->run.err, GW_OK);
    assert_int_equal(count_there(&f->run), 3);
    for (uint32_t i = 0; i < 3; i++) assert_true(pool_has(&f->to, i));
    assert_int_equal(f->run.result.corrupt, 0);
}

static void test_run_full_pool_takes_what_fits(void **state)
{
    struct fixture *f = *state;
    open_source(f, 0, ALL, 20);
    struct gw_peer_fetch_config config = open_sink(f, ALL, 1);
    f->to.slots = 12;
    open_fetch(&f->run, &config);
    run_fetch(&f->run, 0, 20);
    assert_int_equal(f->run.err, GW_OK);
    assert_int_equal(count_there(&f->run), 12);
    assert_int_equal(f->run.result.no_room, 8);
}

static void test_run_source_that_is_down_is_replaced(void **state)
{
    struct fixture *f = *state;
    open_source(f, 0, ALL, 20);
    open_source(f, 1, ALL, 20);
    gw_peer_server_destroy(f->servers[0]);
    f->servers[0] = NULL;
    struct gw_peer_fetch_config config = open_sink(f, ALL, 2);
    open_fetch(&f->run, &config);
    run_fetch(&f->run, 0, 20);
    check_all_there(f, 0, 20);
    assert_true(f->run.result.broken >= GW_FETCH_FAILS_MAX);
}

static void test_run_all_sources_down_ends_before_the_deadline(void **state)
{
    struct fixture *f = *state;
    open_source(f, 0, ALL, 3);
    gw_peer_server_destroy(f->servers[0]);
    f->servers[0] = NULL;
    struct gw_peer_fetch_config config = open_sink(f, ALL, 1);
    open_fetch(&f->run, &config);
    run_fetch(&f->run, 0, 3);
    assert_int_equal(f->run.err, GW_OK);
    assert_int_equal(f->run.result.absent, 3);
    assert_true(f->run.took_us < PAGE_LATE_US / 2);
}

/* Its process is gone: who waits would rather recompute. */
static void test_run_fast_fail_gives_up_who_cannot_be_reached_at_once(void **state)
{
    struct fixture *f = *state;
    open_source(f, 0, ALL, 3);
    open_source(f, 1, page_rect(0, 4, 0, 4), 3);
    gw_peer_server_destroy(f->servers[0]);
    f->servers[0] = NULL;
    struct gw_peer_fetch_config config = open_sink(f, ALL, 2);
    config.fast_fail = true;
    open_fetch(&f->run, &config);
    run_fetch(&f->run, 0, 3);
    assert_int_equal(f->run.err, GW_OK);
    assert_int_equal(f->run.result.absent, 3);
    assert_int_equal(f->run.result.broken, 1); /* connecting is tried once */
    assert_true(f->run.took_us < PAGE_LATE_US / 2);
}

static void *restart_server(void *arg)
{
    struct fixture *f = arg;
    struct gw_peer_server_config server = server_config(&f->from[0]);
    while (gw_peer_server_stats(f->servers[0]).requests == 0) sched_yield();
    gw_peer_server_destroy(f->servers[0]);
    f->servers[0] = server_open(&server); /* elsewhere */
    return NULL;
}

static void test_run_fast_fail_source_that_dies_in_the_middle_is_given_up(void **state)
{
    struct fixture *f = *state;
    pthread_t thread;
    open_source(f, 0, ALL, 40);
    gw_peer_server_destroy(f->servers[0]);
    struct gw_peer_server_config server = server_config(&f->from[0]);
    server.rate_bytes_s = 1; /* the first batch goes, no second one */
    f->servers[0] = server_open(&server);
    f->sources[0] = fetch_source(gw_peer_server_address(f->servers[0]), ALL);
    struct gw_peer_fetch_config config = open_sink(f, ALL, 1);
    config.fast_fail = true;
    open_fetch(&f->run, &config);
    pthread_create(&thread, NULL, restart_server, f);
    run_fetch(&f->run, 0, 40);
    pthread_join(thread, NULL);
    assert_int_equal(f->run.err, GW_OK);
    assert_int_equal(f->run.result.broken, 2); /* the connection, and its successor */
    assert_true(count_there(&f->run) < 40);
    assert_true(f->run.took_us < PAGE_LATE_US / 2);
}

/* ---- time ---- */

static void test_run_rate_is_kept(void **state)
{
    struct fixture *f = *state;
    open_source(f, 0, ALL, 40);
    gw_peer_server_destroy(f->servers[0]);
    struct gw_peer_server_config server = server_config(&f->from[0]);
    server.rate_bytes_s = 4e6;
    f->servers[0] = server_open(&server);
    f->sources[0] = fetch_source(gw_peer_server_address(f->servers[0]), ALL);
    struct gw_peer_fetch_config config = open_sink(f, ALL, 1);
    open_fetch(&f->run, &config);
    run_fetch(&f->run, 0, 40); /* 1.1 MB in batches of 0.4: each goes when that before it is paid for */
    check_all_there(f, 0, 40);
    assert_true(f->run.took_us > 200 * GW_US_PER_MS);
}

/* Several streams share one limit, and runs that follow one another do. */
static void test_run_rate_is_kept_by_all_streams_together(void **state)
{
    struct fixture *f = *state;
    open_source(f, 0, ALL, 90);
    struct gw_peer_fetch_config config = open_sink(f, ALL, 1);
    config.streams = 4;
    config.rate_bytes_s = 10e6;
    open_fetch(&f->run, &config);
    int64_t start_us = gw_clock_mono_us();
    for (uint32_t i = 0; i < 8; i++) {
        run_fetch(&f->run, 8 * i, 8);
        check_all_there(f, 8 * i, 8);
    }
    /* The last run asked when those before were paid for: 56 blocks of 28 KiB. */
    assert_true(gw_clock_mono_us() - start_us >= 56 * 28 * 1024 / 10);
}

static void test_run_deadline_keeps_what_is_whole_and_abandons_the_rest(void **state)
{
    struct fixture *f = *state;
    open_source(f, 0, ALL, 96);
    struct gw_peer_fetch_config config = open_sink(f, ALL, 1);
    config.rate_bytes_s = 1; /* the first request goes, no second one */
    open_fetch(&f->run, &config);
    f->run.wait_us = 500 * GW_US_PER_MS;
    run_fetch(&f->run, 0, 10);
    check_all_there(f, 0, 10);
    run_fetch(&f->run, 10, 10);
    assert_int_equal(f->run.err, GW_ERR_IO);
    assert_non_null(strstr(f->run.ctx.text, "10 of 10"));
    assert_int_equal(count_there(&f->run), 0);
}

static void *cancel_soon(void *arg)
{
    struct fixture *f = arg;
    while (gw_peer_server_stats(f->servers[0]).requests == 0) sched_yield();
    gw_peer_fetch_cancel(f->run.fetch);
    return NULL;
}

static void test_cancel_from_another_thread_ends_a_run(void **state)
{
    struct fixture *f = *state;
    pthread_t thread;
    open_source(f, 0, ALL, 40);
    gw_peer_server_destroy(f->servers[0]);
    struct gw_peer_server_config server = server_config(&f->from[0]);
    server.rate_bytes_s = 1;
    f->servers[0] = server_open(&server);
    f->sources[0] = fetch_source(gw_peer_server_address(f->servers[0]), ALL);
    struct gw_peer_fetch_config config = open_sink(f, ALL, 1);
    open_fetch(&f->run, &config);
    run_fetch(&f->run, 0, 1); /* goes at once; the next batch waits for months */
    struct gw_peer_server_stats before = gw_peer_server_stats(f->servers[0]);
    assert_int_equal(before.requests, 1);
    pthread_create(&thread, NULL, cancel_soon, f);
    run_fetch(&f->run, 1, 20);
    pthread_join(thread, NULL);
    assert_int_equal(f->run.err, GW_ERR_IO);
    assert_non_null(strstr(f->run.ctx.text, "cancelled"));
    assert_true(f->run.took_us < PAGE_LATE_US / 2);
}

static void test_create_bad_configuration_is_refused(void **state)
{
    struct fixture *f = *state;
    open_source(f, 0, ALL, 1);
    struct gw_peer_fetch_config config = open_sink(f, ALL, 1);
    struct gw_peer_fetch *fetch = NULL;
    config.sources_len = 0;
    assert_int_equal(gw_peer_fetch_create(&config, &fetch, NULL), GW_ERR_INPUT);
    config.sources_len = 1;
    config.want = page_rect(1, 1, 0, 8);
    assert_int_equal(gw_peer_fetch_create(&config, &fetch, NULL), GW_ERR_INPUT);
    config.want = ALL;
    config.streams = GW_FETCH_STREAMS_MAX + 1;
    assert_int_equal(gw_peer_fetch_create(&config, &fetch, NULL), GW_ERR_LIMIT);
    config.streams = 1;
    config.key_len = 0;
    assert_int_equal(gw_peer_fetch_create(&config, &fetch, NULL), GW_ERR_INPUT);
    assert_null(fetch);
    struct gw_peer_server_config server = server_config(&f->from[0]);
    struct gw_peer_server *other = NULL;
    server.host = "example.org";
    assert_int_equal(gw_peer_server_create(&server, &other, NULL), GW_ERR_INPUT);
    server.host = "127.0.0.1";
    server.port = (uint16_t)strtoul(strrchr(f->sources[0].address, ':') + 1, NULL, 10);
    assert_int_equal(gw_peer_server_create(&server, &other, NULL), GW_ERR_IO);
    server.key_len = 0;
    assert_int_equal(gw_peer_server_create(&server, &other, NULL), GW_ERR_INPUT);
    assert_null(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        PEER_TEST(test_run_one_source_gives_every_block),
        PEER_TEST(test_run_pages_too_small_to_lend_are_copied),
        PEER_TEST(test_run_pins_end_with_the_lease),
        PEER_TEST(test_run_unix_socket_is_taken_where_both_offer_it),
        PEER_TEST(test_run_unix_socket_that_is_none_falls_back_to_tcp),
        PEER_TEST(test_run_other_layout_gathers_from_several_sources),
        PEER_TEST(test_run_again_uses_the_same_connection),
        PEER_TEST(test_run_absent_blocks_are_reported_and_take_no_room),
        PEER_TEST(test_run_block_that_one_source_lacks_comes_from_another),
        PEER_TEST(test_run_one_page_lacks_everywhere_loses_its_blocks),
        PEER_TEST(test_run_page_that_no_source_holds_is_absent_at_once),
        PEER_TEST(test_run_slot_that_is_overwritten_while_it_is_sent_is_absent),
        PEER_TEST(test_run_slot_that_is_given_away_is_absent),
        PEER_TEST(test_run_full_pool_takes_what_fits),
        PEER_TEST(test_run_source_that_is_down_is_replaced),
        PEER_TEST(test_run_all_sources_down_ends_before_the_deadline),
        PEER_TEST(test_run_fast_fail_gives_up_who_cannot_be_reached_at_once),
        PEER_TEST(test_run_fast_fail_source_that_dies_in_the_middle_is_given_up),
        PEER_TEST(test_run_rate_is_kept),
        PEER_TEST(test_run_rate_is_kept_by_all_streams_together),
        PEER_TEST(test_run_deadline_keeps_what_is_whole_and_abandons_the_rest),
        PEER_TEST(test_cancel_from_another_thread_ends_a_run),
        PEER_TEST(test_create_bad_configuration_is_refused),
        PEER_TEST_TLS(test_run_one_source_gives_every_block),
        PEER_TEST_TLS(test_run_pages_too_small_to_lend_are_copied),
        PEER_TEST_TLS(test_run_pins_end_with_the_lease),
        PEER_TEST_TLS(test_run_unix_socket_is_taken_where_both_offer_it),
        PEER_TEST_TLS(test_run_unix_socket_that_is_none_falls_back_to_tcp),
        PEER_TEST_TLS(test_run_other_layout_gathers_from_several_sources),
        PEER_TEST_TLS(test_run_again_uses_the_same_connection),
        PEER_TEST_TLS(test_run_absent_blocks_are_reported_and_take_no_room),
        PEER_TEST_TLS(test_run_block_that_one_source_lacks_comes_from_another),
        PEER_TEST_TLS(test_run_one_page_lacks_everywhere_loses_its_blocks),
        PEER_TEST_TLS(test_run_slot_that_is_overwritten_while_it_is_sent_is_absent),
        PEER_TEST_TLS(test_run_slot_that_is_given_away_is_absent),
        PEER_TEST_TLS(test_run_source_that_is_down_is_replaced),
        PEER_TEST_TLS(test_run_all_sources_down_ends_before_the_deadline),
        PEER_TEST_TLS(test_run_fast_fail_gives_up_who_cannot_be_reached_at_once),
        PEER_TEST_TLS(test_run_fast_fail_source_that_dies_in_the_middle_is_given_up),
        PEER_TEST_TLS(test_run_rate_is_kept),
        PEER_TEST_TLS(test_run_deadline_keeps_what_is_whole_and_abandons_the_rest),
        PEER_TEST_TLS(test_cancel_from_another_thread_ends_a_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
