/* migrate/peer_server, migrate/peer_fetch: pages come whole, from whoever has them, and nothing is left behind. */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>

#include "base/sockaddr.h"
#include "tests/lib/page_fixture.h"

#include "migrate/peer_io.h"
#include "migrate/shake.h"

#define SOURCES 4

struct fixture {
    struct page_pool from[SOURCES], to;
    struct gw_peer_server *servers[SOURCES];
    struct gw_fetch_source sources[SOURCES];
    struct page_run run;
};

static int set_up(void **state)
{
    *state = calloc(1, sizeof(struct fixture));
    return 0;
}

/* Whatever happened, nothing stays pinned or claimed. */
static int tear_down(void **state)
{
    struct fixture *f = *state;
    gw_peer_fetch_destroy(f->run.fetch);
    for (int i = 0; i < SOURCES; i++) {
        gw_peer_server_destroy(f->servers[i]);
        if (!f->from[i].blocks[0].bytes) continue;
        assert_int_equal(pool_pins(&f->from[i]), 0);
        pool_close(&f->from[i]);
    }
    assert_int_equal(pool_count(&f->to, POOLED_CLAIMED), 0);
    pool_close(&f->to);
    free(f);
    return 0;
}

/* Source i holds rect and blocks [0, blocks). */
static void open_source(struct fixture *f, int i, struct gw_page_rect rect, uint32_t blocks)
{
    pool_open(&f->from[i], rect);
    for (uint32_t b = 0; b < blocks; b++) pool_seal(&f->from[i], b, b);
    struct gw_peer_server_config config = server_config(&f->from[i]);
    f->servers[i] = server_open(&config);
    f->sources[i] = fetch_source(gw_peer_server_address(f->servers[i]), rect);
}

/* The destination holds rect and asks the first `sources`. */
static struct gw_peer_fetch_config open_sink(struct fixture *f, struct gw_page_rect rect, uint32_t sources)
{
    pool_open(&f->to, rect);
    return fetch_config(&f->to, f->sources, sources);
}

static void check_all_there(struct fixture *f, uint32_t first, uint32_t len)
{
    if (f->run.err != GW_OK) fail_msg("%s", f->run.ctx.text);
    for (uint32_t i = 0; i < len; i++) {
        assert_true(f->run.there[i]);
        assert_true(pool_has(&f->to, first + i));
    }
}

static const struct gw_page_rect ALL = {0, PAGE_GROUPS, 0, PAGE_HEADS};

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

/* ---- peers of the server that are slow or wrong ---- */

/* A proven connection to server 0, by the library's own handshake. */
static int connect_proven(struct fixture *f)
{
    const struct gw_shake_key key = {PAGE_KEY, strlen(PAGE_KEY)};
    const struct gw_shake_pair pair = {7, 11, 3, 1, 0};
    struct sockaddr_storage addr;
    socklen_t len;
    char host[64];
    uint16_t port;
    struct gw_shake s;
    const int small = 4096;
    assert_int_equal(gw_sockaddr_split(f->sources[0].address, host, sizeof host, &port, NULL), GW_OK);
    assert_int_equal(gw_sockaddr_parse(host, port, &addr, &len, NULL), GW_OK);
    assert_true(gw_shake_dial(&s, &addr, len, GW_SHAKE_PAGES, &pair, 0));
    setsockopt(s.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small); /* a reader that takes little at a time */
    for (enum gw_shake_result r = GW_SHAKE_MORE; r != GW_SHAKE_PROVEN;) {
        assert_int_equal(gw_peer_io_wait(s.fd, gw_shake_events(&s), gw_clock_mono_us() + PAGE_LATE_US, NULL),
                         GW_OK);
        r = gw_shake_step(&s, &key);
        assert_int_not_equal(r, GW_SHAKE_FAILED);
    }
    return s.fd;
}

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

static bool sees_end(int fd)
{
    uint8_t bytes[4096];
    ssize_t n;
    int64_t until_us = gw_clock_mono_us() + PAGE_LATE_US;
    do {
        if (gw_peer_io_wait(fd, POLLIN, until_us, NULL) != GW_OK) return false;
        n = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
    } while (n > 0 || (n < 0 && errno == EAGAIN));
    return true;
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
    int fd = connect_proven(f);
    assert_int_equal(send(fd, "GWK1", 4, 0), 4);
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
    int fd = connect_proven(f);
    for (int i = 0; i < 6; i++) ask_for(fd, 90);
    wait_slow(f, 1);
    assert_int_equal(pool_pins(&f->from[0]), 0);
    close(fd);
}

static void test_server_idle_connection_is_closed_and_is_no_failure(void **state)
{
    struct fixture *f = *state;
    open_source(f, 0, ALL, 2);
    reopen_server(f, 0, 0, 50 * GW_US_PER_MS);
    struct gw_peer_fetch_config config = open_sink(f, ALL, 1);
    int fd = connect_proven(f);
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
    int fd = connect_proven(f);
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
    for (int i = 0; i < GW_PEER_CONNS_MAX; i++) fds[i] = connect_proven(f);
    int one_more = connect_proven(f);
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
    int fd = connect_proven(f);
    for (int i = 0; i < 6; i++) ask_for(fd, 90); /* its answers fill the sockets */
    while (gw_peer_server_stats(f->servers[0]).requests == 0) sched_yield();
    gw_peer_server_destroy(f->servers[0]);
    f->servers[0] = NULL;
    assert_true(sees_end(fd));
    close(fd);
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

#define PEER_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        PEER_TEST(test_run_one_source_gives_every_block),
        PEER_TEST(test_run_unix_socket_is_taken_where_both_offer_it),
        PEER_TEST(test_run_unix_socket_that_is_none_falls_back_to_tcp),
        PEER_TEST(test_run_other_layout_gathers_from_several_sources),
        PEER_TEST(test_run_again_uses_the_same_connection),
        PEER_TEST(test_run_absent_blocks_are_reported_and_take_no_room),
        PEER_TEST(test_run_block_that_one_source_lacks_comes_from_another),
        PEER_TEST(test_run_one_page_lacks_everywhere_loses_its_blocks),
        PEER_TEST(test_run_page_that_no_source_holds_is_absent_at_once),
        PEER_TEST(test_run_full_pool_takes_what_fits),
        PEER_TEST(test_run_source_that_is_down_is_replaced),
        PEER_TEST(test_run_all_sources_down_ends_before_the_deadline),
        PEER_TEST(test_server_older_term_or_generation_is_refused),
        PEER_TEST(test_server_other_model_is_refused),
        PEER_TEST(test_server_other_key_gets_nothing),
        PEER_TEST(test_run_rate_is_kept),
        PEER_TEST(test_run_deadline_keeps_what_is_whole_and_abandons_the_rest),
        PEER_TEST(test_cancel_from_another_thread_ends_a_run),
        PEER_TEST(test_server_half_a_request_is_dropped_in_time),
        PEER_TEST(test_server_reader_that_takes_nothing_loses_its_lease),
        PEER_TEST(test_server_idle_connection_is_closed_and_is_no_failure),
        PEER_TEST(test_server_wrong_bytes_end_the_connection),
        PEER_TEST(test_server_more_peers_than_it_serves_are_closed),
        PEER_TEST(test_server_destroy_ends_connections_at_work),
        PEER_TEST(test_create_bad_configuration_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
