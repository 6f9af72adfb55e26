/* worker/mesh: strangers and liars, at either end, get nothing and cost nothing. */
#include "tests/lib/mesh_fixture.h"
#include "tests/lib/seeded_rng.h"

#define FUZZ_ROUNDS 400
#define FUZZ_BYTES  160
#define STRANGERS   (GW_MESH_PENDING_MAX + 40)

/* ---- listeners ---- */

/* A listener that is none of ours: says `answer` to whatever it hears, or echoes it. */
struct impostor {
    int fd;
    const char *answer; /* NULL: echoes */
    char address[32];
    pthread_t thread;
};

static void *impostor_thread(void *arg)
{
    struct impostor *imp = arg;
    for (;;) {
        char bytes[256];
        int fd = accept(imp->fd, NULL, NULL);
        if (fd < 0) return NULL;
        ssize_t n;
        while ((n = recv(fd, bytes, sizeof bytes, 0)) > 0) {
            if (imp->answer) n = (ssize_t)strlen(imp->answer);
            if (send(fd, imp->answer ? imp->answer : bytes, (size_t)n, MSG_NOSIGNAL) != n) break;
        }
        close(fd);
    }
}

static void start_impostor(struct impostor *imp, const char *answer)
{
    struct sockaddr_storage addr;
    socklen_t len;
    imp->answer = answer;
    imp->fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(gw_sockaddr_parse("127.0.0.1", 0, &addr, &len, NULL), GW_OK);
    assert_int_equal(bind(imp->fd, (struct sockaddr *)&addr, len), 0);
    assert_int_equal(listen(imp->fd, 16), 0);
    snprintf(imp->address, sizeof imp->address, "127.0.0.1:%u", gw_sockaddr_local_port(imp->fd));
    assert_int_equal(pthread_create(&imp->thread, NULL, impostor_thread, imp), 0);
}

static void stop_impostor(struct impostor *imp)
{
    shutdown(imp->fd, SHUT_RDWR);
    pthread_join(imp->thread, NULL);
    close(imp->fd);
}

static void test_gather_listener_without_the_key_is_not_taken(void **state)
{
    static const char *const answers[] = {
        NULL, /* its own proof comes back */
        "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        "0123456789abcdef",
    };
    struct mesh_fixture *f = *state;
    open_ranks(f, 2, "127.0.0.1");
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
        struct impostor imp;
        start_impostor(&imp, answers[i]);
        snprintf(f->r[1].ranks[0].data, sizeof f->r[1].ranks[0].data, "%s", imp.address);
        gw_err_reset(&f->r[1].ctx);
        f->r[1].deadline_us = SHORT_US;
        gather(&f->r[1]);
        stop_impostor(&imp);
        assert_int_equal(f->r[1].err, GW_ERR_IO);
        assert_non_null(strstr(f->r[1].ctx.text, imp.address));
        check_none_open(&f->r[1]);
    }
}

/* The kernel accepts for a listener that never does: the dialer sees a connection and silence. */
static void test_gather_silent_listener_costs_no_more_than_the_deadline(void **state)
{
    struct mesh_fixture *f = *state;
    struct sockaddr_storage addr;
    socklen_t len;
    open_mesh(&f->r[1], "127.0.0.1", KEY, SHORT_US / 4, 0);
    open_ranks(f, 2, "127.0.0.1");
    int silent = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(gw_sockaddr_parse("127.0.0.1", 0, &addr, &len, NULL), GW_OK);
    assert_int_equal(bind(silent, (struct sockaddr *)&addr, len), 0);
    assert_int_equal(listen(silent, 64), 0);
    snprintf(f->r[1].ranks[0].data, sizeof f->r[1].ranks[0].data, "127.0.0.1:%u",
             gw_sockaddr_local_port(silent));
    f->r[1].deadline_us = SHORT_US;
    gather(&f->r[1]);
    assert_int_equal(f->r[1].err, GW_ERR_IO);
    assert_non_null(strstr(f->r[1].ctx.text, "does not answer"));
    assert_true(f->r[1].took_us < DEADLINE_US / 2);
    close(silent);
}

