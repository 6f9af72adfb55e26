/* worker/mesh: ranks find each other over loopback, and nobody waits for ever. */
#include "tests/lib/mesh_fixture.h"

/* ---- ranks among themselves ---- */

static void check_socket_flags(int fd)
{
    int nodelay = 0;
    socklen_t len = sizeof nodelay;
    assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &nodelay, &len), 0);
    assert_true(nodelay);
}

static void test_gather_eight_ranks_connects_each_pair(void **state)
{
    struct mesh_fixture *f = *state;
    open_ranks(f, MESH_RANKS, "127.0.0.1");
    for (int i = 0; i < MESH_RANKS; i++) start_gather(&f->r[i]);
    for (int i = 0; i < MESH_RANKS; i++) join_ok(&f->r[i]);
    for (int i = 0; i < MESH_RANKS; i++) {
        assert_int_equal(f->r[i].sockets[i].fd, -1);
        for (int j = 0; j < i; j++) {
            check_socket_flags(f->r[i].sockets[j].fd);
            check_socket_flags(f->r[j].sockets[i].fd);
            check_connected(f->r[i].sockets[j].fd, f->r[j].sockets[i].fd);
            check_connected(f->r[j].sockets[i].fd, f->r[i].sockets[j].fd);
        }
    }
    for (int i = 0; i < MESH_RANKS; i++) close_fds(&f->r[i]);
}

static void test_gather_one_rank_is_complete_at_once(void **state)
{
    struct mesh_fixture *f = *state;
    open_ranks(f, 1, "127.0.0.1");
    f->r[0].deadline_us = 0;
    gather(&f->r[0]);
    assert_int_equal(f->r[0].err, GW_OK);
    check_none_open(&f->r[0]);
}

static void test_gather_after_the_dialer_finds_its_connection(void **state)
{
    struct mesh_fixture *f = *state;
    open_ranks(f, 2, "127.0.0.1");
    struct hand first = dial_by_hand(&f->r[0], KEY, TERM, GENERATION, 1, "");
    gather(&f->r[0]); /* the listener has heard of nothing before */
    assert_int_equal(f->r[0].err, GW_OK);
    check_admitted(&first);
    check_connected(first.fd, f->r[0].sockets[1].fd);
    close_fds(&f->r[0]);
    close(first.fd);
}

