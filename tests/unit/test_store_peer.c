/* migrate/store_peer and store_peer_server, at both ends of a socket; and strangers at either end. */
#include "tests/lib/store_fixture.h"

#include <event2/buffer.h>
#include <poll.h>
#include <sys/socket.h>

#include "migrate/store_peer.h"
#include "migrate/store_peer_server.h"
#include "migrate/store_peer_wire.h"

#define ROOM     ((size_t)64 << 20)
#define QUICK_US (20 * GW_US_PER_MS) /* a second, for those who wait for its end */
#define SEALED   (SMALL_PAGE + GW_PAGE_SEAL_BYTES)

struct fixture {
    struct gw_store_peer_server *server;
    struct gw_store *store;
    int left; /* calls; atomic */
};

static void on_left(void *arg, uint32_t peer)
{
    struct fixture *f = arg;
    if (peer != 0) abort(); /* not the test's thread */
    __atomic_add_fetch(&f->left, 1, __ATOMIC_SEQ_CST);
}

static struct gw_store_peer_server *open_server(size_t max_bytes, int64_t tick_us)
{
    const struct gw_store_peer_server_config config = {.max_bytes = max_bytes, .tick_us = tick_us};
    struct gw_store_peer_server *server = NULL;
    assert_int_equal(gw_store_peer_server_create(&config, &server, NULL), GW_OK);
    return server;
}

static void connect_both(struct gw_store *store, uint32_t peer, struct gw_store_peer_server *server)
{
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    gw_store_peer_server_serve(server, gw_socket_plain(ends[0]));
    gw_store_peer_attach(store, peer, gw_socket_plain(ends[1]));
}

static void open_store(struct fixture *f, const char *const *peers, uint32_t len)
{
    const struct gw_store_peer_config config = {.common = {.seal = &store_seal},
                                                .peers = peers,
                                                .peers_len = len,
                                                .left = len == 1 ? on_left : NULL,
                                                .arg = f};
    assert_int_equal(gw_store_peer_create(&config, &f->store, NULL), GW_OK);
}

static void begin_ticking(struct fixture *f, size_t max_bytes, int64_t tick_us)
{
    *f = (struct fixture){.server = open_server(max_bytes, tick_us)};
    open_store(f, (const char *[]){"buddy"}, 1);
    connect_both(f->store, 0, f->server);
    until_up(f->store, 1);
}

static void begin(struct fixture *f, size_t max_bytes)
{
    begin_ticking(f, max_bytes, 0);
}

static void end(struct fixture *f)
{
    gw_store_destroy(f->store);
    gw_store_peer_server_destroy(f->server);
}

static struct gw_store_peer_server_stats served(struct gw_store_peer_server *server)
{
    struct gw_store_peer_server_stats s;
    gw_store_peer_server_stats(server, &s);
    return s;
}

static void test_put_then_get_and_has_find_the_same_bytes(void **state)
{
    (void)state;
    struct fixture f;
    enum gw_store_outcome outcome;
    begin(&f, ROOM);
    for (uint32_t i = 0; i < 16; i++)
        assert_int_equal(put_block(f.store, i, i < 8 ? SMALL_PAGE : BIG_PAGE, STORE_CALL_US), GW_STORE_OK);
    for (uint32_t i = 0; i < 16; i++) expect_block(f.store, i, i < 8 ? SMALL_PAGE : BIG_PAGE, ALL_PAGES);
    expect_block(f.store, 20, SMALL_PAGE, 0);
    assert_true(has_blocks(f.store, 20, &outcome) == 0xFFFF);
    assert_int_equal(stats_of(f.store).pages_missing, STORE_PAGES);
    assert_int_equal(served(f.server).blocks, 16);
    assert_int_equal(served(f.server).pages_sent, 16 * STORE_PAGES);
    end(&f);
}

static void test_many_calls_ahead_are_answered_in_order(void **state)
{
    (void)state;
    struct fixture f;
    struct waited w[64];
    begin(&f, ROOM * 2);
    for (uint32_t i = 0; i < 64; i++) {
        waited_init(&w[i]);
        assert_int_equal(begin_put(f.store, i, BIG_PAGE, STORE_CALL_US, &w[i]), GW_OK);
    }
    for (uint32_t i = 0; i < 64; i++) {
        assert_int_equal(waited_for(&w[i]), GW_STORE_OK);
        waited_fini(&w[i]);
        waited_init(&w[i]);
    }
    for (uint32_t i = 0; i < 64; i++)
        assert_int_equal(begin_get(f.store, i, BIG_PAGE, STORE_CALL_US, &w[i]), GW_OK);
    for (uint32_t i = 0; i < 64; i++) {
        assert_int_equal(waited_for(&w[i]), GW_STORE_OK);
        assert_int_equal(got_pages(&w[i], i, BIG_PAGE), ALL_PAGES);
        waited_fini(&w[i]);
    }
    end(&f);
}

