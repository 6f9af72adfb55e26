/* migrate/peer_server: who may ask, what for, and how long it is waited for. */
#include <sched.h>

#include "tests/lib/page_socket.h"
#include "tests/lib/peer_fixture.h"

/* ---- fences, models, keys ---- */

static void test_server_older_term_or_generation_is_refused(void **state)
{
    struct fixture *f = *state;
    open_source(f, 0, ALL, 3);
    struct gw_peer_fetch_config config = open_sink(f, ALL, 1);
    open_fetch(&f->run, &config);
    gw_peer_server_set_term(f->servers[0], PAGE_FENCE.term);
    gw_peer_server_cancel(f->servers[0], PAGE_FENCE.generation - 1);
    run_fetch(&f->run, 0, 1);
    check_all_there(f, 0, 1);
    gw_peer_server_cancel(f->servers[0], PAGE_FENCE.generation);
    run_fetch(&f->run, 1, 1);
    assert_int_equal(count_there(&f->run), 0);
    assert_int_equal(f->run.result.stale, 1);
    gw_peer_server_set_term(f->servers[0], PAGE_FENCE.term + 1);
    run_fetch(&f->run, 1, 1);
    assert_int_equal(count_there(&f->run), 0);
    assert_int_equal(gw_peer_server_stats(f->servers[0]).stale, 2);
}

static void test_server_other_model_is_refused(void **state)
{
    struct fixture *f = *state;
    open_source(f, 0, ALL, 3);
    struct gw_peer_fetch_config config = open_sink(f, ALL, 1);
    config.model.numerics++;
    open_fetch(&f->run, &config);
    run_fetch(&f->run, 0, 3);
    assert_int_equal(f->run.err, GW_OK);
    assert_int_equal(count_there(&f->run), 0);
    assert_int_equal(f->run.result.foreign, 1);
    assert_int_equal(gw_peer_server_stats(f->servers[0]).foreign, 1);
}

static void test_server_other_key_gets_nothing(void **state)
{
    struct fixture *f = *state;
    open_source(f, 0, ALL, 3);
    struct gw_peer_fetch_config config = open_sink(f, ALL, 1);
    config.key = "sixteen other bytes";
    config.key_len = strlen(config.key);
    open_fetch(&f->run, &config);
    run_fetch(&f->run, 0, 3);
    assert_int_equal(count_there(&f->run), 0);
    assert_int_equal(gw_peer_server_stats(f->servers[0]).requests, 0);
}

/* One side has --insecure-plaintext, or TLS of another key. */
static void expect_strangers(struct fixture *f, struct gw_tls *dialer_tls)
{
    open_source(f, 0, ALL, 3);
    struct gw_peer_fetch_config config = open_sink(f, ALL, 1);
    config.tls = dialer_tls;
    config.fast_fail = true;
    open_fetch(&f->run, &config);
    run_fetch(&f->run, 0, 3);
    assert_int_equal(count_there(&f->run), 0);
    assert_true(f->run.result.broken >= 1);
    /* The listening thread counts after it has closed. */
    int64_t until_us = gw_clock_mono_us() + PAGE_LATE_US;
    while (gw_peer_server_stats(f->servers[0]).strangers == 0 && gw_clock_mono_us() < until_us) sched_yield();
    assert_true(gw_peer_server_stats(f->servers[0]).strangers >= 1);
    assert_int_equal(gw_peer_server_stats(f->servers[0]).requests, 0);
}

static void test_server_tls_of_the_dialer_alone_is_counted(void **state)
{
    page_tls_on(PAGE_KEY);
    struct gw_tls *dialer = page_tls;
    page_tls = NULL;
    expect_strangers(*state, dialer);
    page_tls = dialer;
    gw_peer_fetch_destroy(((struct fixture *)*state)->run.fetch);
    ((struct fixture *)*state)->run.fetch = NULL;
    page_tls_off();
}

static void test_server_tls_of_the_listener_alone_is_counted(void **state)
{
    expect_strangers(*state, NULL);
}

static void test_server_tls_of_another_key_is_counted(void **state)
{
    struct gw_tls *ours = page_tls;
    page_tls_on("a key of somebody else");
    struct gw_tls *other = page_tls;
    page_tls = ours;
    expect_strangers(*state, other);
    gw_peer_fetch_destroy(((struct fixture *)*state)->run.fetch);
    ((struct fixture *)*state)->run.fetch = NULL;
    gw_tls_destroy(other);
}

/* ---- peers of the server that are slow or wrong ---- */