/* Nobody goes on alone: a dialer has its proof when its listener gathers, not before. */
static void test_gather_waits_until_the_listener_gathers(void **state)
{
    const struct timeval pause = {.tv_usec = SHORT_US}, patience = {.tv_sec = DEADLINE_US / GW_US_PER_S};
    struct mesh_fixture *f = *state;
    uint8_t byte;
    open_ranks(f, 2, "127.0.0.1");
    struct hand h = dial_by_hand(&f->r[0], KEY, TERM, GENERATION, 1, "");
    setsockopt(h.fd, SOL_SOCKET, SO_RCVTIMEO, &pause, sizeof pause);
    assert_int_equal(recv(h.fd, &byte, 1, 0), -1);
    setsockopt(h.fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    start_gather(&f->r[0]);
    check_admitted(&h);
    join_ok(&f->r[0]);
    close_fds(&f->r[0]);
    close(h.fd);
    f->r[1].deadline_us = SHORT_US;
    gather(&f->r[1]);
    assert_int_equal(f->r[1].err, GW_ERR_IO);
    assert_non_null(strstr(f->r[1].ctx.text, "rank 0 (w0, 127.0.0.1:"));
    assert_non_null(strstr(f->r[1].ctx.text, "has not joined"));
}

/* A listener may take longer than it keeps dialers: they dial again. */
static void test_gather_dialer_outlasts_its_listeners_patience(void **state)
{
    struct mesh_fixture *f = *state;
    open_mesh(&f->r[0], "127.0.0.1", KEY, 0, SHORT_US);
    open_ranks(f, 2, "127.0.0.1");
    start_gather(&f->r[1]);
    for (uint64_t i = 1; i <= 2; i++) { /* a clock: strays that wait as long as it did */
        struct hand stray = dial_by_hand(&f->r[0], KEY, TERM, GENERATION + i, 1, "");
        check_sent_away(&stray);
    }
    gather(&f->r[0]);
    join_ok(&f->r[1]);
    assert_int_equal(f->r[0].err, GW_OK);
    check_connected(f->r[1].sockets[0].fd, f->r[0].sockets[1].fd);
    close_fds(&f->r[0]);
    close_fds(&f->r[1]);
}

static void test_gather_before_the_listener_exists_dials_again(void **state)
{
    struct mesh_fixture *f = *state;
    struct gw_err_ctx ctx = {0};
    open_ranks(f, 2, "127.0.0.1");
    char host[64];
    uint16_t port;
    assert_int_equal(gw_sockaddr_split(gw_mesh_address(f->r[0].mesh), host, sizeof host, &port, NULL), GW_OK);
    gw_mesh_destroy(f->r[0].mesh);
    f->r[0].mesh = NULL;
    start_gather(&f->r[1]);
    const struct gw_mesh_config config = {.host = host, .port = port, .key = KEY, .key_len = strlen(KEY)};
    if (gw_mesh_create(&config, &f->r[0].mesh, &ctx) != GW_OK) fail_msg("%s", ctx.text);
    gather(&f->r[0]);
    join_ok(&f->r[1]);
    assert_int_equal(f->r[0].err, GW_OK);
    check_connected(f->r[1].sockets[0].fd, f->r[0].sockets[1].fd);
    close_fds(&f->r[0]);
    close_fds(&f->r[1]);
}

static void test_gather_ipv6_reads_bracketed_addresses(void **state)
{
    struct mesh_fixture *f = *state;
    const struct gw_mesh_config config = {.host = "::1", .key = KEY, .key_len = strlen(KEY)};
    if (gw_mesh_create(&config, &f->r[0].mesh, NULL) != GW_OK) skip(); /* a machine without IPv6 */
    open_ranks(f, 2, "::1");
    assert_ptr_equal(strstr(gw_mesh_address(f->r[0].mesh), "[::1]:"), gw_mesh_address(f->r[0].mesh));
    start_gather(&f->r[1]);
    gather(&f->r[0]);
    join_ok(&f->r[1]);
    assert_int_equal(f->r[0].err, GW_OK);
    check_connected(f->r[1].sockets[0].fd, f->r[0].sockets[1].fd);
    close_fds(&f->r[0]);
    close_fds(&f->r[1]);
}

static void test_gather_two_generations_at_once_are_kept_apart(void **state)
{
    struct mesh_fixture *f = *state;
    struct mesh_rank late;
    open_ranks(f, 2, "127.0.0.1");
    late = f->r[0];
    late.generation = GENERATION + 1;
    start_gather(&f->r[0]);
    start_gather(&late);
    f->r[1].generation = GENERATION + 1;
    gather(&f->r[1]);
    assert_int_equal(f->r[1].err, GW_OK);
    join_ok(&late);
    check_connected(f->r[1].sockets[0].fd, late.sockets[1].fd);
    close_fds(&f->r[1]);
    f->r[1].generation = GENERATION;
    gather(&f->r[1]);
    join_ok(&f->r[0]);
    check_connected(f->r[1].sockets[0].fd, f->r[0].sockets[1].fd);
    close_fds(&f->r[0]);
    close_fds(&f->r[1]);
    close_fds(&late);
}

/* ---- who does not come ---- */

static void test_gather_missing_dialer_is_named_at_the_deadline(void **state)
{
    struct mesh_fixture *f = *state;
    open_ranks(f, 3, "127.0.0.1");
    f->r[0].deadline_us = 4 * SHORT_US;
    start_gather(&f->r[0]);
    struct hand h = dial_by_hand(&f->r[0], KEY, TERM, GENERATION, 1, "");
    pthread_join(f->r[0].thread, NULL);
    assert_int_equal(f->r[0].err, GW_ERR_IO);
    assert_true(f->r[0].took_us >= 4 * SHORT_US);
    assert_non_null(strstr(f->r[0].ctx.text, "rank 2 (w2"));
    check_none_open(&f->r[0]);
    check_admitted(&h);
    check_sent_away(&h); /* the one that did come is not kept */
}

static void test_gather_nobody_listens_names_rank_and_address(void **state)
{
    struct mesh_fixture *f = *state;
    open_ranks(f, 3, "127.0.0.1");
    gw_mesh_destroy(f->r[0].mesh);
    f->r[0].mesh = NULL;
    f->r[2].deadline_us = SHORT_US;
    gather(&f->r[2]);
    assert_int_equal(f->r[2].err, GW_ERR_IO);
    assert_non_null(strstr(f->r[2].ctx.text, "rank 0 (w0, 127.0.0.1:"));
    assert_non_null(strstr(f->r[2].ctx.text, "refused"));
    check_none_open(&f->r[2]);
}

static void open_impatient(struct mesh_rank *r)
{
    const struct gw_mesh_config config = {
        .host = "127.0.0.1", .key = KEY, .key_len = strlen(KEY), .reach_us = SHORT_US};
    struct gw_err_ctx ctx = {0};
    if (gw_mesh_create(&config, &r->mesh, &ctx) != GW_OK) fail_msg("%s", ctx.text);
}

/* Long before the deadline: that is for ranks that load their weights. */
static void test_gather_rank_that_cannot_be_reached_ends_it(void **state)
{
    struct mesh_fixture *f = *state;
    open_impatient(&f->r[2]);
    open_ranks(f, 3, "127.0.0.1");
    gw_mesh_destroy(f->r[1].mesh);
    f->r[1].mesh = NULL;
    gather(&f->r[2]);
    assert_int_equal(f->r[2].err, GW_ERR_IO);
    assert_int_equal(f->r[2].unreached, 1);
    assert_true(f->r[2].took_us >= SHORT_US && f->r[2].took_us < DEADLINE_US);
    assert_non_null(strstr(f->r[2].ctx.text, "rank 1 (w1, 127.0.0.1:"));
    assert_non_null(strstr(f->r[2].ctx.text, "cannot be reached: "));
    check_none_open(&f->r[2]);
}

static void test_gather_rank_that_answers_may_take_its_time(void **state)
{
    struct mesh_fixture *f = *state;
    open_impatient(&f->r[1]);
    open_ranks(f, 2, "127.0.0.1");
    f->r[1].deadline_us = 4 * SHORT_US;
    gather(&f->r[1]);
    assert_int_equal(f->r[1].err, GW_ERR_IO);
    assert_int_equal(f->r[1].unreached, GW_RANK_NONE);
    assert_true(f->r[1].took_us >= 4 * SHORT_US);
    assert_non_null(strstr(f->r[1].ctx.text, "has not joined"));
}

static void test_gather_address_that_is_none_is_refused(void **state)
{
    static const char *const bad[] = {"example.org:1", "127.0.0.1", "[::1]", "127.0.0.1:99999", ":1"};
    struct mesh_fixture *f = *state;
    open_ranks(f, 2, "127.0.0.1");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        snprintf(f->r[1].ranks[0].data, sizeof f->r[1].ranks[0].data, "%s", bad[i]);
        gw_err_reset(&f->r[1].ctx);
        gather(&f->r[1]);
        assert_int_equal(f->r[1].err, GW_ERR_INPUT);
        assert_non_null(strstr(f->r[1].ctx.text, "rank 0 (w0)"));
    }
}