static void test_server_that_is_full_forgets_the_oldest_and_refuses_what_never_fits(void **state)
{
    (void)state;
    struct fixture f;
    enum gw_store_outcome outcome;
    begin(&f, 3 * STORE_PAGES * BIG_PAGE);
    for (uint32_t i = 0; i < 6; i++)
        assert_int_equal(put_block(f.store, i, SMALL_PAGE, STORE_CALL_US), GW_STORE_OK);
    for (uint32_t i = 6; i < 9; i++)
        assert_int_equal(put_block(f.store, i, BIG_PAGE, STORE_CALL_US), GW_STORE_OK);
    assert_true(has_blocks(f.store, 9, &outcome) == 0x180); /* two large ones, nothing else */
    assert_true(served(f.server).bytes <= 3 * STORE_PAGES * BIG_PAGE);
    assert_int_equal(put_block(f.store, 9, 4 * BIG_PAGE, STORE_CALL_US), GW_STORE_REFUSED);
    assert_int_equal(served(f.server).refused, 1);
    expect_block(f.store, 8, BIG_PAGE, ALL_PAGES);
    end(&f);
}

static void test_buddy_gone_calls_are_lost_at_once_and_a_new_socket_brings_them_back(void **state)
{
    (void)state;
    struct fixture f;
    enum gw_store_outcome outcome;
    begin(&f, ROOM);
    assert_int_equal(put_block(f.store, 0, SMALL_PAGE, STORE_CALL_US), GW_STORE_OK);
    gw_store_peer_server_destroy(f.server);
    until_up(f.store, 0);
    assert_int_equal(__atomic_load_n(&f.left, __ATOMIC_SEQ_CST), 1);
    assert_int_equal(get_block(f.store, 0, SMALL_PAGE, &outcome), 0);
    assert_int_equal(outcome, GW_STORE_LOST);
    assert_int_equal(put_block(f.store, 0, SMALL_PAGE, STORE_CALL_US), GW_STORE_LOST);
    f.server = open_server(ROOM, 0);
    connect_both(f.store, 0, f.server);
    until_up(f.store, 1);
    expect_block(f.store, 0, SMALL_PAGE, 0); /* another memory */
    assert_int_equal(put_block(f.store, 0, SMALL_PAGE, STORE_CALL_US), GW_STORE_OK);
    expect_block(f.store, 0, SMALL_PAGE, ALL_PAGES);
    end(&f);
}

static void test_server_pages_outlive_the_worker_that_put_them(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, ROOM);
    assert_int_equal(put_block(f.store, 0, SMALL_PAGE, STORE_CALL_US), GW_STORE_OK);
    gw_store_destroy(f.store);
    open_store(&f, (const char *[]){"buddy"}, 1);
    connect_both(f.store, 0, f.server);
    until_up(f.store, 1);
    expect_block(f.store, 0, SMALL_PAGE, ALL_PAGES);
    end(&f);
}

static void test_two_buddies_share_names_and_one_takes_all_when_the_other_is_gone(void **state)
{
    (void)state;
    struct fixture f = {.server = open_server(ROOM, 0)};
    struct gw_store_peer_server *other = open_server(ROOM, 0);
    open_store(&f, (const char *[]){"a", "b"}, 2);
    connect_both(f.store, 0, f.server);
    connect_both(f.store, 1, other);
    until_up(f.store, 2);
    for (uint32_t i = 0; i < 40; i++)
        assert_int_equal(put_block(f.store, i, SMALL_PAGE, STORE_CALL_US), GW_STORE_OK);
    assert_int_equal(served(f.server).blocks + served(other).blocks, 40);
    assert_in_range(served(other).blocks, 5, 35);
    gw_store_peer_server_destroy(other);
    until_up(f.store, 1);
    for (uint32_t i = 0; i < 40; i++)
        assert_int_equal(put_block(f.store, i, SMALL_PAGE, STORE_CALL_US), GW_STORE_OK);
    assert_int_equal(served(f.server).blocks, 40);
    end(&f);
}