static void ask_for(int fd, uint32_t blocks)
{
    struct gw_page_request *q = calloc(1, sizeof *q);
    uint8_t *table = malloc(GW_PAGE_TABLE_MAX), head_bytes[GW_PAGE_HEAD_BYTES];
    q->names_len = (uint16_t)blocks;
    q->pages_len = PAGE_GROUPS * PAGE_HEADS;
    for (uint32_t i = 0; i < blocks; i++) q->names[i] = page_name(i);
    for (uint32_t p = 0; p < q->pages_len; p++)
        q->pages[p] = (struct gw_page_id){(uint16_t)(p / PAGE_HEADS), (uint16_t)(p % PAGE_HEADS)};
    memset(q->wanted, 0xFF, blocks * q->pages_len / 8);
    struct gw_page_head head = {GW_PAGE_REQUEST, gw_page_request_put(table, q), 0, 1, PAGE_FENCE, PAGE_MODEL};
    gw_page_head_put(head_bytes, &head, table);
    assert_int_equal(send(fd, head_bytes, sizeof head_bytes, 0), sizeof head_bytes);
    assert_int_equal(send(fd, table, head.table_bytes, 0), head.table_bytes);
    free(table);
    free(q);
}

static void reopen_server(struct fixture *f, int64_t message_us, int64_t lease_us, int64_t idle_us)
{
    gw_peer_server_destroy(f->servers[0]);
    struct gw_peer_server_config server = server_config(&f->from[0]);
    server.message_us = message_us;
    server.lease_us = lease_us;
    server.idle_us = idle_us;
    f->servers[0] = server_open(&server);
    f->sources[0] = fetch_source(gw_peer_server_address(f->servers[0]), ALL);
}

static void wait_slow(struct fixture *f, uint64_t slow)
{
    int64_t until_us = gw_clock_mono_us() + PAGE_LATE_US;
    while (gw_peer_server_stats(f->servers[0]).slow < slow && gw_clock_mono_us() < until_us) sched_yield();
    assert_int_equal(gw_peer_server_stats(f->servers[0]).slow, slow);
}

static void test_server_half_a_request_is_dropped_in_time(void **state)
{
    struct fixture *f = *state;
    open_sink(f, ALL, 0);
    open_source(f, 0, ALL, 1);
    reopen_server(f, 100 * GW_US_PER_MS, 0, 0);
    int fd = connect_proven(f->sources[0].address);
    assert_int_equal(send(fd, "GWK2", 4, 0), 4);
    assert_true(sees_end(fd));
    wait_slow(f, 1);
    close(fd);
}

static void test_server_reader_that_takes_nothing_loses_its_lease(void **state)
{
    struct fixture *f = *state;
    open_sink(f, ALL, 0);
    open_source(f, 0, ALL, 90); /* 2.6 MB: more than the sockets hold */
    reopen_server(f, 0, 300 * GW_US_PER_MS, 0);
    int fd = connect_proven(f->sources[0].address);
    for (int i = 0; i < 6; i++) ask_for(fd, 90);
    wait_slow(f, 1);
    assert_int_equal(pool_pins(&f->from[0]), 0);
    close(fd);
}

/* It takes a byte now and then, and never enough of a batch. */
static void test_server_reader_of_a_byte_now_and_then_loses_its_lease(void **state)
{
    struct fixture *f = *state;
    uint8_t byte;
    open_sink(f, ALL, 0);
    open_source(f, 0, ALL, 90);
    reopen_server(f, 0, 300 * GW_US_PER_MS, 0);
    int fd = connect_proven(f->sources[0].address);
    const struct timespec pause = {.tv_nsec = 20 * 1000 * 1000};
    int64_t until_us = gw_clock_mono_us() + PAGE_LATE_US;
    for (int i = 0; i < 6; i++) ask_for(fd, 90);
    while (gw_peer_server_stats(f->servers[0]).slow == 0 && gw_clock_mono_us() < until_us) {
        (void)!recv(fd, &byte, 1, MSG_DONTWAIT);
        ppoll(NULL, 0, &pause, NULL);
    }
    assert_int_equal(gw_peer_server_stats(f->servers[0]).slow, 1);
    assert_int_equal(pool_pins(&f->from[0]), 0);
    close(fd);
}