/* ---- cancel, terms ---- */

static void test_cancel_from_another_thread_ends_a_gather(void **state)
{
    struct mesh_fixture *f = *state;
    open_ranks(f, 2, "127.0.0.1");
    for (int self = 0; self < 2; self++) { /* one that waits, one that dials a port where nobody listens */
        struct mesh_rank *r = &f->r[self];
        snprintf(r->ranks[0].data, sizeof r->ranks[0].data, "127.0.0.1:1");
        r->deadline_us = LATE_US;
        start_gather(r);
        gw_mesh_cancel(r->mesh, GENERATION);
        pthread_join(r->thread, NULL);
        assert_int_equal(r->err, GW_ERR_IO);
        assert_non_null(strstr(r->ctx.text, "cancelled"));
        assert_true(r->took_us < LATE_US / 2);
        check_none_open(r);
    }
}

static void test_cancel_before_the_gather_ends_it_at_once(void **state)
{
    struct mesh_fixture *f = *state;
    open_ranks(f, 2, "127.0.0.1");
    f->r[0].deadline_us = LATE_US;
    gw_mesh_cancel(f->r[0].mesh, GENERATION + 3);
    gw_mesh_cancel(f->r[0].mesh, GENERATION - 1); /* takes nothing back */
    gather(&f->r[0]);
    assert_int_equal(f->r[0].err, GW_ERR_IO);
    gw_mesh_set_term(f->r[0].mesh, TERM + 1); /* counts generations from 1 again */
    f->r[0].term = f->r[1].term = TERM + 1;
    start_gather(&f->r[1]);
    gather(&f->r[0]);
    join_ok(&f->r[1]);
    assert_int_equal(f->r[0].err, GW_OK);
    close_fds(&f->r[0]);
    close_fds(&f->r[1]);
}