/* ---- strangers at the client's end ---- */

static int stranger(struct gw_store_peer_server *server)
{
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    gw_store_peer_server_serve(server, gw_socket_plain(ends[0]));
    return ends[1];
}

/* A frame of `items` pages, each of len bytes; the bytes follow. Freed by the caller. */
static struct evbuffer *frame_of(enum peer_type type, uint32_t block, uint32_t items_len, uint32_t len)
{
    struct evbuffer *out = evbuffer_new();
    struct peer_item items[GW_STORE_PAGES_MAX];
    struct peer_frame frame = {
        .type = type, .name = store_name(block), .items = items, .items_len = items_len};
    static const uint8_t zeros[SEALED];
    for (uint32_t i = 0; i < items_len; i++)
        items[i] = (struct peer_item){{(uint16_t)(i / 2), (uint16_t)(i % 2)}, len};
    frame.bytes = type == PEER_PUT ? items_len * len : 0;
    assert_int_equal(peer_put_head(out, &frame), GW_OK);
    for (uint32_t i = 0; i < items_len && frame.bytes; i++) evbuffer_add(out, zeros, len);
    return out;
}

static void write_frame(int fd, struct evbuffer *frame, size_t len)
{
    const uint8_t *bytes = evbuffer_pullup(frame, -1);
    assert_int_equal(send(fd, bytes, len, MSG_NOSIGNAL), len);
    evbuffer_free(frame);
}

static void expect_closed(int fd)
{
    char byte[4096];
    struct pollfd p = {fd, POLLIN, 0};
    for (;;) {
        assert_int_equal(poll(&p, 1, (int)(STORE_WAIT_US / GW_US_PER_MS)), 1);
        ssize_t n = read(fd, byte, sizeof byte);
        if (n <= 0) break;
    }
    close(fd);
}

static void test_pages_put_by_a_writer_without_the_key_are_not_got(void **state)
{
    (void)state;
    struct fixture f;
    char answer[PEER_HEAD_BYTES + STORE_PAGES * PEER_ITEM_BYTES];
    begin(&f, ROOM);
    int fd = stranger(f.server);
    struct evbuffer *forged = frame_of(PEER_PUT, 0, STORE_PAGES, SEALED);
    write_frame(fd, forged, evbuffer_get_length(forged));
    assert_int_equal(recv(fd, answer, sizeof answer, MSG_WAITALL), sizeof answer);
    expect_block(f.store, 0, SMALL_PAGE, 0);
    assert_int_equal(stats_of(f.store).pages_forged, STORE_PAGES);
    assert_int_equal(put_block(f.store, 0, SMALL_PAGE, STORE_CALL_US),
                     GW_STORE_OK); /* and can be put right */
    expect_block(f.store, 0, SMALL_PAGE, ALL_PAGES);
    close(fd);
    end(&f);
}

static void test_stranger_that_speaks_garbage_is_closed_alone(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, ROOM);
    uint8_t garbage[PEER_HEAD_BYTES];
    memset(garbage, 0x55, sizeof garbage);
    int fd = stranger(f.server);
    assert_int_equal(write(fd, garbage, sizeof garbage), sizeof garbage);
    expect_closed(fd);
    fd = stranger(f.server); /* an answer, to one who asked nothing */
    struct evbuffer *frame = frame_of(PEER_ANSWER, 0, 1, 0);
    write_frame(fd, frame, evbuffer_get_length(frame));
    expect_closed(fd);
    assert_int_equal(served(f.server).closed_wrong, 2);
    assert_int_equal(put_block(f.store, 0, SMALL_PAGE, STORE_CALL_US), GW_STORE_OK);
    end(&f);
}

static void test_stranger_amid_a_frame_is_closed_when_it_stops(void **state)
{
    (void)state;
    struct fixture f;
    begin_ticking(&f, ROOM, QUICK_US);
    int fd = stranger(f.server);
    write_frame(fd, frame_of(PEER_PUT, 0, STORE_PAGES, SEALED), 2 * SEALED);
    expect_closed(fd);
    assert_int_equal(served(f.server).closed_slow, 1);
    assert_int_equal(served(f.server).blocks, 0);
    assert_int_equal(served(f.server).connections, 1); /* an idle one is none of these */
    end(&f);
}