static void test_gather_wrong_key_is_an_error_at_both_ends(void **state)
{
    struct mesh_fixture *f = *state;
    open_mesh(&f->r[1], "127.0.0.1", "another key of the same kind", 0, 0);
    open_ranks(f, 2, "127.0.0.1");
    f->r[0].deadline_us = f->r[1].deadline_us = SHORT_US;
    start_gather(&f->r[0]);
    gather(&f->r[1]);
    pthread_join(f->r[0].thread, NULL);
    assert_int_equal(f->r[0].err, GW_ERR_IO);
    assert_int_equal(f->r[1].err, GW_ERR_IO);
    struct hand h = dial_by_hand(&f->r[0], "yet another key", TERM, GENERATION, 1, "");
    check_sent_away(&h);
}

/* ---- strangers ---- */

static void check_mesh_works(struct mesh_fixture *f)
{
    start_gather(&f->r[1]);
    gather(&f->r[0]);
    join_ok(&f->r[1]);
    if (f->r[0].err != GW_OK) fail_msg("%s", f->r[0].ctx.text);
    check_connected(f->r[1].sockets[0].fd, f->r[0].sockets[1].fd);
    close_fds(&f->r[0]);
    close_fds(&f->r[1]);
}

static void test_stranger_that_idles_is_closed_in_time(void **state)
{
    struct mesh_fixture *f = *state;
    uint8_t hello[HELLO_BYTES];
    open_mesh(&f->r[0], "127.0.0.1", KEY, SHORT_US, 0);
    open_ranks(f, 2, "127.0.0.1");
    make_hello(hello, TERM, GENERATION, 1, 0);
    for (size_t said = 0; said <= 1; said++) {
        int64_t start = gw_clock_mono_us();
        int fd = connect_to(gw_mesh_address(f->r[0].mesh));
        assert_int_equal(send(fd, hello, said, 0), said);
        assert_true(sees_end(fd));
        assert_true(gw_clock_mono_us() - start < DEADLINE_US / 2);
        close(fd);
    }
    check_mesh_works(f);
}

/* A byte now and then buys no time: the deadline is absolute. */
static void test_stranger_that_drips_is_closed_in_time(void **state)
{
    struct mesh_fixture *f = *state;
    const struct timeval pause = {.tv_usec = SHORT_US / 40};
    uint8_t hello[HELLO_BYTES], byte;
    open_mesh(&f->r[0], "127.0.0.1", KEY, SHORT_US / 3, 0);
    open_ranks(f, 2, "127.0.0.1");
    make_hello(hello, TERM, GENERATION, 1, 0);
    int fd = connect_to(gw_mesh_address(f->r[0].mesh));
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &pause, sizeof pause);
    int sent = 0;
    while (sent < HELLO_BYTES - 1 && send(fd, &hello[sent], 1, MSG_NOSIGNAL) == 1 &&
           recv(fd, &byte, 1, 0) != 0)
        sent++;
    assert_true(sent < HELLO_BYTES - 1);
    close(fd);
    check_mesh_works(f);
}

static void test_stranger_with_a_false_hello_gets_no_challenge(void **state)
{
    static const struct {
        int at;
        uint8_t byte;
    } wrong[] = {{0, 'H'}, {24, 64}, {24, 0}, {27, 1}, {28, 1}, {31, 0x80}};
    struct mesh_fixture *f = *state;
    open_ranks(f, 2, "127.0.0.1");
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        uint8_t hello[HELLO_BYTES];
        make_hello(hello, TERM, GENERATION, 1, 0);
        hello[wrong[i].at] = wrong[i].byte;
        int fd = connect_to(gw_mesh_address(f->r[0].mesh));
        assert_int_equal(send(fd, hello, sizeof hello, 0), sizeof hello);
        assert_true(sees_end(fd));
        close(fd);
    }
    check_mesh_works(f);
}