static void test_cancel_leaves_later_generations_alone(void **state)
{
    struct mesh_fixture *f = *state;
    open_ranks(f, 2, "127.0.0.1");
    gw_mesh_set_term(f->r[0].mesh, TERM);
    start_gather(&f->r[0]);
    struct hand older = dial_by_hand(&f->r[0], KEY, TERM, GENERATION - 1, 1, "");
    gw_mesh_cancel(f->r[0].mesh, GENERATION - 1);
    check_sent_away(&older);
    older = dial_by_hand(&f->r[0], KEY, TERM, GENERATION - 1, 1, "");
    check_sent_away(&older); /* nor is one kept that comes later */
    gather(&f->r[1]);
    join_ok(&f->r[0]);
    assert_int_equal(f->r[1].err, GW_OK);
    close_fds(&f->r[0]);
    close_fds(&f->r[1]);
}

static void test_cancel_at_the_listener_keeps_dialers_out(void **state)
{
    struct mesh_fixture *f = *state;
    open_ranks(f, 2, "127.0.0.1");
    gw_mesh_cancel(f->r[0].mesh, GENERATION);
    gw_mesh_set_term(f->r[0].mesh, TERM);
    f->r[1].deadline_us = SHORT_US;
    gather(&f->r[1]);
    assert_int_equal(f->r[1].err, GW_ERR_IO);
    assert_non_null(
        strstr(f->r[1].ctx.text, "rank 0")); /* that it closed, or, on a slow machine, that time is up */
    check_none_open(&f->r[1]);
}

static void test_set_term_ends_what_is_older(void **state)
{
    struct mesh_fixture *f = *state;
    open_ranks(f, 2, "127.0.0.1");
    f->r[0].deadline_us = LATE_US;
    start_gather(&f->r[0]);
    struct hand waiting = dial_by_hand(&f->r[0], KEY, TERM, GENERATION + 1, 1, "");
    gw_mesh_set_term(f->r[0].mesh, TERM + 1);
    pthread_join(f->r[0].thread, NULL);
    assert_int_equal(f->r[0].err, GW_ERR_IO);
    check_sent_away(&waiting);
    gather(&f->r[0]); /* a lower term is refused */
    assert_int_equal(f->r[0].err, GW_ERR_IO);
}