/* Half of a frame is there at once, the rest of it a byte at a time. */
static void test_server_request_byte_by_byte_is_dropped_in_time(void **state)
{
    struct fixture *f = *state;
    uint8_t bytes[GW_PAGE_HEAD_BYTES + 64] = {0};
    struct gw_page_head head = {GW_PAGE_REQUEST, 64, 0, 1, PAGE_FENCE, PAGE_MODEL};
    open_sink(f, ALL, 0);
    open_source(f, 0, ALL, 1);
    reopen_server(f, 100 * GW_US_PER_MS, 0, 0);
    int fd = connect_proven(f->sources[0].address);
    gw_page_head_put(bytes, &head, bytes + GW_PAGE_HEAD_BYTES);
    assert_true(say(fd, bytes, GW_PAGE_HEAD_BYTES));
    say_slowly(fd, bytes + GW_PAGE_HEAD_BYTES, 64, 30 * GW_US_PER_MS);
    assert_true(sees_end(fd));
    wait_slow(f, 1);
    close(fd);
}

static void test_server_idle_connection_is_closed_and_is_no_failure(void **state)
{
    struct fixture *f = *state;
    open_source(f, 0, ALL, 2);
    reopen_server(f, 0, 0, 50 * GW_US_PER_MS);
    struct gw_peer_fetch_config config = open_sink(f, ALL, 1);
    int fd = connect_proven(f->sources[0].address);
    assert_true(sees_end(fd));
    close(fd);
    open_fetch(&f->run, &config);
    for (uint32_t i = 0; i < 2; i++) {
        run_fetch(&f->run, i, 1);
        check_all_there(f, i, 1);
        const struct timespec pause = {.tv_nsec = 100000000};
        ppoll(NULL, 0, &pause, NULL);
    }
    assert_int_equal(gw_peer_server_stats(f->servers[0]).slow, 0);
}

static void test_server_wrong_bytes_end_the_connection(void **state)
{
    struct fixture *f = *state;
    open_sink(f, ALL, 0);
    open_source(f, 0, ALL, 1);
    int fd = connect_proven(f->sources[0].address);
    uint8_t bytes[GW_PAGE_HEAD_BYTES] = "GET / HTTP/1.1";
    assert_int_equal(send(fd, bytes, sizeof bytes, 0), sizeof bytes);
    assert_true(sees_end(fd));
    close(fd);
    int64_t until_us = gw_clock_mono_us() + PAGE_LATE_US;
    while (gw_peer_server_stats(f->servers[0]).bad == 0 && gw_clock_mono_us() < until_us) sched_yield();
    assert_int_equal(gw_peer_server_stats(f->servers[0]).bad, 1);
}

static void test_server_more_peers_than_it_serves_are_closed(void **state)
{
    struct fixture *f = *state;
    int fds[GW_PEER_CONNS_MAX];
    open_sink(f, ALL, 0);
    open_source(f, 0, ALL, 1);
    for (int i = 0; i < GW_PEER_CONNS_MAX; i++) fds[i] = connect_proven(f->sources[0].address);
    int one_more = connect_proven(f->sources[0].address);
    assert_true(sees_end(one_more));
    assert_int_equal(gw_peer_server_stats(f->servers[0]).refused, 1);
    close(one_more);
    for (int i = 0; i < GW_PEER_CONNS_MAX; i++) close(fds[i]);
}

static void test_server_destroy_ends_connections_at_work(void **state)
{
    struct fixture *f = *state;
    open_sink(f, ALL, 0);
    open_source(f, 0, ALL, 90);
    int fd = connect_proven(f->sources[0].address);
    for (int i = 0; i < 6; i++) ask_for(fd, 90); /* its answers fill the sockets */
    while (gw_peer_server_stats(f->servers[0]).requests == 0) sched_yield();
    gw_peer_server_destroy(f->servers[0]);
    f->servers[0] = NULL;
    assert_true(sees_end(fd));
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        PEER_TEST(test_server_older_term_or_generation_is_refused),
        PEER_TEST(test_server_other_model_is_refused),
        PEER_TEST(test_server_other_key_gets_nothing),
        PEER_TEST(test_server_tls_of_the_dialer_alone_is_counted),
        PEER_TEST_TLS(test_server_tls_of_the_listener_alone_is_counted),
        PEER_TEST_TLS(test_server_tls_of_another_key_is_counted),
        PEER_TEST_TLS(test_server_older_term_or_generation_is_refused),
        PEER_TEST(test_server_half_a_request_is_dropped_in_time),
        PEER_TEST(test_server_reader_that_takes_nothing_loses_its_lease),
        PEER_TEST(test_server_reader_of_a_byte_now_and_then_loses_its_lease),
        PEER_TEST(test_server_request_byte_by_byte_is_dropped_in_time),
        PEER_TEST(test_server_idle_connection_is_closed_and_is_no_failure),
        PEER_TEST(test_server_wrong_bytes_end_the_connection),
        PEER_TEST(test_server_more_peers_than_it_serves_are_closed),
        PEER_TEST(test_server_destroy_ends_connections_at_work),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