static void test_stranger_that_does_not_read_is_closed(void **state)
{
    (void)state;
    struct fixture f;
    begin_ticking(&f, ROOM, QUICK_US);
    assert_int_equal(put_block(f.store, 0, BIG_PAGE, STORE_CALL_US), GW_STORE_OK);
    int fd = stranger(f.server);
    for (int i = 0; i < 8; i++) {
        struct evbuffer *ask = frame_of(PEER_GET, 0, STORE_PAGES, 0);
        write_frame(fd, ask, evbuffer_get_length(ask));
    }
    int64_t deadline_us = gw_clock_mono_us() + STORE_WAIT_US;
    while (served(f.server).closed_slow == 0 && gw_clock_mono_us() < deadline_us) usleep(1000);
    assert_int_equal(served(f.server).closed_slow, 1);
    close(fd);
    end(&f);
}

static void test_more_connections_than_there_is_room_for_newcomer_is_closed(void **state)
{
    (void)state;
    struct fixture f;
    int fds[GW_STORE_PEER_CONNS_MAX];
    begin(&f, ROOM);
    for (int i = 0; i < GW_STORE_PEER_CONNS_MAX - 1; i++) {
        fds[i] = stranger(f.server);
        while (served(f.server).connections < (uint64_t)i + 2) usleep(100);
    }
    expect_closed(stranger(f.server));
    assert_int_equal(put_block(f.store, 0, SMALL_PAGE, STORE_CALL_US), GW_STORE_OK);
    for (int i = 0; i < GW_STORE_PEER_CONNS_MAX - 1; i++) close(fds[i]);
    end(&f);
}

/* ---- strangers at the server's end ---- */

static void expect_get_lost(struct evbuffer *answer)
{
    struct fixture f = {0};
    struct waited w;
    char heard[PEER_HEAD_BYTES + STORE_PAGES * PEER_ITEM_BYTES];
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    open_store(&f, (const char *[]){"buddy"}, 1);
    gw_store_peer_attach(f.store, 0, gw_socket_plain(ends[1]));
    until_up(f.store, 1);
    waited_init(&w);
    assert_int_equal(begin_get(f.store, 0, SMALL_PAGE, STORE_CALL_US, &w), GW_OK);
    assert_int_equal(recv(ends[0], heard, sizeof heard, MSG_WAITALL), sizeof heard);
    write_frame(ends[0], answer, evbuffer_get_length(answer));
    assert_int_equal(waited_for(&w), GW_STORE_LOST);
    assert_int_equal(got_pages(&w, 0, SMALL_PAGE), 0);
    waited_fini(&w);
    gw_store_destroy(f.store);
    close(ends[0]);
}

static void test_answers_that_were_not_asked_for_are_left(void **state)
{
    (void)state;
    expect_get_lost(frame_of(PEER_PUT, 0, STORE_PAGES, SEALED));
    expect_get_lost(frame_of(PEER_ANSWER, 0, STORE_PAGES - 1, 0));
    expect_get_lost(frame_of(PEER_ANSWER, 0, STORE_PAGES + 1, 0));
    struct evbuffer *garbage = evbuffer_new();
    evbuffer_add(garbage, "this is not how buddies speak to one another", 40);
    expect_get_lost(garbage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_put_then_get_and_has_find_the_same_bytes),
        cmocka_unit_test(test_many_calls_ahead_are_answered_in_order),
        cmocka_unit_test(test_server_that_is_full_forgets_the_oldest_and_refuses_what_never_fits),
        cmocka_unit_test(test_buddy_gone_calls_are_lost_at_once_and_a_new_socket_brings_them_back),
        cmocka_unit_test(test_server_pages_outlive_the_worker_that_put_them),
        cmocka_unit_test(test_two_buddies_share_names_and_one_takes_all_when_the_other_is_gone),
        cmocka_unit_test(test_pages_put_by_a_writer_without_the_key_are_not_got),
        cmocka_unit_test(test_stranger_that_speaks_garbage_is_closed_alone),
        cmocka_unit_test(test_stranger_amid_a_frame_is_closed_when_it_stops),
        cmocka_unit_test(test_stranger_that_does_not_read_is_closed),
        cmocka_unit_test(test_more_connections_than_there_is_room_for_newcomer_is_closed),
        cmocka_unit_test(test_answers_that_were_not_asked_for_are_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