/* ---- connections that wait ---- */

static void test_waiting_connection_nobody_gathers_is_closed_in_time(void **state)
{
    struct mesh_fixture *f = *state;
    open_mesh(&f->r[0], "127.0.0.1", KEY, 0, SHORT_US);
    open_ranks(f, 2, "127.0.0.1");
    int64_t start = gw_clock_mono_us();
    struct hand h = dial_by_hand(&f->r[0], KEY, TERM, GENERATION + 1, 1, "");
    check_sent_away(&h);
    int64_t took = gw_clock_mono_us() - start;
    assert_true(took >= SHORT_US && took < DEADLINE_US);
}

/* What a gather waits for does not run out, however long another rank takes. */
static void test_waiting_connection_of_a_gather_outlives_its_time(void **state)
{
    struct mesh_fixture *f = *state;
    open_mesh(&f->r[0], "127.0.0.1", KEY, 0, 4 * SHORT_US);
    open_ranks(f, 3, "127.0.0.1");
    start_gather(&f->r[0]);
    struct hand claimed = dial_by_hand(&f->r[0], KEY, TERM, GENERATION, 1, "");
    check_admitted(&claimed);
    struct hand stray = dial_by_hand(&f->r[0], KEY, TERM, GENERATION + 1, 1, "");
    check_sent_away(&stray); /* the claimed one is older, and would have gone before */
    struct hand last = dial_by_hand(&f->r[0], KEY, TERM, GENERATION, 2, "");
    join_ok(&f->r[0]);
    check_connected(claimed.fd, f->r[0].sockets[1].fd);
    check_admitted(&last);
    check_connected(last.fd, f->r[0].sockets[2].fd);
    close_fds(&f->r[0]);
    close(claimed.fd);
    close(last.fd);
}

static void test_gather_two_of_a_pair_takes_the_newer(void **state)
{
    struct mesh_fixture *f = *state;
    open_ranks(f, 2, "127.0.0.1");
    struct hand older = dial_by_hand(&f->r[0], KEY, TERM, GENERATION, 1, "");
    struct hand newer = dial_by_hand(&f->r[0], KEY, TERM, GENERATION, 1, "");
    check_sent_away(&older);
    gather(&f->r[0]);
    assert_int_equal(f->r[0].err, GW_OK);
    check_admitted(&newer);
    check_connected(newer.fd, f->r[0].sockets[1].fd);
    close_fds(&f->r[0]);
    close(newer.fd);
}

static void test_gather_peer_that_left_does_not_count(void **state)
{
    struct mesh_fixture *f = *state;
    open_ranks(f, 2, "127.0.0.1");
    struct hand gone = dial_by_hand(&f->r[0], KEY, TERM, GENERATION, 1, "");
    close(gone.fd);
    f->r[0].deadline_us = SHORT_US;
    gather(&f->r[0]);
    assert_int_equal(f->r[0].err, GW_ERR_IO);
    check_none_open(&f->r[0]);
}

static void test_gather_peer_that_left_is_waited_for_again(void **state)
{
    struct mesh_fixture *f = *state;
    open_ranks(f, 3, "127.0.0.1");
    start_gather(&f->r[0]);
    struct hand gone = dial_by_hand(&f->r[0], KEY, TERM, GENERATION, 1, "");
    check_admitted(&gone);
    close(gone.fd);
    struct hand second = dial_by_hand(&f->r[0], KEY, TERM, GENERATION, 2, "");
    check_admitted(&second); /* all were there now, but one has left */
    struct hand again = dial_by_hand(&f->r[0], KEY, TERM, GENERATION, 1, "");
    join_ok(&f->r[0]);
    check_admitted(&again);
    check_connected(again.fd, f->r[0].sockets[1].fd);
    check_connected(second.fd, f->r[0].sockets[2].fd);
    close_fds(&f->r[0]);
    close(second.fd);
    close(again.fd);
}