static void test_strangers_in_numbers_do_not_keep_a_rank_out(void **state)
{
    struct mesh_fixture *f = *state;
    static int fds[STRANGERS];
    open_mesh(&f->r[0], "127.0.0.1", KEY, LATE_US, 0); /* nobody's time runs out */
    open_ranks(f, 2, "127.0.0.1");
    for (int i = 0; i < STRANGERS; i++) fds[i] = connect_to(gw_mesh_address(f->r[0].mesh));
    check_mesh_works(f);
    for (int i = 0; i < STRANGERS - GW_MESH_PENDING_MAX; i++)
        assert_true(sees_end(fds[i])); /* the oldest made room */
    for (int i = 0; i < STRANGERS; i++) close(fds[i]);
}

/* More proven ones than there is room for: the oldest that nobody waits for goes. */
static void test_waiting_connections_beyond_the_maximum_push_out_the_oldest(void **state)
{
    struct mesh_fixture *f = *state;
    static struct hand hands[GW_MESH_PENDING_MAX + 1];
    open_ranks(f, 2, "127.0.0.1");
    for (int i = 0; i <= GW_MESH_PENDING_MAX; i++)
        hands[i] = dial_by_hand(&f->r[0], KEY, TERM, GENERATION + 1 + (uint64_t)i, 1, "");
    check_sent_away(&hands[0]);
    f->r[0].generation = GENERATION + 2;
    gather(&f->r[0]);
    assert_int_equal(f->r[0].err, GW_OK);
    check_admitted(&hands[1]);
    check_connected(hands[1].fd, f->r[0].sockets[1].fd);
    close_fds(&f->r[0]);
    for (int i = 1; i <= GW_MESH_PENDING_MAX; i++) close(hands[i].fd);
}

/* Noise, in part behind a good HELLO: whatever comes back is a nonce at most, never a proof. */
static void say_noise(const struct mesh_rank *to, struct gw_rng *rng)
{
    uint8_t noise[HELLO_BYTES + FUZZ_BYTES], got[NONCE_BYTES + 1];
    make_hello(noise, TERM, GENERATION, 1, 0);
    size_t good = gw_rng_below(rng, 2) ? HELLO_BYTES : gw_rng_below(rng, HELLO_BYTES);
    size_t len = good + gw_rng_below(rng, FUZZ_BYTES);
    for (size_t i = good; i < len; i++) noise[i] = (uint8_t)gw_rng_next(rng);
    int fd = connect_to(gw_mesh_address(to->mesh));
    assert_int_equal(send(fd, noise, len, MSG_NOSIGNAL), len);
    shutdown(fd, SHUT_WR);
    assert_true(recv(fd, got, sizeof got, MSG_WAITALL) <= NONCE_BYTES);
    close(fd);
}

static void test_random_bytes_prove_nothing(void **state)
{
    struct mesh_fixture *f = *state;
    struct gw_rng rng = seeded_rng(__func__);
    open_ranks(f, 2, "127.0.0.1");
    for (int i = 0; i < FUZZ_ROUNDS; i++) say_noise(&f->r[0], &rng);
    check_mesh_works(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        MESH_TEST(test_gather_listener_without_the_key_is_not_taken),
        MESH_TEST(test_gather_silent_listener_costs_no_more_than_the_deadline),
        MESH_TEST(test_gather_wrong_key_is_an_error_at_both_ends),
        MESH_TEST(test_stranger_that_idles_is_closed_in_time),
        MESH_TEST(test_stranger_that_drips_is_closed_in_time),
        MESH_TEST(test_stranger_with_a_false_hello_gets_no_challenge),
        MESH_TEST(test_strangers_in_numbers_do_not_keep_a_rank_out),
        MESH_TEST(test_waiting_connections_beyond_the_maximum_push_out_the_oldest),
        MESH_TEST(test_random_bytes_prove_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