static void test_gather_leaves_the_bytes_behind_the_handshake(void **state)
{
    static const char behind[] = "a first frame of the collective's";
    struct mesh_fixture *f = *state;
    char got[sizeof behind] = {0};
    open_ranks(f, 2, "127.0.0.1");
    struct hand h = dial_by_hand(&f->r[0], KEY, TERM, GENERATION, 1, behind);
    gather(&f->r[0]);
    assert_int_equal(f->r[0].err, GW_OK);
    assert_int_equal(recv(f->r[0].sockets[1].fd, got, sizeof got, 0), strlen(behind));
    assert_string_equal(got, behind);
    close_fds(&f->r[0]);
    close(h.fd);
}

/* ---- create ---- */

static void test_create_bad_configuration_is_refused(void **state)
{
    (void)state;
    static const char key[5000] = {1};
    struct gw_mesh *mesh = NULL, *other = NULL;
    struct gw_mesh_config config = {.host = "127.0.0.1", .key = key, .key_len = sizeof key};
    assert_int_equal(gw_mesh_create(&config, &mesh, NULL), GW_ERR_INPUT);
    config.key_len = 0;
    assert_int_equal(gw_mesh_create(&config, &mesh, NULL), GW_ERR_INPUT);
    config.key_len = 16;
    config.host = "example.org";
    assert_int_equal(gw_mesh_create(&config, &mesh, NULL), GW_ERR_INPUT);
    config.host = "127.0.0.1";
    assert_null(mesh);
    assert_int_equal(gw_mesh_create(&config, &mesh, NULL), GW_OK);
    config.port = (uint16_t)strtoul(strrchr(gw_mesh_address(mesh), ':') + 1, NULL, 10);
    struct gw_err_ctx ctx = {0};
    assert_int_equal(gw_mesh_create(&config, &other, &ctx), GW_ERR_IO);
    assert_non_null(strstr(ctx.text, "data port"));
    gw_mesh_destroy(mesh);
    gw_mesh_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        MESH_TEST(test_gather_eight_ranks_connects_each_pair),
        MESH_TEST(test_gather_one_rank_is_complete_at_once),
        MESH_TEST(test_gather_after_the_dialer_finds_its_connection),
        MESH_TEST(test_gather_waits_until_the_listener_gathers),
        MESH_TEST(test_gather_dialer_outlasts_its_listeners_patience),
        MESH_TEST(test_gather_before_the_listener_exists_dials_again),
        MESH_TEST(test_gather_ipv6_reads_bracketed_addresses),
        MESH_TEST(test_gather_two_generations_at_once_are_kept_apart),
        MESH_TEST(test_gather_missing_dialer_is_named_at_the_deadline),
        MESH_TEST(test_gather_nobody_listens_names_rank_and_address),
        MESH_TEST(test_gather_rank_that_cannot_be_reached_ends_it),
        MESH_TEST(test_gather_rank_that_answers_may_take_its_time),
        MESH_TEST(test_gather_address_that_is_none_is_refused),
        MESH_TEST(test_cancel_from_another_thread_ends_a_gather),
        MESH_TEST(test_cancel_before_the_gather_ends_it_at_once),
        MESH_TEST(test_cancel_leaves_later_generations_alone),
        MESH_TEST(test_cancel_at_the_listener_keeps_dialers_out),
        MESH_TEST(test_set_term_ends_what_is_older),
        MESH_TEST(test_waiting_connection_nobody_gathers_is_closed_in_time),
        MESH_TEST(test_waiting_connection_of_a_gather_outlives_its_time),
        MESH_TEST(test_gather_two_of_a_pair_takes_the_newer),
        MESH_TEST(test_gather_peer_that_left_does_not_count),
        MESH_TEST(test_gather_peer_that_left_is_waited_for_again),
        MESH_TEST(test_gather_leaves_the_bytes_behind_the_handshake),
        MESH_TEST(test_create_bad_configuration_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
